"""The measured quality of pseudo masks: ``report`` measures, ``report_table`` formats the result."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from tqdm import tqdm

from masks.pseudo_masks import PseudoMasks
from masks.report.metric_groups import cluster_metrics, clustering_metrics, object_metrics, region_metrics
from masks.report.quality import IDS, Overlap, contingency, overlap
from util.errors import UserError
from util.images import IGNORE, check_same_size, read_label
from util.processes import available_cores

_MADE_WITH = ("recipe", "extractor", "weights_digest", "compat", "region_rule", "min_area", "seed")
_DIGEST = 12  # hexadecimal digits that tell files apart
_INDENT = 32
_WIDTH = 120


@dataclass(frozen=True)
class TrueLabels:
    """True labels to measure by: ``paths`` for each image of the pseudo folder in its order, None where there is none.

    Labels hold 0 background, 1..``classes``, 255 ignore; a class that has ``min_area`` pixels in one is an object.
    """

    paths: tuple[Path | None, ...]
    classes: int
    min_area: int

    @property
    def count(self) -> int:
        return len(self.paths) - self.paths.count(None)


def report(masks: PseudoMasks, labels: TrueLabels | None = None) -> dict[str, Any]:
    """Measure pseudo masks; without ``labels`` only by themselves.

    The result holds JSON values only: what the masks were made with, the use of labels, and a group for each thing
    that is measured, with how in ``protocol`` or why not in ``left_out``. Each mask is read once. Raises
    ``UserError`` for a damaged mask and for a label that does not fit its mask.
    """
    labels = labels or TrueLabels((None,) * len(masks), classes=0, min_area=0)
    totals = _Totals(np.zeros((IDS, labels.classes + 1), dtype=np.int64))
    with ThreadPoolExecutor(available_cores()) as pool:
        counted = pool.map(partial(_count, masks, labels), range(len(masks)))
        for row, counts in enumerate(tqdm(counted, total=len(masks), desc="report", unit="image")):
            totals.add(counts, masks.kept[row], labels.min_area)
    return _metrics(masks, labels, totals)


class _Counts(NamedTuple):
    pixels: np.ndarray  # (256,) of each id
    table: np.ndarray | None  # contingency with the label, where there is one


@dataclass
class _Totals:
    """Sums over the images counted so far."""

    table: np.ndarray  # (256, classes + 1)
    pixels: np.ndarray = field(default_factory=lambda: np.zeros(IDS, dtype=np.int64))
    region_shares: list[np.ndarray] = field(default_factory=list)  # of the image, (R,) for each
    overlaps: list[Overlap] = field(default_factory=list)

    def add(self, counts: _Counts, kept: np.ndarray, min_area: int) -> None:
        self.pixels += counts.pixels
        self.region_shares.append(counts.pixels[kept] / counts.pixels.sum())
        if counts.table is not None:
            self.table += counts.table
            self.overlaps.append(overlap(counts.table, kept, min_area))


def _count(masks: PseudoMasks, labels: TrueLabels, row: int) -> _Counts:
    mask = masks.read(row)
    pixels = np.bincount(mask.ravel(), minlength=IDS)
    path = labels.paths[row]
    if path is None:
        return _Counts(pixels, None)
    label = read_label(path)
    check_same_size(masks.mask_path(row), mask.shape, path, label.shape)
    _check_values(path, label, labels.classes)
    return _Counts(pixels, contingency(mask, label, labels.classes))


def _check_values(path: Path, label: np.ndarray, classes: int) -> None:
    unknown = label[(label > classes) & (label != IGNORE)]
    if len(unknown):
        raise UserError(
            f"{path}: holds the value {unknown[0]}; expected 0..{classes} and 255; correct DATA.classes or the label"
        )


def _metrics(masks: PseudoMasks, labels: TrueLabels, totals: _Totals) -> dict[str, Any]:
    metrics = {
        "made_with": masks.manifest,
        "labels": _label_use(labels),
        "regions": region_metrics(totals.region_shares),
        "clusters": cluster_metrics(totals.pixels, masks.groups, masks.cluster_num),
    }
    if labels.count:
        metrics["clustering"] = clustering_metrics(totals.table, masks.cluster_num)
        metrics.update(object_metrics(totals.overlaps, labels.min_area))
    return metrics


def _label_use(labels: TrueLabels) -> dict[str, Any]:
    use = "true labels were read, for measuring only" if labels.count else "no label was read"
    return {"labels_used": labels.count > 0, "labelled_images": labels.count, "use": use}


def report_table(metrics: dict[str, Any]) -> str:
    """A line for each metric of ``report``, group by group; their protocols are in ``report.json``."""
    made_with = {key: metrics["made_with"].get(key) for key in _MADE_WITH}
    made_with["weights_digest"] = str(made_with["weights_digest"])[:_DIGEST]
    lines = [line for name, group in {**metrics, "made_with": made_with}.items() for line in _group(name, group)]
    return "\n".join([*lines, "", "shares and IoUs in percent; how each metric is measured: report.json"])


def _group(name: str, group: dict[str, Any]) -> Iterator[str]:
    yield f"\n{_words(name)}"
    for key, value in group.items():
        if key != "protocol":
            yield textwrap.fill(
                f"{_words(key):>{_INDENT - 2}}  {_text(value)}",
                width=_WIDTH,
                subsequent_indent=" " * _INDENT,
                drop_whitespace=True,
            )


def _text(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{_words(key)}={_text(part)}" for key, part in value.items())
    if isinstance(value, list):
        return ", ".join(map(_text, value)) or "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.2f}"
    return "-" if value is None else str(value)


def _words(name: str) -> str:
    return name.replace("_", " ")
