"""Segment photographs by a few annotated ones: ``Segmenter``, what ``predict.py`` does as an object in Python.

segmenter = Segmenter.load("exp/mine/ssl_mobilenetv2")
segmenter.fit(["a.jpg", "b.jpg"], ["a_mask.png", "b_mask.png"], name="dog")
mask = segmenter.predict("c.jpg").mask
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from commands.onnx_export import ImageSegmentation, write_onnx
from engine.evaluate import object_probability
from engine.predictions import Prediction, ProbabilityMaps
from engine.run_folder import LATEST
from engine.supports import Support, read_support
from engine.untrained import Untrained
from episodes.further_supports import FEW_PIXELS, as_support, further_supports, rounds
from episodes.transforms import ValTransform, View, content_size
from masks.superpixels.refinement import refined
from model import FSSModel, load_model
from model.baselines import Baseline
from model.episode_features import Features
from model.fss_network import NetworkSettings, configured_backbone
from model.hub import CONFIG_FILE
from model.presence import describe_objects, describe_queries, presence_in_folder, similarities
from util.device import choose_device
from util.errors import UserError
from util.images import MAX_CLASSES
from util.images.given import Given, given_image
from util.logging import logger
from util.tensor_files import digest_tensors

# Fewer images do not tell on which scale they are similar.
_FEWEST = 10


class Segmenter:
    """Marks in photographs what annotated ones show, for one class or several.

    ``fit`` says once what a class looks like, ``predict`` then takes any number of photographs.
    """

    def __init__(self, model: FSSModel | Baseline, size: int) -> None:
        """Photographs are brought to ``size``, the side of the model's input."""
        self._model: Any = model.eval()  # what it makes of supports, it alone understands
        self._size = size
        self._transform = ValTransform(size=size)
        self._classes: dict[str, _DescribedClass] = {}

    @classmethod
    def load(
        cls, checkpoint: Path | str | None = None, *, method: str | None = None, backbone: Sequence[str] = ()
    ) -> Segmenter:
        """A trained network, or a ``method`` without training, on the first GPU, else on the CPU.

        ``checkpoint`` is a run folder, a checkpoint file or a shared folder. ``method`` is ``nearest`` or
        ``prototype``; ``backbone`` holds words of its configuration, like ``TRAIN.backbone_weights=timm``, which change
        the family mobilenetv2. Raises ``UserError``.
        """
        if (checkpoint is None) == (method is None):
            raise UserError("Segmenter.load: give either a checkpoint or method=, nearest or prototype")
        if checkpoint is not None:
            if backbone:
                raise UserError("Segmenter.load: a checkpoint has its backbone; backbone= is for method=")
            network = load_model(_checkpoint_file(Path(checkpoint)))
            assert network.settings is not None  # every checkpoint holds them
            return cls(network.to(choose_device([0])), network.settings.val_size)
        assert method is not None
        untrained = Untrained.read(method, backbone)
        settings = NetworkSettings.configured(untrained.train)
        model = Baseline(method, configured_backbone(settings, untrained.weights))
        return cls(model.to(choose_device([0])), settings.val_size)

    def without_classes(self) -> Segmenter:
        """Another one with the same model, which knows no class yet."""
        return Segmenter(self._model, self._size)

    @property
    def classes(self) -> list[str]:
        """The names of the classes; the first is 1 in masks."""
        return list(self._classes)

    def fit(
        self,
        images: Given | Sequence[Given],
        masks: Given | Sequence[Given],
        name: str = "object",
        value: int | None = None,
    ) -> None:
        """Describe the class ``name`` by one annotated image or several; it replaces the class of that name.

        An image is a path, RGB uint8 (H, W, 3), or an image of Pillow; its mask a path, an image of Pillow, or an array
        of the same height and width. Masks are understood as docs/own_images.md says: 0 is background; ``value`` is
        the object's where there are several. Raises ``UserError`` that names the file, or the image and its class.
        """
        pairs = _listed(images), _listed(masks)
        if len(pairs[0]) != len(pairs[1]) or not pairs[0]:
            counts = f"{len(pairs[0])} images and {len(pairs[1])} masks"
            raise UserError(f"class {name}: {counts}; give one mask for each image")
        supports = [
            read_support(image, mask, value, name=f"support {number} of class {name}")
            for number, (image, mask) in enumerate(zip(*pairs, strict=True), start=1)
        ]
        self.describe(name, supports)

    @torch.inference_mode()
    def describe(self, name: str, supports: Sequence[Support]) -> None:
        """``fit`` with supports that have been read, one or more."""
        if name not in self._classes and len(self._classes) == MAX_CLASSES:
            raise UserError(f"class {name}: {MAX_CLASSES} classes are there already, the most that a mask can hold")
        self._classes[name] = self._described([self._view_of(support) for support in supports])

    def compares(self, images: int) -> bool:
        """Whether ``presence_in`` of so many images judges them by each other, instead of one by one.

        That takes ten, and a backbone with a classifier; the model may then be a method without training.
        """
        return self._model.presence_threshold is not None and images >= _FEWEST

    @torch.inference_mode()
    def look(self, image: Given) -> Tensor:
        """What an image shows, for ``presence_in``: (P, D), the same whatever the classes. Raises ``UserError``."""
        images, padding = self._batch_of(self._query_view(given_image(image, "the image")))
        return describe_queries(self._model.backbone, images, padding)[0]

    @torch.inference_mode()
    def presence_in(self, looks: Sequence[Tensor]) -> list[dict[str, float | None]]:
        """For each image and class the probability that it shows the class, judged by all of them together.

        ``looks`` are what ``look`` says of each image. Other images tell how similar to the supports an image has to
        be, so this is surer than what ``predict`` sees in one image.
        """
        self._require_classes()
        if self._model.presence_threshold is None:
            return [dict.fromkeys(self._classes) for _ in looks]
        if not self.compares(len(looks)):
            return [self._presence_in_one(look) for look in looks]
        objects = torch.cat(
            [described.object_ for described in self._classes.values() if described.object_ is not None]
        )
        asked = torch.ones(len(objects), len(looks), dtype=torch.bool, device=self._device)
        found = presence_in_folder(objects, looks, asked, self._model.presence_threshold)
        table = found.probabilities() if self._calibration is None else found.probabilities(float(self._calibration[0]))
        return [dict(zip(self._classes, column, strict=True)) for column in table.T.tolist()]

    @torch.inference_mode()
    def extend(self, looks: Sequence[Tensor], image: Callable[[int], Given | None]) -> dict[str, list[int]]:
        """Take the surest of 100 images or more as further supports of classes with fewer than five, as predicted now.

        ``looks`` are what ``look`` says of each, ``image(number)`` gives those that are needed, None for one that is
        not to be had. Afterwards ``presence_in`` and ``predict`` go by all supports. Returns for each class which
        images it has taken; they replace those of an earlier time. Raises ``UserError``.
        """
        taken: dict[str, list[int]] = {name: [] for name in self._classes}
        if self._calibration is not None:  # the untrained lose by it
            fewest = min((len(described.given) for described in self._classes.values()), default=0)
            for _ in range(rounds(len(looks), fewest)):
                taken = self._extend(self.presence_in(looks), image)
        return taken

    @torch.inference_mode()
    def predict(
        self,
        image: Given,
        *,
        threshold: float = 0.5,
        presence: float | None = 0.5,
        min_area: int = 0,
        found: Mapping[str, float | None] | None = None,
    ) -> Prediction:
        """Segment an image: a path, RGB uint8 (H, W, 3), or an image of Pillow. Raises ``UserError``.

        A pixel takes the most probable class, of those with more than ``threshold`` and of those that are there. A
        class is not there if its probability to be in the image at all is less than ``presence``; None: all are. These
        probabilities are ``found``, what ``presence_in`` says of the image among others; without it they are as if half
        of all images showed the class, and not known without a calibrated network. Connected pieces of fewer than
        ``min_area`` pixels are left out.
        """
        self._require_classes()
        for name, probability in {"threshold": threshold, "presence": presence}.items():
            if probability is not None and not 0 <= probability <= 1:
                raise UserError(f"Segmenter.predict: {name}={probability} is no probability; expected 0 to 1")
        pixels = given_image(image, "the image")
        images, padding = self._batch_of(self._query_view(pixels))
        features = cache(lambda: Features(*self._model.backbone(images)))
        probabilities = ProbabilityMaps(
            {
                name: partial(self._segmented, features, padding, described.supports, pixels)
                for name, described in self._classes.items()
            }
        )
        likely = dict(found) if found is not None else self._presence(images, padding)
        unmarked = np.zeros(pixels.shape[:2], dtype=np.uint8)
        prediction = Prediction(pixels, unmarked, probabilities, likely)
        return prediction.marked(threshold=threshold, presence=presence, min_area=min_area)

    def export(self, path: Path | str) -> None:
        """Write the model with its classes as an ONNX file: from an image to its mask, at any size.

        docs/integrations.md says what is in it. Raises ``UserError``, also where onnx is not installed.
        """
        self._require_classes()
        described = list(self._classes.values())
        objects = [each.object_ for each in described if each.object_ is not None]
        network = ImageSegmentation(
            self._model,
            self._size,
            [each.supports for each in described],
            torch.cat(objects) if objects else None,
            self._calibration,
        )
        write_onnx(network, self.classes, Path(path))

    def digest(self) -> str:
        """SHA-256 (hex) of what the model computes, whatever file it is from; classes do not count."""
        about = self._model.method if isinstance(self._model, Baseline) else self._model.settings
        tensors = {**dict(self._model.named_parameters()), **dict(self._model.named_buffers())}
        cpu = {name: tensor.detach().cpu() for name, tensor in tensors.items()}
        return digest_tensors(cpu, {"settings": f"{about!r} {self._size}"})

    def _require_classes(self) -> None:
        if not self._classes:
            raise UserError("Segmenter: no class yet; call fit with annotated images before")

    def _query_view(self, pixels: np.ndarray) -> View:
        return self._transform(pixels, np.zeros(pixels.shape[:2], dtype=np.uint8))

    def _batch_of(self, view: View) -> tuple[Tensor, Tensor]:
        """Image (1, 3, H, W) and padding (1, H, W), where the model is."""
        return view.image[None].to(self._device), view.padding[None].to(self._device)

    def _view_of(self, support: Support) -> View:
        """The support letterboxed, with a warning if little is left of its object."""
        view = self._transform(support.image, support.mask)
        pixels = int((view.mask == 1).sum())
        if pixels < FEW_PIXELS:
            logger.warning(
                "WARNING: %s: %d pixels of the object are left in the network's input (%d x %d), too few for a feature "
                "of 8 x 8 pixels; cut the image around the object",
                *(support.name, pixels, self._size, self._size),
            )
        return view

    def _extend(
        self, found: Sequence[Mapping[str, float | None]], image: Callable[[int], Given | None]
    ) -> dict[str, list[int]]:
        """``extend`` once, by what ``presence_in`` has ``found``."""
        taken = {}
        for name, described in self._classes.items():

            def support(number: int, described: _DescribedClass = described) -> View | None:
                given = image(number)
                return None if given is None else self._as_support(given_image(given, "the image"), described)

            probabilities = {number: each[name] for number, each in enumerate(found)}
            further = further_supports(probabilities, len(described.given), support)
            taken[name] = [*further]
            if further or described.further:
                self._classes[name] = self._described(described.given, [*further.values()])
        return taken

    def _described(self, given: Sequence[View], further: Sequence[View] = ()) -> _DescribedClass:
        arguments = [torch.stack(part)[None].to(self._device) for part in zip(*given, *further, strict=True)]
        supports = self._model.describe_supports(*arguments)
        tells = self._model.presence_threshold is not None
        object_ = describe_objects(self._model.backbone, *arguments) if tells else None
        return _DescribedClass(given, further, supports, object_)

    def _as_support(self, pixels: np.ndarray, described: _DescribedClass) -> View | None:
        """An image with what is marked in it as a support; None where that is too little, and for a support."""
        view = self._query_view(pixels)
        if any(torch.equal(view.image, given.image) for given in described.given):
            return None
        images, padding = self._batch_of(view)
        features = Features(*self._model.backbone(images))
        probability = self._segmented(lambda: features, padding, described.supports, pixels)
        return as_support(pixels, probability > 0.5, self._transform)

    @torch.inference_mode()
    def _segmented(
        self, features: Callable[[], Features], padding: Tensor, supports: Any, pixels: np.ndarray
    ) -> np.ndarray:
        """Probability of a class with these ``supports`` at the size of the image, (H, W) float32."""
        logits = self._model.segment(features(), padding, supports)[0]
        own_size = partial(content_size, size=self._size)
        probability = object_probability(logits, pixels.shape[:2], own_size, torch.from_numpy(pixels), refined)
        return probability.numpy()

    def _presence(self, images: Tensor, padding: Tensor) -> dict[str, float | None]:
        """For each class the probability that it is in the image (1, 3, H, W) at all."""
        if self._calibration is None:
            return dict.fromkeys(self._classes)
        (query,) = describe_queries(self._model.backbone, images, padding)
        return self._presence_in_one(query)

    def _presence_in_one(self, query: Tensor) -> dict[str, float | None]:
        """For each class the probability that it is in an image, described as (P, D); None without calibration."""
        if self._calibration is None:
            return dict.fromkeys(self._classes)
        slope, intercept = self._calibration
        return {
            name: float((slope * similarities(described.object_, query)[0] + intercept).sigmoid())
            for name, described in self._classes.items()
            if described.object_ is not None
        }

    @property
    def _calibration(self) -> Tensor | None:
        """Slope and intercept of the network's calibration; None where it has none."""
        is_known = isinstance(self._model, FSSModel) and self._model.presence_threshold is not None
        return self._model.presence_calibration if is_known else None

    @property
    def _device(self) -> torch.device:
        return next(self._model.parameters()).device


class _DescribedClass(NamedTuple):
    """A class: its supports, and what the model makes of both kinds; ``object_`` (1, D) where presence can be told."""

    given: Sequence[View]
    further: Sequence[View]
    supports: Any
    object_: Tensor | None


def _listed(given: Given | Sequence[Given]) -> Sequence[Given]:
    return given if isinstance(given, list | tuple) else [given]  # type: ignore[list-item]


def _checkpoint_file(path: Path) -> Path:
    """The newest checkpoint of a run folder; any other path as it is, also a shared folder.

    Raises ``UserError`` for a folder that is neither.
    """
    if not path.is_dir() or (path / CONFIG_FILE).is_file():
        return path
    if not (path / LATEST).is_file():
        raise UserError(f"{path}: neither a run folder with {LATEST} nor a shared network with {CONFIG_FILE}")
    return path / LATEST
