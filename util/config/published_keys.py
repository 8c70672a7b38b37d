"""Keys of the published code that are renamed or change nothing here, and what ``TRAIN.compat: published`` sets.

A file of the published code names no ``base``. Two of its values mean something else than in a file of ours, which
``util.config`` corrects, with a line in the log: ``classes: 2`` counts background and object, and ``../data/NAME`` as
``data_root`` may be inside the project.
"""

from __future__ import annotations

from typing import Any

from util.logging import warn_once

ALIASES = {
    "DATA.data_list": "DATA.train_list",
    "DATA.list": "DATA.train_list",
    "TRAIN.checkpoint_path": "TRAIN.weight",
    "Cluster.weights": "Cluster.extractor_weights",
}
LAYERS = "TRAIN.layers"  # 50 or 101: a backbone and its weights
DISTRIBUTED = tuple(
    f"Distributed.{key}"
    for key in (
        *("dist_url", "dist_backend", "multiprocessing_distributed", "world_size", "rank", "use_apex", "opt_level"),
        *("keep_batchnorm_fp32", "loss_scale"),
    )
)
# Accepted, but they change nothing: what they chose is always so here, or follows from the experiment's name, the
# command or the checkpoint, or was never read in the published code either.
WITHOUT_EFFECT = (
    "TRAIN.sync_bn",
    "TRAIN.with_transformer",
    "TRAIN.fix_random_seed_val",
    "TRAIN.use_coco",
    "TRAIN.start_epoch",
    "TRAIN.resized_val",
    "TRAIN.ori_resize",
    "TRAIN.padding_label",
    "TRAIN.reg_weight",
    "TRAIN.consist_init_epoch",
    "TRAIN.use_apex",
    "VIS.debug_vis",
    "Distributed",
)

# What `TRAIN.compat: published` sets, in addition to the behaviour that has no key of its own. The command line takes
# precedence over it.
PUBLISHED = {
    "Cluster.recipe": "global",
    "Cluster.algorithm": "minibatch",
    "Cluster.cluster_images": 0,
    "Cluster.stage": None,
    "Cluster.flip": False,
    "Cluster.scales": [1.0],
    "Cluster.empty_share": 0.01,
    "Cluster.region_rule": "span",
    "Cluster.neighbours": 0,
    "TRAIN.support_self_attention": False,
    "TRAIN.contrast_residual": False,
    "TRAIN.refine": False,
    "TRAIN.lr_scale": 15.0,
    "TRAIN.transformer_lr": 1e-4,
    "TRAIN.evaluate": True,
    "TRAIN.best_on_validation": True,
}


def drop_keys_without_effect(values: dict[str, dict[str, Any]]) -> None:
    """Remove ``WITHOUT_EFFECT`` from ``values`` (section -> key -> value), with a warning that names those removed."""
    dropped = []
    for name in WITHOUT_EFFECT:
        section, _, key = name.partition(".")
        holder: dict[str, Any] = values.get(section, {}) if key else values
        if holder.pop(key or section, None) is not None:
            dropped.append(name)
    if dropped:
        warn_once(f"config: keys without effect here: {', '.join(dropped)}")
