"""How well the features of a backbone in training distinguish labelled regions; the training does not use the answer.

Source: Wu et al., "Unsupervised Feature Learning via Non-Parametric Instance Discrimination", CVPR 2018
(arXiv:1805.01978), whose weighted k-nearest-neighbour classifier of images is applied to regions.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from sklearn.metrics import balanced_accuracy_score
from sklearn.neighbors import NearestNeighbors
from torch import Tensor, nn
from tqdm import tqdm

from episodes.lists import ImageList
from masks.pretrain.moco import STAGES
from masks.pretrain.unlabelled_images import open_images
from masks.regions import mask_pool
from util.distributed import gathered, rank, world_size
from util.errors import UserError
from util.files import replace_json_line
from util.images import IGNORE, IMAGENET_MEAN, IMAGENET_STD, check_same_size, image_size, read_label
from util.logging import logger

_NEIGHBOURS = 20
_TEMPERATURE = 0.07
_BACKGROUND = 0


class Regions(NamedTuple):
    """R labelled regions, each covering all pixels of one class in one image."""

    features: np.ndarray  # (R, D) float32, means over the regions
    classes: np.ndarray  # (R,) int, 1..254
    images: np.ndarray  # (R,) int, rows of the list


class Probe:
    """Classifies labelled regions by their nearest neighbours in a backbone's features, and keeps a log of it.

    ``labelled`` lists the images, which the backbone sees at no more than ``shorter_side`` pixels; their labels are 0
    background, 1..254 classes, 255 ignored. ``log`` gets a JSON line per measurement; one is due before the first
    epoch, after every ``every`` epochs and after the last.
    """

    def __init__(self, labelled: ImageList, *, shorter_side: int, every: int, log: Path) -> None:
        self.labelled = labelled
        self.shorter_side = shorter_side
        self.every = every
        self.log = log
        logger.info("probe: reads the labels of %s to measure how good the features are", labelled.list_file)
        logger.info("probe: the training sees neither these labels nor the measurements")

    def is_due(self, epoch: int, epochs: int) -> bool:
        """Whether to measure after ``epoch`` of ``epochs``."""
        return epoch % self.every == 0 or epoch == epochs

    def measure(self, backbone: nn.Module, *, epoch: int) -> None:
        """Write the accuracy of ``backbone``, as it is after ``epoch`` epochs, to the terminal and the log.

        ``backbone`` maps (B, 3, H, W) ImageNet-normalised to a list of maps, of which those that MoCo trains are
        evaluated. It is not changed. A line of the log for the same or a later epoch, left by an interrupted run, is
        replaced. Processes share the images. Raises ``UserError`` for an unreadable file and for labels without
        objects to compare.
        """
        frozen = copy.deepcopy(backbone).requires_grad_(False).eval()
        regions = comparable(self._regions(frozen), self.labelled.list_file)
        accuracy = neighbour_accuracy(regions)
        classes = len(np.unique(regions.classes))
        logger.info(
            "probe after %d epochs: %.1f %% of %d regions get the class of their neighbours in other images, "
            "mean of %d classes; chance is %.1f %%",
            *(epoch, 100 * accuracy, len(regions.classes), classes, 100 / classes),
        )
        if rank() == 0:
            metrics = {"accuracy": round(accuracy, 4), "chance": round(1 / classes, 4)}
            replace_json_line(
                self.log, {"epoch": epoch, **metrics, "classes": classes, "regions": len(regions.classes)}
            )

    @cached_property
    def _images(self) -> Sequence[np.ndarray]:
        return open_images([self.labelled.image_path(row) for row in range(len(self.labelled))], self.shorter_side)

    def _regions(self, backbone: nn.Module) -> Regions:
        """The regions of all images, in the order of the list."""
        rows = range(rank(), len(self.labelled), world_size())
        with tqdm(rows, desc="probe", unit="image", leave=False, disable=rank() > 0) as progress:
            own = [region for row in progress for region in self._regions_of(row, backbone)]
        regions = sorted((region for part in gathered(own) for region in part), key=lambda region: region[:2])
        images, classes, features = zip(*regions, strict=True) if regions else ((), (), ())
        return Regions(np.array(features), np.array(classes, dtype=int), np.array(images, dtype=int))

    def _regions_of(self, row: int, backbone: nn.Module) -> Iterator[tuple[int, int, np.ndarray]]:
        """(row, class, (D,) feature) of each class in the image."""
        path = self.labelled.label_path(row)
        label, image_path = read_label(path), self.labelled.image_path(row)
        check_same_size(image_path, image_size(image_path), path, label.shape)
        classes = [int(value) for value in np.unique(label) if value not in (_BACKGROUND, IGNORE)]
        if classes:
            maps = _trained_maps(backbone, self._images[row])
            pooled = [mask_pool(features, [label == value for value in classes]) for features in maps]
            yield from ((row, value, feature) for value, feature in zip(classes, np.hstack(pooled), strict=True))


def comparable(regions: Regions, list_file: Path) -> Regions:
    """The regions of classes that at least two images show: others have no neighbour of their class.

    Raises ``UserError``, which names ``list_file``, when there are no two such classes.
    """
    classes, images = np.unique(regions.classes, return_counts=True)  # an image has one region of a class
    kept = np.isin(regions.classes, classes[images > 1])
    regions = Regions(*(column[kept] for column in regions))
    if len(np.unique(regions.classes)) < 2:
        raise UserError(
            f"{list_file}: the probe needs objects of two classes, each in two images; "
            f"the labels have {len(classes)} classes (values 1 to 254)"
        )
    return regions


def neighbour_accuracy(regions: Regions) -> float:
    """The share of regions that get their class from their neighbours, averaged over classes; chance is 1 / classes.

    The 20 regions of other images with the largest cosines vote for their classes, with weights exp(cosine / 0.07).
    """
    classes, answers = np.unique(regions.classes, return_inverse=True)
    # The nearest regions, enough of them that 20 are of other images.
    _, regions_of_images = np.unique(regions.images, return_counts=True)
    enough = min(_NEIGHBOURS + regions_of_images.max(), len(answers))
    finder = NearestNeighbors(n_neighbors=enough, metric="cosine").fit(regions.features)
    distances, rows = finder.kneighbors(regions.features)  # (R, enough), nearest first
    # The first 20 of other images vote.
    elsewhere = regions.images[rows] != regions.images[:, None]
    votes = elsewhere & (elsewhere.cumsum(axis=1) <= _NEIGHBOURS)
    # Weighted votes, added up by class.
    totals = np.zeros((len(answers), len(classes)))
    voter = np.arange(len(answers))[:, None]
    np.add.at(totals, (voter, answers[rows]), votes * np.exp((1 - distances) / _TEMPERATURE))
    return float(balanced_accuracy_score(answers, totals.argmax(axis=1)))


@torch.inference_mode()
def _trained_maps(backbone: nn.Module, image: np.ndarray) -> list[np.ndarray]:
    """Float32 (D, h, w), of several sizes, of an RGB uint8 image (H, W, 3)."""
    pixels = torch.from_numpy((image / np.float32(255) - IMAGENET_MEAN) / IMAGENET_STD)
    maps: list[Tensor] = backbone(pixels.to(next(backbone.parameters()).device).permute(2, 0, 1)[None])
    return [features[0].cpu().numpy() for features in maps[-STAGES:]]
