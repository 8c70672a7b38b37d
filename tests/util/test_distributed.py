"""What processes exchange, checked in two real processes of torchrun."""

from __future__ import annotations

import copy
import os
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path

import pytest
import torch
from torch import nn

from util import distributed
from util.errors import UserError, run_command
from util.files import PROJECT
from util.logging import logger, start_logging
from util.processes import process_group, require_one_process


def torchrun(case: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run ``case`` of ``main`` in two processes."""
    torch_run = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    command = [*torch_run, "-m", "tests.util.test_distributed", case, str(folder)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.run(command, cwd=PROJECT, env=environment, capture_output=True, text=True, timeout=300)


@pytest.mark.slow
def test_two_processes_agree(tmp_path: Path) -> None:
    done = torchrun("agree", tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "0").exists() and (tmp_path / "1").exists()
    assert done.stderr.count("said by one") == 1


@pytest.mark.slow
@pytest.mark.parametrize("case", ["one_fails", "both_fail"])
def test_failure_ends_all_and_is_reported_once(tmp_path: Path, case: str) -> None:
    done = torchrun(case, tmp_path)
    assert done.returncode != 0
    assert done.stderr.count("error: what went wrong") == 1
    assert "Connection closed" not in done.stderr
    assert not (tmp_path / "0").exists() and not (tmp_path / "1").exists()


@pytest.mark.parametrize(("processes", "refused"), [(None, False), ("1", False), ("2", True), ("many", True)])
def test_commands_of_one_process(monkeypatch: pytest.MonkeyPatch, processes: str | None, refused: bool) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    if processes is not None:
        monkeypatch.setenv("WORLD_SIZE", processes)
    with pytest.raises(UserError, match="in one process, not") if refused else nullcontext():
        require_one_process("train.py")


def test_a_process_of_its_own_is_a_group_of_one() -> None:
    layer = nn.BatchNorm1d(2)
    layer(torch.rand(4, 2)).sum().backward()
    mean, gradient = layer.get_buffer("running_mean").clone(), copy.deepcopy(layer.bias.grad)
    with process_group():
        assert (distributed.rank(), distributed.world_size()) == (0, 1)
        assert distributed.summed(torch.ones(2)).tolist() == [1, 1]
        assert distributed.gathered("a") == ["a"] and distributed.from_first("a") == "a"
        assert distributed.joined(torch.ones(3, 2)).shape == (3, 2)
        assert distributed.highest([1, 0]) == [1, 0] and distributed.done_by_first(lambda: "b") == "b"
        assert distributed.describe_processes() == ""
        assert distributed.own_workers(3) == 3
        distributed.average_gradients(layer.parameters())
        distributed.average_statistics(layer)
        distributed.wait_for_all()
    assert torch.equal(layer.get_buffer("running_mean"), mean)
    torch.testing.assert_close(layer.bias.grad, gradient, rtol=0, atol=0)


_TORCHRUN = {"WORLD_SIZE": "2", "RANK": "0", "MASTER_ADDR": "localhost", "MASTER_PORT": "29500"}


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"WORLD_SIZE": "x"}, "WORLD_SIZE=x: a number from 1 expected; torchrun sets it"),
        ({"WORLD_SIZE": ""}, "WORLD_SIZE=: a number from 1"),
        ({"WORLD_SIZE": "0"}, "WORLD_SIZE=0: a number from 1"),
        ({"WORLD_SIZE": "9" * 5000}, "WORLD_SIZE=99"),
        ({"RANK": None}, "RANK is not set, but WORLD_SIZE is; torchrun sets it"),
        ({"RANK": "-1"}, "RANK=-1: a number from 0"),
        ({"RANK": "2"}, "RANK=2: a number below WORLD_SIZE=2 expected"),
        ({"MASTER_ADDR": None}, "MASTER_ADDR is not set"),
        ({"MASTER_PORT": None}, "MASTER_PORT is not set"),
        ({"MASTER_PORT": "http"}, "MASTER_PORT=http: a number"),
    ],
)
def test_an_environment_that_torchrun_does_not_make(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str | None], message: str
) -> None:
    for name, value in {**_TORCHRUN, **variables}.items():
        monkeypatch.setenv(name, value) if value is not None else monkeypatch.delenv(name, raising=False)
    with pytest.raises(UserError, match=f"^{message}[^\n]*$"), process_group():
        pass


def test_numbers_of_a_machine_are_checked_where_they_are_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "0")
    with pytest.raises(UserError, match="LOCAL_WORLD_SIZE=0: a number from 1 expected"):
        distributed.own_workers(3)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    assert distributed.own_workers(3) == 2


def main(arguments: list[str]) -> None:
    """Run in each process: leave a file named like the rank where all is as it should be."""
    case, folder = arguments
    start_logging()
    with process_group():
        rank = distributed.rank()
        if case == "both_fail" or (case == "one_fails" and rank == 1):
            raise UserError("what went wrong")
        _check_exchange(rank)
        _check_averages(rank)
        logger.info("said by one")
        (Path(folder) / str(rank)).touch()


def _check_exchange(rank: int) -> None:
    assert distributed.world_size() == 2
    assert distributed.summed(torch.tensor([1.0, rank])).tolist() == [2, 1]
    assert distributed.gathered({"rank": rank}) == [{"rank": 0}, {"rank": 1}]
    assert distributed.from_first({"state": torch.full((2,), rank)})["state"].tolist() == [0, 0]
    rows = torch.full((2, 3), float(rank), requires_grad=True)
    joined = distributed.joined(rows.T.contiguous().T)
    assert joined[:, 0].tolist() == [0, 0, 1, 1] and not joined.requires_grad
    assert [distributed.own_workers(workers) for workers in (0, 1, 2, 3)] == [0, 1, 1, 2]
    assert distributed.highest([2 * rank, 1 - rank]) == [2, 1]
    called = []
    assert distributed.done_by_first(lambda: called.append(rank) or "of the first") == "of the first"  # type: ignore
    assert called == [0] * (rank == 0) and distributed.describe_processes() == " in 2 processes"
    distributed.wait_for_all()


def _check_averages(rank: int) -> None:
    convolution, norm, frozen = nn.Conv2d(2, 3, 2), nn.BatchNorm2d(3), nn.Conv2d(3, 1, 1).requires_grad_(False)
    network = nn.Sequential(convolution, norm, frozen).to(memory_format=torch.channels_last)
    gradient = torch.arange(24.0).view(3, 2, 2, 2)
    convolution.weight.grad = (gradient * rank).to(memory_format=torch.channels_last)  # as backward lays it out
    norm.bias.grad = torch.arange(3) * (1.0 + rank)
    norm.get_buffer("running_mean").add_(rank)
    distributed.average_gradients(network.parameters())
    distributed.average_statistics(network)
    assert torch.equal(convolution.weight.grad, gradient / 2) and norm.bias.grad.tolist() == [0, 1.5, 3]
    assert norm.get_buffer("running_mean").tolist() == [0.5] * 3 and frozen.weight.grad is None


if __name__ == "__main__":
    run_command(main)
