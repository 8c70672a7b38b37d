"""The readers of users' files, with sound files for each and what is right about what it reads."""

from __future__ import annotations

import io
import json
import os
import shutil
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import safetensors.torch
import torch
from PIL import ExifTags, Image
from scipy.io import savemat
from scipy.sparse import csc_matrix
from torch import nn

from engine.compare import compare, paired_test
from engine.metrics import EpisodeMetrics
from engine.report import comparison_table
from engine.results import RESULTS, build_results
from engine.run_folder import save_checkpoint
from engine.scores import SCORES, write_scores
from engine.seed_results import SEEDS, read_repeated_test, save_seed_results, seed_folder
from episodes.lists import read_list
from episodes.region_table import RegionTable
from model import load_model
from model.checkpoints import CHECKPOINT_VERSION
from model.weights import load_tensors, read_tensors
from prepare.coco.annotations import read_own_instances
from prepare.coco.drawing import draw_label
from prepare.folder.colour_masks import read_colours
from prepare.folder.labelme import read_labelme
from prepare.pascal.sbd import decode_sbd_label
from tests.episodes.region_tables import make_table
from tests.fuzz.reading import Reader
from tests.model.networks import tiny_model
from util.config import load_config
from util.files import PROJECT, write_json
from util.images import image_size, read_image, read_label, write_label
from util.images.mask_files import read_object

_MOST_PIXELS = 10**6  # of a label that a fuzzed outline is drawn into


def build_reader(name: str, folder: Path) -> Reader:
    """The reader of this name, with what it needs beside its file in ``folder``."""
    return READERS[name](folder)


def _lists(folder: Path) -> Reader:
    for name in ("JPEGImages/1.jpg", "JPEGImages/2 b.jpg", "SegmentationClassAug/1.png", "SegmentationClassAug/2.png"):
        (folder / "data" / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / "data" / name).touch()

    def read(path: Path) -> None:
        images = read_list(path, folder / "data", need_labels=True)
        assert len(images) == len(set(images.images)) == len(images.labels) > 0
        assert all(images.image_path(row).is_file() for row in range(len(images)))

    seeds = [
        b"JPEGImages/1.jpg SegmentationClassAug/1.png\n",
        b"JPEGImages/1.jpg SegmentationClassAug/1.png\r\n# more\nJPEGImages/2 b.jpg\tSegmentationClassAug/2.png\t\n",
    ]
    return Reader("list.txt", read, seeds, [b"/", b"\\", b"../", b",", b"#", b"\t", b"JPEGImages/1.jpg"])


def _coco(folder: Path) -> Reader:
    def read(path: Path) -> None:
        instances = read_own_instances(path)
        classes = {number: row for row, number in enumerate(sorted(instances.categories)[:200], start=1)}
        for image in instances.images:
            drawn = [annotation for annotation in image.annotations if annotation.category in classes]
            if drawn and image.height * image.width <= _MOST_PIXELS:
                label = draw_label(image._replace(annotations=drawn), classes, ignore_crowds=False)
                assert label.shape == (image.height, image.width)
                assert set(np.unique(label)) <= {0, *classes.values()}

    polygons = {"id": 1, "image_id": 7, "category_id": 3, "iscrowd": 0, "segmentation": [[1, 1, 9, 1.5, 9, 8]]}
    counts = {"id": 2, "image_id": 7, "category_id": 5, "iscrowd": 1}
    content = {
        "info": {"year": 2014},
        "images": [{"id": 7, "file_name": "a/b.jpg", "height": 10, "width": 12}],
        "categories": [{"id": 3, "name": "cat", "supercategory": "animal"}, {"id": 5, "name": "dog"}],
        "annotations": [
            polygons,
            {**counts, "segmentation": {"size": [10, 12], "counts": [20, 30, 70]}},
            {**counts, "id": 3, "segmentation": {"size": [10, 12], "counts": "d0n0V2"}},
        ],
    }
    names = (b'"segmentation"', b'"counts"', b'"size"', b'"height"', b'"id"', b'"file_name"', b"\\ud800", b"1e9", b"[[")
    return Reader("instances.json", read, [json.dumps(content).encode()], names)


