"""The schema of a configuration: every key with its type, bounds, default and meaning.

``util.config`` fills it from YAML files and the command line. Upper bounds are far beyond any use; they keep a slip of
the finger from asking for more memory or time than there is.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, Strict, ValidationInfo, field_validator, model_validator

from util.files import PROJECT

# The values of an image before a network sees it (model.frozen.timm_networks.normalization).
Normalize = Literal["imagenet", "inception", "timm", "none"]
# 1 more than a multiple of the backbone's stride; the backbone checks that.
Side = Annotated[int, Field(ge=33, le=4097)]
LongerSide = Annotated[int, Field(ge=32, le=4096)]
Seed = Annotated[int, Field(ge=0, lt=2**63)]
Stage = Annotated[int, Field(ge=-100, le=100)]
Rate = Annotated[float, Field(gt=0, le=1000)]
Decay = Annotated[float, Field(ge=0, le=1000)]
Angle = Annotated[float, Field(ge=-360, le=360)]  # degrees
Scale = Annotated[float, Field(ge=0.01, le=10)]
Count = Annotated[int, Field(ge=0, le=10**9)]
File = Annotated[Path, Strict(False)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, validate_default=True, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _empty_is_none(cls, values: Any) -> Any:
        """``weight: ''`` means no weight, as in the published configs."""
        if not isinstance(values, dict):
            return values
        return {key: None if value == "" else value for key, value in values.items()}


class DataSection(_Section):
    """``DATA``: which images and labels. Relative paths in a YAML file start at the project's folder."""

    data_root: File
    train_list: File
    val_list: File
    pseudo_list: File | None = Field(None, description="images of the pseudo masks; empty: all of the train_list")
    classes: int = Field(20, ge=1, le=254, description="object classes, background not counted")
    min_area: int = Field(2048, ge=1, le=10**9, description="pixels an object must cover to be an episode's object")
    drop_novel_images: bool = False


class ClusterSection(_Section):
    """``Cluster``: pseudo masks (docs/method.md, section 11)."""

    recipe: str = Field(
        "global",
        description="global: k-means over all images; objects: what distinguishes the middle of images from the rest",
    )
    object_share: float = Field(0.35, gt=0, lt=1, description="objects: share of all pixels that they cover")
    cluster_num: int = Field(50, ge=2, le=255, description="K of the global k-means")
    algorithm: Literal["minibatch", "spherical"] = Field(
        "minibatch", description="minibatch: as published; spherical: all images at once, centroids of unit length"
    )
    memory_gb: float = Field(8.0, gt=0, le=10**6, description="memory for features, of all processes together")
    extractor: str = Field("moco", pattern=r"^(moco|simclr|dino|timm:.+)$")
    extractor_weights: File | None = Field(None, description="a file, or 'timm' for timm's download")
    extractor_normalize: Normalize | None = Field(None, description="empty: what the extractor's own weights expect")
    stage: Stage | None = Field(
        None, description="stage of the extractor whose features are used, -1 is the last; empty: as the recipe needs"
    )
    stride: int | None = Field(
        None, ge=1, le=1024, description="pixels between two features; empty: as the recipe needs"
    )
    flip: bool = Field(False, description="average features over the image and its mirror image")
    scales: list[Scale] = Field(
        [1.0], min_length=1, max_length=100, description="average features over these scales of the image"
    )
    pseudo_folder: File | None = Field(None, description="default: <data_root>/<dataset>_<extractor>_pseudo")
    cluster_size: LongerSide = Field(473, description="longer side for the features that are clustered")
    assign_size: LongerSide = Field(640, description="longer side for the features that are assigned")
    cluster_images: Count = Field(0, description="images to learn from; 0: all for clusters, 1,000 for objects")
    seed: Seed = 1534
    superpixel_scale: float = Field(100.0, gt=0, le=10**9)
    superpixel_sigma: float = Field(0.8, ge=0, le=1000)
    superpixel_min_size: int = Field(200, ge=1, le=10**9)
    region_rule: Literal["span", "border"] = Field(
        "span", description="span: drop regions that span the image; border: drop those that fill its border"
    )
    empty_share: float = Field(
        0.01, ge=0, le=1, description="span: share of rows or columns that a region must leave empty"
    )
    border_share: float = Field(0.35, ge=0, le=1, description="border: share of the border that a region may cover")
    image_share: float = Field(0.7, ge=0, le=1, description="border: share of the image that a region may cover")
    neighbours: int = Field(
        0, ge=0, le=100_000, description="nearest regions to draw supports from; 0: half of the group, 5,000 at most"
    )
    threads: int = Field(0, ge=0, le=1024, description="threads that make the masks; 0: one per core")


