"""What all tests share: one thread, Ctrl-C, a cache folder of their own, no GPU tests without a GPU."""

from __future__ import annotations

import logging
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from masks.prepared_images import thread_pool
from util.logging import logger

pytest.register_assert_rewrite("tests.workspace")  # its fixtures are for a few files only


def pytest_configure() -> None:
    torch.set_num_threads(1)
    # A shell makes its background jobs deaf to Ctrl-C, and they their children: some tests press it.
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("gpu") and not torch.cuda.is_available():
        pytest.skip("needs an NVIDIA GPU")


@pytest.fixture
def messages() -> Iterator[list[str]]:
    """What the project logs during the test, whatever a command run before did to the logger."""
    said: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: said.append(record.getMessage())  # type: ignore[method-assign]
    logger.addHandler(handler)
    yield said
    logger.removeHandler(handler)


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    """Two threads, as those that make pseudo masks."""
    with thread_pool(2) as pool:
        yield pool


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Nothing a test derives ends in the user's cache, and nothing in it helps a test."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("UNSUPFSS_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield
