"""Which cascades the array can run: attention in one pass over tiles of keys, however its lines are named and split up.

Every expression is given a role, line by line: a score, a tile's maximum, a weight, a state, … What has no role, the array
has no operation for. Array operations are Einsums of their own; what the lanes compute may be written in one line or in more.
The roles and the rules by which one follows from others are tables in :mod:`.roles`.
"""

from __future__ import annotations

from ..cascade.cascade import Cascade
from ..cascade.einsum import Einsum
from ..cascade.expression import Binary, Call, Reference
from .array_program import ArrayProgram, Unit
from .findings import Findings
from .machine_sections import check_sections
from .reductions import check_indices, value_of_reduction
from .roles import ON_ARRAY, START, Role, Value, When
from .values import value_of
from .vocabulary import check_vocabulary

__all__ = ["recognise"]


def recognise(cascade: Cascade) -> ArrayProgram:
    """Recognise attention in a cascade and bind its Einsums to the machine's parts.

    Parameters
    ----------
    cascade
        Any cascade.

    Returns
    -------
    ArrayProgram
        Its Einsums, each with the part of the machine that evaluates it and, on the array, the operation.

    Raises
    ------
    ReachError
        If the array cannot run it; names the first line that it cannot, and why.
    """
    check_vocabulary(cascade)
    found = Findings(cascade)
    _find_tiles(found)
    for einsum in cascade.expressions:
        _copy(found, einsum)
    for einsum in cascade.initialization:
        _start(found, einsum)
    for einsum in cascade.extended:
        _repeat(found, einsum)
    _check_complete(found)
    for einsum in cascade.finally_:
        _end(found, einsum)
    _check_results(found)
    program = found.program()
    check_sections(cascade, program)
    return program


# -- before the first tile -----------------------------------------------------------------------------------------


def _find_tiles(found: Findings) -> None:
    """The variables of the tile and of its rows: the two parts of the keys' rank, the outer one iterative."""
    cascade = found.cascade
    iteration = cascade.iteration
    tiles = {split.parts[0]: split for split in cascade.split}
    if iteration is None:
        first = next(e for e in (*cascade.expressions, *cascade.einsums) if not _is_copy(found, e))
        raise found.refusal(
            f"{first.result.tensor} is computed over whole ranks, but the array works tile by tile: the keys' rank must be "
            "split (M: [M1, M0]) and its outer part iterative (m1: m1 >= M1)",
            first.at,
        )
    for alias in cascade.alias:
        raise found.refusal(f"{alias.name} is a second name of {alias.rank}, which it has no use for", alias.at)
    rank = iteration.variable.upper()
    if rank not in tiles or len(tiles[rank].parts) != 2:
        raise found.refusal(
            f"{iteration.variable} must be the outer one of the two parts of a split rank, so that a step is a tile",
            iteration.at,
        )
    found.tile, found.row = (part.lower() for part in tiles[rank].parts)


def _is_copy(found: Findings, einsum: Einsum) -> bool:
    """Whether the Einsum only renames an input and its indices."""
    match einsum.expression:
        case Reference(tensor, _) if found.roles.get(tensor) is Role.OPERAND and not einsum.reduced:
            value_of(found, einsum.expression)
            return True
    return False


def _copy(found: Findings, einsum: Einsum) -> None:
    """An Einsum before the iteration: only a copy of an input can be one."""
    if not _is_copy(found, einsum):
        raise found.refusal(
            f"{einsum.result.tensor} is computed before the first tile; the array has only the iteration over tiles",
            einsum.at,
        )
    found.give(einsum, Value(Role.OPERAND), Unit.EDGE)


def _start(found: Findings, einsum: Einsum) -> None:
    """The start of a state. What the state is, the Einsum that writes it for the next tile says."""
    tensor = einsum.result.tensor
    update = next((other for other in found.cascade.extended if other.result.tensor == tensor), None)
    if update is None:
        raise found.refusal(f"no Einsum writes {tensor} for the next tile", einsum.at)
    role = _state_role(einsum, update)
    if role is None:
        raise found.refusal(
            f"{tensor} must be a running maximum or denominator [m1, p], or a numerator [f, m1, p], so it must have 2 or 3 "
            f"indices, not {len(einsum.result.indices)}",
            einsum.at,
        )
    if str(einsum.expression) != START[role]:
        line = f"line {update.at.line}" if update.at else "the iteration"
        raise found.refusal(
            f"{tensor} must start at {START[role]}, not at {einsum.expression}, because {line} makes it {role.value}: {update}",
            einsum.expression.at or einsum.at,
        )
    if role is Role.MAXIMUM:
        if found.maximum is not None:
            raise found.refusal(f"a lane has one running maximum: {found.maximum}", einsum.at)
        found.maximum = tensor
    found.initial[tensor] = einsum
    found.give(einsum, Value(role), Unit.LANE)


