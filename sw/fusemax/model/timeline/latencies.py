"""Every delay of the machine's control that the cycle model uses, and where in the hardware it comes from.

The delays of the datapath come from :class:`fusemax.spec.Timing`; these are the registers between the blocks. Simulations of
the Verilog must give the same counters to the cycle (tests/cosim/test_cycles.py), so none of them can be off unseen.
"""

from __future__ import annotations

from dataclasses import dataclass

from ...spec import DESCRIPTOR_BYTES, Config, Timing, ceil_div, clog2

__all__ = ["Latencies"]


@dataclass(frozen=True)
class Latencies:
    """Cycles from an event to the first cycle in which what follows it can happen."""

    config: Config

    #: Doorbell seen, or job handed out, to the fetch of the next descriptor: a state of the dispatcher.
    fetch: int = 1
    #: Descriptor's last word taken to its hand-out, or to the wait for an empty machine: word, descriptor, sizes of its rows,
    #: checked, next state.
    descriptor: int = 5
    #: Empty machine found to the fetch of the program.
    program: int = 1
    #: Program fetch granted to the job's hand-out.
    dispatch: int = 1
    #: Program's last word taken to its first microword: word, write, start, memory, word.
    first_word: int = 5
    #: Job handed out to a walker that is idle taking it: through the queue.
    job: int = 2
    #: Job taken, or a tile, to the tile walker's next offer: loops, comparisons.
    offer: int = 2
    #: Job taken, or a tile offered or left out, until the issue walker can offer or leave out the next one.
    issue_tile: int = 5
    #: Last row of a tile granted or asked for until the next tile is taken; tile taken to the request of its first row.
    next_tile: int = 1
    first_row: int = 1
    #: The same of rows of mask bits and biases, and from one of a tile to the next: addresses are added up.
    first_pair: int = 2
    next_pair: int = 2
    #: Row granted by the arbiter to the burst splitter; row in the splitter to its first burst; burst to the row's next one;
    #: burst to its address, when it was compared with the window.
    request: int = 1
    burst: int = 1
    next_burst: int = 2
    window: int = 1
    #: Entry written to a buffered queue until it is moved to the output register; from there to its user.
    queue: int = 1
    output_register: int = 1
    #: Last word of a tile taken until a microword that needs it may be issued.
    key_loaded: int = 3
    value_loaded: int = 3
    query_loaded: int = 7
    #: Last read of a buffer issued to the request of the row that fills it again.
    release: int = 2
    #: Last request for a query tile's results to the first SLNV that needs its room.
    output_freed: int = 2
    #: Last response taken to the head register, which ends the job.
    head: int = 2

    @property
    def descriptor_beats(self) -> int:
        """Bus words of a descriptor."""
        return ceil_div(DESCRIPTOR_BYTES, self.config.bus_bytes)

    @property
    def results(self) -> int:
        """Last SLNV of a query tile issued to the first request for its results: corner, lanes, counted, requested."""
        return 3 + Timing(self.config).corner_to_output

    @property
    def answer(self) -> int:
        """Request for a bus word of results to its arrival at the store engine's queue: register, then a lane a cycle."""
        return 1 + self.config.columns

    @property
    def answer_room(self) -> int:
        """Words that the store engine's queue holds."""
        return 1 << clog2(self.config.columns + 8)
