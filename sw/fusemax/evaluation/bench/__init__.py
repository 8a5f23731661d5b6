"""Benchmark: cycles and utilisation of many shapes, measured on the emitted Verilog or modelled."""

from __future__ import annotations

from .case import Case
from .paper import paper_utilisation
from .results import Results
from .rivals import RIVALS, Rival
from .suite import GROUPS, cases

__all__ = ["GROUPS", "RIVALS", "Case", "Results", "Rival", "cases", "paper_utilisation"]
