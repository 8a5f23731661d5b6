"""The descriptor check against its Python twin, for all descriptors."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from amaranth.hdl import Cat, Module, Signal

from fusemax.model import descriptor_check as twin
from fusemax.spec import DESCRIPTOR, Config
from fusemax_hw.control.descriptor_check import DescriptorCheck
from fusemax_hw.control.job import descriptor_layout

from .solver import Harness, last
from .symbols import Number, formula

__all__ = ["CONFIGS", "STATEMENTS", "OddTwin", "Twin"]

#: `tiny`, and a machine of which little is a power of two.
CONFIGS = {
    "tiny": Config(rows=4, columns=4, contexts=3),
    "odd": Config(rows=3, columns=5, max_e=5, max_f=3, bus_bits=32, contexts=3, query_tiles=1, functions=True),
}
STATEMENTS = ("it takes what its twin takes", "its twin takes what it takes")


class Twin(Harness):
    """The verdict of the hardware and that of :mod:`fusemax.model.descriptor_check`, on one descriptor.

    The twin refuses more: what would need a multiplier or many steps is not looked at by the hardware, and the watchdog ends it
    (see there). So what is stated is: the hardware takes whatever the twin takes; and if what it does not look at is right, the
    twin takes whatever the hardware takes.
    """

    config = CONFIGS["tiny"]

    def build(self, m: Module) -> dict[str, Any]:
        config = self.config
        m.submodules.check = check = DescriptorCheck(config)
        job = self.constant(descriptor_layout(), "descriptor")
        m.d.comb += check.descriptor.eq(job)

        fields = {field.name: Number(m, job[field.name]) for field in DESCRIPTOR.fields}
        # What the hardware does not look at is what it should be.
        share = fields["share"]
        unseen = {
            "tile_positions": config.columns // share,
            "tile_phase": config.columns % share,
            "tile_span": (config.columns + share - 2) // share,
        }
        right = SimpleNamespace(**fields | unseen | {"group_iterations": fields["key_tiles"] * fields["group_tiles"]})
        for name, number in unseen.items():
            self.assume((job.share == 0) | (job[name] == number.value))
        if per_block := config.mask_block_tiles:
            right.mask_blocks = -(-(right.mask_phase + right.key_tiles) // per_block)
            self.assume(job.mask_blocks == right.mask_blocks.value)

        # What :func:`is_valid` asks of a descriptor by itself. One function at a time: ways add up instead of multiplying.
        asked = (
            lambda: twin._has_shape(config, right),
            lambda: twin._has_mask(config, right),
            lambda: twin._has_pairs(config, right),
            lambda: twin._has_addresses(config, right),
            lambda: not right.fixed_reference or config.linear,
            lambda: not right.spare_hold or config.functions,
            lambda: not right.values_in_keys or (config.values_in_keys and right.f <= right.e),
            lambda: not right.state_out or config.bus_bits >= twin.ROW_STATE_BITS,
            lambda: not (right.continues or right.continued) or right.heads == right.batch == right.groups == 1,
        )
        taken = Signal()
        m.d.comb += taken.eq(Cat([formula(question) for question in asked]).all())
        known = last(m, 1, DescriptorCheck.latency)
        # The twin has no such field.
        taken_too = taken & (job["_flags"] == 0)
        return dict(zip(STATEMENTS, (~known | ~taken_too | check.fits, ~known | ~check.fits | taken_too), strict=True))


class OddTwin(Twin):
    """The same on the other machine."""

    config = CONFIGS["odd"]
