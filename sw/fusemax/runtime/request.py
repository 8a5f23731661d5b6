"""Arguments of an attention call: checked, and turned into what the driver takes."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, Self

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from ..compiler.program import Program
from ..planning.output_rows import Rows
from ..planning.sequences import PackedSequence
from ..spec import Config
from .alibi import MOST_KEYS, Alibi
from .argument_checks import (
    check_head_dims,
    check_seconds,
    check_shapes,
    per_head,
    to_bits,
)
from .call import Call, told_of_scores
from .initial_state import initial_state
from .mask_options import mask_of
from .operands import dtype_name
from .options import RequestOptions
from .pair_arguments import PairArguments
from .places import Places
from .program_feed import ProgramFeed
from .score_factors import ScoreFactors
from .softmax_state import State, log_sum, state_of_device
from .values_in_keys import are_in_keys

__all__ = ["Request"]

#: A float32 has a unit in the last place of at most 1 up to here: what ALiBi may add to a log-sum-exp.
MOST_ADDED = 1 << 24


class Request:
    """A call whose arguments have been checked.

    Parameters
    ----------
    options
        As given by the user.
    leading
        Leading axes of q: none, heads, batch and heads, or more.
    queries, keys, e, f
        Shape of a head.
    program
        What computes it; attention in one pass if not given.
    sequences
        Sequences that are packed one behind the other, with their masks; the batch is one entry then.

    Members
    -------
    batch, heads
        Batch entries and query heads.
    mask, alibi
        Which keys a query sees; columns of queries and keys for ALiBi, or None.
    factors
        What scores are multiplied by.
    slopes
        ALiBi's, of each query head; None for none.
    pairs
        Mask and bias of pairs.
    initial
        State that comes before the keys, a sink included; None for none.

    Raises
    ------
    TypeError, ValueError
        If an option is not what :func:`fusemax.attention` says.
    """

    def __init__(
        self,
        options: RequestOptions,
        leading: tuple[int, ...],
        queries: int,
        keys: int,
        e: int,
        f: int,
        program: Program | None = None,
        sequences: Sequence[PackedSequence] | None = None,
    ) -> None:
        self._feed = ProgramFeed(program)
        self.out_dtype = dtype_name("out_dtype", options.get("out_dtype", "bfloat16"))
        self.timeout, self.progress = options.get("timeout"), options.get("progress")
        self.return_lse, self.return_state = options.get("return_lse", False), options.get("return_state", False)
        self.leading, self.heads = leading, leading[-1] if leading else 1
        self.batch = math.prod(leading[:-1])
        self.queries, self.keys, self.e, self.f = queries, keys, e, f
        self._check_plain(options.get("causal", False))
        self.mask = mask_of(options, self.batch, keys)
        self.pairs = PairArguments(options, (*leading, queries, keys), program, self.mask.key_starts)
        self._sequences = sequences
        self._places = Places((self.batch, queries, keys), self.mask, sequences)
        given = options.get("alibi_slopes")
        slopes = None if given is None else per_head("alibi_slopes", self.heads, given)
        self.slopes = slopes
        self.factors = ScoreFactors(
            options, leading, (self.batch, self.heads, queries), 1 / math.sqrt(e), self._feed.feeding.score_factor
        )
        self._told = told_of_scores(alibi=given is not None, temperature=options.get("temperature") is not None)
        self.alibi = None if slopes is None else self._columns(slopes)
        self.initial = initial_state(options.get("state"), options.get("sink"), leading, self.heads, queries, f)
        self._with_state = self.initial is not None or self.return_state
        softmax_only = {
            "return_lse": self.return_lse,
            "state or sink": self.initial is not None,
            "alibi_slopes": given is not None,
        }
        self._feed.check_options(softmax_only)

    @classmethod
    def of(
        cls,
        q: NDArray[Any],
        k: NDArray[Any],
        v: NDArray[Any],
        options: RequestOptions,
        program: Program | None = None,
        sequences: Sequence[PackedSequence] | None = None,
    ) -> Self:
        """A call with arrays as :func:`~.operands.as_operands` gives them.

        Raises
        ------
        TypeError, ValueError
            If they are not what :func:`fusemax.attention` says.
        """
        check_shapes(q, k, v)
        return cls(options, q.shape[:-2], q.shape[-2], k.shape[-2], q.shape[-1], v.shape[-1], program, sequences)

    # -- checks ----------------------------------------------------------------------------------------------

    def _check_plain(self, causal: object) -> None:
        if self.timeout is not None:
            check_seconds("timeout", self.timeout)
            if not self.timeout > 0:
                raise ValueError(f"timeout must be greater than 0, not {self.timeout!r}")
        if self.progress is not None and not callable(self.progress):
            raise TypeError(f"progress must be a function or None, not {self.progress!r}")
        for name, value in (("causal", causal), ("return_lse", self.return_lse), ("return_state", self.return_state)):
            if not isinstance(value, (bool, np.bool_)):
                raise TypeError(f"{name} must be True or False, not {value!r}")

    def _columns(self, slopes: NDArray[np.float32]) -> Alibi:
        longest = int(self._places.of_keys().max(initial=0)) + 1
        if longest > MOST_KEYS:
            raise ValueError(f"keys must be at most {MOST_KEYS} with alibi_slopes, not {longest}")
        return Alibi(slopes, self.factors.nonzero)

    # -- to the driver ---------------------------------------------------------------------------------------

    @property
    def _raw(self) -> bool:
        """Whether numerators are asked for. A state's are the quotient times the denominator, which float32 always holds."""
        return self._feed.feeding.raw or (self._with_state and not self._feed.divides_plainly)

    @property
    def finishes_output(self) -> bool:
        """Whether :meth:`finish` makes the output of what the machine gives; otherwise it hands that on."""
        return self._raw or self._with_state

    def call(self, config: Config) -> Call:
        """What the driver is asked for.

        Raises
        ------
        ValueError
            If the machine has no room for the head dims, its bus is too narrow for states, or the program is for another one.
        RuleError
            If the machine cannot run the program.
        """
        self._feed.check(config, self.e + self.extra_columns, self.output_columns)
        check_head_dims(config, self.e, self.f, self.extra_columns)
        state_out = self.initial is not None or self.return_state or self.return_lse
        if state_out and config.bus_bits < 64:
            raise ValueError(
                f"bus_bits of {config.name!r} must be at least 64 for states and log-sum-exp, not {config.bus_bits}"
            )
        if state_out and self.alibi is not None:
            moved = float(np.abs(self._added(config)).max(initial=0))
            if moved > MOST_ADDED:
                raise ValueError(
                    f"alibi_slopes times the places of the queries must stay within ±{MOST_ADDED} for states and log-sum-exp, "
                    f"but come to {moved:.4g}"
                )
        return Call(
            scale=self.factors.of_queries,
            mask=self.pairs.without_starts(self.mask),
            float32_out=self.finishes_output or self.out_dtype == "float32",
            state_out=state_out,
            raw_out=self._raw,
            timeout=self.timeout,
            progress=self.progress,
            program=self._feed.program,
            sequences=self._sequences,
            pairs=self.pairs.pack(config, self.factors.temperature),
            **self._told,
        )

    def _added(self, config: Config) -> NDArray[np.float64]:
        """What ALiBi's columns add to all scores of a query, (batch, query heads, queries) or what broadcasts to it."""
        assert self.alibi is not None
        return self.alibi.added(config, np.asarray(self.factors.of_queries), self._places.of_queries()[:, None])

    def bits(
        self, q: NDArray[Any], k: NDArray[Any], v: NDArray[Any]
    ) -> tuple[NDArray[np.uint16], NDArray[np.uint16], NDArray[np.uint16]]:
        """bfloat16 bits (batch, heads, length, head dim) of the three arrays.

        Raises
        ------
        NonFiniteError
            If a number is infinite, not a number, or rounded to infinity, in a row that a query may see.
        """

        def bits(name: str, array: NDArray[Any], unseen: Callable[[], NDArray[np.bool_]]) -> NDArray[np.uint16]:
            heads = array.shape[-3] if array.ndim > 2 else 1
            return to_bits(name, array, self._of_rows(unseen)).reshape(self.batch, heads, *array.shape[-2:])

        q_bits, k_bits = bits("q", q, self._places.blind_queries), bits("k", k, self._places.unseen_keys)
        if are_in_keys(k, v):
            return q_bits, k_bits, k_bits[..., : v.shape[-1]]
        return q_bits, k_bits, bits("v", v, self._places.unseen_keys)

    def operands(
        self, q: NDArray[Any], k: NDArray[Any], v: NDArray[Any]
    ) -> tuple[NDArray[np.uint16], NDArray[np.uint16], NDArray[np.uint16]]:
        """The bits of the three arrays, with the columns for ALiBi; errors as of :meth:`bits`."""
        q_bits, k_bits, v_bits = self.bits(q, k, v)
        if self.factors.flat.any():
            q_bits = np.where(self.factors.flat.reshape(-1, 1, 1), np.uint16(0), q_bits)
        if self.alibi is not None:
            in_keys = are_in_keys(k_bits, v_bits)
            q_bits, k_bits = self.alibi.extend(q_bits, k_bits, self._places.of_keys())
            if in_keys:
                v_bits = k_bits[..., : self.f]
        return self._feed.operands(q_bits, k_bits, v_bits, self.factors.of_queries)

    def distances(self, rows: slice) -> NDArray[np.float64]:
        """Place of every key from that of some queries on, (batch, 1, queries, M): what ALiBi's slopes are multiplied by."""
        return (self._places.of_keys()[:, None] - self._places.of_queries()[:, rows, None])[:, None]

    def _of_rows(self, unseen: Callable[[], NDArray[np.bool_]]) -> Callable[[], NDArray[np.bool_]]:
        """What is told of the rows of every batch entry, for elements of an array."""
        axes = *self.leading[:-1], *(1,) * (len(self.leading) > 0), -1, 1
        return lambda: unseen().reshape(axes)

    @property
    def output_columns(self) -> int:
        """Columns of the output: those of the values, and in front of them sums of scores."""
        return self.f + self._feed.feeding.score_columns

    @property
    def extra_columns(self) -> int:
        """Columns that ALiBi and a bias of the scores add to queries and keys."""
        return (self.alibi.columns if self.alibi else 0) + self._feed.extra_columns

    # -- from the driver -------------------------------------------------------------------------------------

    def finish(self, config: Config, rows: Rows) -> Any:
        """Result of the call: output, and log-sum-exp and state if they were asked for."""
        shape = (*self.leading, self.queries)
        out: NDArray[Any] = rows.out.view(np.float32 if rows.out.dtype == np.uint32 else ml_dtypes.bfloat16)
        out = out.reshape(*shape, self.output_columns)
        out = self._feed.result(out, raw=self._raw)
        if self._feed.feeding.raw and not self.return_state:
            return out.astype(self.out_dtype)
        if rows.reference is None or rows.denominator is None:
            return out
        reference = rows.reference.astype(np.float64) * math.log(2)
        if self.alibi is not None:
            reference -= self._added(config)
        reference, denominator = reference.reshape(shape), rows.denominator.reshape(shape)
        denominator = denominator * np.float32(self._feed.feeding.result_factor)
        if not self._with_state:
            return out, log_sum(reference, denominator)
        numerator = out if self._raw else out.astype(np.float64) * denominator.astype(np.float64)[..., None]
        state = state_of_device(reference, denominator, numerator)
        if self.initial is not None:
            state = state.merge(self.initial)
        return self.of_state(state, out.astype(self.out_dtype) if self._feed.feeding.raw else state.output(self.out_dtype))

    def of_state(self, state: State, out: NDArray[Any]) -> Any:
        """Result of the call from the state over all keys, and the output."""
        results = [out]
        if self.return_lse:
            results.append(state.lse())
        if self.return_state:
            results.append(state)  # type: ignore[arg-type]
        return tuple(results) if len(results) > 1 else results[0]
