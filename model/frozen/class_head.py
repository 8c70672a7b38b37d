"""The end of the network that a backbone was cut from: scores of the classes that it was trained to tell apart.

They are no labels of anything here. As a description of what a region shows they tell kinds of objects apart better
than the features below them (docs/recipe.md, "Presence").
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn


class ClassHead(nn.Module):
    """Layers between the last feature map and the pooling, by their names in timm, and the classifier."""

    def __init__(self, layers: Mapping[str, nn.Module], classifier_name: str, classifier: nn.Linear) -> None:
        super().__init__()
        self.layer_names, self.classifier_name = tuple(layers), classifier_name
        for name, layer in {**layers, classifier_name: classifier}.items():
            self.add_module(name, layer)

    @torch.no_grad()
    def forward(self, features: Tensor, weights: Tensor) -> Tensor:
        """What the weighted positions show together: (B, N) scores of N classes, negative ones 0.

        features (B, C, h, w), the last map of the network; weights (B, h, w), at least one of each above 0.
        """
        for name in self.layer_names:
            features = self.get_submodule(name)(features)
        pooled = (features * weights[:, None]).sum(dim=(2, 3)) / weights.sum(dim=(1, 2))[:, None]
        scores: Tensor = self.get_submodule(self.classifier_name)(pooled)
        return scores.clamp(min=0)
