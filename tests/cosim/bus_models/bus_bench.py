"""cocotb module: tests of the emitted Verilog at cocotbext-axi's bus models (see bus_board.py)."""

from __future__ import annotations

import random
from typing import Any

import cocotb
from bus_board import CONFIG, Board, Pair, operands
from cocotb.task import bridge, resume
from cocotb.triggers import ReadOnly, RisingEdge
from cocotbext.axi import AxiResp

import fusemax
from fusemax.errors import DeviceFaultError
from fusemax.spec import COUNTERS, REGISTERS, Cause, counter_offset, register

# -- problems ----------------------------------------------------------------------------------------------------------


@cocotb.test()
async def problems(dut: Any) -> None:
    """Attention, with tails in every axis and without, in both output formats; rows that cross a page, read and written."""
    board = Board(dut, paces=(0.0, 0.1, 0.5, 0.8))
    await board.start()

    def calls() -> None:
        pair = Pair(board)
        pair(*operands(9, 13, 6, 5, seed=1))
        pair(*operands(4, 8, 16, 24, (2, 2), seed=2), out_dtype="float32")
        pair(*operands(3, 110, 21, 10, seed=3))
        pair(*operands(110, 3, 8, 22, seed=4))

    await bridge(calls)()
    rules = board.memory_rules
    assert rules.most_reads > 1
    assert rules.most_writes > 1
    assert rules.cut_reads > 0
    assert rules.cut_writes > 0


@cocotb.test()
async def unpaused(dut: Any) -> None:
    """Models that never hold back: answers come as early as they can."""
    board = Board(dut, paces=(0.0,))
    await board.start()
    await bridge(lambda: Pair(board)(*operands(13, 21, 30, 33, (2,), seed=5)))()


# -- faults ------------------------------------------------------------------------------------------------------------


class FailingMemory:
    """Target of an AxiSlave: memory that fails in ``window``; what fails there is answered with SLVERR."""

    def __init__(self, memory: bytearray) -> None:
        self._memory = memory
        self.window = range(0)

    def _check(self, address: int, length: int) -> None:
        if any(byte in self.window for byte in range(address, address + length)):
            raise OSError

    async def read(self, address: int, length: int) -> bytes:
        self._check(address, length)
        return bytes(self._memory[address : address + length])

    async def write(self, address: int, data: bytes) -> None:
        self._check(address, len(data))
        self._memory[address : address + len(data)] = data


@cocotb.test()
async def faults(dut: Any) -> None:
    """A read and a write that are answered with SLVERR stop the call; the next one is right."""
    targets: list[FailingMemory] = []

    def target(memory: bytearray) -> FailingMemory:
        targets.append(FailingMemory(memory))
        return targets[0]

    board = Board(dut, paces=(0.0, 0.3, 0.7), target=target)
    board.memory_rules.may_stop = True
    await board.start()

    def calls() -> None:
        pair = Pair(board)
        arrays = operands(14, 17, 12, 9, (2,), seed=6)
        pair(*arrays)
        image = pair.model.transport.memory[: fusemax.spec.DESCRIPTOR_BYTES].tobytes()
        job = fusemax.spec.DESCRIPTOR.unpack(int.from_bytes(image, "little"))
        for name, cause in (("q", Cause.READ), ("k", Cause.READ), ("v", Cause.READ), ("o", Cause.WRITE)):
            # In the second head's third row.
            address = job[f"{name}_address"] + job[f"{name}_head_stride"] + 2 * job[f"{name}_row_stride"]
            targets[0].window = range(address, address + 1)
            try:
                fusemax.attention(*arrays, device=pair.device)
            except DeviceFaultError as error:
                assert error.cause == cause
                assert error.address == address
            else:
                raise AssertionError(f"an error at an address of {name} went unnoticed")
            targets[0].window = range(0)
            pair.check_quiet()
            # The reset has led back to the ring's beginning, and so does opening the device anew.
            pair = Pair(board)
            pair(*arrays)

    await bridge(calls)()


@cocotb.test()
async def soft_reset(dut: Any) -> None:
    """After a reset in the midst of traffic the machine drains until all bursts have ended; the next call is right."""
    board = Board(dut, paces=(0.1, 0.6, 0.9))
    board.memory_rules.may_stop = True
    await board.start()
    control, tail, status = register("CONTROL").offset, register("RING_TAIL").offset, register("STATUS")
    stride = fusemax.spec.DESCRIPTOR_STRIDE_BYTES
    cut_short = 0

    def calls() -> None:
        nonlocal cut_short
        for _ in range(12):
            Pair(board)(*operands(14, 17, 12, 9, (2,), seed=7))
            # The same job again, in the next place of the ring.
            board.memory[stride : 2 * stride] = board.memory[:stride]
            board.write_register(tail, 2)
            resume(board.step)(random.randrange(600))
            cut_short += board.memory_rules.under_way > 0
            board.write_register(control, 1)
            while status.fields.unpack(board.read_register(status.offset))["draining"]:
                pass
            assert board.memory_rules.under_way == 0
            assert board.read_register(tail) == 0

    await bridge(calls)()
    assert cut_short > 4


