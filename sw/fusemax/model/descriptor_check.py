"""Which descriptors the model takes: exactly those whose jobs the machine can do.

The machine itself does not look at what would need a multiplier, or many steps, and at worst makes it wait until its watchdog
ends that: ``group_iterations``, ``mask_blocks``, what follows from ``share``, and key tiles of which no query sees a key.
"""

from __future__ import annotations

from ..planning.masks import UNBOUNDED
from ..spec import CHAIN_FIELDS, DESCRIPTOR_MAGIC, MAX_SHARE, ROW_STATE_BITS, SETTINGS, Config, Descriptor, ceil_div
from .tiles import needs_all_keys

__all__ = ["is_valid", "settings"]

ARRAYS = "qkvmbo"
STRIDES = ("row_stride", "head_stride", "batch_stride")


def is_valid(config: Config, job: Descriptor, before: Descriptor | None = None) -> bool:
    """Whether the machine takes a descriptor; ``before`` is the job in front of it in the ring, if there was one."""
    chained = job.continues or job.continued
    follows = before is not None and bool(before.continues)
    return (
        _has_shape(config, job)
        and _has_mask(config, job)
        and _has_pairs(config, job)
        and _has_addresses(config, job)
        and (not job.fixed_reference or config.linear)
        and (not job.spare_hold or config.functions)
        and (not job.values_in_keys or (config.values_in_keys and job.f <= job.e))
        and (not job.state_out or config.bus_bits >= ROW_STATE_BITS)
        and (not chained or job.heads == job.batch == job.groups == 1)
        and bool(job.continued) == follows
        and (bool(chained) or (job.mask_lo < job.mask_hi and needs_all_keys(config, job)))
        and (before is None or not follows or _same(job, before, (*SETTINGS, *CHAIN_FIELDS)))
    )


def _same(job: Descriptor, before: Descriptor, names: tuple[str, ...]) -> bool:
    return all(getattr(job, name) == getattr(before, name) for name in names)


def settings(job: Descriptor) -> tuple[int, ...]:
    """Values of :data:`fusemax.spec.SETTINGS`."""
    return tuple(getattr(job, name) for name in SETTINGS)


def _has_addresses(config: Config, job: Descriptor) -> bool:
    addresses = [job.program_address, *(getattr(job, f"{array}_address") for array in ARRAYS)]
    strides = [getattr(job, f"{array}_{name}") for array in ARRAYS for name in STRIDES]
    strides += [getattr(job, f"{array}_share_stride") for array in "qmbo"]
    return all(address >> config.address_bits == 0 for address in addresses) and all(
        place % config.bus_bytes == 0 for place in addresses + strides
    )


def _has_pairs(config: Config, job: Descriptor) -> bool:
    """Mask bits and biases: what is on chip of them, and that a mask row has as many bus words as the keys need."""
    per_block = config.mask_block_tiles
    blocks = ceil_div(job.mask_phase + job.key_tiles, per_block) if per_block else 0
    return (
        job.mask_phase <= max(0, per_block - 1)
        and (not job.bit_mask or (per_block > 0 and job.group_tiles <= config.mask_tiles and job.mask_blocks == blocks))
        and (not job.bias or job.group_tiles <= config.bias_tiles)
    )


def _has_shape(config: Config, job: Descriptor) -> bool:
    large, small = job.large_groups, job.groups - job.large_groups
    return (
        job.magic == DESCRIPTOR_MAGIC
        and 1 <= job.e <= config.max_e
        and 1 <= job.f <= config.max_f
        and 1 <= job.ii <= config.program_words
        and job.heads >= 1
        and job.batch >= 1
        and job.key_tiles >= 1
        and 1 <= job.last_keys <= config.rows
        and 1 <= job.last_queries <= config.columns
        and large >= 1
        and small >= 0
        and (job.group_tiles >= 2 or (small == 0 and job.group_tiles == 1))
        and job.group_tiles <= config.resident_query_tiles(job.e, job.f)
        and job.group_tiles <= job.query_slots <= config.query_bank_beats // config.beats(job.e)
        and 1 <= job.output_slots <= config.output_beats // _output_beats(config, job)
        and job.group_iterations == job.key_tiles * job.group_tiles
    )


def _output_beats(config: Config, job: Descriptor) -> int:
    return job.state_out + config.beats(job.f, 4 if job.float32_out else 2)


def _has_mask(config: Config, job: Descriptor) -> bool:
    share = job.share
    return (
        -UNBOUNDED <= job.mask_lo <= UNBOUNDED
        and -UNBOUNDED <= job.mask_hi <= UNBOUNDED
        and 1 <= share <= MAX_SHARE
        and job.tile_positions == config.columns // share
        and job.tile_phase == config.columns % share
        and job.tile_span == (config.columns + share - 2) // share
    )
