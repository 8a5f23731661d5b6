"""Where things lie in device memory: the ring, programs, and the arrays of a call."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..compiler.program import Program
from ..spec import DESCRIPTOR_STRIDE_BYTES, MICROWORD, PAGE_BYTES, PROGRAM_HEADER, Config, ceil_div, clog2

__all__ = [
    "LEAST_MEMORY_BYTES",
    "OUTPUT_BYTES",
    "RING_BYTES",
    "Buffer",
    "Shape",
    "align",
    "alignment",
    "place_arrays",
    "place_program",
    "required_bytes",
    "ring_size_log2",
    "row_alignment",
]

#: Device memory holds the descriptor ring, then every program used so far, then the arrays of the call under way. The ring
#: takes a 64th of the memory, but holds 16 jobs at least and 4096 at most: this many bytes.
RING_BYTES = DESCRIPTOR_STRIDE_BYTES << 12
#: Bytes of an output element.
OUTPUT_BYTES = {"bfloat16": 2, "float32": 4}
#: Of the smallest device memory that a call may fit: ring and program beside a page of arrays.
LEAST_MEMORY_BYTES = 2 * PAGE_BYTES
HEADER_BYTES = PROGRAM_HEADER.bits // 8


@dataclass(frozen=True, kw_only=True)
class Shape:
    """Shape of a call of :func:`fusemax.attention`.

    Members
    -------
    batch, heads, share, queries, keys
        Batch entries, key heads of each, query heads of each of those, positions of a query head, keys of a key head.
    e, f
        Head dim of queries and keys, and of values; ``f`` is ``e`` if not given.
    out_dtype
        ``bfloat16`` or ``float32``.
    row_scale, state_out, raw_out
        As in the descriptor: a query row's own factor in front of it, an output row's state, and numerators for outputs.
    values_in_keys
        As in the descriptor; :func:`~.descriptors.describe` finds that out.

    Raises
    ------
    TypeError, ValueError
        If a size is not a positive integer, ``out_dtype`` is something else.
    """

    batch: int = 1
    heads: int = 1
    share: int = 1
    queries: int
    keys: int
    e: int
    f: int = 0
    out_dtype: str = "bfloat16"
    row_scale: bool = False
    state_out: bool = False
    raw_out: bool = False
    values_in_keys: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "f", self.f or self.e)
        for name in ("batch", "heads", "share", "queries", "keys", "e", "f"):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool):
                raise TypeError(f"{name} must be an integer, not {value!r}")
            if value < 1:
                raise ValueError(f"{name} must be at least 1, not {value!r}")
        if self.out_dtype not in OUTPUT_BYTES:
            raise ValueError(f"out_dtype must be 'bfloat16' or 'float32', not {self.out_dtype!r}")

    @property
    def macs(self) -> int:
        """Multiply-accumulates that the result needs: P·M·(E + F) per query head."""
        return self.batch * self.heads * self.share * self.queries * self.keys * (self.e + self.f)

    @property
    def output_bytes(self) -> int:
        """Bytes of an output element."""
        return OUTPUT_BYTES[self.out_dtype]

    def rows(self, name: str) -> tuple[int, int, int, int]:
        """Of array ``q``, ``k``, ``v`` or ``o``: heads of a key head, rows of each, elements of a row, bytes of an element."""
        return {
            "q": (self.share, self.queries, self.e, 2),
            "k": (1, self.keys, self.e, 2),
            "v": (1, self.keys, self.f, 2),
            "o": (self.share, self.queries, self.f, self.output_bytes),
        }[name]

    def header_beats(self, name: str) -> int:
        """Bus words in front of the elements of a row."""
        return int((name == "q" and self.row_scale) or (name == "o" and self.state_out))


@dataclass(frozen=True)
class Buffer:
    """Rows in device memory, of batch entries, key heads, their query heads, and rows.

    Members
    -------
    address
        Of the first row.
    row_stride, share_stride, head_stride, batch_stride
        Bytes from a row, query head, key head and batch entry to the next.
    size
        Bytes.
    """

    address: int
    row_stride: int
    share_stride: int
    head_stride: int
    batch_stride: int
    size: int

    def place(self, entry: int, head: int, share: int, row: int) -> int:
        """Address of a row."""
        return (
            self.address
            + entry * self.batch_stride
            + head * self.head_stride
            + share * self.share_stride
            + row * self.row_stride
        )

    def runs(self, entry: int, keys: int) -> Sequence[tuple[int, int]]:
        """Keys of a batch entry that lie at the row stride from each other: first and behind last of each run."""
        return ((0, keys),)


def ring_size_log2(memory_bytes: int) -> int:
    """log2 of the number of descriptors in the ring of a memory."""
    return min(12, max(4, (memory_bytes // (64 * DESCRIPTOR_STRIDE_BYTES)).bit_length() - 1))


def alignment(config: Config) -> int:
    """Bytes to which programs and arrays are aligned at least."""
    return max(config.bus_bytes, 16)


def row_alignment(config: Config, row_bytes: int) -> int:
    """Bytes to which the first of many rows is aligned: rows of a power of two do not cross a page, and each is one burst."""
    return max(alignment(config), min(PAGE_BYTES, 1 << clog2(row_bytes)))


def align(value: int, unit: int) -> int:
    """``value`` rounded up to a multiple of ``unit``."""
    return ceil_div(value, unit) * unit


def place_program(config: Config, program: Program, free: int) -> tuple[int, int]:
    """Address of a program's first microword, in front of which its header has room, and the first free one behind it."""
    words = align(free + HEADER_BYTES, alignment(config))
    return words, align(words + len(program.words_bytes), alignment(config))


def place_arrays(
    config: Config, shape: Shape, free: int, names: str = "qkvo", *, lengths_first: bool = False
) -> dict[str, Buffer]:
    """Where the arrays of a call lie, from address ``free`` on: rows of whole bus words.

    A head's rows follow each other; with ``lengths_first`` the heads of a row do in the output.
    """
    buffers = {}
    for name in names:
        share, rows, elements, element_bytes = shape.rows(name)
        row_bytes = (shape.header_beats(name) + config.beats(elements, element_bytes)) * config.bus_bytes
        free = align(free, row_alignment(config, row_bytes))
        batch_stride = shape.heads * share * rows * row_bytes
        if lengths_first and name == "o":
            row_stride, share_stride, head_stride = shape.heads * share * row_bytes, row_bytes, share * row_bytes
        else:
            row_stride, share_stride, head_stride = row_bytes, rows * row_bytes, share * rows * row_bytes
        buffers[name] = Buffer(free, row_stride, share_stride, head_stride, batch_stride, shape.batch * batch_stride)
        free += buffers[name].size
    return buffers


def required_bytes(config: Config, shape: Shape) -> int:
    """Device memory that a call of this shape needs on a device that is just open."""
    behind = max(buffer.address + buffer.size for buffer in place_arrays(config, shape, 0).values())
    return RING_BYTES + config.program_words * MICROWORD.bits // 8 + behind + PAGE_BYTES