def _labelme(folder: Path) -> Reader:
    def read(path: Path) -> None:
        names, (mask,) = read_labelme([path], None, 1)
        height, width = mask.size()
        if height * width <= _MOST_PIXELS:
            label = mask.read()
            assert label.shape == (height, width)
            assert set(np.unique(label)) <= {255, *range(len(names) + 1)}

    shapes = [
        {"label": "cat", "shape_type": "polygon", "points": [[1, 1], [8, 1.5], [8, 9]]},
        {"label": "dog", "shape_type": "rectangle", "points": [[2, 2], [5, 6]]},
        {"label": "dog", "shape_type": "circle", "points": [[5, 5], [7, 5]]},
        {"label": "cat", "shape_type": "line", "points": [[5, 5], [7, 5]]},
    ]
    content = {"version": "5.4.1", "flags": {}, "imagePath": "a.jpg", "imageHeight": 10, "imageWidth": 12}
    seed = json.dumps({**content, "imageData": None, "shapes": shapes}).encode()
    return Reader("a.json", read, [seed], [b'"points"', b'"mask"', b'"label"', b"1e300", b"\\ud800", b"[["])


def _colours(folder: Path) -> Reader:
    def read(path: Path) -> None:
        table = read_colours(path)
        assert set(table.labels.values()) <= {0, 255, *range(1, len(table.names) + 1)}

    seeds = [
        b"cat 255 0 0\ndog 0 128 0\nvoid 255 255 255\n",
        b"# label:color_rgb:parts:actions\ncat:1,2,3::\nbackground:0,0,0::\n",
    ]
    return Reader("colours.txt", read, seeds, [b" " * 20000, b":", b",", b"256", b"#", b"background"])


def _words(folder: Path) -> Reader:
    def read(path: Path) -> None:
        words = os.fsdecode(path.read_bytes()).split("\n")
        load_config("shapes", "ssl_demo", [word for word in words if "\0" not in word])

    seeds = [
        b"TRAIN.epochs=3\nTRAIN.base_lr=1e-3",
        b"scales=[0.5, 1.0]\nTRAIN.train_gpu=[0]\nTRAIN.evaluate=true",
        b"TRAIN.weight=a.pth\nCluster.extractor=timm:resnet18\nsplit=5",
    ]
    tokens = [b"!!int x", b"!!timestamp x", b"2001-99-99", b"0x", b"1:30", b"010", b"[" * 3000, b"&a [*a]", b"9" * 5000]
    return Reader("words", read, seeds, [*tokens, b"*a", b"<<: {}", b"? ", b"- ", b"{a: b}", b"%TAG", b"---"])


def _yaml(folder: Path) -> Reader:
    (folder / "config" / "own").mkdir(parents=True)
    for name in ("base.yaml", "ssl.yaml"):
        shutil.copy(PROJECT / "config" / name, folder / "config" / name)

    def read(path: Path) -> None:
        (folder / "config" / "own" / "own_ssl_mine.yaml").write_bytes(path.read_bytes())
        with patch("util.config.PROJECT", folder):
            load_config("own", "ssl_mine")

    seed = b"""base: [../base.yaml, ../ssl.yaml]
DATA:
  data_root: data/own
  train_list: lists/own/train.txt
  val_list: lists/own/val.txt
  classes: 3
TRAIN: {base_lr: 0.001, mid_stages: [-2]}
"""
    tokens = [
        b"base: [.]",
        b"base: [own_ssl_mine.yaml]",
        b"!!python/name:os.system",
        b"2001-99-99",
        b"&a",
        b"*a",
        b"<<:",
    ]
    return Reader("own.yaml", read, [seed], [*tokens, b"? ", b"- ", b"\t", b"|", b">", b"TRAIN:", b"[" * 2000])


def _checkpoints(folder: Path) -> Reader:
    model = tiny_model(contrast_residual=True).state_dict()
    overrides = ["TRAIN.backbone=mobilenetv2_035", "TRAIN.hidden_dims=16", "TRAIN.contrast_residual=true"]
    config = load_config("shapes", "ssl_demo", overrides)
    origin = {"epoch": 1, "label_use": "none", "config": config.model_dump(mode="json")}
    save_checkpoint(folder / "sound.pth", {"version": CHECKPOINT_VERSION, "model": model, **origin})

    def read(path: Path) -> None:
        tensors = load_model(path).state_dict()
        assert tensors.keys() == model.keys()
        assert all(torch.equal(tensor, model[name]) for name, tensor in tensors.items())

    return Reader("c.pth", read, [(folder / "sound.pth").read_bytes()], [b"\x80\x02", b"PK\x03\x04", b"cos\nsystem\n"])


