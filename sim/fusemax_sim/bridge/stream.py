"""The simulated line as a byte stream for :class:`fusemax.bridge.Link`, in simulated time."""

from __future__ import annotations

import mmap
import os
import struct
import subprocess
import weakref
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray

from fusemax.spec import Config, config_named

from ..errors import SimulatorDied
from ..memory import Memory
from .build import build_bridge

__all__ = ["BridgeSimulation", "Noise"]

REQUEST = struct.Struct("<QII")
REPLY = struct.Struct("<Q10I")
#: Simulated clock, which only gives the unit of the stream's seconds.
CLOCK_HZ = 1e8


@dataclass(frozen=True)
class Noise:
    """Chances per byte, in each direction, that a bit flips, that the byte is lost, that a random byte comes before it."""

    flip: float = 0.0
    drop: float = 0.0
    extra: float = 0.0
    seed: int = 0


@dataclass(frozen=True)
class Seen:
    """What the bench has counted since the begin: noise, accesses on the buses, resets, broken bus rules."""

    flips: int = 0
    drops: int = 0
    extras: int = 0
    memory_reads: int = 0
    memory_writes: int = 0
    register_reads: int = 0
    register_writes: int = 0
    resets: int = 0
    violations: int = 0


class BridgeSimulation:
    """Bridge, memory and a few registers (bridge_top.sv) under Verilator; a byte stream and a context manager.

    Simulated time passes only in :meth:`read`.

    Parameters
    ----------
    config
        Configuration, or the name of one: widths of the memory's bus.
    divisor
        Clock cycles per bit.
    memory_bytes
        Size of the memory.
    timing
        Timing of the memory.
    noise
        On the line.
    sizes
        ``payload_bytes``, ``receive_bytes``, ``send_bytes`` of the bridge.

    Members
    -------
    memory : numpy.ndarray
        The memory's bytes.
    cycle : int
        Cycles that have passed.
    baud : float
        Bits per second of simulated time.
    seen : Seen
    timeout : float or None
        Seconds that :meth:`read` waits.
    """

    def __init__(
        self,
        config: Config | str = "small",
        *,
        divisor: int = 4,
        memory_bytes: int = 1 << 18,
        timing: Memory | None = None,
        noise: Noise | None = None,
        **sizes: int,
    ) -> None:
        executable = build_bridge(config_named(config), divisor=divisor, memory_bytes=memory_bytes, **sizes)
        noise = Noise() if noise is None else noise
        self.baud = CLOCK_HZ / divisor
        self.cycle = 0
        self.seen = Seen()
        self.timeout: float | None = 0.0
        self._to_bridge, self._from_bridge = bytearray(), bytearray()
        self._quiet = 0
        options = {"divisor": divisor, **{f"noise_{name}": getattr(noise, name) for name in ("flip", "drop", "extra", "seed")}}
        file = os.memfd_create("bridge-memory")
        try:
            os.ftruncate(file, memory_bytes)
            self.memory: NDArray[np.uint8] = np.frombuffer(mmap.mmap(file, memory_bytes), dtype=np.uint8)
            self._process = subprocess.Popen(
                [
                    str(executable),
                    *(Memory() if timing is None else timing).plusargs(),
                    *(f"+{name}={value}" for name, value in options.items()),
                ],
                env={**os.environ, "FUSEMAX_MEMORY_FD": str(file)},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                pass_fds=(file,),
                start_new_session=True,
            )
        finally:
            os.close(file)
        self._finalizer = weakref.finalize(self, end, self._process)

    # -- byte stream -----------------------------------------------------------------------------------------

    @property
    def in_waiting(self) -> int:
        return len(self._from_bridge)

    def write(self, text: bytes, /) -> int:
        self._to_bridge += text
        return len(text)

    def read(self, size: int = 1, /) -> bytes:
        """Up to ``size`` bytes; runs until a frame has ended or :attr:`timeout` is over if there are none."""
        if not self._from_bridge:
            self.run(1 << 62 if self.timeout is None else round(self.timeout * CLOCK_HZ))
        text = bytes(self._from_bridge[:size])
        del self._from_bridge[:size]
        return text

    def now(self) -> float:
        """Simulated seconds."""
        return self.cycle / CLOCK_HZ

    # -- simulation ------------------------------------------------------------------------------------------

    def run(self, cycles: int) -> None:
        """Send what was written and run for so many cycles, or until a frame has ended.

        Raises
        ------
        SimulatorDied
            If the process has ended.
        """
        assert self._process.stdin is not None and self._process.stdout is not None
        try:
            self._process.stdin.write(REQUEST.pack(max(cycles, 1), len(self._to_bridge), self._quiet) + bytes(self._to_bridge))
            self._process.stdin.flush()
            reply = self._process.stdout.read(REPLY.size)
        except (OSError, ValueError):
            reply = b""
        if len(reply) < REPLY.size:
            raise SimulatorDied(f"the simulator ended with status {self._process.poll()}")
        self._to_bridge.clear()
        self.cycle, size, *counts = REPLY.unpack(reply)
        self.seen = Seen(*counts)
        self._from_bridge += self._process.stdout.read(size)

    def silence(self) -> None:
        """End the noise, from what is written next on."""
        self._quiet = 1

    def close(self) -> None:
        """End the process. Does nothing the second time."""
        self._finalizer()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


def end(process: subprocess.Popen[bytes]) -> None:
    for stream in (process.stdin, process.stdout):
        if stream is not None:
            stream.close()
    process.kill()
    process.wait()
