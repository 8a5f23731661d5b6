"""Numbers for devices: what an operator of another library can be given instead of an object."""

from __future__ import annotations

import itertools
from typing import Any
from weakref import WeakValueDictionary

from ..errors import DeviceClosedError

__all__ = ["device_of", "give_number"]

_numbers = itertools.count(1)
_devices: WeakValueDictionary[int, Any] = WeakValueDictionary()


def give_number(device: object) -> int:
    """Number a new device of this process, from 1 on."""
    number = next(_numbers)
    _devices[number] = device
    return number


def device_of(number: int) -> Any:
    """Find the device of a number; 0 is None.

    Raises
    ------
    DeviceClosedError
        If it is gone.
    """
    if not number:
        return None
    device = _devices.get(number)
    if device is None:
        raise DeviceClosedError(f"device {number} must be open, but nothing refers to it any more")
    return device
