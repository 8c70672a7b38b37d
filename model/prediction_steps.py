"""What a network computes on its way to a prediction, noted by hooks: the network itself knows nothing of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from model.contrast import trust
from model.episode_features import query_features, support_features
from model.fss_network import FSSModel
from model.hamming_clustering import Assign
from model.layers import PrototypeCrossAttention
from model.support_prototypes import slot_of_pixels


class Steps(NamedTuple):
    """The steps to the logits of B episodes with K shots; (h, w) the query's feature map, (h', w') the supports'.

    The object's logit minus the background's is ``contrast + trusted * correction``, at the size of the features;
    without contrast residual it is the correction.
    """

    slots: Tensor  # (B, K, h', w') int64, the prototype that a pixel belongs to, the object's first; -1 for none
    object_slots: int
    prior: Tensor  # (B, h, w), 0..1
    attention: list[Tensor]  # for each layer (B, h, w), 0..1: what the object's prototypes have of the weights
    even_attention: Tensor  # (B,), 0..1: what they would have of equal weights, as attention to nothing special has
    correction: Tensor  # (B, h, w), the learnt difference of object and background
    contrast: Tensor | None  # (B, h, w), the difference by comparing pixels; None without contrast residual
    trusted: Tensor | None  # (B,), 0..1, how far the correction counts; None without contrast residual


@contextmanager
def recorded(model: nn.Module) -> Iterator[Recording]:
    """Note the steps of ``model``, called in evaluation mode within the block; its results stay the same to the bit.

    Of a method without training nothing is noted.
    """
    recording = Recording()
    hooks = recording.attach(model) if isinstance(model, FSSModel) else []
    try:
        yield recording
    finally:
        for hook in hooks:
            hook.remove()


class Recording:
    """Holds the ``steps`` of the last call of a network; None before the first."""

    def __init__(self) -> None:
        self.steps: Steps | None = None
        self._slots = self._absent = self._correction = torch.empty(0)
        self._attention: list[Tensor] = []

    def attach(self, model: FSSModel) -> list[torch.utils.hooks.RemovableHandle]:
        """Hooks by which the calls of ``model`` are noted, to be removed by the caller."""
        attentions = [module for module in model.modules() if isinstance(module, PrototypeCrossAttention)]
        return [
            model.support_prototypes.register_forward_pre_hook(self._keep_slots),
            *(attention.register_forward_hook(self._keep_attention) for attention in attentions),
            model.classifier.register_forward_hook(self._keep_correction),
            model.register_forward_hook(self._finish),
        ]

    def _keep_slots(self, _: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        """Before the supports are clustered: pass on a clustering whose result is kept."""
        *maps, assign = inputs
        size = maps[1].shape  # (B, K, h', w'), of the objects

        def kept(pixels: Tensor, members: Tensor, counts: Sequence[int]) -> Tensor:
            assignment: Tensor = assign(pixels, members, counts)
            self._slots = _numbered_through(members, assignment, counts).view(size)
            return assignment

        clustering: Assign = kept
        return (*maps, clustering)

    def _keep_attention(self, attention: nn.Module, inputs: tuple[Any, ...], _: Tensor) -> None:
        assert isinstance(attention, PrototypeCrossAttention)
        self._attention.append(attention.weights(*inputs).mean(dim=1))  # (B, h * w, P), over the heads
        self._absent = inputs[-1]

    def _keep_correction(self, _: nn.Module, inputs: tuple[Any, ...], logits: Tensor) -> None:
        self._correction = logits[:, 1] - logits[:, 0]

    def _finish(self, model: FSSModel, inputs: tuple[Any, ...], _: Tensor) -> None:
        """After the whole network: join what was kept, and compare query and supports again."""
        query_image, support_images, masks, query_padding, support_padding = (*inputs, None, None)[:5]
        query = query_features(model.backbone, query_image, query_padding)
        support = support_features(model.backbone, support_images, masks, support_padding)
        contrast, prior = model.compare(query, support)
        difference = None if contrast is None else 2 * contrast[:, 0]  # the logits are -contrast and contrast
        objects = model.support_prototypes.slots[0]
        self.steps = Steps(
            slots=self._slots,
            object_slots=objects,
            prior=prior[:, 0],
            attention=[weights[..., :objects].sum(dim=-1).view_as(prior[:, 0]) for weights in self._attention],
            even_attention=(~self._absent)[:, :objects].sum(dim=1) / (~self._absent).sum(dim=1),
            correction=self._correction,
            contrast=difference,
            trusted=None if difference is None else trust(self._correction, difference, query.padding),
        )
        self._attention = []


def _numbered_through(members: Tensor, assignment: Tensor, counts: Sequence[int]) -> Tensor:
    """The slots of all sets in one map (B, N), numbered one set after the other; arguments as ``Assign`` has them."""
    numbers, first = torch.full_like(assignment[:, 0], -1), 0
    for i, count in enumerate(counts):
        slot = slot_of_pixels(members[:, i], assignment[:, i], count)
        numbers = torch.where(slot >= 0, slot + first, numbers)
        first += count
    return numbers
