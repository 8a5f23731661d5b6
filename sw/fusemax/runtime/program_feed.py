"""What a program needs from the host around a call: checks, factors, elements of queries and keys, columns of values."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..compiler.feeding import BIAS_ELEMENTS, Feeding
from ..compiler.program import Program
from ..spec import Config
from .score_bias import append_bias

__all__ = ["ProgramFeed"]

Bits = NDArray[np.uint16]


class ProgramFeed:
    """Feeds a program that a caller brings along; without one, attention in one pass.

    Members
    -------
    program : Program or None
        The program.
    feeding : Feeding
        What it needs.

    Raises
    ------
    TypeError
        If ``program`` is something else.
    """

    def __init__(self, program: Program | None) -> None:
        if program is not None and not isinstance(program, Program):
            raise TypeError(f"program must be a Program or None, not {program!r}")
        self.program = program
        self.feeding = Feeding() if program is None else program.feeding

    def check_options(self, softmax_only: dict[str, bool]) -> None:
        """Refuse options that are about a softmax, for a program that computes something else.

        Raises
        ------
        ValueError
            If one of them is given.
        """
        given = [name for name, is_given in softmax_only.items() if is_given]
        if given and self.program is not None and self.program.fixed_reference:
            raise ValueError(f"{given[0]} must not be given with a program without a running maximum")

    def check(self, config: Config, e: int, f: int) -> None:
        """Check the program against the machine and the head dims of a call.

        Raises
        ------
        ValueError
            If it is for another configuration or other head dims.
        RuleError
            If the machine cannot run it.
        """
        program = self.program
        if program is None:
            return
        if program.config != config:
            raise ValueError(f"program must be for {config.name!r}, as the device is, not for {program.config.name!r}")
        if (program.e, program.f) != (e, f):
            raise ValueError(f"program must be for head dims {e} and {f}, as q and v have, not {program.e} and {program.f}")
        _check_rules(program)

    @property
    def extra_columns(self) -> int:
        """Elements that are added to queries and keys."""
        return BIAS_ELEMENTS * bool(self.feeding.score_bias)

    @property
    def divides_plainly(self) -> bool:
        """Whether results are numerators by a softmax's denominator, without further factors."""
        feeding = self.feeding
        return (
            (self.program is None or not self.program.fixed_reference)
            and not feeding.raw
            and feeding.result_factor == feeding.quotient_factor == 1
        )

    def operands(self, q: Bits, k: Bits, v: Bits, factor: ArrayLike) -> tuple[Bits, Bits, Bits]:
        """Bits of queries, keys and values with what the program needs beside them; ``factor`` is that of the queries."""
        feeding = self.feeding
        if feeding.score_bias and self.program is not None:
            q, k = append_bias(self.program.config, q, k, feeding.score_bias, factor, feeding.score_factor)
        if feeding.score_columns:
            # The machine writes sums of scores there; it does not look at the values.
            v = np.pad(v, ((0, 0), (0, 0), (0, 0), (feeding.score_columns, 0)))
        return q, k, v

    def result(self, out: NDArray[Any], *, raw: bool) -> NDArray[Any]:
        """Numerators, ``raw`` or divided, times their factor."""
        factor = self.feeding.result_factor if raw else self.feeding.quotient_factor
        return out if factor == 1 else (out.astype(np.float32) * np.float32(factor)).astype(out.dtype)


@lru_cache(maxsize=64)
def _check_rules(program: Program) -> None:
    program.check()
