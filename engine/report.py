"""Results, with the protocol that they were measured by, as JSON and as tables.

``python -m engine.report FOLDER...`` prints the results of several run folders, one line each.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from engine.metrics import EpisodeMetrics
from util.arguments import Parser
from util.errors import UserError, run_command
from util.files import read_json, write_json

RESULTS = "results.json"


def build_results(metrics: EpisodeMetrics, protocol: dict[str, Any], classes: list[int]) -> dict[str, Any]:
    """IoUs in percent, shares of pixels in percent, and the protocol they were measured by.

    ``classes`` are those tested; a class that no episode drew has no IoU, is left out of the mean and is listed.
    """
    total = metrics.total()
    per_class = {str(slot): 100 * iou for slot, iou in metrics.per_class().items()}
    return {
        "miou": 100 * metrics.miou(),
        "fb_iou": 100 * metrics.fb_iou(),
        "per_class": per_class,
        "classes_never_drawn": [number for number in classes if str(number) not in per_class],
        "predicted_object": 100 * total.predicted / total.pixels,
        "true_object": 100 * total.true / total.pixels,
        "empty_predictions": metrics.empty_predictions,
        "protocol": protocol,
    }


def save_results(results: dict[str, Any], folder: Path) -> None:
    """Write ``results.json``, atomically."""
    write_json(folder / RESULTS, results)


def results_table(results: dict[str, Any], names: Mapping[int, str] | None = None) -> str:
    """The results of one test for the terminal: protocol, a line for each class (and its name), the means."""
    lines = [f"{key:>16}  {value}" for key, value in results["protocol"].items()]
    for number, iou in results["per_class"].items():
        name = (names or {}).get(int(number), "")
        lines.append(f"{'class ' + number:>16}  {iou:6.2f}  {name}".rstrip())
    if results["classes_never_drawn"]:
        lines.append(f"{'never drawn':>16}  {results['classes_never_drawn']} (not in the mean)")
    lines.append(f"{'mIoU':>16}  {results['miou']:6.2f}")
    lines.append(f"{'FB-IoU':>16}  {results['fb_iou']:6.2f}")
    lines.append(
        f"{'object pixels':>16}  {results['predicted_object']:6.2f} % predicted, {results['true_object']:.2f} % true, "
        f"{results['empty_predictions']} predictions empty"
    )
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
        results = read_json(folder / RESULTS)
        protocol = results["protocol"]
        rows.append(
            f"{protocol['method']:<12} {protocol['split']:>4} {protocol['shots']:>4} {protocol['episodes']:>8} "
            f"{results['miou']:>6.2f} {results['fb_iou']:>6.2f}  {protocol['label_use']:<28} {folder}"
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
