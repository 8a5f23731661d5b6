"""The wavefront machine: PEs, feeders, lanes, and the words that pass them."""

from typing import Any

from amaranth.hdl import Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from fusemax.spec import Config, Timing

from ..lane.lane import Lane
from ..shared_modules import instantiate
from ..words import lane_word, load_word, loaded_query, north_word, store_word, west_word
from .grid import Grid
from .halves import Chain
from .north_feeder import NorthFeeder
from .ring_delay import RingDelay
from .west_feeder import WestFeeder

__all__ = ["Array"]


class Array(wiring.Component):
    """``rows`` × ``columns`` PEs with their feeders and lanes; no state machine anywhere.

    A word is at the corner on ``west``, ``north`` and ``lane`` in the same cycle. On its way to the first lane, the lane
    word waits in one memory, since a register beside every west feeder would cost ``rows`` times its width.

    Parameters
    ----------
    config : Config
        Machine.

    Members
    -------
    west, north, lane : west_word, north_word, lane_word
        The corner.
    key_value_load, query_load : load_word
        Bus words for the west feeders' and scaled elements for the north feeders' banks.
    store, store_out : store_word
        Requests for output words at the first lane; answered behind the last.
    overflow : Out(1)
        A lane has seen an overflow; for a cycle.
    """

    def __init__(self, config: Config):
        self.config = config
        super().__init__(
            {
                "west": In(west_word(config)),
                "north": In(north_word(config)),
                "lane": In(lane_word(config)),
                "key_value_load": In(load_word(config, config.bus_bits, 2 * (config.key_beats + config.value_beats))),
                "query_load": In(load_word(config, loaded_query(config).size, config.query_bank_words)),
                "store": In(store_word(config)),
                "store_out": Out(store_word(config)),
                "overflow": Out(1),
            }
        )

    @property
    def lane_delay(self) -> int:
        """Cycles from the corner until a lane word is at the first lane: one less than its partial value takes."""
        return Timing(self.config).feeder + self.config.rows + self.config.pe_latency - 1 - 1

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        config = self.config
        feeder_chain = {"word": "word_out", "load": "load_out"}
        west_edge = instantiate(m, "west_edge", Chain(WestFeeder, config, config.rows, feeder_chain), platform)
        north_edge = instantiate(m, "north_edge", Chain(NorthFeeder, config, config.columns, feeder_chain), platform)
        grid = instantiate(m, "grid", Grid(config, config.rows, config.columns), platform)
        lanes = instantiate(
            m, "lanes", Chain(Lane, config, config.columns, {"word": "word_out", "store": "store_out"}), platform
        )
        valid = frozenset({"max", "sum", "slnv"})
        m.submodules.lane_delay = lane_delay = RingDelay(lane_word(config), self.lane_delay, valid)

        overflow = Signal()
        m.d.sync += overflow.eq(lanes.overflow.any())
        m.d.comb += [
            west_edge.word.eq(self.west),
            west_edge.load.eq(self.key_value_load),
            north_edge.word.eq(self.north),
            north_edge.load.eq(self.query_load),
            north_edge.reference_in.eq(lanes.reference_out),
            grid.west.eq(west_edge.bus),
            grid.north.eq(north_edge.bus),
            grid.partial.eq(0),
            lane_delay.word.eq(self.lane),
            lanes.word.eq(lane_delay.word_out),
            lanes.partial.eq(grid.partial_out),
            lanes.store.eq(self.store),
            self.store_out.eq(lanes.store_out),
            self.overflow.eq(overflow),
        ]
        return m
