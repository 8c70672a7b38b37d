"""Which regions are kept, by masks drawn by hand, and their embeddings."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from masks.regions import RegionFilter, kept_regions, mask_pool, region_rows
from tests import golden


def _mask(height: int = 100, width: int = 100) -> np.ndarray:
    return np.zeros((height, width), dtype=np.uint8)


def test_small_regions_are_dropped() -> None:
    mask = _mask()
    mask[10:58, 10:53] = 1  # 48 * 43 = 2064
    mask[60:98, 10:63] = 2  # 38 * 53 = 2014
    assert kept_regions(mask) == [1]
    assert kept_regions(mask, RegionFilter(min_area=2014)) == [1, 2]


def test_void_is_never_a_region() -> None:
    mask = _mask()
    mask[10:90, 10:90] = 255
    assert kept_regions(mask, RegionFilter(rule="border")) == []


@pytest.mark.parametrize(("empty_rows", "kept"), [(0, False), (1, True)])
def test_span_rule_drops_what_leaves_less_than_a_hundredth_of_the_rows(empty_rows: int, kept: bool) -> None:
    mask = _mask()
    mask[empty_rows:, 20:60] = 1
    assert (1 in kept_regions(mask, RegionFilter(rule="span"))) is kept
    assert (1 in kept_regions(mask.T, RegionFilter(rule="span"))) is kept


def test_span_rule_counts_rows_wherever_they_are() -> None:
    mask = _mask()
    mask[:50, :30] = mask[50:, 70:] = 1  # every row, but not one column from top to bottom
    assert kept_regions(mask, RegionFilter(rule="span")) == []


def test_border_rule_keeps_an_object_that_fills_the_frame() -> None:
    """The published span rule throws away an animal that reaches from top to bottom."""
    mask = _mask()
    mask[:, 35:65] = 1
    assert kept_regions(mask, RegionFilter(rule="span")) == []
    assert kept_regions(mask, RegionFilter(rule="border")) == [1]


@pytest.mark.parametrize(("width", "kept"), [(35, True), (36, False)])
def test_border_rule_drops_more_than_35_per_cent_of_the_border(width: int, kept: bool) -> None:
    mask = _mask(101, 101)  # 400 pixels of border
    mask[: 2 * width, :2] = 1  # 2 * width of them, and one more in the top row
    mask[0, 1 : 2 * width] = 1  # 2 * width - 1 more
    mask[20:90, 20:90] = 1
    border = 4 * width - 1
    assert border / 400 <= 0.35 if kept else border / 400 > 0.35
    assert (1 in kept_regions(mask, RegionFilter(rule="border"))) is kept


@pytest.mark.parametrize(("side", "kept"), [(83, True), (84, False)])
def test_border_rule_drops_more_than_70_per_cent_of_the_image(side: int, kept: bool) -> None:
    mask = _mask()
    mask[5 : 5 + side, 5 : 5 + side] = 1
    assert (1 in kept_regions(mask, RegionFilter(rule="border"))) is kept


def test_shares_can_be_chosen() -> None:
    mask = _mask()
    mask[5:, 20:60] = 1  # 5 % of the rows are empty; covers a tenth of the border, 38 % of the image
    kept = {
        RegionFilter(rule="span", empty_share=0.05): True,
        RegionFilter(rule="span", empty_share=0.06): False,
        RegionFilter(rule="border", border_share=0.11): True,
        RegionFilter(rule="border", border_share=0.09): False,
        RegionFilter(rule="border", image_share=0.38): True,
        RegionFilter(rule="border", image_share=0.37): False,
    }
    assert {objects: 1 in kept_regions(mask, objects) for objects in kept} == kept


def test_pool_matches_golden() -> None:
    values = golden.load("mask_pool")
    features = torch.nn.functional.normalize(values["embedding"][0], dim=0).numpy()
    for region, expected in values["pool"].items():
        (pooled,) = mask_pool(features, [values["label"].numpy() == region])
        assert golden.relative_error(torch.from_numpy(pooled), expected) < 1e-5


@pytest.mark.parametrize("shape", [(1, 1), (1, 6), (5, 7), (33, 40)])
def test_pool_is_the_mean_over_the_enlarged_map(shape: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    features = rng.normal(size=(3, *shape)).astype(np.float32)
    mask = rng.random((33, 40)) < 0.3
    enlarged = torch.nn.functional.interpolate(
        torch.from_numpy(features)[None], size=mask.shape, mode="bilinear", align_corners=True
    )[0]
    pooled = mask_pool(features, [mask, ~mask])
    assert np.allclose(pooled[0], enlarged[:, torch.from_numpy(mask)].mean(dim=1), atol=1e-5)
    assert np.allclose(pooled[1], enlarged[:, torch.from_numpy(~mask)].mean(dim=1), atol=1e-5)


def test_region_rows() -> None:
    labels = _mask(40, 40)
    labels[5:15, 5:15] = 3
    labels[20:35, 20:35] = 1
    features = np.random.default_rng(0).normal(size=(4, 5, 5)).astype(np.float32)
    rows = region_rows(labels, features, row=7, objects=RegionFilter(min_area=50, rule="border"))
    assert rows["image"].tolist() == [7, 7]
    assert rows["region"].tolist() == rows["group"].tolist() == [1, 3]
    assert rows["area"].tolist() == [225, 100]
    assert rows["embedding"].dtype == np.float16
    assert np.allclose(np.linalg.norm(rows["embedding"].astype(np.float32), axis=1), 1, atol=1e-3)


def test_an_id_can_be_background_wherever_it_lies() -> None:
    mask = _mask(40, 40)
    mask[5:15, 5:15] = 3
    mask[20:35, 20:35] = 1
    assert kept_regions(mask, RegionFilter(min_area=50, rule="border", background=1)) == [3]


def test_a_pixel_may_stand_for_several_of_the_file() -> None:
    labels = _mask(40, 40)
    labels[5:15, 5:15] = 1
    features = np.ones((4, 5, 5), dtype=np.float32)
    objects = RegionFilter(min_area=250, rule="border")
    rows = region_rows(labels, features, row=0, objects=objects, pixel_area=2.5)
    assert (rows["region"].tolist(), rows["area"].tolist()) == ([1], [250])
    assert len(region_rows(labels, features, row=0, objects=objects, pixel_area=2.4)["region"]) == 0


def test_an_image_without_regions_gives_no_rows() -> None:
    rows = region_rows(
        _mask(),
        np.ones((4, 5, 5), dtype=np.float32),
        row=0,
        objects=RegionFilter(min_area=1, rule="border"),
    )
    assert rows["embedding"].shape == (0, 4)
    assert all(len(column) == 0 for column in rows.values())
