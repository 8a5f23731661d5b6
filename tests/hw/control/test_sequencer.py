"""Sequencer with compiled programs, compared cycle by cycle with a model that keeps iterations in a list.

The model knows what every word of the loop means for the tile of its stage's iteration; everything that the sequencer gives
out (words, releases, events) follows from the cycles in which it takes microwords and tiles, and it must take them exactly
when it can.
"""

import pytest
from bench import Bench, Stalls, unpack
from jobs import random_job, random_mask, tiles_of

import fusemax
from fusemax.spec import MICROWORD, Config, Op
from fusemax_hw.control.sequencer import Sequencer, sequencer_events
from fusemax_hw.words import NorthSource

SLOTS = ("slots_qk", "slots_exp", "slots_sum", "slots_slnv", "slots_empty")
INTERVAL = ("lo", "hi", "phase", "share", "keys", "queries")
STALLS = ("stall_q", "stall_k", "stall_v", "stall_output")


class Model:
    """One call of :meth:`step` per cycle, with what was offered in it."""

    def __init__(self, config, program):
        self.config = config
        self.words = [MICROWORD.unpack(word) for word in program.microwords]
        #: Tile of every iteration so far, or None.
        self.iterations = []
        #: Operations done for the tile of every iteration.
        self.done = []
        self.running = False
        self.slot = 0
        self.waiting = dict.fromkeys("qkv", 0)
        self.rows = self.output = 0

    def tile(self, stage):
        """Number and tile of the iteration ``stage`` ago, if it has one that is not complete."""
        number = len(self.iterations) - 1 - stage
        complete = number < 0 or self.iterations[number] is None or "last SLNV" in self.done[number]
        return (number, None) if complete else (number, self.iterations[number])

    def step(self, word_offered, tile_offered, loaded, freed):
        """Events, outputs of the corner, pulses; whether the word and the tile are taken."""
        events, pulses, out = {}, {}, {"op": Op.NOP, "max": 0, "mask": 0}
        issued = False
        if not (self.running and word_offered):
            events["idle"] = 1
        else:
            word = self.words[self.slot]
            op, (number, tile) = Op(word["op"]), self.tile(word["stage"])
            stall = self.stall(word, op, tile)
            if stall:
                events[stall] = 1
            else:
                issued = True
                name = "empty" if tile is None or op is Op.NOP else op.name.lower()
                events[f"slots_{name}"] = 1
                self.beside(word, out, events)
                if name != "empty":
                    self.main(word, op, number, tile, out, pulses)
                self.slot = (self.slot + 1) % len(self.words)
        between = not self.running or (issued and self.slot == 0)
        takes = between and tile_offered is not None
        if between:
            alive = any(self.tile(stage)[1] is not None for stage in range(self.config.contexts))
            self.running = takes or alive
            if self.running:
                self.iterations.append(tile_offered)
                self.done.append([])
        if takes:
            events["tiles"] = 1
        for name in "qkv":
            self.waiting[name] += loaded[name]
        self.rows -= freed
        return events, out, pulses, issued, between

    def stall(self, word, op, tile):
        if tile is None:
            return None
        if op is Op.SUM and tile["last"] and tile["state_out"] and self.rows >= tile["output_slots"]:
            return "stall_output"
        if not word["first"]:
            return None
        if op is Op.QK and tile["first"] and not self.waiting["q"]:
            return "stall_q"
        if op is Op.QK and tile["new_keys"] and not self.waiting["k"]:
            return "stall_k"
        if op is Op.SLNV and tile["new_keys"] and not self.waiting["v"]:
            return "stall_v"
        if op is Op.SLNV and tile["last"] and not tile["state_out"] and self.rows >= tile["output_slots"]:
            return "stall_output"
        return None

    def beside(self, word, out, events):
        """What a word does beside its main operation."""
        if word["max"] and self.tile(1)[1]:
            number, tile = self.tile(1)
            self.done[number].append("MAX")
            events["slots_max"] = 1
            out |= {
                "max": 1,
                "hold_max": number % self.config.holds,
                "first_max": tile["first"],
                "reference": tile["reference"],
            }
        if word["mask"] and self.tile(0)[1]:
            number, tile = self.tile(0)
            self.done[number].append("MASK")
            out |= {"mask": 1, "source": NorthSource.INTERVAL.value} | {name: tile[name] for name in INTERVAL}

    def main(self, word, op, number, tile, out, pulses):
        config, index = self.config, word["index"]
        beat, element = divmod(index, config.beat_elements)
        self.done[number].append(f"{op.name} {index}")
        out["op"] = op
        if op is Op.QK:
            self.waiting["q"] -= word["first"] & tile["first"]
            self.waiting["k"] -= word["first"] & tile["new_keys"]
            out |= {"first": word["first"], "west_beat": tile["buffer"] * config.key_beats + beat, "west_element": element}
            out |= {"source": NorthSource.QUERY.value, "north_beat": tile["query"] + beat, "north_element": element}
            if word["last"]:
                pulses["query_release"], pulses["key_release"] = tile["last"], tile["free_keys"]
            return
        out["hold"] = number % config.holds
        if op is Op.EXP:
            out["source"] = NorthSource.REFERENCE.value
            return
        out |= {"tile_first": tile["first"], "tile_last": tile["last"], "state": tile["state"] + index}
        out |= {"float32_out": tile["float32_out"], "raw_out": tile["raw_out"]}
        if op is Op.SUM:
            if tile["last"] and tile["state_out"]:
                self.rows += 1
                out |= {"write": 1, "output": self.output}
                self.output = (self.output + 1) % config.output_beats
            return
        self.waiting["v"] -= word["first"] & tile["new_keys"]
        self.rows += word["first"] & tile["last"] & ~tile["state_out"]
        address = tile["buffer"] * config.value_beats + beat
        out |= {"west_beat": 2 * config.key_beats + address, "west_element": element}
        per_word = config.beat_elements // 2 if tile["float32_out"] else config.beat_elements
        complete = index % per_word == per_word - 1 or word["last"]
        out |= {"element": index % per_word, "write": tile["last"] & complete, "output": self.output}
        if tile["last"] and complete:
            self.output = (self.output + 1) % config.output_beats
        if word["last"]:
            self.done[number].append("last SLNV")
            pulses["value_release"], pulses["results_issued"] = tile["free_keys"], tile["last"]


