"""The nearest neighbours of every region, computed once so that no episode has to search.

docs/method.md, section 11.9. Candidates are found in single precision, on a CPU with faiss where it is installed. Their
order is settled in double precision, which holds sums of products of half precision exactly: it depends on neither
device nor threads nor library.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import torch
from threadpoolctl import threadpool_limits
from torch import Tensor
from tqdm import tqdm

from episodes.groups import Groups
from masks.prepared_images import thread_pool
from util.logging import logger
from util.seed import numpy_random

# Regions that a thread compares at a time: 64 MiB of similarities, and as much of widened embeddings of 2,048 channels.
_QUERIES = 2048
_OTHERS = 8192
# Threads that share a GPU and rank what it finds.
_GPU_THREADS = 4
# Regions whose candidates are compared in double precision at a time.
_EXACT = 64
# Candidates beyond those needed, in case rounding pushes a neighbour over the edge.
_SPARE = 8
# Regions of a group up to which faiss compares each with all others.
_MOST_COMPARED = 100_000
# Beyond that: regions for each list that it is learnt from, passes over them, and lists that are searched at first.
_SAMPLES = 64
_PASSES = 10
_FEWEST_SEARCHED = 8
# The recall that is enough, and regions that it is measured on.
_RECALL = 0.95
_MEASURED = 1000


class Neighbours(NamedTuple):
    """``rows`` int32 (R, limit), and which share of the true neighbours they are, in the group where it is lowest."""

    rows: np.ndarray
    recall: float


def nearest_neighbours(
    image: np.ndarray, group: np.ndarray, embedding: np.ndarray, *, limit: int, device: torch.device
) -> Neighbours:
    """For each region the ``limit`` most similar ones of its group in other images, one per image.

    ``image``, ``group`` int32 (R,); ``embedding`` float16 (R, D) of unit length, may be memory-mapped. Rows have the
    highest cosine first, the lower row first among equals, -1 where there are no more. Every region is compared with
    every other one of its group; faiss looks in an inverted file where a group has more than 100,000.
    """
    nearest = np.full((len(image), limit), -1, dtype=np.int32)
    if limit == 0:
        return Neighbours(nearest, 1.0)
    faiss = find_faiss(device)
    threads = torch.get_num_threads() if device.type == "cpu" else _GPU_THREADS
    with thread_pool(threads) as pool, tqdm(total=len(image), desc="neighbours", unit="region") as progress:
        groups = [FullSearch(image, embedding, members, limit, device, faiss) for members in Groups(group)]
        searches = [InvertedFile.of(full) if faiss and len(full.members) > _MOST_COMPARED else full for full in groups]
        blocks = [(search, queries) for search in searches for queries in _blocks(search.order, _QUERIES)]
        for (_, queries), found in zip(blocks, pool.map(lambda block: block[0](block[1]), blocks), strict=True):
            nearest[queries] = found
            progress.update(len(queries))
    return Neighbours(nearest, min((search.recall for search in searches), default=1.0))


def find_faiss(device: torch.device) -> Any:
    """The module; None where torch searches."""
    if device.type != "cpu":
        return None
    try:
        return importlib.import_module("faiss")
    except ImportError as error:
        logger.info("neighbours of regions: torch searches for them, which takes longer than faiss (%s)", error)
        return None


def _blocks(rows: np.ndarray, size: int) -> Iterator[np.ndarray]:
    for start in range(0, len(rows), size):
        yield rows[start : start + size]


@dataclass(frozen=True)
class FullSearch:
    """Compares regions of a group with all others. Called with rows (Q,), it gives their neighbours (Q, limit)."""

    image: np.ndarray
    embedding: np.ndarray
    members: np.ndarray
    limit: int
    device: torch.device
    faiss: Any
    recall = 1.0

    def __call__(self, queries: np.ndarray) -> np.ndarray:
        if self.faiss is None:
            return self.settled(queries, self._candidates_by_torch(queries))
        everyone = np.arange(len(queries))
        return self.settled(queries, self.candidates(queries, ((everyone, b) for b in _blocks(self.members, _OTHERS))))

    @property
    def order(self) -> np.ndarray:
        """The members in the order in which it is best to search for them."""
        return self.members

    def candidates(self, queries: np.ndarray, parts: Iterable[tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
        """Rows of the members most similar to each query, (Q, C), rising.

        ``parts`` say which places of ``queries`` are compared with which rows. The query itself stands for those that
        are missing.
        """
        vectors = self.widened(queries)
        best = self.faiss.ResultHeap(len(queries), self._count, keep_max=True)
        for places, others in parts:
            similarity = vectors[torch.from_numpy(places)] @ self.widened(others).T
            best.add_result_subset(places, similarity.numpy(), others)
        return np.sort(np.where(best.I < 0, queries[:, None], best.I), axis=1)

    def settled(self, queries: np.ndarray, candidates: np.ndarray) -> np.ndarray:
        """The neighbours among the candidates (Q, C), rising: (Q, limit)."""
        nearest = np.empty((len(queries), self.limit), dtype=np.int32)
        for start in range(0, len(queries), _EXACT):
            part = slice(start, start + _EXACT)
            ranked = _rank(self.embedding, queries[part], candidates[part])
            nearest[part] = _best_of_images(self.image, queries[part], ranked, self.limit)
        return nearest

    def widened(self, rows: np.ndarray) -> Tensor:
        return torch.from_numpy(self.embedding[rows]).to(self.device).float()

    @cached_property
    def _count(self) -> int:
        """Candidates of a query: as many as ``limit`` other images and its own can take up."""
        return min((self.limit + 1) * int(np.bincount(self.image[self.members]).max()) + _SPARE, len(self.members))

    def _candidates_by_torch(self, queries: np.ndarray) -> np.ndarray:
        query_vectors = self.widened(queries)
        best = torch.empty((len(queries), 0), device=self.device)
        rows = torch.empty((len(queries), 0), dtype=torch.int64, device=self.device)
        for others in _blocks(self.members, _OTHERS):
            similarity = torch.cat([best, query_vectors @ self.widened(others).T], dim=1)
            best, chosen = similarity.topk(min(self._count, similarity.shape[1]), dim=1)
            further = torch.from_numpy(others).to(self.device).expand(len(queries), -1)
            rows = torch.cat([rows, further], dim=1).gather(1, chosen)
        return rows.sort(dim=1).values.cpu().numpy()


@dataclass(frozen=True)
class InvertedFile:
    """The members of a group in lists of similar ones; a region is compared with those of the lists nearest to it.

    Each list is searched for all queries at once: faiss's own search, query by query, takes six times as long.
    """

    full: FullSearch
    centroids: np.ndarray
    lists: list[np.ndarray]
    searched: int
    recall: float = 0.0

    @classmethod
    def of(cls, full: FullSearch) -> InvertedFile:
        """Learn the lists, then search more and more of them until the recall is enough."""
        centroids = _learn_centroids(full)
        nearest = np.concatenate([_nearest(full, part, centroids, 1)[:, 0] for part in _blocks(full.members, _QUERIES)])
        lists = [full.members[nearest == number] for number in range(len(centroids))]
        sample = full.members[np.linspace(0, len(full.members) - 1, _MEASURED, dtype=int)]
        expected = full(sample)
        file = cls(full, centroids, lists, _FEWEST_SEARCHED)
        while (recall := _recall(file(sample), expected)) < _RECALL and file.searched < len(lists):
            file = replace(file, searched=min(2 * file.searched, len(lists)))
        shares = (len(full.members), len(lists), file.searched, 100 * recall)
        logger.info("neighbours among %d regions: in %d lists, %d searched for each, recall %.2f %%", *shares)
        return replace(file, recall=recall)

    def __call__(self, queries: np.ndarray) -> np.ndarray:
        nearest = self.full.settled(queries, self.full.candidates(queries, self._parts(queries)))
        short = queries[nearest[:, -1] < 0]
        if len(short):
            nearest[nearest[:, -1] < 0] = self.full(short)
        return nearest

    @property
    def order(self) -> np.ndarray:
        """The members list by list: regions of one list search mostly the same ones."""
        return np.concatenate(self.lists)

    def _parts(self, queries: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        searched = Groups(_nearest(self.full, queries, self.centroids, self.searched).ravel())
        for number, places in zip(searched.values, searched, strict=True):
            if len(self.lists[number]):
                yield places // self.searched, self.lists[number]


def _learn_centroids(full: FullSearch) -> np.ndarray:
    """Twice as many as the root of the number of members, (L, D) float16; on one thread, for the same bits."""
    count = round(2 * math.sqrt(len(full.members)))
    rows = full.members
    if len(rows) > _SAMPLES * count:
        rows = np.sort(numpy_random("regions of lists").choice(rows, _SAMPLES * count, replace=False))
    options = {"niter": _PASSES, "spherical": True, "min_points_per_centroid": 1, "seed": 1}
    kmeans = full.faiss.Kmeans(full.embedding.shape[1], count, **options)
    with threadpool_limits(1):
        kmeans.train(full.widened(rows).numpy())
    centroids: np.ndarray = kmeans.centroids.astype(np.float16)
    return centroids


def _nearest(full: FullSearch, queries: np.ndarray, centroids: np.ndarray, count: int) -> np.ndarray:
    """The numbers of the ``count`` centroids nearest to each query, (Q, count), by exact sums."""
    similarity = torch.from_numpy(full.embedding[queries]).double() @ torch.from_numpy(centroids).double().T
    return similarity.topk(count, dim=1).indices.numpy()


def _recall(found: np.ndarray, expected: np.ndarray) -> float:
    """The share of the expected neighbours that were found; both (Q, limit), -1 for none."""
    hits = sum(np.isin(right[right >= 0], rows).sum() for rows, right in zip(found, expected, strict=True))
    return float(hits / max(1, (expected >= 0).sum()))


def _rank(embedding: np.ndarray, queries: np.ndarray, candidates: np.ndarray) -> np.ndarray:
    """``candidates`` (Q, C), rising, by falling cosine with their query."""
    vectors = torch.from_numpy(embedding[candidates]).float().numpy()
    cosine = np.einsum("qcd,qd->qc", vectors, embedding[queries].astype(np.float64))
    return np.take_along_axis(candidates, np.argsort(-cosine, axis=1, kind="stable"), axis=1)


def _best_of_images(image: np.ndarray, queries: np.ndarray, ranked: np.ndarray, limit: int) -> np.ndarray:
    """The first region of each other image in ``ranked`` (Q, C), ``limit`` of them, then -1: (Q, limit) int32."""
    # The first region of each image: in a stable order by image, the one whose predecessor is of another image.
    images = image[ranked]
    order = np.argsort(images, axis=1, kind="stable")
    in_order = np.take_along_axis(images, order, axis=1)
    first = np.ones_like(ranked, dtype=bool)
    np.put_along_axis(first, order[:, 1:], in_order[:, 1:] != in_order[:, :-1], axis=1)
    # Without the query's own image, and no more than the limit.
    kept = first & (images != image[queries][:, None])
    place = np.cumsum(kept, axis=1) - 1
    kept &= place < limit
    # Close up the gaps.
    nearest = np.full((len(queries), limit), -1, dtype=np.int32)
    nearest[np.nonzero(kept)[0], place[kept]] = ranked[kept]
    return nearest
