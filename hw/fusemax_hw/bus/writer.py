"""AXI4 writes: runs of bus words and their data in, completions out, in order."""

from typing import Any

from amaranth.hdl import Module, Mux, Signal, unsigned
from amaranth.lib import data, stream, wiring
from amaranth.lib.fifo import SyncFIFOBuffered
from amaranth.lib.wiring import In, Out

from fusemax.spec import Config

from .axi import burst_layout, write_layout
from .bursts import BurstSplitter, run_layout
from .window import WindowStage

__all__ = ["Writer", "write_tag"]


def write_tag(config: Config) -> data.StructLayout:
    """What the writer knows of a run besides its place."""
    return data.StructLayout(
        {
            "tail_bytes": unsigned(config.bus_bytes.bit_length()),  #: bytes of the run's last word that are written
            "job_last": 1,  #: the job's last run
            "interrupt": 1,  #: the job wants an interrupt when it is done
            "ring_index": unsigned(16),  #: index behind the job
        }
    )


class Writer(wiring.Component):
    """Write runs of bus words, several bursts at a time.

    Runs are cut into bursts and joined with their data; responses are counted. Up to ``outstanding_writes`` bursts are under
    way.

    Members
    -------
    runs : In(stream.Signature(run_layout(config, write_tag(config))))
        What to write.
    data : In(stream.Signature(bus_bits))
        The words of the runs, in order.
    aw : Out(stream.Signature(burst_layout(config)))
        Write address channel.
    w : Out(stream.Signature(write_layout(config)))
        Write data channel; a burst's words are offered when its address was taken.
    b : In(stream.Signature(2))
        Write response channel.
    job_done : Out(1)
        The last response of a job has come: high for a cycle.
    job_interrupt : Out(1)
        It wants an interrupt; counts while ``job_done`` is high.
    job_index : Out(16)
        Ring index behind it, likewise.
    answered : Out(1)
        A response has come: high for a cycle.
    error : Out(1)
        A response tells an error: high for a cycle. No job is done any more.
    error_address : Out(address_bits)
        Address of its burst; counts while ``error`` is high.
    first, last : In(address_bits)
        First and last byte that may be written.
    refused : Out(1)
        A burst would have left that window: it was not begun, nor is any behind it. High for a cycle.
    refused_address : Out(address_bits)
        Its address; counts while ``refused`` is high.
    waiting_address : Out(address_bits)
        Address of the oldest burst that is not complete, if there is one.
    bytes_written : Out(bits of bus_bytes)
        Bytes that were strobed in this cycle.
    drain : In(1)
        Begin no further burst; words of those that were begun are sent without data and without strobes, since the memory
        waits for them. No job is done any more.
    idle : Out(1)
        No burst is offered or under way.
    """

    def __init__(self, config: Config):
        self.config = config
        self._tag = write_tag(config)
        super().__init__(
            {
                "runs": In(stream.Signature(run_layout(config, self._tag))),
                "data": In(stream.Signature(config.bus_bits)),
                "aw": Out(stream.Signature(burst_layout(config))),
                "w": Out(stream.Signature(write_layout(config))),
                "b": In(stream.Signature(unsigned(2))),
                "job_done": Out(1),
                "job_interrupt": Out(1),
                "job_index": Out(16),
                "answered": Out(1),
                "error": Out(1),
                "error_address": Out(config.address_bits),
                "first": In(config.address_bits),
                "last": In(config.address_bits, init=(1 << config.address_bits) - 1),  # pyright: ignore[reportCallIssue]
                "refused": Out(1),
                "refused_address": Out(config.address_bits),
                "waiting_address": Out(config.address_bits),
                "bytes_written": Out(config.bus_bytes.bit_length()),
                "drain": In(1),
                "idle": Out(1),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        config = self.config
        m.submodules.splitter = splitter = BurstSplitter(config, self._tag)
        m.submodules.window = window = WindowStage(config, self._tag)
        wiring.connect(m, wiring.flipped(self.runs), splitter.runs)
        wiring.connect(m, splitter.bursts, window.bursts)
        m.d.comb += [window.first.eq(self.first), window.last.eq(self.last)]
        bursts = window.checked

        burst = data.StructLayout({"length": unsigned(8), "last": 1, "tail_bytes": self._tag["tail_bytes"].shape})
        answer = data.StructLayout(
            {"address": unsigned(config.address_bits), "job_last": 1, "interrupt": 1, "ring_index": unsigned(16)}
        )
        m.submodules.lengths = lengths = SyncFIFOBuffered(width=burst.size, depth=config.outstanding_writes)
        m.submodules.answers = answers = SyncFIFOBuffered(width=answer.size, depth=config.outstanding_writes)
        new_burst, new_answer = Signal(burst), Signal(answer)
        # A burst that has been offered must be begun (AXI4, section A3.2.1). One that is refused stays where it is and holds up
        # those behind it, since the next data are its own.
        offered, may_begin, refused = Signal(), Signal(), Signal()
        job_last = bursts.payload.last & bursts.payload.tag.job_last
        m.d.comb += [
            new_burst.length.eq(bursts.payload.length),
            new_burst.last.eq(bursts.payload.last),
            new_burst.tail_bytes.eq(bursts.payload.tag.tail_bytes),
            new_answer.address.eq(bursts.payload.address),
            new_answer.job_last.eq(job_last),
            new_answer.interrupt.eq(bursts.payload.tag.interrupt),
            new_answer.ring_index.eq(bursts.payload.tag.ring_index),
            lengths.w_data.eq(new_burst),
            answers.w_data.eq(new_answer),
            may_begin.eq(lengths.w_rdy & answers.w_rdy & (offered | ~self.drain) & window.allowed),
            self.aw.valid.eq(bursts.valid & may_begin),
            self.aw.payload.address.eq(bursts.payload.address),
            self.aw.payload.length.eq(bursts.payload.length),
            bursts.ready.eq(self.aw.ready & may_begin),
            lengths.w_en.eq(bursts.valid & bursts.ready),
            answers.w_en.eq(bursts.valid & bursts.ready),
            self.idle.eq((answers.level == 0) & ~self.aw.valid),
        ]
        m.d.sync += [
            offered.eq(self.aw.valid & ~self.aw.ready),
            refused.eq(refused | (bursts.valid & ~window.allowed)),
            self.refused.eq(bursts.valid & ~window.allowed & ~refused),
            self.refused_address.eq(bursts.payload.address),
        ]

        # Data follows its address; a burst's length is known when its address has been accepted.
        current = data.View(burst, lengths.r_data)
        position = Signal(8)
        last = position == current.length
        tail = last & current.last
        moved, held, void, voided = Signal(), Signal(), Signal(), Signal()
        m.d.comb += [
            # A word that has been offered stays as it is.
            void.eq(self.drain & (voided | ~held)),
            self.w.valid.eq((self.data.valid | void) & lengths.r_rdy),
            self.w.payload.data.eq(Mux(void, 0, self.data.payload)),
            self.w.payload.last.eq(last),
            self.w.payload.strobe.eq(Mux(void, 0, Mux(tail, (1 << current.tail_bytes) - 1, (1 << config.bus_bytes) - 1))),
            self.data.ready.eq(self.w.ready & lengths.r_rdy & ~void),
            moved.eq(self.w.valid & self.w.ready),
            lengths.r_en.eq(moved & last),
            self.bytes_written.eq(Mux(moved & ~void, Mux(tail, current.tail_bytes, config.bus_bytes), 0)),
        ]
        m.d.sync += [held.eq(self.w.valid & ~self.w.ready), voided.eq(void)]
        with m.If(moved):
            m.d.sync += position.eq(Mux(last, 0, position + 1))

        oldest = data.View(answer, answers.r_data)
        answered, failed = Signal(), Signal()
        fails = answered & self.b.payload[1]
        m.d.comb += [
            self.b.ready.eq(answers.r_rdy),
            answered.eq(self.b.valid & self.b.ready),
            answers.r_en.eq(answered),
            self.waiting_address.eq(Mux(answers.r_rdy, oldest.address, bursts.payload.address)),
        ]
        m.d.sync += [
            self.job_done.eq(answered & oldest.job_last & ~fails & ~failed & ~self.drain),
            self.job_interrupt.eq(oldest.interrupt),
            self.job_index.eq(oldest.ring_index),
            self.answered.eq(answered),
            self.error.eq(fails),
            self.error_address.eq(oldest.address),
            failed.eq(failed | fails),
        ]
        return m
