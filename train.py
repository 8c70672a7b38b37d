"""Train an experiment: ``python train.py DATASET EXPERIMENT [key=value ...]``. The same command continues it."""

from __future__ import annotations

from util.arguments import Parser
from util.config import load_config
from util.errors import importing, run_command
from util.logging import start_logging
from util.processes import process_group, start_processes


def main(arguments: list[str]) -> None:
    """Parse the command line and train, or continue the run that the experiment's folder holds."""
    parser = Parser(prog="train.sh", description=__doc__)
    parser.add_argument("dataset")
    parser.add_argument("experiment")
    parser.add_argument("overrides", nargs="*", default=[], metavar="key=value")
    parsed = parser.parse_args(arguments)
    start_logging()
    with process_group():
        config = load_config(parsed.dataset, parsed.experiment, parsed.overrides)
        start_processes(config.TRAIN.train_gpu)
        with importing():
            from commands.meta_training import train_experiment
            from commands.seeds import training_runs
        for run in training_runs(config):
            train_experiment(run)


if __name__ == "__main__":
    run_command(main)
