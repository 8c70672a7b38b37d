"""The words of ``experiments.sh``, and the comparison that they ask for."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

from commands.experiments.methods import LABEL_SHARES, all_methods, choose_methods
from commands.experiments.runs import Study
from episodes.folds import FOLDS, fold_classes
from util.arguments import Parser, whole_number
from util.config import load_config
from util.config.words import read_words
from util.errors import UserError, shown
from util.files import PROJECT

_ALL = 100.0
# Keys that every run has its own value of.
_OWN_KEYS = {"TRAIN.save_path", "TRAIN.weight", "TRAIN.resume", "TRAIN.seeds", "TRAIN.split"}


def options_parser() -> Parser:
    """The parser of the command line."""
    parser = Parser(
        prog="experiments.sh",
        description="Train and test all methods on the four folds, with one and five shots. The same command goes on "
        "with what is not finished. Tables and the figure are written beside the folder of the runs.",
    )
    parser.add_argument("dataset")
    parser.add_argument("family", help="of the experiments, like resnet50")
    parser.add_argument("words", nargs="*", default=[], metavar="key=value", help="settings for every run")
    parser.add_argument(
        "--only", type=lambda text: text.split(","), default=[], metavar="METHOD,...",
        help="of the methods nearest, prototype, untrained, unsupervised, tuned (all of tuned_5, ...), joint, scratch",
    )  # fmt: skip
    parser.add_argument(
        "--seeds", type=_numbers(whole_number(0)), metavar="SEED,...", help="train with each (TRAIN.manual_seed)"
    )
    parser.add_argument(
        "--list", nargs=2, action="append", default=[], dest="lists", metavar=("PERCENT", "FILE"),
        help="training list with so many percent of the labels; repeat it for others (LIST_5, LIST_10, LIST_20 beside "
        "DATA.train_list, which are drawn where they are missing, and DATA.train_list for 100)",
    )  # fmt: skip
    places = parser.add_mutually_exclusive_group()
    places.add_argument(
        "--jobs", type=whole_number(1, 1024), default=1,
        help="runs at once, which share the cores (%(default)s). Not NPROC, the processes of a single training: it is "
        "not passed on",
    )  # fmt: skip
    places.add_argument("--gpus", type=_numbers(whole_number(0, 1000)), metavar="NUMBER,...", help="a run on each")
    parser.add_argument("--plan", action="store_true", help="print the runs and their hours, and start none")
    parser.add_argument(
        "--index", type=whole_number(1), metavar="N", help="only run N of the plan, as in an array of Slurm"
    )
    parser.add_argument(
        "--output", type=Path, default=PROJECT / "experiments", metavar="FOLDER",
        help="for DATASET_FAMILY/, the runs, and DATASET_FAMILY.{md,csv,json,svg,png} (experiments)",
    )  # fmt: skip
    return parser


def study_of(options: argparse.Namespace) -> Study:
    """The comparison that the words ask for; raises ``UserError`` where they make none."""
    settings, _ = read_words(options.words)
    for name, _ in settings:
        if name in _OWN_KEYS:
            raise UserError(f"{name}: every run has its own; leave it out (--seeds and --list are options)")
    dataset, family = options.dataset, options.family
    unsupervised = load_config(dataset, f"ssl_{family}", options.words)
    folds = [load_config(dataset, f"split{fold}_{family}", options.words) for fold in FOLDS]
    for fold, config in enumerate(folds):
        fold_classes(dataset, fold, config.TRAIN.use_split_coco, classes=config.DATA.classes)
    own_lists = dict(_own_list(*words) for words in options.lists)
    methods = choose_methods(all_methods({*LABEL_SHARES, *own_lists}), options.only)
    shares = {method.percent for method in methods if method.training is not None}
    whole = folds[0].DATA.train_list
    drawn = {share: whole.with_name(f"{whole.stem}_{share:g}{whole.suffix}") for share in shares - {_ALL, *own_lists}}
    return Study(
        dataset=dataset,
        folder=options.output.absolute() / f"{dataset}_{family}",
        methods=methods,
        seeds=options.seeds or [unsupervised.TRAIN.manual_seed],
        lists={**drawn, **({_ALL: whole} if _ALL in shares else {}), **own_lists},
        drawn=sorted(drawn),
        words=options.words,
        unsupervised=unsupervised,
        folds=folds,
    )


def check_lists(study: Study) -> None:
    """Raise ``UserError`` for a list that is not there and that no run draws."""
    lists = [study.unsupervised.DATA.train_list, *(config.DATA.train_list for config in study.folds)]
    lists += [config.DATA.val_list for config in study.folds]
    for path in (*lists, *(path for percent, path in study.lists.items() if percent not in study.drawn)):
        if not path.is_file():
            raise UserError(f"{path}: list not found; `python -m prepare` makes the lists")


def _own_list(percent: str, file: str) -> tuple[float, Path]:
    try:
        share = float(percent)
    except ValueError:
        share = 0.0
    if not 0 < share <= _ALL:
        raise UserError(f"--list {shown(percent)}: percent of the labels expected, like 20")
    return share, Path(file).absolute()


def _numbers(number: Callable[[str], int]) -> Callable[[str], list[int]]:
    """An argparse ``type`` for different numbers with commas between them."""

    def convert(text: str) -> list[int]:
        numbers = [number(part) for part in text.split(",")]
        if len(set(numbers)) < len(numbers):
            raise argparse.ArgumentTypeError(f"{shown(text)} are not different numbers")
        return numbers

    return convert
