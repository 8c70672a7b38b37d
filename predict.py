"""Segment your own images: ``python predict.py --checkpoint C --support IMAGE MASK --query PATH...``."""

from __future__ import annotations

from pathlib import Path

from commands.prediction.inputs import (
    check_model,
    files_digest,
    find_queries,
    find_supports,
    read_supports,
    settings_digest,
)
from engine.prediction_files import PredictionFolder
from engine.prediction_forms import DEFAULT_FORMS, FORMS
from engine.prediction_names import output_names
from engine.untrained import METHODS
from util.arguments import Parser, number_between, whole_number
from util.errors import importing, run_command
from util.logging import logger, start_logging
from util.processes import require_one_process


def main(arguments: list[str]) -> None:
    """Parse the command line; write what was asked for of each query, a table of areas, and what shows all of them."""
    words = _parser().parse_args(arguments)
    require_one_process("predict.py")
    start_logging()
    check_model(words.method, words.backbone)
    output = PredictionFolder(words.output)
    files = {"object": [*map(tuple, words.support)]} if words.supports is None else find_supports(words.supports)
    paths = [path for pairs in files.values() for pair in pairs for path in pair]
    queries = find_queries(words.query, leave_out=output.written() | {mask.resolve() for mask in paths[1::2]})
    names, supports = output_names(queries), read_supports(files, words.value)
    with importing():
        from commands.prediction.queries import predict_all, presence_of_all
        from segmenter import Segmenter
    segmenter = Segmenter.load(words.checkpoint, method=words.method, backbone=words.backbone)
    marking = {"threshold": words.threshold, "presence": words.presence, "min_area": words.min_area}
    compared = words.presence is not None and segmenter.compares(len(names))
    about = {**marking, "value": words.value, "queries": files_digest(names) if compared else None}
    settings = settings_digest(files, model=segmenter.digest(), **about)
    missing = output.reserve(
        names,
        inputs=[*names, *paths],
        classes=[*supports],
        settings=settings,
        forms=words.write,
        supports=sum(map(len, supports.values())),
    )
    output.write_supports(supports)
    if len(missing) < len(names):
        logger.info("%d of %d queries are predicted already", len(names) - len(missing), len(names))
    if missing:
        for name, shots in supports.items():
            segmenter.describe(name, shots)
        presence = presence_of_all(segmenter, names) if compared else {}
        predict_all(lambda image, found: segmenter.predict(image, found=found, **marking), missing, output, presence)


def _parser() -> Parser:
    parser = Parser(prog="predict.py", description=__doc__)
    models = parser.add_mutually_exclusive_group(required=True)
    models.add_argument("--checkpoint", type=Path, help="run folder, checkpoint or shared folder")
    models.add_argument("--method", choices=METHODS, help="without training")
    parser.add_argument("--backbone", nargs="+", default=[], metavar="KEY=VALUE", help="of a method without training")
    annotated = parser.add_mutually_exclusive_group(required=True)
    annotated.add_argument("--support", nargs=2, type=Path, action="append", metavar=("IMAGE", "MASK"))
    annotated.add_argument(
        "--supports", type=Path, metavar="FOLDER", help="x_mask.png or x.json beside x.jpg; a folder per class"
    )
    parser.add_argument(
        "--class", dest="value", type=whole_number(1, 255), metavar="VALUE", help="of the object, in masks of several"
    )
    parser.add_argument("--query", nargs="+", type=Path, required=True, help="images, or folders of them")
    parser.add_argument("--output", type=Path, default=Path("predictions"), help="folder (%(default)s)")
    parser.add_argument(
        "--write", nargs="+", choices=FORMS, default=DEFAULT_FORMS, metavar="FORM", help=f"what: {', '.join(FORMS)}"
    )
    probability = number_between(0, 1, "0.5")
    parser.add_argument(
        "--threshold", type=probability, default=0.5, help="probability of what is marked (%(default)s)"
    )
    gate = parser.add_mutually_exclusive_group()
    gate.add_argument(
        "--presence",
        type=probability,
        default=0.5,
        help="probability that the object is there, from which on it is marked (%(default)s)",
    )
    gate.add_argument("--always", dest="presence", action="store_const", const=None, help="mark it in every query")
    parser.add_argument("--min-area", type=whole_number(0), default=0, metavar="PIXELS", help="of connected pieces")
    return parser


if __name__ == "__main__":
    run_command(main)
