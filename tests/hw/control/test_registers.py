"""Registers under random accesses and events, compared cycle by cycle with a model of the register map."""

import pytest
from bench import Bench

from fusemax.spec import COUNTERS, IDENTITY, INTERFACE_VERSION, REGISTERS, Cause, Config, counter_offset, register
from fusemax_hw.control.registers import Registers
from fusemax_hw.control.sequencer import sequencer_events

CONFIG = Config(rows=8, columns=16, max_e=200, max_f=17, contexts=5, pe_latency=3, query_tiles=2)
NAMES = {entry.offset: entry.name for entry in REGISTERS}
COUNTER_NAMES = {counter_offset(name) + 4 * half: (name, half) for name, _ in COUNTERS for half in (0, 1)}
ERRORS = (("read_error", Cause.READ), ("write_error", Cause.WRITE), ("descriptor_error", Cause.DESCRIPTOR))
CLEARING = tuple(register(name).offset for name in ("INTERRUPT", "FLAGS_CLEAR", "COUNTERS_CLEAR"))
WIDE = ("read_error_address", "write_error_address", "descriptor_error_address")
WORD = (1 << 32) - 1


def shape_word():
    return CONFIG.rows | CONFIG.columns << 10 | CONFIG.bus_bytes << 20 | CONFIG.contexts << 28


def limits_word():
    return CONFIG.max_e | CONFIG.max_f << 10 | CONFIG.query_tiles << 20 | CONFIG.pe_latency << 27


class Model:
    """What software sees: ``state`` between cycles, ``inputs`` of the cycle."""

    def __init__(self):
        self.base = self.size = self.enable = self.error_address = 0
        self.resetting = False
        self.empty()
        self.inputs = {}

    def empty(self):
        self.tail = self.cause = self.pending = self.nonfinite = self.overflow = 0
        self.counters = dict.fromkeys((name for name, _ in COUNTERS), 0)

    @property
    def busy(self):
        return int(self.tail != self.inputs["head"] and not self.cause)

    def read(self, offset):
        if offset in COUNTER_NAMES:
            name, half = COUNTER_NAMES[offset]
            return self.counters[name] >> 32 * half & WORD
        return {
            "IDENTITY": IDENTITY,
            "VERSION": INTERFACE_VERSION,
            "SHAPE": shape_word(),
            "LIMITS": limits_word(),
            "STATUS": self.busy | (self.cause != 0) << 1 | self.nonfinite << 2 | self.overflow << 3,
            "INTERRUPT": self.pending,
            "INTERRUPT_ENABLE": self.enable,
            "RING_BASE_LOW": self.base & WORD,
            "RING_BASE_HIGH": self.base >> 32,
            "RING_SIZE_LOG2": self.size,
            "RING_TAIL": self.tail,
            "RING_HEAD": self.inputs["head"],
            "ERROR_CAUSE": self.cause,
            "ERROR_ADDRESS_LOW": self.error_address & WORD,
            "ERROR_ADDRESS_HIGH": self.error_address >> 32,
        }.get(NAMES.get(offset), 0)

    def step(self, write):
        """End of a cycle in which ``write`` (offset, data), if any, took effect."""
        inputs, name, data = self.inputs, *((NAMES.get(write[0]), write[1]) if write else (None, 0))
        errors = [(cause, inputs[f"{error}_address"]) for error, cause in ERRORS if inputs[error]]
        for counter in self.counters:
            self.counters[counter] += {
                "cycles": self.busy,
                "jobs": inputs["job_done"],
                "bytes_read": inputs["bytes_read"],
                "bytes_written": inputs["bytes_written"],
                "idle": inputs["events"].get("idle", 0) & self.busy,
            }.get(counter, inputs["events"].get(counter, 0))
        if name == "COUNTERS_CLEAR" and data & 1:
            self.counters = dict.fromkeys(self.counters, 0)
        if name == "INTERRUPT":
            self.pending &= ~data
        self.pending |= (inputs["job_done"] & inputs["job_interrupt"]) | bool(errors) << 1
        for flag in ("nonfinite", "overflow"):
            cleared = name == "FLAGS_CLEAR" and data & 1
            setattr(self, flag, inputs[flag] | (getattr(self, flag) and not cleared))
        if errors and not self.cause:
            # The causes of one cycle are not ordered; the block keeps the last.
            self.cause, self.error_address = errors[-1]
        if name == "INTERRUPT_ENABLE":
            self.enable = data & 3
        elif name == "RING_BASE_LOW":
            self.base = self.base >> 32 << 32 | data
        elif name == "RING_BASE_HIGH":
            self.base = self.base & WORD | data << 32
        elif name == "RING_SIZE_LOG2":
            self.size = data & 31
        elif name == "RING_TAIL":
            self.tail = data & 0xFFFF
        if self.resetting:
            self.empty()
            self.resetting = not inputs["emptied"]
        elif name == "CONTROL" and data & 1:
            self.resetting = True


