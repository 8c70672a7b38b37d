"""The commands that a comparison of methods takes, as a table: what each does, needs and leaves."""

from __future__ import annotations

import sys
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from commands.experiments.methods import SHOTS, UNSUPERVISED, Method
from commands.experiments.work import Work, count_images, work_of_masks, work_of_test, work_of_training
from engine.results import RESULTS
from engine.seed_results import seed_folder
from util.config import Config
from util.files import PROJECT, digest_lines

_CHECKPOINT = "latest.pth"  # engine.run_folder.LATEST, which needs torch
_MASKS = "masks"
# Settings of TRAIN that change no result.
_FREE = {"train_gpu", "workers", "print_freq", "save_freq", "save_minutes"}


@dataclass(frozen=True)
class Study:
    """What is to be compared: ``methods`` on all folds, of those that are trained several ``seeds``.

    ``folder`` holds the runs; ``lists`` are the training lists by percent of the labels, of which those of ``drawn``
    are made by a run; ``words`` are settings for every command; ``unsupervised`` and ``folds`` are the configurations
    that they give.
    """

    dataset: str
    folder: Path
    methods: Sequence[Method]
    seeds: Sequence[int]
    lists: Mapping[float, Path]
    drawn: Collection[float]
    words: Sequence[str]
    unsupervised: Config
    folds: Sequence[Config]

    def tests_of(self, method: Method, fold: int, shots: int) -> Path:
        """Where the tests of a method are; those of its seeds are in folders of their own there."""
        return self.folder / method.name / f"fold{fold}_{shots}shot"


@dataclass(frozen=True)
class Run:
    """A command: ``product`` is the file that it leaves, ``needs`` are the runs whose products it reads.

    ``folder`` holds its output and the record that it is finished, ``settings`` is a digest of what its product depends
    on. The runs of a ``stage`` need only those of earlier stages, from 1.
    """

    name: str
    command: tuple[str, ...]
    folder: Path
    product: Path
    settings: str
    work: Work
    needs: tuple[str, ...] = ()
    stage: int = 0


def all_runs(study: Study) -> list[Run]:
    """The runs of ``study``, by stage."""
    stages: dict[str, int] = {}
    runs = []
    for run in (*_preparations(study), *_trainings(study), *_tests(study)):
        stages[run.name] = 1 + max((stages[need] for need in run.needs), default=0)
        runs.append(replace(run, stage=stages[run.name]))
    return sorted(runs, key=lambda run: run.stage)


def _preparations(study: Study) -> Iterator[Run]:
    """Pseudo masks, and the lists with a share of the labels."""
    if _needs_masks(study):
        config = study.unsupervised
        data_root = config.DATA.data_root
        words = (*study.words, f"experiment={config.experiment}", f"DATA.data_root={data_root}")
        yield Run(
            name=_MASKS,
            command=_script("masks/create.sh", str(data_root.parent), study.dataset, *words),
            folder=study.folder / _MASKS,
            product=config.pseudo_folder / "manifest.json",
            settings=_settings(config),
            work=work_of_masks(config),
        )
    data = study.folds[0].DATA
    for percent in sorted(study.drawn):
        yield Run(
            name=f"lists/{percent:g}",
            command=(
                *(sys.executable, str(PROJECT / "util" / "launch.py"), "-m", "prepare", "subset"),
                *(str(data.train_list), "--root", str(data.data_root), "--percent", f"{percent:g}"),
                *("--min-area", str(data.min_area)),
            ),
            folder=study.folder / "lists" / f"{percent:g}",
            product=study.lists[percent],
            settings="",
            work=Work(),
        )


def _trainings(study: Study) -> Iterator[Run]:
    for seed in study.seeds:
        if _needs_unsupervised(study):
            config = study.unsupervised
            images = count_images(config.DATA.train_list, study.dataset)
            yield replace(_training(study, config, Path(UNSUPERVISED), seed, images), needs=(_MASKS,))
        for method in study.methods:
            for fold, config in enumerate(study.folds) if method.training else ():
                yield _supervised(study, method, fold, config, seed)


