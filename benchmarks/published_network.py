"""The published few-shot segmentation network, written plainly from its equations (docs/method.md, sections 1 to 8)."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.resnet import Bottleneck, ResNet

Cluster = Callable[[Tensor, int], tuple[Tensor, Tensor]]


class PublishedNetwork(nn.Module):
    """The whole network; `cluster`, (features (N, C), k) -> (assignment (N,), counts (k,)), may be replaced."""

    def __init__(self, blocks: Sequence[int] = (3, 4, 6, 3), channels: int = 256) -> None:
        super().__init__()
        self.cluster: Cluster = hamming_clusters
        self.adjust_feature_supp = nn.Sequential(nn.Conv2d(1536, channels, 1, bias=False), nn.ReLU(True))
        self.adjust_feature_qry = nn.Sequential(nn.Conv2d(1536, channels, 1, bias=False), nn.ReLU(True))
        self.qry_merge_feat = nn.Sequential(nn.Conv2d(2 * channels + 1, channels, 1, bias=False), nn.ReLU(True))
        self.supp_merge_feat = nn.Sequential(nn.Conv2d(2 * channels, channels, 1, bias=False), nn.ReLU(True))
        unused = [nn.Conv2d(channels, channels, 1, bias=False) for _ in range(3)]
        self.addtional_proj = nn.Sequential(unused[0], nn.ReLU(True), unused[1])
        self.pred_supp_qry_proj = nn.Sequential(unused[2])
        self.transformer = Transformer(channels)
        convolution = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.classifier = nn.Sequential(convolution, nn.ReLU(True), nn.Dropout2d(0.1), nn.Conv2d(channels, 2, 1))
        self.backbone = nn.ModuleDict({"body": Backbone(blocks)}).requires_grad_(False)

    def forward(
        self,
        query_image: Tensor,
        support_images: Tensor,
        support_masks: Tensor,
        query_padding: Tensor,
        support_padding: Tensor,
    ) -> Tensor:
        """Query (B, 3, H, W), supports (B, K, 3, H, W), (B, K, H, W), paddings True where padded -> (B, 2, H, W)."""
        middle, query_deep = self.backbone["body"](query_image)
        query = F.dropout2d(self.adjust_feature_qry(middle), 0.5, self.training)
        h, w = query.shape[-2:]
        shots = []
        for image, label in zip(support_images.unbind(1), support_masks.unbind(1), strict=True):
            middle, deep = self.backbone["body"](image)
            support = F.dropout2d(self.adjust_feature_supp(middle), 0.5, self.training)
            mask = F.interpolate((label == 1).to(deep)[:, None], (h, w), mode="bilinear", align_corners=True)
            prototype = masked_mean(support, mask).expand_as(support)
            merged = self.supp_merge_feat(torch.cat([support, prototype], 1))
            shots.append((merged, prototype, prior_map(query_deep, deep * mask)))
        supports, prototypes, priors = (torch.stack(maps, 1) for maps in zip(*shots, strict=True))
        query = self.qry_merge_feat(torch.cat([query, prototypes.mean(1), priors.mean(1)], 1))
        rows, columns = (torch.arange(n) * full // n for n, full in zip((h, w), query_image.shape[-2:], strict=True))
        nearest = (..., rows[:, None].to(query.device), columns.to(query.device))
        objects, ignored = support_masks[nearest] == 1, support_padding[nearest]
        objects[..., h // 2 - 1 : h // 2 + 1, w // 2 - 1 : w // 2 + 1] |= ~objects.flatten(2).any(2)[..., None, None]
        objects[..., [0, 0, -1, -1], [0, -1, 0, -1]] &= ~objects.flatten(2).all(2)[..., None]
        self.transformer.self_supp_cluster(supports.flatten(0, 1), ignored.flatten(0, 1))  # published: without effect
        pixels = supports.transpose(1, 2).flatten(2).transpose(1, 2)
        clusters, flags = group_pixels(pixels, objects.flatten(1), ignored.flatten(1), self.cluster)
        query = self.transformer(query, query_padding[nearest], F.normalize(clusters, dim=2, eps=1e-12), flags)
        return F.interpolate(self.classifier(query), query_image.shape[-2:], mode="bilinear", align_corners=True)


class Backbone(ResNet):
    """Deep-stem ResNet of stride 8: (B, 3, H, W) -> layers 2 and 3 (B, 1536, h, w), layer 4 (B, 2048, h, w)."""

    def __init__(self, blocks: Sequence[int]) -> None:
        dilated = [False, True, True]  # a dilated layer's first block keeps the dilation of the layer before
        super().__init__(Bottleneck, blocks, replace_stride_with_dilation=dilated, norm_layer=FrozenBatchNorm)
        self.conv1 = nn.Conv2d(3, 64, 3, 2, 1, bias=False)
        self.conv2, self.bn2 = nn.Conv2d(64, 64, 3, 1, 1, bias=False), FrozenBatchNorm(64)
        self.conv3, self.bn3 = nn.Conv2d(64, 128, 3, 1, 1, bias=False), FrozenBatchNorm(128)
        shortcut = nn.Sequential(nn.Conv2d(128, 256, 1, bias=False), FrozenBatchNorm(256))
        self.layer1[0] = Bottleneck(128, 64, downsample=shortcut, norm_layer=FrozenBatchNorm)
        del self.fc

    @torch.no_grad()
    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        x = self.relu(self.bn1(self.conv1(image)))
        x = self.relu(self.bn2(self.conv2(x)))
        x = self.relu(self.bn3(self.conv3(x)))
        layer2 = self.layer2(self.layer1(self.maxpool(x)))
        layer3 = self.layer3(layer2)
        return torch.cat([layer2, layer3], 1), self.layer4(layer3)


class FrozenBatchNorm(nn.Module):
    """Batch norm whose scale and statistics stay fixed: (B, C, h, w) -> (B, C, h, w)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        for name, value in (("weight", 1.0), ("bias", 0.0), ("running_mean", 0.0), ("running_var", 1.0)):
            self.register_buffer(name, torch.full((channels,), value))

    def forward(self, x: Tensor) -> Tensor:
        weight, bias, mean, variance = (buffer[:, None, None] for buffer in self.buffers())
        scale = weight / torch.sqrt(variance + 1e-5)
        return x * scale + (bias - mean * scale)


