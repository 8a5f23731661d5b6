"""The whole machine: AXI4 master, AXI4-Lite slave, interrupt."""

from typing import Any

from amaranth.hdl import ClockDomain, ClockSignal, DomainRenamer, Module, Mux, ResetSignal
from amaranth.lib import wiring
from amaranth.lib.wiring import Out, connect, flipped

from fusemax.spec import Config

from .array.array import Array
from .bus.axi import Axi4Master, AxiLiteSlave, connect_flat, flat_members
from .bus.reader import Reader
from .bus.writer import Writer
from .control.dispatcher import Dispatcher
from .control.issue_walker import IssueWalker
from .control.job import array_flags
from .control.load_walker import LoadKind, LoadWalker, load_tag
from .control.loader import Loader
from .control.pair_walker import PairWalker
from .control.program_store import ProgramStore
from .control.registers import Registers, core_members
from .control.request_arbiter import RequestArbiter
from .control.sequencer import Sequencer
from .control.store import Store

__all__ = ["Core", "Machine", "Top"]


class Core(wiring.Component):
    """Join everything but the registers: what a soft reset empties.

    Members
    -------
    memory : Out(Axi4Master(config))
        The memory's bus.
    others
        As of :class:`~fusemax_hw.control.registers.Registers` (``core_members``), in the other direction.
    """

    def __init__(self, config: Config):
        self.config = config
        shared = {name: member.flip() for name, member in core_members(config).items()}
        super().__init__({"memory": Out(Axi4Master(config)), **shared})

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        config = self.config
        m.submodules.dispatcher = Dispatcher(config)
        m.submodules.query_walker = LoadWalker(config, "q")
        m.submodules.key_walker = LoadWalker(config, "k")
        m.submodules.value_walker = LoadWalker(config, "v")
        m.submodules.mask_walker = PairWalker(config, "m")
        m.submodules.bias_walker = PairWalker(config, "b")
        m.submodules.arbiter = RequestArbiter(config)
        m.submodules.reader = Reader(config, load_tag(config))
        m.submodules.loader = Loader(config)
        m.submodules.issue_walker = IssueWalker(config)
        m.submodules.program = ProgramStore(config)
        m.submodules.sequencer = Sequencer(config)
        m.submodules.array = Array(config)
        m.submodules.output_store = Store(config)
        m.submodules.writer = Writer(config)

        self._connect_jobs(m)
        self._connect_loading(m)
        self._connect_issue(m)
        self._connect_storing(m)
        self._connect_registers(m)
        return m

    def _connect_jobs(self, m: Module) -> None:
        """Hand jobs from the dispatcher to the walkers, and programs to their store."""
        parts = m.submodules
        dispatcher, reader, writer, program = parts.dispatcher, parts.reader, parts.writer, parts.program
        for source, sink in (
            (dispatcher.query, parts.query_walker.jobs),
            (dispatcher.key, parts.key_walker.jobs),
            (dispatcher.value, parts.value_walker.jobs),
            (dispatcher.mask, parts.mask_walker.jobs),
            (dispatcher.bias, parts.bias_walker.jobs),
            (dispatcher.issue, parts.issue_walker.jobs),
            (dispatcher.store, parts.output_store.jobs),
        ):
            connect(m, source, sink)
        m.d.comb += [
            dispatcher.ring_base.eq(self.ring_base),
            dispatcher.ring_size_log2.eq(self.ring_size_log2),
            dispatcher.tail.eq(self.tail),
            dispatcher.enable.eq(~self.halt),
            dispatcher.job_done.eq(writer.job_done),
            dispatcher.job_index.eq(writer.job_index),
            dispatcher.refused.eq(reader.refused & (reader.refused_tag.kind == LoadKind.DESCRIPTOR)),
            dispatcher.beat.eq(reader.beat),
            dispatcher.beat_valid.eq(reader.beat_valid),
            self.head.eq(dispatcher.head),
            program.write.eq(dispatcher.program_write),
            program.address.eq(dispatcher.program_address),
            program.data.eq(dispatcher.program_data),
            program.ii.eq(dispatcher.program_ii),
            program.load.eq(dispatcher.program_load),
            program.start.eq(dispatcher.program_start),
        ]

    def _connect_loading(self, m: Module) -> None:
        """Read what dispatcher and walkers ask for, and load it into the array's banks."""
        parts = m.submodules
        arbiter, reader, loader, array = parts.arbiter, parts.reader, parts.loader, parts.array
        connect(m, parts.dispatcher.fetch, arbiter.control)
        connect(m, parts.query_walker.rows, arbiter.query)
        connect(m, parts.key_walker.rows, arbiter.key)
        connect(m, parts.value_walker.rows, arbiter.value)
        connect(m, parts.mask_walker.rows, arbiter.mask)
        connect(m, parts.bias_walker.rows, arbiter.bias)
        connect(m, arbiter.runs, reader.runs)
        connect(m, reader.ar, flipped(self.memory.ar))
        connect(m, flipped(self.memory.r), reader.r)
        m.d.comb += [
            loader.beat.eq(reader.beat),
            loader.beat_valid.eq(reader.beat_valid),
            array.key_value_load.eq(loader.key_value),
            array.query_load.eq(loader.query),
        ]

    def _connect_issue(self, m: Module) -> None:
        """Run the program on the walker's tiles: microwords to the corner of the array, releases to the walkers."""
        parts = m.submodules
        loader, sequencer, array = parts.loader, parts.sequencer, parts.array
        connect(m, parts.issue_walker.tiles, sequencer.tiles)
        connect(m, parts.program.words, sequencer.words)
        m.d.comb += [
            sequencer.query_loaded.eq(loader.query_loaded),
            sequencer.key_loaded.eq(loader.key_loaded),
            sequencer.value_loaded.eq(loader.value_loaded),
            sequencer.mask_loaded.eq(loader.mask_loaded),
            sequencer.bias_loaded.eq(loader.bias_loaded),
            sequencer.output_freed.eq(parts.output_store.output_freed),
            parts.query_walker.release.eq(sequencer.query_release),
            parts.key_walker.release.eq(sequencer.key_release),
            parts.value_walker.release.eq(sequencer.value_release),
            parts.mask_walker.release.eq(sequencer.mask_release),
            parts.bias_walker.release.eq(sequencer.bias_release),
            array.west.eq(sequencer.west),
            array.north.eq(sequencer.north),
            array.lane.eq(sequencer.lane),
        ]
        m.d.comb += [getattr(sequencer, name).eq(getattr(parts.dispatcher, name)) for name in array_flags(self.config)]

    def _connect_storing(self, m: Module) -> None:
        """Fetch results from the lanes and write them."""
        store, writer, array = m.submodules.output_store, m.submodules.writer, m.submodules.array
        connect(m, store.runs, writer.runs)
        connect(m, store.data, writer.data)
        connect(m, writer.aw, flipped(self.memory.aw))
        connect(m, writer.w, flipped(self.memory.w))
        connect(m, flipped(self.memory.b), writer.b)
        m.d.comb += [
            store.results_issued.eq(m.submodules.sequencer.results_issued),
            array.store.eq(store.request),
            store.answer.eq(array.store_out),
        ]

    def _connect_registers(self, m: Module) -> None:
        """Tell the registers what happens, and take what they set."""
        parts = m.submodules
        dispatcher, reader, loader, writer = parts.dispatcher, parts.reader, parts.loader, parts.writer
        m.d.comb += [
            self.job_done.eq(writer.job_done),
            self.job_interrupt.eq(writer.job_interrupt),
            self.job_index.eq(writer.job_index),
            self.nonfinite.eq(loader.nonfinite),
            self.overflow.eq(loader.overflow | parts.array.overflow),
            # What is wrong with a descriptor is for the dispatcher to tell, in its turn.
            self.read_error.eq(reader.beat_valid & reader.beat.error & (reader.beat.tag.kind != LoadKind.DESCRIPTOR)),
            self.read_error_address.eq(reader.error_address),
            self.read_refused.eq(reader.refused & (reader.refused_tag.kind != LoadKind.DESCRIPTOR)),
            self.read_refused_address.eq(reader.refused_address),
            self.write_error.eq(writer.error),
            self.write_error_address.eq(writer.error_address),
            self.write_refused.eq(writer.refused),
            self.write_refused_address.eq(writer.refused_address),
            self.fault.eq(dispatcher.fault),
            self.fault_cause.eq(dispatcher.fault_cause),
            self.fault_address.eq(dispatcher.fault_address),
            self.fault_job.eq(dispatcher.fault_job),
            self.progress.eq(reader.beat_valid | writer.answered),
            self.waiting_address.eq(Mux(reader.waiting, reader.waiting_address, writer.waiting_address)),
            self.events.eq(parts.sequencer.events),
            self.tile_skipped.eq(parts.issue_walker.skipped),
            self.bytes_read.eq(Mux(reader.beat_valid, self.config.bus_bytes, 0)),
            self.bytes_written.eq(writer.bytes_written),
            reader.first.eq(self.read_first),
            reader.last.eq(self.read_last),
            writer.first.eq(self.write_first),
            writer.last.eq(self.write_last),
            reader.drain.eq(self.halt),
            writer.drain.eq(self.halt),
            self.emptied.eq(reader.idle & writer.idle),
        ]


