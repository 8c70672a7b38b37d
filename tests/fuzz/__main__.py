"""``python -m tests.fuzz [READER...] --minutes N``: damage files until the time is over; exit code 1 after a find.

Each reader gets its share of the time. A file that breaks one is kept in ``tests/fuzz/corpus/``, where the tests read
it from then on.
"""

from __future__ import annotations

import hashlib
import itertools
import logging
import sys
import tempfile
import time
from pathlib import Path

from tests.fuzz.readers import READERS, build_reader
from tests.fuzz.reading import find_failure
from util.arguments import Parser, number_between
from util.errors import UserError, run_command
from util.files import write_bytes
from util.logging import logger

CORPUS = Path(__file__).parent / "corpus"
_EXAMPLES = 500  # between two looks at the clock


def main(arguments: list[str]) -> None:
    """Parse the command line and fuzz."""
    parser = Parser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("readers", nargs="*", default=[], metavar="READER", help=f"{', '.join(READERS)}; all of them")
    parser.add_argument("--minutes", type=number_between(0, 10_000, "10"), default=10, help="for each (%(default)s)")
    parsed = parser.parse_args(arguments)
    unknown = set(parsed.readers) - set(READERS)
    if unknown:
        raise UserError(f"no reader '{unknown.pop()}'; there are: {', '.join(READERS)}")
    logger.setLevel(logging.ERROR)  # the warnings of thousands of files
    if not all([_fuzz(name, parsed.minutes) for name in parsed.readers or READERS]):
        sys.exit(1)


def _fuzz(name: str, minutes: float) -> bool:
    """Whether no damaged file broke the reader."""
    end, files = time.monotonic() + 60 * minutes, 0
    with tempfile.TemporaryDirectory() as folder:
        reader = build_reader(name, Path(folder))
        for number in itertools.count(1):
            failure = find_failure(reader, Path(folder), examples=_EXAMPLES, number=number)
            files += _EXAMPLES
            if failure is not None:
                content, error = failure
                kept = CORPUS / name / hashlib.sha256(content).hexdigest()[:12]
                write_bytes(kept, content)
                sys.stdout.write(f"{name}: {error!r}\n  {kept}\n")
                return False
            if time.monotonic() > end:
                sys.stdout.write(f"{name}: {files} files, no finding\n")
                return True
    raise AssertionError("the count has no end")


if __name__ == "__main__":
    run_command(main)
