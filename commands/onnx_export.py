"""A model and the classes that were described to it as one ONNX file, from an image to its mask (docs/integrations.md).

The graph does what ``Segmenter.predict`` does, except that nothing follows the borders in the image: ONNX has no
superpixels.
"""

from __future__ import annotations

import importlib.util
import json
import logging
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from episodes.transforms import CONTENT_MULTIPLE
from model.episode_features import Features
from model.presence import describe_queries, similarities
from util.errors import UserError
from util.files import atomic_write
from util.images import IMAGENET_MEAN, IMAGENET_STD

# The key of the file's metadata that holds the names of the classes, as a JSON list.
_CLASSES = "classes"
_OPSET = 20
_PACKAGES = ("onnx", "onnxscript")
_LOGGERS = ("onnx_ir", "onnxscript")
# Height and width of the image that the graph is traced with; the file takes any.
_TRACED_SIZE = (120, 160)
# Bytes of constants that a single ONNX file holds.
_MOST_BYTES = 2**31 - 2**20


class ImageSegmentation(nn.Module):
    """From an image to probabilities, presence and mask of the C classes whose descriptions it holds."""

    def __init__(
        self, model: nn.Module, size: int, supports: Sequence[Any], objects: Tensor | None, calibration: Tensor | None
    ) -> None:
        """``supports`` are C classes as ``model`` describes them; ``size`` is the side of its input.

        ``objects`` (C, D) are the classes as ``model.presence`` describes them and ``calibration`` (2,) is the slope
        and intercept of their presence; None where the model cannot tell.
        """
        super().__init__()
        self.model: Any = model  # what it makes of supports, it alone understands
        self.size, self.supports = size, supports
        self.objects, self.calibration = objects, calibration

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """image (1, 3, H, W) uint8 RGB -> probabilities (1, C, H, W), presence (1, C), mask (1, H, W).

        Probabilities and presence are float32 in 0..1, presence NaN where the model cannot tell. The mask is uint8: 0
        background, 1 the first class, of what has a probability above one half and is not probably absent.
        """
        sides = torch.stack([torch.full((), side, device=image.device) for side in image.shape[-2:]])
        content = content_sides(sides, self.size)
        images, padding = letterboxed(image, sides, content, self.size)
        features = Features(*self.model.backbone(images))
        logits = torch.cat([self.model.segment(features, padding, supports) for supports in self.supports])
        difference = (logits[:, 1] - logits[:, 0])[None]  # (1, C, size, size)
        # Back to the image, with corners on corners.
        places = [
            torch.arange(side, device=image.device) * ((part - 1) / (whole - 1).clamp(min=1))
            for side, whole, part in zip(image.shape[-2:], sides, content, strict=True)
        ]
        probabilities = _sampled(difference, *places).sigmoid()
        presence = self._presence(images, padding)
        return probabilities, presence, likely_mask(probabilities, presence)

    def _presence(self, images: Tensor, padding: Tensor) -> Tensor:
        """(1, C) of letterboxed images (1, 3, size, size)."""
        if self.objects is None or self.calibration is None:
            return torch.full((1, len(self.supports)), float("nan"), device=images.device)
        slope, intercept = self.calibration
        (query,) = describe_queries(self.model.backbone, images, padding)
        return (slope * similarities(self.objects, query) + intercept).sigmoid()[None]


