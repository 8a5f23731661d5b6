"""What a cascade computes, in float64."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import reduce
from typing import Any

import numpy as np
import numpy.typing as npt

from .builtins import BINARY, MAPS, REDUCTIONS
from .cascade import Cascade
from .einsum import Einsum, NamedReduction
from .errors import CascadeError
from .expression import Binary, Call, Expression, Name, Number, Reference, Unary, Variable, factors, index_text

__all__ = ["Interpreter", "interpret", "shapes_of"]

Array = npt.NDArray[Any]


def interpret(cascade: Cascade, inputs: Mapping[str, npt.ArrayLike], **sizes: int) -> dict[str, Array]:
    """Compute all tensors of a cascade, in float64.

    Parameters
    ----------
    cascade
        Any cascade.
    inputs
        Its inputs by name, with axes in the order of their declared ranks.
    sizes
        Shapes of ranks that the inputs do not give, such as the tile's ``M0``.

    Returns
    -------
    dict
        Every tensor that an Einsum writes. A tensor that is carried from step to step has one element more along the
        iterative rank.

    Raises
    ------
    CascadeError
        If inputs are missing or superfluous, or shapes contradict each other.
    """
    return Interpreter(cascade, inputs, sizes).run()


def shapes_of(cascade: Cascade, known: Mapping[str, int]) -> dict[str, int]:
    """Find the shapes of all ranks from some of them, by splits and aliases.

    Parameters
    ----------
    cascade
        Any cascade.
    known
        Shapes by rank, each 1 or more.

    Returns
    -------
    dict
        The shape of every rank.

    Raises
    ------
    CascadeError
        If they contradict each other or do not suffice.
    """
    shapes = {}
    for rank, size in known.items():
        if rank not in cascade.ranks:
            raise CascadeError(f"the size of {rank} must not be given: it is no rank of {cascade.name}", name=cascade.name)
        if not isinstance(size, int | np.integer) or isinstance(size, bool) or size < 1:
            raise CascadeError(f"the size of {rank} must be a positive integer, not {size!r}", name=cascade.name)
        base = cascade.base(rank)
        if shapes.setdefault(base, int(size)) != size:
            raise CascadeError(f"{rank} must have one size, not {shapes[base]} and {size}", name=cascade.name)
    for _ in range(len(cascade.split) + 1):
        for split in cascade.split:
            parts = [cascade.base(part) for part in split.parts]
            missing = [part for part in parts if part not in shapes]
            product = int(np.prod([shapes[part] for part in parts if part in shapes]))
            whole = shapes.get(split.rank)
            if not missing and shapes.setdefault(split.rank, product) != product:
                text = " * ".join(f"{shapes[part]}" for part in parts)
                raise CascadeError(
                    f"{split.rank} must be {' * '.join(split.parts)} = {text}, not {shapes[split.rank]}", name=cascade.name
                )
            if len(missing) == 1 and whole is not None:
                if whole % product:
                    others = " * ".join(part for part in split.parts if cascade.base(part) != missing[0])
                    raise CascadeError(f"{split.rank} = {whole} must be a multiple of {others} = {product}", name=cascade.name)
                shapes[missing[0]] = whole // product
    for rank in cascade.ranks:
        base = cascade.base(rank)
        if base not in shapes:
            raise CascadeError(f"the size of {rank} must be given: the inputs do not say it", name=cascade.name)
        shapes[rank] = shapes[base]
    return shapes


class Interpreter:
    """Evaluates the Einsums of a cascade in order, on arrays with an axis per variable; ``bound`` is the iteration's step."""

    def __init__(self, cascade: Cascade, inputs: Mapping[str, npt.ArrayLike], sizes: Mapping[str, int]) -> None:
        self.cascade = cascade
        self.constants = {constant.name: constant.value for constant in cascade.constants}
        self.functions = {function.name: function for function in cascade.functions}
        wanted = set(cascade.inputs)
        if set(inputs) != wanted:
            absent, other = (", ".join(sorted(names)) for names in (wanted - set(inputs), set(inputs) - wanted))
            wrong = [f"; missing: {absent}"] * bool(absent) + [f"; unknown: {other}"] * bool(other)
            raise CascadeError(f"inputs must be {', '.join(cascade.inputs) or 'none'}{''.join(wrong)}", name=cascade.name)
        self.tensors: dict[str, Array] = {}
        known = dict(sizes)
        for name in cascade.inputs:
            array = np.asarray(inputs[name])
            self.tensors[name] = array.astype(np.float64) if array.dtype.kind not in "iub" else array
            ranks = cascade.ranks_of[name]
            if array.ndim != len(ranks):
                raise CascadeError(f"{name} must have the ranks {', '.join(ranks)}, not {array.ndim} axes", name=cascade.name)
            for rank, size in zip(ranks, array.shape, strict=True):
                if known.setdefault(rank, size) != size:
                    raise CascadeError(
                        f"{rank} must have one size, not {known[rank]} and {size}: {name} of shape {array.shape} is read as "
                        f"[{', '.join(ranks)}]",
                        name=cascade.name,
                    )
        self.shapes = shapes_of(cascade, known)
        self.bound: dict[str, int] = {}

    def run(self) -> dict[str, Array]:
        cascade = self.cascade
        with np.errstate(all="ignore"):
            for einsum in cascade.expressions:
                self.evaluate(einsum)
            if cascade.iteration is not None:
                self.iterate(cascade.initialization, cascade.extended)
            for einsum in cascade.finally_:
                self.evaluate(einsum)
        return {name: array for name, array in self.tensors.items() if name not in cascade.inputs}

    def iterate(self, initialization: Iterable[Einsum], extended: Sequence[Einsum]) -> None:
        """Evaluate some Einsums of the iteration: those before the first step, and those of every step."""
        iteration = self.cascade.iteration
        assert iteration is not None
        for einsum in initialization:
            self.evaluate(einsum)
        for step in range(self.shapes[iteration.stop]):
            self.bound = {iteration.variable: step}
            for einsum in extended:
                self.evaluate(einsum)
        self.bound = {}

    # -- Einsums ---------------------------------------------------------------------------------------------------

    def evaluate(self, einsum: Einsum) -> None:
        """Compute an Einsum for all values of its variables but the bound one, and store it."""
        made = {r.ranks[-1] for r in einsum.reductions if r.operation in REDUCTIONS and REDUCTIONS[r.operation].new_rank}
        left = [variable for variable in einsum.result.variables if variable not in self.bound]
        axes = [variable for variable in left if variable not in made]
        axes += [variable for variable in einsum.reduced if variable not in self.bound]
        value = None if einsum.reductions else self.product(einsum, axes, len(left))
        if value is None:
            value = self.reduced(einsum, axes, left)
        self.store(einsum.result, left, value)

    def product(self, einsum: Einsum, axes: list[str], kept: int) -> Array | None:
        """Sum over the last axes of a product, without the product in memory; none if it is another expression."""
        above, below = factors(einsum.expression)
        if below or len(above) < 2 or kept == len(axes):
            return None
        operands: list[Any] = []
        present = set()
        for factor in above:
            array = self.value(factor, axes)
            used = [axis for axis, size in enumerate(np.shape(array)) if size > 1]
            operands += [np.squeeze(array), used]
            present.update(used)
        if any(axis not in present and self.extent(axes[axis]) > 1 for axis in range(kept, len(axes))):
            return None
        output = [axis for axis in range(kept) if axis in present]
        value = np.einsum(*operands, output, optimize="greedy")
        return np.expand_dims(value, [axis for axis in range(kept) if axis not in present])

    def reduced(self, einsum: Einsum, axes: list[str], left: list[str]) -> Array:
        """Value of an Einsum with an axis for each variable in ``left``, of size 1 if the value does not depend on it."""
        value = np.asarray(self.value(einsum.expression, axes))
        kept = len(axes) - len([variable for variable in einsum.reduced if variable not in self.bound])
        shape = value.shape if value.ndim else (1,) * len(axes)
        value = np.broadcast_to(value, [*shape[:kept], *(self.extent(variable) for variable in axes[kept:])])
        if einsum.summed:
            value = value.sum(axis=tuple(axes.index(variable) for variable in einsum.summed))
            axes = [variable for variable in axes if variable not in einsum.summed]
        for reduction in einsum.reductions:
            value, axes = self.reduction(reduction, value, axes)
        return value.transpose([axes.index(variable) for variable in left])

    def reduction(self, reduction: NamedReduction, value: Array, axes: list[str]) -> tuple[Array, list[str]]:
        function = self.functions.get(reduction.operation)
        if function is not None:
            for variable in reduction.ranks:
                slices = np.moveaxis(value, axes.index(variable), 0)
                value = reduce(lambda a, b: np.asarray(self.apply(reduction.operation, [a, b])), slices)
                axes = [other for other in axes if other != variable]
            return value, axes
        builtin = REDUCTIONS[reduction.operation]
        if builtin.new_rank:
            variable, made = reduction.ranks
            axis = axes.index(variable)
            if self.extent(made) > self.extent(variable):
                raise CascadeError(
                    f"{made.upper()} must not be greater than {variable.upper()}", reduction.at, self.cascade.name
                )
            return builtin.compute(value, axis, self.extent(made)), [made if v == variable else v for v in axes]
        axis = tuple(axes.index(variable) for variable in reduction.ranks)
        value = builtin.compute(value, axis=axis[0] if len(axis) == 1 else axis)
        return value, [variable for variable in axes if variable not in reduction.ranks]

    def store(self, result: Reference, left: list[str], value: Array) -> None:
        """Write ``value``, which has an axis for each variable in ``left``; what is never written stays NaN."""
        name = result.tensor
        if name not in self.tensors:
            shape = [self.shapes[rank] for rank in self.cascade.ranks_of[name]]
            iteration = self.cascade.iteration
            if name in self.cascade.iterative and iteration is not None:
                axis = [self.cascade.base(rank) for rank in self.cascade.ranks_of[name]].index(
                    self.cascade.base(iteration.stop)
                )
                shape[axis] += 1
            self.tensors[name] = np.full(shape, np.nan)
        where = [np.asarray(index) for index in self.indices(result, left)]
        self.check_bounds(result, where)
        self.tensors[name][tuple(where)] = value

    # -- expressions -----------------------------------------------------------------------------------------------

    def extent(self, variable: str) -> int:
        return self.shapes[variable.upper()]

    def value(self, expression: Expression, axes: list[str]) -> Any:
        """Value with an axis per variable (of size 1 where it does not depend on it), or a scalar."""
        match expression:
            case Number(number):
                return number
            case Name(name):
                return self.constants[name] if name in self.constants else float(self.shapes[name])
            case Variable(name):
                return np.asarray(self.coordinate(name, axes), dtype=np.float64)
            case Reference():
                return self.read(expression, axes)
            case Unary("-", operand):
                return np.negative(self.value(operand, axes))
            case Unary("not", operand):
                return np.logical_not(self.value(operand, axes))
            case Binary(operator, left, right):
                return BINARY[operator](self.value(left, axes), self.value(right, axes))
            case Call(function, arguments):
                return self.apply(function, [self.value(argument, axes) for argument in arguments])
        raise AssertionError(expression)

    def apply(self, function: str, arguments: list[Any]) -> Any:
        """A built-in map or one of the cascade's own functions, of values."""
        own = self.functions.get(function)
        if own is None:
            return MAPS[function].compute(*arguments)
        return self.body(own.body, dict(zip(own.parameters, arguments, strict=True)))

    def body(self, expression: Expression, arguments: dict[str, Any]) -> Any:
        """Value of a function's body."""
        match expression:
            case Variable(name):
                return arguments[name]
            case Unary("-", operand):
                return np.negative(self.body(operand, arguments))
            case Unary("not", operand):
                return np.logical_not(self.body(operand, arguments))
            case Binary(operator, left, right):
                return BINARY[operator](self.body(left, arguments), self.body(right, arguments))
            case Call(function, inner):
                return self.apply(function, [self.body(argument, arguments) for argument in inner])
        return self.value(expression, [])

    def coordinate(self, variable: str, axes: list[str]) -> Any:
        """The bound coordinate, or all of them along the variable's axis."""
        if variable in self.bound:
            return self.bound[variable]
        shape = [1] * len(axes)
        shape[axes.index(variable)] = self.extent(variable)
        return np.arange(self.extent(variable)).reshape(shape)

    def read(self, reference: Reference, axes: list[str]) -> Array:
        array = self.tensors[reference.tensor]
        indices = reference.indices
        names = [index.name for index in indices if isinstance(index, Variable)]
        if len(names) == len(indices) == len(set(names)) and not self.bound.keys() & set(names):
            order = sorted(range(len(names)), key=lambda i: axes.index(names[i]))
            shape = [array.shape[names.index(v)] if v in names else 1 for v in axes]
            # A carried tensor has one element more than its rank; only the steps are read here.
            if all(array.shape[i] == self.extent(name) for i, name in enumerate(names)):
                return array.transpose(order).reshape(shape)
        where = [np.asarray(index) for index in self.indices(reference, axes)]
        self.check_bounds(reference, where)
        return array[tuple(where)]

    def indices(self, reference: Reference, axes: list[str]) -> list[Any]:
        """Coordinates of a tensor's elements, to be broadcast against each other."""
        return [self.index(index, axes) for index in reference.indices]

    def index(self, expression: Expression, axes: list[str]) -> Any:
        match expression:
            case Number(number):
                return int(number)
            case Name(name):
                return int(self.constants[name]) if name in self.constants else self.shapes[name]
            case Variable(name):
                return self.coordinate(name, axes)
            case Reference():
                found = np.asarray(self.read(expression, axes))
                whole = np.rint(found).astype(np.int64)
                if not np.array_equal(whole, found):
                    raise CascadeError(f"{expression} must be whole numbers to be an index", expression.at, self.cascade.name)
                return whole
            case Unary("-", operand):
                return np.negative(self.index(operand, axes))
            case Binary(operator, left, right):
                return BINARY[operator](self.index(left, axes), self.index(right, axes))
        raise CascadeError(f"{expression} cannot be an index", expression.at, self.cascade.name)

    def check_bounds(self, reference: Reference, where: list[Array]) -> None:
        for axis, (index, rank) in enumerate(zip(where, self.cascade.ranks_of[reference.tensor], strict=True)):
            size = self.tensors[reference.tensor].shape[axis]
            if index.min() < 0 or index.max() >= size:
                wrong = index.min() if index.min() < 0 else index.max()
                raise CascadeError(
                    f"index {index_text(reference.indices[axis])} must be from 0 to {size - 1} along {rank} of "
                    f"{reference.tensor}, not {wrong}",
                    reference.indices[axis].at,
                    self.cascade.name,
                )
