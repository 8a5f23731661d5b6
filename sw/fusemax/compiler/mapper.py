"""Which cascades the array can run, and as what: one pass over tiles of keys, however its lines are named and split up.

Every expression is looked up in the table of rules (:mod:`.rules`), line by line; what no rule fits, the machine has no
operation for. Array operations are Einsums of their own; what the lanes compute may be written in one line or in more. A
cascade without tiles gets them first (:mod:`fusemax.cascade.tiling`), and its divisions are moved behind its sums.
"""

from __future__ import annotations

from functools import lru_cache

from ..cascade.cascade import Cascade
from ..cascade.deferred_division import defer_division
from ..cascade.einsum import Einsum
from ..cascade.expression import Binary, Call, Reference
from ..cascade.kinds import Kind, Tiles, kind_of
from ..cascade.tiling import tile, tileable_rank
from .array_program import ArrayProgram
from .expressions import apply_rule, value_of, values_of
from .functions import WEIGHT_FUNCTIONS
from .machine_sections import check_sections
from .operations import (
    Accumulate,
    Contract,
    Divide,
    Header,
    LaneOperation,
    MachineOperation,
    Operand,
    Raw,
    RunningMaximum,
    ScoreSum,
    TileMaximum,
    TileSum,
    Unit,
    Weigh,
    WeightedSum,
)
from .refusal import refusal
from .rules import START, Form, Value, When
from .scope import Scope
from .vocabulary import check_vocabulary

__all__ = ["map_cascade"]


@lru_cache(maxsize=64)
def map_cascade(cascade: Cascade) -> ArrayProgram:
    """Bind a cascade's Einsums to the machine's parts.

    Parameters
    ----------
    cascade
        Any cascade.

    Returns
    -------
    ArrayProgram
        Its Einsums, each with the part of the machine that evaluates it and what it is there.

    Raises
    ------
    ReachError
        If the array cannot run it; names the first line that it cannot, why, and the nearest rule.
    """
    check_vocabulary(cascade)
    _check_first(cascade)
    rank = tileable_rank(cascade)
    if rank is not None:
        cascade = tile(defer_division(cascade), rank)
    return _Mapper(cascade).program()


def _is_copy(cascade: Cascade, copies: set[str], einsum: Einsum) -> bool:
    """Whether the Einsum only renames an input and its indices."""
    expression = einsum.expression
    return isinstance(expression, Reference) and expression.tensor in copies and not einsum.reduced


def _check_first(cascade: Cascade) -> None:
    """Look whether a cascade begins with a function of an input, which has no place in front of the scores.

    Raises
    ------
    ReachError
        If it does.
    """
    inputs = set(cascade.inputs)
    first = next((e for e in (*cascade.expressions, *cascade.extended) if not _is_copy(cascade, inputs, e)), None)
    if first is None or first.reduced or not first.operands:
        return
    if {operand.tensor for operand in first.operands} <= inputs and not isinstance(first.expression, Binary):
        raise refusal(
            cascade,
            f"{first.result.tensor} is a function of an input, one point per element of it, which is the host's to compute; "
            "the array begins with scores, queries times keys",
            first.at,
        )


def _find_tiles(cascade: Cascade) -> Tiles:
    """The variables of the tile and of its rows: the two parts of the keys' rank, the outer one iterative.

    Raises
    ------
    ReachError
        If there are none.
    """
    iteration = cascade.iteration
    tiles = {split.parts[0]: split for split in cascade.split}
    if iteration is None:
        copies = set(cascade.inputs)
        first = next(e for e in (*cascade.expressions, *cascade.einsums) if not _is_copy(cascade, copies, e))
        raise refusal(
            cascade,
            f"{first.result.tensor} is computed over whole ranks, but the array works tile by tile: the keys' rank must be "
            "split (M: [M1, M0]) and its outer part iterative (m1: m1 >= M1)",
            first.at,
        )
    for alias in cascade.alias:
        raise refusal(cascade, f"{alias.name} is a second name of {alias.rank}, which it has no use for", alias.at)
    rank = iteration.variable.upper()
    if rank not in tiles or len(tiles[rank].parts) != 2:
        raise refusal(
            cascade,
            f"{iteration.variable} must be the outer one of the two parts of a split rank, so that a step is a tile",
            iteration.at,
        )
    outer, inner = (part.lower() for part in tiles[rank].parts)
    return Tiles(outer, inner)


