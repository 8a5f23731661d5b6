"""From the shape and the mask of a call to the job descriptors that the machine works through; plain arithmetic on addresses.

Only key tiles that some query of a job sees are in it, so a mask that moves from query to query needs a job per group of query
tiles. Keys that lie apart, the prefix and the window, pages of a cache, or tiles of a boolean mask, make a chain: a job for
each, one after the other, for every head by itself.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from math import gcd
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ..compiler.program import Program
from ..spec import MAX_SHARE, Config, Descriptor, ceil_div
from .masks import UNBOUNDED, Mask, Piece, pieces
from .memory_map import Buffer, Shape
from .pair_rows import Bias, bias_beats
from .residency import Residency, estimate, residency

__all__ = ["Job", "Keys", "cut_jobs", "describe", "plan"]

#: Largest number of heads, and of batch entries, in a job.
MOST = (1 << 16) - 1
#: Strides are numbers of 32 bits.
STRIDE_LIMIT = 1 << 32

#: Parts that a boolean mask cuts the keys of a group of queries into, at most; the ring of jobs holds no endless chain.
MOST_PARTS = 4
#: What a job more costs, about, when it follows another one.
JOB_CYCLES = 64

Range = tuple[int, int]


class Keys(Protocol):
    """Rows of keys or of values in device memory: a :class:`~.memory_map.Buffer`, or pages of a cache.

    ``batch_stride`` None: batch entries are not at a stride from each other.
    """

    @property
    def address(self) -> int: ...

    @property
    def row_stride(self) -> int: ...

    @property
    def head_stride(self) -> int: ...

    @property
    def batch_stride(self) -> int | None: ...

    def place(self, entry: int, head: int, share: int, row: int) -> int:
        """Address of a row."""
        ...

    def runs(self, entry: int, keys: int) -> Sequence[Range]:
        """Keys of a batch entry that lie at the row stride from each other: first and behind last of each run."""
        ...


@dataclass(frozen=True, kw_only=True)
class Job:
    """What one descriptor covers; pairs are the first and the one behind the last.

    Members
    -------
    batch, heads, share, positions, keys
        Batch entries, key heads, query heads of each, positions of each, and keys.
    lo, hi
        The job's first position sees its keys ``lo <= j < hi``; both count from the job's first key.
    one_group
        All query tiles stay on chip together.
    continues, continued
        Part of a chain.
    """

    batch: Range
    heads: Range
    share: Range
    positions: Range
    keys: Range
    lo: int = -UNBOUNDED
    hi: int = UNBOUNDED
    one_group: bool = False
    continues: bool = False
    continued: bool = False


#: Jobs that follow each other, each from the states that the one before left.
Chain = list[Job]
#: Batch entries and heads of a job that is not spread yet.
NOWHERE: dict[str, Any] = {"batch": (0, 0), "heads": (0, 0)}


@dataclass(frozen=True)
class _Segment:
    """Keys of a job and their mask for position 0 of the call."""

    keys: Range
    lo: int
    hi: int


def cut_jobs(batch: int, heads: int, head_stride: int, batch_stride: int) -> Iterator[tuple[Range, Range]]:
    """Cut batch entries and heads into as few parts of both as the descriptor's fields allow; usually one.

    The strides are the largest ones of the call's four arrays.
    """
    most_heads = 1 if heads > 1 and head_stride >= STRIDE_LIMIT else MOST
    most_batch = 1 if batch > 1 and batch_stride >= STRIDE_LIMIT else MOST
    for entries in _cut(0, batch, most_batch):
        for some in _cut(0, heads, most_heads):
            yield entries, some


def plan(
    config: Config,
    shape: Shape,
    buffers: Mapping[str, Buffer | Keys],
    mask: Mask | None = None,
    most_tiles: int | None = None,
    seen_tiles: NDArray[np.bool_] | None = None,
) -> Iterator[Job]:
    """The jobs of a call in order. Queries that see no key by ``mask`` are in none of them."""
    masks = (mask or Mask()).entries(shape.batch, shape.keys)
    key_place = buffers["k"]
    strides = [buffer.batch_stride for buffer in buffers.values()]
    together = None not in strides
    start = 0
    for entry in range(1, shape.batch + 1):
        if entry < shape.batch and together and masks[entry] == masks[start]:
            continue
        first = masks[start].first
        runs = _behind(key_place.runs(start, first + masks[start].keys), first)
        largest_head = max(buffer.head_stride for buffer in buffers.values())
        largest_batch = max(stride or 0 for stride in strides)
        parts = list(cut_jobs(entry - start, shape.heads, largest_head, largest_batch))
        for piece in pieces(masks[start], shape.queries):
            for chain in _piece_jobs(config, shape, piece, runs, most_tiles, seen_tiles):
                yield from _spread([_moved_by(link, first) for link in chain], start, parts)
        start = entry


def _behind(runs: Sequence[Range], first: int) -> list[Range]:
    """Runs of keys from ``first`` on, counted from there: tiles begin with the first key that is seen."""
    return [(max(start - first, 0), stop - first) for start, stop in runs if stop > first]


def _moved_by(job: Job, first: int) -> Job:
    """A job whose keys are counted from the array's first one."""
    return replace(job, keys=(job.keys[0] + first, job.keys[1] + first)) if first else job


