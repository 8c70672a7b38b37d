"""Results as tables.

``python -m engine.report FOLDER...`` prints the results of several run folders, one line each.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from engine.results import RESULTS, read_results
from util.arguments import Parser
from util.errors import UserError, run_command


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
    lines += [f"{name:>16}  {results[key]:6.2f}" for name, key in (("mIoU", "miou"), ("FB-IoU", "fb_iou"))]
    lines.append(f"{'accuracy':>16}  {results['accuracy']:6.2f}  of all pixels")
    lines.append(
        f"{'object pixels':>16}  {results['predicted_object']:6.2f} % predicted, {results['true_object']:.2f} % true, "
        f"{results['empty_predictions']} predictions empty"
    )
    lines.append(f"{'inference':>16}  {seconds:6.3f} s for an episode, without reading its images")
    return "\n".join(lines)


def comparison_table(folders: list[Path]) -> str:
    """One line for each run folder that holds results: method, fold, shots, episodes, mIoU, FB-IoU, labels used.

    Raises ``UserError`` when no folder does.
    """
    tested = [folder for folder in folders if (folder / RESULTS).is_file()]
    if not tested:
        raise UserError(f"{', '.join(map(str, folders))}: no {RESULTS} here; run bash test.sh first")
    header = (
        f"{'method':<12} {'fold':>4} {'shot':>4} {'episodes':>8} {'mIoU':>6} {'FB-IoU':>6}  {'labels used':<28} folder"
    )
    rows = [header, "-" * len(header)]
    for folder in tested:
        results = read_results(folder)
        protocol = results.protocol
        rows.append(
            f"{protocol.method:<12} {protocol.split:>4} {protocol.shots:>4} {protocol.episodes:>8} "
            f"{results.miou:>6.2f} {results.fb_iou:>6.2f}  {protocol.label_use:<28} {folder}"
        )
    return "\n".join(rows)


def main(arguments: list[str]) -> None:
    """The command ``python -m engine.report``."""
    parser = Parser(prog="python -m engine.report", description="The results of several run folders, one line each.")
    parser.add_argument("folders", nargs="+", type=Path, metavar="FOLDER", help=f"run folders that hold {RESULTS}")
    parsed = parser.parse_args(arguments)
    sys.stdout.write(comparison_table(parsed.folders) + "\n")


if __name__ == "__main__":
    run_command(main)