class _Mapper:
    """Goes through a tiled cascade, Einsum by Einsum."""

    def __init__(self, cascade: Cascade) -> None:
        self.cascade = cascade
        self.tiles = _find_tiles(cascade)
        self.scope = Scope(cascade, self.tiles)

    def program(self) -> ArrayProgram:
        """Map all Einsums."""
        cascade = self.cascade
        for einsum in cascade.expressions:
            self._copy(einsum)
        for einsum in cascade.initialization:
            self._start(einsum)
        for einsum in cascade.extended:
            self._repeat(einsum)
        self._check_complete()
        for einsum in cascade.finally_:
            self._end(einsum)
        self._check_results()
        program = self.scope.program()
        self._check_division(program)
        check_sections(cascade, program)
        return program

    # -- before the first tile ---------------------------------------------------------------------------------

    def _is_copy(self, einsum: Einsum) -> bool:
        copies = {name for name, operation in self.scope.operations.items() if isinstance(operation, Operand)}
        if not _is_copy(self.cascade, copies, einsum):
            return False
        value_of(self.scope, einsum.expression)
        return True

    def _copy(self, einsum: Einsum) -> None:
        """An Einsum before the iteration: only a copy of an input can be one."""
        if not self._is_copy(einsum):
            raise self.scope.refusal(
                f"{einsum.result.tensor} is computed before the first tile; the array has only the iteration over tiles",
                einsum.at,
            )
        self.scope.give(einsum, Value(Operand()))

    def _start(self, einsum: Einsum) -> None:
        """The start of a state. What the state is, the Einsum that writes it for the next tile says."""
        tensor = einsum.result.tensor
        update = next((other for other in self.cascade.extended if other.result.tensor == tensor), None)
        if update is None:
            raise self.scope.refusal(f"no Einsum writes {tensor} for the next tile", einsum.at)
        operation = self._state(einsum, update)
        if operation is None:
            raise self.scope.refusal(
                f"{tensor} must be a running maximum or denominator [m1, p], or a numerator [f, m1, p], so it must have 2 or 3 "
                f"indices, not {len(einsum.result.indices)}",
                einsum.at,
            )
        start = START[type(operation)]
        if str(einsum.expression) != start:
            line = f"line {update.at.line}" if update.at else "the iteration"
            raise self.scope.refusal(
                f"{tensor} must start at {start}, not at {einsum.expression}, because {line} makes it "
                f"{operation.name}: {update}",
                einsum.expression.at or einsum.at,
            )
        if isinstance(operation, RunningMaximum) and self.scope.maximum is not None:
            raise self.scope.refusal(f"a lane has one running maximum: {self.scope.maximum}", einsum.at)
        self.scope.initial[tensor] = einsum
        self.scope.give(einsum, Value(operation))

    def _state(self, start: Einsum, update: Einsum) -> LaneOperation | None:
        """What a state is, by what it is updated with or, if that is neither a maximum nor a sum, by where it starts."""
        rescaled = any(isinstance(einsum.expression, Call) and einsum.expression.function == "max" for einsum in self._updates)
        sums: type[MachineOperation] | None = {2: TileSum, 3: WeightedSum}.get(len(start.result.indices))
        if sums is TileSum and self._adds_scores(update):
            sums = ScoreSum
        running = None if sums is None else Accumulate(sums, rescaled)
        match update.expression:
            case Call("max", _):
                return RunningMaximum()
            case Binary("+", _, _):
                return running
        return RunningMaximum() if str(start.expression) == START[RunningMaximum] else running

    @property
    def _updates(self) -> list[Einsum]:
        """Einsums that write states for the next tile."""
        return [einsum for einsum in self.cascade.extended if einsum.result.tensor in self.cascade.iterative]

    def _adds_scores(self, update: Einsum) -> bool:
        """Whether a state is updated with the sum of products of two things that a tile has per key and query."""
        read = {operand.tensor for operand in update.operands}
        for einsum in self.cascade.extended:
            if einsum.result.tensor in read and self.tiles.row in einsum.reduced:
                kinds = [kind_of(self.cascade, self.tiles, operand.tensor) for operand in einsum.operands]
                return kinds.count(Kind.GRID) == 2
        return False

    # -- a tile ------------------------------------------------------------------------------------------------

    def _repeat(self, einsum: Einsum) -> None:
        """An Einsum of every tile."""
        scope, tensor = self.scope, einsum.result.tensor
        if self._is_copy(einsum):
            scope.give(einsum, Value(Operand()))
            return
        value = self._reduction(einsum) if einsum.reduced else value_of(scope, einsum.expression, whole=True)
        operation = value.operation
        if tensor in scope.initial:
            self._update(einsum, value)
        elif value.when is When.NEW:
            raise scope.refusal(f"{value.name} must be written to the next tile's state, which is initialized", einsum.at)
        elif isinstance(einsum.expression, Reference) and not einsum.reduced:
            raise scope.refusal(f"{einsum.expression} is {value.name}, which {tensor} only renames", einsum.at)
        elif operation.unit is Unit.ARRAY:
            earlier = scope.step_of(type(operation))
            if earlier is not None:
                raise scope.refusal(
                    f"{tensor} gives {value.name} again, after {earlier.einsum.result.tensor}; the array does it once a tile",
                    einsum.at,
                )
            if isinstance(operation, Weigh) and scope.identity is not None:
                raise scope.refusal(
                    f"{tensor} gives weights, but {scope.identity.result.tensor} sums the scores themselves; "
                    "a tile has one kind",
                    einsum.at,
                )
            self._check_indices(einsum, operation)
            scope.give(einsum, value)
        elif operation.unit is Unit.LANE:
            scope.give(einsum, value)
        else:
            raise scope.refusal(f"{einsum.expression} is {value.name}, which {tensor} only renames", einsum.at)

    def _update(self, einsum: Einsum, value: Value) -> None:
        """A state of the next tile."""
        tensor = einsum.result.tensor
        if value.when is not When.NEW or (value.state is not None and value.state != tensor):
            raise self.scope.refusal(
                f"{tensor} must be max({tensor}, the maximum of a tile) or the sum of a tile plus {tensor} times the factor "
                f"exp(old - new running maximum), not {einsum.expression}",
                einsum.at,
            )
        self.scope.updated.add(tensor)
        self.scope.give(einsum, value)

    def _reduction(self, einsum: Einsum) -> Value:
        """What an Einsum that reduces is; scores also say which variable the columns are."""
        scope, row = self.scope, self.tiles.row
        named = {reduction.operation for reduction in einsum.reductions}
        by_maximum = "max" in named
        if by_maximum and (len(named) > 1 or einsum.summed):
            raise scope.refusal("one Einsum can only add or only take the maximum", einsum.at)
        expression = einsum.expression
        if isinstance(expression, Binary) and expression.operator == "*" and not by_maximum:
            a, b = values_of(scope, "*", expression.left, expression.right)
            reason = f"the array sums queries times keys and weights times values, not {a.name} times {b.name}"
            value = apply_rule(scope, Form.PRODUCTS, (a, b), reason, expression.at)
            self._check_weights(value, (a, b), reason, einsum)
            if isinstance(value.operation, Contract):
                scope.column = self._column_of_scores(einsum, expression.left, expression.right)
        else:
            a = value_of(scope, expression)
            what = "takes the maximum of scores" if by_maximum else "sums weights"
            reason = f"the array {what} over its rows, not of {a.name}"
            value = apply_rule(scope, Form.LARGEST if by_maximum else Form.SUM, (a,), reason, expression.at)
            self._check_weights(value, (a,), reason, einsum)
        if not isinstance(value.operation, Contract) and einsum.reduced != (row,):
            raise scope.refusal(f"{value.name} must be over {row} alone, not over {', '.join(einsum.reduced)}", einsum.at)
        return value

    def _check_weights(self, value: Value, operands: tuple[Value, ...], reason: str, einsum: Einsum) -> None:
        """A tile has one kind of weights: the scores are weights only where no Einsum makes others of them."""
        if not isinstance(value.operation, TileSum | WeightedSum):
            return
        scores = any(isinstance(operand.operation, Contract) for operand in operands)
        step = self.scope.step_of(Weigh)
        other = step.einsum.result.tensor if step else "of the score less the running maximum" if self.scope.maximum else ""
        if scores and other:
            raise self.scope.refusal(f"{reason}: the weights are {other}", einsum.expression.at)
        if scores:
            self.scope.identity = einsum

    def _column_of_scores(self, einsum: Einsum, left: object, right: object) -> str:
        """The queries' variable in queries times keys, which is summed over one variable."""
        scope, tile_variable, row = self.scope, self.tiles.tile, self.tiles.row
        if len(einsum.reduced) != 1 or einsum.reduced[0] in (row, tile_variable):
            raise scope.refusal(f"scores must be a sum over one head dim, not over {', '.join(einsum.reduced)}", einsum.at)
        (dim,) = einsum.reduced
        assert isinstance(left, Reference) and isinstance(right, Reference)
        keys, queries = (left, right) if row in left.variables else (right, left)
        if set(keys.variables) != {dim, row, tile_variable} or len(queries.variables) != 2 or dim not in queries.variables:
            raise scope.refusal(
                f"scores must be queries [{dim}, p] times keys [{dim}, {tile_variable}, {row}], not {einsum.expression}",
                einsum.at,
            )
        return next(variable for variable in queries.variables if variable != dim)

    def _check_indices(self, einsum: Einsum, operation: MachineOperation) -> None:
        """Check the indices on the left, which say where in the array a result is."""
        assert self.scope.column is not None or isinstance(operation, Contract)
        variables = set(einsum.result.variables)
        name = Value(operation).name
        wanted = {self.tiles.tile, f"{self.scope.column}"} | ({self.tiles.row} if operation.kind is Kind.GRID else set())
        if operation.kind is Kind.VECTOR:
            if len(variables) != 3 or not wanted < variables:
                raise self.scope.refusal(
                    f"{name} must have {self.tiles.tile}, {self.scope.column} and one more index", einsum.at
                )
        elif variables != wanted:
            raise self.scope.refusal(
                f"{name} must have the indices {', '.join(sorted(wanted))}, not {', '.join(sorted(variables))}", einsum.at
            )

    def _check_complete(self) -> None:
        """Scores and weights times values must be there; with a running maximum all of the softmax."""
        scope = self.scope
        wanted: list[type[MachineOperation]] = [Contract, WeightedSum]
        scores = scope.step_of(ScoreSum)
        if scope.maximum is None and scores is not None:
            raise scope.refusal("sums of weights times scores need a running maximum, as attention_1pass has", scores.einsum.at)
        if scope.maximum is not None:
            wanted = [Contract, TileMaximum, Weigh, TileSum, WeightedSum]
        for operation in wanted:
            if scope.step_of(operation) is None:
                name = Weigh(running=True).name if operation is Weigh else operation.text
                raise scope.refusal(
                    f"no Einsum up to here gives {name}, and attention needs them", self.cascade.extended[-1].at
                )
        unused = next((name for name in scope.initial if name not in scope.updated), None)
        if unused is not None:
            raise scope.refusal(f"no Einsum writes {unused} for the next tile", scope.initial[unused].at)

    # -- after the last tile -----------------------------------------------------------------------------------

    def _end(self, einsum: Einsum) -> None:
        """The division that gives a result, or the state that is one."""
        scope, tensor = self.scope, einsum.result.tensor
        if einsum.reduced:
            raise scope.refusal(f"{tensor} is reduced after the last tile; the lanes only divide then", einsum.at)
        value = value_of(scope, einsum.expression)
        if isinstance(einsum.expression, Reference):
            reason = f"{tensor} must be the last state of a sum, or a numerator divided by the denominator, not {value.name}"
            value = apply_rule(scope, Form.ALONE, (value,), reason, einsum.at)
        if isinstance(value.operation, Header):
            scope.give(einsum, value)
            return
        if not isinstance(value.operation, Divide | Raw):
            raise scope.refusal(f"{tensor} must be the numerator divided by the denominator, the one result", einsum.at)
        rows = [step for step in scope.steps if isinstance(step.operation, Divide | Raw)]
        other = next((step for step in rows if step.operation != value.operation), None)
        if other is not None:
            raise scope.refusal(
                f"{tensor} is not divided as {other.einsum.result.tensor} is; all columns go out alike", einsum.at
            )
        if any(step.einsum.operands == einsum.operands for step in rows):
            raise scope.refusal(f"{tensor} must be the numerator divided by the denominator, the one result", einsum.at)
        scope.give(einsum, value)

    def _check_division(self, program: ArrayProgram) -> None:
        """The lanes divide by a positive denominator."""
        step = program.step(Divide)
        if step is not None and WEIGHT_FUNCTIONS[program.weigh.function].sign is None:
            raise self.scope.refusal(
                f"{step.einsum.result.tensor} divides by a sum of weights that may be negative or zero, and the lanes divide "
                "by positive ones only; leave the numerator as it is and divide on the host",
                step.einsum.at,
            )

    def _check_results(self) -> None:
        """A result must be there, and nothing else may leave the cascade."""
        cascade, operations = self.cascade, self.scope.operations
        results = {name for name, operation in operations.items() if operation.kind is Kind.RESULT}
        if not any(isinstance(operations[name], Divide | Raw) for name in results):
            raise self.scope.refusal(
                "no Einsum under finally divides the numerator by the denominator, or gives the numerator",
                cascade.extended[-1].at,
            )
        for tensor in cascade.results:
            if tensor not in results:
                wrong = next(einsum for einsum in reversed(cascade.einsums) if einsum.result.tensor == tensor)
                raise self.scope.refusal(f"{tensor} leaves the cascade, but the machine writes only the one result", wrong.at)
