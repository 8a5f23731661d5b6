"""Which descriptors are refused: those that the machine could not carry out."""

from collections.abc import Iterator
from typing import Any

from amaranth.hdl import Array, Cat, Const, Module, Signal, ValueLike
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from fusemax.spec import DESCRIPTOR_MAGIC, MASK_LIMIT, MAX_SHARE, ROW_STATE_BITS, Config

from .job import descriptor_layout

__all__ = ["DescriptorCheck"]


class DescriptorCheck(wiring.Component):
    """Check whether the machine can carry out a descriptor.

    Counts must be what the machine's memories hold, addresses must exist and be multiples of the bus word, and flags must go
    together. Not looked at is what would need a multiplier and at worst makes the machine wait, until the watchdog ends it:
    ``group_iterations``, and ``tile_positions`` and ``tile_span``, which follow from ``share``.

    Members
    -------
    descriptor : In(descriptor_layout())
        Descriptor; must be held for :attr:`latency` cycles.
    fits : Out(1)
        The descriptor of :attr:`latency` cycles ago can be carried out.
    """

    latency = 2

    def __init__(self, config: Config):
        self.config = config
        super().__init__({"descriptor": In(descriptor_layout()), "fits": Out(1)})

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        config, job = self.config, self.descriptor

        # What a row takes of the banks, and how many rows of it there is room for.
        element_log2, word_log2 = exact_log2(config.beat_elements), exact_log2(config.bus_bytes)
        query_words, output_words = Signal(9), Signal(9)
        output_bytes = (job.f[:9] << 1) << job.float32_out
        m.d.sync += [
            query_words.eq((job.e[:9] + config.beat_elements - 1) >> element_log2),
            output_words.eq(((output_bytes + config.bus_bytes - 1) >> word_log2) + job.state_out),
        ]

        def most(words: Signal, have: int, least: int) -> ValueLike:
            """``have // words``, looked up; 0 if it is less than ``least`` words."""
            return Array([Const(0, 16), *(Const(have // number, 16) for number in range(1, least + 1))])[words]

        rows = [
            job.query_slots <= most(query_words, config.query_bank_beats, config.key_beats),
            job.output_slots <= most(output_words, config.output_beats, config.beats(config.max_f, 4) + 1),
            # State memory: a numerator per element and a denominator.
            job.f < most(job.group_tiles[:9], config.state_words, config.reference_words),
        ]

        checks = [*self._counts(job), *self._addresses(job), *self._flags(job), *rows]
        passed = Signal(len(checks))
        m.d.sync += passed.eq(Cat(*checks))
        m.d.comb += self.fits.eq(passed.all())
        return m

    def _counts(self, job: data.View) -> Iterator[ValueLike]:
        config = self.config
        yield job.magic == DESCRIPTOR_MAGIC
        for name, limit in (
            ("ii", config.program_words),
            ("e", config.max_e),
            ("f", config.max_f),
            ("last_keys", config.rows),
            ("last_queries", config.columns),
            ("share", MAX_SHARE),
            ("output_slots", config.output_beats),
            ("group_tiles", config.reference_words),
            ("query_slots", config.query_bank_beats),
        ):
            yield (job[name] != 0) & (job[name] <= limit)
        for name in ("heads", "batch", "key_tiles", "large_groups"):
            yield job[name] != 0
        yield job.large_groups <= job.groups
        # Groups that are not large have a tile less, but not none.
        yield (job.group_tiles > 1) | (job.large_groups == job.groups)
        yield job.query_slots >= job.group_tiles
        yield job.tile_phase < job.share
        yield job.tile_positions <= config.columns
        yield job.tile_span <= config.columns
        for bound in (job.mask_lo, job.mask_hi):
            yield (bound[-1] == bound[-2]) | (bound == MASK_LIMIT)
        # What is on chip of masks and biases.
        yield ~job.bit_mask | ((job.group_tiles <= config.mask_tiles) & (job.mask_blocks != 0))
        yield job.mask_phase <= max(0, config.mask_block_tiles - 1)
        yield ~job.bias | (job.group_tiles <= config.bias_tiles)

    def _addresses(self, job: data.View) -> Iterator[ValueLike]:
        word_log2 = exact_log2(self.config.bus_bytes)
        for tensor in ("q", "k", "v", "m", "b", "o"):
            steps = [job[f"{tensor}_{name}"] for name in ("address", "row_stride", "head_stride", "batch_stride")]
            if tensor in ("q", "m", "b", "o"):
                steps.append(job[f"{tensor}_share_stride"])
            yield Cat(step[:word_log2] for step in steps) == 0
            yield job[f"{tensor}_address"][self.config.address_bits :] == 0
        yield job.program_address[:word_log2] == 0
        yield job.program_address[self.config.address_bits :] == 0

    def _flags(self, job: data.View) -> Iterator[ValueLike]:
        yield job["_flags"] == 0
        if not self.config.mask_block_tiles:
            yield ~job.bit_mask
        if not self.config.linear:
            yield ~job.fixed_reference
        if not self.config.functions:
            yield ~job.spare_hold
        yield ~job.values_in_keys | (job.f <= job.e if self.config.values_in_keys else 0)
        # Chains are of one head and one group.
        yield ~(job.continues | job.continued) | ((job.heads == 1) & (job.batch == 1) & (job.groups == 1))
        if self.config.bus_bits < ROW_STATE_BITS:
            yield ~job.state_out
