"""Whether lists are the benchmark's."""

from prepare.benchmark import Benchmark
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
