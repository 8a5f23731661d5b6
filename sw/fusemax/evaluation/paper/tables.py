"""Tables of the paper, from the model: a title, a header and rows of text."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from .designs import DESIGNS
from .machine import Unit
from .published import PUBLISHED
from .results import Result, Scope, mean, ratios, result, results_of
from .workloads import LENGTHS, MODELS

__all__ = ["ARRAY_EINSUMS", "EINSUM_DESIGNS", "EINSUM_MODEL", "Table", "paper_tables"]

#: Einsums of the 2D array by which the paper breaks its utilisation down, with their names in the three-pass designs.
ARRAY_EINSUMS = {"QK": ("BQK", "QK"), "LM": ("LM",), "SLN": ("SLN",), "SLD": ("SLD",), "SLNV/AV": ("SLNV", "AV")}
EINSUM_DESIGNS = ("flat", "cascade", "arch", "binding", "ours")
EINSUM_MODEL = "BERT"


@dataclass(frozen=True)
class Table:
    """A table of text; the title names the paper's figure, if it stands for one."""

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def paper_tables() -> tuple[Table, ...]:
    """All tables."""
    attention, whole = Scope.ATTENTION, Scope.END_TO_END
    return (
        published_table(),
        ours_table(),
        by_length("Utilisation of the 1D array, attention (figure 6a)", utilisation("util_1d")),
        by_length("Utilisation of the 2D array, attention (figure 6b)", utilisation("util_2d")),
        by_length(
            "Multiply-adds of QK and AV over all that the 2D array could do, attention", utilisation("flops_utilisation")
        ),
        einsum_table(),
        by_length("Speed-up over unfused, attention (figure 8)", relative("speed-up", attention)),
        by_length("Energy over unfused, attention (figure 9)", relative("energy", attention)),
        by_length("Speed-up over unfused, end to end (figure 10)", relative("speed-up", whole)),
        by_length("Energy over unfused, end to end (figure 11)", relative("energy", whole)),
        by_length("Latency, attention, seconds", lambda r: f"{r.cost.latency_s:.4g}"),
        by_length("Memory traffic, attention, bytes", lambda r: f"{r.cost.traffic_bytes:.4g}"),
        energy_table(),
    )


def published_table() -> Table:
    """What the paper prints beside what the model gives, and the same for ours."""
    rows = []
    for figure in PUBLISHED:
        ours = "-" if figure.what.startswith("step") else f"{figure.of('ours'):.{figure.digits}f}"
        verdict = "reproduced" if figure.reproduced else "NOT reproduced"
        rows.append((figure.what, figure.value, f"{figure.computed:.5f}", verdict, ours))
    return Table(
        "FuseMax (+Binding) and its steps: arithmetic means of 4 models and 6 lengths",
        ("", "paper", "model", "", "ours instead"),
        tuple(rows),
    )


def ours_table() -> Table:
    """Ours over the published design."""
    rows = []
    for scope, name in ((Scope.ATTENTION, "attention"), (Scope.END_TO_END, "end to end")):
        for quantity in ("speed-up", "energy"):
            values = ratios(quantity, "ours", "binding", scope)
            rows.append((f"{name}, {quantity}", *(f"{over(values):.3f}" for over in (mean, min, max))))
    return Table("Ours over +Binding", ("", "mean", "smallest", "largest"), tuple(rows))


def by_length(title: str, cell: Callable[[Result], str], scope: Scope = Scope.ATTENTION) -> Table:
    """A row for each model and length, a column for each design."""
    rows = tuple(
        (model, length, *(cell(result(design, model, length, scope)) for design in DESIGNS))
        for model in MODELS
        for length in LENGTHS
    )
    return Table(title, ("model", "length", *(design.title for design in DESIGNS.values())), rows)


def utilisation(name: str) -> Callable[[Result], str]:
    return lambda found: f"{getattr(found, name):.4f}"


def relative(quantity: str, scope: Scope) -> Callable[[Result], str]:
    values = {
        (design, found.model, found.length): value
        for design in DESIGNS
        for found, value in zip(results_of(design, scope), ratios(quantity, design, "unfused", scope), strict=True)
    }
    return lambda found: f"{values[found.design, found.model, found.length]:.3f}"


def einsum_table() -> Table:
    """Utilisation of the 2D array by Einsum, as the paper shows it for one model."""
    rows = []
    for length in LENGTHS:
        for design in EINSUM_DESIGNS:
            found = result(design, EINSUM_MODEL, length)
            cells = (f"{found.cost.utilisation(Unit.ARRAY, *names):.4f}" for names in ARRAY_EINSUMS.values())
            rows.append((length, DESIGNS[design].title, *cells, f"{found.util_2d:.4f}"))
    title = f"Utilisation of the 2D array by Einsum, {EINSUM_MODEL} (figure 7)"
    return Table(title, ("length", "design", *ARRAY_EINSUMS, "all"), tuple(rows))


def energy_table() -> Table:
    """Where the energy of attention goes."""
    rows = []
    for model in MODELS:
        for design in DESIGNS:
            found = result(design, model, "64K").energy
            parts = (found.memory_pj, found.buffer_pj + found.wrapped_pj, found.array_pj, found.lanes_pj)
            rows.append((model, DESIGNS[design].title, f"{found.total_pj:.4g}", *(f"{p / found.total_pj:.4f}" for p in parts)))
    return Table(
        "Energy of attention at 64K, pJ, and shares", ("model", "design", "total", "memory", "buffer", "2D", "1D"), tuple(rows)
    )
