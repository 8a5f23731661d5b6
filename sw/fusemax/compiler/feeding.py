"""What the host does around a program: by what it multiplies queries and results, and what it adds to scores."""

from __future__ import annotations

import math
from dataclasses import dataclass

__all__ = ["BIAS_ELEMENTS", "LOG2_E", "Feeding"]

LOG2_E = math.log2(math.e)
#: Elements that a bias of the scores takes: two products of bfloat16 numbers, the second of what the first leaves.
BIAS_ELEMENTS = 2


@dataclass(frozen=True)
class Feeding:
    """What the host must do for a program to compute what its cascade says. It is no part of the program's bytes.

    Members
    -------
    score_factor
        Factor of the scores besides the call's scale: log2(e) for softmax.
    score_bias
        What is added to scale · q·k, by :data:`BIAS_ELEMENTS` more elements of queries and keys behind the others.
    score_bound
        Largest \\|scale · q·k\\|, bias included, that the program is for; none if there is no limit.
    result_factor
        Factor of numerators and denominator.
    quotient_factor
        Factor of numerators that were divided: the lanes take the denominator's size.
    raw
        The results are the numerators as they are, not divided by the denominator.
    score_columns
        Columns of the output in front of the values' that hold sums of weights times scores.
    """

    score_factor: float = LOG2_E
    score_bias: float = 0.0
    score_bound: float | None = None
    result_factor: float = 1.0
    quotient_factor: float = 1.0
    raw: bool = False
    score_columns: int = 0
