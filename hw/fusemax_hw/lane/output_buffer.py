"""A lane's results on their way out: packed into bus words, kept, and sent along the lanes on request."""

from amaranth.hdl import Cat, Module, Mux, Signal, signed, unsigned
from amaranth.lib import data, memory, wiring
from amaranth.lib.wiring import In, Out

from fusemax.spec import Config

from ..words import lane_word, store_word

__all__ = ["OutputBuffer", "result_word"]


def result_word(config: Config) -> data.StructLayout:
    """A result and its place; the last four members are the :func:`~fusemax_hw.words.lane_word`'s.

    Reference and denominator need a bus of 64 bits or more.
    """
    lane = lane_word(config)
    return data.StructLayout(
        {
            "valid": 1,
            "bits": unsigned(32),  #: float32, or bfloat16 in the lower half
            "state": 1,  #: the denominator, which makes a bus word with the reference
            "reference": signed(config.reference_bits),
            **{name: lane[name].shape for name in ("float32_out", "element", "write", "output")},
        }
    )


class OutputBuffer(wiring.Component):
    """Packs results and answers the store engine.

    Results fill a bus word place by place; places that got none are zero. A word that is complete can be requested
    :attr:`latency` cycles after its last result.

    Parameters
    ----------
    config : Config

    Members
    -------
    result : In(result_word(config))
    store : In(store_word(config))
        Requests from the west. A request that is not ``done`` and whose ``skip`` is 0 is answered here.
    store_out : Out(store_word(config))
        To the east, a cycle later. ``skip`` of a ``done`` word means nothing.
    """

    #: Cycles from a word's last result to the first request that reads it: pack, write.
    latency = 2

    def __init__(self, config: Config):
        self._config = config
        super().__init__(
            {
                "result": In(result_word(config)),
                "store": In(store_word(config)),
                "store_out": Out(store_word(config)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config = self._config
        m.submodules.words = words = memory.Memory(shape=unsigned(config.bus_bits), depth=config.output_beats, init=[])
        write, read = words.write_port(), words.read_port()

        # Pack.
        result = self.result
        packed = Signal(data.ArrayLayout(16, config.beat_elements))
        begins = Signal(init=1)
        complete = Signal()
        address = Signal.like(result.output)
        m.d.sync += [
            complete.eq(result.valid & result.write),
            address.eq(result.output),
        ]
        with m.If(result.valid):
            m.d.sync += begins.eq(result.write)
            for place in range(config.beat_elements):
                wide = result.bits[16:] if place % 2 else result.bits[:16]
                with m.If(result.element == Mux(result.float32_out, place // 2, place)):
                    m.d.sync += packed[place].eq(Mux(result.float32_out, wide, result.bits[:16]))
                with m.Elif(begins):
                    m.d.sync += packed[place].eq(0)
            if config.beat_elements >= 4:
                with m.If(result.state):
                    reference = Signal(signed(32))
                    m.d.comb += reference.eq(result.reference)
                    m.d.sync += packed.eq(Cat(reference, result.bits))
        m.d.comb += [
            write.addr.eq(address),
            write.data.eq(packed),
            write.en.eq(complete),
        ]

        # Answer, or pass on.
        request = self.store
        here = Signal()
        answers = Signal()
        passing = Signal(store_word(config))
        m.d.comb += [
            here.eq(~request.done & (request.skip == 0)),
            read.addr.eq(request.output),
            read.en.eq(request.valid & here),
        ]
        m.d.sync += [
            answers.eq(here),
            passing.eq(request),
            passing.done.eq(request.done | here),
            passing.skip.eq(request.skip - 1),
        ]
        m.d.comb += [
            self.store_out.eq(passing),
            self.store_out.payload.eq(Mux(answers, read.data, passing.payload)),
        ]
        return m
