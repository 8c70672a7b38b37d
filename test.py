"""Test an experiment: ``python test.py DATASET EXPERIMENT [key=value ...] [--method METHOD]``.

``--every-photograph`` asks for each class in every photograph; ``--inspect EPISODE ...`` looks into single episodes.
"""

from __future__ import annotations

from util.arguments import Parser, whole_number
from util.config import load_config
from util.errors import UserError, importing, run_command
from util.logging import start_logging
from util.processes import process_group, start_processes

_METHODS = ("network", "untrained", "foreground", "prototype", "nearest")


def main(arguments: list[str]) -> None:
    """Parse the command line, test, write ``results.json``, the scores of the episodes and sheets of examples."""
    parser = Parser(prog="test.sh", description=__doc__)
    parser.add_argument("dataset")
    parser.add_argument("experiment")
    parser.add_argument("overrides", nargs="*", default=[], metavar="key=value")
    parser.add_argument(
        "--method",
        choices=_METHODS,
        default="network",
        help="network: the checkpoint; untrained: the network as initialised; the others need no training",
    )
    questions = parser.add_mutually_exclusive_group()
    questions.add_argument(
        "--every-photograph",
        action="store_true",
        help="ask for each class in every photograph of the test list, as in a folder where few hold it",
    )
    questions.add_argument(
        "--inspect",
        nargs="+",
        type=whole_number(0),
        metavar="EPISODE",
        help="predict these episodes alone, by their numbers in the test from 0 on, and draw the steps of each",
    )
    parsed = parser.parse_intermixed_args(arguments)
    start_logging()
    with process_group():
        config = load_config(parsed.dataset, parsed.experiment, parsed.overrides)
        start_processes(config.TRAIN.train_gpu)
        with importing():
            from commands.meta_test import inspect_episodes, score_experiment, score_folder
            from commands.seeds import score_seeds
        several = config.TRAIN.seeds and parsed.method == "network"
        if several and (parsed.inspect or parsed.every_photograph):
            option = "--inspect" if parsed.inspect else "--every-photograph"
            raise UserError(f"{option} tests one network; set TRAIN.seeds=[] and TRAIN.weight=FILE")
        if parsed.inspect:
            inspect_episodes(config, parsed.method, parsed.inspect)
        elif parsed.every_photograph:
            score_folder(config, parsed.method)
        elif several:
            score_seeds(config)
        else:
            score_experiment(config, parsed.method)


if __name__ == "__main__":
    run_command(main)
