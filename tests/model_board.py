"""A board for the tests: the model device behind the bridge's model behind a pseudo-terminal, in a thread."""

from __future__ import annotations

import os
import select
import threading
import tty
from collections.abc import Callable, Iterator

import pytest
from bridge_model import BridgeModel

from fusemax.model.model_transport import ModelTransport
from fusemax.spec import config_named, register

__all__ = ["BAUD", "ModelBoard", "make_board"]

#: Time-outs follow from it; the terminal does not care.
BAUD = 115200


class ModelBoard:
    """Serves the port until it is closed.

    Members
    -------
    port
        Name of the serial port.
    mute
        Nothing is answered.
    registers
        What to read instead of the machine's registers, by offset.
    bridge, model
        What is behind the port.
    """

    def __init__(self, config: str = "tiny", memory_bytes: int = 1 << 16) -> None:
        self.model = ModelTransport(config_named(config), memory_bytes)
        self.bridge = BridgeModel(memoryview(self.model.memory), self, payload_bytes=512, buffer_bytes=4096)
        self.bridge.on_poll = self.work
        self.mute = False
        self.registers: dict[int, int] = {}
        self._master, self._slave = os.openpty()
        tty.setraw(self._slave)
        self.port = os.ttyname(self._slave)
        self._stop, self._stopped = os.pipe()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def read(self, offset: int) -> int:
        return self.registers.get(offset, self.model.read_register(offset))

    def write(self, offset: int, value: int) -> None:
        self.model.write_register(offset, value)

    def work(self) -> None:
        read = self.model.read_register
        read(register("STATUS").offset)
        self.bridge.irq = bool(read(register("INTERRUPT").offset) & read(register("INTERRUPT_ENABLE").offset))

    def _serve(self) -> None:
        while True:
            ready, _, _ = select.select([self._master, self._stop], [], [])
            if self._stop in ready:
                return
            answer = self.bridge.feed(os.read(self._master, 4096))
            if not self.mute:
                os.write(self._master, answer)

    def close(self) -> None:
        os.close(self._stopped)
        self._thread.join(5)
        for file in (self._master, self._slave, self._stop):
            os.close(file)


@pytest.fixture
def make_board() -> Iterator[Callable[..., ModelBoard]]:
    """Makes boards, which are closed afterwards."""
    boards: list[ModelBoard] = []

    def make(config: str = "tiny", memory_bytes: int = 1 << 16) -> ModelBoard:
        boards.append(ModelBoard(config, memory_bytes))
        return boards[-1]

    yield make
    for board in boards:
        board.close()
