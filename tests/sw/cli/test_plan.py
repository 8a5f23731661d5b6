"""fusemax plan."""

from __future__ import annotations

import pytest

from fusemax.cli import main


def test_plan(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "linear_attention"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "host:  FQ[e, p] = elu1(Q[e, p])",
        "host:  FK[e, m] = elu1(K[e, m])",
        "sweep: KV[e, f] = FK[e, m] * V[f, m], a matrix product",
        "host:  KS[e] = FK[e, m]",
        "sweep: N[f, p] = FQ[e, p] * KV[e, f], a matrix product",
        "host:  D[p] = FQ[e, p] * KS[e]",
        "host:  AV[f, p] = N[f, p] / D[p]",
    ]


def test_a_cascade_without_a_plan(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "sink_first"]) == 1
    assert (
        "error: sink_first, line 25, column 7: no plan for this: RM is a state that is no running sum"
        in capsys.readouterr().err
    )


def test_compile_says_where_a_cascade_of_several_steps_is_to_be_seen(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compile", "flowformer"]) == 1
    assert capsys.readouterr().err.endswith(". It is several steps: see fusemax plan flowformer\n")
    assert main(["compile", "entropy_1pass"]) == 1
    assert "fusemax plan" not in capsys.readouterr().err
