"""Segment your own images: ``python predict.py --checkpoint C --support IMAGE MASK --query PATH...``."""

from __future__ import annotations

from pathlib import Path

from commands.prediction_inputs import find_queries, read_support
from engine.prediction_files import PredictionFolder, output_names
from util.arguments import Parser, whole_number
from util.errors import importing, run_command
from util.logging import start_logging
from util.processes import require_one_process


def main(arguments: list[str]) -> None:
    """Parse the command line; write a mask, a probability map and an overlay for each query."""
    parser = Parser(prog="predict.py", description=__doc__)
    parser.add_argument("--checkpoint", type=Path, required=True)
    parser.add_argument("--support", nargs=2, type=Path, action="append", required=True, metavar=("IMAGE", "MASK"))
    parser.add_argument(
        "--class", dest="value", type=whole_number(1, 255), metavar="VALUE", help="of the object, in masks of several"
    )
    parser.add_argument("--query", nargs="+", type=Path, required=True, help="images, or folders of them")
    parser.add_argument("--output", type=Path, default=Path("predictions"), help="folder (%(default)s)")
    parsed = parser.parse_args(arguments)
    require_one_process("predict.py")
    start_logging()
    output = PredictionFolder(parsed.output)
    names = output_names(find_queries(parsed.query, leave_out=output.written()))
    supports = [read_support(image, mask, parsed.value) for image, mask in parsed.support]
    with importing():
        from commands.prediction import predict_all, view_of_support
        from model import load_model
        from util.device import choose_device
    model = load_model(parsed.checkpoint).to(choose_device([0]))
    assert model.settings is not None  # every checkpoint holds them
    size = model.settings.val_size
    views = [view_of_support(support, size) for support in supports]
    output.reserve(names, inputs=[*names, *(path for pair in parsed.support for path in pair)])
    predict_all(model, names, views, size, output)


if __name__ == "__main__":
    run_command(main)
