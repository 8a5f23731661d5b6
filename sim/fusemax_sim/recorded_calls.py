"""Calls as the driver hands them to a machine, to be run without the driver: memory before and after, and descriptors."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

import fusemax
from fusemax.spec import DESCRIPTOR_BYTES, DESCRIPTOR_STRIDE_BYTES, Config, Descriptor, register

__all__ = ["ADDRESSES", "RecordedCall", "record_call"]

#: Fields of a descriptor that are places in memory.
ADDRESSES = ("program_address", "q_address", "k_address", "v_address", "o_address")
#: Two patterns of which a byte can have one by chance, but not both.
PATTERNS = (0xA5, 0x5A)

Bytes = NDArray[np.uint8]


@dataclass(frozen=True)
class RecordedCall:
    """The jobs of a call.

    Members
    -------
    jobs
        Fields of their descriptors, in order, for a memory that begins at address 0.
    before, after
        Memory without and with the output, from behind the ring to the end of the output.
    output
        Which bytes the jobs write.
    start
        Address of the first byte of ``before``.
    """

    jobs: tuple[Descriptor, ...]
    before: Bytes
    after: Bytes
    output: NDArray[np.bool_]
    start: int

    def placed(self, base: int) -> list[Descriptor]:
        """The descriptors' fields, if ``before`` lies at ``base``."""
        moved = base - self.start
        return [replace(job, **{name: getattr(job, name) + moved for name in ADDRESSES}) for job in self.jobs]


def record_call(config: Config, call: Callable[[fusemax.Device], Any], memory_bytes: int = 1 << 18) -> RecordedCall:
    """What the driver and the model make of ``call(device)``, which runs :func:`fusemax.attention` once.

    Raises
    ------
    ValueError
        If the call takes more than a ring of jobs.
    """
    with fusemax.open("model", config, memory_bytes=memory_bytes) as device:
        transport = device.transport
        call(device)
        size = 1 << transport.read_register(register("RING_SIZE_LOG2").offset)
        tail = transport.read_register(register("RING_TAIL").offset)
        if tail > size:
            raise ValueError(f"a recorded call must have at most {size} jobs, not {tail}")
        start = size * DESCRIPTOR_STRIDE_BYTES
        images = [transport.memory[index * DESCRIPTOR_STRIDE_BYTES :][:DESCRIPTOR_BYTES].tobytes() for index in range(tail)]
        jobs = tuple(Descriptor.unpack(int.from_bytes(image, "little")) for image in images)
        first = min(job.o_address for job in jobs)
        # The output lies behind everything else. It is written again over either pattern.
        results = []
        for pattern in PATTERNS:
            transport.memory[first:] = pattern
            transport.write_register(register("CONTROL").offset, 1)
            transport.write_register(register("RING_TAIL").offset, tail)
            while transport.read_register(register("RING_HEAD").offset) != tail:
                pass
            results.append(transport.memory.copy())
    output = (results[0] != PATTERNS[0]) | (results[1] != PATTERNS[1])
    output[:first] = False
    after = np.where(output, results[0], 0)
    after[:first] = results[0][:first]
    before = after.copy()
    before[first:] = 0
    end = int(np.flatnonzero(output)[-1]) // config.bus_bytes * config.bus_bytes + config.bus_bytes
    return RecordedCall(jobs, before[start:end], after[start:end], output[start:end], start)
