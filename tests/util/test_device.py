"""util.device: the GPU that is named, the CPU where there is none to be named, and no other."""

from __future__ import annotations

import pytest
import torch

from util.device import choose_device, memory_for
from util.errors import UserError


def machine(monkeypatch: pytest.MonkeyPatch, gpus: int) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpus > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)


@pytest.mark.parametrize(
    ("gpus", "chosen", "device"),
    [(0, [0], "cpu"), (0, [], "cpu"), (1, [0], "cuda:0"), (1, [], "cpu"), (4, [3], "cuda:3"), (4, [], "cpu")],
)
def test_device(monkeypatch: pytest.MonkeyPatch, gpus: int, chosen: list[int], device: str) -> None:
    machine(monkeypatch, gpus)
    assert choose_device(chosen) == torch.device(device)


@pytest.mark.parametrize(
    ("gpus", "chosen", "message"),
    [
        (0, [3], r"^TRAIN\.train_gpu=\[3\]: this machine has 0 GPUs .*; set TRAIN\.train_gpu=\[0\]$"),
        (1, [1], r"^TRAIN\.train_gpu=\[1\]: this machine has 1 GPUs .*; set TRAIN\.train_gpu=\[0\]$"),
        (4, [4], r"this machine has 4 GPUs that CUDA can use, not one of number 4; use those from 0 to 3$"),
        (4, [0, 1], r"^TRAIN\.train_gpu=\[0, 1\]: 1 processes are here, as many different GPUs expected$"),
    ],
)
def test_gpus_that_are_refused(monkeypatch: pytest.MonkeyPatch, gpus: int, chosen: list[int], message: str) -> None:
    machine(monkeypatch, gpus)
    with pytest.raises(UserError, match=message):
        choose_device(chosen)


@pytest.mark.parametrize(
    ("gpus", "chosen", "devices"),
    [
        (4, [0], "cuda:0 cuda:1"),
        (4, [2], "cuda:2 cuda:3"),
        (4, [3, 1], "cuda:3 cuda:1"),
        (0, [0], "cpu cpu"),
    ],
)
def test_every_process_has_a_gpu_of_its_own(
    monkeypatch: pytest.MonkeyPatch, gpus: int, chosen: list[int], devices: str
) -> None:
    machine(monkeypatch, gpus)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    for process, device in enumerate(devices.split()):
        monkeypatch.setenv("LOCAL_RANK", str(process))
        assert choose_device(chosen) == torch.device(device)


@pytest.mark.parametrize(
    ("gpus", "chosen", "message"),
    [
        (1, [0], r"^TRAIN\.train_gpu=\[1\]: this machine has 1 GPUs that CUDA can use, not one of number 1"),
        (0, [0, 1], "this machine has 0 GPUs"),
        (4, [0, 0], "2 processes are here, as many different GPUs expected"),
        (4, [0, 1, 2], "2 processes are here, as many different GPUs expected"),
    ],
)
def test_processes_without_a_gpu_of_their_own(
    monkeypatch: pytest.MonkeyPatch, gpus: int, chosen: list[int], message: str
) -> None:
    machine(monkeypatch, gpus)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    monkeypatch.setenv("LOCAL_RANK", "1")
    with pytest.raises(UserError, match=message):
        choose_device(chosen)


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB."),
        RuntimeError("[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory: you tried"),
        RuntimeError("could not create a primitive"),
        RuntimeError("std::bad_alloc"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        MemoryError(),
    ],
)
def test_memory_that_runs_out_is_one_line(error: Exception) -> None:
    with pytest.raises(UserError, match=r"^memory ran out; decrease KEY$"), memory_for("KEY"):
        raise error


def test_other_errors_are_what_they_are() -> None:
    for message in ("could not create a primitive descriptor for a convolution", "shapes do not match"):
        with pytest.raises(RuntimeError, match=message), memory_for("KEY"):
            raise RuntimeError(message)
