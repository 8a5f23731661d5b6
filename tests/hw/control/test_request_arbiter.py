"""Request arbiter: control first, then the earliest deadline, modulo the wrap."""

import pytest
from bench import Bench

from fusemax.spec import Config
from fusemax_hw.control.load_walker import DEADLINE_BITS, LoadKind, load_tag
from fusemax_hw.control.request_arbiter import RequestArbiter

CONFIG = Config(rows=4, columns=4)
PORTS = ("query", "key", "value")


def random_request(rng, kind):
    fields = ("place", "base", "tail", "first", "last", "scale")
    shape = load_tag(CONFIG)
    tag = {name: rng.getrandbits(shape[name].width) for name in fields}
    return {
        "address": rng.getrandbits(CONFIG.address_bits),
        "beats": rng.randint(1, 511),
        "tag": {"kind": kind.value, **tag},
    }


def rows_of(rng, kind, count, start):
    """Requests with rising deadlines that wrap around, unwrapped in ``due``."""
    due = start
    for _ in range(count):
        yield {**random_request(rng, kind), "deadline": due % (1 << DEADLINE_BITS), "due": due}
        due += rng.choice((0, 0, 0, 1, rng.randint(1, 9)))


@pytest.mark.parametrize("stalled", [True, False])
def test_order(stalled):
    bench = Bench(RequestArbiter(CONFIG), seed=2)
    dut, rng = bench.dut, bench.rng
    start = (1 << DEADLINE_BITS) - 300
    requests = {
        port: list(rows_of(rng, kind, 300, start))
        for port, kind in zip(PORTS, (LoadKind.QUERY, LoadKind.KEY, LoadKind.VALUE), strict=True)
    }
    requests["control"] = [{**random_request(rng, LoadKind.PROGRAM), "due": -1} for _ in range(40)]
    go = bench.stalls if stalled else lambda *_: bench.stalls(1.0)
    sources = {
        port: bench.source(
            getattr(dut, port),
            [{name: value for name, value in request.items() if name != "due"} for request in items],
            go() if port != "control" else bench.stalls(0.05, 0.3),
        )
        for port, items in requests.items()
    }
    runs = bench.sink(dut.runs, go())
    order = []
    offers = {}
    for port in requests:
        bench.watch(getattr(dut, port).valid, lambda value, port=port: offers.update({port: value}))

    def decide(_):
        """Whatever goes in this cycle is due first among what was offered; ties in the order control, Q, K, V."""
        taken = [port for port, source in sources.items() if source.taken and source.taken[-1] == bench.cycle]
        assert len(taken) <= 1
        for port in taken:
            heads = {
                other: requests[other][len(sources[other].taken) - (other == port)]
                for other, offered in offers.items()
                if offered
            }
            first = min(("control", *PORTS), key=lambda name: heads[name]["due"] if name in heads else float("inf"))
            assert port == first
            order.append(heads[port])

    bench.watch(dut.runs.valid, decide)
    total = sum(len(items) for items in requests.values())
    bench.run(lambda: len(runs.received) >= total, 60 * total, settle=10)
    assert runs.received == [{name: request[name] for name in ("address", "beats", "tag")} for request in order]
    if not stalled:
        # Control leaves gaps only if nobody else has anything left.
        busy = [cycle for cycle in runs.taken if cycle <= max(sources[port].taken[-1] for port in PORTS)]
        assert busy == list(range(busy[0], busy[0] + len(busy)))
