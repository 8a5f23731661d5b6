"""Values of a few signals, cycle by cycle, from a waveform (VCD) that the simulator wrote."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

__all__ = ["read_waveform"]


def read_waveform(path: Path, signals: Mapping[str, str], clock: str) -> dict[str, list[int]]:
    """Values that the signals have at every rising edge of the clock, that is, before what it changes.

    Parameters
    ----------
    path
        VCD file.
    signals
        Full name (scopes and name joined by dots) of each signal by the name that it has in the result.
    clock
        Full name of the clock.

    Raises
    ------
    ValueError
        If the waveform has no signal of that name.
    """
    found: dict[str, str] = {}
    scopes: list[str] = []
    with path.open(encoding="ascii", errors="replace") as file:
        for line in file:
            words = line.split()
            if not words:
                continue
            if words[0] == "$scope":
                scopes.append(words[2])
            elif words[0] == "$upscope":
                scopes.pop()
            elif words[0] == "$var":
                found.setdefault(".".join([*scopes, words[4]]), words[3])
            elif words[0] == "$enddefinitions":
                break
        for name in (*signals.values(), clock):
            if name not in found:
                raise ValueError(f"the waveform must have the signal {name!r}")

        values = dict.fromkeys((found[name] for name in (*signals.values(), clock)), 0)
        before = dict(values)
        columns: dict[str, list[int]] = {name: [] for name in signals}
        for line in file:
            first = line[0]
            if first in "01xz":
                code, value = line[1:].rstrip(), int(first == "1")
            elif first == "b":
                text, code = line[1:].split()
                if code not in values:
                    continue
                value = int(text.replace("x", "0").replace("z", "0"), 2)
            elif first == "#":
                before = dict(values)
                continue
            else:
                continue
            if code not in values:
                continue
            if code == found[clock] and value and not values[code]:
                for name, signal in signals.items():
                    columns[name].append(before[found[signal]])
            values[code] = value
    return columns
