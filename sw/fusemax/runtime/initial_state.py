"""What a softmax begins with: a state that was given, and sinks."""

from __future__ import annotations

from typing import Any

import numpy as np

from .argument_checks import check_broadcast, per_head
from .softmax_state import State

__all__ = ["initial_state"]


def initial_state(state: State | None, sink: Any, leading: tuple[int, ...], heads: int, queries: int, f: int) -> State | None:
    """State and sink of a call together; None if there is neither.

    Parameters
    ----------
    leading
        Leading axes of the queries.
    heads, queries, f
        Query heads, queries of each, head dim of the values.

    Raises
    ------
    TypeError, ValueError
        If they are not what :func:`fusemax.attention` says.
    """
    states = []
    shape = (*leading, queries, f)
    if state is not None:
        if not isinstance(state, State):
            raise TypeError(f"state must be a fusemax.State or None, not {state!r}")
        check_broadcast("state", state.shape, shape)
        states.append(state)
    if sink is not None:
        logits = per_head("sink", heads, sink, none=True)
        if (logits > -np.inf).any() and queries:
            found = State.sink(logits, queries, f)
            states.append(found if leading else State(found.max[0], found.denominator[0], found.numerator[0]))
    return states[0].merge(*states[1:]) if states else None