class Machine(wiring.Component):
    """Join registers and core, with the buses as streams.

    After an error or a soft reset no transaction is begun on the memory's bus; those under way end, writes without strobes.
    Then a soft reset empties the core.

    Members
    -------
    memory : Out(Axi4Master(config))
        The memory's bus.
    registers : Out(AxiLiteSlave())
        The registers' bus, of which this is the slave.
    irq : Out(1)
        Interrupt, a level.
    busy, error : Out(1)
        As in register STATUS.
    """

    def __init__(self, config: Config):
        self.config = config
        super().__init__(
            {
                "memory": Out(Axi4Master(config)),
                "registers": Out(AxiLiteSlave()),
                "irq": Out(1),
                "busy": Out(1),
                "error": Out(1),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        m.domains.core = domain = ClockDomain("core", local=True)
        m.submodules.registers = registers = Registers(self.config)
        core = Core(self.config)
        m.submodules.core = DomainRenamer("core")(core)
        m.d.comb += [
            domain.clk.eq(ClockSignal()),
            domain.rst.eq(ResetSignal() | registers.clear),
            self.irq.eq(registers.irq),
            self.busy.eq(registers.busy),
            self.error.eq(registers.error),
        ]
        connect(m, core.memory, flipped(self.memory))
        connect(m, registers.bus, flipped(self.registers))
        for name, member in core.signature.members.items():
            if name != "memory":
                inner, outer = getattr(core, name), getattr(registers, name)
                m.d.comb += outer.eq(inner) if member.flow is Out else inner.eq(outer)
        return m


class Top(wiring.Component):
    """Give the machine the ports that AXI tools expect.

    This is what is emitted: with a clock ``clk`` and a synchronous reset ``rst``.

    Members
    -------
    m_axi_*
        AXI4 master, ``bus_bits`` wide; the channels' rules say when a signal counts.
    s_axil_*
        AXI4-Lite slave with the registers, likewise.
    irq : Out(1)
        Interrupt, a level.
    """

    module_name = "fusemax"

    def __init__(self, config: Config):
        self.config = config
        super().__init__({**flat_members(config), "irq": Out(1)})

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        m.submodules.machine = machine = Machine(self.config)
        connect_flat(m, self, self.config, machine.memory, machine.registers)
        m.d.comb += self.irq.eq(machine.irq)
        return m
