"""Results as tables.

``python -m engine.report FOLDER...`` prints the results of several run folders, one line each.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from engine.bootstrap import LEVEL
from engine.folder_results import holds_folder_test, percent, read_folder_results
from engine.results import RESULTS, TestedAs, read_results
from engine.seed_results import SEEDS, read_seed_results
from util.arguments import Parser
from util.errors import UserError, run_command

_HEADER = (
    f"{'method':<12} {'fold':>4} {'shot':>4} {'episodes':>8} {'mIoU':>6} {'FB-IoU':>6} {'interval':>14} "
    f"{'seeds':>5}  {'labels used':<28} folder"
)
_FOLDER_HEADER = (
    f"{'method':<12} {'fold':>4} {'shot':>4} {'episodes':>8} {'IoU':>6} {'interval':>14} {'no gate':>7} "
    f"{'perfect gate':>12} {'AUC':>6} {'AP':>6} {'false area':>10}  {'labels used':<28} folder, every photograph"
)


def results_table(results: Mapping[str, Any], seconds: float, names: Mapping[int, str] | None = None) -> str:
    """The results of one test for the terminal: protocol, a line for each class (and its name), the means.

    ``seconds`` is the mean time of an episode. It is in no file, so that two tests of one network write the same bytes.
    """
    lines = [f"{key:>16}  {value}" for key, value in results["protocol"].items()]
    lines.append(f"{'':>16}  {'IoU':>6}  {'accuracy':>8}")
    for number, iou in results["per_class"].items():
        name = (names or {}).get(int(number), "")
        lines.append(
            f"{'class ' + number:>16}  {iou:6.2f}  {results['per_class_accuracy'][number]:8.2f}  {name}".rstrip()
        )
    if results["classes_never_drawn"]:
        lines.append(f"{'never drawn':>16}  {results['classes_never_drawn']} (not in the mean)")
    low, high = results["miou_interval"]
    lines.append(f"{'mIoU':>16}  {results['miou']:6.2f}  {LEVEL} % interval {low:.2f} to {high:.2f}, over test images")
    lines.append(f"{'FB-IoU':>16}  {results['fb_iou']:6.2f}")
    lines.append(f"{'accuracy':>16}  {results['accuracy']:6.2f}  of all pixels")
    lines.append(
        f"{'object pixels':>16}  {results['predicted_object']:6.2f} % predicted, {results['true_object']:.2f} % true, "
        f"{results['empty_predictions']} predictions empty"
    )
    lines.append(f"{'inference':>16}  {seconds:6.3f} s for an episode, without reading its images")
    return "\n".join(lines)


def comparison_table(folders: list[Path]) -> str:
    """A line for each test that the run folders hold: what was tested, mIoU with its interval, FB-IoU, labels used.

    Of a test of several seeds the means and their number. Tests of every photograph have a table of their own. Raises
    ``UserError`` when no folder holds a test.
    """
    tested = [folder for folder in folders if (folder / RESULTS).is_file()]
    of_folders = [folder for folder in tested if holds_folder_test(folder)]
    rows = [row for folder in folders if folder not in of_folders for row in _rows(folder)]
    folder_rows = [_folder_row(folder) for folder in of_folders]
    if not rows and not folder_rows:
        raise UserError(f"{', '.join(map(str, folders))}: no {RESULTS} here; run bash test.sh first")
    tables = [
        "\n".join([header, "-" * len(header), *lines])
        for header, lines in ((_HEADER, rows), (_FOLDER_HEADER, folder_rows))
        if lines
    ]
    return "\n\n".join(tables)


def main(arguments: list[str]) -> None:
    """The command ``python -m engine.report``."""
    parser = Parser(prog="python -m engine.report", description="The results of several run folders, one line each.")
    parser.add_argument("folders", nargs="+", type=Path, metavar="FOLDER", help=f"run folders that hold {RESULTS}")
    parsed = parser.parse_args(arguments)
    sys.stdout.write(comparison_table(parsed.folders) + "\n")


def _rows(folder: Path) -> Iterator[str]:
    """The lines of the tests in a folder: of the one in it and of that of several seeds, where they are there."""
    if (folder / RESULTS).is_file():
        results = read_results(folder)
        yield _row(folder, results.protocol, results.miou, results.fb_iou, results.miou_interval, 1)
    if (folder / SEEDS).is_file():
        several = read_seed_results(folder)
        means = several.miou.mean, several.fb_iou.mean
        yield _row(folder, several.protocol, *means, several.miou_interval, len(several.seeds))


def _row(
    folder: Path, protocol: TestedAs, miou: float, fb_iou: float, interval: Sequence[float] | None, seeds: int
) -> str:
    between = "{:.2f} to {:.2f}".format(*interval) if interval else "-"
    return (
        f"{protocol.method:<12} {protocol.split:>4} {protocol.shots:>4} {protocol.episodes:>8} {miou:>6.2f} "
        f"{fb_iou:>6.2f} {between:>14} {seeds:>5}  {protocol.label_use:<28} {folder}"
    )


def _folder_row(folder: Path) -> str:
    results = read_folder_results(folder)
    protocol, between = results.protocol, "{:.2f} to {:.2f}".format(*results.folder_iou_interval)
    return (
        f"{protocol.method:<12} {protocol.split:>4} {protocol.shots:>4} {protocol.episodes:>8} "
        f"{results.folder_iou:>6.2f} {between:>14} {results.folder_iou_ungated:>7.2f} "
        f"{results.folder_iou_perfect_gate:>12.2f} {percent(results.presence_auc, 6)} "
        f"{percent(results.presence_ap, 6)} {percent(results.false_area, 10)}  "
        f"{protocol.label_use:<28} {folder}"
    )


if __name__ == "__main__":
    run_command(main)
