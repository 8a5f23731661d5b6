"""Rules of AXI that the bus models of cocotbext-axi do not check, cycle by cycle; plain Python.

Section numbers are those of the AXI4 specification (IHI 0022). A rule that is broken raises :class:`BrokenRule`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field

from fusemax.spec import Config

__all__ = ["BrokenRule", "MemoryRules", "Offer", "RegisterRules"]

PAGE_BYTES = 4096
INCREMENTING = 1
#: Of a channel's payload, by the name of the signal without its prefix.
Payload = Mapping[str, int]


class BrokenRule(AssertionError):
    """The device broke a rule of AXI."""


@dataclass
class Offer:
    """A channel that the device drives: what it offers stays until it is taken (section A3.2.1)."""

    name: str
    waiting: dict[str, int] | None = None

    def see(self, valid: int, ready: int, payload: Payload) -> bool:
        """One cycle; whether something was taken in it. ``payload`` counts only if ``valid``."""
        if self.waiting is not None:
            if not valid:
                raise BrokenRule(f"{self.name}valid fell before {self.name}ready")
            for name, before in self.waiting.items():
                if payload[name] != before:
                    raise BrokenRule(f"{name} changed from {before:#x} to {payload[name]:#x} before {self.name}ready")
        self.waiting = dict(payload) if valid and not ready else None
        return bool(valid and ready)


@dataclass
class MemoryRules:
    """Rules of the AXI4 master, and what it has done so far.

    Members
    -------
    bytes_read, bytes_written
        Bus words read in full, bytes as strobed.
    most_reads, most_writes
        Most bursts that were under way together: their addresses accepted, their last answers not.
    cut_reads, cut_writes
        Bursts that begin on a page's first byte, where the one before has ended: runs that were cut there.
    """

    config: Config
    memory_bytes: int
    bytes_read: int = 0
    bytes_written: int = 0
    most_reads: int = 0
    most_writes: int = 0
    cut_reads: int = 0
    cut_writes: int = 0
    #: After an error or a reset, words of bursts that are under way may be written with all strobes off.
    may_stop: bool = False
    _offers: dict[str, Offer] = field(default_factory=lambda: {name: Offer(name) for name in ("ar", "aw", "w")})
    _ends: dict[str, int] = field(default_factory=lambda: {"ar": -1, "aw": -1})
    #: Words that the accepted bursts are still to read.
    _reads: deque[int] = field(default_factory=deque)
    #: Words that the accepted bursts are still to write.
    _writes: deque[int] = field(default_factory=deque)
    _unanswered: int = 0

    @property
    def under_way(self) -> int:
        """Bursts accepted and not answered in full, and those that are offered."""
        return len(self._reads) + self._unanswered + sum(offer.waiting is not None for offer in self._offers.values())

    def address(self, channel: str, valid: int, ready: int, payload: Payload) -> None:
        """A cycle of ``ar`` or ``aw``."""
        if valid and self._offers[channel].waiting is None:
            self._check_burst(channel, payload)
        if not self._offers[channel].see(valid, ready, payload):
            return
        words, start = payload[f"{channel}len"] + 1, payload[f"{channel}addr"]
        cut = start % PAGE_BYTES == 0 and start == self._ends[channel]
        self._ends[channel] = start + words * self.config.bus_bytes
        if channel == "ar":
            self._reads.append(words)
            self.cut_reads += cut
            self.most_reads = max(self.most_reads, len(self._reads))
            if len(self._reads) > self.config.outstanding_reads:
                raise BrokenRule(f"more than {self.config.outstanding_reads} reads are under way")
        else:
            self._writes.append(words)
            self._unanswered += 1
            self.cut_writes += cut
            self.most_writes = max(self.most_writes, self._unanswered)
            if self._unanswered > self.config.outstanding_writes:
                raise BrokenRule(f"more than {self.config.outstanding_writes} writes are under way")

    def _check_burst(self, channel: str, payload: Payload) -> None:
        size, start = payload[f"{channel}size"], payload[f"{channel}addr"]
        end = start + (payload[f"{channel}len"] + 1 << size)
        if 1 << size != self.config.bus_bytes:
            raise BrokenRule(f"{channel}size is {size}, not that of the bus word")
        if payload[f"{channel}burst"] != INCREMENTING:
            raise BrokenRule(f"{channel}burst is {payload[f'{channel}burst']}, not INCR")
        if start % self.config.bus_bytes:
            raise BrokenRule(f"{channel}addr is {start:#x}, not a multiple of the bus word")
        if start // PAGE_BYTES != (end - 1) // PAGE_BYTES:  # Section A3.4.1.
            raise BrokenRule(f"the burst of {channel} from {start:#x} to {end:#x} crosses a 4 KB boundary")
        if end > self.memory_bytes:
            raise BrokenRule(f"the burst of {channel} from {start:#x} to {end:#x} is not in memory")
        if payload[f"{channel}id"] or payload[f"{channel}lock"]:
            raise BrokenRule(f"{channel}id and {channel}lock are not 0")

    def write_data(self, valid: int, ready: int, payload: Payload) -> None:
        """A cycle of ``w``, behind that of ``aw``: data may come together with their address."""
        if not self._offers["w"].see(valid, ready, payload):
            return
        if not self._writes:
            raise BrokenRule("data were written before their address")
        self._writes[0] -= 1
        last = self._writes[0] == 0
        if payload["wlast"] != last:
            raise BrokenRule("wlast is missing at the burst's last word" if last else "wlast came before the burst's last word")
        strobe, every = payload["wstrb"], (1 << self.config.bus_bytes) - 1
        # Only a row's last word is not written in full, and that from its first byte on.
        stopped = strobe == 0 and self.may_stop
        if not stopped and (strobe == 0 or strobe & (strobe + 1) or (strobe != every and not last)):
            raise BrokenRule(f"wstrb is {strobe:#b} in a word that is {'' if last else 'not '}the burst's last")
        self.bytes_written += strobe.bit_count()
        if last:
            self._writes.popleft()

    def read_data(self, valid: int, ready: int, payload: Payload) -> None:
        """A cycle of ``r``, before that of ``ar``: it answers what was accepted in earlier ones."""
        if not (valid and ready):
            return
        if not self._reads:
            raise BrokenRule("rready although nothing was read")
        self._reads[0] -= 1
        assert payload["rlast"] == (self._reads[0] == 0)
        self.bytes_read += self.config.bus_bytes
        if payload["rlast"]:
            self._reads.popleft()

    def write_answer(self, valid: int, ready: int) -> None:
        """A cycle of ``b``, before that of ``aw``."""
        if valid and ready:
            if not self._unanswered:
                raise BrokenRule("bready although nothing was written")
            self._unanswered -= 1


@dataclass
class RegisterRules:
    """Rules of the AXI4-Lite slave."""

    _offers: dict[str, Offer] = field(default_factory=lambda: {name: Offer(name) for name in ("b", "r")})
    #: Accepted and not answered.
    _accepted: dict[str, int] = field(default_factory=lambda: {"aw": 0, "w": 0, "ar": 0})

    @property
    def under_way(self) -> int:
        """Accesses that are not answered."""
        return max(self._accepted.values())

    def request(self, channel: str, valid: int, ready: int) -> None:
        """A cycle of ``aw``, ``w`` or ``ar``, behind those of ``b`` and ``r``."""
        self._accepted[channel] += bool(valid and ready)

    def answer(self, channel: str, valid: int, ready: int, payload: Payload) -> None:
        """A cycle of ``b`` or ``r``: answers follow both halves of their requests (section A3.3.1)."""
        requests = ("aw", "w") if channel == "b" else ("ar",)
        if valid and not all(self._accepted[request] for request in requests):
            raise BrokenRule(f"{channel}valid without a request")
        if self._offers[channel].see(valid, ready, payload):
            for request in requests:
                self._accepted[request] -= 1
