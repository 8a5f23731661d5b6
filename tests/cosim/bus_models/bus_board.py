"""The emitted Verilog between cocotbext-axi's AxiRam and AxiLiteMaster, used by the host's own driver.

Every channel pauses at random, and bus_rules.py watches every cycle. The driver is not asynchronous: it runs in a thread
(``cocotb.task.bridge``), and simulated time passes while it waits for a register or the interrupt.
"""

from __future__ import annotations

import logging
import random
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import cocotb
import ml_dtypes
import numpy as np
from bus_rules import MemoryRules, RegisterRules
from cocotb.clock import Clock
from cocotb.task import resume
from cocotb.triggers import ClockCycles, First, RisingEdge
from cocotbext.axi import AxiBus, AxiLiteBus, AxiLiteMaster, AxiRam, AxiResp, AxiSlave

import fusemax
from fusemax.runtime.device import Device
from fusemax_sim.problems import CONFIGS, EXACT_COUNTERS

__all__ = ["CONFIG", "Board", "Pair", "operands"]

# cocotbext-axi 0.1.28 still runs with cocotb 1, and so uses what cocotb 2 has replaced.
warnings.filterwarnings("error")
warnings.filterwarnings("ignore", category=DeprecationWarning, module=r"cocotbext\.axi\.")

CONFIG = CONFIGS["tiny"]
MEMORY_BYTES = 1 << 17
#: Byte that shows what was not written.
UNTOUCHED = 0xA5
#: Cycles in which every call of this module is over.
TIMEOUT_CYCLES = 100_000
#: Signals of a channel's payload that the device drives.
ADDRESS = ("id", "addr", "len", "size", "burst", "lock", "cache", "prot")
MEMORY_PAYLOADS = {
    "ar": [f"ar{name}" for name in ADDRESS],
    "aw": [f"aw{name}" for name in ADDRESS],
    "w": ["wdata", "wstrb", "wlast"],
    "r": ["rlast"],
    "b": [],
}
REGISTER_PAYLOADS = {"aw": [], "w": [], "ar": [], "b": ["bresp"], "r": ["rdata", "rresp"]}


def pauses(paces: tuple[float, ...]) -> Iterator[bool]:
    """Whether a channel holds back, cycle by cycle: spells of every pace, which is the chance that it does."""
    own = random.Random(random.getrandbits(64))
    while True:
        pace = own.choice(paces)
        for _ in range(own.randint(1, 40)):
            yield own.random() < pace


class Watched:
    """A port's channels, as they are before a clock edge."""

    def __init__(self, dut: Any, prefix: str, payloads: dict[str, list[str]]) -> None:
        self._channels = {
            channel: (
                getattr(dut, f"{prefix}_{channel}valid"),
                getattr(dut, f"{prefix}_{channel}ready"),
                {name: getattr(dut, f"{prefix}_{name}") for name in names},
            )
            for channel, names in payloads.items()
        }

    def __call__(self, channel: str) -> tuple[int, int, dict[str, int]]:
        valid, ready, payload = self._channels[channel]
        if not int(valid.value):
            return 0, int(ready.value), {}
        return 1, int(ready.value), {name: int(handle.value) for name, handle in payload.items()}


