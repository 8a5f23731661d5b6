"""A board in a process of its own; what opens its port cannot tell it from a real one, but for its speed."""

from __future__ import annotations

import mmap
import os
import struct
import subprocess
import tty
import weakref
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from fusemax.spec import Config, config_named

from ..bridge.stream import Noise
from .build import build_board

__all__ = ["BoardSimulation", "Seen"]

SEEN = struct.Struct("<QQ4I")


@dataclass(frozen=True)
class Seen:
    """What the bench has counted since the begin: cycles, those in which the machine was busy, noise, and stops on errors."""

    cycles: int
    busy_cycles: int
    flips: int
    drops: int
    extras: int
    errors: int


class BoardSimulation:
    """A board's system (:class:`fusemax_hw.boards.system.System`) under Verilator; a context manager.

    Parameters
    ----------
    config
        Configuration, or the name of one.
    divisor
        Clock cycles per bit.
    memory_bytes
        Size of the memory.
    noise
        On the line.

    Members
    -------
    port : str
        Name of the serial port.
    baud : int
        Bits per second that the simulation is sure to keep up with on a busy computer: what to tell the host, whose time-outs
        follow from it.
    """

    def __init__(
        self, config: Config | str = "tiny", *, divisor: int = 4, memory_bytes: int = 1 << 17, noise: Noise | None = None
    ) -> None:
        executable = build_board(config_named(config), divisor=divisor, memory_bytes=memory_bytes)
        noise = Noise() if noise is None else noise
        self.baud = 9600
        counts = os.memfd_create("board-seen")
        terminal, self._port = os.openpty()
        alive, self._alive = os.pipe()
        try:
            tty.setraw(self._port)
            os.set_blocking(terminal, False)
            self.port = os.ttyname(self._port)
            os.ftruncate(counts, SEEN.size)
            self._seen = mmap.mmap(counts, SEEN.size)
            options = {"divisor": divisor, "terminal": terminal, "seen": counts, "parent": alive}
            options |= {f"noise_{name}": getattr(noise, name) for name in ("flip", "drop", "extra", "seed")}
            self._process = subprocess.Popen(
                [str(executable), *(f"+{name}={value}" for name, value in options.items())],
                stdin=subprocess.DEVNULL,
                pass_fds=(terminal, counts, alive),
                start_new_session=True,
            )
        finally:
            for file in (counts, terminal, alive):
                os.close(file)
        # Our own descriptor of the port keeps the terminal from hanging up when nobody else has it open.
        self._finalizer = weakref.finalize(self, end, self._process, (self._port, self._alive))

    @property
    def seen(self) -> Seen:
        """What has been counted so far."""
        return Seen(*SEEN.unpack(self._seen[:]))

    def close(self) -> None:
        """End the process. Does nothing the second time."""
        self._finalizer()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


def end(process: subprocess.Popen[bytes], files: tuple[int, ...]) -> None:
    for file in files:
        os.close(file)
    process.kill()
    process.wait()
