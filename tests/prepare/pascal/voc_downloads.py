"""Small downloads of PASCAL VOC 2012 and SBD, drawn in the layout that the public ones have."""

from __future__ import annotations

import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from scipy.io import savemat
from scipy.sparse import csc_matrix

from util.files import write_text
from util.images import write_image, write_label
from util.seed import numpy_random

VOC_TRAIN = tuple(f"2007_00000{number}" for number in range(1, 7))
VOC_VAL = tuple(f"2008_00000{number}" for number in range(1, 6))
SBD_ONLY = tuple(f"2009_0000{number:02d}" for number in range(1, 16))
# SBD divides the images of VOC in another way.
SBD_TRAIN = (*VOC_TRAIN[:3], *VOC_VAL[:2], *SBD_ONLY)
# The one image that only SBD's own copy of the images has.
NOT_IN_VOC = SBD_ONLY[4]


class Downloads(NamedTuple):
    """The paths of the downloads, and the label that PASCAL-5i must have for each id."""

    voc: Path
    sbd: Path
    labels: dict[str, np.ndarray]

    def pack(self) -> Downloads:
        """The same as tar files next to the folders; SBD's has its lists after all labels."""
        voc, sbd = self.voc.with_name("VOCtrainval_11-May-2012.tar"), self.sbd.with_name("benchmark.tgz")
        with tarfile.open(voc, "w") as archive:
            archive.add(self.voc, "VOCdevkit/VOC2012")
        with tarfile.open(sbd, "w:gz") as archive:
            archive.add(self.sbd, "benchmark_RELEASE")
        return Downloads(voc, sbd, self.labels)


def draw_downloads(folder: Path) -> Downloads:
    """Draw VOC2012 and benchmark_RELEASE in ``folder``: 26 images, all of different sizes."""
    voc, sbd = folder / "VOC2012", folder / "benchmark_RELEASE"
    labels: dict[str, np.ndarray] = {}
    for number, image_id in enumerate((*VOC_TRAIN, *VOC_VAL, *SBD_ONLY)):
        rng = numpy_random("downloads", image_id)
        height, width = 30 + number, 60 - number
        image = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
        images = sbd / "dataset" / "img" if image_id == NOT_IN_VOC else voc / "JPEGImages"
        write_image(images / f"{image_id}.jpg", image)
        labels[image_id] = label = rng.integers(0, 21, (height, width), dtype=np.uint8)
        if image_id in SBD_ONLY:
            write_sbd_label(sbd / "dataset" / "cls" / f"{image_id}.mat", label)
            continue
        label[:3] = 255
        write_label(voc / "SegmentationClass" / f"{image_id}.png", label)
        write_sbd_label(sbd / "dataset" / "cls" / f"{image_id}.mat", np.full((height, width), 7, dtype=np.uint8))
    write_ids(voc / "ImageSets" / "Segmentation" / "train.txt", VOC_TRAIN)
    write_ids(voc / "ImageSets" / "Segmentation" / "val.txt", VOC_VAL)
    write_ids(sbd / "dataset" / "train.txt", SBD_TRAIN)
    write_ids(sbd / "dataset" / "val.txt", (*VOC_TRAIN[3:], *VOC_VAL[2:]))
    return Downloads(voc, sbd, labels)


def write_sbd_label(path: Path, label: np.ndarray) -> None:
    """Write a file with all that SBD's have: the boundaries of each class as sparse matrices, too."""
    boundaries = np.empty((20, 1), dtype=object)
    for class_id in range(1, 21):
        boundaries[class_id - 1, 0] = csc_matrix(label == class_id)
    present = np.setdiff1d(label, [0])[:, None]
    path.parent.mkdir(parents=True, exist_ok=True)
    contents = {"Boundaries": boundaries, "Segmentation": label, "CategoriesPresent": present}
    savemat(path, {"GTcls": contents}, do_compression=True)


def write_ids(path: Path, ids: Sequence[str]) -> None:
    """Write a list as VOC and SBD have them."""
    write_text(path, "".join(f"{image_id}\n" for image_id in ids))
