"""Labels of the Semantic Boundaries Dataset (SBD), which are MATLAB files."""

from __future__ import annotations

import io

import numpy as np
from scipy.io import loadmat

from util.errors import UserError


def decode_sbd_label(data: bytes, name: str) -> np.ndarray:
    """The class of every pixel, uint8 (H, W), from the bytes of a ``cls/ID.mat``; errors call it ``name``.

    The file holds a struct ``GTcls`` with a field ``Segmentation``. Raises ``UserError`` for anything else.
    """
    try:
        label = loadmat(io.BytesIO(data), variable_names=["GTcls"])["GTcls"][0, 0]["Segmentation"]
    except Exception:  # scipy fails in a dozen ways on damaged files
        label = None
    if not isinstance(label, np.ndarray) or label.ndim != 2 or label.dtype != np.uint8 or not label.size:
        raise UserError(f"{name}: not an SBD label (a MATLAB file with GTcls.Segmentation); unpack it again")
    return label