class Transformer(nn.Module):
    """Two layers on (B, C, h, w), ignored (B, h, w); the query also attends to prototypes (B, 70, C), flags (B, 70)."""

    def __init__(self, channels: int, support: bool = False) -> None:
        super().__init__()
        self.self_supp_cluster = nn.Identity() if support else Transformer(channels, support=True)
        self.supp_self_layers = nn.ModuleList(DeformableAttention(channels) for _ in range(2 if support else 0))
        self.cross_layers = nn.ModuleList(CrossAttention(channels) for _ in range(0 if support else 2))
        self.qry_self_layers = nn.ModuleList(DeformableAttention(channels) for _ in range(0 if support else 2))
        self.ffns = nn.ModuleList(FeedForward(channels) for _ in range(2 if support else 4))
        self.layer_norms = nn.ModuleList(nn.LayerNorm(channels) for _ in range(4 if support else 8))
        for module in self.modules():
            if isinstance(module, nn.Linear) and module.bias is None:
                nn.init.xavier_uniform_(module.weight)

    def forward(self, features: Tensor, ignored: Tensor, *prototypes: Tensor) -> Tensor:
        x, position = features.flatten(2).transpose(1, 2), sine_encoding(ignored, features)
        norms, ffns = iter(self.layer_norms), iter(self.ffns)
        for i, attention in enumerate([*self.supp_self_layers, *self.qry_self_layers]):
            x = next(norms)(x + F.dropout(attention(x + position, x, ignored), 0.1, self.training))
            x = next(norms)(next(ffns)(x))
            if self.cross_layers:
                x = next(norms)(x + self.cross_layers[i](x, *prototypes))
                x = next(norms)(next(ffns)(x))
        return x.transpose(1, 2).contiguous().unflatten(2, features.shape[-2:])


