"""Registers and counters behind the AXI4-Lite port (fusemax.spec.REGISTERS, COUNTERS)."""

from typing import Any, NamedTuple

from amaranth.hdl import Cat, Const, Module, Mux, Signal, ValueLike
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from fusemax.spec import (
    COUNTERS,
    DESCRIPTOR_STRIDE_BYTES,
    IDENTITY,
    INTERFACE_VERSION,
    REGISTERS,
    Cause,
    Config,
    counter_offset,
    job_entry_offset,
    register,
)

from ..bus.axi import AxiLiteSlave
from .job_table import JobTable
from .sequencer import sequencer_events
from .watchdog import Watchdog

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
        "halt": Out(1),
        "emptied": In(1),
        "read_first": Out(address),
        "read_last": Out(address, init=(1 << address) - 1),  # pyright: ignore[reportCallIssue]
        "write_first": Out(address),
        "write_last": Out(address, init=(1 << address) - 1),  # pyright: ignore[reportCallIssue]
        "job_done": In(1),
        "job_interrupt": In(1),
        "job_index": In(16),
        "nonfinite": In(1),
        "overflow": In(1),
        "read_error": In(1),
        "read_error_address": In(address),
        "write_error": In(1),
        "write_error_address": In(address),
        "read_refused": In(1),
        "read_refused_address": In(address),
        "write_refused": In(1),
        "write_refused_address": In(address),
        "fault": In(1),
        "fault_cause": In(Cause),
        "fault_address": In(address),
        "fault_job": In(16),
        "progress": In(1),
        "waiting_address": In(address),
        "events": In(sequencer_events()),
        "tile_skipped": In(1),
        "bytes_read": In(config.bus_bytes.bit_length()),
        "bytes_written": In(config.bus_bytes.bit_length()),
    }


class Access(NamedTuple):
    """Read and write under way: ``write`` and ``reading`` are high in the cycle in which they are carried out.

    A read is accepted a cycle before (``take_read``).
    """

    write: Signal
    write_address: Signal
    write_data: Signal
    take_read: ValueLike
    reading: Signal
    read_address: Signal

    def written(self, name: str) -> ValueLike:
        """Whether the register of that name is written in this cycle."""
        return self.write & (self.write_address == register(name).offset)


class Errors(NamedTuple):
    """The first error's cause; an error happens now; the machine has stopped; CONTROL.reset is written now."""

    watchdog: Watchdog
    cause: Signal
    any_error: Signal
    stopped: Signal
    resets: ValueLike


class Status(NamedTuple):
    """Flags of STATUS that stay, ``emptied`` a cycle later, and the pending interrupts."""

    nonfinite: Signal
    overflow: Signal
    emptied: Signal
    pending: Signal