@torch.no_grad()
def write_onnx(network: ImageSegmentation, names: Sequence[str], path: Path) -> None:
    """Write ``network`` and the ``names`` of its classes to ``path``.

    Raises ``UserError`` where a package is missing that this needs, and for more than fits into a file.
    """
    missing = [name for name in _PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        raise UserError(
            f"{path}: export needs {' and '.join(missing)}; uv pip install -r pyproject.toml --extra export"
        )
    held = sum(tensor.nbytes for tensor in _tensors([*network.parameters(), network.supports]))
    if held > _MOST_BYTES:
        raise UserError(
            f"{path}: the network and its supports take {held / 2**30:.1f} GiB, an ONNX file holds 2; give fewer "
            "supports or classes"
        )
    sides = {2: torch.export.Dim("height"), 3: torch.export.Dim("width")}
    device = next(network.parameters()).device
    with _silent():
        program = torch.onnx.export(
            network.eval(),
            (torch.zeros(1, 3, *_TRACED_SIZE, dtype=torch.uint8, device=device),),
            input_names=["image"],
            output_names=["probabilities", "presence", "mask"],
            dynamic_shapes=(sides,),
            opset_version=_OPSET,
            dynamo=True,
            verbose=False,
        )
    assert program is not None  # as it is without dynamo
    for node in program.model.graph.all_nodes():
        node.metadata_props.clear()  # of the lines of source that it comes from, with their paths
    program.model.metadata_props[_CLASSES] = json.dumps(list(names))
    with atomic_write(path) as temporary:
        program.save(temporary)


@contextmanager
def _silent() -> Iterator[None]:
    """Without the warnings of what optimises the graph: of constants that it leaves as they are."""
    loggers = [logging.getLogger(name) for name in _LOGGERS]
    levels = [each.level for each in loggers]
    try:
        for each in loggers:
            each.setLevel(logging.ERROR)
        yield
    finally:
        for each, level in zip(loggers, levels, strict=True):
            each.setLevel(level)


def _tensors(parts: Iterable[Any]) -> Iterator[Tensor]:
    """All tensors in nested sequences of them."""
    for part in parts:
        if isinstance(part, Tensor):
            yield part
        elif isinstance(part, tuple | list):
            yield from _tensors(part)


def content_sides(sides: Tensor, size: int) -> Tensor:
    """``episodes.transforms.content_size`` of sides (2,) int64."""
    scaled = sides * size // sides.max()
    return (scaled // CONTENT_MULTIPLE * CONTENT_MULTIPLE).clamp(min=CONTENT_MULTIPLE)


def letterboxed(image: Tensor, sides: Tensor, content: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """What ``episodes.transforms.ValTransform`` makes of an image: (1, 3, size, size), and padding (1, size, size).

    image (1, 3, H, W) uint8 RGB; sides (2,) are H and W, content (2,) what they become, both int64.
    """
    place = torch.arange(size, device=image.device)
    # Centres of pixels lie on centres.
    rows, columns = ((place + 0.5) * (whole / part) - 0.5 for whole, part in zip(sides, content, strict=True))
    mean, std = (
        torch.from_numpy(255 * values).float().to(image.device)[:, None, None]
        for values in (IMAGENET_MEAN, IMAGENET_STD)
    )
    padding = (place >= content[0])[:, None] | (place >= content[1])
    normalised = (_sampled(image, rows, columns) - mean) / std
    return normalised.masked_fill(padding, 0), padding[None]


def _sampled(maps: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Bilinear values of maps (1, C, h, w) at fractional rows (H,) and columns (W,): (1, C, H, W) float32.

    Places outside take the value at the border.
    """
    for axis, places in ((2, rows), (3, columns)):
        last = maps.shape[axis] - 1
        places = places.clamp(0, last)
        before = places.long()
        share = (places - before).float()
        share = share[:, None] if axis == 2 else share
        after = (before + 1).clamp(max=last)
        maps = maps.index_select(axis, before) * (1 - share) + maps.index_select(axis, after) * share
    return maps


def likely_mask(probabilities: Tensor, presence: Tensor) -> Tensor:
    """``engine.predictions.mask_of_classes`` with one half as threshold and as presence: (1, H, W) uint8.

    probabilities (1, C, H, W); presence (1, C), NaN where it is unknown.
    """
    possible = probabilities.masked_fill((presence < 0.5)[..., None, None], 0)
    highest, number = possible.max(dim=1)
    return torch.where(highest > 0.5, number + 1, 0).byte()
