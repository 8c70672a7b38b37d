"""Labels of the Semantic Boundaries Dataset (SBD), which are MATLAB files."""

from __future__ import annotations

import numpy as np

from prepare.pascal.matlab import MatlabArray, MatlabError, matlab_arrays
from util.errors import UserError


def decode_sbd_label(data: bytes, name: str) -> np.ndarray:
    """The class of every pixel, uint8 (H, W), from the bytes of a ``cls/ID.mat``; errors call it ``name``.

    The file holds a struct ``GTcls`` with a field ``Segmentation``, of numbers of any type. Raises ``UserError`` for
    anything else.
    """
    try:
        return _label(_classes(data).field("Segmentation").numbers())
    except MatlabError as error:
        raise UserError(
            f"{name}: not an SBD label (a MATLAB file with GTcls.Segmentation): {error}; unpack it again"
        ) from None


def _classes(data: bytes) -> MatlabArray:
    arrays = {array.name: array for array in matlab_arrays(data)}
    if "GTinst" in arrays and "GTcls" not in arrays:
        raise MatlabError("it has GTinst, which are objects; classes are in the folder cls next to inst")
    if "GTcls" not in arrays:
        raise MatlabError("it has no GTcls")
    return arrays["GTcls"]


def _label(numbers: np.ndarray) -> np.ndarray:
    """The numbers as uint8, if they are labels."""
    if numbers.ndim != 2 or not numbers.size:
        raise MatlabError(f"Segmentation is of shape {numbers.shape}")
    with np.errstate(invalid="ignore"):  # numbers that are none are not equal to what they become
        label = numbers.astype(np.uint8)
    if not np.array_equal(label, numbers):
        raise MatlabError("Segmentation has numbers that are no labels")
    return label
