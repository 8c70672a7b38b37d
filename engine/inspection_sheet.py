"""Why did the network predict that? The steps of one prediction on a sheet (docs/training.md, "One episode")."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch.nn.functional as F
from torch import Tensor

from engine.evaluate import ContentSize, object_probability, to_original
from engine.gallery import content_slices, support_picture
from engine.single_episodes import PredictedEpisode
from model.prediction_steps import Steps
from util.images.captions import text_bar
from util.images.colour_scales import distinct_colours, diverging_colours, sequential_colours
from util.images.draw import bordered, captioned_sheet, outlined

_COLUMNS, _SIDE, _LETTERS = 4, 240, 14
# Hues of prototypes in degrees: red to yellow of the object, cyan to violet of the background.
_WARM, _COOL = (0.0, 60.0), (170.0, 290.0)
_NO_SLOT = (40, 40, 40)
# Differences of logits from which on the probability is nearly 0 or 1 have the full colour.
_SURE = 5.0
# Attention that differs by less from equal weights is drawn as nearly equal.
_LEAST_DEVIATION = 0.05
_PROBABILITY_RANGE = "dark 0, bright 1"


class _Panel(NamedTuple):
    """A picture, RGB uint8 (H, W, 3), and the two lines below it."""

    picture: np.ndarray
    title: str
    detail: str


def inspection_sheet(
    episode: PredictedEpisode, query: np.ndarray, caption: str, *, content_size: ContentSize | None, refined: bool
) -> np.ndarray:
    """The sheet of an episode, RGB uint8 (H, W, 3): supports, query and truth, each step, and what came out.

    ``query`` RGB uint8 (H0, W0, 3), the image at its own size; ``caption`` stands above all; ``content_size`` as of
    ``engine.evaluate.evaluate``; ``refined``: whether the test refines predictions. Maps of the query have a line
    around the true object. Methods without training have fewer steps.
    """
    truth = episode.truth.numpy()
    panels = [
        *_support_panels(episode),
        _Panel(query, "query", ""),
        _Panel(outlined(query, truth), "truth", "grey: not counted" if (truth == 255).any() else ""),
        *(
            panel._replace(picture=bordered(panel.picture, truth))
            for panel in [*_step_panels(episode, content_size), *_probability_panels(episode, content_size, refined)]
        ),
        _Panel(
            outlined(query, episode.prediction.numpy()),
            "prediction",
            f"IoU {100 * episode.score.areas.object_iou:.1f} %",
        ),
    ]
    pictures, *lines = zip(*panels, strict=True)
    sheet = captioned_sheet(pictures, list(zip(*lines, strict=True)), _COLUMNS, _SIDE)
    return np.vstack([text_bar([caption], sheet.shape[1], _LETTERS), sheet])


def _support_panels(episode: PredictedEpisode) -> Iterator[_Panel]:
    """Each support, and after it which prototype its pixels belong to."""
    shots = episode.batch["support_images"].shape[1]
    for shot in range(shots):
        name = "support" if shots == 1 else f"support {shot + 1}"
        yield _Panel(support_picture(episode.batch, episode.place, shot), name, "object outlined")
        if episode.steps is not None:
            picture, (objects, background) = _slots_picture(episode, episode.steps, shot)
            yield _Panel(picture, "its prototypes", f"warm {objects} of object, cool {background} of rest")


def _slots_picture(episode: PredictedEpisode, steps: Steps, shot: int) -> tuple[np.ndarray, tuple[int, int]]:
    """A support's pixels in the colours of their prototypes, and how many of object and background occur in it."""
    mask, padding = (episode.batch[name][episode.place, shot] for name in ("support_masks", "support_padding"))
    slots = steps.slots[episode.place, shot].cpu().numpy()
    used = np.unique(slots[slots >= 0])
    objects = int((used < steps.object_slots).sum())
    # The nearest feature, the outermost of which lie on the border of the input.
    rows, columns = (
        np.rint(np.linspace(0, few - 1, many)).astype(int) for few, many in zip(slots.shape, mask.shape, strict=True)
    )
    others = max(0, int(slots.max()) + 1 - steps.object_slots)
    palette = np.vstack([distinct_colours(steps.object_slots, _WARM), distinct_colours(others, _COOL), [_NO_SLOT]])
    content = content_slices(padding)
    colours = palette.astype(np.uint8)[slots[rows[:, None], columns]]  # -1, no prototype, is the last colour
    return bordered(colours[content], mask.numpy()[content]), (objects, len(used) - objects)


def _step_panels(episode: PredictedEpisode, content_size: ContentSize | None) -> Iterator[_Panel]:
    """Maps of the query in the order in which a network makes them; of methods without training what they compare."""

    def on_query(values: Tensor) -> np.ndarray:
        """A map (h, w) -> (H0, W0), as the logits are brought to the query."""
        size = episode.logits.shape[-2:]
        enlarged = F.interpolate(values[None, None].float(), size, mode="bilinear", align_corners=True)
        return to_original(enlarged[0], episode.truth.shape, content_size)[0].cpu().numpy()

    steps, place = episode.steps, episode.place
    if steps is None:
        yield _signed_panel(on_query(episode.logits[1] - episode.logits[0]), "contrast")
        return
    if steps.contrast is not None:
        yield _signed_panel(on_query(steps.contrast[place]), "nearest contrast")
    yield _Panel(sequential_colours(on_query(steps.prior[place]), 0, 1), "prior", _PROBABILITY_RANGE)
    for number, shares in enumerate(steps.attention, start=1):
        share, even = on_query(shares[place]), float(steps.even_attention[place])
        limit = max(_LEAST_DEVIATION, float(np.abs(share - even).max()))
        detail = f"{share.min():.3f} to {share.max():.3f}, evenly {even:.3f}"
        yield _Panel(diverging_colours(share - even, limit), f"attention to object, layer {number}", detail)
    trusted = "" if steps.trusted is None else f", trusted {100 * float(steps.trusted[place]):.0f} %"
    yield _signed_panel(on_query(steps.correction[place]), f"learnt correction{trusted}")


def _signed_panel(values: np.ndarray, title: str) -> _Panel:
    limit = min(_SURE, float(np.abs(values).max()))
    detail = f"{values.min():.1f} to {values.max():.1f}, full colour {limit:.1f}"
    return _Panel(diverging_colours(values, limit), title, detail)


def _probability_panels(episode: PredictedEpisode, content_size: ContentSize | None, refined: bool) -> Iterator[_Panel]:
    """The probability, before and after it is refined where it is."""
    plain = object_probability(episode.logits, episode.truth.shape, content_size, image=None, refine=None)
    for probability, title in [(plain, "probability"), (episode.probability, "refined probability")][: 1 + refined]:
        yield _Panel(sequential_colours(probability.numpy(), 0, 1), title, _PROBABILITY_RANGE)
