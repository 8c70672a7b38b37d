"""The network, wired as in the paper's figure: features, prior, support prototypes, query transformer, classifier."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from pydantic import BaseModel, ConfigDict, ValidationError
from torch import Tensor, nn
from typing_extensions import Self

from model.contrast import episode_contrast, trust
from model.episode_features import (
    Features,
    QueryFeatures,
    SupportFeatures,
    masked_average,
    query_features,
    query_size,
    support_features,
)
from model.frozen.backbone import Backbone, build_backbone
from model.frozen.feature_cache import FeatureCache
from model.hamming_clustering import Assign, HammingClustering, PublishedHammingClustering, one_by_one
from model.hub import UNKNOWN_ORIGIN, SharedModel, StoredNetwork
from model.layers import Merge
from model.layers.noise import ChannelDropout
from model.layers.pointwise import PointwiseConvolution
from model.layers.precision import widened
from model.prior import prior
from model.query_transformer import QueryTransformer
from model.support_prototypes import SupportPrototypes
from model.weights import Weights, load_all
from util.config.schema import TrainSection
from util.errors import UserError
from util.settings import describe_problems

# Before training, the logits are the nearest contrast times this.
CONTRAST_SCALE = 15.0


class NetworkSettings(BaseModel):
    """Which network it is, and the size of the images it is made for: saved with its weights, and enough to build it.

    The names are those of the configuration's section ``TRAIN``, where ``util.config.schema`` explains them. What
    has a default is missing in files that were written before it was a setting.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    backbone: str
    backbone_normalize: str
    mid_stages: tuple[int, ...]
    high_stage: int
    hidden_dims: int
    support_self_attention: bool
    contrast_residual: bool
    object_prototypes: int = 20
    background_prototypes: int = 50
    class_scores: bool = False
    compat: str
    val_size: int

    @classmethod
    def configured(cls, train: BaseModel) -> Self:
        """Those of a configuration's section ``TRAIN``."""
        return cls(**{name: getattr(train, name) for name in cls.model_fields})

    @classmethod
    def stored(cls, values: Mapping[str, Any], source: Path | str) -> Self:
        """Those that a file holds; raises ``UserError`` for others, or outside the bounds of the configuration."""
        try:
            settings = cls.model_validate(values)
            TrainSection.model_validate(settings.model_dump(mode="json"))
        except ValidationError as error:
            problems = describe_problems(error)
            raise UserError(f"{source}: holds no network that this software can build ({problems})") from None
        return settings


class DescribedSupports(NamedTuple):
    """What ``FSSModel.segment`` compares queries with: it depends on the supports alone."""

    features: SupportFeatures
    prototype: Tensor  # (B, C), the object's mean feature over the shots
    prototypes: Tensor  # (B, P, C), and
    absent: Tensor  # (B, P), both as ``SupportPrototypes`` returns them


