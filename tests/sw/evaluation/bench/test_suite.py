"""The suite: what is in it, and in which order it is run."""

from __future__ import annotations

from itertools import groupby

import pytest

from fusemax.evaluation.bench import GROUPS, Case, cases, suite


def test_every_case_once() -> None:
    parameters = [str(case.parameters()) for case in cases()]
    assert len(parameters) == len(set(parameters))
    assert set(parameters) == {str(case.parameters()) for group in GROUPS.values() for case in group}
    assert {case.config for case in cases() if not case.modelled} == {"tiny", "small", "base"}


def test_targets_are_in_every_run() -> None:
    targets = {case for group in GROUPS.values() for case in group if case.target is not None}
    assert targets <= set(cases())
    assert any(case.config == "paper" and case.queries == case.keys == 1 << 16 and case.target == 0.98 for case in targets)


@pytest.mark.parametrize("order", [("aims", "shown"), ("shown", "aims")])
def test_a_target_is_not_lost(order: tuple[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    shown = Case(heads=1, queries=2, keys=3, e=4, f=5)
    aim = Case(heads=1, queries=2, keys=3, e=4, f=5, target=0.5)
    monkeypatch.setattr(suite, "GROUPS", {"aims": (aim,), "shown": (shown,)})
    assert cases(order) == [aim]


def test_order() -> None:
    """Modelled first; a machine with a memory in one piece, quickest first, and the piece with the longest case last."""
    chosen = cases()
    modelled = [case.modelled for case in chosen]
    assert modelled == sorted(modelled, reverse=True)
    simulated = [case for case in chosen if not case.modelled]
    pieces = [list(piece) for _, piece in groupby(simulated, lambda c: (c.config, c.latency_cycles, c.beat_interval_cycles))]
    assert len(pieces) == len({(c.config, c.latency_cycles, c.beat_interval_cycles) for c in simulated})
    for piece in pieces:
        assert [case.expected_cycles for case in piece] == sorted(case.expected_cycles for case in piece)
    longest = [piece[-1].expected_cycles for piece in pieces]
    assert longest == sorted(longest)
