"""Batches whose entries have different numbers of queries: groups of entries that have as many, and their options."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .argument_checks import check_broadcast, numbers_of
from .softmax_state import State

__all__ = ["gather", "groups_of", "options_of", "stacked"]


def groups_of(queries: Sequence[NDArray[Any]]) -> list[list[int]]:
    """Entries with equal numbers of queries, in the order of their first ones.

    Raises
    ------
    TypeError, ValueError
        If they are not arrays of one dtype whose other axes are equal.
    """
    groups: dict[int, list[int]] = {}
    for number, array in enumerate(queries):
        if array.ndim != 3:
            raise ValueError(f"q[{number}] must be (heads, queries, head dim), not {array.shape}")
        if array.dtype != queries[0].dtype:
            raise TypeError(f"q[{number}] must be {queries[0].dtype} as q[0] is, not {array.dtype}")
        groups.setdefault(array.shape[1], []).append(number)
    return list(groups.values())


def options_of(options: Mapping[str, Any], entries: Sequence[int], count: int, shape: tuple[int, int, int]) -> Any:
    """Options of some of ``count`` entries, each of ``shape``, heads, queries and head dim of the values.

    Numbers that are one per entry are those of these entries; ``temperature`` and ``state`` are for all, or a list of one for
    each entry.

    Raises
    ------
    TypeError, ValueError
        If a list is not as long as there are entries, or its items are wrong.
    """
    found = dict(options)
    for name in ("query_offset", "prefix"):
        numbers = numbers_of(found.get(name), kinds="iuO")
        if numbers is not None and numbers.ndim and numbers.size == count:
            found[name] = [numbers.reshape(-1).tolist()[entry] for entry in entries]
    heads, queries, f = shape
    if isinstance(found.get("temperature"), (list, tuple)):
        rows = [
            _broadcast(f"temperature[{entry}]", each, (heads, queries))
            for entry, each in _chosen("temperature", found, entries, count)
        ]
        found["temperature"] = np.stack(rows)
    if isinstance(found.get("state"), (list, tuple)):
        found["state"] = _state([each for _, each in _chosen("state", found, entries, count)], (heads, queries, f))
    return found


def _chosen(name: str, options: Mapping[str, Any], entries: Sequence[int], count: int) -> list[tuple[int, Any]]:
    if len(options[name]) != count:
        raise ValueError(f"{name} must be for all, or a list of {count}, one per sequence, not of {len(options[name])}")
    return [(entry, options[name][entry]) for entry in entries]


def _broadcast(name: str, value: Any, shape: tuple[int, ...]) -> NDArray[Any]:
    numbers = numbers_of(value)
    if numbers is None:
        raise TypeError(f"{name} must be a number or an array of numbers, not {value!r}")
    check_broadcast(name, numbers.shape, shape)
    return np.broadcast_to(numbers, shape)


def _state(states: Sequence[State | None], shape: tuple[int, int, int]) -> State | None:
    """States of entries, one behind the other; None is one of no keys."""
    if not any(states):
        return None
    heads, queries, f = shape
    none = State(np.full((1, 1), -np.inf, np.float32), np.zeros((1, 1), np.float32), np.zeros((1, 1, f), np.float32))
    parts = []
    for state in states:
        each = none if state is None else state
        if not isinstance(each, State):
            raise TypeError(f"state must be of fusemax.State or None, not {each!r}")
        try:
            parts.append(
                [
                    np.broadcast_to(each.max, (heads, queries)),
                    np.broadcast_to(each.denominator, (heads, queries)),
                    np.broadcast_to(each.numerator, (heads, queries, f)),
                ]
            )
        except ValueError:
            raise ValueError(f"state must broadcast to {shape}, not be of shape {each.shape}") from None
    return State(*(np.stack(members) for members in zip(*parts, strict=True)))


def stacked(queries: Sequence[NDArray[Any]], entries: Sequence[int]) -> NDArray[Any]:
    """Queries of a group, (entries, heads, queries, head dim).

    Raises
    ------
    ValueError
        If their heads or head dims differ.
    """
    shapes = {queries[entry].shape for entry in entries}
    if len(shapes) > 1:
        raise ValueError(f"the arrays of q must have as many heads and one head dim, not shapes {sorted(shapes)}")
    return np.stack([queries[entry] for entry in entries])


def gather(groups: Sequence[Sequence[int]], results: Sequence[Any]) -> Any:
    """Results of the groups as lists, in the order of the entries; a tuple of lists if each is a tuple."""
    count = sum(map(len, groups))
    if not isinstance(results[0], tuple):
        results = [(result,) for result in results]
    lists: list[list[Any]] = [[None] * count for _ in results[0]]
    for group, members in zip(groups, results, strict=True):
        for member, found in zip(members, lists, strict=True):
            for place, entry in enumerate(group):
                found[entry] = _entry(member, place)
    return tuple(lists) if len(lists) > 1 else lists[0]


def _entry(member: NDArray[Any] | State, place: int) -> Any:
    if isinstance(member, State):
        return State(member.max[place], member.denominator[place], member.numerator[place])
    return member[place]
