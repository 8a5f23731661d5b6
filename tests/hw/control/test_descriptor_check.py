"""Descriptor check: every field that is wrong by itself, or with another."""

import random

import pytest
from amaranth.sim import Simulator
from jobs import random_job

from fusemax.spec import DESCRIPTOR, Config
from fusemax_hw.control.descriptor_check import DescriptorCheck

CONFIG = Config(rows=4, columns=4, max_e=8, max_f=8)
#: Fields that are wrong, one at a time or two that go together.
BAD = (
    {"magic": 0xFA01},
    {"_flags": 1},
    {"ii": 0},
    {"ii": 1000},
    {"e": 0},
    {"e": 9},
    {"f": 0},
    {"f": 9},
    {"f": 520},
    # One more than the machine is made for, though there is room.
    {"e": 9, "query_slots": 2},
    {"heads": 0},
    {"batch": 0},
    {"key_tiles": 0},
    {"last_keys": 0},
    {"last_keys": 5},
    {"last_queries": 0},
    {"last_queries": 5},
    {"large_groups": 0},
    {"groups": 3, "large_groups": 4},
    {"group_tiles": 0},
    {"group_tiles": 1, "groups": 3, "large_groups": 2},
    {"group_tiles": 4, "query_slots": 3},
    {"group_tiles": CONFIG.reference_words + 1, "query_slots": 20, "f": 1},
    # State memory for four tiles of eight values.
    {"group_tiles": 5, "query_slots": 8, "e": 4, "f": 8, "output_slots": 1},
    {"group_tiles": 5, "query_slots": 8, "e": 4, "f": 7, "output_slots": 1},
    {"query_slots": 65},
    {"query_slots": 5, "e": 5},
    {"output_slots": 0},
    {"output_slots": 1000},
    {"output_slots": 5, "f": 5, "float32_out": 0},
    {"output_slots": 3, "f": 5, "float32_out": 1},
    {"output_slots": 2, "f": 8, "float32_out": 1, "state_out": 1},
    {"share": 0},
    {"share": 257},
    {"tile_phase": 4, "share": 4},
    {"tile_positions": 5},
    {"tile_span": 5},
    {"mask_lo": (1 << 30) + 1},
    {"mask_hi": -(1 << 30) - 1},
    {"mask_hi": -(1 << 31)},
    {"fixed_reference": 1},
    {"spare_hold": 1},
    {"q_address": 4},
    {"k_row_stride": 2},
    {"o_share_stride": 1},
    {"v_batch_stride": 7},
    *({f"{tensor}_{name}": 4} for tensor in "qkvo" for name in ("address", "row_stride", "head_stride", "batch_stride")),
    {"q_share_stride": 4},
    {"m_share_stride": 4},
    {"b_row_stride": 4},
    {"m_address": 1 << 40},
    {"bit_mask": 1, "group_tiles": 5, "query_slots": 8, "e": 4, "f": 6, "output_slots": 1},
    {"bias": 1, "group_tiles": 5, "query_slots": 8, "e": 4, "f": 6, "output_slots": 1},
    {"bit_mask": 1, "mask_blocks": 0},
    {"mask_phase": 4},
    {"program_address": 0x1004},
    {"program_address": 1 << 40},
    {"o_address": 1 << 63},
    *({f"{tensor}_address": 1 << 40} for tensor in "qkvo"),
    {"continues": 1, "heads": 2, "batch": 1},
    {"continued": 1, "heads": 2, "batch": 1},
    {"continues": 1, "heads": 1, "batch": 2},
    {"continues": 1, "heads": 1, "batch": 1, "groups": 2, "large_groups": 2, "group_tiles": 2, "query_slots": 2},
)

#: Fields that are unusual, but right.
GOOD = (
    {"group_tiles": 4, "query_slots": 4, "f": 8, "output_slots": 1},
    {"group_tiles": 5, "query_slots": 8, "e": 4, "f": 6, "output_slots": 1},
    {"output_slots": 4, "f": 5, "float32_out": 0},
    {"output_slots": 2, "f": 5, "float32_out": 1},
    {"output_slots": 1, "f": 8, "float32_out": 1, "state_out": 1, "raw_out": 1},
    {"mask_lo": 1 << 30, "mask_hi": -(1 << 30)},
    {"share": 256, "tile_phase": 255},
    {"o_address": (1 << 40) - 8},
    {"bit_mask": 1, "bias": 1, "group_tiles": 4, "query_slots": 4, "f": 8, "output_slots": 1, "mask_phase": 3},
    {"continues": 1, "continued": 1, "heads": 1, "batch": 1, "groups": 1, "large_groups": 1},
)


def verdicts(config, jobs):
    """Whether each of the jobs fits."""
    dut, found = DescriptorCheck(config), []

    async def testbench(ctx):
        for job in jobs:
            image = DESCRIPTOR.pack({field.name: job[field.name] for field in DESCRIPTOR.fields if field.name in job})
            ctx.set(dut.descriptor.as_value(), image)
            await ctx.tick().repeat(DescriptorCheck.latency)
            found.append(bool(ctx.get(dut.fits)))

    simulator = Simulator(dut)
    simulator.add_clock(1e-6)
    simulator.add_testbench(testbench)
    simulator.run()
    return found


def jobs_of(config, count, seed):
    rng = random.Random(seed)
    for _ in range(count):
        e, f = rng.randint(1, config.max_e), rng.randint(1, config.max_f)
        job = random_job(rng, config, e, f, queries=40, keys=40, float32_out=rng.getrandbits(1))
        # What is on chip of masks and biases may be less than of queries.
        job["bit_mask"] &= job["group_tiles"] <= config.mask_tiles
        job["bias"] &= job["group_tiles"] <= config.bias_tiles
        address = rng.randrange(1 << config.address_bits) // config.bus_bytes * config.bus_bytes
        yield job | {"ii": rng.randint(1, config.program_words), "program_address": address}


@pytest.mark.parametrize("bus_bits", [32, 64, 1024])
def test_good_jobs_fit(bus_bits):
    config = Config(rows=6, columns=5, max_e=40, max_f=30, bus_bits=bus_bits)
    assert all(verdicts(config, jobs_of(config, 100, bus_bits)))


def test_fields():
    """Each case in a job that is right otherwise, in turn with a right one."""
    job = next(jobs_of(CONFIG, 1, 1)) | {"e": 8, "f": 8, "float32_out": 0, "state_out": 0, "share": 1}
    job |= {"tile_positions": 4, "tile_phase": 0, "tile_span": 3, "query_slots": 4, "output_slots": 1}
    job |= {"groups": 1, "large_groups": 1, "group_tiles": 2, "bit_mask": 0, "bias": 0, "mask_blocks": 1}
    cases = [fields for case in (*BAD, *GOOD) for fields in (case, {})]
    found = verdicts(CONFIG, [job | fields for fields in cases])
    for fields, fits in zip(cases, found, strict=True):
        assert fits == (fields not in BAD), fields


def test_state_needs_a_bus_word_that_holds_it():
    narrow = Config(rows=4, columns=4, max_e=8, max_f=8, bus_bits=32)
    job = next(jobs_of(narrow, 1, 1)) | {"output_slots": 1}
    assert verdicts(narrow, [job, job | {"state_out": 1}, job | {"row_scale": 1}]) == [True, False, True]
