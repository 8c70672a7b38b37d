"""``python -m prepare NAME ...``: the command line over the modules of this package.

Each of ``_MODULES`` has a docstring whose first line is its help, ``add_arguments(parser)`` and ``run(arguments)``.
"""

from __future__ import annotations

from prepare import check, coco, folder, pascal, shapes, subset
from util.arguments import Parser
from util.errors import run_command
from util.logging import start_logging

_MODULES = (pascal, coco, shapes, folder, subset, check)


def main(arguments: list[str]) -> None:
    """Parse the command line and run the module that its first argument names."""
    parser = Parser(prog="python -m prepare", description="Prepare a dataset.")
    names = parser.add_subparsers(metavar="NAME", required=True)
    for module in _MODULES:
        name, description = module.__name__.split(".")[-1], str(module.__doc__).splitlines()[0]
        subparser = names.add_parser(name, help=description, description=description)
        module.add_arguments(subparser)
        subparser.set_defaults(run=module.run)
    parsed = parser.parse_args(arguments)
    start_logging()
    parsed.run(parsed)


if __name__ == "__main__":
    run_command(main)
