"""Which machine for a workload: cycles against area over many configurations (docs/measurements/explore.md)."""

from __future__ import annotations

from .area import AREA_TABLE, Area, AreaTable
from .point import Point, Workload, design_points, evaluate, model_digest
from .sweep import front, records, sweep

__all__ = [
    "AREA_TABLE",
    "Area",
    "AreaTable",
    "Point",
    "Workload",
    "design_points",
    "evaluate",
    "front",
    "model_digest",
    "records",
    "sweep",
]
