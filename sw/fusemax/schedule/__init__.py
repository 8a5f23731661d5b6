"""From a cascade to microwords: modulo schedule, encoding, checker, residency."""

from __future__ import annotations

from .checker import RULES, check
from .encode import decode, encode
from .residency import Residency, residency
from .schedule import Binding, Placed, Schedule, modulo_schedule

__all__ = [
    "RULES",
    "Binding",
    "Placed",
    "Residency",
    "Schedule",
    "check",
    "decode",
    "encode",
    "modulo_schedule",
    "residency",
]