def _state_role(start: Einsum, update: Einsum) -> Role | None:
    """Role of a state by what it is updated with or, if that is neither a maximum nor a sum, by where it starts."""
    sums = {2: Role.DENOMINATOR, 3: Role.NUMERATOR}
    match update.expression:
        case Call("max", _):
            return Role.MAXIMUM
        case Binary("+", _, _):
            return sums.get(len(start.result.indices))
    return Role.MAXIMUM if str(start.expression) == START[Role.MAXIMUM] else sums.get(len(start.result.indices))


# -- a tile --------------------------------------------------------------------------------------------------------


def _repeat(found: Findings, einsum: Einsum) -> None:
    """An Einsum of every tile."""
    tensor = einsum.result.tensor
    if _is_copy(found, einsum):
        found.give(einsum, Value(Role.OPERAND), Unit.EDGE)
        return
    value = value_of_reduction(found, einsum) if einsum.reduced else value_of(found, einsum.expression, whole=True)
    operation = ON_ARRAY.get(value.role)
    if tensor in found.initial:
        _update(found, einsum, value)
    elif value.when is When.NEW:
        raise found.refusal(f"{value.role.value} must be written to the next tile's state, which is initialized", einsum.at)
    elif operation is not None:
        if operation in found.bound:
            raise found.refusal(
                f"{tensor} gives {value.role.value} again, after {found.bound[operation].result.tensor}; the array does it "
                "once a tile",
                einsum.at,
            )
        found.bound[operation] = einsum
        check_indices(found, einsum, value.role)
        found.give(einsum, value, Unit.ARRAY, operation)
    elif value.role in (Role.FACTOR, Role.SCALED_DENOMINATOR, Role.SCALED_NUMERATOR):
        found.give(einsum, value, Unit.LANE)
    else:
        raise found.refusal(f"{einsum.expression} is {value.role.value}, which {tensor} only renames", einsum.at)


def _update(found: Findings, einsum: Einsum, value: Value) -> None:
    """A state of the next tile."""
    tensor = einsum.result.tensor
    if value.when is not When.NEW or (value.state is not None and value.state != tensor):
        raise found.refusal(
            f"{tensor} must be max({tensor}, the maximum of a tile) or the sum of a tile plus {tensor} times the factor "
            f"exp(old - new running maximum), not {einsum.expression}",
            einsum.at,
        )
    found.updated.add(tensor)
    found.give(einsum, value, Unit.LANE)


def _check_complete(found: Findings) -> None:
    """All of the array's operations must be there."""
    for role, operation in ON_ARRAY.items():
        if operation not in found.bound:
            last = found.cascade.extended[-1]
            raise found.refusal(f"no Einsum up to here gives {role.value}, and attention needs them", last.at)


# -- after the last tile -------------------------------------------------------------------------------------------


def _end(found: Findings, einsum: Einsum) -> None:
    """The division that gives the result."""
    if einsum.reduced:
        raise found.refusal(f"{einsum.result.tensor} is reduced after the last tile; the lanes only divide then", einsum.at)
    value = value_of(found, einsum.expression)
    if value.role is not Role.RESULT or Role.RESULT in found.roles.values():
        raise found.refusal(
            f"{einsum.result.tensor} must be the numerator divided by the denominator, the one result", einsum.at
        )
    found.give(einsum, value, Unit.LANE)


def _check_results(found: Findings) -> None:
    """The one result must be there, and nothing else may leave the cascade."""
    cascade = found.cascade
    if Role.RESULT not in found.roles.values():
        raise found.refusal("no Einsum under finally divides the numerator by the denominator", cascade.extended[-1].at)
    for tensor in cascade.results:
        if found.roles[tensor] is not Role.RESULT:
            wrong = next(einsum for einsum in reversed(cascade.einsums) if einsum.result.tensor == tensor)
            raise found.refusal(f"{tensor} leaves the cascade, but the machine writes only the one result", wrong.at)
