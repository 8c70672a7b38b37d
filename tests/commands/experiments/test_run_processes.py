"""Runs as processes: their output, environment and records, and an end in order after Ctrl-C and TERM."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from commands.experiments.records import finished_runs
from commands.experiments.run_processes import OUTPUT, Processes, check_gpus, gpu_places
from commands.experiments.runs import Run
from commands.experiments.scheduling import Outcome, run_all
from tests.commands.experiments.small_study import run
from util.errors import Terminated, UserError

# Says that it runs, and writes what it has when TERM comes.
TRAINING = "trap 'echo saved > checkpoint; exit 143' TERM; touch begun; while :; do sleep 0.05; done"
DEAF = "trap '' TERM; echo $$ > begun; while :; do sleep 0.05; done"


def run_in(places: Sequence[Mapping[str, str]], runs: Sequence[Run]) -> Outcome:
    processes = Processes(places, {run.name: number for number, run in enumerate(runs, start=1)})
    with processes.ended_together():
        return run_all(runs, finished_runs(runs), processes)


def signal_when_begun(runs: Sequence[Run], *numbers: signal.Signals) -> None:
    """Send the signals to this process once all runs have begun, one after the other."""

    def send() -> None:
        while not all((run.folder / "begun").exists() for run in runs):
            time.sleep(0.02)
        for number in numbers:
            os.kill(os.getpid(), number)
            time.sleep(0.4)

    threading.Thread(target=send, daemon=True).start()


def test_runs_end_with_records_and_are_not_run_again(tmp_path: Path) -> None:
    runs = [run(tmp_path, "a", "echo x >> product"), run(tmp_path, "b", "cat ../a/product > product", "a")]
    assert run_in([{}, {}], runs).done == ["a", "b"]
    assert (runs[1].product.read_text(), run_in([{}], runs).done) == ("x\n", [])
    records = finished_runs(runs)
    assert all(record and record.whole and 0 <= record.seconds < 60 for record in records.values())
    (runs[1].folder / "finished.json").unlink()
    run_in([{}], runs)
    record = finished_runs(runs)["b"]
    assert record is not None and not record.whole  # its product was there before


def test_a_failure_is_named_with_its_last_line(tmp_path: Path, messages: list[str]) -> None:
    runs = [
        run(tmp_path, "bad", "echo first; echo 'error: the disk is full' >&2; echo; exit 2"),
        run(tmp_path, "empty", "true"),
        run(tmp_path, "good"),
        run(tmp_path, "after", "touch product", "bad"),
    ]
    outcome = run_in([{}], runs)
    assert (outcome.done, outcome.failed, outcome.left_out) == (["good"], ["bad", "empty"], ["after"])
    assert "run 1, bad: FAILED with exit code 2: error: the disk is full" in messages
    assert "run 2, empty: FAILED with exit code 0: it said nothing" in messages
    assert (runs[0].folder / OUTPUT).read_text() == "first\nerror: the disk is full\n\n"


def test_the_environment_of_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its GPU, a share of the cores, and no ``NPROC``, which is for a single training in several processes."""
    monkeypatch.setenv("NPROC", "2")
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr("commands.experiments.run_processes.available_cores", lambda: 6)
    runs = [run(tmp_path, name, 'echo "$CUDA_VISIBLE_DEVICES $NPROC. $OMP_NUM_THREADS" > product') for name in "ab"]
    run_in([{"CUDA_VISIBLE_DEVICES": "4"}, {"CUDA_VISIBLE_DEVICES": "7"}], runs)
    assert [run.product.read_text() for run in runs] == ["4 . 3\n", "7 . 3\n"]


def test_gpus_are_counted_among_those_that_may_be_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert gpu_places([0, 2]) == [{"CUDA_VISIBLE_DEVICES": "0"}, {"CUDA_VISIBLE_DEVICES": "2"}]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5,GPU-3f")
    assert gpu_places([1]) == [{"CUDA_VISIBLE_DEVICES": "GPU-3f"}]
    with pytest.raises(UserError, match="--gpus 2: CUDA_VISIBLE_DEVICES=5,GPU-3f has 2, counted from 0"):
        gpu_places([0, 2])


def test_a_gpu_that_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    check_gpus([1, 0])
    with pytest.raises(UserError, match="--gpus 2: this machine has 2 GPUs that CUDA can use; counted from 0"):
        check_gpus([2])


@pytest.mark.parametrize(("number", "kind"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, Terminated)])
def test_an_interruption_ends_all_runs_in_order(tmp_path: Path, number: signal.Signals, kind: type) -> None:
    runs = [run(tmp_path, name, TRAINING) for name in ("a", "b")] + [run(tmp_path, "later")]
    signal_when_begun(runs[:2], number)
    with pytest.raises(kind, match="2 runs in progress were ended; the same command continues them"):
        run_in([{}, {}], runs)
    assert [(run.folder / "checkpoint").exists() for run in runs] == [True, True, False]
    assert finished_runs(runs) == {}


def test_a_second_interruption_kills(tmp_path: Path) -> None:
    runs = [run(tmp_path, "deaf", DEAF)]
    signal_when_begun(runs, signal.SIGINT, signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        run_in([{}], runs)
    with pytest.raises(ProcessLookupError):
        os.kill(int((runs[0].folder / "begun").read_text()), 0)


def test_no_run_outlives_a_mistake_of_the_scheduler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("commands.experiments.run_processes.write_record", full)
    runs = [run(tmp_path, "a", "while ! [ -e ../b/begun ]; do sleep 0.02; done; touch product"),
            run(tmp_path, "b", TRAINING)]  # fmt: skip
    with pytest.raises(OSError, match="No space left"):
        run_in([{}, {}], runs)
    assert (runs[1].folder / "checkpoint").exists()
