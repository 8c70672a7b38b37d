"""Converting weights from elsewhere: ``python -m model.import_published IN.pth OUT.pth``.

A checkpoint of the published few-shot code becomes a checkpoint that gives the published logits. The file of a backbone
(the published deep-stem ResNets, torchvision's ResNets, MoCo v2, SimCLR, DINO) becomes one with timm's names.
"""

from __future__ import annotations

from pathlib import Path

from util.arguments import Parser
from util.errors import importing, run_command
from util.logging import start_logging


def main(arguments: list[str]) -> None:
    """Read the command line, convert, and log how to use the result."""
    parser = Parser(prog="python -m model.import_published", description=__doc__)
    parser.add_argument("source", type=Path, metavar="IN")
    parser.add_argument("target", type=Path, metavar="OUT")
    parsed = parser.parse_args(arguments)
    start_logging()
    with importing():
        from model.weights.foreign import convert
    convert(parsed.source, parsed.target)


if __name__ == "__main__":
    run_command(main)
