"""Store engine: results from the lanes' output buffers to memory."""

from typing import Any

from amaranth.hdl import Cat, Module, Mux, Signal, unsigned
from amaranth.lib import stream, wiring
from amaranth.lib.fifo import SyncFIFOBuffered
from amaranth.lib.wiring import In, Out

from fusemax.spec import Config, Timing

from ..bus.bursts import run_layout
from ..bus.writer import write_tag
from ..words import store_word
from .job import STORE_FIELDS, group_tiles, job_layout, nest

__all__ = ["Store"]


class Store(wiring.Component):
    """Walks ``for batch: for head: for group: for query tile: for query`` and writes one output row after the other.

    A row's words are asked for with requests that pass the lanes, one a cycle, each with a place reserved in the queue that
    takes the answer.

    Members
    -------
    jobs : In(stream.Signature(job_layout(STORE_FIELDS)))
    results_issued : In(1)
        The last SLNV of a query tile is at the corner; its results can be asked for ``Timing.corner_to_output`` cycles later.
    output_freed : Out(1)
        A query tile's output rows have been asked for: their buffers are free.
    request : Out(store_word(config))
        To lane 0.
    answer : In(store_word(config))
        From the last lane.
    runs, data : Out
        To the writer.
    """

    def __init__(self, config: Config):
        self.config = config
        self._job = job_layout(STORE_FIELDS)
        super().__init__(
            {
                "jobs": In(stream.Signature(self._job)),
                "results_issued": In(1),
                "output_freed": Out(1),
                "request": Out(store_word(config)),
                "answer": In(store_word(config)),
                "runs": Out(stream.Signature(run_layout(config, write_tag(config)))),
                "data": Out(stream.Signature(config.bus_bits)),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        config = self.config
        job = Signal(self._job)
        running = Signal()

        # Query tiles whose results are in the output buffers.
        history = Signal(Timing(config).corner_to_output)
        ready_tiles, taken = Signal(16), Signal()
        m.d.sync += [
            history.eq((history << 1) | self.results_issued),
            ready_tiles.eq(ready_tiles + history[-1] - taken),
        ]

        # Loops.
        column, tile, group, head, batch = Signal(8), Signal(16), Signal(32), Signal(16), Signal(16)
        beat, beats, tail_bytes = Signal(9), Signal(9), Signal(config.bus_bytes.bit_length())
        group_last = group == job.groups - 1
        tile_last = tile == group_tiles(job, group) - 1
        queries = Mux(tile_last & group_last, job.last_queries, config.columns)
        request = Signal()
        loops = [
            (beat, beat == beats - 1),
            (column, column == queries - 1),
            (tile, tile_last),
            (group, group_last),
            (head, head == job.heads - 1),
            (batch, batch == job.batch - 1),
        ]
        row_end, tile_end, _, head_end, batch_end, job_end = nest(m, request, loops)
        row_start = beat == 0
        row_last = Cat(last for _, last in loops[1:]).all()

        # A request is made when its answer has room; the row's run goes to the writer with its first request, since a row may
        # have more words than the queue.
        depth = min(64, 1 << (config.columns + 8 - 1).bit_length())
        m.submodules.queue = queue = SyncFIFOBuffered(width=config.bus_bits, depth=depth)
        reserved = Signal(range(depth + 1))
        popped = Signal()
        wanted = running & (ready_tiles != 0) & (reserved != depth)
        m.d.comb += [
            request.eq(wanted & (~row_start | self.runs.ready)),
            self.runs.valid.eq(wanted & row_start),
            queue.w_data.eq(self.answer.payload),
            queue.w_en.eq(self.answer.valid),
            self.data.valid.eq(queue.r_rdy),
            self.data.payload.eq(queue.r_data),
            queue.r_en.eq(self.data.ready),
            popped.eq(self.data.valid & self.data.ready),
            taken.eq(request & tile_end),
        ]
        m.d.sync += [reserved.eq(reserved + request - popped), self.output_freed.eq(taken)]

        # Place in the output buffers: rows of a tile stand at the same place in every lane.
        output, tile_output = Signal.like(self.request.output), Signal.like(self.request.output)
        next_output = Mux(output == config.output_beats - 1, 0, output + 1)
        with m.If(request):
            m.d.sync += output.eq(next_output)
            with m.If(tile_end):
                m.d.sync += tile_output.eq(next_output)
            with m.Elif(row_end):
                m.d.sync += output.eq(tile_output)
        m.d.sync += [
            self.request.valid.eq(request),
            self.request.skip.eq(column),
            self.request.output.eq(output),
        ]

        # Place in memory.
        address, head_base, batch_base = (Signal(config.address_bits) for _ in range(3))
        next_head, next_batch = Signal.like(address), Signal.like(address)
        m.d.comb += [
            next_head.eq(head_base + job.o_head_stride),
            next_batch.eq(batch_base + job.o_batch_stride),
            self.runs.payload.address.eq(address),
            self.runs.payload.beats.eq(beats),
            self.runs.payload.tag.tail_bytes.eq(tail_bytes),
            self.runs.payload.tag.job_last.eq(row_last),
            self.runs.payload.tag.interrupt.eq(job.interrupt),
        ]
        with m.If(request):
            with m.If(batch_end):
                m.d.sync += [address.eq(next_batch), head_base.eq(next_batch), batch_base.eq(next_batch)]
            with m.Elif(head_end):
                m.d.sync += [address.eq(next_head), head_base.eq(next_head)]
            with m.Elif(row_end):
                m.d.sync += address.eq(address + job.o_row_stride)

        new = self.jobs.payload
        row_bytes, rest = Signal(18), Signal(unsigned((config.bus_bytes - 1).bit_length()))
        m.d.comb += [
            row_bytes.eq(Mux(new.float32_out, new.f << 2, new.f << 1)),
            rest.eq(row_bytes),
            self.jobs.ready.eq(~running),
        ]
        with m.If(request & job_end):
            m.d.sync += running.eq(0)
        with m.Elif(~running & self.jobs.valid):
            m.d.sync += [
                running.eq(1),
                job.eq(new),
                beats.eq((row_bytes + config.bus_bytes - 1) >> (config.bus_bytes - 1).bit_length()),
                tail_bytes.eq(Mux(rest == 0, config.bus_bytes, rest)),
                address.eq(new.o_address),
                head_base.eq(new.o_address),
                batch_base.eq(new.o_address),
            ]
        return m
