"""One logger for the whole program: to the terminal and, for a run with a folder, to its log file."""

from __future__ import annotations

import logging
import sys
from contextlib import suppress
from functools import cache
from pathlib import Path

logger = logging.getLogger("unsupfss")


def start_logging(log_file: Path | None = None) -> None:
    """Send messages to the terminal and append them to ``log_file``; calling it again replaces both."""
    logger.setLevel(logging.INFO)
    logger.propagate = False
    for handler in list(logger.handlers):
        logger.removeHandler(handler)
        handler.close()
    handlers: list[logging.Handler] = [logging.StreamHandler()]
    if log_file is not None:
        log_file.parent.mkdir(parents=True, exist_ok=True)
        handlers.append(_LogFile(log_file, encoding="utf-8", errors="backslashreplace"))
    for handler in handlers:
        handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S"))
        logger.addHandler(handler)


class _LogFile(logging.FileHandler):
    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802  (logging's name)
        """Raise what went wrong, a full disk for instance, instead of printing its traceback and going on."""
        error = sys.exc_info()[1]
        if isinstance(error, OSError):
            error.filename = self.baseFilename
            with suppress(OSError):  # of the line, which closing tries to write again
                self.close()
        raise


@cache
def warn_once(message: str) -> None:
    """Log a warning, once in a process: commands load several configurations."""
    logger.warning("%s", message)