class DeformableAttention(nn.Module):
    """One level, nine points: query and source (B, hw, C), ignored (B, h, w) -> (B, hw, C)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.heads = 12 if channels % 12 == 0 else 8
        self.sampling_offsets = nn.Linear(channels, self.heads * 9 * 2)
        self.attention_weights = nn.Linear(channels, self.heads * 9)
        self.value_proj, self.output_proj = (nn.Linear(channels, channels, bias=False) for _ in range(2))
        for tensor in (self.sampling_offsets.weight, *self.attention_weights.parameters()):
            nn.init.zeros_(tensor)
        angle = torch.arange(self.heads) * (2 * math.pi / self.heads)
        direction = F.normalize(torch.stack([angle.cos(), angle.sin()], 1), p=math.inf, dim=1)
        self.sampling_offsets.bias.data = (direction[:, None] * torch.arange(1, 10)[:, None]).flatten()

    def forward(self, query: Tensor, source: Tensor, ignored: Tensor) -> Tensor:
        h, w = ignored.shape[1:]
        zeroed = ignored | (torch.rand(ignored.shape, device=query.device) < 0.1) if self.training else ignored
        value = self.value_proj(source).masked_fill(zeroed.flatten(1)[..., None], 0).unflatten(2, (self.heads, -1))
        offsets = self.sampling_offsets(query).unflatten(2, (self.heads, 9, 2))
        weights = self.attention_weights(query).unflatten(2, (self.heads, 9)).softmax(-1)
        centres = torch.cartesian_prod(*(torch.arange(n, device=query.device) for n in (h, w))).flip(1).to(query) + 0.5
        locations = (centres[:, None, None] + offsets) / query.new_tensor([w, h])
        return self.output_proj(sample_points(value, (h, w), locations, F.dropout(weights, 0.1, self.training)))


class CrossAttention(nn.Module):
    """Attention to the prototypes: query (B, N, C), prototypes (B, 70, C), flags (B, 70) -> (B, N, C)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.heads = 12 if channels % 12 == 0 else 8
        self.q_fc, self.k_fc, self.v_fc, self.proj = (nn.Linear(channels, channels, bias=False) for _ in range(4))

    def forward(self, query: Tensor, prototypes: Tensor, flags: Tensor) -> Tensor:
        projected = self.q_fc(query), self.k_fc(prototypes), self.v_fc(prototypes)
        q, k, v = (x.unflatten(2, (self.heads, -1)).transpose(1, 2) for x in projected)
        weights = (q @ k.transpose(2, 3) / math.sqrt(q.shape[-1]) - 10000 * flags[:, None, None]).softmax(-1)
        attended = (F.dropout(weights, 0.1, self.training) @ v).transpose(1, 2).flatten(2)
        return F.dropout(self.proj(attended), 0.1, self.training)


