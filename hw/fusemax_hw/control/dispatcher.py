"""Dispatcher: fetches descriptors from the ring, programs when they change, and hands jobs to the walkers."""

from typing import Any

from amaranth.hdl import Cat, Module, Mux, Signal, unsigned
from amaranth.lib import data, stream, wiring
from amaranth.lib.fifo import SyncFIFOBuffered
from amaranth.lib.wiring import In, Out

from fusemax.spec import (
    DESCRIPTOR_BYTES,
    DESCRIPTOR_STRIDE_BYTES,
    PROGRAM_HEADER,
    PROGRAM_MAGIC,
    PROGRAM_VERSION,
    Cause,
    Config,
)

from ..bus.bursts import beat_bits, run_layout
from ..bus.reader import beat_layout
from .descriptor_check import DescriptorCheck
from .job import ISSUE_FIELDS, descriptor_layout, job_layout, tensor_fields
from .load_walker import LoadKind, load_tag

__all__ = ["Dispatcher"]

#: Jobs that wait in a walker's queue: loading runs ahead of issue, and issue of storing.
QUEUE_DEPTHS = {"query": 3, "key": 3, "value": 3, "issue": 5, "store": 7}
#: What of a job the machine is set to: another value finds the machine empty, and the program is read anew.
SETTINGS = ("program_tag", "ii", "e", "f", "query_slots", "output_slots", "float32_out", "state_out", "raw_out")
#: In what a job that continues another is as the other.
CHAIN = ("group_tiles", "last_queries", "share")
HEADER = data.StructLayout({field.name: unsigned(field.bits) for field in PROGRAM_HEADER.fields})


