"""Programs of a sweep whose weights are a function of the score, from cascades that are written for it."""

from __future__ import annotations

import math
from functools import lru_cache

from ..cascade.cascade import Cascade
from ..cascade.reader import parse
from ..compiler.compilation import compile as compile_program
from ..compiler.functions import WEIGHT_FUNCTIONS
from ..compiler.program import Program
from ..spec import Config

__all__ = ["SWEEP_FUNCTIONS", "sweep_program"]

#: Weights as Einsums write them, by their names in :data:`fusemax.compiler.functions.WEIGHT_FUNCTIONS`.
SWEEP_FUNCTIONS = {
    "identity": "{}",
    "relu": "relu({})",
    "sigmoid": "sigmoid({})",
    "elu1": "elu1({})",
    "exp_min": "exp(min({}, 0))",
}

#: Bounds of scores are rounded up to a power of this, so that calls with other numbers have the same program.
BOUND_STEP = 2**0.125


def sweep_program(
    config: Config,
    function: str,
    e: int,
    f: int,
    *,
    bias: float = 0.0,
    bound: float | None = None,
    normalised: bool = False,
) -> Program:
    """Compile Σ w v with w = function(q · k + bias), or that over Σ w.

    Parameters
    ----------
    config
        The machine.
    function
        A name of :data:`SWEEP_FUNCTIONS`.
    e, f
        Head dims of queries and keys, and of values.
    bias
        Added to the scores.
    bound
        Largest size of a score, bias included; for functions that have a range.
    normalised
        The lanes divide by the sum of the weights.

    Raises
    ------
    MissingOptionError
        If the machine was made without an operation that it needs; names the option. A ValueError too.
    ValueError
        If the bound is more than the function's range.
    """
    limited = WEIGHT_FUNCTIONS[function].bound is not None
    most = WEIGHT_FUNCTIONS[function].most
    rounded = None
    if limited and bound is not None:
        rounded = BOUND_STEP ** math.ceil(math.log(max(bound, 2.0**-20), BOUND_STEP) - 1e-9)
        rounded = rounded if most is None or bound > most else min(rounded, most)
    cascade = _cascade(function, bias, normalised)
    return compile_program(cascade, head_dim=e, value_dim=f, config=config, score_bound=rounded)


@lru_cache(maxsize=64)
def _cascade(function: str, bias: float, normalised: bool) -> Cascade:
    score = "QK[m, p] + BIAS" if bias else "QK[m, p]"
    if function == "identity" and not bias:
        declared, lines, weights = "", [], "QK[m, p]"
    else:
        declared, weights = "W: [M, P], ", "W[m, p]"
        lines = [f"W[m, p] = {SWEEP_FUNCTIONS[function].format(score)}"]
    if normalised:
        declared += "D: [P], A: [M, P], "
        lines += [f"D[p] = {weights}", f"A[m, p] = {weights} / D[p]"]
        weights = "A[m, p]"
    lines = ["QK[m, p] = Q[e, p] * K[e, m]", *lines, f"AV[f, p] = {weights} * V[f, m]"]
    constants = f"  constants: {{BIAS: {bias!r}}}\n" if bias else ""
    expressions = "".join(f"    - {line}\n" for line in lines)
    tensors = f"Q: [E, P], K: [E, M], V: [F, M], QK: [M, P], {declared}AV: [F, P]"
    return parse(f"einsum:\n  declaration: {{{tensors}}}\n{constants}  expressions:\n{expressions}", f"sweep_{function}")
