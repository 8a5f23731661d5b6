"""What a pool hands to one simulator: some heads of a job, with the memory that they read."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from fusemax.model.job_memory import key_rows, query_rows
from fusemax.model.tiles import issued_tiles, job_rows
from fusemax.planning.pair_rows import bias_beats
from fusemax.spec import Cause, Config, Descriptor, ceil_div

__all__ = ["Piece", "PieceResult", "Range", "RowPlaces", "cut_heads", "cut_jobs", "output_places", "read_places"]

ARRAYS = "qkvmbo"
#: Slots of a piece, at least, if the job has as many: a machine spends some 600 cycles on the beginning and the end of a piece.
LEAST_SLOTS = 12_000

Range = tuple[int, int]


@dataclass(frozen=True)
class RowPlaces:
    """Rows of an array in memory.

    Members
    -------
    addresses
        Of the rows, uint64.
    size
        Bytes of each.
    """

    addresses: NDArray[np.uint64]
    size: int

    @property
    def span(self) -> tuple[int, int]:
        """First address, and the one behind the last."""
        return int(self.addresses.min()), int(self.addresses.max()) + self.size

    def of(self, memory: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Bytes of the rows, (rows, size)."""
        return memory[self._bytes]

    def put(self, memory: NDArray[np.uint8], rows: NDArray[np.uint8]) -> None:
        """Write the rows."""
        memory[self._bytes] = rows

    @property
    def _bytes(self) -> NDArray[np.uint64]:
        return self.addresses[:, None] + np.arange(self.size, dtype=np.uint64)


@dataclass(frozen=True)
class Piece:
    """Heads of a job, or one head of jobs that continue each other.

    Members
    -------
    jobs
        Their descriptors.
    reads
        Rows that they read, the program's among them, and what is in them.
    output
        Rows that they write.
    ring_size_log2, watchdog_cycles
        Of the machine.
    turn
        Pieces of a turn that has ended need not be done.
    """

    jobs: tuple[Descriptor, ...]
    reads: tuple[tuple[RowPlaces, NDArray[np.uint8]], ...]
    output: RowPlaces
    ring_size_log2: int
    watchdog_cycles: int
    turn: int


@dataclass(frozen=True)
class PieceResult:
    """What a simulator has made of a piece.

    Members
    -------
    rows
        The output's rows.
    counters
        By name.
    flags
        Fields ``nonfinite`` and ``overflow`` of STATUS.
    fault
        Cause and address if the machine has stopped; there are no rows then.
    """

    rows: NDArray[np.uint8]
    counters: dict[str, int]
    flags: dict[str, int]
    fault: tuple[Cause, int] | None = None


def cut_heads(config: Config, job: Descriptor) -> Iterator[tuple[Range, Range]]:
    """Cut a job into pieces of some key heads of a batch entry, or of all heads of some entries; the job alone says how."""
    slots = issued_tiles(config, replace(job, heads=1, batch=1)) * job.ii
    most = ceil_div(LEAST_SLOTS, slots)
    entries = max(1, min(job.batch, most // job.heads))
    for batch in _even(job.batch, entries):
        for heads in _even(job.heads, min(job.heads, most)):
            yield batch, heads


def _even(length: int, most: int) -> Iterator[Range]:
    """Ranges of at most ``most``, about equally long."""
    count = ceil_div(length, most)
    yield from pairwise(number * length // count for number in range(count + 1))


def cut_jobs(jobs: Sequence[Descriptor], batch: Range, heads: Range) -> tuple[Descriptor, ...]:
    """The jobs of some heads of some batch entries; the last one interrupts."""
    last = len(jobs) - 1
    return tuple(replace(_part(job, batch, heads), interrupt=int(number == last)) for number, job in enumerate(jobs))


def _part(job: Descriptor, batch: Range, heads: Range) -> Descriptor:
    fields = {"batch": batch[1] - batch[0], "heads": heads[1] - heads[0]}
    for array in ARRAYS:
        first = getattr(job, f"{array}_address")
        moved = batch[0] * getattr(job, f"{array}_batch_stride") + heads[0] * getattr(job, f"{array}_head_stride")
        fields[f"{array}_address"] = first + moved
    return replace(job, **fields)


def read_places(config: Config, job: Descriptor) -> Iterator[RowPlaces]:
    """Rows that a job reads, in bus words."""
    rows, keys = job_rows(config, job)
    word = config.bus_bytes
    for array, elements in (("k", job.e), ("v", job.f)):
        yield _all_heads(job, array, keys, config.beats(elements) * word)
    if job.bit_mask:
        yield _all_heads(job, "m", rows, job.mask_blocks * word)
    if job.bias:
        yield _all_heads(job, "b", rows, job.key_tiles * bias_beats(config, wide=bool(job.bias_wide)) * word)
    if not job.continued:
        yield _all_heads(job, "q", rows, (job.row_scale + config.beats(job.e)) * word)


def output_places(config: Config, job: Descriptor) -> RowPlaces:
    """Rows that a job writes."""
    rows, _ = job_rows(config, job)
    return _all_heads(job, "o", rows, job.state_out * config.bus_bytes + job.f * (4 if job.float32_out else 2))


def _all_heads(job: Descriptor, array: str, rows: int, size: int) -> RowPlaces:
    places = key_rows if array in "kv" else query_rows
    heads = [places(job, array, entry, head, rows) for entry in range(job.batch) for head in range(job.heads)]
    # Masks and biases may be the same for all.
    return RowPlaces(np.unique(np.concatenate(heads)), size)
