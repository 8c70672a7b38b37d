"""Which methods are compared."""

from __future__ import annotations

import pytest

from commands.experiments.methods import all_methods, choose_methods
from util.errors import UserError


def names(*only: str) -> list[str]:
    return [method.name for method in choose_methods(all_methods({100, 20}), only)]


def test_all_methods_and_those_that_are_named() -> None:
    without = ["prototype", "nearest", "untrained"]
    trained = [f"{training}_{percent}" for training in ("tuned", "joint", "scratch") for percent in (20, 100)]
    assert names() == [*without, "unsupervised", *trained]
    assert names("scratch", "nearest", "tuned_20") == ["nearest", "tuned_20", "scratch_20", "scratch_100"]


def test_an_unknown_method_is_named_with_those_there_are() -> None:
    with pytest.raises(
        UserError, match=r"--only tuned_5: no such method; there are: prototype, .*, tuned_20, .*, tuned"
    ):
        names("tuned_5")


def test_supervised_methods_have_their_share_of_the_labels() -> None:
    shares = {method.name: method.percent for method in all_methods({0.5, 100}) if method.training}
    percent = {"0.5": 0.5, "100": 100.0}
    assert shares == {f"{name}_{text}": percent[text] for name in ("tuned", "joint", "scratch") for text in percent}
