"""Write a network and what it is to mark as one ONNX file: ``python export.py RUN --supports FOLDER OUT.onnx``."""

from __future__ import annotations

from pathlib import Path

from commands.prediction.inputs import check_model, find_supports, read_supports
from engine.untrained import METHODS
from util.arguments import Parser, whole_number
from util.errors import UserError, importing, run_command
from util.files import make_folder
from util.logging import logger, start_logging
from util.processes import require_one_process


def main(arguments: list[str]) -> None:
    """Parse the command line; write the file, which takes images of any size."""
    words = _parser().parse_intermixed_args(arguments)
    require_one_process("export.py")
    start_logging()
    if (words.run is None) == (words.method is None):
        raise UserError("export.py: give either RUN or --method; see export.py --help")
    if words.output.suffix != ".onnx" or words.output.is_dir():
        raise UserError(f"{words.output}: expected the name of a file that ends in .onnx")
    check_model(words.method, words.backbone)
    supports = read_supports(find_supports(words.supports), words.value)
    make_folder(words.output.parent)
    with importing():
        from segmenter import Segmenter
    segmenter = Segmenter.load(words.run, method=words.method, backbone=words.backbone)
    for name, shots in supports.items():
        segmenter.describe(name, shots)
    segmenter.export(words.output)
    size = words.output.stat().st_size / 2**20
    logger.info("%s: %.1f MiB; classes: %s", words.output, size, ", ".join(segmenter.classes))


def _parser() -> Parser:
    parser = Parser(prog="export.py", description=__doc__)
    parser.add_argument("run", nargs="?", type=Path, metavar="RUN", help="run folder, checkpoint or shared folder")
    parser.add_argument("output", type=Path, metavar="OUT.onnx", help="the file to write")
    parser.add_argument("--method", choices=METHODS, help="without training, in the place of RUN")
    parser.add_argument("--backbone", nargs="+", default=[], metavar="KEY=VALUE", help="of a method without training")
    parser.add_argument(
        "--supports", type=Path, required=True, metavar="FOLDER", help="x_mask.png beside x.jpg; a folder per class"
    )
    parser.add_argument(
        "--class", dest="value", type=whole_number(1, 255), metavar="VALUE", help="of the object, in masks of several"
    )
    return parser


if __name__ == "__main__":
    run_command(main)