def _supervised(study: Study, method: Method, fold: int, config: Config, seed: int) -> Run:
    assert method.training is not None
    train_list, start, pseudo_share = study.lists[method.percent], method.training.start, method.training.pseudo_share
    images = count_images(train_list, study.dataset)
    if images is None:
        whole = count_images(config.DATA.train_list, study.dataset)
        images = None if whole is None else int(whole * method.percent / 100)
    words = [*method.training.words, f"DATA.train_list={train_list}"]
    needs = [f"lists/{method.percent:g}"] if method.percent in study.drawn else []
    if pseudo_share:
        words += [f"TRAIN.pseudo_share={pseudo_share:g}", f"DATA.pseudo_list={study.unsupervised.DATA.train_list}"]
        needs.append(_MASKS)
    run = _training(study, config, Path(method.name) / f"fold{fold}", seed, images, *words)
    if start is None:
        return replace(run, needs=tuple(needs))
    network = seed_folder(Path(start), seed)
    weight = f"TRAIN.weight={study.folder / network / _CHECKPOINT}"
    return replace(
        run,
        command=(*run.command, weight),
        needs=(*needs, str(network)),
        settings=digest_lines([run.settings, start]),
    )


def _training(study: Study, config: Config, name: Path, seed: int, images: int | None, *words: str) -> Run:
    """The training of one seed, from scratch; ``images`` has its list."""
    folder = seed_folder(study.folder / name, seed)
    own = (*words, f"TRAIN.manual_seed={seed}")
    place = (f"TRAIN.save_path={folder}", "TRAIN.seeds=[]")
    return Run(
        name=str(seed_folder(name, seed)),
        command=_script("train.sh", study.dataset, config.experiment, *study.words, *own, *place),
        folder=folder,
        product=folder / _CHECKPOINT,
        settings=_settings(config, *own),
        work=work_of_training(config, images),
    )


def _tests(study: Study) -> Iterator[Run]:
    for method in study.methods:
        for fold, config in enumerate(study.folds):
            for shots in SHOTS:
                folder = study.tests_of(method, fold, shots)
                if not method.is_trained:
                    yield _test(study, config, folder, shots, "--method", method.name)
                    continue
                trained = Path(method.name) / f"fold{fold}" if method.training else Path(method.name)
                for seed in study.seeds:
                    network = seed_folder(trained, seed)
                    run = _test(study, config, seed_folder(folder, seed), shots)
                    weight = f"TRAIN.weight={study.folder / network / _CHECKPOINT}"
                    yield replace(run, command=(*run.command, weight), needs=(str(network),))


def _test(study: Study, config: Config, folder: Path, shots: int, *words: str) -> Run:
    """The test in ``folder`` of what ``words`` say."""
    own = (*words, f"TRAIN.shot={shots}")
    place = (f"TRAIN.save_path={folder}", "TRAIN.seeds=[]")
    return Run(
        name=str(folder.relative_to(study.folder)),
        command=_script("test.sh", study.dataset, config.experiment, *study.words, *own, *place),
        folder=folder,
        product=folder / RESULTS,
        settings=_settings(config, *own),
        work=work_of_test(config, shots),
    )


def _needs_unsupervised(study: Study) -> bool:
    return any(
        method.name == UNSUPERVISED or (method.training is not None and method.training.start == UNSUPERVISED)
        for method in study.methods
    )


def _needs_masks(study: Study) -> bool:
    return _needs_unsupervised(study) or any(
        method.training is not None and method.training.pseudo_share > 0 for method in study.methods
    )


def _script(name: str, *words: str) -> tuple[str, ...]:
    return "sh", str(PROJECT / name), *words


def _settings(config: Config, *words: str) -> str:
    """A digest of the configuration, and of the words that change it."""
    sections = config.model_dump(mode="json")
    sections["TRAIN"] = {key: value for key, value in sections["TRAIN"].items() if key not in _FREE}
    return digest_lines([repr(sections), *words])
