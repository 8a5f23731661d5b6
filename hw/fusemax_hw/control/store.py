"""Store engine: results from the lanes' output buffers to memory."""

from typing import Any

from amaranth.hdl import Module, Mux, Signal, unsigned
from amaranth.lib import stream, wiring
from amaranth.lib.fifo import SyncFIFOBuffered
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from fusemax.spec import Config, Timing, clog2

from ..bus.bursts import run_layout
from ..bus.writer import write_tag
from ..words import store_word
from .countdown import Countdown
from .job import job_layout, tensor_fields
from .shared_rows import shared_rows
from .tile_walker import TileWalker

__all__ = ["Store"]


class Store(wiring.Component):
    """Fetch the output rows from the lanes and write them in order.

    The loops are ``for batch: for head: for group: for query tile: for query``. A row's words are asked for with requests that
    pass the lanes, one a cycle, each with a place reserved in the queue that takes the answer.

    Members
    -------
    jobs : In(stream.Signature(job_layout(tensor_fields("o"))))
        Jobs that write.
    results_issued : In(1)
        The last SLNV of a query tile is at the corner: high for a cycle. Its results can be asked for
        ``Timing.corner_to_output`` cycles later.
    output_freed : Out(1)
        A query tile's output rows have been asked for: their buffers are free. High for a cycle.
    request : Out(store_word(config))
        To lane 0; its ``valid`` says when it counts.
    answer : In(store_word(config))
        From the last lane, likewise.
    runs : Out(stream.Signature(run_layout(config, write_tag(config))))
        Rows to write.
    data : Out(stream.Signature(bus_bits))
        Their words, in the same order.
    """

    def __init__(self, config: Config):
        self.config = config
        super().__init__(
            {
                "jobs": In(stream.Signature(job_layout(tensor_fields("o")))),
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
        m.submodules.tiles = tiles = TileWalker(config, "o")
        wiring.connect(m, wiring.flipped(self.jobs), tiles.jobs)

        # Query tiles whose results are in the output buffers.
        history = Signal(Timing(config).corner_to_output)
        ready_tiles, any_ready, taken = Signal(range(config.output_beats + 1)), Signal(), Signal()
        m.d.sync += [
            history.eq((history << 1) | self.results_issued),
            ready_tiles.eq(ready_tiles + history[-1] - taken),
            any_ready.eq(history[-1] | Mux(taken, ready_tiles > 1, ready_tiles != 0)),
        ]

        # Loops over a tile's columns and a row's bus words.
        next_tile = tiles.tiles.payload
        tile = Signal(next_tile.shape())
        running, row_start = Signal(), Signal()
        columns, beats = Countdown(m, 8, "columns"), Countdown(m, 9, "beats")
        column, row_beats, tail_bytes = Signal(8), Signal(9), Signal(config.bus_bytes.bit_length())
        request, take, row_end, tile_end = Signal(), Signal(), Signal(), Signal()
        row_bytes, rest = Signal(18), Signal(unsigned(exact_log2(config.bus_bytes)))
        new_beats = Signal(9)
        m.d.comb += [
            row_end.eq(beats.last),
            tile_end.eq(beats.last & columns.last),
            # Between rows, so that the tile walker does not wait for the writer in the same cycle.
            tiles.tiles.ready.eq(~running),
            take.eq(tiles.tiles.valid & tiles.tiles.ready),
            row_bytes.eq(Mux(next_tile.job.float32_out, next_tile.job.f << 2, next_tile.job.f << 1)),
            rest.eq(row_bytes),
            new_beats.eq(((row_bytes + config.bus_bytes - 1) >> exact_log2(config.bus_bytes)) + next_tile.job.state_out),
        ]
        with m.If(request):
            m.d.sync += row_start.eq(row_end)
            beats.step(row_beats - 1)
            with m.If(row_end):
                m.d.sync += column.eq(column + 1)
                columns.step(0)
            with m.If(tile_end):
                m.d.sync += running.eq(0)
        with m.If(take):
            m.d.sync += [
                running.eq(1),
                tile.eq(next_tile),
                row_start.eq(1),
                column.eq(0),
                row_beats.eq(new_beats),
                tail_bytes.eq(Mux(rest == 0, config.bus_bytes, rest)),
            ]
            columns.start(next_tile.rows)
            beats.start(new_beats - 1)

        # A request is made when its answer has room; the row's run goes to the writer with its first request, since a row may
        # have more words than the queue.
        depth = 1 << clog2(config.columns + 8)
        m.submodules.queue = queue = SyncFIFOBuffered(width=config.bus_bits, depth=depth)
        places, any_place = Signal(range(depth + 1), init=depth), Signal(init=1)
        popped, wanted = Signal(), Signal()
        m.d.comb += [
            wanted.eq(running & any_ready & any_place),
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
        m.d.sync += [
            places.eq(places - request + popped),
            any_place.eq(popped | Mux(request, places > 1, places != 0)),
            self.output_freed.eq(taken),
        ]

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
        address = shared_rows(m, tile.job, next_tile, "o", request & row_end, take & next_tile.jump)
        m.d.comb += [
            self.runs.payload.address.eq(address),
            self.runs.payload.beats.eq(row_beats),
            self.runs.payload.tag.tail_bytes.eq(tail_bytes),
            self.runs.payload.tag.job_last.eq(columns.last & tile.job_end),
            self.runs.payload.tag.interrupt.eq(tile.job.interrupt),
            self.runs.payload.tag.ring_index.eq(tile.job.ring_index),
        ]
        return m