@pytest.mark.parametrize("seed", range(2))
def test_registers(seed):
    bench = Bench(Registers(CONFIG), seed)
    dut, rng, model = bench.dut, bench.rng, Model()
    accesses = 1200
    bus = dut.bus

    # Inputs: mostly quiet, and everything at once now and then.
    lively = bench.stalls(0.01, 0.1, 1.0)

    def chance(part):
        return int(lively() and rng.random() < part)

    def inputs():
        model.inputs = {
            "head": rng.choice((model.tail, model.tail, rng.getrandbits(16))),
            **{name: rng.getrandbits(CONFIG.address_bits) for name in WIDE},
            **{error: chance(0.05) for error, _ in ERRORS},
            **{name: chance(0.5) for name in ("job_done", "job_interrupt", "nonfinite", "overflow", "emptied")},
            "events": {name: chance(0.5) for name in sequencer_events().members},
            **{name: CONFIG.bus_bytes * chance(0.7) for name in ("bytes_read", "bytes_written")},
        }

    bench.each(inputs)
    for name in (
        "head",
        *WIDE,
        *(error for error, _ in ERRORS),
        "job_done",
        "job_interrupt",
        "nonfinite",
        "overflow",
        "emptied",
    ):
        bench.drive(getattr(dut, name), lambda name=name: model.inputs[name])
    for name in ("bytes_read", "bytes_written"):
        bench.drive(getattr(dut, name), lambda name=name: model.inputs[name])
    for name in sequencer_events().members:
        bench.drive(getattr(dut.events, name), lambda name=name: model.inputs["events"][name])

    def address():
        return rng.choice(
            (
                *NAMES,
                *NAMES,
                *CLEARING,
                *CLEARING,
                *COUNTER_NAMES,
                0x48,
                0xFC,
                max(COUNTER_NAMES) + 4,
                0xFFC,
                4 * rng.getrandbits(10),
            )
        )

    def written():
        offset = address()
        while NAMES.get(offset) == "CONTROL" and rng.random() < 0.3:
            offset = address()
        return offset, rng.choice((0, 1, 2, 3, rng.getrandbits(32)))

    writes = [written() for _ in range(accesses)]
    reads = [address() for _ in range(accesses)]
    slow = (0.1, 0.5, 1.0)
    write_address = bench.source(bus.aw, [offset for offset, _ in writes], bench.stalls(*slow))
    write_data = bench.source(bus.w, [{"data": data, "strobe": 15} for _, data in writes], bench.stalls(*slow))
    read_address = bench.source(bus.ar, reads, bench.stalls(*slow))
    responses = bench.sink(bus.b, bench.stalls(*slow))
    answers = bench.sink(bus.r, bench.stalls(*slow))

    expected, ends, now = [], [], {}
    for name in ("irq", "ring_base", "ring_size_log2", "tail", "reset", "stop"):
        bench.watch(getattr(dut, name), lambda value, name=name: now.update({name: value}))

    def step(_):
        """Behind all other watchers: compare the outputs, then let the cycle end."""
        cycle = bench.cycle
        assert now == {
            "irq": int(model.pending & model.enable != 0),
            "ring_base": model.base & (1 << CONFIG.address_bits) - 1,
            "ring_size_log2": model.size,
            "tail": model.tail,
            "reset": model.resetting,
            "stop": model.cause != 0,
        }, f"cycle {cycle}"
        if read_address.taken and read_address.taken[-1] == cycle - 1:
            expected.append(model.read(reads[len(expected)]))
        write = None
        if write_address.taken and write_address.taken[-1] == cycle - 1:
            write = writes[len(write_address.taken) - 1]
        was_resetting = model.resetting
        model.step(write)
        if was_resetting and not model.resetting:
            ends.append(cycle)

    bench.watch(dut.irq, step)
    bench.run(lambda: min(len(responses.received), len(answers.received)) == accesses, 60 * accesses, settle=5)
    assert write_address.taken == write_data.taken
    assert responses.received == [0] * accesses
    assert answers.received == [{"data": data, "response": 0} for data in expected]
    resets = [offset == register("CONTROL").offset and data & 1 for offset, data in writes]
    assert sum(resets) == len(ends) > 3
    # The write that asks for a reset is answered when the machine is empty.
    for end, taken in zip(ends, (cycle for cycle, reset in zip(responses.taken, resets, strict=True) if reset), strict=True):
        assert taken > end


def test_reset_values():
    bench = Bench(Registers(CONFIG), seed=0)
    offsets = range(0, 0x200, 4)
    bench.source(bench.dut.bus.ar, offsets)
    answers = bench.sink(bench.dut.bus.r)
    bench.run(lambda: len(answers.received) == len(offsets), 1000)
    fixed = {"IDENTITY": IDENTITY, "VERSION": INTERFACE_VERSION, "SHAPE": shape_word(), "LIMITS": limits_word()}
    for offset, answer in zip(offsets, answers.received, strict=True):
        assert answer["data"] == fixed.get(NAMES.get(offset), 0), f"offset {offset:#x}"
