"""util.config.experiments: which experiments there are, and the files of each."""

from __future__ import annotations

from pathlib import Path

import pytest

from util.config.experiments import experiment_files, experiment_names, own_experiments, split_of, with_split
from util.errors import UserError

SHARED = ("base", "ssl", "joint", "split", "small", "large", "._large")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A configuration folder with two families and the dataset ``birds``, known by its base.yaml."""
    for name in SHARED:
        (tmp_path / f"{name}.yaml").touch()
    (tmp_path / "birds").mkdir()
    (tmp_path / "birds" / "base.yaml").touch()
    return tmp_path


def files(folder: Path, experiment: str) -> list[str]:
    return [path.relative_to(folder).as_posix() for path in experiment_files(folder, "birds", experiment)]


def starts(family: str) -> list[str]:
    return [f"{start}_{family}" for start in ("split0", "split1", "split2", "split3", "ssl", "joint")]


def test_a_base_is_enough_for_all_experiments_of_the_families(folder: Path) -> None:
    assert experiment_names(folder, "birds") == sorted([*starts("small"), *starts("large")])
    assert own_experiments(folder, "birds") == []
    assert files(folder, "ssl_small") == ["base.yaml", "birds/base.yaml", "ssl.yaml", "small.yaml"]
    assert files(folder, "split2_large") == ["base.yaml", "birds/base.yaml", "split.yaml", "large.yaml"]
    assert files(folder, "joint_small") == ["base.yaml", "birds/base.yaml", "ssl.yaml", "joint.yaml", "small.yaml"]


def test_files_of_the_dataset_take_part(folder: Path) -> None:
    for name in ("ssl", "large", "tiny"):
        (folder / "birds" / f"{name}.yaml").touch()
    assert experiment_names(folder, "birds") == sorted([*starts("small"), *starts("large"), *starts("tiny")])
    assert files(folder, "ssl_large")[2:] == ["ssl.yaml", "birds/ssl.yaml", "birds/large.yaml"]
    assert files(folder, "split0_tiny")[2:] == ["split.yaml", "birds/tiny.yaml"]
    assert files(folder, "joint_tiny")[2:] == ["ssl.yaml", "birds/ssl.yaml", "joint.yaml", "birds/tiny.yaml"]
    (folder / "birds" / "joint.yaml").touch()
    assert files(folder, "joint_large")[4:] == ["joint.yaml", "birds/joint.yaml", "birds/large.yaml"]
    (folder / "cats").mkdir()
    (folder / "cats" / "base.yaml").touch()
    assert experiment_names(folder, "cats") == sorted([*starts("small"), *starts("large")])


def test_an_own_file_comes_before_a_composition(folder: Path) -> None:
    for name in ("birds_ssl_small", "birds_nightly"):
        (folder / "birds" / f"{name}.yaml").touch()
    assert experiment_names(folder, "birds") == sorted(["nightly", *starts("small"), *starts("large")])
    assert own_experiments(folder, "birds") == ["nightly", "ssl_small"]
    assert files(folder, "ssl_small") == ["birds/birds_ssl_small.yaml"]
    assert files(folder, "nightly") == ["birds/birds_nightly.yaml"]


def test_own_files_make_a_dataset_known_without_a_base(folder: Path) -> None:
    (folder / "birds" / "base.yaml").rename(folder / "birds" / "birds_ssl_mine.yaml")
    assert experiment_names(folder, "birds") == ["ssl_mine"]


def test_unknown_names_list_the_known_ones(folder: Path) -> None:
    (folder / "empty").mkdir()
    for dataset in ("empty", "../birds", "", "."):
        with pytest.raises(UserError, match=r"no dataset '.*' in config/; there are: birds$"):
            experiment_names(folder, dataset)
    for experiment in ("split4_small", "ssl", "ssl_", "small", "ssl_base", "ssl_joint", "ssl_../small"):
        with pytest.raises(
            UserError, match=r"no experiment '.*' in config/birds/; there are: joint_large, .*ssl_small$"
        ):
            experiment_files(folder, "birds", experiment)


NO_NAMES = ("", ".", "..", "/", "../birds", "birds/", "birds/../birds", "a" * 5000, "birds\0", "\udcff", "*", "[b]irds")


@pytest.mark.parametrize("name", NO_NAMES)
def test_what_is_no_name_is_one_short_line(folder: Path, name: str) -> None:
    (folder / "birds" / "birds_ssl_own.yaml").touch()
    for names in (("birds", name), ("birds", f"ssl_{name}"), (name, "ssl_small")):
        with pytest.raises(UserError, match=r"^no (dataset|experiment) '.*'.* in config/") as caught:
            experiment_files(folder, *names)
        assert str(caught.value).isprintable()
        assert len(str(caught.value)) < 400


def test_names_are_no_patterns(folder: Path) -> None:
    for dataset, experiment in [("[b]irds", "ssl_own"), ("a*", "ssl_other")]:
        (folder / dataset).mkdir()
        (folder / dataset / f"{dataset}_{experiment}.yaml").touch()
        assert experiment_names(folder, dataset) == [experiment]


def test_the_split_of_a_name() -> None:
    assert [split_of(name) for name in starts("large")] == [0, 1, 2, 3, 5, 5]
    assert [split_of(name) for name in ("ssl", "ssl_", "split4_large", "mine", "mine_split0")] == [None] * 5
    assert with_split("ssl_some_family", 2) == "split2_some_family"
    assert with_split("split0_large", 5) == "ssl_large"
