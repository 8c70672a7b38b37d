"""Reading the documentation: headings, anchors, links and the commands of its ``sh`` blocks."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from typing import NamedTuple

from util.files import PROJECT

FOLDERS = ("data", "initmodel", "lists", "weights")
# All that is written for users and contributors.
PAGES = [
    *(PROJECT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")),
    *sorted((PROJECT / "docs").glob("*.md")),
    *(PROJECT / folder / "README.md" for folder in FOLDERS),
]

_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_HEADING = re.compile(r"^#{1,6} +(.+?) *$", re.MULTILINE)
_LINK = re.compile(r"\[(?P<text>[^\]]*)\]\((?P<target>[^()\s]+)\)")
_CODE = re.compile(r"(`+)(?!`).*?(?<!`)\1(?!`)", re.DOTALL)
# A token of the shell: what is quoted, escaped, a comment (only where a word may start), a separator, or text.
_SHELL = re.compile(
    r"""(?P<quoted>'[^']*'|"(?:\\.|[^"\\])*")|(?P<continuation>\\\n)|(?P<escaped>\\.)"""
    r"""|(?P<comment>(?:(?<=\s)|^)\#[^\n]*)|(?P<separator>&&|\|\||[;\n])|(?P<text>.)""",
    re.VERBOSE | re.DOTALL,
)
_HEREDOC = re.compile(r"<<-?\s*(['\"]?)(\w+)\1[^\n]*\n(?P<body>.*?\n)?\2$", re.MULTILINE | re.DOTALL)
_KEYWORD = re.compile(r"^(?:do|then|else)\s+")
_STRUCTURE = re.compile(r"while .*|if .*|do|done|then|else|fi")
_ASSIGNMENT = re.compile(r"""(\w+)=((?:'[^']*'|"(?:\\.|[^"\\])*"|\\.|[^\s'"\\])*)$""", re.DOTALL)
_LOOP = re.compile(r"for (\w+) in ('[^']*'|\"[^\"]*\"|\S+)")
_VARIABLE = re.compile(r"\$(?:(\w+)|\{(\w+)\})")


class Command(NamedTuple):
    """A command as the documentation gives it, in one line; ``line`` counts from 1.

    ``variables`` are those of its block that were assigned before it; of a loop's, the first value.
    """

    line: int
    text: str
    variables: dict[str, str]

    def arguments(self) -> list[str]:
        """What the shell makes of it, with variables but not file names expanded."""
        text = _VARIABLE.sub(lambda match: self.variables.get(match[1] or match[2], match[0]), self.text)
        return shlex.split(text)


class Link(NamedTuple):
    """A link, without the text that is shown; ``line`` counts from 1."""

    line: int
    target: str


def headings(markdown: str) -> list[str]:
    """The text of every heading, in order."""
    return _HEADING.findall(_blank(_FENCE, markdown))


def section_numbers(markdown: str) -> set[str]:
    """``3`` and ``11.4`` of the headings ``3. Prior`` and ``11.4 Assignment``."""
    numbers = (re.match(r"(\d+(?:\.\d+)*)\.?\s", heading) for heading in headings(markdown))
    return {number[1] for number in numbers if number}


def anchors(markdown: str) -> set[str]:
    """What a link may name after ``#``, as GitHub makes it of headings."""
    names: set[str] = set()
    for heading in headings(markdown):
        text = _LINK.sub(r"\g<text>", heading).replace("`", "")
        name = re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-")
        repetitions = (f"{name}-{number}" for number in range(1, 100))
        names.add(name if name not in names else next(other for other in repetitions if other not in names))
    return names


def links(markdown: str) -> list[Link]:
    """Links and images outside code."""
    text = _blank(_CODE, _blank(_FENCE, markdown))
    return [Link(_line(text, match.start()), match["target"]) for match in _LINK.finditer(text)]


def documented_commands(markdown: str) -> list[Command]:
    """The commands of all ``sh`` blocks, and the code in the first column of a table headed ``command``."""
    blocks = [match for match in _FENCE.finditer(markdown) if match[1] == "sh"]
    commands = [
        command._replace(line=_line(markdown, block.start(2)) + command.line - 1)
        for block in blocks
        for command in shell_commands(block[2])
    ]
    return commands + list(_table_commands(markdown))


def shell_commands(block: str) -> Iterator[Command]:
    """The simple commands of a shell script: loops opened; comments, assignments and here-documents left out."""
    variables: dict[str, str] = {}
    for line, text in _statements(_HEREDOC.sub(lambda match: "\n" * match[0].count("\n"), block)):
        assignment = _LOOP.match(text) or _ASSIGNMENT.fullmatch(text)
        if assignment:
            variables[assignment[1]] = " ".join(Command(line, assignment[2], variables).arguments())
        elif not _STRUCTURE.fullmatch(text):
            yield Command(line, text, dict(variables))


def _statements(script: str) -> Iterator[tuple[int, str]]:
    """Line and text of what newlines, semicolons, ``&&`` and ``||`` separate, blanks reduced to one."""
    text, start = "", 1
    for token in [*_SHELL.finditer(script), None]:
        if token is None or token["separator"]:
            if statement := _KEYWORD.sub("", " ".join(text.split())):
                yield start, statement
            text = ""
        elif token["continuation"]:
            text += " "
        elif not token["comment"]:
            start = start if text.strip() else _line(script, token.start())
            text += token[0]


def _table_commands(markdown: str) -> Iterator[Command]:
    in_table = False
    for line, row in enumerate(markdown.splitlines(), start=1):
        first_column = row.split("|")[1].strip() if row.startswith("|") else ""
        in_table = first_column == "command" or (in_table and row.startswith("|"))
        if in_table:
            yield from (Command(line, code, {}) for code in re.findall(r"`([^`]+)`", first_column))


def _blank(pattern: re.Pattern[str], text: str) -> str:
    """``text`` with what matches replaced by as many lines of nothing."""
    return pattern.sub(lambda match: "\n" * match[0].count("\n"), text)


def _line(text: str, position: int) -> int:
    return text.count("\n", 0, position) + 1