def corner(west, north, lane):
    """The outputs in the model's terms."""
    control = west["control"]
    op = Op(control["op"])
    assert (lane["sum"], lane["slnv"], lane["max"]) == (op is Op.SUM, op is Op.SLNV, control["max"])
    assert west["row"] == 0
    out = {"op": op, "max": control["max"], "mask": control["mask"]}
    if control["max"]:
        assert lane["hold_max"] == control["hold_max"]
        out |= {"hold_max": control["hold_max"], "first_max": lane["first_max"], "reference": lane["reference"]}
    if control["mask"]:
        out |= {"source": north["source"]} | {name: north[name] for name in INTERVAL}
    if op is Op.QK:
        out |= {
            "first": control["first"],
            "west_beat": west["beat"],
            "west_element": west["element"],
            "source": north["source"],
        }
        out |= {"north_beat": north["beat"], "north_element": north["element"]}
    if op is Op.EXP:
        assert north["hold"] == control["hold"]
        out["source"] = north["source"]
    if op in (Op.SUM, Op.SLNV):
        assert lane["hold"] == control["hold"]
        out |= {
            "tile_first": lane["first"],
            "tile_last": lane["last"],
            "state": lane["state"],
            "float32_out": lane["float32_out"],
            "raw_out": lane["raw_out"],
        }
    if op in (Op.EXP, Op.SUM, Op.SLNV):
        out["hold"] = control["hold"]
    if op is Op.SLNV:
        out |= {"west_beat": west["beat"], "west_element": west["element"]}
        out |= {"element": lane["element"], "write": lane["write"], "output": lane["output"]}
    elif lane["write"]:
        assert op is Op.SUM
        out |= {"write": 1, "output": lane["output"]}
    return out


