"""Regions with random embeddings, and a naive search for their neighbours."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from episodes.region_table import RegionTable
from util.files import digest_lines, write_json, write_text


def make_table(folder: Path, regions: int, images: int, groups: int) -> RegionTable:
    draw = np.random.default_rng(regions)
    embedding = draw.standard_normal((regions, 12))
    embedding /= np.linalg.norm(embedding, axis=1, keepdims=True)
    image, group = (np.sort(draw.integers(count, size=regions)).astype(np.int32) for count in (images, groups))
    columns = {
        "image": image,
        "region": np.arange(regions, dtype=np.int32),
        "group": draw.permutation(group),
        "area": np.full(regions, 2048, dtype=np.int32),
    }
    names = [f"photo_{row:03d}" for row in range(images)]
    write_text(folder / "images.txt", "".join(f"JPEGImages/{name}.jpg\n" for name in names))
    write_json(folder / "manifest.json", {"list_digest": digest_lines(names)})
    save_file(columns, folder / "regions.safetensors")
    np.save(folder / "embeddings.npy", embedding.astype(np.float16))
    np.save(folder / "neighbours.npy", np.empty((regions, 0), dtype=np.int32))
    return RegionTable.load(folder)


def naive_neighbours(table: RegionTable, row: int, limit: int) -> list[int]:
    """docs/method.md, section 11.9, one region at a time."""
    members = [other for other in range(len(table)) if table.group[other] == table.group[row]]
    if limit == 0:
        limit = len(members) if len(members) < 20 else min(len(members) // 2, 5000)
    vectors = np.load(table.files.embeddings).astype(np.float64)
    members.sort(key=lambda other: -float(vectors[other] @ vectors[row]))
    rows: list[int] = []
    images = {int(table.image[row])}
    for other in members:
        if int(table.image[other]) not in images:
            images.add(int(table.image[other]))
            rows.append(other)
    return rows[:limit]