class Dispatcher(wiring.Component):
    """Reads the next descriptor while the walkers work; a job with another program, or with results of another size (the output
    buffers' slots are counted in rows), waits until the machine has drained.

    A program is read together with the header in front of it, and does not start if that is not what the descriptor says.
    What is wrong with a job is told when all jobs before it are complete.

    Members
    -------
    ring_base, ring_size_log2, tail : In
        The ring's registers.
    enable : In(1)
        Jobs may be started.
    head : Out(16)
        Index of the oldest job that is not complete.
    job_done, job_index : In
        A job is complete, and those before it; the index behind it.
    fetch : Out(stream)
        Reads of descriptors and programs.
    beat, beat_valid : In
        From the reader.
    refused : In(1)
        The reader has not begun the read of a descriptor.
    query, key, value, issue, store : Out(stream)
        Jobs for the walkers. Of a chain only the last job goes to ``store``.
    program_write, program_address, program_data, program_ii, program_load, program_start : Out
        To the program store.
    fault, fault_cause, fault_address, fault_job : Out
        The dispatcher stops: why, address of what is wrong, index of the job.
    """

    def __init__(self, config: Config):
        self.config = config
        self._tag = load_tag(config)
        self._jobs = {
            "query": job_layout(tensor_fields("q")),
            "key": job_layout(tensor_fields("k")),
            "value": job_layout(tensor_fields("v")),
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
        config = self.config
        word_log2 = (config.bus_bytes - 1).bit_length()
        layout = descriptor_layout()
        descriptor = Signal(layout)
        next_index = Signal(16)
        mask = ((1 << self.ring_size_log2) - 1)[:16]
        restart = Signal()
        m.submodules.check = check = DescriptorCheck(config)
        m.d.comb += check.descriptor.eq(descriptor)
        with m.If(self.job_done):
            m.d.sync += self.head.eq(self.job_index)

        # Descriptor.
        words = -(-DESCRIPTOR_BYTES // config.bus_bytes)
        is_descriptor = self.beat_valid & (self.beat.tag.kind == LoadKind.DESCRIPTOR)
        unreadable, unreadable_word = Signal(), Signal(range(words)) if words > 1 else Signal(1)
        flat = descriptor.as_value()
        with m.If(is_descriptor):
            for index in range(words):
                part = flat[index * config.bus_bits : (index + 1) * config.bus_bits]
                with m.If(self.beat.index == index):
                    m.d.sync += part.eq(self.beat.data)
            with m.If(self.beat.error & ~unreadable):
                m.d.sync += [unreadable.eq(1), unreadable_word.eq(self.beat.index)]
        address = Signal(config.address_bits)
        m.d.comb += address.eq(self.ring_base + ((next_index & mask) << (DESCRIPTOR_STRIDE_BYTES.bit_length() - 1)))

        # What the machine is set to, and the job before in a chain. Compared beside the check, into registers.
        loaded, same = Signal(), Signal()
        settings = {name: Signal(layout[name].shape, name=f"loaded_{name}") for name in SETTINGS}
        chained, chain = Signal(), {name: Signal(layout[name].shape, name=f"chain_{name}") for name in CHAIN}
        chain_start, follows, stays = Signal(16), Signal(), Signal()
        m.d.sync += [
            same.eq(loaded & Cat(descriptor[name] == value for name, value in settings.items()).all()),
            stays.eq(Cat(descriptor[name] == value for name, value in chain.items()).all()),
            follows.eq(descriptor.continued == chained),
        ]
        fits = check.fits & follows & (~descriptor.continued | (stays & same))

        # Program: header, then microwords.
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
            program_from.eq(descriptor.program_address - header_bytes),
        ]
        m.d.comb += [self.program_start.eq(program_last & header_right), self.program_ii.eq(settings["ii"])]

        # Queues of the walkers.
        queues = {}
        push = Signal()
        for name, job in self._jobs.items():
            queue = SyncFIFOBuffered(width=job.size, depth=QUEUE_DEPTHS[name])
            m.submodules[f"{name}_jobs"] = queue
            entry = Signal(job, name=f"{name}_entry")
            others = {"restart": restart, "ring_index": next_index + 1}
            for field in job.members:
                m.d.comb += entry[field].eq(others[field] if field in others else descriptor[field])
            port = getattr(self, name)
            m.d.comb += [
                queue.w_data.eq(entry),
                queue.w_en.eq(push & ~descriptor.continues if name == "store" else push),
                port.payload.eq(data.View(job, queue.r_data)),
                port.valid.eq(queue.r_rdy),
                queue.r_en.eq(port.ready),
            ]
            queues[name] = queue
        room = Cat(queue.w_rdy for queue in queues.values()).all()

        # What is wrong.
        cause, alone = Signal(Cause), Signal()
        m.d.sync += [
            alone.eq(self.head == Mux(chained, chain_start, next_index)),
            self.fault.eq(0),
        ]
        with m.If(header_known & ~header_right):
            m.d.sync += [
                self.fault.eq(1),
                self.fault_cause.eq(Cause.PROGRAM),
                self.fault_address.eq(program_from),
                self.fault_job.eq(program_job),
            ]

        run = self.fetch.payload
        settling = Signal(range(DescriptorCheck.latency + 1))
        with m.FSM():
            with m.State("IDLE"), m.If(self.enable & (next_index != self.tail)):
                m.d.sync += self.fetch.valid.eq(1)
                m.next = "FETCH"
            with m.State("FETCH"):
                m.d.comb += [
                    run.address.eq(address),
                    run.beats.eq(words),
                    run.tag.kind.eq(LoadKind.DESCRIPTOR),
                ]
                m.d.sync += unreadable.eq(0)
                with m.If(self.fetch.ready):
                    m.d.sync += self.fetch.valid.eq(0)
                    m.next = "RECEIVE"
            with m.State("RECEIVE"):
                m.d.sync += settling.eq(DescriptorCheck.latency - 1)
                with m.If(is_descriptor & self.beat.last):
                    m.next = "SETTLE"
                with m.Elif(self.refused):
                    m.d.sync += cause.eq(Cause.WINDOW)
                    m.next = "FAULT"
            with m.State("SETTLE"):
                m.d.sync += settling.eq(settling - 1)
                with m.If(settling == 0):
                    m.next = "CHECK"
            with m.State("CHECK"):
                m.d.sync += [restart.eq(0), cause.eq(Mux(unreadable, Cause.READ, Cause.DESCRIPTOR))]
                with m.If(unreadable | ~fits):
                    m.next = "FAULT"
                with m.Elif(same):
                    m.next = "DISPATCH"
                with m.Else():
                    m.next = "DRAIN"
            with m.State("DRAIN"), m.If(self.enable & (self.head == next_index)):
                m.d.comb += self.program_load.eq(1)
                m.d.sync += [restart.eq(1), loaded.eq(1), program_job.eq(next_index), self.fetch.valid.eq(1)]
                m.d.sync += [value.eq(descriptor[name]) for name, value in settings.items()]
                m.next = "PROGRAM"
            with m.State("PROGRAM"):
                m.d.comb += [
                    run.address.eq(program_from),
                    run.beats.eq(((descriptor.ii * 4 + config.bus_bytes - 1) >> word_log2) + header_words),
                    run.tag.kind.eq(LoadKind.PROGRAM),
                ]
                with m.If(self.fetch.ready):
                    m.d.sync += self.fetch.valid.eq(0)
                    m.next = "DISPATCH"
            with m.State("DISPATCH"):
                m.d.comb += push.eq(room & self.enable)
                with m.If(push):
                    m.d.sync += [next_index.eq(next_index + 1), chained.eq(descriptor.continues)]
                    m.d.sync += [value.eq(descriptor[name]) for name, value in chain.items()]
                    with m.If(~descriptor.continued):
                        m.d.sync += chain_start.eq(next_index)
                    m.next = "IDLE"
            with m.State("FAULT"), m.If(alone & self.enable):
                m.d.sync += [
                    self.fault.eq(1),
                    self.fault_cause.eq(cause),
                    self.fault_address.eq(address | Mux(cause == Cause.READ, unreadable_word << word_log2, 0)),
                    self.fault_job.eq(next_index),
                ]
                m.next = "STOPPED"
            with m.State("STOPPED"):
                pass
        return m
