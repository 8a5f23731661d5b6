"""Every protocol check fires on a stand-in that breaks its rule, with the rule's name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from fusemax_sim import ProtocolViolation

pytestmark = pytest.mark.cosim

#: Opens a conftest.Copier.
Open = Callable[..., Any]

FAULTS = [
    (1, "read address changed before m_axi_arready"),
    (2, "m_axi_arvalid fell before m_axi_arready"),
    (3, "read burst crosses a 4 KB boundary"),
    (4, "m_axi_arsize is not the bus width"),
    (5, "m_axi_arburst is not INCR"),
    (6, "m_axi_araddr is not a multiple of the bus word"),
    (7, "m_axi_wlast came before the burst's last beat"),
    (8, "m_axi_wlast is missing at the burst's last beat"),
    (9, "write data changed before m_axi_wready"),
    (10, "m_axi_wvalid fell before m_axi_wready"),
    (11, "m_axi_awvalid fell before m_axi_awready"),
    (14, "write burst crosses a 4 KB boundary"),
    (16, "write address changed before m_axi_awready"),
]


@pytest.mark.parametrize(("fault", "message"), FAULTS)
def test_a_broken_rule_of_the_memory_bus_is_named(open_copier: Open, fault: int, message: str) -> None:
    copier = open_copier(stall_probability=0.5, seed=1)
    copier["fault"] = fault
    copier.start(64, 4096 - 40, (1 << 19) + 4096 - 48)
    with pytest.raises(ProtocolViolation) as raised:
        copier.device.wait_interrupt(20)
    assert str(raised.value).startswith(f"{message} (cycle ")
    # It stays: a device that has broken a rule does not answer as if it had not.
    with pytest.raises(ProtocolViolation, match=message):
        _ = copier["status"]


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (12, "s_axil_bvalid without a write"),
        (13, "register access was not answered within 10000 cycles"),
        (15, "register read data changed before s_axil_rready"),
    ],
)
def test_a_broken_rule_of_the_register_bus_is_named(open_copier: Open, fault: int, message: str) -> None:
    copier = open_copier(stall_probability=0.8, seed=1)

    def provoke() -> None:
        copier["fault"] = fault
        for _ in range(20):
            _ = copier["source"]

    with pytest.raises(ProtocolViolation, match=message):
        provoke()