def _weights(folder: Path) -> Reader:
    network = nn.Sequential(OrderedDict(conv1=nn.Conv2d(3, 2, 1)))
    tensors = {f"module.encoder_q.{name}": tensor for name, tensor in network.state_dict().items()}
    seeds = [safetensors.torch.save(tensors)]
    for content, is_zip in (({"state_dict": tensors, "epoch": 3}, True), ({"model": tensors}, False)):
        buffer = io.BytesIO()
        torch.save(content, buffer, _use_new_zipfile_serialization=is_zip)
        seeds.append(buffer.getvalue())

    def read(path: Path) -> None:
        load_tensors(network, read_tensors(path), name="the network")
        assert all(tensor.isfinite().all() for tensor in network.parameters())

    tokens = [
        b"ctorch._utils\n_rebuild_tensor_v2\n",
        b"cos\nsystem\n",
        b"cbuiltins\neval\n",
        b"F64",
        b"[1000000000000]",
    ]
    return Reader("w.pth", read, seeds, [*tokens, b"\x80\x02", b"PK\x03\x04", b"R", b"."])


def _images(folder: Path) -> Reader:
    image = Image.fromarray(np.random.default_rng(0).integers(0, 255, (24, 32, 3), dtype=np.uint8))
    turned = Image.Exif()
    turned[ExifTags.Base.Orientation] = 6
    seeds = [
        *(_saved(image, kind, exif=turned) for kind in ("JPEG", "PNG", "TIFF", "WEBP")),
        *(_saved(image, kind) for kind in ("BMP", "GIF", "JPEG2000", "AVIF", "PPM")),
        _saved(image.convert("CMYK"), "JPEG"),
        _saved(image.convert("P"), "TIFF", compression="tiff_lzw"),
    ]

    def read(path: Path) -> None:
        with _fewer_pixels():
            pixels = read_image(path)
            assert pixels.dtype == np.uint8 and pixels.shape[:2] == image_size(path)

    return Reader(
        "image.jpg", read, seeds, [b"\xff\xd9", b"\xff\xda", b"IDAT", b"IEND", b"Exif\0\0", b"II*\0", b"MM\0*"]
    )


def _labels(folder: Path) -> Reader:
    label = np.zeros((24, 32), dtype=np.uint8)
    label[5:20, 5:20] = 7
    write_label(folder / "sound.png", label)
    grey = Image.fromarray(label)
    seeds = [(folder / "sound.png").read_bytes(), _saved(grey, "PNG"), _saved(grey, "TIFF")]

    def read(path: Path) -> None:
        with _fewer_pixels():
            label = read_label(path)
            reading = read_object(path)
        assert label.dtype == np.uint8 and label.ndim == 2 and label.size
        assert reading.ids.shape == label.shape and reading.understood
        assert set(np.unique(reading.ids)) <= {0, 1, 255}

    return Reader("label.png", read, seeds, [b"IDAT", b"IEND", b"PLTE", b"tRNS", b"IHDR", b"DDS ", b"BLP2", b"8BPS"])


@contextmanager
def _fewer_pixels() -> Iterator[None]:
    """Lower the bound on pixels: sound images as large as it takes half a minute to read."""
    with patch("util.images.image_files.PIXEL_LIMIT", 1 << 22):
        yield


def _sbd(folder: Path) -> Reader:
    segmentation = np.zeros((12, 10), dtype=np.uint8)
    segmentation[3:6, 4:9] = 9
    boundaries = csc_matrix(segmentation > 0)
    seeds = []
    for compressed in (False, True):
        buffer = io.BytesIO()
        record = {"Segmentation": segmentation, "Boundaries": boundaries, "CategoriesPresent": np.array([9])}
        savemat(buffer, {"GTcls": record}, do_compression=compressed)
        seeds.append(buffer.getvalue())

    def read(path: Path) -> None:
        label = decode_sbd_label(path.read_bytes(), str(path))
        assert label.dtype == np.uint8 and label.ndim == 2 and label.size

    return Reader("a.mat", read, seeds, [b"GTcls", b"Segmentation", b"\x0e\0\0\0", b"\x0f\0\0\0"])


