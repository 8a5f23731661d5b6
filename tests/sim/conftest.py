"""A stand-in device that copies words, simulated through the real wrapper, bench and transport; one build for all tests."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest

from fusemax.spec import CONFIGS
from fusemax_sim import Memory, RtlTransport
from fusemax_sim.build import build

STANDIN = Path(__file__).parent / "standin"


class Copier:
    """Driver of standin/fusemax.v; offsets are its registers."""

    REGISTERS: ClassVar = {
        "status": 0x18,
        "source": 0x20,
        "target": 0x24,
        "doorbell": 0x2C,
        "words": 0x30,
        "fault": 0x34,
        "cycles": 0x38,
        "read_latency": 0x3C,
        "read_span": 0x40,
        "write_latency": 0x44,
        "most_reads": 0x48,
        "strobe": 0x4C,
        "delay": 0x50,
    }
    TARGET = 1 << 19

    def __init__(self, device: RtlTransport) -> None:
        self.device = device

    def __getitem__(self, name: str) -> int:
        return self.device.read_register(self.REGISTERS[name])

    def __setitem__(self, name: str, value: int) -> None:
        self.device.write_register(self.REGISTERS[name], value)

    def start(self, words: int, source: int = 0, target: int = TARGET, seed: int = 1) -> None:
        """Fill the source with random bytes where it lies in the memory, and ring."""
        data = np.random.default_rng(seed).integers(0, 256, 8 * words, dtype=np.uint8)
        room = self.device.memory[source : source + 8 * words]
        room[:] = data[: len(room)]
        self["source"], self["target"], self["words"] = source, target, words
        self["doorbell"] = 1

    def copy(self, words: int, source: int = 0, target: int = TARGET, seed: int = 1) -> bool:
        """Whether the target is the source afterwards."""
        self.start(words, source, target, seed)
        self.device.wait_interrupt(20)
        memory = self.device.memory
        return bool((memory[target : target + 8 * words] == memory[source : source + 8 * words]).all())


@pytest.fixture(scope="session")
def standin() -> Path:
    """Directory of the stand-in's Verilog; its simulator is built."""
    build(CONFIGS["tiny"], verilog=STANDIN)
    return STANDIN


@pytest.fixture
def open_copier(standin: Path) -> Iterator[Callable[..., Copier]]:
    """Opens a stand-in with a memory of these properties; all are closed afterwards."""
    devices: list[RtlTransport] = []

    def open_with(memory_bytes: int = 1 << 20, **properties: object) -> Copier:
        devices.append(RtlTransport("tiny", Memory(**properties), memory_bytes=memory_bytes, verilog=standin))  # type: ignore[arg-type]
        return Copier(devices[-1])

    yield open_with
    for device in devices:
        device.close()
