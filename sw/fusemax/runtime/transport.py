"""What the host needs of a device, whatever it is: the protocol that model, simulation and board implement."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

__all__ = ["Transport"]


class Transport(Protocol):
    """The way to a device: its registers, its interrupt and the memory that it shares with the host."""

    @property
    def memory(self) -> NDArray[np.uint8]:
        """Device memory: element *a* is the byte at address *a*. Host and device see each other's writes."""
        ...

    def read_register(self, offset: int) -> int:
        """The 32-bit register at a byte offset."""
        ...

    def write_register(self, offset: int, value: int) -> None:
        """Write the 32-bit register at a byte offset."""
        ...

    def wait_interrupt(self, timeout_s: float | None, progress: Callable[..., None] | None) -> None:
        """Wait until the interrupt pin is high.

        ``progress`` is called now and then on the way, when registers may be read; what it is given is the transport's choice.

        Raises
        ------
        TimeoutError
            If ``timeout_s`` seconds (None: any time) have passed before.
        """
        ...

    def close(self) -> None:
        """Free everything; further calls are errors."""
        ...
