"""From the shape of a call to the job descriptors that the machine works through; plain arithmetic on addresses."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from .program import Program
from .schedule import residency
from .spec import DESCRIPTOR_MAGIC, DESCRIPTOR_STRIDE_BYTES, MICROWORD, PROGRAM_HEADER, Config

__all__ = [
    "OUTPUT_BYTES",
    "RING_BYTES",
    "RING_SIZE_LOG2",
    "Buffer",
    "Job",
    "Shape",
    "alignment",
    "cut_jobs",
    "describe",
    "place_arrays",
    "place_program",
    "required_bytes",
]

RING_SIZE_LOG2 = 4
#: Device memory holds the descriptor ring, then every program used so far, then the arrays of the call under way.
RING_BYTES = DESCRIPTOR_STRIDE_BYTES << RING_SIZE_LOG2
#: Largest number of heads, and of batch entries, in a job.
MOST = (1 << 16) - 1
#: Strides are numbers of 32 bits.
STRIDE_LIMIT = 1 << 32
#: Bytes of an output element.
OUTPUT_BYTES = {"bfloat16": 2, "float32": 4}
#: No burst crosses one.
PAGE_BYTES = 4096
HEADER_BYTES = PROGRAM_HEADER.bits // 8


@dataclass(frozen=True, kw_only=True)
class Shape:
    """Shape of a call of :func:`fusemax.attention`.

    Members
    -------
    batch, heads, queries, keys
        Batch entries, heads of each, rows of Q, rows of K and V.
    e, f
        Head dim of queries and keys, and of values; ``f`` is ``e`` if not given.
    out_dtype
        ``bfloat16`` or ``float32``.

    Raises
    ------
    TypeError, ValueError
        If a size is not a positive integer, or ``out_dtype`` is something else.
    """

    batch: int = 1
    heads: int = 1
    queries: int
    keys: int
    e: int
    f: int = 0
    out_dtype: str = "bfloat16"

    def __post_init__(self) -> None:
        object.__setattr__(self, "f", self.f or self.e)
        for name in ("batch", "heads", "queries", "keys", "e", "f"):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool):
                raise TypeError(f"{name} must be an integer, not {value!r}")
            if value < 1:
                raise ValueError(f"{name} must be at least 1, not {value!r}")
        if self.out_dtype not in OUTPUT_BYTES:
            raise ValueError(f"out_dtype must be 'bfloat16' or 'float32', not {self.out_dtype!r}")

    @property
    def macs(self) -> int:
        """Multiply-accumulates that the result needs: P·M·(E + F) per head."""
        return self.batch * self.heads * self.queries * self.keys * (self.e + self.f)

    def rows(self, name: str) -> tuple[int, int, int]:
        """Rows of a head, elements of a row and bytes of an element of array ``q``, ``k``, ``v`` or ``o``."""
        return {
            "q": (self.queries, self.e, 2),
            "k": (self.keys, self.e, 2),
            "v": (self.keys, self.f, 2),
            "o": (self.queries, self.f, OUTPUT_BYTES[self.out_dtype]),
        }[name]


@dataclass(frozen=True)
class Buffer:
    """Rows in device memory, of batch entries, heads and rows: address of the first one, strides and size in bytes."""

    address: int
    row_stride: int
    head_stride: int
    batch_stride: int
    size: int


@dataclass(frozen=True)
class Job:
    """Part of a call that one descriptor covers: batch entries and heads, from the first up to the one behind the last."""

    batch: tuple[int, int]
    heads: tuple[int, int]


def cut_jobs(batch: int, heads: int, head_stride: int, batch_stride: int) -> Iterator[Job]:
    """Cut a call into as few jobs as the descriptor's fields allow; usually one.

    The strides are the largest ones of the call's four arrays.
    """
    if heads > 1 and head_stride >= STRIDE_LIMIT:
        most_heads = 1
    else:
        most_heads = MOST
    most_batch = 1 if batch > 1 and batch_stride >= STRIDE_LIMIT else MOST
    for batch_start in range(0, batch, most_batch):
        for head_start in range(0, heads, most_heads):
            yield Job((batch_start, min(batch, batch_start + most_batch)), (head_start, min(heads, head_start + most_heads)))


def alignment(config: Config) -> int:
    """Bytes to which programs and arrays are aligned at least."""
    return max(config.bus_bytes, 16)


def align(value: int, unit: int) -> int:
    """``value`` rounded up to a multiple of ``unit``."""
    return -(-value // unit) * unit


def place_program(config: Config, program: Program, free: int) -> tuple[int, int]:
    """Address of a program's first microword, in front of which its header has room, and the first free one behind it."""
    words = align(free + HEADER_BYTES, alignment(config))
    return words, align(words + len(program.words_bytes), alignment(config))