# -- registers ---------------------------------------------------------------------------------------------------------

#: Bits that registers without side effects keep.
KEPT = {
    register(name).offset: mask
    for name, mask in (
        ("RING_BASE_LOW", 0xFFFF_FFFF),
        ("RING_BASE_HIGH", (1 << CONFIG.address_bits - 32) - 1),
        ("RING_SIZE_LOG2", 0x1F),
        ("INTERRUPT_ENABLE", 0x3),
    )
}


async def all_registers(board: Board) -> dict[int, int]:
    """Every register and counter by its offset, asked for at once."""
    offsets = [entry.offset for entry in REGISTERS] + [counter_offset(name) + half for name, _ in COUNTERS for half in (0, 4)]
    tasks = [cocotb.start_soon(board.read(offset)) for offset in offsets]
    return {offset: await task for offset, task in zip(offsets, tasks, strict=True)}


@cocotb.test()
async def registers(dut: Any) -> None:
    """Accesses back to back, with random pauses, against a table; identity, read-only registers, offsets without register."""
    board = Board(dut, paces=(0.0, 0.0, 0.2, 0.6, 0.9))
    await board.start()
    assert await board.read(register("IDENTITY").offset) == fusemax.spec.IDENTITY
    for name in ("SHAPE", "LIMITS", "OPTIONS"):
        fields = register(name).fields.unpack(await board.read(register(name).offset))
        assert fields == {key: getattr(CONFIG, key) for key in fields}

    # Writes go out one behind the other, in any order of their address and data; reads of the others run beside them.
    table = await all_registers(board)
    for _ in range(40):
        writes = []
        for _ in range(random.randint(1, 12)):
            offset, value = random.choice(list(KEPT)), random.getrandbits(32)
            writes.append(cocotb.start_soon(board.write(offset, value)))
            table[offset] = value & KEPT[offset]
        constant = random.choices([offset for offset in table if offset not in KEPT], k=random.randint(0, 12))
        reads = [cocotb.start_soon(board.read(offset)) for offset in constant]
        for offset, task in zip(constant, reads, strict=True):
            assert await task == table[offset], f"{offset:#x}"
        for task in writes:
            await task
        offset = random.choice(list(KEPT))
        assert await board.read(offset) == table[offset], f"{offset:#x}"
    assert await all_registers(board) == table

    # Strobes are not looked at: a write is of the whole register.
    for offset in KEPT:
        for length in (1, 2, 3):
            data = random.randbytes(length)
            assert (await board.registers.write(offset, data)).resp == AxiResp.OKAY
            table[offset] = int.from_bytes(data, "little") & KEPT[offset]
            assert await board.read(offset) == table[offset]

    # Read-only registers, and offsets at which there is none: writes are taken and change nothing, what is not there is 0.
    nothing = [offset for offset in range(0, 0x1000, 4) if offset not in table]
    ignored = [entry.offset for entry in REGISTERS if entry.access == "ro"] + random.sample(nothing, 60) + [0x80, 0x048, 0xFFC]
    ignored += [counter_offset(name) + half for name, _ in COUNTERS for half in (0, 4)]
    for task in [cocotb.start_soon(board.write(offset, random.getrandbits(32))) for offset in ignored]:
        await task
    for offset in ignored:
        assert await board.read(offset) == table.get(offset, 0), f"{offset:#x}"
    assert await all_registers(board) == table


@cocotb.test()
async def bad_descriptor(dut: Any) -> None:
    """A ring of nothing: error, interrupt, and what is left of them after w1c writes and a reset."""
    board = Board(dut, paces=(0.0, 0.4))
    await board.start()
    ring = 0x12300

    def at(name: str) -> int:
        return register(name).offset

    await board.write(at("RING_BASE_LOW"), ring)
    await board.write(at("RING_SIZE_LOG2"), 3)
    await board.write(at("RING_TAIL"), 1)
    while not await board.read(at("STATUS")) & 2:
        pass
    assert await board.read(at("INTERRUPT")) == 2
    assert not int(dut.irq.value)
    await board.write(at("INTERRUPT_ENABLE"), 1)
    assert not int(dut.irq.value)
    await board.write(at("INTERRUPT_ENABLE"), 2)
    await board.interrupt()
    assert await board.read(at("STATUS")) == 2
    assert await board.read(at("ERROR_CAUSE")) == Cause.DESCRIPTOR
    assert await board.read(at("ERROR_ADDRESS_LOW")) == ring
    assert await board.read(at("ERROR_ADDRESS_HIGH")) == 0
    await board.write(at("INTERRUPT"), 1)
    assert await board.read(at("INTERRUPT")) == 2
    await board.write(at("INTERRUPT"), 2)
    assert await board.read(at("INTERRUPT")) == 0
    await ReadOnly()
    assert not int(dut.irq.value)
    await RisingEdge(dut.clk)
    await board.write(at("CONTROL"), 1)
    for name in ("CONTROL", "STATUS", "RING_HEAD", "RING_TAIL", "ERROR_CAUSE"):
        assert await board.read(at(name)) == 0, name
    assert await board.read(at("RING_BASE_LOW")) == ring
