"""Values that are the first columns of the keys, as in attention on a latent vector: they are read once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from numpy.typing import NDArray

__all__ = ["are_in_keys", "distinct"]


def are_in_keys(k: NDArray[Any], v: NDArray[Any]) -> bool:
    """Tell whether values are, in the same memory, the first columns of the keys: ``v = k[..., :F]``."""
    return (
        v.dtype == k.dtype
        and v.shape[:-1] == k.shape[:-1]
        and v.shape[-1] <= k.shape[-1]
        and v.__array_interface__["data"][0] == k.__array_interface__["data"][0]
        and all(length == 1 or one == other for length, one, other in zip(v.shape, v.strides, k.strides, strict=True))
    )


def distinct(arrays: Mapping[str, NDArray[Any]]) -> list[str]:
    """Name the arrays of a call that need a place of their own: values in keys, ``v`` in ``k``, need none."""
    in_keys = "v" in arrays and are_in_keys(arrays["k"], arrays["v"])
    return [name for name in arrays if name != "v" or not in_keys]
