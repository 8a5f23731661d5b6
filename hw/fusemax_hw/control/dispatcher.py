"""Dispatcher: fetches descriptors from the ring, programs when they change, and hands jobs to the walkers."""

from typing import Any, NamedTuple

from amaranth.hdl import Cat, Module, Mux, Signal, ValueLike, unsigned
from amaranth.lib import data, stream, wiring
from amaranth.lib.fifo import SyncFIFOBuffered
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from fusemax.spec import (
    CHAIN_FIELDS,
    DESCRIPTOR_BYTES,
    DESCRIPTOR_STRIDE_BYTES,
    PROGRAM_HEADER,
    PROGRAM_MAGIC,
    PROGRAM_VERSION,
    SETTINGS,
    Cause,
    Config,
    ceil_div,
)

from ..bus.bursts import beat_bits, run_layout
from ..bus.reader import beat_layout
from .descriptor_check import DescriptorCheck
from .job import ISSUE_FIELDS, array_flags, descriptor_layout, job_layout, tensor_fields
from .load_walker import LoadKind, load_tag

__all__ = ["Dispatcher"]

#: Jobs that wait in a walker's queue: loading runs ahead of issue, and issue of storing.
QUEUE_DEPTHS = {"query": 3, "key": 3, "value": 3, "mask": 3, "bias": 3, "issue": 5, "store": 7}
HEADER = data.StructLayout({field.name: unsigned(field.bits) for field in PROGRAM_HEADER.fields})


class JobRegisters:
    """What the dispatcher keeps of the job in hand, and of those before it.

    Members
    -------
    descriptor, next_index : Signal
        Descriptor in hand, and its index in the ring.
    restart, loaded : Signal(1)
        The machine was drained for the job; it was set to one at all.
    settings : dict of str to Signal
        Descriptor fields that the machine is set to.
    chained, chain_start, chain
        The job before is continued, the index of the first job of the chain, and what stays the same in it.
    """

    def __init__(self) -> None:
        layout = descriptor_layout()
        self.descriptor = Signal(layout)
        self.next_index = Signal(16)
        self.restart = Signal()
        self.loaded = Signal()
        self.settings = {name: Signal(layout[name].shape, name=f"loaded_{name}") for name in SETTINGS}
        self.chained = Signal()
        self.chain = {name: Signal(layout[name].shape, name=f"chain_{name}") for name in CHAIN_FIELDS}
        self.chain_start = Signal(16)


class DescriptorRead(NamedTuple):
    """A descriptor's read: where, bus words, its last word comes, and the number of a word that could not be read."""

    address: Signal
    words: int
    complete: ValueLike
    unreadable: Signal
    unreadable_word: Signal


class ProgramRead(NamedTuple):
    """A program's read: from where, for which job, bus words of its header, and whether the header was wrong."""

    address: Signal
    job: Signal
    header_words: int
    wrong: ValueLike


