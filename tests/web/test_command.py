"""``bash web.sh``: what it offers, what it refuses before it loads anything, and what it leaves behind."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
from pathlib import Path

import httpx
import pytest

from engine.run_folder import save_checkpoint
from engine.untrained import Untrained
from tests.web.served import BACKBONE, METHOD, png, scene
from util.errors import UserError
from util.files import PROJECT
from web.__main__ import main
from web.choices import Choices


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_it_ends_with_a_line_and_leaves_nothing(tmp_path: Path, number: signal.Signals, code: int) -> None:
    command = ["sh", str(PROJECT / "web.sh"), "--port", "0", "--method", METHOD, "--backbone", *BACKBONE]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "TMPDIR": str(tmp_path)}
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment, cwd=tmp_path) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if found := re.search(r"open http://localhost:(\d+)", line):
                break
        origin = f"http://127.0.0.1:{found[1]}" if found else ""
        with httpx.Client(base_url=origin, headers={"Origin": origin, "X-Name": "a.png"}) as client:
            assert client.get("/").headers["content-type"].startswith("text/html")
            assert client.post("/photographs", content=png(scene(0))).status_code == 200
        (folder,) = tmp_path.iterdir()
        assert len([path for path in folder.rglob("*") if path.is_file()]) == 2
        process.send_signal(number)
        said = process.stderr.read()
    assert process.returncode == code
    assert said.splitlines()[-1] == "interrupted: the page is closed; photographs and masks in it are deleted"
    assert "Traceback" not in said
    assert list(tmp_path.iterdir()) == []


def test_a_port_that_is_taken() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(UserError, match=rf"--port {port}: Address already in use; choose another, or 0"):
            main(["--port", str(port), "--method", METHOD, "--backbone", *BACKBONE])


def test_what_can_be_chosen(tmp_path: Path) -> None:
    """Trained networks, the newest first, before methods; what the command names before all."""
    for age, name in enumerate(("pascal/new", "pascal/old", "mine/older")):
        save_checkpoint(tmp_path / name / "latest.pth", {"version": 0})
        os.utime(tmp_path / name / "latest.pth", (1000 - age, 1000 - age))
    runs = ["pascal/new", "pascal/old", "mine/older"]
    assert list(Choices(backbone=BACKBONE, runs=tmp_path).all()) == [*runs, "nearest", "prototype"]
    given = Choices(tmp_path / "mine" / "older", backbone=(), runs=tmp_path)
    assert list(given.all())[:4] == ["given", *runs]
    assert list(Choices(method=METHOD, backbone=BACKBONE, runs=tmp_path).all()) == [METHOD, *runs]
    with pytest.raises(UserError, match=r"none\.pth: no weights of the backbone; initmodel/README\.md says where"):
        Choices(backbone=["TRAIN.backbone_weights=none.pth"], runs=tmp_path)


def test_without_a_backbone_the_networks_are_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The default backbone has to be downloaded; where nothing can be chosen, a line says from where."""

    def missing(*_: object) -> Untrained:
        raise UserError("no weights of the backbone")

    monkeypatch.setattr(Untrained, "read", missing)
    with pytest.raises(UserError, match="no weights of the backbone"):
        Choices(runs=tmp_path)
    save_checkpoint(tmp_path / "mine" / "run" / "latest.pth", {"version": 0})
    assert list(Choices(runs=tmp_path).all()) == ["mine/run"]
