"""Workers of loaders: signals, a user's error, what one line says when a worker dies."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
import time

import pytest

from episodes import loader_workers
from episodes.lists import ImageList
from episodes.loaders import EpisodeLoader, make_loader
from episodes.supervised import SupervisedEpisodes
from tests.episodes.test_loaders import read
from tests.time_limit import time_limit
from util.errors import UserError


def test_signals_are_the_parents(training: SupervisedEpisodes) -> None:
    """Ctrl-C and Slurm send them to all processes; a training needs a worker until it has saved."""
    parent = os.getpid()

    class Signalled:
        def __getitem__(self, key: tuple[int, int]) -> object:
            assert os.getpid() != parent
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
                os.kill(os.getpid(), number)
            return training[key]

    loader = make_loader(
        Signalled(),  # type: ignore[arg-type]
        epoch=0, episodes=4, batch_size=4, workers=1, drop_last=False,
    )  # fmt: skip
    assert len(list(loader)) == 1


def test_a_signal_before_a_worker_ignores_it(training: SupervisedEpisodes, monkeypatch: pytest.MonkeyPatch) -> None:
    """TERM to all processes while an epoch's workers start: the parent alone heeds it, and once they have started."""
    noted: list[int] = []
    parent, earlier = os.getpid(), signal.signal(signal.SIGTERM, lambda number, _: noted.append(number))

    def start_late(worker: int) -> None:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
            os.kill(os.getpid(), number)
        loader_workers.start_worker(worker)
        os.kill(parent, signal.SIGTERM)

    monkeypatch.setattr("episodes.loaders.start_worker", start_late)
    loader = make_loader(training, epoch=0, episodes=4, batch_size=4, workers=1, drop_last=False)
    with time_limit(100):
        assert len(list(loader)) == 1
    signal.signal(signal.SIGTERM, earlier)
    assert noted == [signal.SIGTERM]


@pytest.mark.parametrize("workers", [0, 2])
def test_a_user_error_comes_out_of_a_worker_as_one_line(
    training: SupervisedEpisodes, images: ImageList, workers: int
) -> None:
    for row in range(len(images)):
        images.image_path(row).write_bytes(b"no image")
    with pytest.raises(UserError) as caught:
        read(training, workers=workers)
    assert "not a readable image" in str(caught.value)
    assert "Traceback" not in str(caught.value) and "\n" not in str(caught.value)


def test_a_worker_whose_parent_was_killed_before_it_began_ends() -> None:
    """Torch watches over the parent that a worker has when it begins; such a worker has outlived its own."""
    fork = multiprocessing.get_context("fork")
    reader, writer = fork.Pipe(duplex=False)

    def work() -> None:
        parent = multiprocessing.parent_process()
        while parent is not None and os.getppid() == parent.pid:
            time.sleep(0.01)
        loader_workers.start_worker(0)
        writer.send("begun")

    def start_and_die() -> None:
        fork.Process(target=work).start()
        os.kill(os.getpid(), signal.SIGKILL)

    fork.Process(target=start_and_die).start()
    writer.close()
    with time_limit(60), pytest.raises(EOFError):
        reader.recv()


def test_a_worker_reports_what_fails_but_not_that_its_parent_is_gone(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    loader_workers.start_worker(0)
    for error in (BrokenPipeError("gone"), EOFError("gone"), ValueError("ours")):
        sys.excepthook(type(error), error, None)
    assert capsys.readouterr().err == "ValueError: ours\n"


class Dying:
    """Episodes whose worker ends itself by a signal when the second batch of two is read."""

    def __init__(self, episodes: SupervisedEpisodes, number: signal.Signals) -> None:
        self.episodes = episodes
        self.number = number

    def __getitem__(self, key: tuple[int, int]) -> object:
        if key[1] >= 2:
            os.kill(os.getpid(), self.number)
        return self.episodes[key]


def dying_loader(episodes: SupervisedEpisodes, number: signal.Signals) -> EpisodeLoader:
    dataset = Dying(episodes, number)
    return make_loader(dataset, epoch=0, episodes=4, batch_size=2, workers=2, drop_last=False)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("number", "message"),
    [
        (
            signal.SIGKILL,
            r"^the system has killed a process .* because memory ran out; .* decrease TRAIN\.workers",
        ),
        (signal.SIGBUS, r"^/dev/shm is full: .*; make it larger .* or decrease TRAIN\.workers, .*; then run the same"),
    ],
)
def test_a_worker_that_the_system_kills(training: SupervisedEpisodes, number: signal.Signals, message: str) -> None:
    with time_limit(60), pytest.raises(UserError, match=message) as raised:
        list(dying_loader(training, number))
    assert raised.value.__cause__ is not None  # its traceback holds what torch reads from
    assert not multiprocessing.active_children()
    assert len(read(training, workers=1)) == 3  # another loader is not blamed for it


def test_a_worker_that_a_defect_ends_is_no_mistake_of_the_user(training: SupervisedEpisodes) -> None:
    with time_limit(60), pytest.raises(RuntimeError, match="DataLoader worker"):
        list(dying_loader(training, signal.SIGSEGV))


def test_a_step_that_has_begun_is_finished(training: SupervisedEpisodes) -> None:
    """So the weights after it are whole, whenever the worker was killed."""
    batches = iter(make_loader(training, epoch=0, episodes=12, batch_size=1, workers=1, drop_last=False))
    next(batches)
    (worker,) = multiprocessing.active_children()
    worker.kill()
    os.waitid(os.P_PID, worker.pid or 0, os.WEXITED | os.WNOWAIT)
    time.sleep(0.01)  # here a handler of SIGCHLD would raise
    with time_limit(60), pytest.raises(UserError, match="killed a process that reads images"):
        next(batches)


def test_shared_memory_that_is_full(training: SupervisedEpisodes, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a worker reports it that is not killed by it."""

    def refuse(*_: object) -> None:
        raise RuntimeError("unable to allocate shared memory(shm) for file </torch_1>: No space left on device (28)")

    monkeypatch.setattr(loader_workers, "_next", refuse)
    with pytest.raises(UserError, match=r"^/dev/shm is full: "):
        read(training)


def test_a_worker_that_no_longer_answers_is_dead(training: SupervisedEpisodes, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its connection ends a moment before it does."""

    def refused(batches: object, default: object) -> object:
        (worker,) = multiprocessing.active_children()
        threading.Timer(0.05, worker.kill).start()
        raise ConnectionResetError

    monkeypatch.setattr(loader_workers, "next", refused, raising=False)
    with time_limit(60), pytest.raises(UserError, match="killed a process that reads images"):
        read(training, workers=1)


def test_nobody_waits_for_the_workers_that_a_defect_leaves(training: SupervisedEpisodes) -> None:
    batches = iter(make_loader(training, epoch=0, episodes=12, batch_size=1, workers=2, drop_last=False))
    next(batches)
    left = multiprocessing.active_children()
    loader_workers._end_all_workers()
    with time_limit(60):
        for worker in left:
            worker.join()
    assert [worker.exitcode for worker in left] == [-signal.SIGKILL] * 2