def _results(folder: Path) -> Reader:
    def read(path: Path) -> None:
        shutil.copy(path, folder / "damaged" / RESULTS)
        assert "nan" not in comparison_table([folder / "damaged"])
        _compare(folder)

    return Reader(
        "r.json", read, [_tested(folder, RESULTS)], [b'"protocol"', b'"miou"', b'"split"', b"Infinity", b"-5"]
    )


def _scores(folder: Path) -> Reader:
    def read(path: Path) -> None:
        shutil.copy(path, folder / "damaged" / SCORES)
        _compare(folder)

    return Reader("e.csv", read, [_tested(folder, SCORES)], [b",", b'"', b"\r", b"9" * 5000, b"1,a.jpg,0,0,0,0\n"])


def _seeds(folder: Path) -> Reader:
    _tested(folder, RESULTS)
    for seed in (1, 2):
        shutil.copytree(folder / "sound", seed_folder(folder / "damaged", seed))
    save_seed_results(folder / "damaged", [1, 2])

    def read(path: Path) -> None:
        shutil.copy(path, folder / "damaged" / SEEDS)
        assert "nan" not in comparison_table([folder / "damaged"])
        _compare(folder)

    tokens = [b'"seeds"', b'"deviation"', b"null", b"Infinity", b"-5", b"9" * 5000]
    return Reader("s.json", read, [(folder / "damaged" / SEEDS).read_bytes()], tokens)


def _tested(folder: Path, name: str) -> bytes:
    """Two run folders with the same test, ``sound`` and ``damaged``; returns a file of theirs."""
    metrics = EpisodeMetrics()
    for number in range(6):
        target, prediction = torch.zeros(6, 6, dtype=torch.int64), torch.zeros(6, 6, dtype=torch.int64)
        target[:3], prediction[: number % 4] = 1, 1
        metrics.add(1 + number % 2, f"JPEGImages/{number}.jpg", prediction, target)
    protocol = {
        "method": "nearest",
        "label_use": "none",
        "checkpoint": "none",
        "dataset": "shapes",
        "val_list": "val.txt",
    }
    numbers = {"split": 0, "shots": 1, "episodes": 6, "seed": 1, "size": 65, "min_area": 1, "compat": "ours"}
    for run in ("sound", "damaged"):
        write_scores(folder / run, metrics.scores)
        write_json(folder / run / RESULTS, build_results(metrics, {**protocol, **numbers}, [1, 2]))
    return (folder / "damaged" / name).read_bytes()


def _compare(folder: Path) -> None:
    damaged, sound = (read_repeated_test(folder / name) for name in ("damaged", "sound"))
    differences = compare([paired_test(damaged, sound)], draws=100)
    assert all(np.isfinite(value).all() for value in differences)


def _regions(folder: Path) -> Reader:
    return _pseudo(folder, "regions.safetensors", [b'"shape"', b'"I32"', b'"F16"', b"[0]"])


def _embeddings(folder: Path) -> Reader:
    return _pseudo(folder, "embeddings.npy", [b"'<f2'", b"'|O'", b"'fortran_order': True", b"(9999999999, 4)"])


def _neighbours(folder: Path) -> Reader:
    return _pseudo(folder, "neighbours.npy", [b"'<i4'", b"'|O'", b"'fortran_order': True", b"(2, 2)"])


def _pseudo(folder: Path, name: str, tokens: Sequence[bytes]) -> Reader:
    make_table(folder, regions=30, images=9, groups=2)
    seed = (folder / name).read_bytes()

    def read(path: Path) -> None:
        shutil.copy(path, folder / name)
        table = RegionTable.load(folder)
        assert len(table) == len(table.region) == len(table.group) == len(table.area) > 0
        for row in range(len(table)):
            assert set(table.neighbours(row, 3).tolist()) <= set(range(len(table)))

    return Reader(f"damaged.{name}", read, [seed], tokens)


def _saved(image: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format=kind, **options)
    return buffer.getvalue()


READERS: dict[str, Callable[[Path], Reader]] = {
    "lists": _lists,
    "coco": _coco,
    "labelme": _labelme,
    "colours": _colours,
    "words": _words,
    "yaml": _yaml,
    "checkpoints": _checkpoints,
    "weights": _weights,
    "images": _images,
    "labels": _labels,
    "sbd": _sbd,
    "results": _results,
    "scores": _scores,
    "seeds": _seeds,
    "regions": _regions,
    "embeddings": _embeddings,
    "neighbours": _neighbours,
}
