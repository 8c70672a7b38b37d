"""The measured quality of pseudo masks: ``report`` measures, ``report_table`` prints what it found."""

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

from masks.pseudo_masks import MadeMasks
from masks.report.figures import cluster_figures, clustering_figures, object_figures, region_figures
from masks.report.quality import IDS, Overlap, contingency, overlap
from util.device import available_cores
from util.errors import UserError
from util.images import IGNORE, check_same_size, read_label

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


def report(made: MadeMasks, labels: TrueLabels | None = None) -> dict[str, Any]:
    """Measure pseudo masks; without ``labels`` by themselves alone.

    The result holds JSON values only: what the masks were made with, the use of labels, and a group for each thing
    that is measured, which says in ``protocol`` how, or in ``left_out`` why not. Each mask is read once. Raises
    ``UserError`` for a damaged mask and for a label that does not fit its mask.
    """
    labels = labels or TrueLabels((None,) * len(made), classes=0, min_area=0)
    totals = _Totals(np.zeros((IDS, labels.classes + 1), dtype=np.int64))
    with ThreadPoolExecutor(available_cores()) as pool:
        counted = pool.map(partial(_count, made, labels), range(len(made)))
        for row, counts in enumerate(tqdm(counted, total=len(made), desc="report", unit="image")):
            totals.add(counts, made.kept[row], labels.min_area)
    return _figures(made, labels, totals)


class _Counts(NamedTuple):
    pixels: np.ndarray  # (256,) of each id
    table: np.ndarray | None  # contingency with the label, where there is one


@dataclass
class _Totals:
    """What is kept of the photographs that were counted."""

    table: np.ndarray  # (256, classes + 1)
    pixels: np.ndarray = field(default_factory=lambda: np.zeros(IDS, dtype=np.int64))
    region_shares: list[np.ndarray] = field(default_factory=list)  # of the photograph, (R,) for each
    overlaps: list[Overlap] = field(default_factory=list)

    def add(self, counts: _Counts, kept: np.ndarray, min_area: int) -> None:
        self.pixels += counts.pixels
        self.region_shares.append(counts.pixels[kept] / counts.pixels.sum())
        if counts.table is not None:
            self.table += counts.table
            self.overlaps.append(overlap(counts.table, kept, min_area))


def _count(made: MadeMasks, labels: TrueLabels, row: int) -> _Counts:
    mask = made.read(row)
    pixels = np.bincount(mask.ravel(), minlength=IDS)
    path = labels.paths[row]
    if path is None:
        return _Counts(pixels, None)
    label = read_label(path)
    check_same_size(made.mask_path(row), mask.shape, path, label.shape)
    _check_values(path, label, labels.classes)
    return _Counts(pixels, contingency(mask, label, labels.classes))


def _check_values(path: Path, label: np.ndarray, classes: int) -> None:
    unknown = label[(label > classes) & (label != IGNORE)]
    if len(unknown):
        raise UserError(
            f"{path}: holds the value {unknown[0]}; expected 0..{classes} and 255; correct DATA.classes or the label"
        )


def _figures(made: MadeMasks, labels: TrueLabels, totals: _Totals) -> dict[str, Any]:
    figures = {
        "made_with": made.manifest,
        "labels": _label_use(labels),
        "regions": region_figures(totals.region_shares),
        "clusters": cluster_figures(totals.pixels, made.groups, made.cluster_num),
    }
    if labels.count:
        figures["clustering"] = clustering_figures(totals.table, made.cluster_num)
        figures.update(object_figures(totals.overlaps, labels.min_area))
    return figures


def _label_use(labels: TrueLabels) -> dict[str, Any]:
    use = "true labels were read, for measuring only" if labels.count else "no label was read"
    return {"labels_used": labels.count > 0, "labelled_photographs": labels.count, "use": use}


def report_table(figures: dict[str, Any]) -> str:
    """A line for each of the figures of ``report``, group by group; their protocols are in ``report.json``."""
    made_with = {key: figures["made_with"][key] for key in _MADE_WITH}
    made_with["weights_digest"] = made_with["weights_digest"][:_DIGEST]
    lines = [line for name, group in {**figures, "made_with": made_with}.items() for line in _group(name, group)]
    return "\n".join([*lines, "", "shares and IoUs in percent; how each figure is measured: report.json"])


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
