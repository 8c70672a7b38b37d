"""What shows all predictions at once: contact sheets, and a page for a browser, which needs only the pictures."""

from __future__ import annotations

import json
import os
from base64 import b64encode
from collections.abc import Mapping, Sequence
from hashlib import sha256
from html import escape
from pathlib import Path, PurePath
from typing import NamedTuple
from urllib.parse import quote

import numpy as np

from engine.prediction_forms import THUMBNAIL_SIDE, path_of
from engine.predictions import Area, described_classes, overall_confidence
from util.errors import UserError
from util.images import read_image, write_image
from util.images.draw import captioned_sheet

PAGE_ROWS, _COLUMNS = 100, 8
INDEX = "index.html"


class Shown(NamedTuple):
    """A query in the output folder: its name there, its file, and what was found of each class."""

    name: str
    query: str
    areas: Mapping[str, Area]


def sheet_names(stem: str, pictures: int) -> list[str]:
    """The files of contact sheets of so many pictures: ``STEM.jpg``, ``STEM_2.jpg``, ... of 100 each."""
    pages = -(-pictures // PAGE_ROWS)
    return [f"{stem}.jpg" if page == 1 else f"{stem}_{page}.jpg" for page in range(1, pages + 1)]


def write_sheets(
    folder: Path,
    stem: str,
    pictures: Sequence[np.ndarray],
    captions: Sequence[Sequence[str]],
    side: int = THUMBNAIL_SIDE,
) -> None:
    """Write the pictures, RGB uint8 (H, W, 3), each above its lines of text, 100 to a sheet.

    Their longer sides become ``side``.
    """
    for page, name in enumerate(sheet_names(stem, len(pictures))):
        rows = slice(page * PAGE_ROWS, (page + 1) * PAGE_ROWS)
        write_image(folder / name, captioned_sheet(pictures[rows], captions[rows], _COLUMNS, side))


def sorted_by_confidence(queries: Sequence[Shown]) -> list[Shown]:
    """The surest first."""
    return sorted(queries, key=lambda query: (-overall_confidence(query.areas), query.name))


def write_prediction_sheets(folder: Path, stem: str, queries: Sequence[Shown]) -> None:
    """``write_sheets`` of the thumbnails, in the order of the ``queries``; without one that cannot be read."""
    pictures, captions = [], []
    for query in queries:
        try:
            pictures.append(read_image(folder / path_of(query.name, "sheet")))
        except UserError:  # removed, or cut short by another program
            continue
        class_name, area = max(query.areas.items(), key=lambda item: (item[1].pixels, item[1].confidence))
        captions.append([PurePath(query.query).name, f"{class_name}: {area.described()}"])
    write_sheets(folder, stem, pictures, captions)


def index_page(folder: Path, queries: Sequence[Shown], classes: Sequence[str]) -> str:
    """The page, with links relative to ``folder``: a card for each query, a choice of class, a least confidence.

    It works without a server, and its policy forbids the browser to fetch anything from elsewhere.
    """
    cards = "\n".join(_card(folder, query, classes) for query in queries)
    options = "".join(
        f'<option value="{number}">{_text(name)}</option>' for number, name in enumerate(classes, start=1)
    )
    policy = (
        f"default-src 'none'; img-src 'self' file:; style-src '{_hash(_STYLE)}'; script-src '{_hash(_SCRIPT)}'; "
        "base-uri 'none'; form-action 'none'"
    )
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{len(queries)} predictions</title>
<style>{_STYLE}</style>
</head>
<body>
<header>
<label>class <select id="class"><option value="0">any</option>{options}</select></label>
<label>confidence from <input id="least" type="range" min="0" max="100" value="0"> <output id="shown-least">0 %</output>
</label>
<span id="count">{len(queries)} of {len(queries)}</span>
</header>
<main id="cards">
{cards}
</main>
<script>{_SCRIPT}</script>
</body>
</html>
"""


def _card(folder: Path, query: Shown, classes: Sequence[str]) -> str:
    confidences = [overall_confidence(query.areas), *(query.areas[name].confidence for name in classes)]
    links = {form: path_of(query.name, form) for form in ("overlay", "mask")}
    links = {form: path for form, path in links.items() if (folder / path).is_file()}
    thumbnail = f'<img loading="lazy" alt="" src="{_address(path_of(query.name, "sheet"))}">'
    picture = f'<a href="{_address(next(iter(links.values())))}">{thumbnail}</a>' if links else thumbnail
    lines = "".join(f"<li>{_text(line)}</li>" for _, line in described_classes(query.areas))
    further = " ".join(f'<a href="{_address(path)}">{form}</a>' for form, path in links.items())
    return (
        f'<article data-confidences="{json.dumps([round(each, 4) for each in confidences])}">{picture}'
        f"<h2>{_text(query.name)}</h2><ul>{lines}</ul><p>{further}</p></article>"
    )


def _text(value: str) -> str:
    """Names of files need not be text."""
    return escape(value.encode(errors="backslashreplace").decode())


def _address(path: str) -> str:
    """A relative link to a file, whatever its name holds; a colon in it makes no scheme."""
    return escape("./" + quote(os.fsencode(path)))


def _hash(content: str) -> str:
    """By which a policy allows an inline script or style."""
    return f"sha256-{b64encode(sha256(content.encode()).digest()).decode()}"


_STYLE = """
body { margin: 0; font: 14px/1.4 sans-serif; color: #111; background: #f4f4f4; }
header { position: sticky; top: 0; display: flex; flex-wrap: wrap; gap: 24px; padding: 12px 16px; background: #fff;
  border-bottom: 1px solid #ccc; z-index: 1; }
main { display: grid; grid-template-columns: repeat(auto-fill, minmax(256px, 1fr)); gap: 12px; padding: 16px; }
article { padding: 8px; background: #fff; border: 1px solid #ddd; overflow: hidden; }
article[hidden] { display: none; }
img { display: block; width: 240px; height: 180px; object-fit: contain; background: #222; margin: auto; }
h2 { margin: 6px 0 2px; font-size: 14px; overflow-wrap: anywhere; }
ul { margin: 0; padding: 0; list-style: none; }
p { margin: 4px 0 0; }
"""

_SCRIPT = """
const cards = [...document.querySelectorAll("article")];
const all = cards.map((card) => JSON.parse(card.dataset.confidences));
const chosen = document.getElementById("class");
const least = document.getElementById("least");
function update() {
  const column = Number(chosen.value);
  const order = cards.map((card, row) => [card, all[row][column]]);
  order.sort((first, second) => second[1] - first[1]);
  let count = 0;
  for (const [card, confidence] of order) {
    card.hidden = 100 * confidence < Number(least.value);
    count += card.hidden ? 0 : 1;
    card.parentNode.append(card);
  }
  document.getElementById("shown-least").textContent = `${least.value} %`;
  document.getElementById("count").textContent = `${count} of ${cards.length}`;
}
chosen.addEventListener("change", update);
least.addEventListener("input", update);
update();
"""
