"""Running a cascade: the host's steps by the interpreter, the array's as sweeps of a device."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from os import PathLike
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..cascade.cascade import Cascade
from ..cascade.catalog import cascade_named
from ..cascade.errors import CascadeError, Position, ReachError
from ..cascade.expression import Binary, Expression, Name, Number, Unary, Variable, variables_of
from ..cascade.interpreter import Interpreter
from ..compiler.mapper import map_cascade
from ..runtime.argument_checks import is_integer
from ..runtime.device import Counters, Device
from .array import Array, Sums, array_of
from .one_program import run_program
from .partition import partition
from .parts import no_room, parts_of
from .plan import Assembly, HostLoop, HostStep, Part, Plan, Product, Sweep

__all__ = ["run"]

Matrix = NDArray[np.float64]

#: bfloat16 numbers that what is added to a score is split into: 24 bits.
ADDED_PARTS = 3

#: Relative difference that a shifted maximum may make, by rounding in float64.
SHIFT_TOLERANCE = 1e-6


def run(
    cascade: str | PathLike[str] | Cascade | Plan,
    inputs: Mapping[str, ArrayLike],
    device: Device | None = None,
    *,
    parts: int = 2,
    counters: list[Counters] | None = None,
    **sizes: int,
) -> dict[str, NDArray[np.float64]]:
    """Compute the results of a cascade on a device.

    A cascade that goes over tiles of keys itself is a program of the array (:func:`fusemax.compile`), and one sweep. Any other
    is cut into steps (:func:`fusemax.plan.partition.partition`): what grows as n · d the host evaluates in float64,
    the rest are sweeps of the array. ``print`` of the plan says which.

    Parameters
    ----------
    cascade
        A cascade, the name of a shipped one, the path of a file, or a plan.
    inputs
        Its inputs by name, with axes in the order of their declared ranks; all may have the same further axes in front, such as
        batch and heads.
    device
        Where to run; a model device of ``base`` with all options is opened for the call if not given.
    parts
        bfloat16 numbers that an operand is split into if it is not bfloat16 already: 1, or 2 for errors of some 1e-5.
    counters
        A list that takes the counters of every sweep.
    sizes
        Shapes of ranks that the inputs do not give, such as the tile's ``M0``.

    Returns
    -------
    dict
        The cascade's results by name, in float64.

    Raises
    ------
    CascadeError
        If inputs are missing or superfluous, or shapes contradict each other.
    ReachError
        If there is no plan for the cascade, or the machine has no room for it; names the line.
    MissingOptionError
        If the machine was made without an operation that the cascade needs; names the option.
    TypeError, ValueError, DeviceError
        If an argument is not as above; as :func:`fusemax.attention`.
    """
    if not is_integer(parts) or parts not in (1, 2):
        raise ValueError(f"parts must be 1 or 2, not {parts!r}")
    named = cascade if isinstance(cascade, Plan) else cascade_named(cascade)
    plan = named if isinstance(named, Plan) else _plan(named)
    if plan is None:
        assert isinstance(named, Cascade)
        leading, _ = _heads(named, inputs)
        arrays = {name: np.asarray(value) for name, value in inputs.items()}
        with array_of(device, counters) as array:
            return run_program(named, arrays, array, len(leading), parts)
    with array_of(device, counters) as array:
        return _Run(plan, inputs, array, parts, sizes).run()


def _plan(cascade: Cascade) -> Plan | None:
    """Steps of a cascade, or None if it is one program of the array.

    Raises
    ------
    ReachError
        If it is neither; says why there are no steps, and of an iteration why there is no program.
    """
    if cascade.iteration is None:
        return partition(cascade)
    try:
        map_cascade(cascade)
    except ReachError as program:
        try:
            return partition(cascade)
        except ReachError as steps:
            raise ReachError(f"{steps.message}; and as one program, {program}", steps.at, steps.name) from None
    return None


class _Run:
    """A plan under way. Every head has an interpreter with the tensors of the host.

    A maximum over scores is on the host a number near it, and a second set of interpreters has another number there: if what
    they lead to differs, the cascade needs the maximum itself, and is refused.
    """

    def __init__(self, plan: Plan, inputs: Mapping[str, ArrayLike], array: Array, parts: int, sizes: Mapping[str, int]) -> None:
        self.plan, self.array, self.parts = plan, array, parts
        self.leading, heads = _heads(plan.cascade, inputs)
        shifts = (0.0, 1.0) if any(isinstance(s, Assembly) and s.form == "reference" for s in plan.steps) else (0.0,)
        self.shifts = shifts
        self.hosts = [[Interpreter(plan.cascade, head, sizes) for head in heads] for _ in shifts]
        #: What every sweep left, and where each of its columns is.
        self.swept: list[tuple[Sweep, Sums, dict[tuple[Expression, ...], slice]]] = []

    def run(self) -> dict[str, NDArray[np.float64]]:
        with np.errstate(all="ignore"):
            for step in self.plan.steps:
                match step:
                    case HostStep(einsums):
                        for host in (host for hosts in self.hosts for host in hosts):
                            for einsum in einsums:
                                host.evaluate(einsum)
                    case HostLoop():
                        for host in (host for hosts in self.hosts for host in hosts):
                            host.iterate(step.initialization, step.einsums)
                    case Sweep():
                        self.swept.append(self.sweep(step))
                    case Product():
                        self.product(step)
                    case Assembly():
                        for hosts, shift in zip(self.hosts, self.shifts, strict=True):
                            for head, host in enumerate(hosts):
                                host.store(
                                    step.einsum.result, [*step.einsum.result.variables], self.assemble(step, host, head, shift)
                                )
        results = {}
        for name in self.plan.cascade.results:
            values = self.same(
                [np.stack([np.asarray(host.tensors[name], np.float64) for host in hosts]) for hosts in self.hosts], name
            )
            results[name] = values.reshape((*self.leading, *values.shape[1:]))
        return results

    def same(self, found: list[Matrix], what: str) -> Matrix:
        """A value, after it was found to be the same whatever stands for a maximum."""
        for other in found[1:]:
            size = np.abs(found[0][np.isfinite(found[0])]).max(initial=0)
            if not np.allclose(found[0], other, rtol=SHIFT_TOLERANCE, atol=SHIFT_TOLERANCE * size, equal_nan=True):
                raise self.refuse(f"{what} needs the maximum of scores itself, of which the array gives a number near it")
        return found[0]

    def refuse(self, reason: str, at: Position | None = None) -> ReachError:
        return ReachError(f"no plan for this: {reason}", at, self.plan.cascade.name)

    # -- operands ----------------------------------------------------------------------------------------------

    def values(self, factors: Sequence[Expression], groups: Sequence[Sequence[str]]) -> list[Matrix]:
        """Product of expressions, (heads, one axis for each group of variables), by every set of interpreters."""
        axes = [variable for group in groups for variable in group]

        def of(host: Interpreter) -> Matrix:
            value = np.ones((1,) * len(axes)) * _product(host, factors, axes)
            whole = np.broadcast_to(value, [host.extent(axis) for axis in axes])
            return whole.reshape([math.prod(host.extent(axis) for axis in group) for group in groups])

        return [np.stack([of(host) for host in hosts]) for hosts in self.hosts]

    def sweep(self, step: Sweep) -> tuple[Sweep, Sums, dict[tuple[Expression, ...], slice]]:
        queries: list[Matrix] = []
        keys: list[Matrix] = []
        added: list[Matrix] = [np.zeros(())] * len(self.hosts)
        for part in step.score:
            lefts = self.values(part.queries, (step.batch, step.queries, part.inner))
            rights = self.values(part.keys, (step.batch, step.keys, part.inner))
            if part.inner or part.queries:
                left, right = self.same(lefts, "a query"), self.same(rights, "a key")
            else:
                left, right = lefts[0], rights[0]
                added = [a + b for a, b in zip(added, rights, strict=True)]
            most = self.parts if part.inner else ADDED_PARTS
            for i, one in enumerate(parts_of(left, most)):
                for other in parts_of(right, most)[: most - i]:
                    queries.append(one)
                    keys.append(other)
        columns: list[Matrix] = []
        where: dict[tuple[Expression, ...], slice] = {}
        wanted = [*step.columns]
        if not wanted or (step.function != "exp" and self.sums_weights(step)):
            wanted.append(())
        for column in wanted:
            found = self.values(column, (step.batch, step.keys, self.own(column, step)))
            # What is added to the score of a key may be taken off again by its value.
            self.same([value * np.exp(a - added[0].max()) for value, a in zip(found, added, strict=True)], "a value")
            start = sum(c.shape[-1] for c in columns)
            columns += parts_of(found[0], self.parts)
            where[column] = slice(start, sum(c.shape[-1] for c in columns))
        q, k, v = (np.concatenate(arrays, axis=-1) for arrays in (queries, keys, columns))
        if q.shape[-1] > self.array.config.max_e:
            raise self.refuse(no_room(q.shape[-1], self.array.config, self.parts))
        if step.function == "exp":
            return step, self.array.sums(q, k, v, 1.0, **self.mask(step)), where
        total = self.array.weighted(step.function, q, k, v, **self.mask(step))
        ones = np.ones(total.shape[:-1])
        denominator = total[..., where[()]].sum(axis=-1) if () in where else ones
        return step, Sums(np.zeros(ones.shape), denominator, total), where

    def sums_weights(self, sweep: Sweep) -> bool:
        """Whether a tensor is the sum of a sweep's weights; those of ``exp`` come without asking."""
        number = self.plan.sweeps.index(sweep)
        parts = (part for step in self.plan.steps if isinstance(step, Assembly) for part in step.parts)
        return any(part.sweep == number and not part.column for part in parts)

    @staticmethod
    def own(column: Sequence[Expression], step: Sweep) -> tuple[str, ...]:
        """Variables of a column beside those of batch and keys."""
        return tuple(name for name in variables_of(*column) if name not in step.batch and name not in step.keys)

    def mask(self, step: Sweep) -> dict[str, Any]:
        """The sweep's conditions as options of a call: keys from place - left to place + right."""
        if not step.mask:
            return {}
        if len(step.queries) != 1 or len(step.keys) != 1:
            raise self.refuse("a mask over parts of ranks")
        left: int | None = None
        right: int | None = None
        for condition in step.mask:
            for bound, upper in self.bounds(condition, step.queries[0], step.keys[0]):
                if upper:
                    right = bound if right is None else min(right, bound)
                else:
                    left = bound if left is None else min(left, bound)
        if right is not None:
            if left is not None and left + right < 0:
                raise self.refuse("a mask that hides every key")
            return {"query_offset": right, "window": (-1 if left is None else left + right, 0)}
        assert left is not None
        return {"query_offset": -left, "window": (0, -1)}

    def bounds(self, condition: Expression, query: str, key: str) -> list[tuple[int, bool]]:
        """Bounds (key - query <= bound, True) and (query - key <= bound, False) that a condition says."""
        match condition:
            case Binary("and", first, second):
                return self.bounds(first, query, key) + self.bounds(second, query, key)
            case Binary("<" | "<=" | ">" | ">=", first, second):
                small, large = (first, second) if condition.operator in ("<", "<=") else (second, first)
                difference = self.affine(Binary("-", small, large))
                bound = -difference.pop("", 0) - (condition.operator in ("<", ">"))
                found = {name: value for name, value in difference.items() if value}
                if found == {key: 1, query: -1}:
                    return [(bound, True)]
                if found == {query: 1, key: -1}:
                    return [(bound, False)]
        raise self.refuse(f"the mask {condition}", condition.at)

    def affine(self, node: Expression) -> dict[str, int]:
        """Whole factors of the variables in a sum of coordinates; that of "" is the number."""
        match node:
            case Number(value) if value.is_integer():
                return {"": int(value)}
            case Name(name):
                host = self.hosts[0][0]
                value = host.constants.get(name, host.shapes.get(name, math.nan))
                if float(value).is_integer():
                    return {"": int(value)}
            case Variable(name):
                return {name: 1}
            case Unary("-", operand):
                return {name: -value for name, value in self.affine(operand).items()}
            case Binary("+" | "-", left, right):
                sign = 1 if node.operator == "+" else -1
                first, second = self.affine(left), self.affine(right)
                return {name: first.get(name, 0) + sign * second.get(name, 0) for name in first | second}
        raise self.refuse(f"{node} in a mask", node.at)

    # -- results -----------------------------------------------------------------------------------------------

    def product(self, step: Product) -> None:
        """A side without negative numbers is weights; of two such, the one that is not bfloat16."""
        sides = [
            self.same(self.values(factors, (step.batch, variables, step.inner)), "a factor")
            for factors, variables in ((step.left, step.left_variables), (step.right, step.right_variables))
        ]
        positive = [side for side in (0, 1) if (sides[side] >= 0).all()]
        weights = sorted(positive or (0, 1), key=lambda side: -len(parts_of(sides[side], 2)))
        found = self.array.product(sides[weights[0]], sides[1 - weights[0]].swapaxes(-1, -2), self.parts)
        found = found.swapaxes(-1, -2) if weights[0] else found
        order, left = (*step.batch, *step.left_variables, *step.right_variables), step.einsum.result.variables
        for hosts in self.hosts:
            for head, host in enumerate(hosts):
                value = found[head].reshape([host.extent(variable) for variable in order])
                host.store(step.einsum.result, [*left], value.transpose([order.index(variable) for variable in left]))

    def assemble(self, step: Assembly, host: Interpreter, head: int, shift: float) -> Matrix:
        """A tensor from the columns of sweeps, with an axis for each of its variables."""
        left = step.einsum.result.variables
        if step.form == "reference":
            return self.column(step.parts[0], host, head, left)[1] * math.log(2) + shift
        total: Any = 0.0
        for part in step.parts:
            axes = [*left, *part.summed]
            column, reference = self.column(part, host, head, tuple(axes))
            exponent = reference * math.log(2)
            for factors in part.exponents:
                exponent = exponent + _product(host, factors, axes)
            if step.form == "log":
                return np.broadcast_to(np.log(column) + exponent, [host.extent(v) for v in left])
            value = column * np.exp(exponent) * _product(host, part.factors, axes)
            value = np.broadcast_to(value, [host.extent(v) for v in axes])
            total = total + value.sum(axis=tuple(range(len(left), len(axes))))
        return np.asarray(total)

    def column(self, part: Part, host: Interpreter, head: int, axes: tuple[str, ...]) -> tuple[Matrix, Matrix]:
        """Sums of a column and their reference, with an axis for each of the variables."""
        step, sums, where = self.swept[part.sweep]
        placed = [*step.batch, *step.queries]
        shape = [host.extent(variable) for variable in placed]
        denominator = sums.denominator[head].reshape(shape)
        seen = (denominator > 0) | (step.function != "exp")
        reference = _placed(np.where(seen, sums.reference[head].reshape(shape), -np.inf), placed, axes)
        if not part.column:
            return _placed(denominator, placed, axes), reference
        own = self.own(part.column, step)
        found = sums.numerator[head][..., where[part.column]].reshape(*shape, -1, *(host.extent(v) for v in own))
        return _placed(found.sum(axis=len(shape)), [*placed, *own], axes), reference


