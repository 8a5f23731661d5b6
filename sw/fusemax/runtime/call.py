"""What a call asks of the machine, and the jobs that it becomes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ..compiler.program import Program
from ..planning.descriptors import Keys, describe
from ..planning.masks import Mask
from ..planning.memory_map import Buffer, Shape
from ..planning.output_rows import Rows
from ..planning.pair_rows import Pairs
from ..planning.sequences import PackedSequence, describe_packed
from ..spec import Config, Descriptor

__all__ = ["Bits", "Call", "PlacedKeys", "Work", "jobs_of", "rows_of", "told_of_scores", "unseen_rows"]

Bits = NDArray[np.uint16]


@dataclass(frozen=True, kw_only=True)
class Call:
    """What a call asks of the machine.

    Members
    -------
    scale
        Factor of the queries, log2(e) included: one number, or (batch, query heads, queries).
    mask
        Which keys a query sees.
    float32_out
        float32 output, else bfloat16.
    state_out, raw_out
        The rows' states too; numerators instead of outputs.
    timeout, progress
        See :func:`fusemax.attention`.
    scores, remedy
        What an error says about scores that left their range: what they are, and what to choose instead.
    program
        One that the machine can run; the compiler's for attention in one pass if not given.
    sequences
        Packed sequences of a batch of one, with their own masks; if given, ``mask`` is not used.
    pairs
        Mask bits and biases of queries and keys.
    """

    scale: np.float32 | NDArray[np.float32]
    mask: Mask = field(default_factory=Mask)
    float32_out: bool = False
    state_out: bool = False
    raw_out: bool = False
    timeout: float | None = None
    progress: Callable[[int, int], None] | None = None
    program: Program | None = None
    sequences: Sequence[PackedSequence] | None = None
    scores: str = "scores"
    remedy: str = "a smaller scale"
    pairs: Pairs = field(default_factory=Pairs)


def told_of_scores(*, alibi: bool, temperature: bool) -> dict[str, str]:
    """Members of a call that an error about its scores' range quotes."""
    added, divided = " with ALiBi" * alibi, " by their temperature" * temperature
    others = ["smaller slopes"] * alibi + ["a higher temperature"] * temperature
    return {"scores": f"scores{added}{divided}", "remedy": " or ".join(["a smaller scale", *others])}


@dataclass(frozen=True)
class PlacedKeys:
    """Queries of a batch whose keys and values are in device memory; ``keys`` is the length of the longest entry."""

    q: Bits
    k: Keys
    v: Keys
    heads: int
    keys: int
    f: int
    call: Call


@dataclass(frozen=True)
class Work:
    """A batch: arrays that are to be copied to the device, keys and values that are there."""

    arrays: Mapping[str, Bits]
    there: Mapping[str, Keys]
    shape: Shape
    call: Call


def unseen_rows(q: Bits, f: int, call: Call) -> Rows:
    """Rows of queries that see no key."""
    return Rows.unseen(q.shape[:3], f, float32=call.float32_out, states=call.state_out)


def jobs_of(
    config: Config,
    shape: Shape,
    program: Program,
    program_address: int,
    buffers: Mapping[str, Buffer | Keys],
    factor: np.float32,
    call: Call,
) -> list[Descriptor]:
    """The jobs of a call, or of a part of it that has the call's mask."""
    arguments = config, shape, program, program_address, buffers, factor
    if call.sequences is None:
        return describe(*arguments, mask=call.mask, bias=call.pairs.bias, seen_tiles=call.pairs.seen_tiles)
    return describe_packed(*arguments, sequences=call.sequences)


def rows_of(config: Config, job: Descriptor) -> int:
    """Output rows of a job."""
    tiles = job.groups * (job.group_tiles - 1) + job.large_groups
    return job.heads * job.batch * ((tiles - 1) * config.columns + job.last_queries)
