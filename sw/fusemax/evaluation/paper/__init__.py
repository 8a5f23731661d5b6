"""Analytic model: cascade, mapping, binding and machine to cycles, traffic, energy and utilisation.

A design is a few :class:`Stage`: Einsums bound to units, in phases (:class:`Phase`, :class:`Work`), and what moves meanwhile
(:class:`Move`). :func:`~fusemax.evaluation.paper.cost.evaluate` is the same for the paper's designs, for ours at the
paper's size (``DESIGNS``) and for this repository's machine in any configuration
(:func:`fusemax.evaluation.paper.hardware.attention_cost`).
"""

from __future__ import annotations

from .cost import Cost, evaluate
from .designs import DESIGNS, Design, linear_layers
from .energy import Energy, energy_of
from .machine import FLAT_MACHINE, FUSEMAX_MACHINE, Machine, Operation, Unit
from .pictures import draw
from .plan import Move, Phase, Stage, Work
from .published import PUBLISHED, Published
from .ranks import Ranks, attention_ranks
from .results import Result, Scope, mean, ratios, records, result, results_of
from .tables import Table, paper_tables
from .workloads import BATCH, LENGTHS, MODELS, Model

__all__ = [
    "BATCH",
    "DESIGNS",
    "FLAT_MACHINE",
    "FUSEMAX_MACHINE",
    "LENGTHS",
    "MODELS",
    "PUBLISHED",
    "Cost",
    "Design",
    "Energy",
    "Machine",
    "Model",
    "Move",
    "Operation",
    "Phase",
    "Published",
    "Ranks",
    "Result",
    "Scope",
    "Stage",
    "Table",
    "Unit",
    "Work",
    "attention_ranks",
    "draw",
    "energy_of",
    "evaluate",
    "linear_layers",
    "mean",
    "paper_tables",
    "ratios",
    "records",
    "result",
    "results_of",
]