class Test:
    """A sequencer, its surroundings and the model."""

    __test__ = False

    def __init__(self, config, e, f, seed, jobs, stalled):
        self.config = config
        self.bench = bench = Bench(Sequencer(config), seed)
        self.dut, rng = bench.dut, bench.rng
        self.program = fusemax.compile(head_dim=e, value_dim=f, config=config)
        self.model = Model(config, self.program)
        self.jobs = []
        # Another number of rooms comes only after the machine has drained.
        slots = rng.choice((1, 1, 2))
        for index in range(jobs):
            job = random_job(
                rng, config, e, f, queries=2 * config.columns * config.query_tiles, keys=3 * config.rows, float32_out=index % 2
            )
            job |= {
                "restart": int(index == 0),
                "output_slots": slots,
                "state_out": rng.getrandbits(1),
                "raw_out": rng.getrandbits(1),
            }
            self.jobs.append(job | random_mask(rng, config, job))
        self.tiles = list(tiles_of(config, self.jobs))
        ii = self.program.ii

        # Microwords without end and tiles, perhaps with pauses.
        def go(*paces):
            return bench.stalls(*paces) if stalled else bench.stalls(1.0)

        layout = self.dut.words.payload.shape()
        self.loop = [
            {"word": unpack(layout["word"].shape, word), "last": int(slot == ii - 1)}
            for slot, word in enumerate(self.program.microwords)
        ]
        self.words = bench.source(self.dut.words, self.loop, go(0.7, 1.0, 1.0))
        self.tile_source = bench.source(self.dut.tiles, self.tiles, go(1 / 3 / ii, 0.1, 1.0, 1.0))

        # Memories fill and empty at their own pace, within their sizes.
        self.pulses = dict.fromkeys(("query_release", "key_release", "value_release", "results_issued"), 0)
        self.to_load = {
            "q": sum(tile["first"] for tile in self.tiles),
            "k": sum(tile["new_keys"] for tile in self.tiles),
            "v": sum(tile["new_keys"] for tile in self.tiles),
        }
        self.resident = dict.fromkeys("qkv", 0)
        self.room = {"q": self.jobs[0]["query_slots"], "k": 2, "v": 2}
        self.paces = {name: Stalls(rng, (0.0, 0.3 / ii, 1.0) if stalled else (1.0,), spell=10 * ii) for name in "qkvo"}
        self.stored = 0
        self.now = {}
        bench.each(self.surroundings)
        for name, port in (("q", "query_loaded"), ("k", "key_loaded"), ("v", "value_loaded"), ("o", "output_freed")):
            bench.drive(getattr(self.dut, port), lambda name=name: self.now[name])

        # What comes out.
        self.seen = {}
        for name in (*self.pulses, "tiles", "words"):
            port = getattr(self.dut, name)
            bench.watch(
                port.ready if name in ("tiles", "words") else port, lambda value, name=name: self.seen.update({name: value})
            )
        for name in ("west", "north", "lane", "events"):
            port = getattr(self.dut, name)
            bench.watch(port, lambda value, name=name, port=port: self.seen.update({name: unpack(port.shape(), value)}))
        bench.watch(self.dut.west.row, lambda _: self.check())
        nothing = {"op": Op.NOP, "max": 0, "mask": 0}
        self.due_events, self.due_corner, self.due_pulses, self.due_results = {}, [nothing, nothing], {}, [0, 0]
        self.counts = dict.fromkeys(sequencer_events().members, 0)

    def surroundings(self):
        """A cycle's pulses: what was released may be loaded again, what was issued may be stored."""
        for name, release in (("q", "query_release"), ("k", "key_release"), ("v", "value_release")):
            self.resident[name] -= self.pulses[release]
        self.stored += self.pulses["results_issued"]
        for name in "qkv":
            load = self.to_load[name] and self.resident[name] < self.room[name] and self.paces[name]()
            self.now[name] = int(bool(load))
            self.to_load[name] -= self.now[name]
            self.resident[name] += self.now[name]
        self.now["o"] = int(self.stored > 0 and self.paces["o"]())
        self.stored -= self.now["o"]

    def check(self):
        cycle, seen = self.bench.cycle, self.seen
        events = {name: value for name, value in seen["events"].items() if value}
        if cycle:
            assert events == self.due_events, f"cycle {cycle}"
            assert sum(events.get(name, 0) for name in (*SLOTS, *STALLS, "idle")) == 1, f"cycle {cycle}"
        for name in events:
            self.counts[name] += 1
        self.pulses = {name: seen[name] for name in self.pulses}
        assert corner(seen["west"], seen["north"], seen["lane"]) == self.due_corner.pop(0), f"cycle {cycle}"
        expected = {name: self.due_pulses.get(name, 0) for name in self.pulses} | {"results_issued": self.due_results.pop(0)}
        assert self.pulses == expected, f"cycle {cycle}"

        # Sources drop what is taken before this is called.
        taken = [source.taken[-1:] == [cycle] for source in (self.words, self.tile_source)]
        word_offered = self.words._valid or taken[0]
        tile = None
        if taken[1]:
            tile = self.tiles[len(self.tile_source.taken) - 1]
        elif self.tile_source._valid:
            tile = self.tile_source.items[0]
        self.due_events, out, pulses, issued, between = self.model.step(word_offered, tile, self.now, self.now["o"])
        assert taken == [issued, between and tile is not None], f"cycle {cycle}"
        self.due_corner.append(out)
        self.due_results.append(pulses.pop("results_issued", 0))
        self.due_pulses = pulses
        if len(self.words.items) < 2:
            self.words.items.extend(self.loop)

    def run(self):
        ii = self.program.ii
        limit = 60 * ii * (len(self.tiles) + 5)
        self.bench.run(lambda: len(self.tile_source.taken) == len(self.tiles) and not self.model.running, limit, settle=10)
        done = [operations for tile, operations in zip(self.model.iterations, self.model.done, strict=True) if tile is not None]
        e, f = self.program.e, self.program.f
        expected = [
            "MASK",
            "MAX",
            f"SUM {f}",
            "EXP 0",
            "last SLNV",
            *(f"QK {i}" for i in range(e)),
            *(f"SLNV {i}" for i in range(f)),
        ]
        assert len(done) == len(self.tiles)
        for operations in done:
            assert sorted(operations) == sorted(expected)
            for kind in ("QK", "SLNV"):
                order = [int(operation.split()[1]) for operation in operations if operation.startswith(kind + " ")]
                assert order == sorted(order)
        assert self.counts["tiles"] == len(self.tiles)
        assert self.counts["slots_qk"] == e * len(self.tiles)
        assert self.counts["slots_slnv"] == f * len(self.tiles)
        assert self.resident == dict.fromkeys("qkv", 0)
        assert not any(self.to_load.values())


