"""Values in a waveform, cycle by cycle; needs ``pywellen``, which the extra ``dev`` has."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping
from pathlib import Path

from pywellen.pywellen import Waveform as WaveformFile

__all__ = ["Values", "read_waveform", "signal_widths"]

#: A signal's values by its name in the result.
Values = dict[str, list[int]]


def signal_widths(path: Path) -> dict[str, int]:
    """Find all signals of a waveform: their width in bits by their full name, scopes and name joined by dots."""
    return {variable.full_name: variable.bitwidth for variable in WaveformFile(str(path)).all_vars()}


def read_waveform(path: Path, signals: Mapping[str, str], clock: str) -> Values:
    """Sample signals at every rising edge of the clock, that is, before what the edge changes.

    Parameters
    ----------
    path
        ``*.fst`` or ``*.vcd``.
    signals
        Full name of each signal by the name that it has in the result.
    clock
        Full name of the clock.

    Returns
    -------
    A value for every edge, as an unsigned integer; 0 where it is not known yet.

    Raises
    ------
    ValueError
        If the waveform has no signal of that name.
    """
    variables = {variable.full_name: variable for variable in WaveformFile(str(path)).all_vars()}
    for name in (*signals.values(), clock):
        if name not in variables:
            raise ValueError(f"the waveform must have the signal {name!r}")
    edges = [time for time, value in variables[clock].tv if value == 1]
    values: Values = {}
    for name, signal in signals.items():
        times, levels = zip(*variables[signal].tv, strict=True)
        # The last change before the edge.
        found = (bisect_left(times, edge) - 1 for edge in edges)
        values[name] = [int(levels[index]) if index >= 0 and isinstance(levels[index], int) else 0 for index in found]
    return values
