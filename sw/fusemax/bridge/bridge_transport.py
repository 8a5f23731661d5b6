"""Driver's transport over a bridge: device memory is mirrored on the host, and what differs is carried over the line."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..errors import DeviceClosedError, DeviceTimeoutError
from ..spec import DESCRIPTOR_BYTES, DESCRIPTOR_STRIDE_BYTES, Descriptor, ceil_div, register
from .target import Target

__all__ = ["BridgeTransport", "Seconds"]

#: Between two questions whether the interrupt is high, should the bridge's own word be lost, and two calls of progress.
POLL_SECONDS = 0.25
PROGRESS_SECONDS = 0.1
#: Equal bytes between two pieces that differ, up to which they are carried as one: about what a frame of their own costs.
GAP_BYTES = 32
#: Zeros from this number on are not carried: the bridge is told to write them.
ZERO_BYTES = 64
RING_INDICES = 1 << 16

RING = {name: register(name).offset for name in ("RING_BASE_LOW", "RING_BASE_HIGH", "RING_SIZE_LOG2", "RING_TAIL", "RING_HEAD")}
CONTROL = register("CONTROL").offset


@dataclass
class Seconds:
    """Where a transport's time went, in seconds of the link's clock: carrying memory, and waiting for the interrupt."""

    transfer: float = 0.0
    compute: float = 0.0


@dataclass(frozen=True)
class Outputs:
    """A job that was handed over: its index in the ring, and where it writes."""

    index: int
    start: int
    end: int


class BridgeTransport:
    """Transport of a device behind a bridge (:class:`fusemax.runtime.transport.Transport`).

    Device memory is cleared when it is opened. From then on the host's copy and the device's differ only where one of them
    has written: the host's writes are carried over when the doorbell is rung (RING_TAIL), the output of a job when RING_HEAD
    was read behind it. Where host and device have both written, the host's bytes stay.

    Parameters
    ----------
    target
        The system behind the bridge.
    memory_bytes
        Device memory that is used, from address 0; None: all that the bridge reaches.
    progress
        Called during a transfer of memory with the bytes done and all.
    close
        Called when the transport is closed.

    Members
    -------
    memory : numpy.ndarray
        The host's copy of device memory (uint8).
    seconds : Seconds
    counts : Counts
        What the link has sent and repeated.

    Raises
    ------
    LinkError, AccessError
        From every method, as in :class:`~fusemax.bridge.target.Target`.
    ValueError
        If ``memory_bytes`` is more than there is.
    """

    memory: NDArray[np.uint8]

    def __init__(
        self,
        target: Target,
        memory_bytes: int | None = None,
        *,
        progress: Callable[[int, int], None] | None = None,
        close: Callable[[], None] | None = None,
    ) -> None:
        self._target, self._close = target, close
        self._clock = target.link.clock
        self.counts = target.link.counts
        self.transfer_progress = progress
        self.seconds = Seconds()
        state = target.reset()
        size = state.memory_bytes if memory_bytes is None else memory_bytes
        if not 0 < size <= state.memory_bytes or size % state.bus_bytes:
            rule = f"a multiple of {state.bus_bytes} from {state.bus_bytes} to the bridge's {state.memory_bytes}"
            raise ValueError(f"memory_bytes must be {rule}, not {memory_bytes!r}")
        target.clear_memory(0, size)
        self.memory = np.zeros(size, np.uint8)
        #: What the device's memory holds, but for what outstanding jobs write.
        self._device = np.zeros(size, np.uint8)
        self._ring_base = 0
        self._ring_size = 2
        self._tail = 0
        self._outstanding: list[Outputs] = []

    # -- transport -------------------------------------------------------------------------------------------

    def read_register(self, offset: int) -> int:
        """The 32-bit register at a byte offset."""
        value = self._open_target.read_registers(offset)[0]
        if offset == RING["RING_HEAD"]:
            self._fetch(value)
        return value

    def write_register(self, offset: int, value: int) -> None:
        """Write the 32-bit register at a byte offset."""
        if offset == RING["RING_TAIL"]:
            self._upload()
        self._open_target.write_registers(offset, [value])
        if offset == RING["RING_BASE_LOW"]:
            self._ring_base = self._ring_base >> 32 << 32 | value
        elif offset == RING["RING_BASE_HIGH"]:
            self._ring_base = self._ring_base & 0xFFFF_FFFF | value << 32
        elif offset == RING["RING_SIZE_LOG2"]:
            self._ring_size = 1 << (value & 31)
        elif offset == RING["RING_TAIL"]:
            self._expect(value)
        elif offset == CONTROL and value & 1:
            # The machine has forgotten its jobs; what they have written so far is the host's to see.
            self._fetch(None)
            self._tail = 0

    def wait_interrupt(self, timeout_s: float | None, progress: Callable[..., None] | None = None) -> None:
        """Wait until the interrupt pin is high; ``progress`` is called without arguments about ten times a second.

        Raises
        ------
        DeviceTimeoutError
            If that takes more than ``timeout_s`` seconds.
        """
        target = self._open_target
        start = self._clock()
        end = None if timeout_s is None else start + timeout_s
        next_poll = start
        try:
            while True:
                now = self._clock()
                if now >= next_poll:
                    if target.interrupt:
                        return
                    next_poll = now + POLL_SECONDS
                if progress is not None:
                    progress()
                left = PROGRESS_SECONDS if progress is not None else POLL_SECONDS
                if end is not None:
                    left = min(left, end - self._clock())
                if left <= 0:
                    raise DeviceTimeoutError(f"the interrupt must come within {timeout_s} s, but has not")
                if target.link.listen(left):
                    return
        finally:
            self.seconds.compute += self._clock() - start

    def close(self) -> None:
        """Close the line. Does nothing the second time."""
        if self._target is not None:
            self._target = None
            if self._close is not None:
                self._close()

    # -- memory ----------------------------------------------------------------------------------------------

    @property
    def _open_target(self) -> Target:
        if self._target is None:
            raise DeviceClosedError("the device must be open, but was closed")
        return self._target

    def _upload(self) -> None:
        """Carry over what the host has written."""
        start = self._clock()
        target = self._open_target
        differences = differing(self.memory, self._device, 0 if self._outstanding else GAP_BYTES)
        pieces = [piece for begin, end in differences for piece in cut_zeros(self.memory, begin, end)]
        total, done = sum(end - begin for begin, end, is_zero in pieces if not is_zero), 0
        for begin, end, is_zero in pieces:
            if is_zero:
                target.clear_memory(begin, end - begin)
            else:
                target.write_memory(begin, self.memory[begin:end].tobytes(), self._counting(done, total))
                done += end - begin
            self._device[begin:end] = self.memory[begin:end]
        self.seconds.transfer += self._clock() - start

    def _expect(self, tail: int) -> None:
        """Remember where the jobs up to ``tail`` write."""
        shape = register("SHAPE")
        assert shape.fields is not None
        machine = shape.fields.unpack(self.read_register(shape.offset))
        while self._tail != tail % RING_INDICES:
            start = self._ring_base + self._tail % self._ring_size * DESCRIPTOR_STRIDE_BYTES
            job = Descriptor.unpack(int.from_bytes(self.memory[start : start + DESCRIPTOR_BYTES].tobytes(), "little"))
            behind = written_end(job, machine["columns"], machine["bus_bytes"])
            begin, end = (min(place, self.memory.size) for place in (job.o_address, behind))
            self._outstanding.append(Outputs(self._tail, begin, end))
            self._tail = (self._tail + 1) % RING_INDICES

    def _fetch(self, head: int | None) -> None:
        """Carry back the output of the jobs before ``head``; None: of all."""
        finished = list(self._outstanding)
        if head is not None:
            finished = [job for job in finished if (job.index - head) % RING_INDICES >= RING_INDICES // 2]
        start = self._clock()
        total, done = sum(job.end - job.start for job in finished), 0
        for job in finished:
            place = slice(job.start, job.end)
            text = self._open_target.read_memory(job.start, job.end - job.start, self._counting(done, total))
            written_by_host = self.memory[place] != self._device[place]
            self._device[place] = np.frombuffer(text, np.uint8)
            self.memory[place] = np.where(written_by_host, self.memory[place], self._device[place])
            self._outstanding.remove(job)
            done += job.end - job.start
        self.seconds.transfer += self._clock() - start

    def _counting(self, before: int, total: int) -> Callable[[int, int], None] | None:
        """Progress of a piece as progress of the whole transfer."""
        tell = self.transfer_progress
        return None if tell is None else lambda done, _: tell(before + done, total)


def differing(one: NDArray[np.uint8], other: NDArray[np.uint8], gap: int) -> Iterator[tuple[int, int]]:
    """Begin and end of the pieces in which two arrays differ; pieces with at most ``gap`` equal bytes between are one."""
    places = np.flatnonzero(one != other)
    if places.size:
        breaks = np.flatnonzero(np.diff(places) > gap + 1)
        begins = places[np.concatenate(([0], breaks + 1))]
        ends = places[np.concatenate((breaks, [places.size - 1]))] + 1
        yield from zip(begins.tolist(), ends.tolist(), strict=True)


def cut_zeros(memory: NDArray[np.uint8], begin: int, end: int) -> Iterator[tuple[int, int, bool]]:
    """Begin and end of parts of a piece, one behind the other, and whether they are long runs of zeros."""
    other = np.concatenate(([-1], np.flatnonzero(memory[begin:end]), [end - begin])) + begin
    place = begin
    for run in np.flatnonzero(np.diff(other) > ZERO_BYTES).tolist():
        first, last = int(other[run]) + 1, int(other[run + 1])
        if place < first:
            yield place, first, False
        yield first, last, True
        place = last
    if place < end:
        yield place, end, False


def written_end(job: Descriptor, columns: int, bus_bytes: int) -> int:
    """Address behind the last bus word that a job with this descriptor writes, on a machine of that many columns."""
    tiles = job.groups * max(job.group_tiles - 1, 0) + job.large_groups
    rows = max(tiles - 1, 0) * columns + job.last_queries
    lengths = {"batch": job.batch, "head": job.heads, "row": ceil_div(rows, max(job.share, 1)), "share": job.share}
    last_row = sum(max(length - 1, 0) * getattr(job, f"o_{name}_stride") for name, length in lengths.items())
    words = job.state_out + ceil_div(job.f * (4 if job.float32_out else 2), bus_bytes)
    return job.o_address + last_row + words * bus_bytes
