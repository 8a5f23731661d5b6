"""Which cascades the array can run: attention in one pass over tiles of keys, however its lines are named and split up.

Every expression is given a role, line by line: a score, a tile's maximum, a weight, a state, … What has no role, the array
has no operation for. Array operations are Einsums of their own; what the lanes compute may be written in one line or in more.
"""

from __future__ import annotations

import math

from ..cascade.cascade import Cascade
from ..cascade.einsum import Einsum
from ..cascade.errors import Position, ReachError
from ..cascade.expression import Binary, Call, Expression, Number, Reference, Unary, Variable, index_text, walk
from ..cascade.indices import Index, classify
from ..cascade.yaml_reader import Mapping, Scalar, Sequence
from .array_program import ArrayProgram, Operation, Step, Unit
from .roles import ADDED, ON_ARRAY, SCALED, Role, Value, When

__all__ = ["Recognizer"]

CAN = (
    "it multiplies queries by keys, takes the maximum over a tile, exp(score - running maximum), and sums weights and weighted "
    "values"
)


class Recognizer:
    def __init__(self, cascade: Cascade) -> None:
        self.cascade = cascade
        self.roles: dict[str, Role] = dict.fromkeys(cascade.inputs, Role.OPERAND)
        self.steps: list[Step] = []
        self.bound: dict[Operation, Einsum] = {}
        self.initial: dict[str, Einsum] = {}
        self.maximum: str | None = None
        self.updated: set[str] = set()
        self.row = self.tile = ""
        self.column: str | None = None

    def fail(self, message: str, at: Position | None) -> ReachError:
        return ReachError(f"the array cannot run this: {message}", at, self.cascade.name)

    # -- the whole -------------------------------------------------------------------------------------------------

    def program(self) -> ArrayProgram:
        cascade = self.cascade
        self.functions()
        self.ranks()
        for einsum in cascade.expressions:
            self.copy(einsum)
        for einsum in cascade.initialization:
            self.start(einsum)
        for einsum in cascade.extended:
            self.repeated(einsum)
        last = cascade.extended[-1]
        for operation in (Operation.QK, Operation.MAX, Operation.EXP, Operation.SUM, Operation.SLNV):
            if operation not in self.bound:
                role = next(role for role, other in ON_ARRAY.items() if other is operation)
                raise self.fail(f"no Einsum up to here gives {role.value}, and attention needs them", last.at)
        for tensor, einsum in self.initial.items():
            if tensor not in self.updated:
                raise self.fail(f"no Einsum writes {tensor} for the next tile", einsum.at)
        for einsum in cascade.finally_:
            self.end(einsum)
        if Role.RESULT not in self.roles.values():
            raise self.fail("no Einsum under finally divides the numerator by the denominator", last.at)
        for tensor in cascade.results:
            if self.roles[tensor] is not Role.RESULT:
                wrong = next(einsum for einsum in reversed(cascade.einsums) if einsum.result.tensor == tensor)
                raise self.fail(f"{tensor} leaves the cascade, but the machine writes only the one result", wrong.at)
        self.check_extras()
        assert self.column is not None
        return ArrayProgram(tuple(self.steps), self.tile, (self.row, self.column))

    def functions(self) -> None:
        """A map that no part of the machine has is the clearest reason of all: look for it first."""
        for einsum in self.cascade.einsums:
            for node in walk(einsum.expression):
                match node:
                    case Call("exp" | "max", _):
                        pass
                    case Call(name, _):
                        raise self.fail(f"it has no {name}; {CAN}", node.at)
                    case Binary("+" | "-" | "*" | "/", _, _):
                        pass
                    case Binary(operator, _, _):
                        hint = "; masks are arguments of the call" if operator in ("<", "<=", ">", ">=") else ""
                        raise self.fail(f"it has no operator {operator}{hint}", node.at)
            for reduction in einsum.reductions:
                if reduction.operation not in ("max", "add", "sum"):
                    raise self.fail(f"it reduces by max and add, not by {reduction.operation}", reduction.at)

    def ranks(self) -> None:
        cascade = self.cascade
        iteration = cascade.iteration
        tiles = {split.parts[0]: split for split in cascade.split}
        if iteration is None:
            first = next(e for e in (*cascade.expressions, *cascade.einsums) if not self.is_copy(e))
            raise self.fail(
                f"{first.result.tensor} is computed over whole ranks, but the array works tile by tile: the keys' rank must be "
                "split (M: [M1, M0]) and its outer part iterative (m1: m1 >= M1)",
                first.at,
            )
        for alias in cascade.alias:
            raise self.fail(f"{alias.name} is a second name of {alias.rank}, which it has no use for", alias.at)
        rank = iteration.variable.upper()
        if rank not in tiles or len(tiles[rank].parts) != 2:
            raise self.fail(
                f"{iteration.variable} must be the outer one of the two parts of a split rank, so that a step is a tile",
                iteration.at,
            )
        self.tile, self.row = (part.lower() for part in tiles[rank].parts)

    def is_copy(self, einsum: Einsum) -> bool:
        """Whether the Einsum only renames an input and its indices."""
        match einsum.expression:
            case Reference(tensor, _) if self.roles.get(tensor) is Role.OPERAND and not einsum.reduced:
                self.reference(einsum.expression)
                return True
        return False

    def copy(self, einsum: Einsum) -> None:
        if not self.is_copy(einsum):
            raise self.fail(
                f"{einsum.result.tensor} is computed before the first tile; the array has only the iteration over tiles",
                einsum.at,
            )
        self.give(einsum, Value(Role.OPERAND), Unit.EDGE)

    def start(self, einsum: Einsum) -> None:
        tensor = einsum.result.tensor
        match einsum.expression:
            case Unary("-", Number(value)) if value == math.inf:
                role = Role.MAXIMUM
            case Number(0) if len(einsum.result.indices) in (2, 3):
                role = Role.DENOMINATOR if len(einsum.result.indices) == 2 else Role.NUMERATOR
            case _:
                raise self.fail(
                    f"{tensor} must start at -inf (the maximum), or at 0 (a denominator [m1, p], a numerator [f, m1, p]), as "
                    f"the lanes do, not at {einsum.expression}",
                    einsum.expression.at or einsum.at,
                )
        if role is Role.MAXIMUM:
            if self.maximum is not None:
                raise self.fail(f"a lane has one running maximum: {self.maximum}", einsum.at)
            self.maximum = tensor
        self.initial[tensor] = einsum
        self.give(einsum, Value(role), Unit.LANE)

    def give(self, einsum: Einsum, value: Value, unit: Unit, operation: Operation | None = None) -> None:
        """The role of a result. Its indices are variables, but that of a state's step, which the parser has checked."""
        for index in self.indices(einsum.result):
            state = einsum.result.tensor in self.initial and index.rank == self.tile.upper()
            if not state and (index.kind != "variable" or index.offset):
                raise self.fail(f"{index_text(index.expression)} must be a variable alone", index.expression.at)
        self.roles[einsum.result.tensor] = value.role
        self.steps.append(Step(einsum, unit, operation))

    # -- a tile ----------------------------------------------------------------------------------------------------

    def repeated(self, einsum: Einsum) -> None:
        """An Einsum of every tile."""
        tensor = einsum.result.tensor
        if self.is_copy(einsum):
            self.give(einsum, Value(Role.OPERAND), Unit.EDGE)
            return
        value = self.reduction(einsum) if einsum.reduced else self.value(einsum.expression, top=True)
        operation = ON_ARRAY.get(value.role)
        if tensor in self.initial:
            self.update(einsum, value)
        elif value.when is When.NEW:
            raise self.fail(f"{value.role.value} must be written to the next tile's state, which is initialized", einsum.at)
        elif operation is not None:
            if operation in self.bound:
                other = self.bound[operation]
                raise self.fail(
                    f"{tensor} gives {value.role.value} again, after {other.result.tensor}; the array does it once a tile",
                    einsum.at,
                )
            self.bound[operation] = einsum
            self.shape(einsum, value.role)
            self.give(einsum, value, Unit.ARRAY, operation)
        elif value.role is Role.FACTOR or value.role in ADDED:
            self.give(einsum, value, Unit.LANE)
        else:
            raise self.fail(f"{einsum.expression} is {value.role.value}, which {tensor} only renames", einsum.at)

    def update(self, einsum: Einsum, value: Value) -> None:
        """A state of the next tile."""
        tensor = einsum.result.tensor
        if value.when is not When.NEW or (value.state is not None and value.state != tensor):
            raise self.fail(
                f"{tensor} must be max({tensor}, the maximum of a tile) or the sum of a tile plus {tensor} times the factor "
                f"exp(old - new running maximum), not {einsum.expression}",
                einsum.at,
            )
        self.updated.add(tensor)
        self.give(einsum, value, Unit.LANE)

    def shape(self, einsum: Einsum, role: Role) -> None:
        """The indices on the left, which say where in the array a result is."""
        assert self.column is not None
        wanted = {
            Role.SCORE: {self.tile, self.row, self.column},
            Role.WEIGHT: {self.tile, self.row, self.column},
            Role.TILE_MAXIMUM: {self.tile, self.column},
            Role.TILE_SUM: {self.tile, self.column},
        }.get(role)
        found = set(einsum.result.variables)
        if wanted is not None and found != wanted:
            raise self.fail(
                f"{role.value} must have the indices {', '.join(sorted(wanted))}, not {', '.join(sorted(found))}", einsum.at
            )
        if role is Role.TILE_NUMERATOR and (len(found) != 3 or not {self.tile, self.column} < found):
            raise self.fail(f"{role.value} must have {self.tile}, {self.column} and one more index", einsum.at)

    def reduction(self, einsum: Einsum) -> Value:
        """An Einsum that reduces: what the array does over e or over its rows."""
        named = {reduction.operation for reduction in einsum.reductions}
        by_maximum = "max" in named
        if by_maximum and (len(named) > 1 or einsum.summed):
            raise self.fail("one Einsum can only add or only take the maximum", einsum.at)
        expression = einsum.expression
        match expression:
            case Binary("*", left, right) if not by_maximum:
                a, b = self.value(left), self.value(right)
                if a.role is b.role is Role.OPERAND:
                    return self.score(einsum, left, right)
                if {a.role, b.role} == {Role.WEIGHT, Role.OPERAND}:
                    self.over_rows(einsum, Role.TILE_NUMERATOR)
                    return Value(Role.TILE_NUMERATOR)
                raise self.fail(
                    f"the array sums queries times keys and weights times values, not {a.role.value} times {b.role.value}",
                    expression.at,
                )
        value = self.value(expression)
        if by_maximum and value.role is Role.SCORE:
            self.over_rows(einsum, Role.TILE_MAXIMUM)
            return Value(Role.TILE_MAXIMUM)
        if not by_maximum and value.role is Role.WEIGHT:
            self.over_rows(einsum, Role.TILE_SUM)
            return Value(Role.TILE_SUM)
        what = "takes the maximum of scores" if by_maximum else "sums weights"
        raise self.fail(f"the array {what} over its rows, not of {value.role.value}", expression.at)

    def over_rows(self, einsum: Einsum, role: Role) -> None:
        if einsum.reduced != (self.row,):
            raise self.fail(f"{role.value} must be over {self.row} alone, not over {', '.join(einsum.reduced)}", einsum.at)

    def score(self, einsum: Einsum, left: Expression, right: Expression) -> Value:
        """Queries times keys, summed over one variable."""
        if len(einsum.reduced) != 1 or einsum.reduced[0] in (self.row, self.tile):
            raise self.fail(f"scores must be a sum over one head dim, not over {', '.join(einsum.reduced)}", einsum.at)
        (dim,) = einsum.reduced
        assert isinstance(left, Reference) and isinstance(right, Reference)
        keys, queries = (left, right) if self.row in left.variables else (right, left)
        if set(keys.variables) != {dim, self.row, self.tile} or len(queries.variables) != 2 or dim not in queries.variables:
            raise self.fail(
                f"scores must be queries [{dim}, p] times keys [{dim}, {self.tile}, {self.row}], not {einsum.expression}",
                einsum.at,
            )
        self.column = next(variable for variable in queries.variables if variable != dim)
        return Value(Role.SCORE)

    # -- expressions -----------------------------------------------------------------------------------------------

    def value(self, expression: Expression, top: bool = False) -> Value:
        """Role of an expression; ``top`` if it is a whole right side."""
        found = self._value(expression)
        if found.role in ON_ARRAY and not top and not isinstance(expression, Reference):
            raise self.fail(
                f"{found.role.value} must be an Einsum of their own, because the array computes them", expression.at
            )
        return found

    def _value(self, expression: Expression) -> Value:
        match expression:
            case Reference():
                return self.reference(expression)
            case Call("max", (left, right)):
                for a, b in ((left, right), (right, left)):
                    state, tile = self.value(a), self.value(b)
                    if state == Value(Role.MAXIMUM, self.maximum, When.OLD) and tile.role is Role.TILE_MAXIMUM:
                        return Value(Role.MAXIMUM, self.maximum, When.NEW)
                raise self.fail("a lane's max is of the running maximum and the maximum of a tile", expression.at)
            case Call("exp", (Binary("-", left, right),)):
                a, b = self.value(left), self.value(right)
                if b == Value(Role.MAXIMUM, self.maximum, When.NEW) and isinstance(right, Reference):
                    if a.role is Role.SCORE:
                        return Value(Role.WEIGHT)
                    if a == Value(Role.MAXIMUM, self.maximum, When.OLD):
                        return Value(Role.FACTOR)
                raise self.fail(
                    "exp is of scores, or of the old running maximum, minus the new running maximum "
                    f"(index {self.tile}+1), not of {left} - {right}",
                    expression.at,
                )
            case Call("exp", _):
                raise self.fail("exp is of a difference: scores minus the running maximum", expression.at)
            case Binary("*", left, right):
                for a, b in ((left, right), (right, left)):
                    state, factor = self.value(a), self.value(b)
                    if factor.role is Role.FACTOR and state.when is When.OLD and state.role in SCALED:
                        return Value(SCALED[state.role], state.state, When.OLD)
                raise self.fail("a lane multiplies a state by the factor exp(old - new running maximum)", expression.at)
            case Binary("+", left, right):
                for a, b in ((left, right), (right, left)):
                    scaled, tile = self.value(a), self.value(b)
                    if scaled.role in ADDED and tile.role is ADDED[scaled.role]:
                        role = Role.DENOMINATOR if tile.role is Role.TILE_SUM else Role.NUMERATOR
                        return Value(role, scaled.state, When.NEW)
                raise self.fail("a lane adds the sum of a tile to its state times the factor", expression.at)
            case Binary("/", left, right):
                if self.value(left) == Value(Role.NUMERATOR, self.value(left).state, When.LAST):
                    below = self.value(right)
                    if below.role is Role.DENOMINATOR and below.when is When.LAST:
                        return Value(Role.RESULT)
                raise self.fail("it divides once: the last numerator by the last denominator, under finally", expression.at)
            case Number() | Unary() if not self.reads(expression):
                raise self.fail(f"{expression} has no place: a scale is an argument of the call", expression.at)
        raise self.fail(f"it has no operation for {expression}; {CAN}", expression.at)

    @staticmethod
    def reads(expression: Expression) -> bool:
        return any(isinstance(node, Reference | Variable) for node in walk(expression))

    def reference(self, reference: Reference) -> Value:
        """A tensor: a state at a step, or what an Einsum of this tile gave."""
        role = self.roles[reference.tensor]
        indices = self.indices(reference)
        tile_rank = self.tile.upper()
        index = next((i for i in indices if i.rank == tile_rank), None)
        for other in indices:
            whole = other.kind == "split" and role is Role.OPERAND
            if (other is not index or role is Role.OPERAND) and not whole and (other.kind != "variable" or other.offset):
                raise self.fail(
                    f"{index_text(other.expression)} must be a variable alone"
                    + " or the split of a rank" * (role is Role.OPERAND),
                    other.expression.at,
                )
        if reference.tensor not in self.initial:
            if role is Role.OPERAND:
                return Value(role)
            if index is None or index.part != self.tile or index.offset:
                raise self.fail(f"{reference} is not of the same tile", reference.at)
            if role in (Role.SCALED_DENOMINATOR, Role.SCALED_NUMERATOR):
                return Value(role, self.state_of(reference.tensor), When.OLD)
            return Value(role)
        return Value(role, reference.tensor, self.when(reference, index))

    def indices(self, reference: Reference) -> list[Index]:
        ranks = self.cascade.ranks_of[reference.tensor]
        return [classify(self.cascade, index, rank) for index, rank in zip(reference.indices, ranks, strict=True)]

    def state_of(self, tensor: str) -> str:
        """The state that a scaled state is read from."""
        einsum = next(step.einsum for step in self.steps if step.einsum.result.tensor == tensor)
        return next(
            operand.tensor for operand in einsum.operands if operand.tensor in self.initial and operand.tensor != self.maximum
        )

    def when(self, reference: Reference, index: Index | None) -> When:
        if index is not None and index.part == self.tile and index.offset == 0:
            return When.OLD
        if index is not None and index.part == self.tile and index.offset == 1:
            if reference.tensor not in self.updated:
                raise self.fail(f"{reference} is read before it is written", reference.at)
            return When.NEW
        if index is not None and str(index.expression) == self.tile.upper():
            return When.LAST
        raise self.fail(
            f"{reference} must be a state before the tile ({self.tile}), after it ({self.tile}+1) or after the last one "
            f"({self.tile.upper()})",
            reference.at,
        )

    # -- after the last tile ---------------------------------------------------------------------------------------

    def end(self, einsum: Einsum) -> None:
        if einsum.reduced:
            raise self.fail(f"{einsum.result.tensor} is reduced after the last tile; the lanes only divide then", einsum.at)
        value = self.value(einsum.expression)
        if value.role is not Role.RESULT or Role.RESULT in self.roles.values():
            raise self.fail(
                f"{einsum.result.tensor} must be the numerator divided by the denominator, the one result", einsum.at
            )
        self.give(einsum, value, Unit.LANE)

    def check_extras(self) -> None:
        """What the file says about the machine must be what the machine does."""
        extras = dict(self.cascade.extras)
        units = {step.einsum.result.tensor: step.unit for step in self.steps}
        bindings = extras.get("bindings")
        if isinstance(bindings, Mapping):
            for key, value in bindings.pairs:
                if key.text not in [unit.value for unit in Unit]:
                    raise self.fail(f"its parts are edge, array and lane, not {key.text}", key.at)
                for item in value.items if isinstance(value, Sequence) else ():
                    if isinstance(item, Scalar) and item.text in units and units[item.text].value != key.text:
                        raise self.fail(f"{item.text} is evaluated by {units[item.text].value}, not by {key.text}", item.at)
        mapping = extras.get("mapping")
        spacetime = mapping.get("spacetime") if isinstance(mapping, Mapping) else None
        space = spacetime.get("space") if isinstance(spacetime, Mapping) else None
        if isinstance(space, Sequence):
            self.check_space(space)

    def check_space(self, space: Sequence) -> None:
        assert self.column is not None
        wanted = (self.row.upper(), self.column.upper())
        found = [item.text for item in space.items if isinstance(item, Scalar)]
        if len(found) != 2 or found[0] != wanted[0] or found[1].rstrip("0123456789") != wanted[1].rstrip("0123456789"):
            raise self.fail(
                f"rows and columns are {wanted[0]} and {wanted[1]} (or a part of it), not {', '.join(found)}", space.at
            )