def _piece_jobs(
    config: Config,
    shape: Shape,
    piece: Piece,
    runs: Sequence[Range],
    most_tiles: int | None,
    seen_tiles: NDArray[np.bool_] | None,
) -> list[Chain]:
    """Chains of a piece of positions, for all heads of any batch entry; most are of one job."""
    room = config.resident_query_tiles(shape.e, shape.f)
    if most_tiles is not None:
        room = min(room, most_tiles)
    rows = (piece.stop - piece.start) * shape.share
    together = _residency(config, shape, rows, piece.keys, most_tiles).group_tiles
    if not piece.masked and len(_cut_segments(piece, (0, piece.keys), runs, config.rows)) == 1:
        shares = _cut(0, shape.share, MAX_SHARE)
        whole = [[Job(**NOWHERE, share=some, positions=(piece.start, piece.stop), keys=(0, piece.keys))] for some in shares]
    else:
        whole = list(_chains(config, shape, piece, runs, room, together, None))
    if seen_tiles is None or seen_tiles[:, : ceil_div(piece.keys, config.rows)].all():
        return whole
    # Small groups have fewer tiles that nobody sees, and read keys more often.
    sizes = [together] + [size for size in (8, 4, 2, 1) if size < together]
    found = [whole] + [list(_chains(config, shape, piece, runs, room, size, seen_tiles)) for size in sizes]
    return min(found, key=lambda chains: sum(_estimate(config, shape, job, most_tiles) for chain in chains for job in chain))


def _estimate(config: Config, shape: Shape, job: Job, most_tiles: int | None) -> int:
    """Cycles that a job takes for a head, about."""
    grouping = _grouping(config, shape, job, most_tiles)
    cycles = estimate(grouping, config, shape.e, shape.f, shape.output_bytes, values_in_keys=shape.values_in_keys)
    return cycles + JOB_CYCLES


def _chains(
    config: Config,
    shape: Shape,
    piece: Piece,
    runs: Sequence[Range],
    room: int,
    tiles: int,
    seen_tiles: NDArray[np.bool_] | None,
) -> Iterator[Chain]:
    """Chains of groups of about ``tiles`` query tiles, of which ``room`` stay on chip."""
    for share in _cut(0, shape.share, min(MAX_SHARE, room * config.columns)):
        for positions in _groups(config, piece, share[1] - share[0], tiles):
            window = piece.window(*positions)
            prefix = _Segment((0, piece.prefix), -UNBOUNDED, UNBOUNDED)
            segments = _cut_segments(prefix, prefix.keys, runs, config.rows) if piece.prefix else []
            segments += _cut_segments(piece, window, runs, config.rows)
            if seen_tiles is not None:
                segments = _seen_segments(segments, _of_group(seen_tiles, positions), config.rows)
            if not segments:
                continue
            last = len(segments) - 1
            yield [
                Job(
                    **NOWHERE,
                    share=share,
                    positions=positions,
                    keys=segment.keys,
                    lo=_moved(segment.lo, positions[0] - segment.keys[0]),
                    hi=_moved(segment.hi, positions[0] - segment.keys[0]),
                    one_group=True,
                    continues=number < last,
                    continued=number > 0,
                )
                for number, segment in enumerate(segments)
            ]


def _of_group(seen_tiles: NDArray[np.bool_], positions: Range) -> NDArray[np.bool_]:
    """Key tiles of which some position sees a key."""
    return np.asarray(seen_tiles[slice(*positions)].any(axis=0)) if len(seen_tiles) > 1 else seen_tiles[0]