class Board:
    """The device, cocotbext-axi's models at its ports, and the rules; a :class:`fusemax.Transport` in bridged code.

    Parameters
    ----------
    paces
        Chances that a channel holds back.
    target
        What answers the device's memory accesses, instead of an AxiRam of :attr:`memory`; it may fail (see AxiSlave).
    """

    def __init__(self, dut: Any, paces: tuple[float, ...], target: Callable[[bytearray], Any] | None = None) -> None:
        # The models tell every transfer.
        logging.getLogger(f"cocotb.{dut._name}").setLevel(logging.WARNING)
        self.dut = dut
        #: The device's memory, and the same bytes as an array.
        self._bytes = bytearray(MEMORY_BYTES)
        self._array = np.frombuffer(self._bytes, np.uint8)
        self.memory_rules = MemoryRules(CONFIG, MEMORY_BYTES)
        self.register_rules = RegisterRules()
        dut.rst.value = 1
        bus = AxiBus.from_prefix(dut, "m_axi")
        if target is None:
            memory = AxiRam(bus, dut.clk, dut.rst, mem=self._bytes)
        else:
            memory = AxiSlave(bus, dut.clk, dut.rst, target=target(self._bytes))
        self.registers = AxiLiteMaster(AxiLiteBus.from_prefix(dut, "s_axil"), dut.clk, dut.rst)
        for model, channels in (
            (memory.read_if, ("ar", "r")),
            (memory.write_if, ("aw", "w", "b")),
            (self.registers.read_if, ("ar", "r")),
            (self.registers.write_if, ("aw", "w", "b")),
        ):
            for channel in channels:
                getattr(model, f"{channel}_channel").set_pause_generator(pauses(paces))

    async def start(self) -> None:
        """Clock, reset, and the watch over the rules."""
        Clock(self.dut.clk, 2, unit="step").start()
        await ClockCycles(self.dut.clk, 5)
        for name in ("m_axi_arvalid", "m_axi_awvalid", "m_axi_wvalid", "s_axil_bvalid", "s_axil_rvalid", "irq"):
            assert int(getattr(self.dut, name).value) == 0, f"{name} is high in reset"
        self.dut.rst.value = 0
        await RisingEdge(self.dut.clk)
        cocotb.start_soon(self._watch())

    async def _watch(self) -> None:
        edge = RisingEdge(self.dut.clk)
        memory, rules = Watched(self.dut, "m_axi", MEMORY_PAYLOADS), self.memory_rules
        registers, register_rules = Watched(self.dut, "s_axil", REGISTER_PAYLOADS), self.register_rules
        while True:
            await edge
            # Behind a clock edge the signals are still those before it.
            rules.read_data(*memory("r"))
            rules.write_answer(*memory("b")[:2])
            rules.address("ar", *memory("ar"))
            rules.address("aw", *memory("aw"))
            rules.write_data(*memory("w"))
            for channel in ("b", "r"):
                register_rules.answer(channel, *registers(channel))
            for channel in ("aw", "w", "ar"):
                register_rules.request(channel, *registers(channel)[:2])

    # -- transport -------------------------------------------------------------------------------------------------

    @property
    def memory(self) -> np.ndarray:
        return self._array

    def read_register(self, offset: int) -> int:
        return resume(self.read)(offset)

    def write_register(self, offset: int, value: int) -> None:
        resume(self.write)(offset, value)

    def wait_interrupt(self, timeout_s: float | None, progress: Callable[..., None] | None) -> None:
        resume(self.interrupt)()

    def close(self) -> None:
        pass

    async def read(self, offset: int) -> int:
        answer = await self.registers.read(offset, 4)
        assert answer.resp == AxiResp.OKAY
        return int.from_bytes(answer.data, "little")

    async def write(self, offset: int, value: int) -> None:
        answer = await self.registers.write(offset, value.to_bytes(4, "little"))
        assert answer.resp == AxiResp.OKAY

    async def interrupt(self) -> None:
        if not int(self.dut.irq.value):
            timeout = ClockCycles(self.dut.clk, TIMEOUT_CYCLES)
            if await First(RisingEdge(self.dut.irq), timeout) is timeout:
                raise TimeoutError(f"the interrupt did not come within {TIMEOUT_CYCLES} cycles")

    async def step(self, cycles: int) -> None:
        await ClockCycles(self.dut.clk, cycles)


def operands(
    queries: int, keys: int, e: int, f: int, leading: tuple[int, ...] = (), seed: int = 0
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Queries, keys and values, each from a seed of its own."""
    q, k, v = (
        np.random.default_rng((seed, name)).standard_normal((*leading, *shape)).astype(ml_dtypes.bfloat16)
        for name, shape in enumerate(((queries, e), (keys, e), (keys, f)))
    )
    return q, k, v


class Pair:
    """The board and the model, which run the same calls; for bridged code."""

    def __init__(self, board: Board) -> None:
        self.board = board
        board.memory[:] = UNTOUCHED
        self.device = Device(board, CONFIG)
        self.model = fusemax.open("model", CONFIG, memory_bytes=MEMORY_BYTES)
        self.model.transport.memory[:] = UNTOUCHED

    def __call__(self, *arrays: np.ndarray, out_dtype: str = "bfloat16") -> None:
        """Run a call, and compare result, counters and the whole memory with the model's."""
        rules = self.board.memory_rules
        read, written = rules.bytes_read, rules.bytes_written
        result = fusemax.attention(*arrays, device=self.device, out_dtype=out_dtype)
        expected = fusemax.attention(*arrays, device=self.model, out_dtype=out_dtype)
        assert result.tobytes() == expected.tobytes()
        wrong = np.flatnonzero(self.board.memory != self.model.transport.memory)
        assert wrong.size == 0, f"{wrong.size} bytes of the memory are not the model's, the first at {wrong[0]:#x}"
        counters = self.device.counters
        for name in EXACT_COUNTERS:
            assert getattr(counters, name) == getattr(self.model.counters, name), name
        assert counters.bytes_read == rules.bytes_read - read
        assert counters.bytes_written == rules.bytes_written - written
        self.check_quiet()

    def check_quiet(self) -> None:
        """Everything has ended."""
        assert self.board.memory_rules.under_way == 0
        assert self.board.register_rules.under_way == 0
        assert not int(self.board.dut.irq.value)