class VisSection(_Section):
    """``VIS``: pictures of episodes."""

    visualize: bool = True
    pictures: int = Field(8, ge=0, le=1000, description="episodes on each sheet of a test")


class TrainSection(_Section):
    """``TRAIN``: network, optimisation, evaluation."""

    # Network
    backbone: str = Field("resnet50_v2", description="resnet50_v2, resnet101_v2 (deep stem) or any timm model")
    backbone_weights: File | None = Field(None, description="a file, 'timm' for timm's download, empty: random")
    backbone_normalize: Normalize = Field(
        "timm", description="what its weights expect; timm: what timm states for the model"
    )
    mid_stages: list[Stage] = Field([-3, -2], min_length=1, max_length=100, description="stages that are concatenated")
    high_stage: Stage = Field(-1, description="stage for the prior")
    class_scores: bool = Field(False, description="use the backbone's classifier to tell whether an object is there")
    hidden_dims: int = Field(256, ge=8, le=8192, multiple_of=8)
    object_prototypes: int = Field(20, ge=1, le=10_000, description="clusters of the support's object pixels")
    background_prototypes: int = Field(50, ge=1, le=10_000, description="clusters of the support's background pixels")
    support_self_attention: bool = True
    contrast_residual: bool = Field(False, description="add the nearest contrast, with a learned scale, to the logits")
    compat: Literal["ours", "published"] = "ours"
    refine: bool = Field(True, description="give predictions the borders of superpixels, in tests")
    # Episodes
    train_h: Side = 473
    train_w: Side = 473
    val_size: Side = 473
    scale_min: Scale = 0.9
    scale_max: Scale = 1.1
    rotate_min: Angle = -10.0
    rotate_max: Angle = 10.0
    ignore_label: int = Field(255, ge=255, le=255)
    split: Literal[0, 1, 2, 3, 5] = Field(5, description="fold; 5: all folds")
    shot: int = Field(1, ge=1, le=50)
    use_split_coco: bool = Field(True, description="COCO folds: true interleaved, false contiguous")
    pseudo_share: float = Field(
        0, ge=0, lt=1, description="share of pseudo episodes among labelled ones, in joint and split experiments"
    )
    views: int = Field(
        0, ge=0, le=1000, description="fixed views of each object, whose features are kept; 0: always a new one"
    )
    views_gb: float = Field(10, gt=0, le=10**6, description="disk space for all views that are kept")
    # Optimisation
    batch_size: int = Field(4, ge=1, le=10_000)
    accumulate: int = Field(1, ge=1, le=10_000, description="parts of a batch, one after the other: less memory")
    precision: Literal["float32", "bf16"] = Field("float32", description="bf16: training under autocast")
    compile: bool = Field(False, description="compile the network for training (torch.compile)")
    epochs: int = Field(100, ge=1, le=10**6)
    epoch_episodes: Count = Field(0, description="training episodes an epoch; 0: one for each image")
    base_lr: Rate = 0.002
    lr_scale: Rate = Field(15.0, description="the SGD rate applied is base_lr times this")
    transformer_lr: Rate = Field(1e-4, description="AdamW rate of the transformer, constant")
    transformer_weight_decay: Decay = Field(1e-2, description="AdamW decay of the transformer, biases excepted")
    power: Rate = 0.9
    momentum: float = Field(0.9, ge=0, lt=1)
    weight_decay: Decay = 1e-4
    warmup: bool = True
    manual_seed: Seed = 123
    seeds: list[Seed] = Field([], max_length=100, description="train and test each, in place of manual_seed")
    # Running
    train_gpu: list[Annotated[int, Field(ge=0, le=1000)]] = Field([0], max_length=1000, description="[]: the CPU")
    workers: int = Field(2, ge=0, le=512)
    print_freq: int = Field(10, ge=1, le=10**9, description="steps between two lines of the log")
    save_freq: int = Field(1, ge=1, le=10**9, description="epochs between two checkpoints")
    save_minutes: float = Field(5, gt=0, le=10**6, description="minutes between two checkpoints, also within an epoch")
    save_path: File | None = Field(None, description="run folder; default: exp/<dataset>/<experiment>")
    weight: File | None = Field(None, description="checkpoint to start training from, or to test")
    resume: File | None = Field(None, description="checkpoint to continue; default: latest.pth of the run folder")
    # Evaluation
    evaluate: bool = Field(False, description="validate after every epoch (uses labels)")
    evaluate_every: int = Field(1, ge=1, le=10**6, description="epochs between two validations; the last has one")
    best_on_validation: bool = Field(False, description="also keep the checkpoint with the best validation mIoU")
    batch_size_val: int = Field(1, ge=1, le=10_000)
    episodes: Count = Field(0, description="test episodes; 0: 1,000, for COCO 5,000")

    @field_validator("split", mode="before")
    @classmethod
    def _is_whole(cls, split: Any) -> Any:
        """For Python, and so for ``Literal``, true is 1."""
        if isinstance(split, bool | float):
            raise ValueError(f"is {split}, 0, 1, 2, 3 or 5 expected")
        return split

    @field_validator("seeds")
    @classmethod
    def _are_different(cls, seeds: list[int]) -> list[int]:
        if len(set(seeds)) < len(seeds):
            raise ValueError(f"is {seeds}, different numbers expected")
        return seeds

    @field_validator("views")
    @classmethod
    def _suits_compat(cls, views: int, info: ValidationInfo) -> int:
        """There an image has other padding as a support than as a query."""
        if views and info.data.get("compat") == "published":
            raise ValueError("must be 0 with TRAIN.compat=published")
        return views

    @field_validator("scale_max", "rotate_max")
    @classmethod
    def _reaches_minimum(cls, maximum: float, info: ValidationInfo) -> float:
        minimum_name = str(info.field_name).replace("max", "min")
        minimum = info.data.get(minimum_name, maximum)
        if maximum < minimum:
            raise ValueError(f"must not be below {minimum_name}, {minimum}")
        return maximum


