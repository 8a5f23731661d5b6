"""Model of the sequencer: keeps every iteration's tile in a list, and knows what a word of the loop means for it."""

from fusemax.spec import MICROWORD, Op
from fusemax_hw.words import NorthSource

__all__ = ["INTERVAL", "SLOTS", "STALLS", "SequencerModel"]

SLOTS = ("slots_qk", "slots_exp", "slots_sum", "slots_slnv", "slots_function", "slots_empty")
FUNCTIONS = (Op.LIN, Op.SET, Op.ADD, Op.ENT, Op.BIAS)
STALLS = ("stall_q", "stall_k", "stall_v", "stall_output")
#: Of a tile, what the north edge gets with a MASK.
INTERVAL = ("lo", "hi", "phase", "share", "keys", "queries", "bits")


class SequencerModel:
    """One call of :meth:`step` per cycle, with what was offered in it."""

    def __init__(self, config, program, fixed_reference=0, spare_hold=0, values_in_keys=0):
        self.config = config
        self.values_in_keys = values_in_keys
        self.fixed_reference = fixed_reference
        self.rotation = config.holds - spare_hold
        #: Hold register of every iteration's tile, and of the next one.
        self.holds, self.hold = [], 0
        self.words = [MICROWORD.unpack(word) for word in program.microwords]
        #: Tile of every iteration so far, or None.
        self.iterations = []
        #: Operations done for the tile of every iteration.
        self.done = []
        self.running = False
        self.slot = 0
        self.waiting = dict.fromkeys("qkvmb", 0)
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
                name = "empty" if tile is None or op is Op.NOP else "function" if op in FUNCTIONS else op.name.lower()
                events[f"slots_{name}"] = 1
                self.beside(word, out, events, pulses)
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
                self.holds.append(self.hold)
                self.hold = (self.hold + 1) % self.rotation
                self.done.append([])
            elif self.config.functions:
                self.hold = 0
        if takes:
            events["tiles"] = 1
        for name in "qkvmb":
            self.waiting[name] += loaded[name]
        self.rows -= freed
        return events, out, pulses, issued, between

    def stall(self, word, op, tile):
        youngest = self.tile(0)[1]
        if word["mask"] and youngest and youngest["new_bits"] and not self.waiting["m"]:
            return "stall_q"
        if tile is None:
            return None
        if op is Op.SUM and tile["last"] and tile["state_out"] and self.rows >= tile["output_slots"]:
            return "stall_output"
        if not word["first"]:
            return None
        if op is Op.QK and word["src"]:
            return None
        if op is Op.QK and tile["first"] and not self.waiting["q"]:
            return "stall_q"
        if op is Op.QK and tile["new_keys"] and not self.waiting["k"]:
            return "stall_k"
        if op is Op.BIAS and tile["new_keys"] and not self.waiting["b"]:
            return "stall_q"
        if op is Op.SLNV and tile["new_keys"] and not self.values_in_keys and not self.waiting["v"]:
            return "stall_v"
        if self.begins_row(word, op) and tile["last"] and not tile["state_out"] and self.rows >= tile["output_slots"]:
            return "stall_output"
        return None

    @staticmethod
    def begins_row(word, op):
        """Whether these are the first of a tile's numerators."""
        return bool(word["first"] and op in (Op.SLNV, Op.ENT) and word["index"] == 0)

    def beside(self, word, out, events, pulses):
        """What a word does beside its main operation."""
        number, tile = self.tile(word["stage"] if word["dst"] else 1)
        if word["max"] and tile:
            self.done[number].append("MAX")
            events["slots_max"] = 1
            out |= {
                "max": 1,
                "hold_max": self.holds[number],
                "first_max": tile["first"],
                "reference": tile["reference"],
            }
        if word["mask"] and self.tile(0)[1]:
            number, tile = self.tile(0)
            self.done[number].append("MASK")
            out |= {"mask": 1, "source": NorthSource.INTERVAL.value} | {name: tile[name] for name in INTERVAL}
            base = self.config.mask_base + tile["block"] * self.config.mask_tiles
            out |= {"bits_beat": base + tile["reference"], "bits_element": tile["element"]}
            self.waiting["m"] -= tile["new_bits"]
            pulses["mask_release"] = tile["free_bits"]

    def main(self, word, op, number, tile, out, pulses):
        config, index = self.config, word["index"]
        beat, element = divmod(index, config.beat_elements)
        clears = op is Op.QK and word["src"]
        self.done[number].append("clear" if clears else f"{op.name} {index}")
        out["op"] = op
        if clears:
            out |= {"first": word["first"], "sig": 0, "shift": 255}
            return
        if op is Op.QK:
            self.waiting["q"] -= word["first"] & tile["first"]
            self.waiting["k"] -= word["first"] & tile["new_keys"]
            out |= {"first": word["first"], "west_beat": tile["buffer"] * config.key_beats + beat, "west_element": element}
            out |= {"west_keys": tile["keys"]}
            out |= {"source": NorthSource.QUERY.value, "north_beat": tile["query"] + beat, "north_element": element}
            if word["last"]:
                pulses["query_release"] = tile["last"]
                pulses["key_release"] = tile["free_keys"] & ~self.values_in_keys
            return
        if op is Op.BIAS:
            self.waiting["b"] -= word["first"] & tile["new_keys"]
            slot = tile["bias_buffer"] * config.bias_tiles + tile["reference"]
            beat, element = divmod(index, config.beat_elements // (2 if tile["bias_wide"] else 1))
            out |= {"op": Op.QK, "first": 0, "bias_row": index, "source": NorthSource.QUERY.value}
            out |= {"north_beat": config.bias_base + slot * config.bias_words + beat, "north_element": element}
            if word["last"]:
                pulses["bias_release"] = tile["free_keys"]
            return
        spare = config.holds - 1
        out["hold"] = spare if word["src"] else self.holds[number]
        if op in (Op.EXP, Op.LIN, Op.SET) and config.linear:
            out["made"] = spare if word["dst"] else self.holds[number]
        if op is Op.EXP:
            out |= {"first": word["first"], "source": NorthSource.REFERENCE.value}
            if self.fixed_reference:
                out |= {"source": NorthSource.CONSTANT.value, "constant": word["constant"] + 1}
            return
        if op is Op.LIN:
            out |= {"first": word["first"], "source": NorthSource.CONSTANT.value, "constant": -128}
            return
        if op in (Op.SET, Op.ADD):
            sig = index - 512 if index > 255 else index
            out |= {"first": word["first"], "sig": sig, "shift": word["constant"]}
            return
        if op is Op.ENT:
            out |= {"first": 1, "sig": 0, "shift": 117 + 8 * index}
        out |= {"tile_first": tile["first"], "tile_last": tile["last"], "state": tile["state"] + index}
        out |= {"float32_out": tile["float32_out"], "raw_out": tile["raw_out"]}
        if op is Op.SUM:
            if tile["last"] and tile["state_out"]:
                self.rows += 1
                out |= {"write": 1, "output": self.output}
                self.output = (self.output + 1) % config.output_beats
            return
        self.rows += self.begins_row(word, op) & tile["last"] & ~tile["state_out"]
        if op is Op.SLNV:
            self.waiting["v"] -= word["first"] & tile["new_keys"] & ~self.values_in_keys
            address = 2 * config.key_beats + tile["buffer"] * config.value_beats
            if self.values_in_keys:
                address = tile["buffer"] * config.key_beats
            out |= {"west_beat": address + beat, "west_element": element, "west_keys": tile["keys"]}
        per_word = config.beat_elements // 2 if tile["float32_out"] else config.beat_elements
        complete = index % per_word == per_word - 1 or word["last"]
        out |= {"element": index % per_word, "write": tile["last"] & complete, "output": self.output}
        if tile["last"] and complete:
            self.output = (self.output + 1) % config.output_beats
        if word["last"]:
            self.done[number].append("last SLNV")
            pulses["key_release" if self.values_in_keys else "value_release"] = tile["free_keys"]
            pulses["results_issued"] = tile["last"]
