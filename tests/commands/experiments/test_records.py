"""What is finished, and what is not any more."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from commands.experiments.records import Record, finished_runs, write_record
from commands.experiments.runs import Run
from tests.commands.experiments.small_study import run
from util.errors import UserError
from util.files import write_text


@pytest.fixture
def runs(tmp_path: Path) -> list[Run]:
    """A training and its test, both finished, in this order."""
    runs = [run(tmp_path, "training"), run(tmp_path, "test", "touch product", "training")]
    for moment, each in enumerate(runs):
        write_text(each.product, "")
        write_record(each, 7.5, whole=True)
        os.utime(each.folder / "finished.json", (moment, moment))
    return runs


def test_what_was_run_is_finished(runs: list[Run]) -> None:
    assert finished_runs(runs) == dict.fromkeys(["training", "test"], Record(settings="some", seconds=7.5, whole=True))


def test_a_product_that_is_gone_and_what_needs_it(runs: list[Run]) -> None:
    runs[0].product.unlink()
    assert finished_runs(runs) == {}


def test_other_settings(runs: list[Run]) -> None:
    assert list(finished_runs([runs[0], replace(runs[1], settings="others")])) == ["training"]
    assert list(finished_runs([replace(runs[0], settings="others"), runs[1]])) == []


def test_a_training_that_was_run_again_since_its_test(runs: list[Run]) -> None:
    write_record(runs[0], 1.0, whole=False)
    assert list(finished_runs(runs)) == ["training"]


def test_a_list_that_is_there_needs_no_record(tmp_path: Path) -> None:
    shares = replace(run(tmp_path, "lists"), settings="")
    assert finished_runs([shares]) == {}
    write_text(shares.product, "a b\n")
    assert finished_runs([shares]) == {"lists": None}


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"settings": "some", "seconds": -1, "whole": true}'])
def test_a_damaged_record_is_one_line(runs: list[Run], content: str) -> None:
    (runs[0].folder / "finished.json").write_text(content)
    with pytest.raises(UserError, match=r"training/finished\.json: .*; delete it, and the run is looked at again"):
        finished_runs(runs)
