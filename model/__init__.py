"""The network: one file per block of the paper's figure; ``fss_network`` wires them.

features -> prior, support_prototypes -> query_transformer -> classifier; ``loss`` stands outside. ``ops`` and
``clusterutils`` hold the two operations that have native versions, ``baselines`` the methods without training.
"""

from model.checkpoints import load_model
from model.fss_network import FSSModel

__all__ = ["FSSModel", "load_model"]
