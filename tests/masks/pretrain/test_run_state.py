"""Files of a pretraining run: what is continued, begun anew, refused."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import safetensors
import safetensors.torch
import torch

import masks.pretrain.__main__
from masks.pretrain.moco import Encoder, MoCo
from masks.pretrain.run_state import PretrainFiles
from tests.masks.pretrain.pretraining import TINY, SmallBackbone, run, same
from util.errors import UserError


def test_finished_run_is_kept_and_other_settings_are_refused(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "weights.safetensors"
    run(folder, out)
    written = out.stat().st_mtime_ns
    run(folder, out)
    assert out.stat().st_mtime_ns == written
    message = r"weights\.safetensors: made with other settings \(seed is 5 there, 7 expected\); delete it"
    with pytest.raises(UserError, match=message):
        run(folder, out, replace(TINY, seed=7))
    (folder / "0.png").unlink()
    with pytest.raises(UserError, match="images is 9 there, 8 expected; dataset_digest"):
        run(folder, out)


def test_file_of_something_else_is_not_overwritten(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "weights.safetensors"
    tensors = {"a": torch.ones(1)}
    records: list[dict[str, str] | None] = [None, {"record": "[]"}, {"record": "{"}, {"record": "9" * 5000}]
    writers: list[Callable[[], object]] = [
        lambda: out.write_bytes(b"mine"),
        lambda: torch.save(tensors, out),
        *(partial(safetensors.torch.save_file, tensors, out, record) for record in records),
    ]
    for write in writers:
        write()
        content = out.read_bytes()
        message = (
            r"weights\.safetensors: (exists and was not made|not a readable weight file).*; delete it or name another"
        )
        with pytest.raises(UserError, match=message):
            run(folder, out)
        assert out.read_bytes() == content


def test_a_changed_result_is_not_taken_for_finished(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "weights.safetensors"
    run(folder, out)
    out.write_bytes(out.read_bytes()[:-1] + bytes([out.read_bytes()[-1] ^ 1]))
    with pytest.raises(UserError, match=r"weights\.safetensors: .*it holds other bytes than were written.*; delete it"):
        run(folder, out)


def _start() -> tuple[MoCo, torch.optim.Optimizer]:
    torch.manual_seed(0)
    moco = MoCo(Encoder(SmallBackbone(), channels=[4, 5, 6], embedding=5), queue=7, momentum=0.9, temperature=0.2)
    return moco, torch.optim.SGD(moco.query_encoder.parameters(), lr=0.1, momentum=0.9)


def _train(moco: MoCo, optimizer: torch.optim.Optimizer) -> None:
    moco(*torch.randint(0, 256, (2, 4, 32, 32, 3), dtype=torch.uint8)).sum().backward()
    optimizer.step()


def _change(path: Path, **changes: Any) -> None:
    torch.save({**torch.load(path, weights_only=True), **changes}, path)


def _shorten_the_queue(path: Path) -> None:
    state = torch.load(path, weights_only=True)
    state["moco"]["queue"] = state["moco"]["queue"][:, :2]
    torch.save(state, path)


class _Hostile:
    """Runs code where it is read as a pickle."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return print, ("run by a pickle",)


def _flip_a_bit(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda path: path.write_bytes(path.read_bytes()[:5000]), r"not a readable weight file \(.*\); the run begins"),
        (_flip_a_bit, r"not a readable weight file \(.*\); the run begins anew"),
        (lambda path: path.write_bytes(b""), r"not a readable weight file \(it is empty\); the run begins anew"),
        (lambda path: path.write_bytes(b"my notes"), "not a readable weight file"),
        (lambda path: torch.save(_Hostile(), path), "not a readable weight file"),
        (lambda path: torch.save({"model": torch.ones(1)}, path), "not the state of a run; the run begins anew"),
        (partial(_change, record={"epochs": torch.ones(2)}), "not the state of a run; the run begins anew"),
        (partial(_change, epochs=-1), "not a state of this network; the run begins anew"),
        (_shorten_the_queue, "not a state of this network; the run begins anew"),
    ],
)
def test_a_damaged_state_stays_and_the_run_begins_anew(
    tmp_path: Path,
    messages: list[str],
    capfd: pytest.CaptureFixture[str],
    damage: Callable[[Path], object],
    message: str,
) -> None:
    files = PretrainFiles(tmp_path / "weights.safetensors", {"epochs": 2})
    trained = _start()
    _train(*trained)
    files.save_state(*trained, epochs=1)
    moco, optimizer = _start()
    at_the_start = copy.deepcopy(moco.state_dict())
    damage(files.partial)
    content = files.partial.read_bytes()
    assert files.resume(moco, optimizer) == 0
    assert same(moco.state_dict(), at_the_start) and not optimizer.state
    assert files.partial.read_bytes() == content
    (line,) = messages
    assert re.fullmatch(rf".*weights\.partial\.pth: {message}.*", line)
    assert "run by a pickle" not in capfd.readouterr().out


def test_a_whole_state_is_continued(tmp_path: Path) -> None:
    files = PretrainFiles(tmp_path / "weights.safetensors", {"epochs": 2})
    trained = _start()
    _train(*trained)
    files.save_state(*trained, epochs=1)
    moco, optimizer = _start()
    assert files.resume(moco, optimizer) == 1
    assert same(moco.state_dict(), trained[0].state_dict()) and optimizer.state


@pytest.mark.parametrize("name", ["", ".", "images"])
def test_a_folder_is_no_result(folder: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.chdir(folder.parent)
    with pytest.raises(UserError, match=f"argument out: {name or '.'} is a folder, the name of a file expected; see"):
        masks.pretrain.__main__.main([str(folder), name])


def test_places_where_nothing_can_be_written_are_found_at_once(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="/proc/none: no folder can be made here"):
        run(folder, Path("/proc/none/weights.safetensors"))
    (tmp_path / "weights.partial.pth").mkdir()
    with pytest.raises(UserError, match=r"weights\.partial\.pth: a folder is there, a file expected; remove it or"):
        run(folder, tmp_path / "weights.safetensors")


def test_a_result_without_suffix(folder: Path, tmp_path: Path) -> None:
    assert same(run(folder, tmp_path / "weights"), run(folder, tmp_path / "weights.safetensors"))


def test_old_results_count_as_those_of_one_process_in_float32(folder: Path, tmp_path: Path) -> None:
    """Records made before precision and processes were in them."""
    out = tmp_path / "weights.safetensors"
    weights = run(folder, out)
    with safetensors.safe_open(out, framework="pt") as stream:
        record = json.loads(stream.metadata()["record"])
    assert record.pop("precision") == "fp32" and record.pop("processes") == 1
    safetensors.torch.save_file(weights, out, metadata={"record": json.dumps(record)})
    assert same(weights, run(folder, out))
    message = r"weights\.safetensors: made with other settings \(precision is fp32 there, bf16 expected\); delete it"
    with pytest.raises(UserError, match=message):
        run(folder, out, replace(TINY, precision="bf16"))
