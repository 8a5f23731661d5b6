"""The designs of the paper's evaluation, and ours."""

from __future__ import annotations

from .cascade import CASCADE
from .design import Design
from .flat import FLAT
from .fusemax import ARCHITECTURE, BINDING
from .linear import linear_layers
from .ours import OURS
from .unfused import UNFUSED

__all__ = ["DESIGNS", "Design", "linear_layers"]

DESIGNS: dict[str, Design] = {design.name: design for design in (UNFUSED, FLAT, CASCADE, ARCHITECTURE, BINDING, OURS)}
