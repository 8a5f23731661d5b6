"""Points: all combinations, as few contexts as keep the programs fast, the cycle model's counters."""

from __future__ import annotations

import pytest

import fusemax
from fusemax.evaluation.explore import Point, Workload, design_points, evaluate, point
from fusemax.evaluation.explore.point import machine
from fusemax.model.cycles import IdealMemory, cycles
from fusemax.planning.descriptors import Shape

SHAPES = (Shape(heads=2, queries=40, keys=50, e=16), Shape(queries=30, keys=20, e=24, f=8))


def test_all_combinations_in_order() -> None:
    workload = Workload(SHAPES)
    points = design_points(workload, (8, 4, 8), (6,), (2, 1), (64, 128))
    found = [(p.config.rows, p.config.columns, p.config.query_tiles, p.config.bus_bits) for p in points]
    assert found == [(r, 6, t, b) for r in (4, 8) for t in (1, 2) for b in (64, 128)]
    assert {(p.config.max_e, p.config.max_f) for p in points} == {(24, 16)}
    assert all(p.workload is workload for p in points)


@pytest.mark.parametrize(("rows", "dim", "contexts"), [(4, 64, 2), (16, 8, 3), (32, 8, 4)])
def test_contexts_are_as_few_as_keep_the_interval(rows: int, dim: int, contexts: int) -> None:
    (found,) = design_points(Workload((Shape(queries=8, keys=8, e=dim),)), (rows,), (4,), (1,), (64,))
    assert found.config.contexts == contexts
    intervals = []
    for number in (contexts - 1, contexts, 9):
        if number >= 2:
            config = machine(found.workload, rows=rows, contexts=number)
            intervals.append(fusemax.compile(head_dim=dim, config=config).ii)
    assert intervals[-1] == intervals[-2]
    assert contexts == 2 or intervals[0] > intervals[1]


def test_counters_are_the_cycle_model_s_of_all_calls() -> None:
    workload = Workload(SHAPES, latency_cycles=30, beat_interval_cycles=2)
    (found,) = design_points(workload, (4,), (6,), (2,), (64,))
    row = evaluate(found)
    memory = IdealMemory(read_latency_cycles=30, beat_interval_cycles=2)
    counts = [cycles(fusemax.compile(head_dim=s.e, value_dim=s.f, config=found.config), s, memory).values for s in SHAPES]
    for name in ("cycles", "tiles", "bytes_read", "stall_k"):
        assert row[name] == sum(count[name] for count in counts)
    assert row["cycles"] != evaluate(Point(found.config, Workload(SHAPES)))["cycles"]
    assert row["model"] == point.model_digest()


def test_everything_that_counts_is_a_parameter() -> None:
    (one,) = design_points(Workload(SHAPES), (4,), (6,), (2,), (64,))
    others = [
        *design_points(Workload(SHAPES), (4,), (6,), (2,), (128,)),
        *design_points(Workload(SHAPES[:1]), (4,), (6,), (2,), (64,)),
        Point(one.config, Workload(SHAPES, latency_cycles=61)),
        Point(one.config, Workload(SHAPES, beat_interval_cycles=2)),
        Point(one.config, Workload((*SHAPES[:1], Shape(queries=30, keys=20, e=24, f=8, out_dtype="float32")))),
    ]
    assert all(other.parameters() != one.parameters() for other in others)


def test_the_digest_depends_on_the_sources(monkeypatch) -> None:
    before = point.model_digest()
    monkeypatch.setattr(point, "SOURCES", point.SOURCES[1:])
    point.model_digest.cache_clear()
    assert point.model_digest() != before
    monkeypatch.undo()
    point.model_digest.cache_clear()
    assert point.model_digest() == before


def test_a_workload_has_a_call() -> None:
    with pytest.raises(ValueError, match="shapes must be at least one"):
        Workload(())
