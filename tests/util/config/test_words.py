"""util.config.words: any text whatever is a value, or one line that names the key."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from util.config import load_config
from util.config.schema import FIELDS
from util.config.words import read_words
from util.errors import UserError

NUMBERS = ("epochs", "base_lr", "train_h", "split", "manual_seed", "cluster_num")
# What earlier YAML read as a number, and what Python's own conversions would.
NO_NUMBERS = """
0x10 0o17 1_000 1:30 true false yes on 2001-01-01 2001-99-99 .inf nan inf ١٢ '12' "12" [1] {a:1} 1e400 !!int~12
!!timestamp~2001-99-99 &a~1 0x 1~2
"""


def problem(*words: str) -> str:
    with pytest.raises(UserError) as caught:
        load_config("pascal", "ssl_resnet50", words)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 600
    return str(caught.value)


@pytest.mark.parametrize("text", [text.replace("~", " ") for text in NO_NUMBERS.split()])
def test_only_decimal_numbers_are_numbers(text: str) -> None:
    message = problem(*(f"{key}={text}" for key in NUMBERS))
    assert [key for key in NUMBERS if f".{key}" not in message] == []


@pytest.mark.parametrize("text", ["1.0", "1e2"])
def test_whole_numbers_are_written_as_such(text: str) -> None:
    message = problem(*(f"{key}={text}" for key in NUMBERS if key != "base_lr"))
    assert [key for key in NUMBERS if key != "base_lr" and f".{key}" not in message] == []
    assert load_config("pascal", "ssl_resnet50", [f"base_lr={text}"]).TRAIN.base_lr == float(text)


def test_numbers_are_decimal() -> None:
    train = load_config("pascal", "ssl_resnet50", ["epochs=010", "batch_size=08", "base_lr=01e-2"]).TRAIN
    assert (train.epochs, train.batch_size, train.base_lr) == (10, 8, 0.01)


@pytest.mark.parametrize("text", ["yes", "No", "on", "OFF", "1", "0", "1.0", "y", "t", "", "'true'"])
def test_only_true_and_false_are_truth_values(text: str) -> None:
    assert "TRAIN.evaluate=" in problem(f"evaluate={text}")
    assert "true or false expected" in problem(f"evaluate={text}")


@pytest.mark.parametrize(
    "text", ["[" * 4000, "{" * 4000, "- " * 2000, "9" * 4000, "a" * 4000, "a: " * 1000, "[&a 1, *a]", "\u2028", "\x1b"]
)
def test_long_and_deep_values_are_one_line(text: str) -> None:
    for key in ("epochs", "base_lr", "split", "evaluate", "mid_stages", "extractor"):
        assert f".{key}" in problem(f"{key}={text}")


@pytest.mark.parametrize("text", ["a" * 4097, "a\0b", "\udcff", "\ud800"])
@pytest.mark.parametrize("key", ["weight", "epochs", "backbone", "data_root", "use_apex"])
def test_no_text_is_refused_for_every_key(text: str, key: str) -> None:
    assert f"'{key}' is '" in problem(f"{key}={text}")
    assert f"'{key}' is '" in problem(key, text)


def test_keys_of_5000_letters_are_one_line() -> None:
    for word in (
        "a" * 5000,
        "=" * 5000,
        f"{'a' * 5000}=3",
        f"TRAIN.{'a' * 5000}=3",
        "\0=1",
        "\ud800\n=1",
        "\n",
        "=1",
        "",
    ):
        assert "unknown key" in problem(word)
        assert problem(word).isprintable()


def test_home_folder_of_an_unknown_user_stays_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    settings, problems = read_words(["weight=~nobody-of-this-name/a.pth"])
    assert settings == [("TRAIN.weight", tmp_path / "~nobody-of-this-name" / "a.pth")]
    assert problems == []


# Beyond any use, and the largest that is accepted.
BOUNDS = {
    "train_h": (1_000_001, 4097),
    "train_w": (1_000_001, 4097),
    "val_size": (100_001, 4097),
    "cluster_size": (200_000, 4096),
    "assign_size": (200_000, 4096),
    "epoch_episodes": (10**13, 10**9),
    "episodes": (10**13, 10**9),
    "cluster_images": (10**13, 10**9),
    "epochs": (10**13, 10**6),
    "batch_size": (10**9, 10_000),
    "accumulate": (10**9, 10_000),
    "evaluate_every": (10**13, 10**6),
    "batch_size_val": (10**9, 10_000),
    "shot": (51, 50),
    "threads": (100_000, 1024),
    "workers": (100_000, 512),
    "neighbours": (10**8, 100_000),
    "scales": ("[1e9]", [10.0]),
    "scale_max": ("1e9", 10.0),
    "rotate_max": ("1e9", 360.0),
    "hidden_dims": (8_000_000, 8192),
    "object_prototypes": (10**9, 10_000),
    "background_prototypes": (10**9, 10_000),
    "classes": (255, 254),
    "cluster_num": (256, 255),
    "min_area": (10**13, 10**9),
    "memory_gb": ("1e13", 10.0**6),
    "stride": (10**9, 1024),
    "stage": (10**9, 100),
    "high_stage": (-(10**9), -100),
    "mid_stages": ("[1000000000]", [100]),
    "superpixel_scale": ("1e13", 10.0**9),
    "superpixel_sigma": ("1e9", 1000.0),
    "superpixel_min_size": (10**13, 10**9),
    "seed": (2**63, 2**63 - 1),
    "manual_seed": (-1, 0),
    "seeds": (f"[{2**63}]", [2**63 - 1]),
    "pictures": (10**9, 1000),
    "print_freq": (10**13, 10**9),
    "save_freq": (10**13, 10**9),
    "save_minutes": (10**6 + 1, 10**6),
    "views": (10**6, 1000),
    "views_gb": (10**7, 10.0**6),
    "base_lr": ("1e9", 1000.0),
    "lr_scale": ("1e9", 1000.0),
    "transformer_lr": ("1e9", 1000.0),
    "transformer_weight_decay": ("1e9", 1000.0),
    "weight_decay": ("1e9", 1000.0),
    "power": ("1e9", 1000.0),
    "train_gpu": ("[1000000000]", [1000]),
}


@pytest.mark.parametrize("key", BOUNDS)
def test_sizes_have_bounds(key: str) -> None:
    beyond, most = BOUNDS[key]
    message = problem(f"{key}={beyond}")
    assert f".{key}" in message and message.count(";") == 0
    config = load_config("pascal", "ssl_resnet50", [f"{key}={most}"])
    assert most in [getattr(section, key, None) for section in (config.DATA, config.Cluster, config.VIS, config.TRAIN)]


def test_every_number_has_bounds() -> None:
    """All but shares, choices, and minima, which cannot be above their maxima."""
    shares = {"object_share", "pseudo_share", "empty_share", "border_share", "image_share"}
    small = {"scale_min", "rotate_min", "momentum", *shares}
    numbers = {
        name.split(".")[1] for name, field in FIELDS.items() if re.search(r"\b(int|float)\b", str(field.annotation))
    }
    assert numbers - small - {"ignore_label"} == set(BOUNDS)
