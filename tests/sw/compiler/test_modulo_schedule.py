"""Modulo scheduler: what it makes passes the checker, and no smaller interval exists."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fusemax.cascade import CASCADES
from fusemax.compiler.array_program import ArrayProgram
from fusemax.compiler.lowering import lower
from fusemax.compiler.mapper import map_cascade
from fusemax.compiler.micro import Operation
from fusemax.compiler.microwords import decode, encode
from fusemax.compiler.modulo_schedule import Binding
from fusemax.compiler.modulo_schedule import modulo_schedule as schedule_micros
from fusemax.compiler.schedule import Schedule
from fusemax.compiler.symbolic_checker import check
from fusemax.errors import ScheduleError
from fusemax.spec import CONFIGS, MICROWORD, STAGES, Config, Op, Timing

ATTENTION = map_cascade(CASCADES["attention_1pass"])


def modulo_schedule(program: ArrayProgram, config: Config, e: int, f: int, **options: Binding) -> Schedule:
    """Schedule a mapped cascade that needs no option of the machine."""
    return schedule_micros(lower(program, config, e, f).micros, config, e, f, **options)


def machine(rows: int, columns: int, contexts: int, pe_latency: int) -> Config:
    return Config(rows=rows, columns=columns, contexts=contexts, pe_latency=pe_latency, max_e=128, max_f=128)


machines = st.builds(machine, st.integers(2, 256), st.integers(2, 256), st.integers(2, 9), st.integers(2, 5))
head_dims = st.one_of(st.integers(1, 8), st.integers(1, 128))


@settings(max_examples=60, deadline=None)
@given(machines, head_dims, head_dims, st.integers(0, 2**32))
def test_every_schedule_passes_the_checker(config: Config, e: int, f: int, seed: int) -> None:
    schedule = modulo_schedule(ATTENTION, config, e, f)
    words = encode(schedule)
    check(words, config, e, f, seed=seed)
    assert len(words) == schedule.ii >= max(e + f + 2, Timing(config).recurrence)
    assert schedule.stages <= STAGES
    assert decode(words, config, e, f) == schedule


@settings(max_examples=60, deadline=None)
@given(machines, head_dims, head_dims, st.sampled_from(list(Binding)), st.integers(0, 2**32))
def test_every_binding_passes_the_checker(config: Config, e: int, f: int, binding: Binding, seed: int) -> None:
    try:
        schedule = modulo_schedule(ATTENTION, config, e, f, binding=binding)
    except ScheduleError:
        # One tile after the other takes longer than the largest program, with rows and head dims as large as they can be.
        assert binding is Binding.SERIAL
        return
    words = encode(schedule)
    check(words, config, e, f, seed=seed)
    assert decode(words, config, e, f) == schedule
    alone = MICROWORD.unpack(words[0])["op"] == Op.NOP
    assert alone == (binding is not Binding.CO_ISSUED)


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_what_overlap_and_co_issue_are_worth(config: Config) -> None:
    """Slots in closed form, as docs/measurements/ablation.md has them."""
    e, f, timing = config.max_e, config.max_f, Timing(config)
    intervals = [modulo_schedule(ATTENTION, config, e, f, binding=binding).ii for binding in Binding]
    assert intervals == [e + f + timing.max_to_exp + timing.exp_to_sum + 1, e + f + 3, e + f + 2]


@settings(max_examples=50, deadline=None)
@given(machines, head_dims, head_dims)
def test_serial_tiles_do_not_overlap(config: Config, e: int, f: int) -> None:
    """A tile's operations, MAX and all, are issued before the next tile's first one; MASK belongs to the tile that comes."""
    try:
        schedule = modulo_schedule(ATTENTION, config, e, f, binding=Binding.SERIAL)
    except ScheduleError:
        return
    offsets = [p.offset for p in schedule.placed if p.operation is not Operation.MASK]
    assert offsets[-1] - offsets[0] < schedule.ii
    # The maximum waits for nothing, nor do the next tile's scores.
    assert schedule.offset(Operation.MAX) == schedule.offset(Operation.QK, e - 1) + 1
    assert offsets[0] + schedule.ii == offsets[-1] + 1


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_interval_at_the_configurations_head_dims(config: Config) -> None:
    assert modulo_schedule(ATTENTION, config, config.max_e, config.max_f).ii == config.max_e + config.max_f + 2


@settings(max_examples=100, deadline=None)
@given(st.integers(2, 256), st.integers(2, 5), st.integers(32, 128), st.integers(32, 128))
def test_interval_of_any_array(rows: int, pe_latency: int, e: int, f: int) -> None:
    """E + F + 2 at every array size, latency and head dim from 32 on, with the contexts that a machine has by default."""
    config = Config(rows=rows, columns=2, pe_latency=pe_latency, max_e=128, max_f=128)
    assert modulo_schedule(ATTENTION, config, e, f).ii == e + f + 2


def test_more_hold_registers_make_the_interval_smaller() -> None:
    """R = 16, E = F = 8: 18 slots need two hold registers; with one, the tile must end in the iteration after its first."""
    intervals = {contexts: modulo_schedule(ATTENTION, machine(16, 16, contexts, 4), 8, 8).ii for contexts in (2, 3, 9)}
    assert intervals == {2: 36, 3: 18, 9: 18}


def fits(e: int, f: int, ii: int, holds: int, timing: Timing) -> bool:
    """Whether any placement exists, by trying all of them."""
    if ii < max(e + f + 2, timing.recurrence):
        return False
    end = ii * (holds + 1)

    def place(count: int, earliest: int, taken: frozenset[int], exp: int | None) -> bool:
        if count == f + 2:
            return True
        for offset in range(earliest, end):
            if offset % ii in taken:
                continue
            next_earliest = offset + (timing.exp_to_sum if count == 0 else 1)
            if place(count + 1, next_earliest, taken | {offset % ii}, exp):
                return True
        return False

    return place(0, ii + timing.max_to_exp, frozenset({0}), None)


@pytest.mark.parametrize(("rows", "pe_latency"), [(2, 2), (3, 5), (4, 4)])
def test_no_smaller_interval_exists(rows: int, pe_latency: int) -> None:
    for contexts, e, f in itertools.product((2, 3, 4), (1, 2, 5), (1, 2, 3)):
        config = machine(rows, 2, contexts, pe_latency)
        found = modulo_schedule(ATTENTION, config, e, f).ii
        smallest = next(ii for ii in itertools.count(1) if fits(e, f, ii, config.holds, Timing(config)))
        assert found == smallest, (contexts, e, f)


def test_words_of_the_smallest_problem() -> None:
    words = [MICROWORD.unpack(word) for word in encode(modulo_schedule(ATTENTION, CONFIGS["tiny"], 1, 1))]
    assert words[0] == dict.fromkeys(words[0], 0) | {"op": Op.QK, "first": 1, "last": 1, "max": 1}
    sums = [word for word in words if word["op"] == Op.SUM]
    assert [(word["index"], word["mask"], word["first"], word["last"]) for word in sums] == [(1, 1, 0, 0)]
    assert sum(word["op"] != Op.NOP for word in words) == 4


def test_offsets() -> None:
    schedule = modulo_schedule(ATTENTION, CONFIGS["small"], 64, 64)
    timing = Timing(CONFIGS["small"])
    assert schedule.offset(Operation.QK) == 0
    assert schedule.offset(Operation.MAX) == 130
    assert schedule.offset(Operation.EXP) == 130 + timing.max_to_exp
    assert schedule.offset(Operation.SUM) == schedule.offset(Operation.EXP) + timing.exp_to_sum
    assert schedule.offset(Operation.MASK) == schedule.offset(Operation.SUM) - 130
    assert [p.index for p in schedule.of(Operation.SLNV)] == list(range(64))


def test_a_program_that_is_too_long_is_refused() -> None:
    config = CONFIGS["tiny"]
    with pytest.raises(ScheduleError, match=f"at most {config.program_words} microwords with 2 hold registers on 'tiny'"):
        modulo_schedule(ATTENTION, config, 200, 200)
