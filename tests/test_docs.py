"""The documentation keeps its word: what cites it, its links and the files that it names lead somewhere."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

import pytest

from tests.markdown import FOLDERS, PAGES, anchors, headings, links, section_numbers
from tests.tracked_files import relative, tracked_files
from util.files import PROJECT

# Blanks, also from one line of a comment to the next.
_GAP = r"(?:\s+(?:(?://|\#)\s*)?)"
_NUMBER = r"\d+(?:\.\d+)*"
CITATION = re.compile(
    rf"(?P<page>\b(?:docs/\w+|(?:{'|'.join(FOLDERS)})/README)\.md)(?:\#(?P<anchor>[\w-]+))?"
    rf"(?:,{_GAP}sections?{_GAP}(?P<sections>{_NUMBER}(?:(?:,{_GAP}|{_GAP}(?:to|and){_GAP}){_NUMBER})*)"
    rf"|,{_GAP}\"(?P<title>[^\"]+)\"|(?P<malformed>,?{_GAP}[Ss]ection.*))?"
)
_OUTSIDE = re.compile(r"(?:SPEC|DESIGN)\s(?:\#\s|//\s)?section")


def test_citations_resolve() -> None:
    sources = tracked_files(".py", ".sh", ".cpp", ".cu", ".cuh", ".h", ".yaml", ".toml")
    assert len(sources) > 200
    wrong = list(wrong_citations(sources, PROJECT))
    assert not wrong, "\n".join(wrong)


def test_wrong_citations_are_found(tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "m.md").write_text("# M\n\n## 3. Prior\n\n### 3.1 Mask\n\n### 3.2 Map\n\n```\n## 4. No\n```\n")
    page = "docs/" + "m.md"
    right = [page, f"{page}, sections 3.1 and\n# 3.2", f"{page}, section 3.", f'{page}, "3.1 Mask"', f"{page}#31-mask"]
    wrong = [
        "docs/" + "n.md", f"{page}, section 4", f"{page}, sections 3\n// to 5", f"{page}, sections 3 and 3.3",
        f'{page}, "Prior"', f"{page}#prior", f"{page} section 3", "SPEC" + " section 3", "DESIGN" + "\n# section 3",
    ]  # fmt: skip
    for text in right:
        (tmp_path / "source.py").write_text(f"\n# See {text}\n")
        assert not list(wrong_citations([tmp_path / "source.py"], tmp_path)), text
    for text in wrong:
        (tmp_path / "source.py").write_text(f"\n# See {text}\n")
        (message,) = wrong_citations([tmp_path / "source.py"], tmp_path)
        assert message.startswith("source.py:2: ") or message.split(": ")[0].endswith("source.py:2"), message


def wrong_citations(sources: Iterable[Path], project: Path) -> Iterable[str]:
    """``file:line: citation`` of every citation in a source that names no heading of the documentation."""
    for source in sources:
        text = source.read_text()
        for match in CITATION.finditer(text):
            if not _resolves(match, project):
                yield f"{relative(source)}:{text.count(chr(10), 0, match.start()) + 1}: {' '.join(match[0].split())}"
        for match in _OUTSIDE.finditer(text):
            yield f"{relative(source)}:{text.count(chr(10), 0, match.start()) + 1}: {' '.join(match[0].split())}"


def _resolves(citation: re.Match[str], project: Path) -> bool:
    page = project / citation["page"]
    if not page.is_file() or citation["malformed"]:
        return False
    markdown = page.read_text()
    return (
        (citation["anchor"] is None or citation["anchor"] in anchors(markdown))
        and (citation["title"] is None or " ".join(citation["title"].split()) in headings(markdown))
        and _numbers(citation["sections"] or "") <= section_numbers(markdown)
    )


def _numbers(sections: str) -> set[str]:
    """All sections of ``2 to 4``, ``10 and 12`` and ``11.2 to 11.4``."""
    numbers = set(re.findall(_NUMBER, sections))
    for stem, first, last in re.findall(rf"((?:\d+\.)*)(\d+){_GAP}to{_GAP}(?:\d+\.)*(\d+)", sections):
        numbers |= {f"{stem}{number}" for number in range(int(first), int(last) + 1)}
    return numbers


@pytest.mark.parametrize("page", PAGES, ids=relative)
def test_links_lead_somewhere(page: Path) -> None:
    wrong = []
    for line, target in links(page.read_text()):
        path, _, anchor = target.partition("#")
        goal = page.parent / path if path else page
        if re.match(r"\w+:", target):
            continue
        if not goal.exists() or (anchor and anchor not in anchors(goal.read_text())):
            wrong.append(f"{relative(page)}:{line}: {target}")
    assert not wrong, "\n".join(wrong)


def test_anchors_are_those_of_github() -> None:
    markdown = "# A `code`: one, two\n\n## Same\n\n## Same\n\n## [Link](x.md) & more_less\n\n```\n# no heading\n```\n"
    assert anchors(markdown) == {"a-code-one-two", "same", "same-1", "link--more_less"}


@pytest.mark.parametrize("page", [page for page in PAGES if page.name != "CHANGELOG.md"], ids=relative)
def test_files_in_code_exist(page: Path) -> None:
    """Sources that a page names, like `engine/trainer.py`; the change log also names those of earlier versions."""
    names = re.findall(r"`((?:[a-z_]+/)*[a-z_]+\.(?:py|sh))\b[^`]*`", page.read_text())
    assert not [name for name in names if not (PROJECT / name).is_file()]


def test_the_readme_is_short() -> None:
    assert len((PROJECT / "README.md").read_text().splitlines()) <= 250