class Dispatcher(wiring.Component):
    """Fetch jobs from the ring and hand them to the walkers.

    The next descriptor is read while the walkers work. A job with another program, or other :data:`SETTINGS`, waits until the
    machine has drained.

    A program is read with the header in front of it, and does not start if that is not what the descriptor says. What is wrong
    with a job is told when all jobs before it are complete.

    The class is long because a third of it says what its ports are.

    Members
    -------
    ring_base : In(address_bits)
        Address of the ring; must not change while there are jobs.
    ring_size_log2 : In(5)
        Logarithm of the number of its descriptors, likewise.
    tail : In(16)
        Index behind the last descriptor that is ready.
    enable : In(1)
        Jobs may be started in this cycle.
    head : Out(16)
        Index of the oldest job that is not complete.
    job_done : In(1)
        A job is complete, and all those before it: high for a cycle.
    job_index : In(16)
        Index behind that job; counts while ``job_done`` is high.
    fetch : Out(stream.Signature(run_layout(config, load_tag(config))))
        Reads of descriptors and programs.
    beat : In(beat_layout(config, load_tag(config)))
        A bus word that was read, for whomever its tag names; counts while ``beat_valid`` is high.
    beat_valid : In(1)
        There is one.
    refused : In(1)
        The reader has not begun the read of a descriptor: high for a cycle.
    query, key, value : Out(stream.Signature(job_layout(tensor_fields(...))))
        Every job, for the walkers of Q, K and V.
    mask, bias : Out(stream.Signature(job_layout(tensor_fields(...))))
        Jobs that have one.
    issue : Out(stream.Signature(job_layout(ISSUE_FIELDS)))
        Every job, for the issue walker.
    store : Out(stream.Signature(job_layout(tensor_fields("o"))))
        Jobs that write: of a chain only the last one.
    program_write : Out(1)
        A bus word of microwords is there.
    program_address : Out(beat_bits(config))
        Its number; counts while ``program_write`` is high.
    program_data : Out(bus_bits)
        The word, likewise.
    program_ii : Out(16)
        Microwords of the program; stays until another one is loaded.
    fixed_reference, spare_hold, values_in_keys : Out(1)
        Descriptor fields of the jobs under way, likewise; on machines that have them.
    program_load : Out(1)
        Another program will be written: high for a cycle.
    program_start : Out(1)
        It is complete, and its header is right: high for a cycle.
    fault : Out(1)
        The dispatcher has stopped: high for a cycle.
    fault_cause : Out(Cause)
        Why; counts while ``fault`` is high.
    fault_address : Out(address_bits)
        Address of what is wrong, likewise.
    fault_job : Out(16)
        Index of the job, likewise.
    """

    def __init__(self, config: Config):
        self.config = config
        self._tag = load_tag(config)
        self._jobs = {
            "query": job_layout(tensor_fields("q")),
            "key": job_layout(tensor_fields("k")),
            "value": job_layout(tensor_fields("v")),
            "mask": job_layout(tensor_fields("m")),
            "bias": job_layout(tensor_fields("b")),
            "issue": job_layout(ISSUE_FIELDS),
            "store": job_layout(tensor_fields("o")),
        }
        super().__init__(
            {
                "ring_base": In(config.address_bits),
                "ring_size_log2": In(5),
                "tail": In(16),
                "enable": In(1),
                "head": Out(16),
                "job_done": In(1),
                "job_index": In(16),
                "fetch": Out(stream.Signature(run_layout(config, self._tag))),
                "beat": In(beat_layout(config, self._tag)),
                "beat_valid": In(1),
                "refused": In(1),
                **{name: Out(stream.Signature(layout)) for name, layout in self._jobs.items()},
                "program_write": Out(1),
                "program_address": Out(beat_bits(config)),
                "program_data": Out(config.bus_bits),
                "program_ii": Out(16),
                **dict.fromkeys(array_flags(config), Out(1)),
                "program_load": Out(1),
                "program_start": Out(1),
                "fault": Out(1),
                "fault_cause": Out(Cause),
                "fault_address": Out(config.address_bits),
                "fault_job": Out(16),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        job = JobRegisters()
        m.submodules.check = check = DescriptorCheck(self.config)
        m.d.comb += check.descriptor.eq(job.descriptor)
        with m.If(self.job_done):
            m.d.sync += self.head.eq(self.job_index)
        read = self._receive_descriptor(m, job)
        same, fits = self._compare(m, job, check)
        program = self._receive_program(m, job)
        push, room = self._fill_queues(m, job)
        alone = self._report_program(m, job, program)
        self._walk_through_states(m, job, read, program, same, fits, push, room, alone)
        return m

    def _receive_descriptor(self, m: Module, job: JobRegisters) -> DescriptorRead:
        """Put the words of the descriptor together, and keep the number of the first one that could not be read."""
        config = self.config
        words = ceil_div(DESCRIPTOR_BYTES, config.bus_bytes)
        is_descriptor = self.beat_valid & (self.beat.tag.kind == LoadKind.DESCRIPTOR)
        unreadable, unreadable_word = Signal(), Signal(range(words)) if words > 1 else Signal(1)
        flat = job.descriptor.as_value()
        with m.If(is_descriptor):
            for index in range(words):
                part = flat[index * config.bus_bits : (index + 1) * config.bus_bits]
                with m.If(self.beat.index == index):
                    m.d.sync += part.eq(self.beat.data)
            with m.If(self.beat.error & ~unreadable):
                m.d.sync += [unreadable.eq(1), unreadable_word.eq(self.beat.index)]
        address = Signal(config.address_bits)
        mask = ((1 << self.ring_size_log2) - 1)[:16]
        m.d.comb += address.eq(self.ring_base + ((job.next_index & mask) << exact_log2(DESCRIPTOR_STRIDE_BYTES)))
        return DescriptorRead(address, words, is_descriptor & self.beat.last, unreadable, unreadable_word)

    def _compare(self, m: Module, job: JobRegisters, check: DescriptorCheck) -> tuple[Signal, ValueLike]:
        """Compare with what the machine is set to, and with the job before in a chain; beside the check, into registers."""
        descriptor = job.descriptor
        same = Signal()
        follows, stays = Signal(), Signal()
        m.d.sync += [
            same.eq(job.loaded & Cat(descriptor[name] == value for name, value in job.settings.items()).all()),
            stays.eq(Cat(descriptor[name] == value for name, value in job.chain.items()).all()),
            follows.eq(descriptor.continued == job.chained),
        ]
        return same, check.fits & follows & (~descriptor.continued | (stays & same))

    def _receive_program(self, m: Module, job: JobRegisters) -> ProgramRead:
        """Compare the program's header with the descriptor, and hand the microwords behind it to the program store."""
        config, settings = self.config, job.settings
        header_bytes = max(HEADER.size // 8, config.bus_bytes)
        header_words = header_bytes // config.bus_bytes
        header = Signal(HEADER)
        is_program = self.beat_valid & (self.beat.tag.kind == LoadKind.PROGRAM)
        is_header = is_program & (self.beat.index < header_words)
        header_last, header_known, header_right, program_last = Signal(), Signal(), Signal(), Signal()
        program_from, program_job = Signal(config.address_bits), Signal(16)
        if header_words > 1:
            with m.If(is_header):
                m.d.sync += header.eq(Cat(header.as_value()[config.bus_bits :], self.beat.data))
        else:
            with m.If(is_header):
                m.d.sync += header.eq(self.beat.data[-HEADER.size :])
        expected = {"magic": PROGRAM_MAGIC, "version": PROGRAM_VERSION, "tag": settings["program_tag"]}
        expected |= {name: settings[name] for name in ("ii", "e", "f")}
        m.d.sync += [
            header_last.eq(is_program & (self.beat.index == header_words - 1)),
            header_known.eq(header_last),
            header_right.eq(Cat(header[name] == value for name, value in expected.items()).all()),
            self.program_write.eq(is_program & ~is_header),
            self.program_address.eq(self.beat.index - header_words),
            self.program_data.eq(self.beat.data),
            program_last.eq(is_program & self.beat.last),
            program_from.eq(job.descriptor.program_address - header_bytes),
        ]
        m.d.comb += [self.program_start.eq(program_last & header_right), self.program_ii.eq(settings["ii"])]
        m.d.comb += [getattr(self, name).eq(settings[name]) for name in array_flags(config)]
        return ProgramRead(program_from, program_job, header_words, header_known & ~header_right)

    def _fill_queues(self, m: Module, job: JobRegisters) -> tuple[Signal, ValueLike]:
        """Queue the job for every walker; returns the signal that says when, and whether there is room in all queues."""
        descriptor, queues = job.descriptor, []
        push = Signal()
        concerned = {"store": ~descriptor.continues, "mask": descriptor.bit_mask, "bias": descriptor.bias}
        if self.config.values_in_keys:
            concerned["value"] = ~descriptor.values_in_keys
        for name, layout in self._jobs.items():
            queue = SyncFIFOBuffered(width=layout.size, depth=QUEUE_DEPTHS[name])
            m.submodules[f"{name}_jobs"] = queue
            entry = Signal(layout, name=f"{name}_entry")
            others = {"restart": job.restart, "ring_index": job.next_index + 1}
            for field in layout.members:
                m.d.comb += entry[field].eq(others[field] if field in others else descriptor[field])
            port = getattr(self, name)
            m.d.comb += [
                queue.w_data.eq(entry),
                queue.w_en.eq(push & concerned.get(name, 1)),
                port.payload.eq(data.View(layout, queue.r_data)),
                port.valid.eq(queue.r_rdy),
                queue.r_en.eq(port.ready),
            ]
            queues.append(queue)
        return push, Cat(queue.w_rdy for queue in queues).all()

    def _report_program(self, m: Module, job: JobRegisters, program: ProgramRead) -> Signal:
        """Report a program that is not the descriptor's; returns whether all jobs before this one are complete."""
        alone = Signal()
        m.d.sync += [
            alone.eq(self.head == Mux(job.chained, job.chain_start, job.next_index)),
            self.fault.eq(0),
        ]
        with m.If(program.wrong):
            m.d.sync += [
                self.fault.eq(1),
                self.fault_cause.eq(Cause.PROGRAM),
                self.fault_address.eq(program.address),
                self.fault_job.eq(program.job),
            ]
        return alone

    def _walk_through_states(
        self,
        m: Module,
        job: JobRegisters,
        read: DescriptorRead,
        program: ProgramRead,
        same: Signal,
        fits: ValueLike,
        push: Signal,
        room: ValueLike,
        alone: Signal,
    ) -> None:
        """Read and check a descriptor, perhaps drain the machine and read a program, dispatch the job; or stop with a fault."""
        config, descriptor, next_index = self.config, job.descriptor, job.next_index
        word_log2 = exact_log2(config.bus_bytes)
        cause = Signal(Cause)
        run = self.fetch.payload
        settling = Signal(range(DescriptorCheck.latency + 1))
        with m.FSM():
            with m.State("IDLE"), m.If(self.enable & (next_index != self.tail)):
                m.d.sync += self.fetch.valid.eq(1)
                m.next = "FETCH"
            with m.State("FETCH"):
                m.d.comb += [
                    run.address.eq(read.address),
                    run.beats.eq(read.words),
                    run.tag.kind.eq(LoadKind.DESCRIPTOR),
                ]
                m.d.sync += read.unreadable.eq(0)
                with m.If(self.fetch.ready):
                    m.d.sync += self.fetch.valid.eq(0)
                    m.next = "RECEIVE"
            with m.State("RECEIVE"):
                m.d.sync += settling.eq(DescriptorCheck.latency - 1)
                with m.If(read.complete):
                    m.next = "SETTLE"
                with m.Elif(self.refused):
                    m.d.sync += cause.eq(Cause.WINDOW)
                    m.next = "FAULT"
            with m.State("SETTLE"):
                m.d.sync += settling.eq(settling - 1)
                with m.If(settling == 0):
                    m.next = "CHECK"
            with m.State("CHECK"):
                m.d.sync += [job.restart.eq(0), cause.eq(Mux(read.unreadable, Cause.READ, Cause.DESCRIPTOR))]
                with m.If(read.unreadable | ~fits):
                    m.next = "FAULT"
                with m.Elif(same):
                    m.next = "DISPATCH"
                with m.Else():
                    m.next = "DRAIN"
            with m.State("DRAIN"), m.If(self.enable & (self.head == next_index)):
                m.d.comb += self.program_load.eq(1)
                m.d.sync += [job.restart.eq(1), job.loaded.eq(1), program.job.eq(next_index), self.fetch.valid.eq(1)]
                m.d.sync += [value.eq(descriptor[name]) for name, value in job.settings.items()]
                m.next = "PROGRAM"
            with m.State("PROGRAM"):
                m.d.comb += [
                    run.address.eq(program.address),
                    run.beats.eq(((descriptor.ii * 4 + config.bus_bytes - 1) >> word_log2) + program.header_words),
                    run.tag.kind.eq(LoadKind.PROGRAM),
                ]
                with m.If(self.fetch.ready):
                    m.d.sync += self.fetch.valid.eq(0)
                    m.next = "DISPATCH"
            with m.State("DISPATCH"):
                m.d.comb += push.eq(room & self.enable)
                with m.If(push):
                    m.d.sync += [next_index.eq(next_index + 1), job.chained.eq(descriptor.continues)]
                    m.d.sync += [value.eq(descriptor[name]) for name, value in job.chain.items()]
                    with m.If(~descriptor.continued):
                        m.d.sync += job.chain_start.eq(next_index)
                    m.next = "IDLE"
            with m.State("FAULT"), m.If(alone & self.enable):
                m.d.sync += [
                    self.fault.eq(1),
                    self.fault_cause.eq(cause),
                    self.fault_address.eq(read.address | Mux(cause == Cause.READ, read.unreadable_word << word_log2, 0)),
                    self.fault_job.eq(next_index),
                ]
                m.next = "STOPPED"
            with m.State("STOPPED"):
                pass
