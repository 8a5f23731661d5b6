"""Plans small enough to be counted by hand."""

import pytest

from fusemax.evaluation.paper import Machine, Move, Operation, Phase, Ranks, Stage, Unit, Work, energy_of, evaluate
from fusemax.evaluation.paper.energy import wrapped

MIB = 1 << 20


def machine(**changes):
    fields = {"rows": 4, "columns": 4, "lanes": 4, "frequency_hz": 100.0, "bytes_per_second": 1000.0}
    return Machine(**{**fields, "buffer_bytes": 16 * MIB, **changes})


RANKS = Ranks({"i": 6, "j": 8, "k": 10})
PRODUCT = Work("Z", "i j k", Unit.ARRAY, "i j", {Operation.MAC: 1})
MAXIMUM = Work("L", "i j", Unit.LANES, "j", {Operation.MAX: 1, Operation.ADD: 1})


def test_units_side_by_side():
    cost = evaluate((Stage("s", RANKS, (Phase((PRODUCT, MAXIMUM)),), ()),), machine())
    # 2 × 2 tiles of 10 steps on the array; 6 × 2 steps of two slots on the lanes.
    assert cost.cycles == pytest.approx(max(40, 24))
    assert cost.utilisation(Unit.ARRAY) == pytest.approx(480 / 16 / 40)
    assert cost.utilisation(Unit.LANES) == pytest.approx(96 / 4 / 40)
    assert cost.utilisation(Unit.LANES, "Z") == 0
    assert cost.operations[Unit.ARRAY] == {Operation.MAC: 480}
    assert cost.operations[Unit.LANES] == {Operation.MAX: 48, Operation.ADD: 48}


def test_phases_wait_for_each_other_and_stall():
    phases = (Phase((PRODUCT,), stall="k", stall_cycles=3), Phase((MAXIMUM,)))
    assert evaluate((Stage("s", RANKS, phases, ()),), machine()).cycles == pytest.approx(40 + 30 + 24)


def test_slots_beside():
    beside = Work("L", "i j", Unit.ARRAY, "i j", {Operation.MAX: 1}, slots=0)
    cost = evaluate((Stage("s", RANKS, (Phase((PRODUCT, beside)),), ()),), machine())
    assert cost.cycles == pytest.approx(40)
    assert cost.operations[Unit.ARRAY][Operation.MAX] == 48


@pytest.mark.parametrize(("duplex", "seconds"), [(False, (300 + 100) * 2 / 1000), (True, 300 * 2 / 1000)])
def test_memory_binds(duplex, seconds):
    moves = (Move(tensor="I", memory_reads=300), Move(tensor="Z", memory_writes=100))
    cost = evaluate((Stage("s", RANKS, (Phase((PRODUCT,)),), moves),), machine(duplex=duplex))
    assert cost.memory_s == pytest.approx(seconds)
    assert cost.latency_s == pytest.approx(max(0.4, seconds))
    assert (cost.bytes_read, cost.bytes_written) == (600, 200)


def test_stages_do_not_overlap():
    slow_memory = Stage("a", RANKS, (Phase((MAXIMUM,)),), (Move(tensor="I", memory_reads=500),))
    fast_memory = Stage("b", RANKS, (Phase((PRODUCT,)),), ())
    assert evaluate((slow_memory, fast_memory), machine()).latency_s == pytest.approx(1.0 + 0.4)


def test_requests_under_way_limit_the_memory():
    moves = (Move(tensor="I", memory_reads=10, requests=30),)
    stage = Stage("s", RANKS, (Phase((PRODUCT,)),), moves)
    assert evaluate((stage,), machine(read_latency_s=0.1, outstanding_reads=2)).latency_s == pytest.approx(30 * 0.1 / 2)
    assert evaluate((stage,), machine()).latency_s == pytest.approx(0.4)


def test_what_does_not_overlap():
    moves = (Move(tensor="I", memory_reads=300),)
    stage = Stage("s", RANKS, (Phase((PRODUCT,)),), moves, lead_cycles=7, trail_cycles=5, latency_cycles=11)
    assert evaluate((stage,), machine()).cycles == pytest.approx(max(40 + 7, 60 + 5) + 11)
    assert evaluate((stage,), machine(bytes_per_second=1e9)).cycles == pytest.approx(40 + 7 + 11)


def test_energy_by_hand():
    work = Work("L", "i", Unit.LANES, "i", {Operation.EXP: 1, Operation.ADD: 2}, unbilled=(Operation.EXP,))
    moves = (Move(tensor="I", memory_reads=4, memory_writes=8, buffer_reads=256, buffer_writes=512, wrapped_reads=128),)
    plan = machine()
    found = energy_of(evaluate((Stage("s", RANKS, (Phase((PRODUCT, work)),), moves),), plan), plan)
    assert found.memory_pj == pytest.approx(249.6 * 3)
    assert found.buffer_pj == pytest.approx(12512.760572 + 2 * 15751.460572)
    assert found.array_pj == pytest.approx(480 * 17.1645)
    assert found.lanes_pj == pytest.approx(12 * 8.3395)
    assert found.wrapped_pj == pytest.approx(12512.760572 / 2)
    assert found.unbilled_pj == pytest.approx(6 * 94.6475)
    parts = found.memory_pj + found.buffer_pj + found.array_pj + found.lanes_pj
    assert found.without_wraps_pj == pytest.approx(parts)
    assert found.total_pj == pytest.approx(parts + found.wrapped_pj)


def test_energy_of_an_unknown_buffer():
    plan = machine(buffer_bytes=MIB)
    cost = evaluate((Stage("s", RANKS, (Phase((PRODUCT,)),), ()),), plan)
    with pytest.raises(ValueError, match="buffer_bytes must be 16777216 or 33554432, not 1048576"):
        energy_of(cost, plan)


def test_wrapped():
    assert wrapped(1000, 1 << 40) == 0
    # 2^40 words times 2^24 is 2^64: all of them wrap away and are billed.
    assert wrapped(1 << 40, 1 << 24) == 1 << 40
    assert wrapped(3 << 39, 1 << 24) == 1 << 40


@pytest.mark.parametrize("field", ["rows", "frequency_hz", "buffer_bytes", "outstanding_reads"])
def test_machine_refuses(field):
    with pytest.raises(ValueError, match=f"{field} must be greater than 0, not 0"):
        machine(**{field: 0})
