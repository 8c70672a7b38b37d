"""The command ``python -m masks.report ROOT DATASET [key=value ...]``: the measured quality of pseudo masks.

The words are those that made the masks with ``masks/create.sh``. Without labels it counts regions and clusters; where
the list names labels that exist it compares the masks with them, for measuring only. The pseudo folder gets
``report.json``, a sheet of examples ``report.png`` and ``report_masks.png``, the sheet without the photographs.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from episodes.lists import ImageList, read_list
from episodes.pseudo import REPORT_FILE
from masks.build import choose_config
from masks.pseudo_masks import MadeMasks
from masks.report import TrueLabels, report, report_table
from masks.report.sheet import save_sheets
from util.arguments import whole_number
from util.errors import run_command
from util.files import write_json
from util.logging import start_logging


def main(arguments: list[str]) -> None:
    """Read the command line; measure, print the table, write the report and its sheets."""
    parser = argparse.ArgumentParser(prog="python -m masks.report", description="The measured quality of pseudo masks.")
    parser.add_argument("root", type=Path, help="the folder that holds the dataset's folder")
    parser.add_argument("dataset")
    parser.add_argument("settings", nargs="*", metavar="key=value", help="as for masks/create.sh")
    parser.add_argument("--images", type=whole_number(1), default=8, help="rows of the sheets (%(default)s)")
    parser.add_argument("--without-labels", action="store_true", help="open no label")
    words = parser.parse_intermixed_args(arguments)
    start_logging()
    config = choose_config(words.root, words.dataset, words.settings)
    made = MadeMasks.load(config.pseudo_folder)
    images = made.in_this_order(read_list(config.DATA.train_list, config.DATA.data_root, need_labels=False))
    labels = TrueLabels(
        (None,) * len(images) if words.without_labels else existing_labels(images),
        classes=config.DATA.classes,
        min_area=config.DATA.min_area,
    )
    figures = report(made, labels)
    write_json(made.folder / REPORT_FILE, figures)
    save_sheets(made, images, labels.paths, count=words.images, seed=config.Cluster.seed)
    sys.stdout.write(f"{made.folder}\n{report_table(figures)}\n")


def existing_labels(images: ImageList) -> tuple[Path | None, ...]:
    """For each image the label that the list names, None where it names none or there is no such file."""
    paths = [None if label is None else images.root / label for label in images.labels]
    return tuple(path if path is not None and path.is_file() else None for path in paths)


if __name__ == "__main__":
    run_command(main)
