"""Dispatcher: fetches descriptors from the ring, programs when they change, and hands jobs to the walkers."""

from typing import Any

from amaranth.hdl import Cat, Module, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.fifo import SyncFIFOBuffered
from amaranth.lib.wiring import In, Out

from fusemax.spec import DESCRIPTOR_BYTES, DESCRIPTOR_MAGIC, DESCRIPTOR_STRIDE_BYTES, Config

from ..bus.bursts import run_layout
from ..bus.reader import beat_layout
from .job import ISSUE_FIELDS, descriptor_layout, job_layout, tensor_fields
from .load_walker import LoadKind, load_tag

__all__ = ["Dispatcher"]

#: Jobs that wait in a walker's queue: loading runs ahead of issue, and issue of storing.
QUEUE_DEPTHS = {"query": 3, "key": 3, "value": 3, "issue": 5, "store": 7}


class Dispatcher(wiring.Component):
    """Reads the next descriptor while the walkers work; a job with another program, or with results of another size (the output
    buffers' slots are counted in rows), waits until the machine has drained.

    Members
    -------
    ring_base, ring_size_log2, tail : In
        The ring's registers.
    enable : In(1)
        Jobs may be started.
    head : Out(16)
        Index of the oldest job that is not complete.
    job_done : In(1)
        A job is complete.
    fetch : Out(stream)
        Reads of descriptors and programs.
    beat, beat_valid : In
        From the reader.
    query, key, value, issue, store : Out(stream)
        Jobs for the walkers.
    program_write, program_address, program_data, program_ii, program_load, program_start : Out
        To the program store.
    bad, bad_address : Out
        A descriptor was refused; the dispatcher stops. Address of the descriptor.
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
                "fetch": Out(stream.Signature(run_layout(config, self._tag))),
                "beat": In(beat_layout(config, self._tag)),
                "beat_valid": In(1),
                **{name: Out(stream.Signature(layout)) for name, layout in self._jobs.items()},
                "program_write": Out(1),
                "program_address": Out(9),
                "program_data": Out(config.bus_bits),
                "program_ii": Out(16),
                "program_load": Out(1),
                "program_start": Out(1),
                "bad": Out(1),
                "bad_address": Out(config.address_bits),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        config = self.config
        layout = descriptor_layout()
        descriptor = Signal(layout)
        next_index = Signal(16)
        address = Signal(config.address_bits)
        mask = ((1 << self.ring_size_log2) - 1)[:16]
        loaded_tag, loaded_float32_out, loaded = Signal(32), Signal(), Signal()
        loaded_ii = Signal.like(self.program_ii)
        restart = Signal()

        # Descriptor and program words.
        words = -(-DESCRIPTOR_BYTES // config.bus_bytes)
        is_descriptor = self.beat_valid & (self.beat.tag.kind == LoadKind.DESCRIPTOR)
        is_program = self.beat_valid & (self.beat.tag.kind == LoadKind.PROGRAM)
        flat = descriptor.as_value()
        with m.If(is_descriptor):
            for index in range(words):
                part = flat[index * config.bus_bits : (index + 1) * config.bus_bits]
                with m.If(self.beat.index == index):
                    m.d.sync += part.eq(self.beat.data)
        m.d.sync += [
            self.program_write.eq(is_program),
            self.program_address.eq(self.beat.index),
            self.program_data.eq(self.beat.data),
            self.program_start.eq(is_program & self.beat.last),
        ]

        fits = Cat(
            descriptor.magic == DESCRIPTOR_MAGIC,
            (descriptor.ii != 0) & (descriptor.ii <= config.program_words),
            (descriptor.e != 0) & (descriptor.e <= config.max_e),
            (descriptor.f != 0) & (descriptor.f <= config.max_f),
            descriptor.heads != 0,
            descriptor.batch != 0,
            descriptor.key_tiles != 0,
            (descriptor.last_keys != 0) & (descriptor.last_keys <= config.rows),
            (descriptor.last_queries != 0) & (descriptor.last_queries <= config.columns),
            (descriptor.large_groups != 0) & (descriptor.large_groups <= descriptor.groups),
            # Groups that are not large have a tile less, but not none.
            (descriptor.group_tiles > 1) | ((descriptor.group_tiles == 1) & (descriptor.large_groups == descriptor.groups)),
            (descriptor.query_slots >= descriptor.group_tiles) & (descriptor.query_slots <= config.query_bank_beats),
            (descriptor.output_slots != 0) & (descriptor.output_slots <= config.output_beats),
        ).all()

        # Queues of the walkers.
        queues = {}
        push = Signal()
        for name, job in self._jobs.items():
            queue = SyncFIFOBuffered(width=job.size, depth=QUEUE_DEPTHS[name])
            m.submodules[f"{name}_jobs"] = queue
            entry = Signal(job, name=f"{name}_entry")
            for field in job.members:
                m.d.comb += entry[field].eq(restart if field == "restart" else descriptor[field])
            port = getattr(self, name)
            m.d.comb += [
                queue.w_data.eq(entry),
                queue.w_en.eq(push),
                port.payload.eq(data.View(job, queue.r_data)),
                port.valid.eq(queue.r_rdy),
                queue.r_en.eq(port.ready),
            ]
            queues[name] = queue
        room = Cat(queue.w_rdy for queue in queues.values()).all()
        with m.If(self.job_done):
            m.d.sync += self.head.eq(self.head + 1)

        run = self.fetch.payload
        m.d.comb += [
            address.eq(self.ring_base + ((next_index & mask) << (DESCRIPTOR_STRIDE_BYTES.bit_length() - 1))),
            self.bad_address.eq(address),
            self.program_ii.eq(loaded_ii),
        ]
        with m.FSM():
            with m.State("IDLE"), m.If(self.enable & (next_index != self.tail)):
                m.next = "FETCH"
            with m.State("FETCH"):
                m.d.comb += [
                    self.fetch.valid.eq(1),
                    run.address.eq(address),
                    run.beats.eq(words),
                    run.tag.kind.eq(LoadKind.DESCRIPTOR),
                ]
                with m.If(self.fetch.ready):
                    m.next = "RECEIVE"
            with m.State("RECEIVE"), m.If(is_descriptor & self.beat.last):
                m.next = "CHECK"
            with m.State("CHECK"):
                m.d.sync += restart.eq(0)
                with m.If(~fits):
                    m.d.comb += self.bad.eq(1)
                    m.next = "STOPPED"
                with m.Elif(loaded & (descriptor.program_tag == loaded_tag) & (descriptor.float32_out == loaded_float32_out)):
                    m.next = "DISPATCH"
                with m.Else():
                    m.next = "DRAIN"
            with m.State("DRAIN"), m.If(self.enable & (self.head == next_index)):
                m.d.comb += self.program_load.eq(1)
                m.d.sync += [
                    restart.eq(1),
                    loaded.eq(1),
                    loaded_tag.eq(descriptor.program_tag),
                    loaded_float32_out.eq(descriptor.float32_out),
                    loaded_ii.eq(descriptor.ii),
                ]
                m.next = "PROGRAM"
            with m.State("PROGRAM"):
                m.d.comb += [
                    self.fetch.valid.eq(1),
                    run.address.eq(descriptor.program_address),
                    run.beats.eq((descriptor.ii * 4 + config.bus_bytes - 1) >> (config.bus_bytes - 1).bit_length()),
                    run.tag.kind.eq(LoadKind.PROGRAM),
                ]
                with m.If(self.fetch.ready):
                    m.next = "DISPATCH"
            with m.State("DISPATCH"):
                m.d.comb += push.eq(room & self.enable)
                with m.If(push):
                    m.d.sync += next_index.eq(next_index + 1)
                    m.next = "IDLE"
            with m.State("STOPPED"):
                pass
        return m
