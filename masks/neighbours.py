"""The nearest neighbours of every region, computed once so that no episode has to search.

docs/method.md, section 11.9.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from episodes.groups import Groups

# Regions compared at a time: 128 MiB of similarities, and as much of widened embeddings with 2,048 channels.
_QUERIES = 2048
_OTHERS = 16384
# Regions whose candidates are compared in double precision at a time.
_EXACT = 64
# Candidates beyond those needed, in case rounding pushes a neighbour over the edge.
_SPARE = 8


def nearest_neighbours(
    image: np.ndarray, group: np.ndarray, embedding: np.ndarray, *, limit: int, device: torch.device
) -> np.ndarray:
    """For each region the ``limit`` most similar ones of its group in other images, one per image.

    ``image``, ``group`` int32 (R,); ``embedding`` float16 (R, D) of unit length, may be memory-mapped. Returns int32
    (R, limit): rows, highest cosine first, the lower row first among equals, -1 where there are no more. Every region
    is compared with every other one of its group, on ``device``; the order is decided in double precision, so that it
    depends on neither device nor threads.
    """
    nearest = np.full((len(image), limit), -1, dtype=np.int32)
    if limit == 0:
        return nearest
    with tqdm(total=len(image), desc="neighbours", unit="region") as progress:
        for members in Groups(group):
            # As many as `limit` other images and the region's own can take up.
            count = (limit + 1) * int(np.bincount(image[members]).max()) + _SPARE
            for queries in _blocks(members, _QUERIES):
                candidates = _most_similar(embedding, queries, members, count, device)
                for start in range(0, len(queries), _EXACT):
                    part = slice(start, start + _EXACT)
                    ranked = _rank(embedding, queries[part], candidates[part])
                    nearest[queries[part]] = _best_of_images(image, queries[part], ranked, limit)
                progress.update(len(queries))
    return nearest


def _blocks(rows: np.ndarray, size: int) -> Iterator[np.ndarray]:
    for start in range(0, len(rows), size):
        yield rows[start : start + size]


def _most_similar(
    embedding: np.ndarray, queries: np.ndarray, members: np.ndarray, count: int, device: torch.device
) -> np.ndarray:
    """Rows of the ``count`` members most similar to each query (all where there are fewer), (Q, count), rising."""

    def widened(rows: np.ndarray) -> Tensor:
        return torch.from_numpy(embedding[rows]).to(device).float()

    query_vectors = widened(queries)
    best = torch.empty((len(queries), 0), device=device)
    rows = torch.empty((len(queries), 0), dtype=torch.int64, device=device)
    for others in _blocks(members, _OTHERS):
        similarity = torch.cat([best, query_vectors @ widened(others).T], dim=1)
        best, chosen = similarity.topk(min(count, similarity.shape[1]), dim=1)
        further = torch.from_numpy(others).to(device).expand(len(queries), -1)
        rows = torch.cat([rows, further], dim=1).gather(1, chosen)
    return rows.sort(dim=1).values.cpu().numpy()


def _rank(embedding: np.ndarray, queries: np.ndarray, candidates: np.ndarray) -> np.ndarray:
    """``candidates`` (Q, C), rising, by falling cosine with their query."""
    vectors = torch.from_numpy(embedding[candidates]).double()
    cosine = (vectors @ torch.from_numpy(embedding[queries]).double()[..., None])[..., 0].numpy()
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
