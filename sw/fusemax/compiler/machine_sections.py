"""Whether the sections ``bindings`` and ``mapping`` of a cascade say what the machine does."""

from __future__ import annotations

from ..cascade.cascade import Cascade
from ..cascade.yaml_reader import Mapping, Node, Scalar, Sequence
from .array_program import ArrayProgram
from .operations import Unit
from .refusal import refusal

__all__ = ["check_sections"]


def check_sections(cascade: Cascade, program: ArrayProgram) -> None:
    """Compare what the file says about the machine with what the machine does.

    Raises
    ------
    ReachError
        If they differ; names the line.
    """
    extras = dict(cascade.extras)
    _check_bindings(cascade, program, extras.get("bindings"))
    mapping = extras.get("mapping")
    spacetime = mapping.get("spacetime") if isinstance(mapping, Mapping) else None
    _check_space(cascade, program, spacetime.get("space") if isinstance(spacetime, Mapping) else None)


def _check_bindings(cascade: Cascade, program: ArrayProgram, bindings: Node | None) -> None:
    """Every tensor must be bound to the part that evaluates it."""
    if not isinstance(bindings, Mapping):
        return
    units = {step.einsum.result.tensor: step.unit for step in program.steps}
    for key, value in bindings.pairs:
        if key.text not in [unit.value for unit in Unit]:
            raise refusal(cascade, f"its parts are edge, array and lane, not {key.text}", key.at)
        for item in value.items if isinstance(value, Sequence) else ():
            if isinstance(item, Scalar) and item.text in units and units[item.text].value != key.text:
                raise refusal(cascade, f"{item.text} is evaluated by {units[item.text].value}, not by {key.text}", item.at)


def _check_space(cascade: Cascade, program: ArrayProgram, space: Node | None) -> None:
    """Rows and columns must be the ranks that lie on them; the columns may be a part of theirs (P0 of P)."""
    if not isinstance(space, Sequence):
        return
    row, column = (variable.upper() for variable in program.space_variables)
    found = [item.text for item in space.items if isinstance(item, Scalar)]
    if len(found) != 2 or found[0] != row or found[1].rstrip("0123456789") != column.rstrip("0123456789"):
        raise refusal(cascade, f"rows and columns are {row} and {column} (or a part of it), not {', '.join(found)}", space.at)
