"""The command ``python -m masks.report ROOT DATASET [key=value ...]``: the measured quality of pseudo masks.

The words are those that made the masks with ``masks/create.sh``. Without labels it counts regions and clusters; where
the list names labels that exist it compares the masks with them, for measuring only. The pseudo folder gets
``report.json``, a sheet of examples ``report.png`` and ``report_masks.png``, the sheet without the photographs.
"""

from __future__ import annotations

import argparse
import sys
import textwrap
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from tqdm import tqdm

from episodes.lists import ImageList, read_list
from episodes.pseudo import REPORT_FILE
from masks.build import choose_config
from masks.pseudo_masks import MadeMasks
from masks.report.figures import cluster_figures, clustering_figures, object_figures, region_figures
from masks.report.quality import IDS, Overlap, contingency, overlap
from masks.report.sheet import save_sheets
from util.arguments import whole_number
from util.device import available_cores
from util.errors import UserError, run_command
from util.files import write_json
from util.images import IGNORE, read_label
from util.logging import start_logging

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


def main(arguments: list[str]) -> None:
    """Read the command line; measure, print the table, write the report and its sheets."""
    parser = argparse.ArgumentParser(prog="python -m masks.report", description="The measured quality of pseudo masks.")
    parser.add_argument("root", type=Path, help="the folder that holds the dataset's folder")
    parser.add_argument("dataset")
    parser.add_argument("settings", nargs="*", metavar="key=value", help="as for masks/create.sh")
    parser.add_argument("--images", type=whole_number(1), default=8, help="rows of the sheets (%(default)s)")
    parser.add_argument("--without-labels", action="store_true", help="open no label")
    words = parser.parse_intermixed_args(arguments)
    start_logging()
    config = choose_config(words.root, words.dataset, words.settings)
    made = MadeMasks.load(config.pseudo_folder)
    images = made.in_this_order(read_list(config.DATA.train_list, config.DATA.data_root, need_labels=False))
    labels = TrueLabels(
        (None,) * len(images) if words.without_labels else existing_labels(images),
        classes=config.DATA.classes,
        min_area=config.DATA.min_area,
    )
    figures = report(made, labels)
    write_json(made.folder / REPORT_FILE, figures)
    save_sheets(made, images, labels.paths, count=words.images, seed=config.Cluster.seed)
    sys.stdout.write(f"{made.folder}\n{report_table(figures)}\n")


def existing_labels(images: ImageList) -> tuple[Path | None, ...]:
    """For each image the label that the list names, None where it names none or there is no such file."""
    paths = [None if label is None else images.root / label for label in images.labels]
    return tuple(path if path is not None and path.is_file() else None for path in paths)


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
    _check_label(path, label, mask_path=made.mask_path(row), size=mask.shape, classes=labels.classes)
    return _Counts(pixels, contingency(mask, label, labels.classes))


def _check_label(path: Path, label: np.ndarray, *, mask_path: Path, size: tuple[int, ...], classes: int) -> None:
    if label.shape != size:
        sizes = [f"{width}x{height}" for height, width in (label.shape, size)]
        raise UserError(f"{path}: {sizes[0]} pixels, its pseudo mask {mask_path} is {sizes[1]}; make them equal")
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


if __name__ == "__main__":
    run_command(main)