class Config(_Section):
    """A complete experiment. ``dataset`` and ``experiment`` are the first two arguments of commands."""

    dataset: str
    experiment: str
    DATA: DataSection
    Cluster: ClusterSection
    VIS: VisSection
    TRAIN: TrainSection

    @property
    def unsupervised(self) -> bool:
        """True for ``ssl_*`` experiments: training reads no label of any image."""
        return self.experiment.startswith("ssl_")

    @property
    def uses_pseudo_masks(self) -> bool:
        """True where some or all training episodes are of pseudo masks."""
        return self.unsupervised or self.TRAIN.pseudo_share > 0

    @property
    def published(self) -> bool:
        """True where everything behaves as in the published code."""
        return self.TRAIN.compat == "published"

    @property
    def run_folder(self) -> Path:
        """Where checkpoints, logs and results of this experiment go."""
        return self.TRAIN.save_path or PROJECT / "exp" / self.dataset / self.experiment

    @property
    def pseudo_folder(self) -> Path:
        """Where the pseudo masks of this experiment are."""
        extractor = self.Cluster.extractor.removeprefix("timm:")
        return self.Cluster.pseudo_folder or self.DATA.data_root / f"{self.dataset}_{extractor}_pseudo"


SECTIONS: dict[str, type[BaseModel]] = {
    "DATA": DataSection,
    "Cluster": ClusterSection,
    "VIS": VisSection,
    "TRAIN": TrainSection,
}
FIELDS = {f"{section}.{key}": field for section, keys in SECTIONS.items() for key, field in keys.model_fields.items()}
