"""The page's server for the tests, photographs, and what the page asks."""

from __future__ import annotations

import io
import time
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image
from starlette.testclient import TestClient

from segmenter import Segmenter
from util.files import PROJECT
from web.choices import Choices
from web.server import application
from web.sessions import Sessions
from web.worker import Worker

METHOD = "prototype"
# The demo's backbone, which the project ships.
BACKBONE = [
    "TRAIN.backbone=mobilenetv2_050",
    f"TRAIN.backbone_weights={PROJECT}/initmodel/shapes_mobilenetv2_050.safetensors",
    "TRAIN.backbone_normalize=imagenet",
    "TRAIN.class_scores=false",
    "TRAIN.val_size=129",
]
ADDRESS = "http://localhost:8000"
COOKIE = "unsupfss_test"


class Served:
    """The server, and a browser for each call of ``browser``."""

    def __init__(self, folder: Path, backbone: Sequence[str]) -> None:
        self.folder = folder / "sessions"
        self.backbone = backbone
        self.sessions = Sessions(self.folder)
        self.choices = Choices(method=METHOD, backbone=backbone, runs=folder / "exp")
        self.worker = Worker(self.choices)
        self.app = application(self.sessions, self.choices, self.worker, cookie=COOKIE)

    def browser(self) -> Browser:
        """Another browser, which has no cookie yet."""
        return Browser(TestClient(self.app, base_url=ADDRESS, headers={"Origin": ADDRESS}))

    def segmenter(self) -> Segmenter:
        """What the page segments with, without the page."""
        return Segmenter.load(method=METHOD, backbone=self.backbone)


class Browser:
    """What a page asks; every answer must be one of success, but for those of ``refused``."""

    def __init__(self, client: TestClient) -> None:
        self.client = client

    def ask(self, method: str, path: str, content: bytes = b"", name: str | None = None) -> Any:
        headers = {} if name is None else {"X-Name": name}
        response = self.client.request(method, path, content=content, headers=headers)
        assert response.status_code == 200, response.text
        return response.json() if response.headers["content-type"] == "application/json" else response.content

    def refused(self, method: str, path: str, content: bytes = b"", name: str | None = None) -> str:
        """The one line of a refusal."""
        headers = {} if name is None else {"X-Name": name}
        response = self.client.request(method, path, content=content, headers=headers)
        assert response.status_code == 400, response.text
        line: str = response.json()["error"]
        assert "\n" not in line and "Traceback" not in line
        return line

    def state(self, query: str = "") -> dict[str, Any]:
        state: dict[str, Any] = self.ask("GET", f"/state{query}")
        return state

    def add(self, image: np.ndarray, name: str = "photograph.png") -> int:
        """Upload RGB uint8 (H, W, 3); returns its number."""
        return max(each["number"] for each in self.ask("POST", "/photographs", png(image), name)["photographs"])

    def paint(self, number: int, mask: np.ndarray) -> None:
        self.ask("PUT", f"/photographs/{number}/mask", mask.astype(np.uint8).tobytes())

    def segment(self) -> dict[str, Any]:
        """Press the button and wait; returns the state after it."""
        self.ask("POST", "/run")
        return self.wait()

    def wait(self) -> dict[str, Any]:
        limit = time.monotonic() + 60
        while (state := self.state())["run"]["running"]:
            assert time.monotonic() < limit
            time.sleep(0.05)
        assert state["run"]["error"] is None and state["run"]["done"] == state["run"]["total"]
        return state

    def mask(self, number: int, query: str = "") -> np.ndarray:
        """uint8 (H, W) of a photograph."""
        (photograph,) = (each for each in self.state()["photographs"] if each["number"] == number)
        values = np.frombuffer(self.ask("GET", f"/photographs/{number}/mask{query}"), dtype=np.uint8)
        return values.reshape(photograph["height"], photograph["width"]).copy()


@contextmanager
def serving(folder: Path, backbone: Sequence[str] = BACKBONE) -> Iterator[Served]:
    """A server that keeps its sessions in ``folder / "sessions"``."""
    served = Served(folder, backbone)
    with served.worker:
        yield served


def png(image: np.ndarray) -> bytes:
    """RGB uint8 (H, W, 3), or grey (H, W), as a file's bytes."""
    _, data = cv2.imencode(".png", image[..., ::-1] if image.ndim == 3 else image)
    return data.tobytes()


def masks_in(archive: bytes) -> dict[str, np.ndarray]:
    """The masks of a zip file by their names: uint8 (H, W)."""
    with zipfile.ZipFile(io.BytesIO(archive)) as file:
        names = [name for name in file.namelist() if name.endswith(".png")]
        return {name: np.array(Image.open(io.BytesIO(file.read(name)))) for name in names}


def scene(left: int, size: tuple[int, int] = (90, 160)) -> np.ndarray:
    """A noisy green image with a red square of 40 pixels: RGB uint8 (H, W, 3)."""
    image = np.random.default_rng(left).normal((40, 90, 40), 12, (*size, 3))
    image[25:65, left : left + 40] = (230, 60, 40)
    return np.clip(image, 0, 255).astype(np.uint8)


def square(left: int, size: tuple[int, int] = (90, 160)) -> np.ndarray:
    """The mask of its square: bool (H, W)."""
    mask = np.zeros(size, dtype=bool)
    mask[25:65, left : left + 40] = True
    return mask
