"""Noise of a batch, whole, in parts and among processes."""

from __future__ import annotations

from unittest.mock import patch

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from model.layers.noise import ChannelDropout, Dropout, dropout, in_last_part, own_rows, part_of_batch

CPU = torch.device("cpu")
X = torch.randn(4, 6, 5, 3, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("probability", [0.1, 0.5])
def test_a_whole_batch_has_the_noise_of_torch(probability: float) -> None:
    for ours, theirs in (
        (Dropout(probability), torch.nn.Dropout(probability)),
        (ChannelDropout(probability), torch.nn.Dropout2d(probability)),
    ):
        results = []
        for module in (ours, theirs):
            x = X.clone().requires_grad_()
            torch.manual_seed(2)
            y = module(x)
            y.square().sum().backward()
            results.append((y, x.grad, torch.rand(1)))
        for one, other in zip(*results, strict=True):
            assert one is not None and other is not None and torch.equal(one, other)
        assert ours.eval()(X) is X
    torch.manual_seed(2)
    ours_again = dropout(X, probability, training=True)
    torch.manual_seed(2)
    assert torch.equal(ours_again, F.dropout(X, probability))


def draw(x: Tensor, parts: int, process: int, processes: int) -> list[Tensor]:
    """Two draws, one after the other, for the rows of a process, in parts; then a number that shows the generator."""
    with patch("model.layers.noise.rank", lambda: process), patch("model.layers.noise.world_size", lambda: processes):
        drawn = []
        for number, rows in enumerate(x.chunk(parts)):
            with part_of_batch(number, parts, CPU):
                noise = own_rows(lambda count: torch.rand(count, 2), len(rows))
                drawn.append(torch.cat([dropout(rows, 0.5, training=True).flatten(1), noise], dim=1))
                assert in_last_part() == (number == parts - 1)
    return [torch.cat(drawn), torch.rand(1)]


@pytest.mark.parametrize(("parts", "processes"), [(1, 2), (2, 1), (2, 2), (4, 1), (1, 4)])
def test_parts_and_processes_draw_what_one_draws(parts: int, processes: int) -> None:
    torch.manual_seed(3)
    expected, after = draw(X, 1, 0, 1)
    drawn = []
    for process, rows in enumerate(X.chunk(processes)):
        torch.manual_seed(3)
        own, after_own = draw(rows, parts, process, processes)
        drawn.append(own)
        assert torch.equal(after_own, after)  # all leave their generators in one state
    assert torch.equal(torch.cat(drawn), expected)
