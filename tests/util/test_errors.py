"""How a command ends: exit codes, and one line for what a user can mend."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from util.errors import Terminated, UserError, importing, run_command, shown
from util.files import atomic_write, write_text
from util.launch import end_before_work

INTERRUPTED = "interrupted: the same command continues from what is on the disk\n"


def end(main: Callable[[], object], *arguments: str) -> int | str | None:
    def command(_: list[str]) -> None:
        main()

    with pytest.raises(SystemExit) as exit_:
        run_command(command, list(arguments))
    return exit_.value.code


def raising(error: BaseException) -> Callable[[], object]:
    def main() -> None:
        raise error

    return main


def test_a_mistake_of_the_user(capsys: pytest.CaptureFixture[str]) -> None:
    assert end(raising(UserError("a.txt: not found"))) == 2
    assert capsys.readouterr().err == "error: a.txt: not found\n"
    assert end(raising(UserError("a.txt: not found")), "--debug") == 2
    assert "Traceback" in capsys.readouterr().err


def test_one_line_whatever_the_name(capsys: pytest.CaptureFixture[str]) -> None:
    assert end(raising(UserError("a\nb\u2028.txt: not found"))) == 2
    assert capsys.readouterr().err == "error: a b .txt: not found\n"


def test_what_a_user_wrote_is_shown_in_short() -> None:
    assert [shown(value) for value in ("a", 1, 0.5, None, ["a", 1], Path("a"))] == [
        *("'a'", "1", "0.5", "None", "['a', 1]", "PosixPath('a')")
    ]
    for value in ("a" * 5000, 10**4000, ["a" * 5000] * 5000, Path("a" * 5000), "\0\udcff\n"):
        assert len(shown(value)) < 700
        assert shown(value).isprintable()


def test_ctrl_c(capsys: pytest.CaptureFixture[str]) -> None:
    assert end(raising(KeyboardInterrupt())) == 130
    assert capsys.readouterr().err == INTERRUPTED


def test_a_command_may_say_what_an_interruption_leaves(capsys: pytest.CaptureFixture[str]) -> None:
    assert end(raising(Terminated("saved after step 3"))) == 143
    assert capsys.readouterr().err == "interrupted: saved after step 3\n"


def test_usr1_ends_no_command() -> None:
    """Slurm sends it ahead of a time limit."""
    run_command(lambda _: os.kill(os.getpid(), signal.SIGUSR1), [])


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_signals(capsys: pytest.CaptureFixture[str], number: signal.Signals, code: int) -> None:
    cleaned_up = []

    def main() -> None:
        try:
            os.kill(os.getpid(), number)
            time.sleep(30)
        except KeyboardInterrupt:
            cleaned_up.append(number)
            raise

    assert end(main) == code
    assert (capsys.readouterr().err, cleaned_up) == (INTERRUPTED, [number])
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def test_term_ends_a_worker_and_a_process_under_torchrun_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    statuses: list[int] = []

    def main() -> None:
        worker = os.fork()
        if worker == 0:
            try:
                os.kill(os.getpid(), signal.SIGTERM)
            finally:
                os._exit(0)
        statuses.append(os.waitstatus_to_exitcode(os.waitpid(worker, 0)[1]))

    run_command(lambda _: main(), [])
    assert statuses == [-signal.SIGTERM]
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "1")
    run_command(lambda _: statuses.append(signal.getsignal(signal.SIGTERM) == signal.SIG_DFL), [])
    assert statuses[1:] == [True]


def test_a_signal_that_is_ignored_stays_ignored() -> None:
    """A shell makes its background jobs deaf to Ctrl-C."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        run_command(lambda _: os.kill(os.getpid(), signal.SIGINT), [])
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_name_that_is_not_text_is_printed(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    run_command(lambda _: print(os.fsdecode(b"exp/\xff")), [])
    assert capfdbinary.readouterr().out == b"exp/\\udcff\n"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device of Linux")
def test_a_full_disk_names_the_file_and_leaves_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def fill() -> None:
        with atomic_write(tmp_path / "a.txt") as temporary:
            temporary.symlink_to("/dev/full")
            temporary.write_text("too much")

    assert end(fill) == 2
    expected = f"error: {tmp_path / 'a.txt'}: No space left on device; free some space and run the same command again\n"
    assert capsys.readouterr().err == expected
    assert not list(tmp_path.iterdir())


def test_files_that_may_not_be_touched(capsys: pytest.CaptureFixture[str]) -> None:
    assert end(raising(PermissionError(errno.EACCES, os.strerror(errno.EACCES), "source", None, "target"))) == 2
    assert (
        capsys.readouterr().err == "error: target: Permission denied; change the permissions or choose another place\n"
    )
    assert end(raising(OSError(errno.EROFS, os.strerror(errno.EROFS)))) == 2
    assert capsys.readouterr().err == "error: Read-only file system; choose another place\n"
    assert end(raising(OSError(errno.ENOMEM, os.strerror(errno.ENOMEM)))) == 2  # of a fork
    assert capsys.readouterr().err.endswith("memory ran out; free some and run the same command again\n")
    assert end(raising(OSError(errno.EMFILE, os.strerror(errno.EMFILE)))) == 2
    assert "Too many open files; raise the limit on open files (ulimit -n)" in capsys.readouterr().err


def test_a_file_where_a_folder_should_be(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").touch()
    assert end(lambda: write_text(tmp_path / "file" / "a.txt", "")) == 2
    assert "file: File exists; a folder is needed here; remove it or choose another place" in capsys.readouterr().err
    assert end(lambda: write_text(tmp_path / "file" / "b" / "a.txt", "")) == 2
    assert "b: Not a directory; a folder is needed above it; choose another place" in capsys.readouterr().err


def test_a_defect_keeps_its_traceback() -> None:
    for error in (ValueError("ours"), FileNotFoundError(errno.ENOENT, "No such file", "a.txt"), OSError("no number")):
        with pytest.raises(type(error)):
            end(raising(error))


def test_texts_of_others_are_short_and_on_one_line() -> None:
    assert shown("a name") == "'a name'"
    assert shown("two\nlines\ud800") == r"'two\nlines\ud800'"
    assert len(shown("x" * 10**6)) == 100


def test_signals_while_modules_are_imported() -> None:
    """They end the process at once; before and after they raise, and one that is ignored stays so."""
    numbers = (signal.SIGINT, signal.SIGTERM)
    handlers = []

    def main(_: list[str]) -> None:
        handlers.append([signal.getsignal(number) for number in numbers])
        with contextlib.suppress(ModuleNotFoundError), importing():
            handlers.append([signal.getsignal(number) for number in numbers])
            raise ModuleNotFoundError
        handlers.append([signal.getsignal(number) for number in numbers])

    run_command(main, [])
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        run_command(main, [])
    finally:
        signal.signal(signal.SIGINT, before)
    assert handlers[0] == handlers[2] and handlers[1] == [end_before_work] * 2
    assert handlers[3] == handlers[5] and handlers[4] == [signal.SIG_IGN, end_before_work]