def _product(host: Interpreter, factors: Sequence[Expression], axes: list[str]) -> Any:
    value: Any = 1.0
    for factor in factors:
        value = value * host.value(factor, axes)
    return value


def _placed(value: Matrix, has: list[str], axes: Sequence[str]) -> Matrix:
    """The array with an axis for each variable, of size 1 for those that it has not."""
    order = sorted(range(len(has)), key=lambda i: axes.index(has[i]))
    sizes = {has[i]: value.shape[i] for i in order}
    return value.transpose(order).reshape([sizes.get(axis, 1) for axis in axes])


def _heads(cascade: Cascade, inputs: Mapping[str, ArrayLike]) -> tuple[tuple[int, ...], list[dict[str, NDArray[Any]]]]:
    """Leading axes, and the inputs of each head."""
    arrays = {name: np.asarray(value) for name, value in inputs.items()}
    leading = None
    for name, array in arrays.items():
        if name not in cascade.inputs:
            continue
        extra = array.shape[: max(0, array.ndim - len(cascade.ranks_of[name]))]
        if leading is not None and extra != leading:
            raise CascadeError(
                f"the axes in front of {name}'s must be {leading}, as of the inputs before, not {extra}", name=cascade.name
            )
        leading = extra
    leading = leading or ()
    flat = {
        name: array.reshape(-1, *array.shape[len(leading) :]) if name in cascade.inputs else array
        for name, array in arrays.items()
    }
    return leading, [
        {name: array[head] if name in cascade.inputs else array for name, array in flat.items()}
        for head in range(math.prod(leading))
    ]
