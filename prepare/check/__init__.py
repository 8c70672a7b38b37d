"""Check a dataset before hours of work: lists, every image and label, enough images of each class.

All problems are reported, and nothing is written except the file of ``--report``. The exit code is 0 for a dataset that
is ready, possibly with warnings, and 1 when there are problems.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
from tqdm import tqdm

from episodes.folds import ALL_FOLDS, fold_classes
from prepare.check.fold_counts import Counts, find_folds, fold_tables, rare_classes
from prepare.check.inspection import ListedImage, inspect
from prepare.check.parts import Part, describe_part, read_parts
from prepare.check.problems import Problem, print_problems, write_report
from prepare.workers import process_map
from util.arguments import whole_number
from util.config import Config, experiments, load_config
from util.errors import UserError
from util.processes import available_cores


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of ``python -m prepare check``."""
    parser.add_argument("dataset", metavar="DATASET", help="pascal, coco, shapes, or the name of your own dataset")
    parser.add_argument(
        "settings",
        nargs="*",
        metavar="EXPERIMENT KEY=VALUE",
        help="one experiment to check instead of all, values of its configuration; options go before or after",
    )
    parser.add_argument("--workers", type=whole_number(1), default=available_cores(), help="processes (%(default)s)")
    parser.add_argument("--report", type=Path, metavar="FILE.json", help="also write all problems to this file")


def run(arguments: argparse.Namespace) -> None:
    """Print what the dataset holds and everything that is wrong with it; exit with code 1 if there is a problem.

    Raises ``UserError`` for an unknown dataset, experiment or key.
    """
    named = bool(arguments.settings) and "=" not in arguments.settings[0]
    overrides = arguments.settings[1:] if named else arguments.settings
    names = arguments.settings[:1] if named else experiments(arguments.dataset)
    configs = _load_configs(arguments.dataset, names, overrides)
    problems = _check(configs, named=named, workers=arguments.workers)
    if arguments.report is not None:
        write_report(arguments.report, arguments.dataset, problems)
    print_problems(problems)
    errors = sum(not problem.is_warning for problem in problems)
    if errors:
        print(f"{errors:,} problem{'s' if errors > 1 else ''}")
        sys.exit(1)
    print(f"{arguments.dataset.upper()}: ready")


def _load_configs(dataset: str, names: Sequence[str], overrides: Sequence[str]) -> list[Config]:
    """The configurations of the experiments; raises ``UserError`` unless they share their data."""
    configs = [load_config(dataset, name, overrides) for name in names]
    other = next((config for config in configs if config.DATA != configs[0].DATA), None)
    if other is not None:
        raise UserError(
            f"config/{dataset}: {configs[0].experiment} and {other.experiment} have different DATA; name the experiment"
        )
    return configs


def _check(configs: Sequence[Config], *, named: bool, workers: int) -> list[Problem]:
    """Print what the lists and folds hold; returns all problems, each once.

    ``named`` states whether the command names the experiment.
    """
    data, dataset = configs[0].DATA, configs[0].dataset
    supervised = any(not config.unsupervised for config in configs)
    parts, problems = read_parts(data, supervised=supervised, labels_required=named)
    for part in parts:
        print(f"{part.list_file}: {describe_part(part, dataset)}")
    folds, impossible = find_folds(configs)
    # Every dataset has experiments of all folds, so an impossible fold is an error only for the experiment named.
    problems += [problem._replace(is_warning=not named) for problem in impossible]
    if not data.data_root.is_dir():
        message = f"DATA.data_root={data.data_root}: folder not found; `python -m prepare` makes it, or name another"
        return [*problems, Problem("missing folders", message)]

    classes = len(fold_classes(dataset, ALL_FOLDS, classes=data.classes)[0])
    counts: dict[str, Counts] = {}
    for part in parts:
        areas, part_problems = _inspect_all(part, data.data_root, classes=classes, workers=workers)
        problems += part_problems
        if part.reads_labels and part.lines:
            counts[part.split] = Counts(areas > 0, areas >= data.min_area)
    for table in fold_tables(folds, counts, data):
        print(f"\n{table}")
    print()
    return list(dict.fromkeys([*problems, *rare_classes(folds, parts, counts, data)]))


def _inspect_all(part: Part, root: Path, *, classes: int, workers: int) -> tuple[np.ndarray, list[Problem]]:
    """Pixels of each class, int32 (images, classes), and all problems; an example training cannot use counts as 0."""
    images = [
        ListedImage(line.place, root / line.image, root / line.label if part.reads_labels and line.label else None)
        for line in part.lines
    ]
    areas = np.zeros((len(images), classes), dtype=np.int32)
    problems: list[Problem] = []
    inspections = process_map(partial(inspect, classes=classes), images, workers)
    bar = tqdm(inspections, total=len(images), desc=part.list_file.name, unit="image", disable=not images)
    for row, inspection in enumerate(bar):
        problems += inspection.problems
        if inspection.areas is not None:
            areas[row] = inspection.areas
    return areas, problems
