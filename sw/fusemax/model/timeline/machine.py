"""The machine's timeline: everything that waits for something else, put together."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from ...compiler.program import Program
from ...spec import Config
from .bus import MemoryTiming, ReadPath, WritePath
from .dispatch import Dispatcher
from .issue import Issue
from .latencies import Latencies
from .load import Arbiter, LoadWalker
from .pairs import PairWalker
from .store import Store
from .walk import Descriptor

__all__ = ["Machine"]


class Machine:
    """The parts of the machine, joined, at the moment when the doorbell rings.

    Members
    -------
    on_key_tile
        Called whenever the first tile of a key tile has been issued, with whether its job has a mask.
    longest_delay
        Cycles after which a cycle has no influence on anything that comes later.
    """

    def __init__(
        self,
        config: Config,
        descriptors: Sequence[Descriptor],
        programs: Mapping[int, Program],
        memory: MemoryTiming,
        loaded: tuple[int, ...] | None = None,
    ) -> None:
        latencies = Latencies(config)
        self.path = ReadPath(config, memory)
        query, key, value = self.loaders = tuple(LoadWalker(config, tensor) for tensor in "qkv")
        mask, bias = self.pairs = PairWalker(config, "m"), PairWalker(config, "b")
        # The arbiter looks at every walker for every row: at none that never asks.
        has_mask, has_bias = any(job.bit_mask for job in descriptors), any(job.bias for job in descriptors)
        asking = query, key, *[mask] * has_mask, *[bias] * has_bias, value
        self.arbiter = Arbiter(asking, self.path)
        self.store = Store(config, WritePath(config, memory))
        self.on_key_tile: Callable[[bool], None] = lambda masked: None
        self.issue = Issue(config, self.loaders, self.pairs, self.store, lambda masked: self.on_key_tile(masked))
        self.dispatcher = Dispatcher(
            config, descriptors, programs, loaded, self.arbiter, self.path, self.issue, self.loaders, self.pairs, self.store
        )
        self.longest_delay = (
            latencies.results + latencies.answer + memory.read_latency_cycles + memory.beat_interval_cycles + 64
        )