def _seen_segments(segments: Sequence[_Segment], seen: NDArray[np.bool_], rows: int) -> list[_Segment]:
    """Segments without their tiles that nobody sees, in at most ``MOST_PARTS`` parts each: the widest gaps are left out."""
    found = []
    for segment in segments:
        first, last = segment.keys
        numbers = np.flatnonzero(seen[first // rows : ceil_div(last, rows)])
        if not numbers.size:
            continue
        gaps = np.diff(numbers)
        widest = np.sort(np.argsort(gaps, kind="stable")[::-1][: MOST_PARTS - 1])
        edges = [0, *(int(gap) + 1 for gap in widest if gaps[gap] > 1), len(numbers)]
        for start, stop in pairwise(edges):
            keys = first + int(numbers[start]) * rows, min(last, first + (int(numbers[stop - 1]) + 1) * rows)
            found.append(replace(segment, keys=keys))
    return found


def _cut_segments(mask: Piece | _Segment, keys: Range, runs: Sequence[Range], rows: int) -> list[_Segment]:
    """Keys of a window, run by run; tiles are counted from the start of each run."""
    found = []
    for start, stop in runs:
        first, last = max(start, keys[0]), min(stop, keys[1])
        if first < last:
            first -= (first - start) % rows
            found.append(_Segment((first, last), mask.lo, mask.hi))
    return found


def _groups(config: Config, piece: Piece, share: int, tiles: int) -> Iterator[Range]:
    """Positions of a job each, whose rows are about ``tiles`` query tiles; full ones if that is possible."""
    most = max(1, tiles * config.columns // share)
    unit = config.columns // gcd(config.columns, share)
    unit = unit if unit <= most else 1
    units = ceil_div(piece.stop - piece.start, unit)
    count = ceil_div(units, most // unit)
    size, larger = divmod(units, count)
    start = piece.start
    for number in range(count):
        stop = min(start + (size + (number < larger)) * unit, piece.stop)
        yield start, stop
        start = stop


def _spread(chain: list[Job], entry: int, parts: list[tuple[Range, Range]]) -> Iterator[Job]:
    """A job for its heads and batch entries, the first of which is ``entry``; a chain for each of them."""
    for batch, heads in parts:
        batch = batch[0] + entry, batch[1] + entry
        if len(chain) == 1:
            yield replace(chain[0], batch=batch, heads=heads)
            continue
        for one in range(*batch):
            for head in range(*heads):
                for job in chain:
                    yield replace(job, batch=(one, one + 1), heads=(head, head + 1))


def describe(
    config: Config,
    shape: Shape,
    program: Program,
    program_address: int,
    buffers: Mapping[str, Buffer | Keys],
    scale: np.float32 | float = 1.0,
    most_tiles: int | None = None,
    mask: Mask | None = None,
    bias: Bias | None = None,
    seen_tiles: NDArray[np.bool_] | None = None,
) -> list[Descriptor]:
    """The descriptors of a call, in order. Each asks for an interrupt.

    ``scale`` includes log2(e); ``most_tiles`` is for :func:`~fusemax.planning.residency`. Buffers ``m`` and ``b`` are those of
    mask bits and of ``bias``, if there are some; ``seen_tiles`` are :func:`~.pair_rows.seen_tiles` of the bits.

    Raises
    ------
    ValueError
        If there are mask bits or biases, and key tiles do not begin at multiples of the array's rows.
    """
    most_tiles = _most_tiles(config, buffers, most_tiles)
    arrays = {name: buffer for name, buffer in buffers.items() if name in "qkvo"}
    shape = replace(shape, values_in_keys=_are_in_keys(config, shape, buffers))
    common = Descriptor(
        float32_out=int(shape.out_dtype == "float32"),
        interrupt=1,
        row_scale=int(shape.row_scale),
        state_out=int(shape.state_out),
        raw_out=int(shape.raw_out),
        values_in_keys=int(shape.values_in_keys),
        program_tag=program.tag,
        program_address=program_address,
        fixed_reference=int(program.fixed_reference),
        spare_hold=int(program.spare_hold),
        ii=program.ii,
        e=shape.e,
        f=shape.f,
        scale=int(np.float32(scale).view(np.uint32)),
        output_slots=min(config.output_beats // output_beats(config, shape), MOST),
    )
    if bias is not None:
        common = replace(common, bias=1, bias_wide=int(bias.wide), bias_scale=int(bias.scale.view(np.uint32)))
    return [
        replace(common, **_tiles(config, shape, job, most_tiles), **_places(job, arrays), **_pairs(config, job, buffers, bias))
        for job in plan(config, shape, arrays, mask, most_tiles, seen_tiles)
    ]


def _most_tiles(config: Config, buffers: Mapping[str, Buffer | Keys], asked: int | None) -> int | None:
    """Most query tiles of a group whose mask bits and biases are on chip, or fewer if that is asked for."""
    limits = [("m", config.mask_tiles), ("b", config.bias_tiles)]
    return min((*([] if asked is None else [asked]), *(most for name, most in limits if name in buffers)), default=None)


def _pairs(config: Config, job: Job, buffers: Mapping[str, Buffer | Keys], bias: Bias | None) -> dict[str, int]:
    """Fields of mask bits and biases."""
    fields: dict[str, int] = {}
    first_tile, beside = divmod(job.keys[0], config.rows)
    tiles = ceil_div(job.keys[1] - job.keys[0], config.rows)
    for name in ("m", "b"):
        if name not in buffers:
            continue
        if beside:
            raise ValueError(
                f"keys must be in runs of a multiple of {config.rows} for a mask or a bias, but one has {beside} more"
            )
        words = first_tile * bias_beats(config, wide=bias.wide) if name == "b" and bias else first_tile
        if name == "m":
            words, phase = divmod(first_tile, config.mask_block_tiles)
            blocks = ceil_div(phase + tiles, config.mask_block_tiles)
            fields |= {"bit_mask": 1, "mask_phase": phase, "mask_blocks": blocks}
        fields |= _place(name, buffers[name], job, job.share[0], job.positions[0])
        fields[f"{name}_address"] += words * config.bus_bytes
    return fields


def output_beats(config: Config, shape: Shape) -> int:
    """Bus words of an output row."""
    return shape.header_beats("o") + config.beats(shape.f, shape.output_bytes)


def _tiles(config: Config, shape: Shape, job: Job, most_tiles: int | None) -> dict[str, int]:
    """Fields of tiles, mask and shared heads."""
    share = job.share[1] - job.share[0]
    tiles = _grouping(config, shape, job, most_tiles)
    return {
        "query_slots": min(tiles.query_slots, MOST),
        "key_tiles": tiles.key_tiles,
        "last_keys": tiles.last_keys,
        "last_queries": tiles.last_queries,
        "groups": tiles.groups,
        "large_groups": tiles.large_groups,
        "group_tiles": tiles.group_tiles,
        "group_iterations": tiles.group_iterations,
        "mask_lo": job.lo,
        "mask_hi": job.hi,
        "share": share,
        "tile_positions": config.columns // share,
        "tile_phase": config.columns % share,
        "tile_span": (config.columns + share - 2) // share,
        "continues": int(job.continues),
        "continued": int(job.continued),
    }


def _grouping(config: Config, shape: Shape, job: Job, most_tiles: int | None) -> Residency:
    """Tiles of a job, and how its query tiles are grouped."""
    rows = (job.positions[1] - job.positions[0]) * (job.share[1] - job.share[0])
    keys = job.keys[1] - job.keys[0]
    tiles = _residency(config, shape, rows, keys, most_tiles)
    return replace(tiles, groups=1, large_groups=1, group_tiles=tiles.query_tiles) if job.one_group else tiles


def _residency(config: Config, shape: Shape, rows: int, keys: int, most_tiles: int | None) -> Residency:
    return residency(
        *(config, shape.e, shape.f, rows, keys, shape.output_bytes),
        most_tiles=most_tiles,
        values_in_keys=shape.values_in_keys,
    )


def _are_in_keys(config: Config, shape: Shape, buffers: Mapping[str, Buffer | Keys]) -> bool:
    """Whether every row of values begins where the key's row does, so that the machine may read both at once."""
    if not config.values_in_keys or shape.f > shape.e:
        return False
    names = ("address", "row_stride", "head_stride", "batch_stride")
    return all(getattr(buffers["k"], name) == getattr(buffers["v"], name) for name in names)


def _places(job: Job, buffers: Mapping[str, Buffer | Keys]) -> dict[str, int]:
    """Fields of the places in memory. A stride that leads nowhere is zero."""
    fields = {"heads": job.heads[1] - job.heads[0], "batch": job.batch[1] - job.batch[0]}
    for name, buffer in buffers.items():
        fields |= _place(name, buffer, job, *((0, job.keys[0]) if name in "kv" else (job.share[0], job.positions[0])))
    return fields


def _place(name: str, buffer: Buffer | Keys, job: Job, first_share: int, row: int) -> dict[str, int]:
    """Address and strides of an array."""
    batch, heads, share = (last - first for first, last in (job.batch, job.heads, job.share))
    fields = {
        f"{name}_address": buffer.place(job.batch[0], job.heads[0], first_share, row),
        f"{name}_row_stride": buffer.row_stride,
        f"{name}_head_stride": buffer.head_stride if heads > 1 else 0,
        f"{name}_batch_stride": (buffer.batch_stride or 0) if batch > 1 else 0,
    }
    if isinstance(buffer, Buffer) and name not in "kv":
        fields[f"{name}_share_stride"] = buffer.share_stride if share > 1 else 0
    return fields


def _moved(edge: int, distance: int) -> int:
    """Edge of a mask for another position and another first key."""
    return edge if abs(edge) == UNBOUNDED else edge + distance


def _cut(start: int, stop: int, most: int) -> Iterator[Range]:
    """Ranges of at most ``most``."""
    yield from pairwise([*range(start, stop, most), stop])
