"""Cascades that go over the keys tile by tile themselves: each is a program of the array, and one sweep."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..cascade.cascade import Cascade
from ..cascade.errors import CascadeError, ReachError
from ..compiler.compilation import compile as compile_program
from ..compiler.mapper import map_cascade
from .array import Array
from .parts import no_room, operand, parts_of

__all__ = ["run_program"]


def run_program(
    cascade: Cascade, inputs: Mapping[str, NDArray[Any]], array: Array, leading: int, parts: int
) -> dict[str, NDArray[np.float64]]:
    """Compute a cascade with an iteration over tiles of keys.

    Parameters
    ----------
    cascade
        The cascade.
    inputs
        Its inputs, with ``leading`` axes in front of the declared ones.
    array
        Where it runs.
    parts
        bfloat16 numbers that an operand is split into.

    Raises
    ------
    ReachError
        If the array cannot run it, or it has more than one result.
    CascadeError
        If inputs are missing or superfluous.
    """
    mapped = map_cascade(cascade)
    if set(inputs) != set(cascade.inputs):
        raise CascadeError(f"inputs must be {', '.join(cascade.inputs)}, not {', '.join(inputs)}", name=cascade.name)
    if len(cascade.results) != 1:
        results = ", ".join(cascade.results)
        raise ReachError(f"no plan for this: a program has one result here, not {results}", name=cascade.name)
    # Keys and values have the rank that is split into tiles; keys have one in common with the queries, which have not.
    tiles = mapped.tile_variable.upper()
    rank = next((split.rank for split in cascade.split if tiles in split.parts), tiles)
    ranks = {name: cascade.ranks_of[name] for name in cascade.inputs}
    query = next(name for name in cascade.inputs if rank not in ranks[name])
    key = next(name for name in cascade.inputs if rank in ranks[name] and set(ranks[name]) & set(ranks[query]))
    value = next(name for name in cascade.inputs if name not in (query, key))
    (shared,) = set(ranks[key]) & set(ranks[query])
    q, k, v = (
        _rows(inputs[name], ranks[name], last, leading)
        for name, last in ((query, shared), (key, shared), (value, next(r for r in ranks[value] if r != rank)))
    )
    pairs = [(a, b) for i, a in enumerate(parts_of(q, parts)) for b in parts_of(k, parts)[: parts - i]]
    columns = parts_of(v, parts)
    queries, keys, values = (
        operand(np.concatenate(pieces, axis=-1)) for pieces in ([a for a, _ in pairs], [b for _, b in pairs], columns)
    )
    if queries.shape[-1] > array.config.max_e:
        raise ReachError(f"no plan for this: {no_room(queries.shape[-1], array.config, parts)}", name=cascade.name)
    bound = math.prod(np.linalg.norm(x, axis=-1).max() for x in (q, k)) * 1.01
    dims = {"head_dim": queries.shape[-1], "value_dim": values.shape[-1]}
    limited = compile_program(cascade, **dims, config=array.config)
    program = (
        limited
        if limited.feeding.score_bound is None
        else compile_program(cascade, **dims, config=array.config, score_bound=bound)
    )
    out = array.program(program, queries, keys, values)
    out = out.reshape(*out.shape[:-1], len(columns), -1).sum(axis=-2)
    (result,) = cascade.results
    last = next(r for r in ranks[value] if r != rank)
    return {result: out if cascade.ranks_of[result][-1] == last else out.swapaxes(-1, -2)}


def _rows(array: NDArray[Any], ranks: tuple[str, ...], last: str, leading: int) -> NDArray[np.float64]:
    """The array with the axis of rank ``last`` behind the other one, in float64."""
    if array.ndim != leading + 2 or len(ranks) != 2:
        raise CascadeError(f"inputs of a program must have two ranks, not {', '.join(ranks)}")
    numbers = array.astype(np.float64)
    return numbers if ranks[-1] == last else numbers.swapaxes(-1, -2)