class Registers(wiring.Component):
    """Hold the register file, the counters and the interrupt.

    A read or a write is answered two cycles after it is accepted; one of each at a time. A write is of the whole register,
    whatever its strobes say.

    The class is long because the register map is: a method has one of its blocks, and all of them share its registers.

    Members
    -------
    bus : Out(AxiLiteSlave())
        The AXI4-Lite slave.
    irq : Out(1)
        Interrupt, a level.
    busy, error : Out(1)
        As in register STATUS.
    clear : Out(1)
        Behind ``emptied``, if CONTROL.reset was written: everything but this block's ring, window and watchdog registers starts
        anew in the next cycle, the last one of ``halt``.
    ring_base : Out(address_bits)
        Address of the ring.
    ring_size_log2 : Out(5)
        Logarithm of the number of its descriptors.
    tail : Out(16)
        Index behind the last descriptor that is ready.
    head : In(16)
        Index of the oldest job that is not complete.
    halt : Out(1)
        After an error, and from CONTROL.reset on until the machine is empty: nothing new is begun, the doorbell is refused.
    emptied : In(1)
        No bus transaction is under way; stays while ``halt`` does.
    read_first, read_last : Out(address_bits)
        First and last byte that may be read.
    write_first, write_last : Out(address_bits)
        First and last byte that may be written.
    job_done : In(1)
        A job is complete: high for a cycle.
    job_interrupt : In(1)
        It wants an interrupt; counts while ``job_done`` is high.
    job_index : In(16)
        Index behind it, likewise.
    nonfinite, overflow : In(1)
        As in register STATUS: happens in this cycle.
    read_error, write_error : In(1)
        The bus has answered with an error: high for a cycle. Of reads, not those of descriptors.
    read_refused, write_refused : In(1)
        A burst would have left its window, likewise.
    read_error_address, write_error_address, read_refused_address, write_refused_address : In(address_bits)
        Where; each counts while the signal before it is high.
    fault : In(1)
        The dispatcher has stopped: high for a cycle.
    fault_cause : In(Cause)
        Why; counts while ``fault`` is high.
    fault_address : In(address_bits)
        Address of what is wrong, likewise.
    fault_job : In(16)
        Index of the job, likewise.
    progress : In(1)
        A bus word was read, or a write was answered, in this cycle.
    waiting_address : In(address_bits)
        Address of the oldest bus transaction under way, if there is one.
    events : In(sequencer_events())
        What the sequencer did in a cycle.
    tile_skipped : In(1)
        A tile was left out in this cycle.
    bytes_read, bytes_written : In(bits of bus_bytes)
        Bytes that were moved in this cycle.
    """

    def __init__(self, config: Config):
        self.config = config
        super().__init__(
            {
                "bus": Out(AxiLiteSlave()),
                "irq": Out(1),
                "busy": Out(1),
                "error": Out(1),
                "clear": Out(1),
                **core_members(config),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        access = self._accept(m)
        #: What a register reads as, by its name; the blocks add theirs.
        values: dict[str, Any] = self._constants()
        reset = Signal()
        overrun = self._ring_and_windows(m, access, values, reset)
        errors = self._errors(m, access, values, overrun)
        status = self._status(m, access, values, errors, reset)
        self._watch(m, access, errors)
        self._soft_reset(m, errors, status, reset)
        counters = self._counters(m, access, reset)
        jobs = self._jobs(m, access, counters, reset)
        self._read(m, access, values, counters, jobs)
        return m

    def _accept(self, m: Module) -> Access:
        """Accept one read and one write at a time from the bus."""
        bus = self.bus
        write_address = Signal(12)
        write_data = Signal(32)
        write = Signal()
        writing = Signal()
        take_write = bus.aw.valid & bus.w.valid & ~bus.b.valid & ~writing
        m.d.comb += [bus.aw.ready.eq(take_write), bus.w.ready.eq(take_write)]
        m.d.sync += write.eq(take_write)
        with m.If(take_write):
            m.d.sync += [write_address.eq(bus.aw.payload), write_data.eq(bus.w.payload.data), writing.eq(1)]
        with m.If(write):
            m.d.sync += [writing.eq(0), bus.b.valid.eq(1)]
        with m.Elif(bus.b.ready):
            m.d.sync += bus.b.valid.eq(0)
        read_address = Signal(12)
        reading = Signal()
        take_read = bus.ar.valid & ~bus.r.valid & ~reading
        m.d.comb += bus.ar.ready.eq(take_read)
        m.d.sync += reading.eq(take_read)
        with m.If(take_read):
            m.d.sync += read_address.eq(bus.ar.payload)
        with m.If(reading):
            m.d.sync += bus.r.valid.eq(1)
        with m.Elif(bus.r.ready):
            m.d.sync += bus.r.valid.eq(0)
        return Access(write, write_address, write_data, take_read, reading, read_address)

    def _constants(self) -> dict[str, Any]:
        """Registers that are fixed when the Verilog is written."""
        values: dict[str, Any] = {"IDENTITY": Const(IDENTITY, 32), "VERSION": Const(INTERFACE_VERSION, 32)}
        limits = {
            "SHAPE": ("rows", "columns", "bus_bytes", "contexts"),
            "LIMITS": ("max_e", "max_f", "query_tiles", "pe_latency"),
            "OPTIONS": ("linear", "functions", "entropy"),
        }
        for name, parameters in limits.items():
            layout = register(name).fields
            assert layout is not None
            values[name] = Const(layout.pack({parameter: getattr(self.config, parameter) for parameter in parameters}), 32)
        return values

    def _ring_and_windows(self, m: Module, access: Access, values: dict[str, Any], reset: Signal) -> Signal:
        """Hold the ring's registers and the windows; returns whether a ring holds fewer jobs than are announced."""
        written, write_data = access.written, access.write_data
        # Bits that an address does not have are zero.
        low_bits = exact_log2(DESCRIPTOR_STRIDE_BYTES)
        doorbell = written("RING_TAIL") & ~self.halt
        with m.If(written("RING_SIZE_LOG2")):
            m.d.sync += self.ring_size_log2.eq(write_data)
        with m.If(doorbell):
            m.d.sync += self.tail.eq(write_data)
        values |= {"RING_SIZE_LOG2": self.ring_size_log2, "RING_TAIL": self.tail, "RING_HEAD": Mux(reset, 0, self.head)}
        base = Signal(self.config.address_bits)
        m.d.comb += self.ring_base[low_bits:].eq(base[low_bits:])
        for prefix, target in (
            ("RING_BASE", base),
            ("READ_WINDOW_FIRST", self.read_first),
            ("READ_WINDOW_LAST", self.read_last),
            ("WRITE_WINDOW_FIRST", self.write_first),
            ("WRITE_WINDOW_LAST", self.write_last),
        ):
            for half, part in (("LOW", target[:32]), ("HIGH", target[32:])):
                with m.If(written(f"{prefix}_{half}")):
                    m.d.sync += part.eq(write_data)
                values[f"{prefix}_{half}"] = part
        # In three steps.
        rung = Signal(2)
        ahead = Signal(16)
        capacity = Signal(32)
        overrun = Signal()
        m.d.sync += [
            rung.eq(Cat(doorbell, rung[0])),
            ahead.eq(self.tail - self.head),
            capacity.eq(1 << self.ring_size_log2),
            overrun.eq(rung[1] & (ahead > capacity)),
        ]
        return overrun

    def _errors(self, m: Module, access: Access, values: dict[str, Any], overrun: Signal) -> Errors:
        """Keep the first error, with the oldest job that is not complete if nobody knows better."""
        m.submodules.watchdog = watchdog = Watchdog()
        cause = Signal(Cause)
        error_address = Signal(self.config.address_bits)
        error_job = Signal(16)
        control = access.written("CONTROL")
        resets, aborts = control & access.write_data[0], control & access.write_data[1]
        sources = (
            (self.fault, self.fault_cause, self.fault_address),
            (self.write_error, Cause.WRITE, self.write_error_address),
            (self.read_error, Cause.READ, self.read_error_address),
            (self.write_refused, Cause.WINDOW, self.write_refused_address),
            (self.read_refused, Cause.WINDOW, self.read_refused_address),
            (overrun, Cause.RING, self.tail),
            (watchdog.expired, Cause.TIMEOUT, self.waiting_address),
            (aborts, Cause.ABORT, 0),
        )
        any_error = Signal()
        m.d.comb += any_error.eq(Cat(happened for happened, _, _ in sources).any() & ~self.halt)
        with m.If(any_error):
            for happened, why, address in reversed(sources):
                with m.If(happened):
                    m.d.sync += [cause.eq(why), error_address.eq(address)]
            m.d.sync += error_job.eq(Mux(self.fault, self.fault_job, self.head))
        stopped = Signal()
        m.d.comb += stopped.eq(cause != Cause.NONE)
        values |= {
            "ERROR_CAUSE": cause,
            "ERROR_ADDRESS_LOW": error_address[:32],
            "ERROR_ADDRESS_HIGH": error_address[32:],
            "ERROR_JOB": error_job,
            "WATCHDOG": watchdog.limit,
        }
        return Errors(watchdog, cause, any_error, stopped, resets)

    def _status(self, m: Module, access: Access, values: dict[str, Any], errors: Errors, reset: Signal) -> Status:
        """Hold the status flags and the interrupt."""
        written, write_data = access.written, access.write_data
        nonfinite = Signal()
        overflow = Signal()
        m.d.comb += [self.busy.eq((self.tail != self.head) & ~self.halt), self.error.eq(errors.stopped)]
        clear_flags = written("FLAGS_CLEAR") & write_data[0]
        m.d.sync += [
            nonfinite.eq(self.nonfinite | (nonfinite & ~clear_flags)),
            overflow.eq(self.overflow | (overflow & ~clear_flags)),
        ]
        emptied = Signal()
        m.d.sync += emptied.eq(self.emptied)
        draining = (errors.stopped & ~emptied) | reset
        values["STATUS"] = Cat(self.busy, errors.stopped, nonfinite, overflow, draining)
        pending = Signal(2)
        enable = Signal(2)
        happened = Cat(self.job_done & self.job_interrupt, errors.any_error)
        m.d.sync += pending.eq(happened | Mux(written("INTERRUPT"), pending & ~write_data[:2], pending))
        with m.If(written("INTERRUPT_ENABLE")):
            m.d.sync += enable.eq(write_data)
        m.d.comb += self.irq.eq((pending & enable).any())
        values |= {"INTERRUPT": pending, "INTERRUPT_ENABLE": enable}
        return Status(nonfinite, overflow, emptied, pending)

    def _watch(self, m: Module, access: Access, errors: Errors) -> None:
        """Tell the watchdog what it watches, a cycle later."""
        watchdog = errors.watchdog
        issued = Cat(self.events[f"slots_{name}"] for name in ("qk", "exp", "sum", "slnv", "max")).any()
        m.d.sync += watchdog.quiet.eq(self.busy & ~self.progress & ~issued)
        with m.If(access.written("WATCHDOG")):
            m.d.sync += watchdog.limit.eq(access.write_data)

    def _soft_reset(self, m: Module, errors: Errors, status: Status, reset: Signal) -> None:
        """Halt, and clear the core once nothing is under way: while halted, nothing will be."""
        any_error, resets = errors.any_error, errors.resets
        m.d.sync += self.clear.eq(reset & status.emptied & self.halt & ~self.clear)
        with m.If(any_error | resets):
            m.d.sync += self.halt.eq(1)
        with m.Elif(self.clear):
            m.d.sync += self.halt.eq(0)
        with m.If(resets):
            m.d.sync += reset.eq(1)
        with m.Elif(self.clear):
            m.d.sync += reset.eq(0)
        with m.If(reset):
            m.d.sync += [self.tail.eq(0), errors.cause.eq(Cause.NONE), status.pending.eq(0)]
            m.d.sync += [status.nonfinite.eq(0), status.overflow.eq(0)]

    def _counters(self, m: Module, access: Access, reset: Signal) -> dict[str, Signal]:
        """Count what happens."""
        increments: dict[str, Any] = {
            "cycles": self.busy,
            "jobs": self.job_done,
            "tiles_skipped": self.tile_skipped,
            "bytes_read": self.bytes_read,
            "bytes_written": self.bytes_written,
            **{name: getattr(self.events, name) for name in sequencer_events().members},
        }
        increments["idle"] = self.events.idle & self.busy
        clear_counters = (access.written("COUNTERS_CLEAR") & access.write_data[0]) | reset
        counters = {}
        for name, _ in COUNTERS:
            counters[name] = counter = Signal(COUNTER_BITS, name=f"counter_{name}")
            with m.If(clear_counters):
                m.d.sync += counter.eq(0)
            with m.Else():
                m.d.sync += counter.eq(counter + increments[name])
        return counters

    def _jobs(self, m: Module, access: Access, counters: dict[str, Signal], reset: Signal) -> JobTable:
        """Enter completed jobs into their table, a cycle later: the cycle in which a job is complete counts."""
        m.submodules.jobs = jobs = JobTable(COUNTER_BITS)
        m.d.sync += [jobs.write.eq(self.job_done & ~self.halt), jobs.index.eq(self.job_index - 1)]
        m.d.comb += [
            jobs.cycles.eq(counters["cycles"]),
            jobs.nonfinite.eq(self.nonfinite),
            jobs.overflow.eq(self.overflow),
            jobs.clear.eq(reset),
            # Of 8 bytes each; the table answers in the next cycle, like the registers.
            jobs.read.eq(access.take_read),
            jobs.read_index.eq(self.bus.ar.payload[3:]),
        ]
        return jobs

    def _read(self, m: Module, access: Access, values: dict[str, Any], counters: dict[str, Signal], jobs: JobTable) -> None:
        """Answer a read with a register, half a counter, or half a job's entry."""
        read_value = Signal(32)
        with m.Switch(access.read_address):
            for entry in REGISTERS:
                if entry.name in values:
                    with m.Case(entry.offset):
                        m.d.comb += read_value.eq(values[entry.name])
            for name, counter in counters.items():
                with m.Case(counter_offset(name)):
                    m.d.comb += read_value.eq(counter[:32])
                with m.Case(counter_offset(name) + 4):
                    m.d.comb += read_value.eq(counter[32:])
            for half, part in enumerate((jobs.entry[:32], jobs.entry[32:])):
                first = job_entry_offset(0) + 4 * half
                with m.Case(f"{first:012b}"[:5] + "----" + f"{first:012b}"[9:]):
                    m.d.comb += read_value.eq(part)
        with m.If(access.reading):
            m.d.sync += self.bus.r.payload.data.eq(read_value)
