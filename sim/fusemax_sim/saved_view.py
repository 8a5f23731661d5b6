"""Saved views of a waveform: the signals that a reader wants first, for GTKWave (``.gtkw``) and Surfer (``.sucl``)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from fusemax.spec import MICROWORD, Config

from .waveform import Waveform

__all__ = ["ViewedSignal", "viewed_signals", "write_saved_views"]


@dataclass(frozen=True)
class ViewedSignal:
    """A signal in a saved view.

    Members
    -------
    name
        Scopes and name, joined by dots.
    bits
        Its width.
    style
        ``bit``, ``hex``, ``decimal`` (signed), ``unsigned`` or ``enum``.
    """

    name: str
    bits: int = 1
    style: str = "bit"

    @property
    def level(self) -> int:
        """Level of the hierarchy that it is on, as :class:`Waveform` counts."""
        return self.name.count(".")


#: GTKWave's format flags: right-justified, and binary, hexadecimal, decimal, signed decimal, or the names of an enumeration.
GTKWAVE_FLAGS = {"bit": 0x28, "hex": 0x22, "unsigned": 0x24, "decimal": 0x420, "enum": 0x1_0000_0022}


def viewed_signals(config: Config) -> dict[str, list[ViewedSignal]]:
    """The signals by the heading that they stand under."""
    core, registers = "sim_top.device.machine.core.", "sim_top.device.machine.registers."
    op_bits = next(field.bits for _, field in MICROWORD.placed() if field.name == "op")

    def bus(prefix: str, **channels: dict[str, tuple[int, str]]) -> Iterator[ViewedSignal]:
        for channel, payload in channels.items():
            for name, (bits, style) in ({"valid": (1, "bit"), "ready": (1, "bit")} | payload).items():
                yield ViewedSignal(f"sim_top.{prefix}_{channel}{name}", bits, style)

    address, burst = (config.address_bits, "hex"), {"len": (8, "unsigned")}
    word, last = (config.bus_bits, "hex"), {"last": (1, "bit")}
    register, value = {"addr": (12, "hex")}, {"data": (32, "hex")}
    return {
        "Time": [
            ViewedSignal("sim_top.clk"),
            ViewedSignal("sim_top.rst"),
            ViewedSignal("sim_top.cycle", 64, "unsigned"),
            ViewedSignal("sim_top.irq"),
        ],
        "Corner of the array": [
            ViewedSignal("sim_top.tiles.newest_tile", 32, "decimal"),
            ViewedSignal("sim_top.tiles.operation", op_bits, "enum"),
            ViewedSignal("sim_top.tiles.operation_tile", 32, "decimal"),
            ViewedSignal("sim_top.tiles.max"),
            ViewedSignal("sim_top.tiles.max_tile", 32, "decimal"),
            ViewedSignal("sim_top.tiles.corner", 3, "enum"),
        ],
        "Fields of the operation's tile": [
            ViewedSignal("sim_top.tiles.keys", 9, "unsigned"),
            ViewedSignal("sim_top.tiles.queries", 9, "unsigned"),
            ViewedSignal("sim_top.tiles.first"),
            ViewedSignal("sim_top.tiles.last"),
        ],
        "Jobs": [
            ViewedSignal(f"{registers}busy"),
            ViewedSignal(f"{registers}tail", 16, "unsigned"),
            ViewedSignal(f"{core}dispatcher.head", 16, "unsigned"),
        ],
        "Tiles have come": [ViewedSignal(f"{core}sequencer.{name}_loaded") for name in ("query", "key", "value")],
        "Registers": list(bus("s_axil", aw=register, w=value, b={}, ar=register, r=value)),
        "Memory, read": list(bus("m_axi", ar={"addr": address, **burst}, r={"data": word, **last})),
        "Memory, written": list(bus("m_axi", aw={"addr": address, **burst}, w={"data": word, **last}, b={})),
    }


def write_saved_views(config: Config, waveform: Waveform) -> list[Path]:
    """Write both views beside the waveform, under its name; one that is there is somebody's and stays.

    Signals that lie deeper than the waveform goes are left out.

    Returns
    -------
    The files that were written.
    """
    groups = {
        heading: [signal for signal in signals if signal.level <= waveform.depth]
        for heading, signals in viewed_signals(config).items()
    }
    groups = {heading: signals for heading, signals in groups.items() if signals}
    written = []
    for suffix, text in ((".gtkw", gtkwave(waveform.path.name, groups)), (".sucl", surfer(groups))):
        path = waveform.path.with_suffix(suffix)
        if not path.exists():
            path.write_text(text, encoding="utf-8")
            written.append(path)
    return written


def gtkwave(waveform: str, groups: dict[str, list[ViewedSignal]]) -> str:
    """Text of GTKWave's save file."""
    lines = [f'[dumpfile] "{waveform}"', "[sst_expanded] 1"]
    for heading, signals in groups.items():
        lines += ["@200", f"-{heading}"]
        for signal in signals:
            lines += [f"@{GTKWAVE_FLAGS[signal.style]:x}", signal.name + (f"[{signal.bits - 1}:0]" if signal.bits > 1 else "")]
    return "\n".join(lines) + "\n"


def surfer(groups: dict[str, list[ViewedSignal]]) -> str:
    """Text of Surfer's command file."""
    lines = []
    for heading, signals in groups.items():
        lines += [f"divider_add {heading}", *(f"variable_add {signal.name}" for signal in signals)]
    return "\n".join([*lines, "zoom_fit"]) + "\n"
