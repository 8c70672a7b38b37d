"""What is special about the datasets that the project knows by name, in one table: folds, tests, folder, lists."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from util.files import digest_lines

SupportVoid = Literal["void", "padding", "background"]
"""What the 255 pixels of supports are: neither object nor background; padding or background in the published code."""


class Benchmark(NamedTuple):
    """The official list of a benchmark: its number of images, and the SHA-256 of their sorted ids, one per line.

    ``digest`` is None where only the number of images is published.
    """

    images: int
    digest: str | None

    def has(self, ids: Collection[str]) -> bool:
        """Whether these are the list's ids; without a digest, whether their number agrees."""
        return len(ids) == self.images and self.digest in (None, digest_lines(sorted(ids)))

    def compare(self, ids: Collection[str]) -> str:
        """A phrase for messages: the number of ids, and whether they are the benchmark's."""
        count, difference = f"{len(ids):,} images", len(ids) - self.images
        if difference:
            more = "more" if difference > 0 else "fewer"
            return f"{count}, {abs(difference):,} {more} than the benchmark's {self.images:,}"
        if self.digest is None:
            return f"{count}, as many as the benchmark's"
        if self.has(ids):
            return f"{count}, exactly the benchmark's"
        return f"{count}, as many as the benchmark's, but others (SHA-256 {digest_lines(sorted(ids))})"


@dataclass(frozen=True)
class Protocol:
    """How a dataset is split into folds, stored and tested (docs/method.md, sections 10 and 12).

    The defaults hold for every dataset outside the table; folds and tests are those of PASCAL-5i.
    """

    classes: int | None = None
    """Number of object classes, regardless of the configuration; None: as configured, else 20."""

    interleaved: bool = False
    """Whether a fold holds back every fourth class, rather than consecutive ones."""

    all_folds_test: tuple[int, ...] | None = None
    """The classes that split 5 tests on with interleaved folds; None: all."""

    test_episodes: int = 1000
    """Episodes of a test."""

    fold_size: int = 5
    """Slots into which the published protocol folds the classes of a test."""

    folder: str | None = None
    """Name of the folder that holds the data; None: the dataset's name."""

    published_void: SupportVoid = "padding"
    """What the published code takes the supports' 255 pixels for."""

    default_experiment: str = "ssl_mobilenetv2"
    """The unsupervised experiment that pseudo masks are made for unless another one is named."""

    benchmarks: Mapping[str, Benchmark] = field(default_factory=dict)
    """The official lists, "train" and "val"; empty where there are none."""


PROTOCOLS: dict[str, Protocol] = {
    "pascal": Protocol(
        default_experiment="ssl_resnet50",
        benchmarks={
            "train": Benchmark(5953, "a9bc0a1466deee7a9d4923ae677ec6098f090110a60cb769052a4abad586746c"),
            "val": Benchmark(1449, "cdc1326d12f69ce5153aa5da04a4d8783e146868d42d19f82f44e74b97ac907d"),
        },
    ),
    "coco": Protocol(
        classes=80,
        interleaved=True,
        all_folds_test=(*range(1, 8), 9, *range(15, 21), 40, 57, 58, 59, 61, 66),
        test_episodes=5000,
        fold_size=20,
        folder="COCO2014",
        published_void="background",
        default_experiment="ssl_resnet50",
        benchmarks={
            "train": Benchmark(82081, None),
            "val": Benchmark(40137, "6f65de2c151265166b98f2202c9822d6a81f607f2c39e39c01d279d9de690c1a"),
        },
    ),
    "shapes": Protocol(default_experiment="ssl_resnet50"),
}


def protocol(dataset: str) -> Protocol:
    """The protocol of a dataset, by its name in the commands."""
    return PROTOCOLS.get(dataset, Protocol())


def data_folder(dataset: str) -> str:
    """Name of the folder that holds the dataset's images and labels."""
    return protocol(dataset).folder or dataset
