"""Memory that the simulated device is connected to."""

from __future__ import annotations

import enum
from dataclasses import dataclass

__all__ = ["Failure", "Memory"]


class Failure(enum.IntEnum):
    """How a memory fails at run time; also the codes of axi_memory.sv."""

    #: It does not, or no longer.
    NONE = 0
    #: A word that is read is answered with an error; once.
    READ_ERROR = 1
    #: A word that is written is not, and its burst is answered with an error; once.
    WRITE_ERROR = 2
    #: No word comes any more; those that are owed come when the failure ends.
    READ_SILENT = 3
    #: No write is answered any more, likewise.
    WRITE_SILENT = 4
    #: No read address is accepted any more.
    READ_CLOSED = 5
    #: Neither write addresses nor words are accepted any more.
    WRITE_CLOSED = 6


@dataclass(frozen=True, kw_only=True)
class Memory:
    """Timing of the simulated memory, and addresses at which it fails.

    Reads and writes do not disturb each other; each is answered in order.

    Members
    -------
    width_bits
        Width of its data bus; None is the device's. There is no width converter: it must be the device's.
    read_latency_cycles
        From an accepted read address to the first cycle in which its first beat can be taken, and from a write's last beat to
        its response; 1 to 65535.
    stall_probability
        Chance, in every cycle and on each channel by itself, that the memory holds back: 0 or more, below 1.
    seed
        Of the stalls: the same seed stalls in the same cycles.
    beat_interval_cycles
        At most one read beat and one write beat in this many cycles: the bandwidth is a beat's bytes over it; 1 to 65535.
    outstanding_bursts
        Read bursts, and write bursts, that the memory accepts before the oldest is done; 1 to 256.
    read_errors, write_errors
        Addresses [low, high): bus words that hold one of them are answered with SLVERR; None is nowhere. Outside the
        memory it is DECERR.

    Raises
    ------
    TypeError
        If a field is not a number of its kind.
    ValueError
        If a field is out of its range.
    """

    width_bits: int | None = None
    read_latency_cycles: int = 60
    stall_probability: float = 0.0
    seed: int = 0
    beat_interval_cycles: int = 1
    outstanding_bursts: int = 256
    read_errors: tuple[int, int] | None = None
    write_errors: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        for field, low, high in (
            ("width_bits", 32, 1024),
            ("read_latency_cycles", 1, 65535),
            ("seed", 0, 2**32 - 1),
            ("beat_interval_cycles", 1, 65535),
            ("outstanding_bursts", 1, 256),
        ):
            value = getattr(self, field)
            if value is None and field == "width_bits":
                continue
            if not isinstance(value, int) or isinstance(value, bool):
                raise TypeError(f"{field} must be an integer, not {value!r}")
            if not low <= value <= high:
                raise ValueError(f"{field} must be from {low} to {high}, not {value!r}")
        if not isinstance(self.stall_probability, (int, float)) or isinstance(self.stall_probability, bool):
            raise TypeError(f"stall_probability must be a number, not {self.stall_probability!r}")
        if not 0 <= self.stall_probability < 1:
            raise ValueError(f"stall_probability must be at least 0 and below 1, not {self.stall_probability!r}")
        for field in ("read_errors", "write_errors"):
            window = getattr(self, field)
            if window is None:
                continue
            if not isinstance(window, tuple) or len(window) != 2 or not all(isinstance(bound, int) for bound in window):
                raise TypeError(f"{field} must be two addresses (low, high), not {window!r}")
            if not 0 <= window[0] < window[1] < 2**63:
                raise ValueError(f"{field} must be (low, high) with 0 <= low < high, not {window!r}")

    def check_width(self, bus_bits: int) -> None:
        """Raise ValueError unless this memory is as wide as a device's bus of ``bus_bits``."""
        if self.width_bits not in (None, bus_bits):
            raise ValueError(f"width_bits must be the device's bus_bits = {bus_bits}, not {self.width_bits!r}")

    def plusargs(self) -> list[str]:
        """Arguments for the simulator (see sim_top.sv)."""
        values = {
            "latency": self.read_latency_cycles,
            "beat_interval": self.beat_interval_cycles,
            "outstanding": self.outstanding_bursts,
            "stall_threshold": min(round(self.stall_probability * 65536), 65535),
            "seed": self.seed,
        }
        for kind, window in (("read", self.read_errors), ("write", self.write_errors)):
            if window is not None:
                values[f"{kind}_error_low"], values[f"{kind}_error_high"] = window
        return [f"+{name}={value}" for name, value in values.items()]
