"""Experiments by name: which ones a dataset has, and the YAML files that each consists of.

``DATASET/DATASET_EXPERIMENT.yaml`` is an experiment's own file. Without one, the experiment is composed from its name,
``ssl_FAMILY``, ``joint_FAMILY`` or ``splitN_FAMILY``. Families (the network and its sizes) are all other YAML files of
the configuration folder, for every dataset, and of ``DATASET/``, for this one.
"""

from __future__ import annotations

from pathlib import Path

from util.errors import UserError, shown

# What a name starts with, and the TRAIN.split that it stands for; 5 is all folds.
_SPLITS = {"ssl": 5, "joint": 5, "split0": 0, "split1": 1, "split2": 2, "split3": 3}
# The files of what a name starts with, each over those before it: joint training is the unsupervised with labels.
_KINDS = {"ssl": ("ssl",), "joint": ("ssl", "joint"), **{f"split{fold}": ("split",) for fold in range(4)}}
_NO_FAMILIES = ("base", "ssl", "joint", "split")


def experiment_names(folder: Path, dataset: str) -> list[str]:
    """Experiments of ``dataset``, those with a file and those that can be composed, sorted.

    ``folder`` is the configuration folder. Raises ``UserError`` for a dataset that has no ``base.yaml`` and no
    experiment's file there.
    """
    datasets = sorted(path.name for path in folder.iterdir() if _has_base(path) or _own_files(path))
    if dataset not in datasets:
        raise UserError(f"no dataset {shown(dataset)} in config/; there are: {', '.join(datasets)}")
    families = _families(folder, dataset) if _has_base(folder / dataset) else set()
    composed = {f"{start}_{family}" for start in _SPLITS for family in families}
    return sorted(composed.union(own_experiments(folder, dataset)))


def own_experiments(folder: Path, dataset: str) -> list[str]:
    """Experiments of ``dataset`` that have a file of their own, sorted."""
    return sorted(path.stem.removeprefix(f"{dataset}_") for path in _own_files(folder / dataset))


def experiment_files(folder: Path, dataset: str, experiment: str) -> list[Path]:
    """The files of an experiment, each to be read over those before it: its own file, or those it is composed of.

    Raises ``UserError`` that lists the datasets or experiments that exist when there is none of this name.
    """
    names = experiment_names(folder, dataset)
    if experiment not in names:
        raise UserError(f"no experiment {shown(experiment)} in config/{dataset}/; there are: {', '.join(names)}")
    own_folder = folder / dataset
    own_file = own_folder / f"{dataset}_{experiment}.yaml"
    if own_file.is_file():
        return [own_file]
    start, _, family = experiment.partition("_")
    kinds = [place / f"{kind}.yaml" for kind in _KINDS[start] for place in (folder, own_folder)]
    own_family = own_folder / f"{family}.yaml"
    return [
        folder / "base.yaml",
        own_folder / "base.yaml",
        *(path for path in kinds if path.parent == folder or path.is_file()),
        own_family if own_family.is_file() else folder / f"{family}.yaml",
    ]


def split_of(experiment: str) -> int | None:
    """The ``TRAIN.split`` that an experiment's name stands for; None for a name of another form."""
    start, _, family = experiment.partition("_")
    return _SPLITS.get(start) if family else None


def with_split(experiment: str, split: int) -> str:
    """The name of the experiment that differs from ``experiment`` in its ``TRAIN.split`` only."""
    start = next(start for start, number in _SPLITS.items() if number == split)
    return f"{start}_{experiment.partition('_')[2]}"


def _has_base(dataset_folder: Path) -> bool:
    return (dataset_folder / "base.yaml").is_file()


def _own_files(dataset_folder: Path) -> list[Path]:
    return [path for path in dataset_folder.glob("*.yaml") if path.name.startswith(f"{dataset_folder.name}_")]


def _families(folder: Path, dataset: str) -> set[str]:
    """Hidden files are none: systems leave previews under names like ``._resnet50.yaml``."""
    files = [*folder.glob("*.yaml"), *(folder / dataset).glob("*.yaml")]
    names = {path.stem for path in files if not path.name.startswith((".", f"{dataset}_"))}
    return names.difference(_NO_FAMILIES)
