"""Registers and counters behind the AXI4-Lite port (fusemax.spec.REGISTERS, COUNTERS)."""

from typing import Any

from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from fusemax.spec import COUNTERS, IDENTITY, INTERFACE_VERSION, REGISTERS, Cause, Config, counter_offset, register

from ..bus.axi import AxiLiteSlave
from .sequencer import sequencer_events

__all__ = ["COUNTER_BITS", "Registers", "core_members"]

#: Bits that a counter has; the others read as zero. 2^48 cycles are 32 days at 100 MHz.
COUNTER_BITS = 48


def core_members(config: Config) -> dict[str, wiring.Member]:
    """What registers and core tell each other, seen from the registers."""
    address = config.address_bits
    return {
        "ring_base": Out(address),
        "ring_size_log2": Out(5),
        "tail": Out(16),
        "head": In(16),
        "reset": Out(1),
        "emptied": In(1),
        "stop": Out(1),
        "job_done": In(1),
        "job_interrupt": In(1),
        "nonfinite": In(1),
        "overflow": In(1),
        "read_error": In(1),
        "read_error_address": In(address),
        "write_error": In(1),
        "write_error_address": In(address),
        "descriptor_error": In(1),
        "descriptor_error_address": In(address),
        "events": In(sequencer_events()),
        "tile_skipped": In(1),
        "bytes_read": In(config.bus_bytes.bit_length()),
        "bytes_written": In(config.bus_bytes.bit_length()),
    }


