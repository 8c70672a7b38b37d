"""Examples to try the page on: photographs of the drawn shapes, the first with its mask."""

from __future__ import annotations

from collections.abc import Iterator

import cv2
import numpy as np

from prepare.shapes.scene import CLASSES, draw_scene
from util.seed import numpy_random
from web.sessions import Session

EXAMPLES = ("star", "fish", "butterfly")
_PHOTOGRAPHS = 6
_SIDE = 320


def load_example(session: Session, name: str) -> None:
    """Put an example in the place of what a session holds; ``name`` is one of ``EXAMPLES``."""
    session.clear()
    session.rename_class(1, name)
    for number, (image, objects) in enumerate(example_scenes(name), start=1):
        _, data = cv2.imencode(".png", cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
        photograph = session.add_photograph(f"{name} {number}.png", data.tobytes())
        if number == 1:
            photograph.annotate(objects.astype(np.uint8))


def example_scenes(name: str) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Images, RGB uint8 (H, W, 3), and where their objects of the class are, bool (H, W)."""
    class_id = next(number for number, (outline, _) in enumerate(CLASSES, start=1) if outline.__name__ == name)
    for number in range(_PHOTOGRAPHS):
        image, label = draw_scene(numpy_random("web", name, number), class_id, _SIDE)
        yield image, label == class_id
