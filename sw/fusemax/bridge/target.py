"""The system behind a bridge: its memory, registers and interrupt, in pieces of any size."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from ..errors import DeviceError
from ..spec.bridge import LENGTH_LIMIT, REGISTER_BYTES, Command, Status
from .frame import Answer, State
from .link import Link, Order

__all__ = ["AccessError", "Target"]

#: Progress of a transfer: bytes done and all.
Progress = Callable[[int, int], None]
#: Most zeros that one request writes.
CLEAR_BYTES = LENGTH_LIMIT // 2
MEANINGS = {
    Status.REFUSED: "is outside the bridge's address map",
    Status.SLAVE_ERROR: "was answered with SLVERR",
    Status.DECODE_ERROR: "was answered with DECERR",
}


class AccessError(DeviceError):
    """An access was refused by the bridge or answered with an error by the bus.

    Members
    -------
    status : Status
    address : int
        First byte of the part of the access that has failed.
    """

    def __init__(self, order: Order, status: Status) -> None:
        what = order.command.name.lower().replace("_", " ")
        super().__init__(f"{what} of {order.length} bytes at {order.address:#x} {MEANINGS[status]}")
        self.status = status
        self.address = order.address


def check(order: Order, answer: Answer) -> None:
    """Raise AccessError unless the access went well."""
    if answer.status != Status.OKAY:
        raise AccessError(order, answer.status)


class Target:
    """Memory and registers behind a link.

    Raises
    ------
    LinkError
        From every method, if the bridge cannot be talked to.
    AccessError
        If an access fails; what stands before it in a transfer was done.
    ValueError
        If an address or value is not one.
    """

    def __init__(self, link: Link) -> None:
        self.link = link

    def read_memory(self, address: int, size: int, progress: Progress | None = None) -> bytes:
        """``size`` bytes of memory from ``address`` on."""
        pieces: list[bytes] = []
        done = 0

        def each(order: Order, answer: Answer) -> None:
            nonlocal done
            check(order, answer)
            pieces.append(answer.payload)
            done += order.length
            if progress is not None:
                progress(done, size)

        parts = self._parts(address, size, self.link.state.payload_bytes)
        self.link.exchange((Order(Command.READ_MEMORY, start, length) for start, length in parts), each)
        return b"".join(pieces)

    def write_memory(self, address: int, text: bytes, progress: Progress | None = None) -> None:
        """Write bytes to memory from ``address`` on."""
        text = bytes(text)
        done = 0

        def each(order: Order, answer: Answer) -> None:
            nonlocal done
            check(order, answer)
            done += order.length
            if progress is not None:
                progress(done, len(text))

        self.link.exchange(self._writes(Command.WRITE_MEMORY, address, text), each)

    def clear_memory(self, address: int, size: int) -> None:
        """Write zeros to memory from ``address`` on."""
        parts = self._parts(address, size, CLEAR_BYTES)
        self.link.exchange((Order(Command.CLEAR_MEMORY, start, length) for start, length in parts), check)

    def read_registers(self, offset: int, count: int = 1) -> list[int]:
        """``count`` registers from a byte offset on."""
        self._check_registers(offset, count)
        values: list[int] = []

        def each(order: Order, answer: Answer) -> None:
            check(order, answer)
            values.extend(int.from_bytes(answer.payload[place : place + 4], "little") for place in range(0, order.length, 4))

        parts = self._parts(offset, 4 * count, self.link.state.payload_bytes)
        self.link.exchange((Order(Command.READ_REGISTERS, start, length) for start, length in parts), each)
        return values

    def write_registers(self, offset: int, values: Sequence[int]) -> None:
        """Write registers, one after the other, from a byte offset on."""
        self._check_registers(offset, len(values))
        for value in values:
            if not 0 <= value < 1 << 32:
                raise ValueError(f"value must be from 0 to 2^32 - 1, not {value!r}")
        text = b"".join(int(value).to_bytes(4, "little") for value in values)
        self.link.exchange(self._writes(Command.WRITE_REGISTERS, offset, text), check)

    def reset(self) -> State:
        """Reset the system, unless nothing was executed since the last reset."""
        return self.link.reset()

    @property
    def interrupt(self) -> bool:
        """The interrupt pin; asks."""
        self.link.poll()
        return self.link.interrupt

    def _check_registers(self, offset: int, count: int) -> None:
        if not 0 <= offset < REGISTER_BYTES or offset % 4:
            raise ValueError(f"offset must be a multiple of 4 from 0 to {REGISTER_BYTES - 4}, not {offset!r}")
        if not 0 <= count <= (REGISTER_BYTES - offset) // 4:
            raise ValueError(f"count must be from 0 to {(REGISTER_BYTES - offset) // 4} at offset {offset:#x}, not {count!r}")

    def _writes(self, command: Command, address: int, text: bytes) -> Iterator[Order]:
        # The link must not be asked for its state while it works on these.
        parts = self._parts(address, len(text), self.link.state.payload_bytes)
        return (Order(command, start, length, text[start - address : start - address + length]) for start, length in parts)

    def _parts(self, address: int, size: int, most: int) -> Iterator[tuple[int, int]]:
        """Address and length of parts of at most ``most`` bytes, which end at multiples of it."""
        if not 0 <= address <= 1 << 32 or size < 0 or address + size > 1 << 32:
            raise ValueError(f"address and size must be within 4 GiB, not {address!r} and {size!r}")
        end = address + size
        while address < end:
            length = min(end, (address // most + 1) * most) - address
            yield address, length
            address += length
