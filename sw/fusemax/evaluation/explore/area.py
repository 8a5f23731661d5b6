"""Area of a configuration, from the measured areas of the machine's parts.

The parts were synthesised for an ECP5 at several bus widths, the PE with several numbers of contexts (``make area``,
benchmarks/area_parts.py). A machine is rows x columns PEs, a lane and a north feeder for every column, a west feeder for every
row, and what there is once. Their memories are taken out of the measurement and put back in the configuration's own sizes.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any

from ...spec import MICROWORD, Config, ceil_div

__all__ = ["AREA_TABLE", "Area", "AreaTable", "memories_of", "memory_area"]

#: Written by benchmarks/area_parts.py.
AREA_TABLE = Path(__file__).resolve().parents[2] / "data" / "area.json"

#: LUTs that the LFE5U-85 has for each of its multipliers and each of its block memories.
LUTS_PER_DSP, LUTS_PER_RAM_18K = 83640 / 156, 83640 / 208
#: LUTs of a memory of 16 x 4 bits.
LUTS_PER_RAM_16X4 = 6
#: Shapes of a block memory: words, bits.
RAM_18K_SHAPES = ((512, 36), (1024, 18), (2048, 9), (4096, 4), (8192, 2), (16384, 1))
#: What Yosys weighs them with when it chooses one of the two for a memory.
RAM_18K_COST, RAM_16X4_COST = 64, 3


@dataclass(frozen=True)
class Area:
    """Cells of an ECP5: LUTs (LUT4, and two for every carry cell), flip-flops, multipliers, block memories, LUT memories."""

    lut: float = 0
    ff: float = 0
    dsp: float = 0
    ram_18k: float = 0
    ram_16x4: float = 0

    def __add__(self, other: Area) -> Area:
        return Area(*(getattr(self, field.name) + getattr(other, field.name) for field in fields(Area)))

    def __sub__(self, other: Area) -> Area:
        return self + -1 * other

    def __rmul__(self, count: int) -> Area:
        return Area(*(count * getattr(self, field.name) for field in fields(Area)))

    @property
    def lut_equivalents(self) -> float:
        """One number: a multiplier or block memory counts as many LUTs as the device has for each of them.

        Every LUT has a flip-flop beside it: flip-flops count if there are more of them.
        """
        logic = max(self.lut + LUTS_PER_RAM_16X4 * self.ram_16x4, self.ff)
        return logic + LUTS_PER_DSP * self.dsp + LUTS_PER_RAM_18K * self.ram_18k


def memory_area(words: int, bits: int) -> Area:
    """A memory with a write and a read port, as Yosys builds it: of blocks or, if shallow, of LUTs.

    One of LUTs has a multiplexer behind rows of 16 words and a register of its own at the output.
    """
    rows = ceil_div(words, 16)
    small = rows * ceil_div(bits, 4)
    blocks = min(ceil_div(words, depth) * ceil_div(bits, width) for depth, width in RAM_18K_SHAPES)
    if RAM_16X4_COST * small <= RAM_18K_COST * blocks:
        return Area(lut=(rows - 1) * bits, ff=bits, ram_16x4=small)
    return Area(ram_18k=blocks)


#: Part of the machine to the sizes (words, bits) of its memories that grow with the configuration.
Memories = dict[str, tuple[tuple[int, int], ...]]


def memories_of(config: Config) -> Memories:
    """Memories of one of each part (docs/explanation/microarchitecture.md, sections 4 and 5)."""
    query_bits, state_bits = 27, 34
    return {
        "lane": (
            (config.state_words, state_bits),
            (config.output_beats, config.bus_bits),
            (config.reference_words, config.reference_bits + 1),
        ),
        "north_feeder": ((config.query_bank_beats, config.beat_elements * query_bits),),
        "west_feeder": ((2 * (config.key_beats + config.value_beats), config.bus_bits),),
        "pe": (),
        "once": ((ceil_div(config.program_words * MICROWORD.bits, config.bus_bits), config.bus_bits),),
    }


def counts_of(config: Config) -> dict[str, int]:
    """How many there are of each part."""
    return {
        "lane": config.columns,
        "north_feeder": config.columns,
        "west_feeder": config.rows,
        "pe": config.rows * config.columns,
        "once": 1,
    }


@dataclass(frozen=True)
class AreaTable:
    """Measured areas.

    Members
    -------
    machines
        By bus width: the configuration that was synthesised, and the area of one of each of its parts.
    pes
        Area of a PE alone, by contexts.
    """

    machines: Mapping[int, tuple[Config, Mapping[str, Area]]]
    pes: Mapping[int, Area]

    @classmethod
    def read(cls, path: Path = AREA_TABLE) -> AreaTable:
        """The table in a file.

        Raises
        ------
        ValueError
            If the file is not one that benchmarks/area_parts.py wrote.
        OSError
            If it cannot be read.
        """
        try:
            found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
            machines = {}
            for entry in found["machines"]:
                config = Config(**entry["config"])
                machines[config.bus_bits] = config, {part: Area(**area) for part, area in entry["parts"].items()}
            return cls(machines, {entry["contexts"]: Area(**entry["area"]) for entry in found["pes"]})
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"{str(path)!r} must hold areas that benchmarks/area_parts.py wrote ({error!r})") from None

    @cached_property
    def logic(self) -> dict[int, dict[str, Area]]:
        """Areas of the parts without :func:`memories_of`, by bus width."""
        found = {}
        for bus_bits, (config, parts) in self.machines.items():
            memories = memories_of(config)
            found[bus_bits] = {part: area - total(memory_area(*m) for m in memories[part]) for part, area in parts.items()}
        return found

    def parts(self, config: Config) -> dict[str, Area]:
        """Area of one of each part of a machine.

        Raises
        ------
        ValueError
            If its bus width or number of contexts was not measured.
        """
        for name, measured in (("bus_bits", self.machines), ("contexts", self.pes)):
            if getattr(config, name) not in measured:
                raise ValueError(f"{name} must be one of {', '.join(map(str, measured))}, not {getattr(config, name)}")
        memories = memories_of(config)
        logic = self.logic[config.bus_bits]
        found = {part: area + total(memory_area(*m) for m in memories[part]) for part, area in logic.items()}
        measured_with = self.machines[config.bus_bits][0].contexts
        return found | {"pe": found["pe"] + self.pes[config.contexts] - self.pes[measured_with]}

    def area(self, config: Config) -> Area:
        """Area of a machine; raises as :meth:`parts`."""
        parts = self.parts(config)
        return total(count * parts[part] for part, count in counts_of(config).items())


def total(areas: Iterator[Area]) -> Area:
    return sum(areas, Area())
