"""Which waveform a simulation writes: the file, how deep into the hierarchy, and which cycles."""

from __future__ import annotations

from dataclasses import dataclass
from os import PathLike
from pathlib import Path

__all__ = ["DEFAULT_DEPTH", "FORMATS", "Waveform"]

#: Formats by the file's ending.
FORMATS = {".fst": "fst", ".vcd": "vcd"}
#: Levels of the hierarchy that are written if nothing else is said: 1 is the testbench with both buses and the interrupt, 2
#: the device's ports, 3 its ``machine``, 4 ``registers`` and ``core``, 5 the blocks of the core: dispatcher, walkers, loader,
#: reader, writer, store, sequencer, and the edge of the array. What is inside the array (grids, PEs, feeders, lanes) begins
#: at level 6, with the queues and memories of the blocks.
DEFAULT_DEPTH = 5


@dataclass(frozen=True)
class Waveform:
    """A waveform file that is to be written.

    Members
    -------
    path
        ``*.fst`` (compressed; GTKWave and Surfer read it) or ``*.vcd`` (text). Its folder must exist.
    depth
        Levels of the hierarchy, the testbench's own signals being the first; 1 or more.
    cycles
        First and last cycle that are written, counted from 0 at the end of reset; None is all.

    Raises
    ------
    TypeError
        If a member is not of its kind.
    ValueError
        If the file's ending is another, or a number is out of its range.
    OSError
        If the file cannot be written, from :meth:`check_writable`.
    """

    path: Path
    depth: int = DEFAULT_DEPTH
    cycles: tuple[int, int] | None = None

    def __init__(self, path: str | PathLike[str], depth: int | None = None, cycles: tuple[int, int] | None = None) -> None:
        if not isinstance(path, (str, PathLike)):
            raise TypeError(f"trace must be a path, not {path!r}")
        path, depth = Path(path), DEFAULT_DEPTH if depth is None else depth
        if path.suffix not in FORMATS:
            raise ValueError(f"trace must end in {' or '.join(FORMATS)}, not {str(path)!r}")
        if not isinstance(depth, int) or isinstance(depth, bool):
            raise TypeError(f"trace_depth must be an integer, not {depth!r}")
        if not 1 <= depth <= 99:
            raise ValueError(f"trace_depth must be from 1 to 99, not {depth!r}")
        if cycles is not None:
            if not isinstance(cycles, (tuple, list)) or len(cycles) != 2 or not all(type(bound) is int for bound in cycles):
                raise TypeError(f"trace_cycles must be two integers (first, last), not {cycles!r}")
            if not 0 <= cycles[0] <= cycles[1] < 1 << 63:
                raise ValueError(f"trace_cycles must be (first, last) with 0 <= first <= last, not {cycles!r}")
            cycles = (cycles[0], cycles[1])
        for name, value in (("path", path), ("depth", depth), ("cycles", cycles)):
            object.__setattr__(self, name, value)

    @property
    def format(self) -> str:
        """``fst`` or ``vcd``."""
        return FORMATS[self.path.suffix]

    def check_writable(self) -> None:
        """Raise OSError unless the file can be written; a file that is there keeps its content."""
        there = self.path.exists()
        try:
            with self.path.open("ab"):
                pass
        except OSError as error:
            raise type(error)(error.errno, f"trace cannot be written: {error.strerror}", str(self.path)) from None
        if not there:
            self.path.unlink()

    def plusargs(self) -> list[str]:
        """Arguments for the simulator (see waveform.sv)."""
        found = [f"+waveform={self.path.absolute()}", f"+waveform_depth={self.depth}"]
        if self.cycles is not None:
            found += [f"+waveform_first={self.cycles[0]}", f"+waveform_last={self.cycles[1]}"]
        return found
