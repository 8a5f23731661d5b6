"""Running reference of a query: the largest score so far, rounded up to an integer."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..spec import Config

__all__ = ["MAX_DISTANCE", "NewReference", "ceil_score", "update_reference"]

#: Largest rescale distance; also the distance from no reference at all.
MAX_DISTANCE = 255


class NewReference(NamedTuple):
    """RM' and the distance by which the state must be rescaled."""

    #: RM', ``Config.reference_bits`` two's complement; 0 where not valid.
    reference: NDArray[np.int64]
    #: A visible key has been seen.
    valid: NDArray[np.bool_]
    #: min(RM' - RM, 255), or 255 if RM is none; 8 bits.
    distance: NDArray[np.int64]


def ceil_score(config: Config, score: ArrayLike) -> NDArray[np.int64]:
    """ceil(score / 2^SF)."""
    return -(-np.asarray(score, np.int64) >> config.score_frac_bits)


def update_reference(
    config: Config, reference: ArrayLike, valid: ArrayLike, local_maximum: ArrayLike, local_valid: ArrayLike
) -> NewReference:
    """RM' = max(RM, ceil(LM / 2^SF)) over the operands that are valid, and the rescale distance.

    Parameters
    ----------
    reference, valid
        RM, and whether there is one.
    local_maximum, local_valid
        LM, the largest visible score of the tile (unit 2^-SF), and whether there is one.
    """
    old = np.asarray(reference, np.int64)
    old_valid = np.asarray(valid, np.bool_)
    new_valid = np.asarray(local_valid, np.bool_)
    local = ceil_score(config, local_maximum)
    result = np.where(old_valid & new_valid, np.maximum(old, local), np.where(new_valid, local, np.where(old_valid, old, 0)))
    distance = np.where(old_valid, np.minimum(result - old, MAX_DISTANCE), MAX_DISTANCE)
    return NewReference(result, old_valid | new_valid, distance)
