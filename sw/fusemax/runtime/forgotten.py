"""What users have dropped: submitted calls that nobody waits for, areas of device memory whose owner is gone."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from ..compiler.program import Program
from ..planning.memory_map import Buffer, Shape
from ..planning.output_rows import Rows
from .call_queue import CallQueue, QueuedCall
from .device_memory import DeviceMemory
from .job_ring import Deadline

__all__ = ["Forgotten", "Pending", "Placed"]


@dataclass(frozen=True)
class Placed:
    """What a submitted call has in memory: its program, its output, and the reserved area that holds its arrays."""

    program: Program
    output: Buffer
    shape: Shape
    area: int


@dataclass(frozen=True, eq=False)
class Pending:
    """A call that was submitted: its jobs, and what it has in memory, or its rows if there was nothing to compute."""

    queued: QueuedCall
    placed: Placed | Rows


class Forgotten:
    """Gives back the memory of what was dropped, when the machine has left it.

    The garbage collector drops things in the midst of anything, so :meth:`drop` and :meth:`drop_area` take no lock and wait for
    nothing: they make a note, which the next call of the device looks at.
    """

    def __init__(self, queue: CallQueue, memory: DeviceMemory) -> None:
        self._queue, self._memory = queue, memory
        # Appending and taking are atomic.
        self._notes: deque[Pending | int] = deque()
        self._left: list[Pending] = []

    def drop(self, pending: Pending) -> None:
        """Note that nobody will wait for a submitted call."""
        self._notes.append(pending)

    def drop_area(self, address: int) -> None:
        """Note that nobody will use or release a reserved area, and no call does."""
        self._notes.append(address)

    def clean_up(self) -> None:
        """Give back what the machine has left."""
        if not self._notes and not self._left:
            return
        self._take_notes()
        if not all(pending.queued.complete for pending in self._left):
            self._queue.poll()
        self._release()

    def wait(self) -> bool:
        """Wait until the machine has left all dropped calls; whether there were any."""
        self._take_notes()
        found = list(self._left)
        for pending in found:
            self._queue.wait_end(pending.queued, Deadline(None))
        self._release()
        return bool(found)

    def _take_notes(self) -> None:
        while self._notes:
            try:
                note = self._notes.popleft()
            except IndexError:  # Another thread was faster.
                return
            if isinstance(note, int):
                self._memory.release(note)
                continue
            with self._memory.lock:
                self._left.append(note)
            if not note.queued.complete:
                self._queue.abandon(note.queued)

    def _release(self) -> None:
        with self._memory.lock:
            done = [pending for pending in self._left if pending.queued.complete]
            for pending in done:
                self._left.remove(pending)
                if isinstance(pending.placed, Placed):
                    self._memory.release_locked(pending.placed.area)
