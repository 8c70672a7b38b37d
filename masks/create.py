"""The command ``bash masks/create.sh ROOT DATASET [key=value ...]``: pseudo masks for every image of the train list.

ROOT holds the dataset's folder (``pascal/``, ``COCO2014/``, ``<name>/``). Settings come from an experiment's
configuration: ``experiment=NAME``, else the unsupervised one with the ``extractor=`` that was given, else the dataset's
default (``episodes.protocols``). The same command continues an interrupted run. On several GPUs or machines

    torchrun --nproc_per_node 4 -m masks.create ROOT DATASET [key=value ...]

shares the images among the processes; the masks are the same.
"""

from __future__ import annotations

from pathlib import Path

from masks.command_line import choose_config
from util.arguments import Parser
from util.errors import importing, run_command
from util.logging import start_logging
from util.processes import process_group


def main(arguments: list[str]) -> None:
    """Read the command line, choose the configuration and make the masks."""
    parser = Parser(prog="masks/create.sh", description="Pseudo masks for the images of a train list.")
    parser.add_argument("root", type=Path, help="the folder that holds the dataset's folder")
    parser.add_argument("dataset")
    parser.add_argument("settings", nargs="*", default=[], metavar="key=value", help="experiment=NAME, list=FILE, ...")
    parsed = parser.parse_args(arguments)
    start_logging()
    with process_group():
        config = choose_config(parsed.root, parsed.dataset, parsed.settings)
        with importing():
            from masks.creation import create
        create(config)


if __name__ == "__main__":
    run_command(main)
