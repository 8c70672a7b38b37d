"""util.seed: generators are functions of their key."""

import random

import numpy as np
import torch

from util.seed import numpy_random, python_random, seed_everything, seed_number, torch_random


def test_numbers_stay_as_they_are() -> None:
    """Frozen: published results depend on these."""
    assert seed_number(123) == 3315003314630642307
    assert seed_number(123, "epoch", 4) == 1334815710319968687


def test_keys_do_not_run_into_each_other() -> None:
    keys = [(1, 23), (12, 3), (123,), ("123",), (123, ""), ((1, 23),)]
    assert len({seed_number(*key) for key in keys}) == len(keys)


def test_numbers_fit_every_generator() -> None:
    assert all(0 <= seed_number(index) < 2**63 for index in range(1000))


def test_same_key_same_stream_whatever_ran_before() -> None:
    first = python_random(1, "a").random(), numpy_random(1, "a").random(), torch.rand(1, generator=torch_random(1, "a"))
    random.random(), np.random.rand(), torch.rand(1)
    second = (
        python_random(1, "a").random(),
        numpy_random(1, "a").random(),
        torch.rand(1, generator=torch_random(1, "a")),
    )
    assert first == second


def test_own_generators_leave_the_global_ones_alone() -> None:
    draws = []
    for use_own in (False, True):
        seed_everything(7)
        if use_own:
            python_random(1).random(), numpy_random(1).random(), torch.rand(1, generator=torch_random(1))
        draws.append(global_draws())
    assert draws[0] == draws[1]


def test_seed_everything_seeds_all_three() -> None:
    draws = []
    for _ in range(2):
        seed_everything(5, "epoch", 1)
        draws.append(global_draws())
    assert draws[0] == draws[1]


def global_draws() -> tuple[float, float, float]:
    return random.random(), float(np.random.rand()), float(torch.rand(1))
