"""Lane: the one-dimensional processing element below a column."""

from typing import Any

from amaranth.hdl import Module, Mux, Signal, signed
from amaranth.lib import data, memory, wiring
from amaranth.lib.wiring import In, Out

from fusemax.arith.column_sum import NO_COARSE, STEP, unit_exponent
from fusemax.spec import Config, Timing

from ..arith.normalise import Normalise
from ..arith.output import Output
from ..arith.reciprocal import Reciprocal, one, reciprocal_word
from ..arith.state_add import StateAdd
from ..words import lane_word, partial_bus, reference_word, state_float, store_word
from .delay import DelayLine
from .output_buffer import OutputBuffer
from .reference import RunningReference

__all__ = ["Lane"]


class Lane(wiring.Component):
    """Reference, running sums and output of one column's queries (docs/explanation/microarchitecture.md, section 5).

    The partial value that belongs to a word is at the lane a cycle after the word: cycle T.

    * MAX: new reference at ``reference_out`` in cycle T + 2; its rescale distance serves SUM and SLNV of the same hold index
      from T + 3 on.
    * SUM, SLNV: state · 2^-distance + sum goes back to the state's address. Words with the same address are at least
      ``Timing.recurrence`` cycles apart.
    * SUM with ``last``: the reciprocal of the new denominator serves the SLNV of the same hold index that follow, the
      first of them a cycle later or more.
    * SUM with ``write``: the new denominator is put into the output buffer, beside the reference.
    * With ``fixed`` there is no reference: states are not rescaled, and SUM with ``write`` puts 0 beside the denominator.
    * SLNV with ``last``: the new numerator times that reciprocal, or with ``raw_out`` as it is, is put into the output buffer.

    Parameters
    ----------
    config : Config

    Members
    -------
    word : In(lane_word(config))
        A cycle before its partial value.
    word_out : Out(lane_word(config))
        For the next lane, a cycle after ``word``.
    partial : In(partial_bus(config))
    reference_out : Out(reference_word(config))
    overflow : Out(1)
        Strobe: a visible score of a tile left its range, or that of LIN.
    store, store_out
        The store engine's requests, a lane a cycle; see :class:`~fusemax_hw.lane.output_buffer.OutputBuffer`.

    Raises
    ------
    ValueError
        If a unit's latency is not the timetable's.
    """

    def __init__(self, config: Config):
        self._config = config
        self._timing = timing = Timing(config)
        for unit, cycles in (
            (RunningReference, timing.reference),
            (Normalise, timing.normalise),
            (StateAdd, timing.adder),
            (Reciprocal, timing.reciprocal),
            (Output, timing.output),
        ):
            if unit.latency != cycles:
                raise ValueError(f"latency of {unit.__name__} must be {cycles}, not {unit.latency}")
        super().__init__(
            {
                "word": In(lane_word(config)),
                "word_out": Out(lane_word(config)),
                "partial": In(partial_bus(config)),
                "reference_out": Out(reference_word(config)),
                "overflow": Out(1),
                "store": In(store_word(config)),
                "store_out": Out(store_word(config)),
            }
        )

    @property
    def module_name(self) -> str:
        return "fusemax_lane"

    @property
    def output_latency(self) -> int:
        """Cycles from a partial value (T) to the first request at ``store`` that reads the bus word it completes."""
        timing = self._timing
        return timing.normalise + timing.adder + timing.reciprocal + timing.output + OutputBuffer.latency

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config, timing = self._config, self._timing

        def later(value: Any, cycles: int, name: str) -> list[Any]:
            """``value`` after 0, 1, … ``cycles`` cycles."""
            delayed = [value]
            for cycle in range(1, cycles + 1):
                register = Signal.like(value, name=f"{name}_{cycle}")
                m.d.sync += register.eq(delayed[-1])
                delayed.append(register)
            return delayed

        # Cycle T: word and partial value are here.
        now = Signal(lane_word(config))
        m.d.sync += now.eq(self.word)
        m.d.comb += self.word_out.eq(now)

        # MAX.
        m.submodules.running_reference = running_reference = RunningReference(config)
        m.d.comb += [
            running_reference.word.eq(now),
            running_reference.partial.eq(self.partial),
            self.reference_out.eq(running_reference.reference),
        ]
        m.d.sync += self.overflow.eq((now.check if config.linear else now.max) & self.partial.overflow)

        # SUM, SLNV: normalise. The adder wants the rescale distance in the sum's exponent.
        add = timing.normalise  # cycles to the adder
        updated = add + timing.adder  # to the new state
        distance, latest = running_reference.distances[now.hold], running_reference.latest[now.hold]
        if config.linear:
            distance, latest = Mux(now.fixed, 0, distance), Mux(now.fixed, 0, latest)
        coarse = later(self.partial.coarse, timing.coarse_lead, "coarse")[-1]
        unit = Signal(signed(10))
        m.submodules.normalise = normalise = Normalise(config.sum_bits)
        m.d.comb += [
            unit.eq(coarse * STEP + distance + int(unit_exponent(config, NO_COARSE))),
            normalise.value.eq(self.partial.value),
            normalise.unit.eq(unit),
        ]

        # Read the state so that it is there, in a register, with the normalised sum; write the new one as soon as it is there.
        m.submodules.states = states = memory.Memory(shape=state_float(), depth=config.state_words, init=[])
        read, write = states.read_port(), states.write_port()
        m.submodules.state_add = state_add = StateAdd(config.sum_bits)
        old_state = Signal(state_float(), reset_less=True)
        m.d.sync += old_state.eq(read.data)
        used = later(now.sum | now.slnv, updated, "used")
        address = later(now.state, updated, "address")
        m.d.comb += [
            read.addr.eq(address[add - timing.state_read]),
            read.en.eq(used[add - timing.state_read]),
            state_add.state.eq(old_state),
            state_add.state_zero.eq(later(now.first, add, "first")[add]),
            state_add.addend.eq(normalise.normalised),
            state_add.distance.eq(later(distance, add, "distance")[add]),
            write.addr.eq(address[updated]),
            write.data.eq(state_add.result),
            write.en.eq(used[updated]),
        ]

        # Last key tile: the denominator's reciprocal; the numerators wait as long.
        divided = updated + timing.reciprocal
        m.submodules.reciprocal_unit = reciprocal = Reciprocal()
        m.submodules.numerators = numerators = DelayLine(state_float(), timing.reciprocal)
        m.d.comb += [
            reciprocal.denominator.eq(state_add.result),
            numerators.i.eq(state_add.result),
        ]
        places = ("hold", "raw_out", "float32_out", "element", "write", "output")
        m.submodules.places = place = DelayLine(data.StructLayout({name: now.shape()[name].shape for name in places}), divided)
        m.d.comb += [place.i[name].eq(now[name]) for name in places]

        reciprocals = Signal(data.ArrayLayout(reciprocal_word(), config.holds))
        is_denominator = later(now.sum & now.last, divided, "denominator")[divided]
        with m.If(is_denominator):
            m.d.sync += reciprocals[place.o.hold].eq(reciprocal.reciprocal)
        m.submodules.final_references = final_reference = DelayLine(signed(config.reference_bits), divided + timing.output)
        m.d.comb += final_reference.i.eq(latest)

        # Results.
        is_numerator = later(now.slnv & now.last, divided + timing.output, "numerator")[-1]
        is_state = later(is_denominator & place.o.write, timing.output, "state")[-1]
        m.submodules.output = output = Output()
        m.submodules.output_buffer = output_buffer = OutputBuffer(config)
        m.d.comb += [
            output.numerator.eq(numerators.o),
            output.reciprocal.eq(Mux(is_denominator | place.o.raw_out, one(), reciprocals[place.o.hold].as_value())),
            output.float32.eq(place.o.float32_out | is_denominator),
            output_buffer.result.valid.eq(is_numerator | is_state),
            output_buffer.result.bits.eq(output.result),
            output_buffer.result.state.eq(is_state),
            output_buffer.result.reference.eq(final_reference.o),
        ]
        for name in places[2:]:
            m.d.comb += output_buffer.result[name].eq(later(place.o[name], timing.output, name)[-1])
        m.d.comb += [
            output_buffer.store.eq(self.store),
            self.store_out.eq(output_buffer.store_out),
        ]
        return m
