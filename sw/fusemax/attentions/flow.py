"""Flow attention: linear attention with competition among keys and allocation to queries."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..cascade.builtins import MAPS
from ..plan.array import array_of
from ..runtime.device import Counters, Device
from .causal_product import CHUNK, causal_product
from .checks import check_choice, check_parts, check_qkv, check_square, repeat_heads

__all__ = ["FLOW_VARIANTS", "Flow", "FlowVariant", "flow_attention"]

_sigmoid = MAPS["sigmoid"].compute

#: Added to both operands of every product of flows.
EPSILON = 1e-6

Matrix = NDArray[np.float64]


@dataclass(frozen=True)
class FlowVariant:
    """What the public code does differently from task to task.

    Members
    -------
    feature
        Map of queries and keys to positive numbers: ``sigmoid``, or ``relu`` with 1e-6 added.
    clamp
        The flow out of a key, refined, is kept within ± this before its exponential; None for not at all.
    added
        Added to each of the four products of flows.
    """

    feature: str = "sigmoid"
    clamp: float | None = 1.0
    added: float = 0.0


#: The core code, and the code of each task in the same repository.
FLOW_VARIANTS = {
    "core": FlowVariant(),
    "vision": FlowVariant(added=EPSILON),
    "lra": FlowVariant(feature="relu", clamp=None),
    "timeseries": FlowVariant(clamp=None),
    "reinforcement": FlowVariant(clamp=10.0),
    "language": FlowVariant(clamp=5.0),
}


def flow_attention(
    q: ArrayLike,
    k: ArrayLike,
    v: ArrayLike,
    *,
    causal: bool = False,
    variant: str = "core",
    chunk: int | None = CHUNK,
    parts: int = 2,
    device: Device | None = None,
    counters: list[Counters] | None = None,
) -> NDArray[np.float32]:
    """Compute flow attention.

    With σ the sigmoid and a ⊙ b = Σ_e (a_e + ε)(b_e + ε), ε = 1e-6: flows I_p = σ(q_p) ⊙ Σ_m σ(k_m) and
    O_m = σ(k_m) ⊙ Σ_p σ(q_p); refined Î_p = σ(q_p) ⊙ Σ_m σ(k_m)/O_m and Ô_m = σ(k_m) ⊙ Σ_p σ(q_p)/I_p, kept within ±1;
    competition c = M · softmax(Ô), allocation a = σ(Î · P/M); output a_p σ(q_p)/I_p · Σ_m σ(k_m)ᵀ c_m v_m.
    Wu et al., Flowformer (arXiv 2202.06258), equations 5 to 8. There is no factor 1/√E.

    The paper has neither the ε nor the clamp; the public code has both, and differs from task to task:
    :data:`FLOW_VARIANTS`. The paper's P/M is left out in its text and stands in the code.

    ``causal``: every sum runs up to the present token, and products of flows are divided by its number n_i, so that
    c_i = e^{Ô_i} / Σ_{j≤i} e^{Ô_j} · n_i and the output is σ(Î_i) σ(q_i) / (I_i n_i) · Σ_{j≤i} σ(k_j)ᵀ c_j v_j, without P/M.

    The flows, which grow as n · d, are the host's, in float64; the two products of n · d² are the array's.

    Parameters
    ----------
    q, k, v : arrays (..., P, E), (..., M, E), (..., M, F)
        As :func:`fusemax.attention`'s.
    causal
        A token sees those up to its own place; queries and keys of equal length. The machine needs the option ``linear``.
    variant
        A name of :data:`FLOW_VARIANTS`; ``reinforcement`` and ``language`` are causal in the public code.
    chunk
        With ``causal``: tokens whose pairs are products of their own, behind a state; None for all tokens.
    parts
        bfloat16 numbers that the host's numbers are split into on their way to the array: 2 for a relative error of 1e-5,
        1 for some 4e-4 at half of the cycles.
    device, counters
        See :mod:`fusemax.attentions`.

    Returns
    -------
    float32 array (..., P, F)

    Raises
    ------
    TypeError, ValueError
        If an argument is not as above.
    MissingOptionError
        If the machine was made without the option ``linear``, and ``causal`` is asked for. A ValueError too.
    NonFiniteError, DeviceError
        As :func:`fusemax.attention`.
    """
    queries, keys, values = check_qkv(q, k, v)
    check_choice("variant", variant, tuple(FLOW_VARIANTS))
    check_parts(parts)
    if causal:
        check_square(queries, keys)
    flow = Flow.of(queries, repeat_heads(keys, queries), FLOW_VARIANTS[variant], causal=causal)
    with array_of(device, counters) as array:
        if causal:
            rows = causal_product(array, flow.queries, flow.keys, repeat_heads(values, queries), parts=parts, chunk=chunk)
            return (flow.rows * rows).astype(np.float32)
        context = array.product(flow.keys.swapaxes(-1, -2), repeat_heads(values, queries), parts)
        rows = array.product(flow.queries, context, parts)
    return (flow.rows * rows).astype(np.float32)


@dataclass(frozen=True)
class Flow:
    """What the host makes of queries and keys: output = rows · (queries (keysᵀ v)).

    Members
    -------
    queries
        (..., P, E), positive.
    keys
        (..., M, E), positive: with the competition.
    rows
        (..., P, 1): allocation over the flow into the query.
    competition
        Ô, (..., M, 1), before the clamp.
    """

    queries: Matrix
    keys: Matrix
    rows: Matrix
    competition: Matrix

    @classmethod
    def of(cls, q: Matrix, k: Matrix, variant: FlowVariant, *, causal: bool = False) -> Flow:
        """The flows between queries and keys."""
        queries, keys = _feature(q, variant), _feature(k, variant)
        if causal:
            return cls._causal(queries, keys, variant)

        def product(x: Matrix, total: Matrix) -> Matrix:
            return ((x + EPSILON) * (total + EPSILON)).sum(axis=-1, keepdims=True) + variant.added

        incoming = product(queries, keys.sum(axis=-2, keepdims=True))
        outgoing = product(keys, queries.sum(axis=-2, keepdims=True))
        allocated = product(queries, (keys / outgoing).sum(axis=-2, keepdims=True))
        competing = product(keys, (queries / incoming).sum(axis=-2, keepdims=True))
        weights = _competition(competing, variant)
        length = keys.shape[-2]
        competition = weights / weights.sum(axis=-2, keepdims=True) * length
        rows = _sigmoid(allocated * (queries.shape[-2] / length)) / incoming
        return cls(queries, keys * competition, rows, competing)

    @classmethod
    def _causal(cls, queries: Matrix, keys: Matrix, variant: FlowVariant) -> Flow:
        """Sums up to the present token, over its number."""
        number = np.arange(1, queries.shape[-2] + 1)[:, None]

        def product(x: Matrix, terms: Matrix) -> Matrix:
            totals = terms.cumsum(axis=-2)
            return (((x + EPSILON) * (totals + EPSILON)).sum(axis=-1, keepdims=True) + variant.added) / number

        incoming, outgoing = product(queries, keys), product(keys, queries)
        allocated, competing = product(queries, keys / outgoing), product(keys, queries / incoming)
        weights = _competition(competing, variant)
        competition = weights / weights.cumsum(axis=-2) * number
        return cls(queries, keys * competition, _sigmoid(allocated) / (incoming * number), competing)


def _competition(competing: Matrix, variant: FlowVariant) -> Matrix:
    """Exponentials of the flows out of the keys, as multiples of the largest one."""
    clamped = competing if variant.clamp is None else np.clip(competing, -variant.clamp, variant.clamp)
    return np.exp(clamped - clamped.max(axis=-2, keepdims=True))


def _feature(x: Matrix, variant: FlowVariant) -> Matrix:
    return _sigmoid(x) if variant.feature == "sigmoid" else np.maximum(x, 0) + EPSILON