#: Machine, head dims, and seeds that meet everything that a sequencer can wait for.
MACHINES = [
    (Config(rows=4, columns=4, contexts=3, max_e=8, max_f=8, query_tiles=2), 5, 6, (0, 1, 7)),
    (Config(rows=2, columns=3, contexts=2, max_e=16, max_f=12, query_tiles=2, bus_bits=32), 16, 12, (0, 1, 3)),
    (Config(rows=6, columns=2, contexts=6, max_e=4, max_f=4, query_tiles=2, bus_bits=128), 1, 1, (0, 9, 11)),
]


@pytest.mark.parametrize("machine", range(3))
def test_issue(machine):
    config, e, f, seeds = MACHINES[machine]
    happened = set()
    for seed in seeds:
        test = Test(config, e, f, seed, jobs=max(2, 24 // (e + f)), stalled=True)
        test.run()
        happened |= {name for name, count in test.counts.items() if count}
    assert happened == set(sequencer_events().members)


@pytest.mark.parametrize("machine", range(3))
def test_no_bubbles(machine):
    """If nothing is late, tiles follow each other in exactly the initiation interval, from job to job too."""
    config, e, f, _ = MACHINES[machine]
    test = Test(config, e, f, seed=9, jobs=3, stalled=False)
    test.run()
    taken, ii = test.tile_source.taken, test.program.ii
    assert taken == list(range(taken[0], taken[0] + ii * len(test.tiles), ii))
    assert not any(test.counts[name] for name in STALLS)
