"""Request arbiter: control first, then the earliest deadline, modulo the wrap."""

import pytest
from bench import Bench

from fusemax.spec import Config
from fusemax_hw.control.load_walker import DEADLINE_BITS, LoadKind, load_tag
from fusemax_hw.control.request_arbiter import RequestArbiter

CONFIG = Config(rows=4, columns=4)
KINDS = {
    "query": LoadKind.QUERY,
    "key": LoadKind.KEY,
    "mask": LoadKind.MASK,
    "bias": LoadKind.BIAS,
    "value": LoadKind.VALUE,
}
PORTS = tuple(KINDS)


def random_request(rng, kind):
    fields = ("place", "base", "tail", "last", "scale", "row_scale", "wide")
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
    requests = {port: list(rows_of(rng, kind, 300, start)) for port, kind in KINDS.items()}
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
    offers, shown, before = {}, {}, dict.fromkeys(PORTS, 0)
    for port in requests:
        bench.watch(getattr(dut, port).valid, lambda value, port=port: offers.update({port: value}))
    for port in PORTS:
        bench.watch(getattr(dut, port).payload.deadline, lambda value, port=port: shown.update({port: value}))

    def due_first():
        """Control, or the first of the others that none of the others is before, by the deadlines of the cycle before."""
        half = 1 << DEADLINE_BITS - 1
        offered = [port for port in PORTS if offers[port]]
        if offers["control"]:
            return "control"
        return next(
            port
            for index, port in enumerate(offered)
            if all((before[other] - before[port]) % (2 * half) < half for other in offered[index + 1 :])
        )

    def decide(_):
        """Whatever goes in this cycle is due first among what was offered; ties in the order of the ports."""
        taken = [port for port, source in sources.items() if source.taken and source.taken[-1] == bench.cycle]
        assert len(taken) <= 1
        for port in taken:
            assert port == due_first()
            order.append(requests[port][len(sources[port].taken) - 1])
        before.update(shown)

    bench.watch(dut.runs.valid, decide)
    total = sum(len(items) for items in requests.values())
    bench.run(lambda: len(runs.received) >= total, 60 * total, settle=10)
    assert runs.received == [{name: request[name] for name in ("address", "beats", "tag")} for request in order]
    if not stalled:
        # Control leaves gaps only if nobody else has anything left.
        busy = [cycle for cycle in runs.taken if cycle <= max(sources[port].taken[-1] for port in PORTS)]
        assert busy == list(range(busy[0], busy[0] + len(busy)))
