"""The command ``python -m masks.report ROOT DATASET [key=value ...]``: the measured quality of pseudo masks.

The arguments are those that made the masks with ``masks/create.sh``. Without labels it counts regions and clusters;
where the list names labels that exist, the masks are compared with them, for measuring only. The pseudo folder gets
``report.json``, a sheet of examples ``report.png``, and ``report_masks.png``, the same sheet without the images.
"""

from __future__ import annotations

import sys
from pathlib import Path

from episodes.lists import ImageList, read_list
from masks.command_line import choose_config
from util.arguments import Parser, whole_number
from util.errors import importing, run_command
from util.files import write_json
from util.logging import start_logging
from util.processes import require_one_process


def main(arguments: list[str]) -> None:
    """Read the command line; measure, print the table, write the report and its sheets."""
    parser = Parser(prog="python -m masks.report", description="The measured quality of pseudo masks.")
    parser.add_argument("root", type=Path, help="the folder that holds the dataset's folder")
    parser.add_argument("dataset")
    parser.add_argument("settings", nargs="*", default=[], metavar="key=value", help="as for masks/create.sh")
    parser.add_argument("--images", type=whole_number(1), default=8, help="rows of the sheets (%(default)s)")
    parser.add_argument("--without-labels", action="store_true", help="open no label")
    parsed = parser.parse_intermixed_args(arguments)
    start_logging()
    require_one_process("masks.report")
    config = choose_config(parsed.root, parsed.dataset, parsed.settings)
    with importing():
        from masks.pseudo_masks import PseudoMasks
        from masks.report.measurement import TrueLabels, report, report_table
        from masks.report.sheet import save_sheets
    masks = PseudoMasks.load(config.pseudo_folder)
    images = masks.in_this_order(read_list(config.DATA.train_list, config.DATA.data_root, need_labels=False))
    labels = TrueLabels(
        (None,) * len(images) if parsed.without_labels else existing_labels(images),
        classes=config.DATA.classes,
        min_area=config.DATA.min_area,
    )
    metrics = report(masks, labels)
    write_json(masks.files.report, metrics)
    save_sheets(masks, images, labels.paths, count=parsed.images, seed=config.Cluster.seed)
    sys.stdout.write(f"{masks.folder}\n{report_table(metrics)}\n")


def existing_labels(images: ImageList) -> tuple[Path | None, ...]:
    """For each image the label that the list names, None where it names none or there is no such file."""
    paths = [None if label is None else images.root / label for label in images.labels]
    return tuple(path if path is not None and path.is_file() else None for path in paths)


if __name__ == "__main__":
    run_command(main)
