"""What a pseudo folder records of the configuration, and what training asks of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from episodes.build import pseudo_settings
from episodes.lists import ImageList
from masks.build import manifest_settings
from util.config import load_config
from util.settings import differences

# Any file has a size.
IMAGES = ImageList(Path(__file__).parent, (Path(__file__).name,), (None,), "digest", Path("list.txt"))
# What is known only when the masks are made.
AFTERWARDS = {"file_sizes_digest": IMAGES.file_sizes_digest()}


@pytest.mark.parametrize("recipe", ["global", "objects"])
def test_training_asks_for_what_is_recorded(recipe: str) -> None:
    config = load_config("pascal", "ssl_mobilenetv2", [f"Cluster.recipe={recipe}", "weights=nowhere.pth"])
    recorded = {**manifest_settings(config, IMAGES), **AFTERWARDS}
    assert differences(recorded, pseudo_settings(config, IMAGES)) == []


@pytest.mark.parametrize(
    "word", ["stride=16", "flip=true", "scales=[2.0]", "border_share=0.5", "algorithm=spherical", "cluster_num=7"]
)
def test_training_refuses_masks_that_were_made_otherwise(word: str) -> None:
    words = ["Cluster.recipe=global", "weights=nowhere.pth"]
    made, asked = (load_config("pascal", "ssl_mobilenetv2", [*words, *more]) for more in ([], [f"Cluster.{word}"]))
    recorded = {**manifest_settings(made, IMAGES), **AFTERWARDS}
    (difference,) = differences(recorded, pseudo_settings(asked, IMAGES))
    assert difference.startswith(f"{word.split('=')[0]} is ")
