"""What is compared: methods without training, the unsupervised network, and trainings on shares of the labels."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import NamedTuple

from util.errors import UserError

UNSUPERVISED = "unsupervised"
WITHOUT_TRAINING = {
    "prototype": "cosine to the mean of the object",
    "nearest": "cosine to the nearest pixels",
    "untrained": "the network before its first step",
}
SHOTS = (1, 5)
# Percent of the labelled images.
LABEL_SHARES = (5.0, 10.0, 20.0, 100.0)


class Training(NamedTuple):
    """A way of training on labels.

    ``start`` is the method whose network it starts from, ``pseudo_share`` the share of pseudo episodes among its own,
    ``words`` are further settings, like ``TRAIN.epochs=3``.
    """

    name: str
    title: str
    start: str | None = None
    pseudo_share: float = 0.0
    words: tuple[str, ...] = ()


# A line for each; every one is trained on every share of the labels.
TRAININGS = (
    Training("tuned", "supervised, from the unsupervised network", start=UNSUPERVISED),
    Training("joint", "supervised and on pseudo masks at once", pseudo_share=0.5),
    Training("scratch", "supervised, from scratch"),
)


class Method(NamedTuple):
    """A row of the tables; ``training`` and the percentage of the labels are those of supervised methods."""

    name: str
    title: str
    training: Training | None = None
    percent: float = 0.0

    @property
    def is_trained(self) -> bool:
        return self.name not in WITHOUT_TRAINING


def all_methods(shares: Collection[float]) -> list[Method]:
    """Every method, in the order of the tables."""
    return [
        *(Method(name, title) for name, title in WITHOUT_TRAINING.items()),
        Method(UNSUPERVISED, "meta-training on pseudo masks"),
        *(
            Method(f"{training.name}_{percent:g}", training.title, training, percent)
            for training in TRAININGS
            for percent in sorted(shares)
        ),
    ]


def choose_methods(methods: Sequence[Method], names: Sequence[str]) -> list[Method]:
    """Those that ``names`` names, in full or all of one training (``tuned``); all of them for no name.

    Raises ``UserError`` that lists the names there are.
    """
    families = {method.name: method.training.name for method in methods if method.training is not None}
    for name in names:
        if name not in {method.name for method in methods} | set(families.values()):
            known = ", ".join(dict.fromkeys([*(method.name for method in methods), *families.values()]))
            raise UserError(f"--only {name}: no such method; there are: {known}")
    return [method for method in methods if not names or method.name in names or families.get(method.name) in names]
