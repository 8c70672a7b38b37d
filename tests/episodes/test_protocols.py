"""The table of protocols, and whether lists are the benchmark's."""

from dataclasses import replace

from episodes.protocols import Benchmark, Protocol, data_folder, protocol
from util.files import digest_lines

IDS = ["b", "a", "c"]


def test_the_digest_decides() -> None:
    benchmark = Benchmark(3, digest_lines(["a", "b", "c"]))
    assert benchmark.has(IDS) and benchmark.compare(IDS) == "3 images, exactly the benchmark's"
    assert benchmark.compare(IDS[1:]) == "2 images, 1 fewer than the benchmark's 3"
    assert benchmark.compare([*IDS, "d"]) == "4 images, 1 more than the benchmark's 3"
    assert benchmark.compare(["a", "b", "d"]).startswith("3 images, as many as the benchmark's, but others (SHA-256 ")
    assert not any(map(benchmark.has, (IDS[1:], [*IDS, "d"], ["a", "b", "d"])))


def test_without_a_digest_the_number_decides() -> None:
    benchmark = Benchmark(3, None)
    assert benchmark.has(["x", "y", "z"]) and not benchmark.has(["x"])
    assert benchmark.compare(["x", "y", "z"]) == "3 images, as many as the benchmark's"


def test_a_dataset_outside_the_table_follows_pascal_without_official_lists() -> None:
    assert protocol("cells") == Protocol()
    assert replace(protocol("pascal"), benchmarks={}, default_experiment=Protocol().default_experiment) == Protocol()
    assert data_folder("cells") == "cells" and data_folder("pascal") == "pascal"


def test_what_papers_report_of_the_benchmarks() -> None:
    pascal, coco = protocol("pascal"), protocol("coco")
    assert {split: benchmark.images for split, benchmark in pascal.benchmarks.items()} == {"train": 5953, "val": 1449}
    assert {split: benchmark.images for split, benchmark in coco.benchmarks.items()} == {"train": 82081, "val": 40137}
    assert (pascal.test_episodes, pascal.fold_size, pascal.published_void) == (1000, 5, "padding")
    assert (coco.test_episodes, coco.fold_size, coco.published_void) == (5000, 20, "background")
    assert data_folder("coco") == "COCO2014"
