"""One experiment with several seeds, ``TRAIN.seeds``: which run trains and tests each, and their mean and spread.

The run of a seed is that of ``TRAIN.manual_seed`` in a folder of its own, and can be continued as such. All are tested
on the same episodes, those of ``TRAIN.manual_seed``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from commands.meta_test import score_experiment
from engine.run_folder import LATEST
from engine.seed_results import SEEDS, save_seed_results, seed_folder, seeds_table
from util.config import Config
from util.distributed import done_by_first, rank
from util.errors import UserError
from util.logging import logger


def training_runs(config: Config) -> list[Config]:
    """What trains each seed, in order; the configuration itself without ``TRAIN.seeds``.

    Each seed starts from its own checkpoint where ``TRAIN.weight`` is a run folder of several seeds.
    """
    weight = config.TRAIN.weight
    own_weights = weight is not None and _has_seeds(weight)
    return [
        _run_of_seed(
            config,
            seed,
            manual_seed=seed,
            weight=seed_folder(weight, seed) / LATEST if weight is not None and own_weights else weight,
        )
        for seed in config.TRAIN.seeds
    ] or [config]


def score_seeds(config: Config) -> None:
    """Test the network of each seed, write ``seeds.json`` and log mean and spread.

    ``TRAIN.weight`` may name another run folder of several seeds. Raises ``UserError``, also for a single network.
    """
    weight, seeds = config.TRAIN.weight, config.TRAIN.seeds
    if weight is not None and not _has_seeds(weight):
        raise UserError(
            f"TRAIN.weight={weight}: one network, but TRAIN.seeds names {len(seeds)}; give the run folder that holds "
            f"{seed_folder(Path(), seeds[0])}/, or set TRAIN.seeds=[]"
        )
    if rank() == 0:
        (config.run_folder / SEEDS).unlink(missing_ok=True)
    for seed in seeds:
        trained = seed_folder(weight or config.run_folder, seed) / LATEST
        score_experiment(_run_of_seed(config, seed, weight=trained), "network")
    results = done_by_first(lambda: save_seed_results(config.run_folder, seeds))
    logger.info("results in %s\n%s", config.run_folder / SEEDS, seeds_table(results))


def _run_of_seed(config: Config, seed: int, **settings: Any) -> Config:
    """``config`` with other settings of ``TRAIN``, for one seed and in its folder."""
    own = {"seeds": [], "save_path": seed_folder(config.run_folder, seed), **settings}
    return config.model_copy(update={"TRAIN": config.TRAIN.model_copy(update=own)})


def _has_seeds(folder: Path) -> bool:
    return any(path.is_dir() for path in folder.glob("seed_*"))
