"""A page on which photographs are segmented: ``bash web.sh [--checkpoint RUN | --method METHOD] [--port N]``."""

from __future__ import annotations

import importlib.util
import socket
import tempfile
from pathlib import Path

from engine.untrained import METHODS
from util.arguments import Parser, whole_number
from util.errors import UserError, importing, run_command
from util.logging import start_logging
from util.processes import require_one_process
from web.choices import Choices

_HOST = "127.0.0.1"
_PACKAGES = ("starlette", "uvicorn")


def main(arguments: list[str]) -> None:
    """Parse the command line, load the network, print the page's address and answer it until Ctrl-C."""
    words = _parser().parse_args(arguments)
    require_one_process("web.sh")
    start_logging()
    if words.checkpoint is not None and words.backbone:
        raise UserError("--backbone: a checkpoint has its own; it belongs to --method")
    missing = [name for name in _PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        raise UserError(f"web.sh: needs {' and '.join(missing)}; run bash install.sh, which installs them")
    choices = Choices(words.checkpoint, words.method, words.backbone)
    listening = _listen(words.port)
    with importing():
        from web.server import serve
        from web.worker import Worker
    with (
        listening,
        tempfile.TemporaryDirectory(prefix="unsupfss_web_", ignore_cleanup_errors=True) as folder,
        Worker(choices) as worker,
    ):
        serve(listening, Path(folder), choices, worker)


def _parser() -> Parser:
    parser = Parser(prog="web.sh", description=__doc__)
    models = parser.add_mutually_exclusive_group()
    models.add_argument("--checkpoint", type=Path, help="run folder, checkpoint or shared folder")
    models.add_argument("--method", choices=METHODS, help="without training")
    parser.add_argument("--backbone", nargs="+", default=[], metavar="KEY=VALUE", help="of a method without training")
    parser.add_argument(
        "--port",
        type=whole_number(0, 65535),
        default=8000,
        help="of the address; 0: any that is free (%(default)s)",
    )
    return parser


def _listen(port: int) -> socket.socket:
    """A socket that only programs of this machine can reach. Raises ``UserError`` for a port that cannot be had."""
    listening = socket.socket()
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((_HOST, port))
        listening.listen()
    except OSError as error:
        listening.close()
        raise UserError(f"--port {port}: {error.strerror}; choose another, or 0 for any that is free") from None
    return listening


if __name__ == "__main__":
    run_command(main)
