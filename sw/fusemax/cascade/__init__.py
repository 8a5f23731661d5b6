"""Cascades of Einsums as text: read, checked and written.

What a cascade computes is in :mod:`.interpreter`, how often it passes over a rank in :mod:`.passes`; they are imported from
there, as compiling needs neither.
"""

from .cascade import Cascade
from .catalog import CASCADES, cascade_named
from .einsum import Einsum
from .errors import CascadeError, ReachError
from .reader import parse, read
from .writer import to_text

__all__ = [
    "CASCADES",
    "Cascade",
    "CascadeError",
    "Einsum",
    "ReachError",
    "cascade_named",
    "parse",
    "read",
    "to_text",
]
