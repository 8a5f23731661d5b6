"""Arguments of a call that have a value for every query and key, ``mask`` and ``bias``: checked, and packed for a machine."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from ..compiler.program import Program
from ..errors import NonFiniteError
from ..planning.bias_rows import as_operands, pack_bias
from ..planning.masks import Mask
from ..planning.packed_mask import PackedMask
from ..planning.pair_rows import Bias, PairRows, Pairs, seen_tiles, with_axes
from ..spec import Config
from .argument_checks import check_broadcast
from .operands import BFLOAT16, FLOATS, converted
from .options import RequestOptions

__all__ = ["PairArguments"]


class PairArguments:
    """Mask and bias of a call.

    Parameters
    ----------
    options
        Of the call.
    shape
        Batch axes, query heads, queries and keys.
    program
        The call's own program, if it has one.
    starts
        First key that is seen, of all batch entries or of each.

    Raises
    ------
    TypeError, ValueError
        If an argument is not of its type or shape, or the program takes no bias and there is one, or the other way round.
    NonFiniteError
        If a bias is NaN or +inf.
    """

    def __init__(
        self, options: RequestOptions, shape: tuple[int, ...], program: Program | None = None, starts: Sequence[int] = (0,)
    ) -> None:
        mask, bias = options.get("mask"), options.get("bias")
        self._leading, self._keys, self._count = shape[:-2], shape[-1], math.prod(shape)
        self._whole = (math.prod(shape[:-3]), shape[-3] if len(shape) > 2 else 1, *shape[-2:])
        self._packed = mask if isinstance(mask, PackedMask) else None
        self._seen: NDArray[np.bool_] | None = None
        self._bias: NDArray[Any] | None = None
        if mask is not None:
            self._take_mask(mask, shape)
        if bias is not None:
            self._take_bias(bias, shape)
        if self._given and any(starts):
            behind = np.arange(self._keys) >= np.asarray(starts)[:, None, None, None]
            self._seen = behind if self._seen is None else self._seen & behind
        if program is not None and program.takes_bias != (bias is not None):
            raise ValueError(
                "bias must be given with a program that was compiled with bias=True"
                if program.takes_bias
                else "program must be one that was compiled with bias=True, since there is a bias"
            )

    def _take_mask(self, mask: Any, shape: tuple[int, ...]) -> None:
        if self._packed is not None:
            check_broadcast("mask", self._packed.shape, shape)
            if self._packed.shape[-1] != self._keys:
                raise ValueError(f"a packed mask must be of all {self._keys} keys, not of {self._packed.shape[-1]}")
            return
        mask = _without_own_mask("mask", mask)
        if mask.dtype != np.bool_:
            raise TypeError(
                f"mask must be of bool, a fusemax.PackedMask or None, not of {mask.dtype}: numbers that are added are a bias"
            )
        check_broadcast("mask", mask.shape, shape)
        self._seen = with_axes(_all_keys(mask, self._keys), self._leading)

    def _take_bias(self, bias: Any, shape: tuple[int, ...]) -> None:
        bias = _without_own_mask("bias", bias)
        if bias.dtype != BFLOAT16 and bias.dtype not in FLOATS:
            raise TypeError(f"bias must be of bfloat16, float16, float32 or float64 numbers, or None, not of {bias.dtype}")
        check_broadcast("bias", bias.shape, shape)
        bias = with_axes(_all_keys(bias, self._keys), self._leading)
        # Both say in models that a key is not seen. float64 numbers come from float32 ones, whose lowest number they keep.
        lowest = ml_dtypes.finfo(np.float32 if bias.dtype == np.float64 else bias.dtype).min
        hidden = bias <= lowest
        if not np.isfinite(bias[~hidden].astype(np.float64)).all():
            raise NonFiniteError("bias must be finite, or -inf for keys that are not seen, but holds +inf or NaN")
        if hidden.any():
            bias = np.where(hidden, np.zeros((), bias.dtype), bias)
            self._seen = ~hidden if self._seen is None else self._seen & ~hidden
        self._bias = _as_bits(bias)

    @property
    def _given(self) -> bool:
        return self._packed is not None or self._seen is not None or self._bias is not None

    def without_starts(self, mask: Mask) -> Mask:
        """The mask of the call but for first keys: beside mask bits and biases, whose tiles begin at key 0, they are bits."""
        return replace(mask, key_starts=(0,)) if self._given else mask

    def whole(self) -> tuple[NDArray[np.bool_] | None, NDArray[np.float64] | None]:
        """Which pairs are seen and the bias, (batch, query heads, P, M) each, in views; None if there is none."""
        seen = self._seen
        if self._packed is not None:
            unpacked = with_axes(self._packed.unpack(), self._leading)
            seen = unpacked if seen is None else seen & unpacked
        bias = self._bias
        if bias is not None:
            bias = (bias.view(BFLOAT16) if bias.dtype == np.uint16 else bias).astype(np.float64)
        return (
            None if seen is None else np.broadcast_to(seen, self._whole),
            None if bias is None else np.broadcast_to(bias, self._whole),
        )

    def pack(self, config: Config, temperature: NDArray[np.float64] | None = None) -> Pairs:
        """Pack them for a machine; ``temperature`` is that of the call, (batch, query heads, P), or None.

        Raises
        ------
        ValueError
            If the machine takes no mask, or the mask was packed for another one.
        """
        mask_rows = self._mask_rows(config)
        tiles = None if mask_rows is None else seen_tiles(config, mask_rows)
        return Pairs(mask_rows, self._bias_rows(config, temperature), tiles)

    def _mask_rows(self, config: Config) -> PairRows | None:
        rows = None
        if not self._count:
            return None
        if self._packed is not None:
            self._packed.check(config)
            rows = with_axes(self._packed.rows, self._leading)
        if self._seen is not None:
            seen = PackedMask(self._seen, config).rows
            rows = seen if rows is None else rows & seen
        return None if rows is None else PairRows(np.ascontiguousarray(rows))

    def _bias_rows(self, config: Config, temperature: NDArray[np.float64] | None) -> Bias | None:
        """Biases for a machine; None if there are none.

        bfloat16 numbers are scaled by the machine. Others, or any beside temperatures that differ, are scaled here, in float64,
        and rounded once, as the machine rounds: to 17 significant bits.
        """
        if self._bias is None or not self._count:
            return None
        factor = 1 / math.log(2)
        if temperature is not None and (temperature == temperature.flat[0]).all():
            factor, temperature = factor / float(temperature.flat[0]), None
        if self._bias.dtype == np.uint16 and temperature is None:
            return Bias(PairRows(pack_bias(config, self._bias)), wide=False, scale=np.float32(factor))
        numbers = self._bias.view(BFLOAT16) if self._bias.dtype == np.uint16 else self._bias
        scaled = numbers.astype(np.float64) * factor
        if temperature is not None:
            scaled = scaled / temperature[..., None]
        return Bias(PairRows(pack_bias(config, as_operands(config, scaled))), wide=True, scale=np.float32(1))


def _without_own_mask(name: str, value: Any) -> NDArray[Any]:
    """Read an array as people have it."""
    if isinstance(value, np.ma.MaskedArray):
        raise TypeError(f"{name} must be an array without a mask, not {type(value).__name__}: give {name}.data")
    return converted(name, value)


def _as_bits(bias: NDArray[Any]) -> NDArray[Any]:
    """bfloat16 bits of numbers that are bfloat16 numbers, else the numbers in float32 or float64."""
    if bias.dtype == BFLOAT16:
        return bias.view(np.uint16)
    with np.errstate(over="ignore"):
        single = np.ascontiguousarray(bias, np.float32)
    bits = single.view(np.uint32)
    if (bits & 0xFFFF).any() or (bias.dtype == np.float64 and (single != bias).any()):
        return bias if bias.dtype == np.float64 else single
    return (bits >> 16).astype(np.uint16)


def _all_keys(array: NDArray[Any], keys: int) -> NDArray[Any]:
    """With an axis of keys as long as there are keys, and one of queries."""
    array = array.reshape(*(1,) * (2 - array.ndim), *array.shape)
    return np.ascontiguousarray(np.broadcast_to(array, (*array.shape[:-1], keys)))