class FeedForward(nn.Module):
    """Residual two-layer perceptron: (B, N, C) -> (B, N, C)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        hidden = nn.Sequential(nn.Linear(channels, 3 * channels, bias=False), nn.ReLU(True), nn.Dropout(0.1))
        self.layers = nn.Sequential(hidden, nn.Linear(3 * channels, channels, bias=False), nn.Dropout(0.1))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.layers(x)


def masked_mean(features: Tensor, mask: Tensor) -> Tensor:
    """Features (B, C, h, w), soft mask (B, 1, h, w) -> prototype (B, C, 1, 1)."""
    return (features * mask).sum((2, 3), keepdim=True) / (mask.sum((2, 3), keepdim=True) + 0.0005)


def prior_map(query: Tensor, support: Tensor) -> Tensor:
    """Query and masked support features (B, D, h, w) -> best cosine per query pixel, scaled to 0..1 (B, 1, h, w)."""
    a, b = support.flatten(2), query.flatten(2)
    cosines = a.transpose(1, 2) @ b / (a.norm(dim=1)[:, :, None] * b.norm(dim=1)[:, None] + 1e-7)
    best = cosines.amax(1, keepdim=True)
    low, high = best.amin(2, keepdim=True), best.amax(2, keepdim=True)
    return ((best - low) / (high - low + 1e-7)).unflatten(2, query.shape[-2:])


def group_pixels(features: Tensor, objects: Tensor, ignored: Tensor, cluster: Cluster) -> tuple[Tensor, Tensor]:
    """Features (B, N, C), objects and ignored (B, N) -> prototypes (B, 70, C), 1 where a row is padding (B, 70)."""
    prototypes = features.new_zeros(len(features), 70, features.shape[2])
    flags = features.new_ones(len(features), 70)
    for i, sample in enumerate(features):
        filled = 0
        for chosen, k in ((objects[i], 20), (~objects[i], 50)):
            rows = sample[chosen & ~ignored[i]]
            if len(rows) > k:
                assignment, counts = cluster(rows.detach(), k)
                sums = torch.zeros_like(rows[:k]).index_add(0, assignment, rows)
                rows = sums / (counts.to(rows)[:, None] + 0.001)
            prototypes[i, filled : filled + len(rows)] = rows
            filled += len(rows)
        flags[i, :filled] = 0
    return prototypes, flags


def hamming_clusters(features: Tensor, k: int, updates: int = 9) -> tuple[Tensor, Tensor]:
    """Features (N, C) -> assignment (N,) and counts (k,) of k-means on fresh hash codes (docs/method.md, section 6)."""
    planes = torch.randn(32, features.shape[1] + 1).to(features)
    bits = (features @ planes[:, :-1].T > planes[:, -1]).to(features)
    centroids = bits[np.random.choice(len(bits), k, replace=False)]
    for update in range(updates + 1):
        assignment = (bits @ (1 - centroids).T + (1 - bits) @ centroids.T).argmin(1)
        counts = torch.bincount(assignment, minlength=k)
        if update < updates:
            ones = torch.zeros_like(centroids).index_add(0, assignment, bits)
            random = torch.randint(2, centroids.shape, device=bits.device)
            centroids = torch.where(counts[:, None] > 0, 2 * ones > counts[:, None], random).to(bits)
    return assignment, counts


def sample_points(value: Tensor, size: tuple[int, int], locations: Tensor, weights: Tensor) -> Tensor:
    """Value (B, hw, heads, D), locations (B, N, heads, P, 2) in 0..1, weights (B, N, heads, P) -> (B, N, heads * D)."""
    maps = value.permute(0, 2, 3, 1).flatten(0, 1).unflatten(2, size)
    grid = 2 * locations.transpose(1, 2).flatten(0, 1) - 1
    sampled = F.grid_sample(maps, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
    summed = (sampled * weights.transpose(1, 2).flatten(0, 1)[:, None]).sum(-1)
    return summed.unflatten(0, (len(value), -1)).flatten(1, 2).transpose(1, 2)


def sine_encoding(ignored: Tensor, features: Tensor) -> Tensor:
    """Ignored (B, h, w), features (B, C, h, w) for their type and C -> sine encoding, y first (B, hw, C)."""
    channel = torch.arange(features.shape[1] // 2, device=features.device)
    frequency = 10000 ** (-2 * (channel // 2).to(features) / len(channel))
    y, x = ((~ignored).to(features).cumsum(axis) for axis in (1, 2))
    y, x = y / (y[:, -1:] + 1e-6) * 2 * math.pi, x / (x[:, :, -1:] + 1e-6) * 2 * math.pi
    angles = torch.stack([y, x], 3)[..., None] * frequency
    return torch.where(channel % 2 == 0, angles.sin(), angles.cos()).flatten(3).flatten(1, 2)