class Registers(wiring.Component):
    """Register file, counters and interrupt.

    Answers a read or a write two cycles after it is accepted; one of each at a time. A write is of the whole register,
    whatever its strobes say.

    Members
    -------
    bus : AxiLiteSlave
    irq : Out(1)
        Level interrupt.
    ring_base, ring_size_log2, tail : Out
        The ring.
    head : In(16)
        Oldest job that is not complete.
    reset : Out(1)
        CONTROL.reset was written: everything but this block's ring registers starts anew. High until ``emptied``; the write is
        answered then.
    emptied : In(1)
        Whoever is reset is ready for it: its bus transactions are complete. It starts anew in the next cycle.
    stop : Out(1)
        After an error: no new job is begun.
    job_done, job_interrupt, nonfinite, overflow : In(1)
    read_error, write_error, descriptor_error : In(1)
        With their addresses.
    events : In
        From the sequencer.
    bytes_read, bytes_written : In
        Bytes moved in this cycle.
    """

    def __init__(self, config: Config):
        self.config = config
        super().__init__(
            {
                "bus": Out(AxiLiteSlave()),
                "irq": Out(1),
                **core_members(config),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        config = self.config
        bus = self.bus

        # One access at a time.
        write_address, write_data = Signal(12), Signal(32)
        write, writing = Signal(), Signal()

        def written(name: str) -> Any:
            return write & (write_address == register(name).offset)

        take_write = bus.aw.valid & bus.w.valid & ~bus.b.valid & ~writing
        m.d.comb += [bus.aw.ready.eq(take_write), bus.w.ready.eq(take_write)]
        m.d.sync += write.eq(take_write)
        with m.If(take_write):
            m.d.sync += [write_address.eq(bus.aw.payload), write_data.eq(bus.w.payload.data), writing.eq(1)]
        resets = written("CONTROL") & write_data[0]
        with m.If((write & ~resets) | (self.reset & self.emptied)):
            m.d.sync += [writing.eq(0), bus.b.valid.eq(1)]
        with m.Elif(bus.b.ready):
            m.d.sync += bus.b.valid.eq(0)
        read_address, reading = Signal(12), Signal()
        take_read = bus.ar.valid & ~bus.r.valid & ~reading
        m.d.comb += bus.ar.ready.eq(take_read)
        m.d.sync += reading.eq(take_read)
        with m.If(take_read):
            m.d.sync += read_address.eq(bus.ar.payload)
        with m.If(reading):
            m.d.sync += bus.r.valid.eq(1)
        with m.Elif(bus.r.ready):
            m.d.sync += bus.r.valid.eq(0)

        values: dict[str, Any] = {"IDENTITY": Const(IDENTITY, 32), "VERSION": Const(INTERFACE_VERSION, 32)}
        limits = {
            "SHAPE": ("rows", "columns", "bus_bytes", "contexts"),
            "LIMITS": ("max_e", "max_f", "query_tiles", "pe_latency"),
        }
        for name, parameters in limits.items():
            layout = register(name).fields
            assert layout is not None
            values[name] = Const(layout.pack({parameter: getattr(config, parameter) for parameter in parameters}), 32)

        # Ring.
        for name, target in (("RING_SIZE_LOG2", self.ring_size_log2), ("RING_TAIL", self.tail)):
            with m.If(written(name)):
                m.d.sync += target.eq(write_data)
            values[name] = target
        base = Signal(64)
        for name, part in (("RING_BASE_LOW", base[:32]), ("RING_BASE_HIGH", base[32:])):
            with m.If(written(name)):
                m.d.sync += part.eq(write_data)
            values[name] = part
        m.d.comb += self.ring_base.eq(base)
        values["RING_HEAD"] = self.head

        # Errors: the first one stays.
        cause, error_address = Signal(Cause), Signal(64)
        with m.If(cause == Cause.NONE):
            for happened, why, address in (
                (self.read_error, Cause.READ, self.read_error_address),
                (self.write_error, Cause.WRITE, self.write_error_address),
                (self.descriptor_error, Cause.DESCRIPTOR, self.descriptor_error_address),
            ):
                with m.If(happened):
                    m.d.sync += [cause.eq(why), error_address.eq(address)]
        any_error = self.read_error | self.write_error | self.descriptor_error
        m.d.comb += self.stop.eq(cause != Cause.NONE)
        values |= {"ERROR_CAUSE": cause, "ERROR_ADDRESS_LOW": error_address[:32], "ERROR_ADDRESS_HIGH": error_address[32:]}

        # Status and interrupt.
        busy, nonfinite, overflow = Signal(), Signal(), Signal()
        m.d.comb += busy.eq((self.tail != self.head) & (cause == Cause.NONE))
        clear_flags = written("FLAGS_CLEAR") & write_data[0]
        m.d.sync += [
            nonfinite.eq(self.nonfinite | (nonfinite & ~clear_flags)),
            overflow.eq(self.overflow | (overflow & ~clear_flags)),
        ]
        values["STATUS"] = Cat(busy, self.stop, nonfinite, overflow)
        pending, enable = Signal(2), Signal(2)
        happened = Cat(self.job_done & self.job_interrupt, any_error)
        m.d.sync += pending.eq(happened | Mux(written("INTERRUPT"), pending & ~write_data[:2], pending))
        with m.If(written("INTERRUPT_ENABLE")):
            m.d.sync += enable.eq(write_data)
        m.d.comb += self.irq.eq((pending & enable).any())
        values |= {"INTERRUPT": pending, "INTERRUPT_ENABLE": enable}

        # Soft reset.
        with m.If(resets):
            m.d.sync += self.reset.eq(1)
        with m.Elif(self.emptied):
            m.d.sync += self.reset.eq(0)
        with m.If(self.reset):
            m.d.sync += [self.tail.eq(0), cause.eq(Cause.NONE), pending.eq(0), nonfinite.eq(0), overflow.eq(0)]

        # Counters.
        increments: dict[str, Any] = {
            "cycles": busy,
            "jobs": self.job_done,
            "tiles_skipped": self.tile_skipped,
            "bytes_read": self.bytes_read,
            "bytes_written": self.bytes_written,
            **{name: getattr(self.events, name) for name in sequencer_events().members},
        }
        increments["idle"] = self.events.idle & busy
        clear_counters = (written("COUNTERS_CLEAR") & write_data[0]) | self.reset
        counters = {}
        for name, _ in COUNTERS:
            counters[name] = counter = Signal(COUNTER_BITS, name=f"counter_{name}")
            with m.If(clear_counters):
                m.d.sync += counter.eq(0)
            with m.Else():
                m.d.sync += counter.eq(counter + increments[name])

        read_value = Signal(32)
        with m.Switch(read_address):
            for entry in REGISTERS:
                if entry.name in values:
                    with m.Case(entry.offset):
                        m.d.comb += read_value.eq(values[entry.name])
            for name, counter in counters.items():
                with m.Case(counter_offset(name)):
                    m.d.comb += read_value.eq(counter[:32])
                with m.Case(counter_offset(name) + 4):
                    m.d.comb += read_value.eq(counter[32:])
        with m.If(reading):
            m.d.sync += bus.r.payload.data.eq(read_value)
        return m
