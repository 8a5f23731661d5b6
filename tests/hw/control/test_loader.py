"""Loader: words for the edges, tiles that have come, infinities and NaN."""

import numpy as np
import pytest
from bench import Bench, pack, unpack

from fusemax.arith.query_scale import scale_query
from fusemax.spec import Config
from fusemax_hw.arith.query_scale import QueryScale
from fusemax_hw.bus.reader import beat_layout
from fusemax_hw.control.load_walker import LoadKind, load_tag
from fusemax_hw.control.loader import Loader
from fusemax_hw.words import north_bus

SCALED = (LoadKind.QUERY, LoadKind.BIAS)
SCALES = (0x3F800000, 0x3E38AA3B, 0xC0490FDB, 0x7F000000)


def random_element(rng):
    sign, mantissa = rng.getrandbits(1), rng.getrandbits(7)
    exponent = rng.choice((0, 255, 254)) if rng.random() < 0.02 else rng.randint(100, 150)
    return sign << 15 | exponent << 7 | mantissa


def random_beats(rng, config, tiles):
    """Words of whole tiles; between them words that are not for the loader."""
    buffers = {LoadKind.KEY: 0, LoadKind.VALUE: 0}
    for _ in range(tiles):
        kind = rng.choice(list(LoadKind))
        words, rows = rng.randint(1, config.key_beats), rng.randint(1, config.rows)
        base = rng.randrange(config.query_bank_beats - words + 1)
        if kind in buffers:
            buffers[kind] ^= 1
            base = buffers[kind] * config.key_beats + (2 * config.key_beats if kind is LoadKind.VALUE else 0)
        scale, tail = rng.choice(SCALES), rng.randint(1, config.beat_elements)
        row_scale = rng.getrandbits(1) if kind is LoadKind.QUERY else 0
        wide = rng.getrandbits(1) if kind is LoadKind.BIAS else 0
        words += row_scale
        for row in range(rows):
            for index in range(words):
                elements = [random_element(rng) for _ in range(config.beat_elements)]
                if index == words - 1:
                    # What is behind the row's end is not looked at.
                    elements[tail:] = [rng.choice((0x7F80, 0xFFFF, 0x7F7F)) for _ in elements[tail:]]
                if row_scale and index == 0:
                    scale = rng.choice(SCALES)
                    elements[:2] = scale & 0xFFFF, scale >> 16
                yield {
                    "factor": scale,
                    "data": elements,
                    "index": index,
                    "last": int(index == words - 1),
                    "error": 0,
                    "tag": {
                        "kind": kind.value,
                        "place": row,
                        "base": base,
                        "tail": tail,
                        "last": int(row == rows - 1),
                        "scale": rng.getrandbits(32) if row_scale else scale if kind in SCALED else 0,
                        "row_scale": row_scale,
                        "wide": wide,
                    },
                }


def existing(beat):
    return beat["data"][: beat["tag"]["tail"]] if beat["last"] else beat["data"]


def nonfinite(elements):
    return any(element >> 7 & 255 == 255 for element in elements)


@pytest.mark.parametrize(("bus_bits", "paces"), [(32, (0.3, 1.0)), (64, (0.3, 1.0)), (128, (1.0,))])
def test_words(bus_bits, paces):
    config = Config(rows=4, columns=4, max_e=12, max_f=12, bus_bits=bus_bits, query_tiles=2)
    bench = Bench(Loader(config), seed=bus_bits)
    dut, rng = bench.dut, bench.rng
    beats = list(random_beats(rng, config, 120))
    layout = beat_layout(config, load_tag(config))
    go = bench.stalls(*paces)
    queue, now = list(reversed(beats)), {}
    query_latency = QueryScale.latency + 1
    #: What the outputs are in which cycle.
    words, queries = {}, {}
    pulses = {
        name: set()
        for name in ("query_loaded", "key_loaded", "value_loaded", "mask_loaded", "bias_loaded", "nonfinite", "overflow")
    }

    def act():
        beat = now["beat"] = queue.pop() if queue and go() else None
        now["bits"] = rng.getrandbits(layout.size)
        if beat is None:
            return
        elements, tag, cycle = beat["data"], beat["tag"], bench.cycle
        payload = pack(layout["data"].shape, sum(element << 16 * index for index, element in enumerate(elements)))
        factor = beat.pop("factor")
        now["bits"] = pack(layout, {**beat, "data": payload})
        kind, ends = LoadKind(tag["kind"]), beat["last"] and tag["last"]
        where = {"valid": 1, "skip": tag["place"], "beat": tag["base"] + beat["index"]}
        if kind in (LoadKind.KEY, LoadKind.VALUE):
            words[cycle + 1] = where | {"payload": payload}
            if nonfinite(existing(beat)):
                pulses["nonfinite"].add(cycle + 2)
        if kind is LoadKind.KEY and ends:
            pulses["key_loaded"].add(cycle + 1)
        if kind is LoadKind.VALUE and ends:
            pulses["value_loaded"].add(cycle + 1)
        if kind in (LoadKind.MASK, LoadKind.BIAS) and ends:
            pulses[f"{kind.name.lower()}_loaded"].add(cycle + query_latency)
        if kind is LoadKind.MASK or (kind is LoadKind.BIAS and tag["wide"]):
            # Elements of 16 bits or, two of the word's, of 32; the bank's have 27.
            bits, size = 16 if kind is LoadKind.MASK else 32, north_bus(config).size
            elements = [payload >> start & (1 << min(bits, size)) - 1 for start in range(0, bus_bits, bits)]
            queries[cycle + query_latency] = where | {"payload": sum(word << size * i for i, word in enumerate(elements))}
        elif kind in SCALED and (beat["index"] or not tag["row_scale"]):
            where["beat"] -= tag["row_scale"]
            scaled = scale_query(config, np.array(elements), factor)
            bus = [
                pack(north_bus(config), {"operand": int(operand), "exponent": int(exponent)})
                for operand, exponent in zip(scaled.operand, scaled.exponent_word, strict=True)
            ]
            size = north_bus(config).size
            queries[cycle + query_latency] = where | {"payload": sum(word << size * index for index, word in enumerate(bus))}
            if nonfinite(existing(beat)):
                pulses["nonfinite"].add(cycle + query_latency)
            if any(scaled.overflow[: len(existing(beat))]):
                pulses["overflow"].add(cycle + query_latency)
            if ends and kind is LoadKind.QUERY:
                pulses["query_loaded"].add(cycle + query_latency)

    bench.each(act)
    bench.drive(dut.beat, lambda: now["bits"])
    bench.drive(dut.beat_valid, lambda: now["beat"] is not None)

    def check_port(port, expected):
        def check(bits):
            word = unpack(port.shape(), bits)
            if bench.cycle in expected:
                assert word == expected[bench.cycle], f"cycle {bench.cycle}"
            else:
                assert not word["valid"], f"cycle {bench.cycle}"

        bench.watch(port, check)

    check_port(dut.key_value, words)
    check_port(dut.query, queries)
    for name, cycles in pulses.items():
        bench.watch(
            getattr(dut, name),
            lambda value, name=name, cycles=cycles: value == (bench.cycle in cycles) or pytest.fail(f"{name} in {bench.cycle}"),
        )

    bench.run(lambda: not queue, 20 * len(beats), settle=12)
    assert all(pulses.values())
