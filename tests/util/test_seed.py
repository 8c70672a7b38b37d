"""util.seed: generators are functions of their key."""

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from util.errors import UserError
from util.seed import (
    generator_states,
    numpy_random,
    python_random,
    restore_generators,
    seed_everything,
    seed_number,
    torch_random,
)

CPU = torch.device("cpu")


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


def draw() -> list[float]:
    """Normal numbers come in pairs: the second is part of the state."""
    return [random.gauss(0, 1), random.random(), np.random.randn(), np.random.rand(), float(torch.randn(1))]


def test_global_generators_go_on_where_they_were(tmp_path: Path) -> None:
    seed_everything(7)
    draw()
    torch.save(generator_states(CPU), tmp_path / "states.pth")
    expected = draw()
    seed_everything(8)
    restore_generators(torch.load(tmp_path / "states.pth", weights_only=True), CPU, tmp_path)
    assert draw() == expected


@pytest.mark.gpu
def test_the_generator_of_a_gpu_goes_on_too(tmp_path: Path) -> None:
    gpu = torch.device("cuda", 0)
    seed_everything(7)
    torch.rand(1, device=gpu)
    states = generator_states(gpu)
    expected = torch.rand(5, device=gpu)
    seed_everything(8)
    restore_generators(states, gpu, tmp_path)
    assert torch.equal(torch.rand(5, device=gpu), expected)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("python", None), ("python", (3, (1, 2), None)), ("numpy", {}), ("numpy", {"state": {"key": 1}}),
        ("torch", None), ("torch", torch.zeros(3, dtype=torch.uint8)),
    ],
)  # fmt: skip
def test_states_of_generators_that_are_none(name: str, value: Any) -> None:
    with pytest.raises(UserError, match=r"^a.pth: cannot be continued, its states of random generators are damaged"):
        restore_generators({**generator_states(CPU), name: value}, CPU, Path("a.pth"))
