"""Every rule of bus_rules.py fires when it is broken, and none when it is not."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from bus_rules import BrokenRule, MemoryRules, RegisterRules

from fusemax.spec import CONFIGS

CONFIG = CONFIGS["tiny"]
BYTES = 1 << 16


def burst(channel: str, address: int = 0x1000, words: int = 2, **changed: int) -> dict[str, int]:
    fields = {"id": 0, "addr": address, "len": words - 1, "size": 3, "burst": 1, "lock": 0, "cache": 3, "prot": 0} | changed
    return {f"{channel}{name}": value for name, value in fields.items()}


def word(last: int, strobe: int = 0xFF, data: int = 0) -> dict[str, int]:
    return {"wdata": data, "wstrb": strobe, "wlast": last}


def rules() -> MemoryRules:
    return MemoryRules(CONFIG, BYTES)


def test_what_is_allowed() -> None:
    seen = rules()
    for _ in range(3):
        seen.address("ar", 1, 0, burst("ar", 0x0FF0))
    seen.address("ar", 1, 1, burst("ar", 0x0FF0))
    seen.address("ar", 1, 1, burst("ar", 0x1000, 1))
    assert (seen.most_reads, seen.cut_reads, seen.under_way) == (2, 1, 2)
    for last in (0, 1, 1):
        seen.read_data(1, 0, {"rlast": last})
        seen.read_data(1, 1, {"rlast": last})
    assert (seen.bytes_read, seen.under_way) == (24, 0)
    # Data may come in the cycle of their address.
    seen.address("aw", 1, 1, burst("aw", BYTES - 16))
    seen.write_data(1, 1, word(0))
    seen.write_data(0, 1, {})
    seen.write_data(1, 0, word(1, 0x1F))
    seen.write_data(1, 1, word(1, 0x1F))
    assert seen.under_way == 1
    seen.write_answer(1, 1)
    assert (seen.bytes_written, seen.most_writes, seen.cut_writes, seen.under_way) == (13, 1, 0, 0)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"size": 2}, "$size is 2, not that of the bus word"),
        ({"burst": 2}, "$burst is 2, not INCR"),
        ({"address": 0x1004}, "$addr is 0x1004, not a multiple of the bus word"),
        ({"address": 0x1FF8}, "the burst of $ from 0x1ff8 to 0x2008 crosses a 4 KB boundary"),
        ({"address": BYTES}, "the burst of $ from 0x10000 to 0x10010 is not in memory"),
        ({"id": 1}, "$id and $lock are not 0"),
        ({"lock": 1}, "$id and $lock are not 0"),
    ],
)
def test_a_burst(fields: dict[str, int], message: str) -> None:
    for channel in ("ar", "aw"):
        with pytest.raises(BrokenRule, match=f"^{re.escape(message.replace('$', channel))}$"):
            rules().address(channel, 1, 0, burst(channel, **fields))


def test_an_offer_stays() -> None:
    for channel in ("ar", "aw"):
        seen = rules()
        seen.address(channel, 1, 0, burst(channel))
        with pytest.raises(BrokenRule, match=f"{channel}addr changed from 0x1000 to 0x2000 before {channel}ready"):
            seen.address(channel, 1, 1, burst(channel, 0x2000))
        seen = rules()
        seen.address(channel, 1, 0, burst(channel))
        with pytest.raises(BrokenRule, match=f"{channel}valid fell before {channel}ready"):
            seen.address(channel, 0, 1, {})


def ready_to_write(words: int) -> MemoryRules:
    seen = rules()
    seen.address("aw", 1, 1, burst("aw", words=words))
    return seen


@pytest.mark.parametrize(
    ("words", "cycles", "message"),
    [
        (2, [(1, 1, word(1))], "wlast came before the burst's last word"),
        (1, [(1, 1, word(0))], "wlast is missing at the burst's last word"),
        (1, [(1, 0, word(1, data=1)), (1, 1, word(1, data=2))], "wdata changed from 0x1 to 0x2 before wready"),
        (1, [(1, 0, word(1, 1)), (1, 1, word(1, 3))], "wstrb changed from 0x1 to 0x3 before wready"),
        (1, [(1, 0, word(1)), (0, 1, {})], "wvalid fell before wready"),
        (1, [(1, 1, word(1, 0))], "wstrb is 0b0 in a word that is the burst's last"),
        (1, [(1, 1, word(1, 0b110))], "wstrb is 0b110 in a word that is the burst's last"),
        (2, [(1, 1, word(0, 0x7F))], "wstrb is 0b1111111 in a word that is not the burst's last"),
        (1, [(1, 1, word(1)), (1, 1, word(1))], "data were written before their address"),
    ],
)
def test_written_data(words: int, cycles: list[tuple[int, int, dict[str, int]]], message: str) -> None:
    seen = ready_to_write(words)
    for cycle in cycles[:-1]:
        seen.write_data(*cycle)
    with pytest.raises(BrokenRule, match=f"^{message}$"):
        seen.write_data(*cycles[-1])


def test_how_many_are_under_way() -> None:
    for channel, most, name in (("ar", CONFIG.outstanding_reads, "reads"), ("aw", CONFIG.outstanding_writes, "writes")):
        seen = rules()
        for _ in range(most):
            seen.address(channel, 1, 1, burst(channel))
        with pytest.raises(BrokenRule, match=f"more than {most} {name} are under way"):
            seen.address(channel, 1, 1, burst(channel))


def test_answers_without_a_request() -> None:
    with pytest.raises(BrokenRule, match="rready although nothing was read"):
        rules().read_data(1, 1, {"rlast": 1})
    with pytest.raises(BrokenRule, match="bready although nothing was written"):
        rules().write_answer(1, 1)


REGISTER_FAULTS: list[tuple[str, Callable[[RegisterRules], None]]] = [
    ("bvalid without a request", lambda seen: seen.answer("b", 1, 0, {"bresp": 0})),
    ("rvalid without a request", lambda seen: seen.answer("r", 1, 1, {"rdata": 0, "rresp": 0})),
]


@pytest.mark.parametrize(("message", "fault"), REGISTER_FAULTS)
@pytest.mark.parametrize("half", ["aw", "w", ""])
def test_register_answers_follow_requests(message: str, fault: Callable[[RegisterRules], None], half: str) -> None:
    seen = RegisterRules()
    if half:
        seen.request(half, 1, 1)
    with pytest.raises(BrokenRule, match=message):
        fault(seen)


def test_register_answers_stay() -> None:
    seen = RegisterRules()
    for channel in ("aw", "w", "ar"):
        seen.request(channel, 1, 1)
    assert seen.under_way == 1
    seen.answer("b", 1, 0, {"bresp": 0})
    seen.answer("r", 1, 0, {"rdata": 5, "rresp": 0})
    with pytest.raises(BrokenRule, match="bvalid fell before bready"):
        seen.answer("b", 0, 0, {})
    with pytest.raises(BrokenRule, match="rdata changed from 0x5 to 0x6 before rready"):
        seen.answer("r", 1, 1, {"rdata": 6, "rresp": 0})
    seen.answer("r", 1, 1, {"rdata": 5, "rresp": 0})
    seen.answer("b", 1, 1, {"bresp": 0})
    assert seen.under_way == 0
