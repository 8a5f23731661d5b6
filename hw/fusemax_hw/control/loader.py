"""Loader: from words read from memory to words for the banks."""

from typing import Any

from amaranth.hdl import C, Cat, Module, Mux, Signal, Value, unsigned
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from fusemax.spec import Config

from ..arith.query_scale import QueryScale
from ..bus.reader import beat_layout
from ..words import load_word, loaded_query
from .load_walker import LoadKind, load_tag

__all__ = ["Loader"]


class Loader(wiring.Component):
    """Sends K and V down the west edge and scaled Q along the north edge; looks for infinities and NaN.

    Members
    -------
    beat, beat_valid : In
        From the reader; descriptor and program words are not for the loader.
    key_value, query : Out
        To feeder 0 of either edge.
    query_loaded, key_loaded, value_loaded : Out(1)
        A tile's last word is in the banks (of feeder 0, and of the others before a microword reaches them).
    mask_loaded, bias_loaded : Out(1)
        Likewise a block's last word, of a mask or a bias.
    nonfinite, overflow : Out(1)
        An element is infinite or NaN; a scaled query is out of range.
    """

    def __init__(self, config: Config):
        self.config = config
        self._tag = load_tag(config)
        super().__init__(
            {
                "beat": In(beat_layout(config, self._tag)),
                "beat_valid": In(1),
                "key_value": Out(load_word(config, config.bus_bits, 2 * (config.key_beats + config.value_beats))),
                "query": Out(load_word(config, loaded_query(config).size, config.query_bank_words)),
                "query_loaded": Out(1),
                "key_loaded": Out(1),
                "value_loaded": Out(1),
                "mask_loaded": Out(1),
                "bias_loaded": Out(1),
                "nonfinite": Out(1),
                "overflow": Out(1),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        config, tag = self.config, self.beat.tag
        elements = data.View(data.ArrayLayout(unsigned(16), config.beat_elements), self.beat.data)
        is_key = self.beat_valid & (tag.kind == LoadKind.KEY)
        is_value = self.beat_valid & (tag.kind == LoadKind.VALUE)
        is_query = self.beat_valid & (tag.kind == LoadKind.QUERY)
        # The first word of a row that brings its own factor is that factor; elements begin with the second one.
        is_factor = is_query & tag.row_scale & (self.beat.index == 0)
        factor = Signal(32, reset_less=True)
        with m.If(is_factor):
            m.d.sync += factor.eq(self.beat.data)
        address = tag.base + self.beat.index - tag.row_scale
        exists = [~self.beat.last | (index < tag.tail) for index in range(config.beat_elements)]

        # K and V go as they are.
        bad = Cat((element[7:15] == 255) & there for element, there in zip(elements, exists, strict=True))
        nonfinite_key_value = Signal()
        m.d.sync += [
            self.key_value.valid.eq(is_key | is_value),
            self.key_value.skip.eq(tag.place),
            self.key_value.beat.eq(address),
            self.key_value.payload.eq(self.beat.data),
            self.key_loaded.eq(is_key & self.beat.last & tag.last),
            self.value_loaded.eq(is_value & self.beat.last & tag.last),
            nonfinite_key_value.eq((is_key | is_value) & bad.any()),
        ]

        # Q is scaled first, and so are biases; what belongs to the word is delayed as long, and so is what goes as it is.
        is_mask = self.beat_valid & (tag.kind == LoadKind.MASK)
        is_bias = self.beat_valid & (tag.kind == LoadKind.BIAS)
        results, bad_queries, overflows = [], [], []
        for index, element in enumerate(elements):
            m.submodules[f"scale_{index}"] = scale = QueryScale(config)
            m.d.comb += [scale.query.eq(element), scale.scale.eq(Mux(tag.row_scale, factor, tag.scale))]
            results.append(scale.scaled.as_value())
            bad_queries.append(scale.nonfinite)
            overflows.append(scale.overflow)
        latency = QueryScale.latency
        valid = self._delay(m, (is_query & ~is_factor) | is_mask | is_bias, latency)
        plain = self._delay(m, is_mask | (is_bias & tag.wide), latency)
        operands = self._delay(m, self._operands(is_mask), latency)
        there = self._delay(m, Cat(exists), latency)
        m.d.sync += [
            self.query.valid.eq(valid),
            self.query.skip.eq(self._delay(m, tag.place, latency)),
            self.query.beat.eq(self._delay(m, address[: len(self.query.beat)], latency)),
            self.query.payload.eq(Mux(plain, operands, Cat(results))),
            self.query_loaded.eq(self._delay(m, is_query & self.beat.last & tag.last, latency)),
            self.mask_loaded.eq(self._delay(m, is_mask & self.beat.last & tag.last, latency)),
            self.bias_loaded.eq(self._delay(m, is_bias & self.beat.last & tag.last, latency)),
            self.nonfinite.eq(nonfinite_key_value | (valid & ~plain & (Cat(bad_queries) & there).any())),
            self.overflow.eq(valid & ~plain & (Cat(overflows) & there).any()),
        ]
        return m

    def _operands(self, is_mask: Value) -> Value:
        """The word's elements of 32 bits as a bank's elements; those of a mask are perhaps of 16 bits."""
        word, bits = self.beat.data, self.config.mask_field_bits
        element_bits = loaded_query(self.config).elem_shape.size

        def spread(width: int) -> Value:
            elements = [word[start : start + min(width, element_bits)] for start in range(0, len(word), width)]
            return Cat(Cat(element, C(0, element_bits - len(element))) for element in elements)

        return spread(32) if bits == 32 else Mux(is_mask, spread(bits), spread(32))

    @staticmethod
    def _delay(m: Module, value: Any, cycles: int) -> Signal:
        """``value``, ``cycles`` cycles later."""
        for _ in range(cycles):
            delayed = Signal(len(value), reset_less=len(value) > 1)
            m.d.sync += delayed.eq(value)
            value = delayed
        return value
