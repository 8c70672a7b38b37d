"""The command ``bash experiments.sh DATASET FAMILY [options] [key=value ...]``."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence

from commands.experiments.comparison import compared
from commands.experiments.figure import write_figure
from commands.experiments.plan import plan_text
from commands.experiments.records import finished_runs
from commands.experiments.request import check_lists, options_parser, study_of
from commands.experiments.run_processes import Processes, check_gpus, gpu_places, last_line
from commands.experiments.runs import Run, Study, all_runs
from commands.experiments.scheduling import Outcome, run_all
from commands.experiments.tables import write_tables
from util.errors import UserError, run_command
from util.locks import only_process_in
from util.logging import logger, start_logging
from util.processes import require_one_process


def main(arguments: list[str]) -> None:
    """Read the command line; print the plan, or run what is not finished and write tables and figure."""
    options = options_parser().parse_intermixed_args(arguments)
    require_one_process("experiments.sh")
    start_logging()
    study = study_of(options)
    runs = all_runs(study)
    if options.index is not None and options.index > len(runs):
        raise UserError(f"--index {options.index}: the plan has {len(runs)} runs; see --plan")
    places = gpu_places(options.gpus) if options.gpus else [{} for _ in range(options.jobs)]
    if options.plan:
        finished = finished_runs(runs)
        sys.stdout.write(plan_text(runs, finished, options.family, len(places), on_gpus=bool(options.gpus)) + "\n")
        return
    check_lists(study)
    if options.gpus:
        check_gpus(options.gpus)
    if options.index is not None:
        outcome = _run([_chosen(runs, options.index)], runs, places[:1])
    else:
        with only_process_in(study.folder):
            outcome = _run(runs, runs, places)
    _write(study, runs)
    _report(outcome, runs)


def _chosen(runs: Sequence[Run], number: int) -> Run:
    """A run of the plan by its number; raises ``UserError`` where it needs others that are not finished."""
    run, finished = runs[number - 1], finished_runs(runs)
    missing = [need for need in run.needs if need not in finished]
    if missing:
        raise UserError(f"run {number}, {run.name}: needs {', '.join(missing)}, not finished yet")
    return run


def _run(chosen: Sequence[Run], plan: Sequence[Run], places: Sequence[Mapping[str, str]]) -> Outcome:
    """Run what is not finished of the ``chosen`` runs of the plan."""
    finished = finished_runs(plan)
    done = sum(run.name in finished for run in chosen)
    logger.info("%d runs, of which %d are finished", len(chosen), done)
    processes = Processes(places, {run.name: number for number, run in enumerate(plan, start=1)})
    with processes.ended_together():
        return run_all(chosen, finished, processes)


def _write(study: Study, runs: Sequence[Run]) -> None:
    """Write tables and figure of all that is tested by now."""
    rows = compared(study, finished_runs(runs))
    page = write_tables(study, rows, study.folder)
    figure = ",svg,png" if write_figure(rows, study.folder) else ""
    logger.info("%s.{md,csv,json%s}\n%s", study.folder, figure, page)


def _report(outcome: Outcome, runs: Sequence[Run]) -> None:
    """Name what failed and what was left out for that, with exit code 1."""
    for run in runs:
        if run.name in outcome.failed:
            logger.error("FAILED: %s: %s", run.name, last_line(run))
    if outcome.left_out:
        logger.error("left out, for they need these: %s", ", ".join(outcome.left_out))
    if outcome.failed:
        sys.exit(1)


if __name__ == "__main__":
    run_command(main)