class FSSModel(nn.Module, SharedModel):
    """Segments in a query image what the support masks show, from one or more support images.

    The number of shots is not a property of the network: one that was trained with one shot takes five. Every shot
    counts equally: the prototype and the prior are means over the shots, and the pixels of all shots together are
    clustered into prototypes.

    Letters: B episodes, K shots, (H, W) the input, (h, w) its features, C the hidden channels.
    """

    settings: NetworkSettings | None

    def __init__(
        self,
        backbone: Backbone,
        *,
        channels: int = 256,
        support_self_attention: bool = True,
        contrast_residual: bool = False,
        object_prototypes: int = 20,
        background_prototypes: int = 50,
        published_clustering: bool = False,
        settings: NetworkSettings | None = None,
    ) -> None:
        """With ``contrast_residual`` the untrained network is the *nearest* method, and training adds to it.

        ``settings`` are those that ``from_settings`` built the network from, kept to be saved with it.
        """
        super().__init__()
        self.settings, self.origin = settings, UNKNOWN_ORIGIN
        self.backbone: Backbone | FeatureCache = backbone
        self.adjust_query = _adjust(backbone.mid_channels, channels)
        self.adjust_support = _adjust(backbone.mid_channels, channels)
        self.merge_query = Merge(channels, maps=1)
        self.merge_support = Merge(channels)
        self.hamming_clustering = PublishedHammingClustering() if published_clustering else HammingClustering()
        self.support_prototypes = SupportPrototypes(
            channels,
            self_attention=support_self_attention,
            object_prototypes=object_prototypes,
            background_prototypes=background_prototypes,
        )
        self.query_transformer = QueryTransformer(channels)
        self.classifier = _classifier(channels)
        self.contrast_scale = nn.Parameter(torch.tensor(CONTRAST_SCALE)) if contrast_residual else None
        # Slope and intercept of the probability that the object is there, over the similarity of supports and query.
        self.presence_calibration: Tensor
        self.register_buffer("presence_calibration", torch.zeros(2))
        if contrast_residual:
            for parameter in self.classifier[-1].parameters():
                nn.init.zeros_(parameter)

    @classmethod
    def from_settings(
        cls, settings: NetworkSettings, *, backbone_weights: Path | Weights | None, **sides: int
    ) -> FSSModel:
        """The network with these settings; a random backbone where no weights are given.

        ``sides`` are further sides of images, by their keys in ``TRAIN``. Raises ``UserError`` for an unknown backbone,
        weights that do not fit it, and sides that do not.
        """
        backbone = configured_backbone(settings, backbone_weights, **sides)
        settings = settings.model_copy(update={"class_scores": backbone.class_head is not None})
        return cls(
            backbone,
            channels=settings.hidden_dims,
            support_self_attention=settings.support_self_attention,
            contrast_residual=settings.contrast_residual,
            object_prototypes=settings.object_prototypes,
            background_prototypes=settings.background_prototypes,
            published_clustering=settings.compat == "published",
            settings=settings,
        )

    @classmethod
    def from_stored(cls, stored: StoredNetwork) -> FSSModel:
        """The network of a file or folder, in evaluation mode on the CPU; raises ``UserError`` that names it."""
        settings = NetworkSettings.stored(stored.settings, stored.source)
        width = stored.tensors.get("adjust_query.0.weight")
        if width is None or width.shape[:1] != (settings.hidden_dims,):  # before anything of that width is built
            raise UserError(f"{stored.source}: holds tensors of another network than with hidden_dims of its settings")
        try:
            model = cls.from_settings(settings, backbone_weights=None)
        except UserError as error:
            raise UserError(f"{stored.source}: holds no network that this software can build ({error})") from None
        load_all(model, with_calibration(stored.tensors), stored.source)
        model.origin = stored.origin
        return model.eval()

    @property
    def presence_threshold(self) -> float | None:
        """The similarity (``model.presence``) from which an object is more likely there than not; None: unknown."""
        slope, intercept = self.presence_calibration.tolist()
        return -intercept / slope if slope > 0 else None

    def cluster(self, features: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """features (N, C), k -> assignment (N,) int64, counts (k,). An instance's ``cluster`` may be replaced."""
        assignment, counts = self.hamming_clustering(features, k)
        return assignment, counts

    def _assign(self) -> Assign:
        """All sets of a batch at once; one by one where ``cluster`` was replaced or is the published one."""
        if "cluster" in self.__dict__ or not isinstance(self.hamming_clustering, HammingClustering):
            return one_by_one(self.cluster)
        return self.hamming_clustering.assign

    def forward(
        self,
        query_image: Tensor | Features,
        support_images: Tensor | Features,
        support_masks: Tensor,
        query_padding: Tensor | None = None,
        support_padding: Tensor | None = None,
    ) -> Tensor:
        """Logits (B, 2, H, W): background, object.

        query_image (B, 3, H, W) and support_images (B, K, 3, H', W') ImageNet-normalised float; support_masks
        (B, K, H', W') 0 background, 1 object, 255 void, which is neither; query_padding (B, H, W) and
        support_padding (B, K, H', W') True where padded (None: nothing is). Supports may differ in size from the query.
        In the place of images there may be their features, those of supports (B * K, ...), then with padding.
        """
        query = query_features(self.backbone, query_image, query_padding)
        support = support_features(self.backbone, support_images, support_masks, support_padding)
        # The steps of ``describe_supports`` and ``segment``, in an order that lets go of features early.
        contrast, prior_map = self.compare(query, support)
        adjusted, padding = self.adjust_query(query.mid), query.padding
        merged, prototype = self._merged(support)
        masks = (support.objects, support.void, support.padding)
        del query, support
        prototypes, absent = self.support_prototypes(merged, *masks, self._assign())
        logits = self._decoded(self.merge_query(adjusted, prototype, prior_map), padding, prototypes, absent, contrast)
        return _enlarged(logits, query_size(query_image, query_padding))

    def describe_supports(
        self, images: Tensor | Features, masks: Tensor, padding: Tensor | None = None
    ) -> DescribedSupports:
        """What ``segment`` needs of supports, once for all queries; arguments as the supports' of ``forward``."""
        support = support_features(self.backbone, images, masks, padding)
        merged, prototype = self._merged(support)
        prototypes, absent = self.support_prototypes(
            merged, support.objects, support.void, support.padding, self._assign()
        )
        return DescribedSupports(support, prototype, prototypes, absent)

    def segment(self, images: Tensor | Features, padding: Tensor | None, supports: DescribedSupports) -> Tensor:
        """Logits (B, 2, H, W) of queries, in evaluation those of ``forward``; arguments as the query's of it."""
        query = query_features(self.backbone, images, padding)
        contrast, prior_map = self.compare(query, supports.features)
        merged = self.merge_query(self.adjust_query(query.mid), supports.prototype, prior_map)
        logits = self._decoded(merged, query.padding, supports.prototypes, supports.absent, contrast)
        return _enlarged(logits, query_size(images, padding))

    def compare(self, query: QueryFeatures, support: SupportFeatures) -> tuple[Tensor | None, Tensor]:
        """What comparing pixels with the support says of the object: contrast and prior, both (B, 1, h, w).

        There is no contrast without contrast residual. With K shots it is more certain and weighs sqrt(K) times as
        much.
        """
        shots = support.share.shape[:2]  # (B, K)
        contrast = None
        if self.contrast_scale is not None:
            contrast = self.contrast_scale * shots[1] ** 0.5 * episode_contrast(query, support)
        return contrast, prior(query.high, support.high.unflatten(0, shots), support.share)

    def _merged(self, support: SupportFeatures) -> tuple[Tensor, Tensor]:
        """Supports (B, K, C, h', w'), each merged with a prototype of its object, and the prototype of all (B, C).

        docs/method.md, sections 2 and 4.
        """
        shots = support.share.shape[:2]  # (B, K)
        features = self.adjust_support(support.mid)
        # The object's mean feature in each shot, and over the shots.
        own_prototypes = masked_average(features, support.share.flatten(0, 1))  # (B * K, C)
        prototype = own_prototypes.unflatten(0, shots).mean(dim=1)
        return self.merge_support(features, own_prototypes).unflatten(0, shots), prototype

    def _decoded(
        self, query: Tensor, padding: Tensor, prototypes: Tensor, absent: Tensor, contrast: Tensor | None
    ) -> Tensor:
        """Logits (B, 2, h, w) of a merged query (B, C, h, w)."""
        attended = self.query_transformer(query, padding, prototypes, absent)
        logits: Tensor = self.classifier(attended)
        return logits if contrast is None else self._corrected(contrast, logits, padding)

    def _corrected(self, contrast: Tensor, correction: Tensor, query_padding: Tensor) -> Tensor:
        """Logits (B, 2, h, w) from the contrast (B, 1, h, w) and the learnt correction (B, 2, h, w) of them.

        In training the correction counts in full: it starts at zero, and agrees with nothing before it has learnt.
        """
        if not self.training:
            background, object_ = correction.unbind(dim=1)
            correction = correction * trust(object_ - background, contrast[:, 0], query_padding)[:, None, None, None]
        return correction + torch.cat([-contrast, contrast], dim=1)


def with_calibration(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of a network; those of a file from before there was a calibration have an unknown one."""
    return {"presence_calibration": torch.zeros(2), **tensors}


def configured_backbone(settings: NetworkSettings, weights: Path | Weights | None, **sides: int) -> Backbone:
    """The backbone with these settings; raises ``UserError`` for sides of images that do not fit it."""
    backbone = build_backbone(
        settings.backbone,
        weights=weights,
        normalize=settings.backbone_normalize,
        mid_stages=settings.mid_stages,
        high_stage=settings.high_stage,
        class_scores=settings.class_scores,
    )
    backbone.check_sides(**sides, val_size=settings.val_size)
    return backbone


def _enlarged(logits: Tensor, size: torch.Size) -> Tensor:
    """Logits (B, 2, h, w) at the query's size, in single precision."""
    return F.interpolate(widened(logits), size, mode="bilinear", align_corners=True)


def _adjust(inputs: int, channels: int) -> nn.Sequential:
    return nn.Sequential(PointwiseConvolution(inputs, channels), nn.ReLU(inplace=True), ChannelDropout(0.5))


def _classifier(channels: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels, channels, 3, padding=1, bias=False),
        nn.ReLU(inplace=True),
        ChannelDropout(0.1),
        PointwiseConvolution(channels, 2, bias=True),
    )