def place_arrays(config: Config, shape: Shape, free: int) -> dict[str, Buffer]:
    """Where the arrays ``q``, ``k``, ``v`` and ``o`` of a call lie, from address ``free`` on: rows of whole bus words."""
    buffers = {}
    for name in "qkvo":
        rows, elements, element_bytes = shape.rows(name)
        row_stride = config.beats(elements, element_bytes) * config.bus_bytes
        # Rows of a power of two do not cross a page then, so that each is one burst.
        unit = max(alignment(config), min(PAGE_BYTES, 1 << (row_stride - 1).bit_length()))
        free = align(free, unit)
        head_stride = rows * row_stride
        batch_stride = shape.heads * head_stride
        buffers[name] = Buffer(free, row_stride, head_stride, batch_stride, shape.batch * batch_stride)
        free += buffers[name].size
    return buffers


def required_bytes(config: Config, shape: tuple[int, int, int, int, int, int], output_bytes: int) -> int:
    """Device memory that a call of this shape (batch, heads, queries, keys, E, F) needs on a device that is just open."""
    batch, heads, queries, keys, e, f = shape
    row_beats = queries * (config.beats(e) + config.beats(f, output_bytes)) + keys * (config.beats(e) + config.beats(f))
    programs = config.program_words * MICROWORD.bits // 8
    return RING_BYTES + programs + batch * heads * row_beats * config.bus_bytes + 4 * PAGE_BYTES


def describe(
    config: Config,
    shape: Shape,
    program: Program,
    program_address: int,
    buffers: Mapping[str, Buffer],
    scale: np.float32 | float = 1.0,
    most_tiles: int | None = None,
) -> list[dict[str, int]]:
    """The descriptors of a call, in order, as fields by name.

    ``scale`` includes log2(e); ``most_tiles`` is for :func:`~fusemax.schedule.residency`.
    """
    output_bytes = OUTPUT_BYTES[shape.out_dtype]
    tiles = residency(config, shape.e, shape.f, shape.queries, shape.keys, output_bytes, most_tiles=most_tiles)
    common = {
        "magic": DESCRIPTOR_MAGIC,
        "float32_out": int(shape.out_dtype == "float32"),
        "interrupt": 1,
        "program_tag": program.tag,
        "program_address": program_address,
        "ii": program.ii,
        "query_slots": min(tiles.query_slots, MOST),
        "e": shape.e,
        "f": shape.f,
        "scale": int(np.float32(scale).view(np.uint32)),
        "key_tiles": tiles.key_tiles,
        "last_keys": tiles.last_keys,
        "last_queries": tiles.last_queries,
        "groups": tiles.groups,
        "large_groups": tiles.large_groups,
        "group_tiles": tiles.group_tiles,
        "output_slots": min(config.output_beats // config.beats(shape.f, output_bytes), MOST),
        "group_iterations": tiles.group_iterations,
    }
    largest_head = max(buffer.head_stride for buffer in buffers.values())
    largest_batch = max(buffer.batch_stride for buffer in buffers.values())
    jobs = cut_jobs(shape.batch, shape.heads, largest_head, largest_batch)
    return [common | _places(job, buffers) for job in jobs]


def _places(job: Job, buffers: Mapping[str, Buffer]) -> dict[str, int]:
    """Fields of a descriptor that differ from job to job. A stride that leads nowhere is zero."""
    batch, heads = job.batch[1] - job.batch[0], job.heads[1] - job.heads[0]
    fields = {"heads": heads, "batch": batch}
    for name, buffer in buffers.items():
        fields[f"{name}_address"] = buffer.address + job.batch[0] * buffer.batch_stride + job.heads[0] * buffer.head_stride
        fields[f"{name}_row_stride"] = buffer.row_stride
        fields[f"{name}_head_stride"] = buffer.head_stride if heads > 1 else 0
        fields[f"{name}_batch_stride"] = buffer.batch_stride if batch > 1 else 0
    return fields
