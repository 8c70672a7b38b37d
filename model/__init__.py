"""The network: one file per block of the paper's figure; ``fss_network`` wires them.

features -> prior, support_prototypes -> query_transformer -> classifier; ``loss`` stands outside. ``ops`` and
``clusterutils`` hold the two operations that have native versions, ``baselines`` the methods without training.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from model.checkpoints import load_model
    from model.fss_network import FSSModel

__all__ = ["FSSModel", "load_model"]
_HOMES = {"FSSModel": "model.fss_network", "load_model": "model.checkpoints"}


def __getattr__(name: str) -> Any:
    """Import what ``__all__`` names when it is asked for: a command of this package reads its words before."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
