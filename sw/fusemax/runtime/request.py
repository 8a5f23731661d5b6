"""Arguments of an attention call: checked, and turned into what the driver takes."""

from __future__ import annotations

import math
from typing import Any, Self

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from ..compiler.program import Program
from ..planning.masks import Mask
from ..planning.memory_map import OUTPUT_BYTES
from ..spec import Config
from .alibi import MOST_KEYS, Alibi
from .argument_checks import (
    check_array,
    check_head_dims,
    check_seconds,
    check_shapes,
    is_integer,
    numbers_of,
    per_entry,
    per_head,
    to_bits,
)
from .driver import Call, Rows
from .options import RequestOptions
from .pair_arguments import PairArguments
from .program_feed import ProgramFeed
from .softmax_state import State, state_of_device

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

    Members
    -------
    batch, heads
        Batch entries and query heads.
    mask
        Which keys a query sees.

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
    ) -> None:
        self._feed = ProgramFeed(program)
        self.out_dtype = options.get("out_dtype", "bfloat16")
        self.timeout, self.progress = options.get("timeout"), options.get("progress")
        self.return_lse, self.return_state = options.get("return_lse", False), options.get("return_state", False)
        self.leading, self.heads = leading, leading[-1] if leading else 1
        self.batch = math.prod(leading[:-1])
        self.queries, self.keys, self.e, self.f = queries, keys, e, f
        self._check_plain(options.get("causal", False))
        self.mask = self._mask(options)
        self._pairs = PairArguments(options, (*leading, queries, keys), program)
        given = options.get("alibi_slopes")
        slopes = None if given is None else per_head("alibi_slopes", self.heads, given)
        self._scale = self._scales(options.get("scale"))
        self._factor = self._factors(options.get("scale"), options.get("temperature"))
        self._alibi = None if slopes is None else self._columns(slopes)
        self._initial = self._initial_state(options)
        softmax_only = {
            "return_lse": self.return_lse,
            "state or sink": self._initial is not None,
            "alibi_slopes": given is not None,
        }
        self._feed.check_options(softmax_only)

    @classmethod
    def of(
        cls, q: NDArray[Any], k: NDArray[Any], v: NDArray[Any], options: RequestOptions, program: Program | None = None
    ) -> Self:
        """A call with these arrays.

        Raises
        ------
        TypeError, ValueError
            If they are not what :func:`fusemax.attention` says.
        """
        for name, array in (("q", q), ("k", k), ("v", v)):
            check_array(name, array)
        check_shapes(q, k, v)
        return cls(options, q.shape[:-2], q.shape[-2], k.shape[-2], q.shape[-1], v.shape[-1], program)

    # -- checks ----------------------------------------------------------------------------------------------

    def _check_plain(self, causal: object) -> None:
        if not isinstance(self.out_dtype, str) or self.out_dtype not in OUTPUT_BYTES:
            raise ValueError(f"out_dtype must be 'bfloat16' or 'float32', not {self.out_dtype!r}")
        if self.timeout is not None:
            check_seconds("timeout", self.timeout)
            if not self.timeout > 0:
                raise ValueError(f"timeout must be greater than 0, not {self.timeout!r}")
        if self.progress is not None and not callable(self.progress):
            raise TypeError(f"progress must be a function or None, not {self.progress!r}")
        for name, value in (("causal", causal), ("return_lse", self.return_lse), ("return_state", self.return_state)):
            if not isinstance(value, (bool, np.bool_)):
                raise TypeError(f"{name} must be True or False, not {value!r}")

    def _mask(self, options: RequestOptions) -> Mask:
        left = right = None
        window = options.get("window")
        if window is not None:
            if not isinstance(window, (tuple, list)) or len(window) != 2:
                raise TypeError(f"window must be a pair (left, right) or None, not {window!r}")
            for side in window:
                if not is_integer(side):
                    raise TypeError(f"window must be two integers, not {window!r}")
                if side < -1:
                    raise ValueError(f"window must be two numbers of keys, -1 for all, not {window!r}")
            left, right = (None if side == -1 else int(side) for side in window)
        if options.get("causal", False):
            right = 0
        lengths, prefix = options.get("key_lengths"), options.get("prefix")
        return Mask(
            left=left,
            right=right,
            offsets=per_entry("query_offset", self.batch, options.get("query_offset", 0)),
            key_lengths=None if lengths is None else per_entry("key_lengths", self.batch, lengths, 0, self.keys),
            prefixes=(0,) if prefix is None else per_entry("prefix", self.batch, prefix, 0),
        )

    def _scales(self, scale: Any) -> NDArray[np.float64]:
        """Softmax scale, one number or one per query head."""
        if scale is None:
            scale = 1 / math.sqrt(self.e)
        numbers = numbers_of(scale)
        if isinstance(scale, (list, tuple)) or (numbers is not None and numbers.ndim):
            return per_head("scale", self.heads, scale).astype(np.float64)
        if numbers is None:
            raise TypeError(f"scale must be a number, one per query head, or None, not {scale!r}")
        return numbers.astype(np.float64)

    def _factors(self, scale: Any, temperature: Any) -> NDArray[np.float32] | np.float32:
        """Factor of the queries, to base 2: a number, or (batch, heads, queries)."""
        with np.errstate(over="ignore"):
            factor = np.asarray(self._scale, np.float64) * self._feed.feeding.score_factor
        limits = np.finfo(np.float32)
        wrong = ~((np.abs(factor) >= float(limits.smallest_normal)) & (np.abs(factor) <= float(limits.max)))
        if wrong.any():
            raise ValueError(
                f"scale must be a finite number other than zero whose product with log2(e) is a normal float32, not {scale!r}"
            )
        if factor.ndim == 0 and temperature is None:
            return np.float32(factor)
        factor = np.broadcast_to(factor.reshape(-1, 1), (self.batch, self.heads, self.queries))
        if temperature is not None:
            factor = factor / self._temperatures(temperature)
            if not ((np.abs(factor) >= float(limits.smallest_normal)) & (np.abs(factor) <= float(limits.max))).all():
                raise ValueError("scale · log2(e) / temperature must be a normal float32")
        return factor.astype(np.float32)

    def _temperatures(self, temperature: Any) -> NDArray[np.float64]:
        numbers = numbers_of(temperature)
        if numbers is None:
            raise TypeError(f"temperature must be a number or an array of numbers, not {temperature!r}")
        shape = (*self.leading, self.queries)
        try:
            numbers = np.broadcast_to(numbers.astype(np.float64), shape)
        except ValueError:
            raise ValueError(f"temperature must broadcast to {shape}, not be of shape {numbers.shape}") from None
        if not ((numbers > 0) & (numbers < np.inf)).all():
            raise ValueError("temperature must be finite and greater than 0")
        return numbers.reshape(self.batch, self.heads, self.queries)

    def _columns(self, slopes: NDArray[np.float32]) -> Alibi:
        if self.keys > MOST_KEYS:
            raise ValueError(f"keys must be at most {MOST_KEYS} with alibi_slopes, not {self.keys}")
        return Alibi(slopes, self._scale)

    def _initial_state(self, options: RequestOptions) -> State | None:
        states = []
        shape = (*self.leading, self.queries, self.f)
        state, scores = options.get("state"), options.get("sink")
        if state is not None:
            if not isinstance(state, State):
                raise TypeError(f"state must be a fusemax.State or None, not {state!r}")
            try:
                fits = np.broadcast_shapes(state.shape, shape) == shape
            except ValueError:
                fits = False
            if not fits:
                raise ValueError(f"state must broadcast to {shape}, not be of shape {state.shape}")
            states.append(state)
        if scores is not None:
            sink = State.sink(per_head("sink", self.heads, scores), self.queries, self.f)
            states.append(sink if self.leading else State(sink.max[0], sink.denominator[0], sink.numerator[0]))
        return states[0].merge(*states[1:]) if states else None

    # -- to the driver ---------------------------------------------------------------------------------------

    @property
    def _raw(self) -> bool:
        return self._initial is not None or self.return_state or self._feed.feeding.raw

    def call(self, config: Config) -> Call:
        """What the driver is asked for.

        Raises
        ------
        ValueError
            If the machine has no room for the head dims, or states are needed, and its bus is too narrow for them, or the
            program is for another machine or other head dims.
        RuleError
            If the machine cannot run the program.
        """
        self._feed.check(config, self.e + self.extra_columns, self.output_columns)
        check_head_dims(config, self.e, self.f, self.extra_columns)
        state_out = self._initial is not None or self.return_state or self.return_lse
        if state_out and config.bus_bits < 64:
            raise ValueError(
                f"bus_bits of {config.name!r} must be at least 64 for states and log-sum-exp, not {config.bus_bits}"
            )
        if state_out and self._alibi is not None:
            moved = float(np.abs(self._added(config)).max())
            if moved > MOST_ADDED:
                raise ValueError(
                    f"alibi_slopes times the places of the queries must stay within ±{MOST_ADDED} for states and log-sum-exp, "
                    f"but come to {moved:.4g}"
                )
        return Call(
            scale=self._factor,
            mask=self.mask,
            float32_out=self._raw or self.out_dtype == "float32",
            state_out=state_out,
            raw_out=self._raw,
            timeout=self.timeout,
            progress=self.progress,
            program=self._feed.program,
            pairs=self._pairs.pack(config),
        )

    def _added(self, config: Config) -> NDArray[np.float64]:
        """What ALiBi's columns add to all scores of a query, (batch, query heads, queries) or what broadcasts to it."""
        assert self._alibi is not None
        places = np.arange(self.queries) + np.reshape(np.asarray(self.mask.offsets, np.float64), (-1, 1, 1))
        return self._alibi.added(config, np.asarray(self._factor), places)

    def operands(
        self, q: NDArray[Any], k: NDArray[Any], v: NDArray[Any]
    ) -> tuple[NDArray[np.uint16], NDArray[np.uint16], NDArray[np.uint16]]:
        """bfloat16 bits (batch, heads, length, head dim) of the three arrays, with the columns for ALiBi.

        Raises
        ------
        NonFiniteError
            If a number is infinite, not a number, or rounded to infinity, in a row that a query may see.
        """
        q_bits = to_bits("q", q).reshape(self.batch, -1, *q.shape[-2:])
        k_bits, v_bits = (
            to_bits(name, array, self._unseen).reshape(self.batch, -1, *array.shape[-2:])
            for name, array in (("k", k), ("v", v))
        )
        if self._alibi is not None:
            q_bits, k_bits = self._alibi.extend(q_bits, k_bits)
        return self._feed.operands(q_bits, k_bits, v_bits, self._factor)

    @property
    def _unseen(self) -> NDArray[np.bool_] | None:
        """Keys behind their batch entry's length, which no query sees; broadcasts to (..., M, E). None if there are none."""
        lengths = self.mask.key_lengths
        if lengths is None or min(lengths) == self.keys:
            return None
        entries = np.broadcast_to(np.asarray(lengths), self.batch).reshape(
            *self.leading[:-1], *(1,) * (len(self.leading) > 0), 1, 1
        )
        return np.arange(self.keys)[:, None] >= entries

    @property
    def output_columns(self) -> int:
        """Columns of the output: those of the values, and in front of them sums of scores."""
        return self.f + self._feed.feeding.score_columns

    @property
    def extra_columns(self) -> int:
        """Columns that ALiBi and a bias of the scores add to queries and keys."""
        return (self._alibi.columns if self._alibi else 0) + self._feed.extra_columns

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
        if self._alibi is not None:
            reference -= self._added(config)
        reference, denominator = reference.reshape(shape), rows.denominator.reshape(shape)
        denominator = denominator * np.float32(self._feed.feeding.result_factor)
        if not self._raw:
            with np.errstate(divide="ignore"):
                lse = (np.where(denominator > 0, reference, 0) + np.log(denominator.astype(np.float64))).astype(np.float32)
            return out, lse
        state = state_of_device(reference, denominator, out)
        if self._initial is not None:
            state = state.merge(self._initial)
        results = [out.astype(self.out_dtype) if self._feed.feeding.raw else state.output(self.out_dtype)]
        if self.return_lse:
            results.append(state.lse())
        if self.return_state:
            results.append(state)  # type: ignore[arg-type]
        return tuple(results) if len(results) > 1 else results[0]
