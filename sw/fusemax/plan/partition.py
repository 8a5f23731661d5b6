"""Cutting a cascade into steps of host and array.

An Einsum whose points grow as n · d is the host's, n being the length of a sequence and d a head dim; what grows as n² or as
n · d² is the array's. D, E, F and O are head dims, every other rank is a sequence. Whatever the ranks, a tensor that has those
of an input or an output is one that the host has. ``bindings: {host: […]}`` of the cascade gives the host more: Einsums whose
operands it has, and results of the array that it is to have.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from functools import reduce

from ..cascade.cascade import Cascade, Iteration
from ..cascade.einsum import Einsum
from ..cascade.errors import Position, ReachError
from ..cascade.expression import Binary, Expression, Number, Reference, Variable, variables_of, walk
from ..cascade.yaml_reader import Mapping, Scalar, Sequence
from .forms import Form, Forms, Term, Weight
from .loops import PrefixSum, added_term, starts_at_zero, steps_of_host, with_summed_variable
from .matrix_product import HEAD_DIMS, matrix_product, product_of_three
from .plan import Assembly, Bilinear, HostLoop, HostStep, Part, Plan, Product, Sweep
from .rescaled import RescaledStates

__all__ = ["HEAD_DIMS", "partition"]


def partition(cascade: Cascade) -> Plan:
    """Make a plan for a cascade.

    Raises
    ------
    ReachError
        If an Einsum is too large for the host, and no sweep gives it; names the first one and why.
    """
    return _Partition(cascade).plan()


class _Partition:
    """The plan so far. ``self.forms`` has the tensors that never leave the array."""

    def __init__(self, cascade: Cascade) -> None:
        self.cascade, self.summed = (cascade, "") if cascade.iteration is None else with_summed_variable(cascade)
        self.whole = {part: split.rank for split in cascade.split for part in split.parts}
        self.outside = [self._merged(map(str.lower, cascade.ranks_of[name])) for name in (*cascade.inputs, *cascade.results)]
        self.known: dict[str, tuple[tuple[str, ...], Form]] = {}
        self.forms = Forms(self.cascade, self.known, self.host_has)
        #: Maxima of scores: what they are the maximum of. Those of the host are numbers near it.
        self.maxima: dict[str, Form] = {}
        self.steps: list[HostStep | HostLoop | Sweep | Product | Assembly] = []
        self.sweeps: list[int] = []
        self.made_by: dict[str, int] = dict.fromkeys(cascade.inputs, -1)
        self.bound = _host_bindings(cascade)

    def refuse(self, reason: str, at: Position | None) -> ReachError:
        return self.forms.refuse(reason, at)

    # -- what is large -----------------------------------------------------------------------------------------

    def _merged(self, variables: Iterable[str]) -> frozenset[str]:
        """Ranks of the variables, those that are parts of one rank as one."""
        return frozenset(self.whole.get(variable.upper(), variable.upper()) for variable in variables)

    def host_has(self, variables: frozenset[str]) -> bool:
        ranks = self._merged(variables)
        if any(ranks <= outside for outside in self.outside):
            return True
        sequences = [rank for rank in ranks if self.cascade.base(rank) not in HEAD_DIMS]
        return len(ranks) <= 2 and len(sequences) <= 1

    def keeps(self, einsum: Einsum) -> bool:
        """Whether the host has the result, whoever works it out."""
        return einsum.result.tensor in self.bound or self.host_has(frozenset(einsum.result.variables))

    def is_hosts(self, einsum: Einsum) -> bool:
        if any(operand.tensor in self.known for operand in einsum.operands):
            return False
        return einsum.result.tensor in self.bound or self.host_has(frozenset(einsum.ranks))

    # -- steps -------------------------------------------------------------------------------------------------

    def plan(self) -> Plan:
        cascade = self.cascade
        self.place(cascade.expressions)
        if cascade.iteration is not None:
            self.iterate(cascade.iteration)
            self.place(cascade.finally_)
        for name in cascade.results:
            if name in self.known or name in self.maxima:
                lacks = "the array gives only a number near this maximum" if name in self.maxima else "only the array has it"
                raise self.refuse(*_lacking(cascade, name, lacks))
        return Plan(cascade, tuple(self.steps))

    def place(self, einsums: Iterable[Einsum]) -> None:
        for einsum in einsums:
            if self.is_hosts(einsum):
                self.on_host(einsum)
            else:
                self.on_array(einsum)

    def iterate(self, iteration: Iteration) -> None:
        """The host's lines step by step; then the array's, whose states must be running sums, for all steps at once."""
        mine, others = steps_of_host(self.cascade, self.is_hosts)
        written = {einsum.result.tensor for einsum in mine}
        initial = tuple(einsum for einsum in self.cascade.initialization if einsum.result.tensor in written)
        if mine:
            place = self.add(HostLoop(initial, tuple(mine)))
            self.made_by |= dict.fromkeys(written, place)
        rescaled = RescaledStates(self.cascade, iteration, self.forms, self.summed)
        for einsum in others:
            name = einsum.result.tensor
            if name not in self.cascade.iterative:
                self.on_array(einsum)
                continue
            taken_in = rescaled.maximum_of(einsum)
            scores = None if taken_in is None else self.scores(self.forms.of(taken_in), einsum.at)
            if rescaled.take(einsum, scores):
                self.maxima |= rescaled.maxima
                continue
            term = added_term(einsum, iteration.variable)
            if term is None or not starts_at_zero(self.cascade, name):
                raise self.refuse(f"{name} is a state that is no running sum from 0, and only the array has it", einsum.at)
            form = self.forms.of(term)
            summed = self.summed
            if form.hidden or any(summed in part.summed for part in form.terms):
                raise self.refuse(
                    f"{name} is a running sum of a running sum, or of scores that may be minus infinity", einsum.at
                )
            variables = tuple(v for index in einsum.result.indices for v in variables_of(index))
            self.forms.prefixes[name] = PrefixSum(variables, iteration.variable, iteration.stop, summed)
            self.known[name] = (variables, form)
        other = rescaled.read_otherwise()
        if other is not None:
            raise self.refuse(f"{other} is a state in the midst, of which the array has the last one", other.at)
        for einsum, form, is_maximum in rescaled.last():
            if is_maximum:
                self.near_maximum(einsum, form)
            else:
                self.sum(einsum, form.terms)

    def add(self, step: HostStep | HostLoop | Sweep | Product | Assembly, result: str | None = None) -> int:
        self.steps.append(step)
        if result is not None:
            self.made_by[result] = len(self.steps) - 1
        return len(self.steps) - 1

    def on_host(self, einsum: Einsum) -> None:
        if self.steps and isinstance(self.steps[-1], HostStep):
            self.steps[-1] = HostStep((*self.steps[-1].einsums, einsum))
            self.made_by[einsum.result.tensor] = len(self.steps) - 1
        else:
            self.add(HostStep((einsum,)), einsum.result.tensor)

    def on_array(self, einsum: Einsum) -> None:
        left = einsum.result.variables
        if not all(isinstance(index, Variable) for index in einsum.result.indices):
            raise self.refuse(f"{einsum.result} is a part of a tensor that grows as a square", einsum.at)
        form = self.forms.of(einsum.expression)
        named = [reduction.operation for reduction in einsum.reductions]
        if named and (len(named) > 1 or (einsum.summed and named[0] not in ("add", "sum"))):
            raise self.refuse("more than one kind of reduction", einsum.at)
        kind = named[0] if named else "add"
        result = einsum.result.tensor
        if kind == "max":
            self.maximum(einsum, form)
        elif kind in ("add", "sum"):
            summed = frozenset(einsum.reduced)
            terms = tuple(replace(term, summed=term.summed | summed) for term in form.terms)
            if form.hidden and summed:
                raise self.refuse("a sum over scores that may be minus infinity", einsum.at)
            if not self.keeps(einsum):
                self.known[result] = (left, Form(terms, form.hidden))
            elif not summed and any(term.weight for term in terms):
                raise self.refuse("a weight that is not summed over", einsum.at)
            else:
                self.sum(einsum, terms)
        elif kind == "logaddexp" and self.keeps(einsum):
            if any(term.weight is not None or term.mask for term in form.terms):
                raise self.refuse("logaddexp of something that is not a score", einsum.at)
            term = Term(weight=Weight("exp", form.terms), summed=frozenset(einsum.reduced), mask=form.hidden)
            self.add(Assembly(einsum, (self.part(term, left, einsum.at),), "log"), result)
        else:
            raise self.refuse(f"{kind} over a tensor that grows as a square", einsum.at)

    def maximum(self, einsum: Einsum, form: Form) -> None:
        """A maximum over scores: a name within the forms, or a number near it that the sweep of the same scores gives."""
        result, left = einsum.result.tensor, einsum.result.variables
        self.maxima[result] = form = self.scores(form, einsum.at)
        if self.keeps(einsum):
            self.near_maximum(einsum, form)
        else:
            self.known[result] = (left, Form((Term((einsum.result,)),)))

    def scores(self, form: Form, at: Position | None) -> Form:
        """What a maximum is over; of other maxima it is over what they are over."""
        inner = [factor for term in form.terms for factor in term.factors]
        if len(form.terms) == 1 and len(inner) == 1 and isinstance(inner[0], Reference) and inner[0].tensor in self.maxima:
            form = self.maxima[inner[0].tensor]
        if any(term.weight is not None for term in form.terms):
            raise self.refuse("a maximum over weights", at)
        return form

    def near_maximum(self, einsum: Einsum, form: Form) -> None:
        left = einsum.result.variables
        outer = frozenset(variable for variable in self._variables_of(form) if variable not in left)
        term = Term(weight=Weight("exp", form.terms), summed=outer, mask=form.hidden)
        self.add(Assembly(einsum, (self.part(term, left, einsum.at),), "reference"), einsum.result.tensor)

    def _variables_of(self, form: Form) -> list[str]:
        return [v for term in form.terms for v in sorted(term.variables - term.summed)]

    def sum(self, einsum: Einsum, terms: tuple[Term, ...]) -> None:
        left = einsum.result.variables
        plain = all(term.weight is None and not term.mask for term in terms) and len(terms) == 1
        if plain and self.host_has(terms[0].variables | terms[0].summed):
            product = reduce(lambda one, other: Binary("*", one, other), terms[0].factors)
            self.on_host(replace(einsum, expression=product, reductions=()))
            return
        if plain:
            product = matrix_product(einsum, terms[0]) if len(self._merged(terms[0].summed)) == 1 else None
            if product is not None:
                self.add(product, einsum.result.tensor)
                return
        parts = tuple(self.part(term, left, einsum.at) for term in terms)
        self.add(Assembly(einsum, parts), einsum.result.tensor)

    # -- sweeps ------------------------------------------------------------------------------------------------

    def part(self, term: Term, left: tuple[str, ...], at: Position | None) -> Part:
        """What the array does for a term of a tensor, as a sweep of its own or as columns of one that is there."""
        weight = term.weight
        if weight is None:
            found = product_of_three(self.cascade, term, left)
            if found is None:
                raise self.refuse("a sum that is neither a matrix product nor one of weights and values", at)
            weight, term = found
        exponents: list[tuple[Expression, ...]] = []
        score = list(weight.score)
        keys = self._keys(score, term, left, at)
        if weight.function == "exp":
            score, exponents = self._exponents(score, keys, at)
        bilinears, batch, queries = self._score(score, keys, left, at)
        column, factors = [], []
        for factor in term.factors:
            variables = frozenset(variables_of(factor))
            (column if variables & keys else factors).append(factor)
        wrong = [factor for factor in column if frozenset(variables_of(factor)) & frozenset(queries)]
        if wrong:
            raise self.refuse(f"{wrong[0]} has a number for every query and key", at)
        # A summed variable of a product beside the weight: the array gives a column for each, and the host sums.
        outer = tuple(sorted(variable for variable in term.summed if variable not in keys))
        order = {name: place for place, name in enumerate(self._order(term, weight))}
        key_order = tuple(sorted(keys, key=lambda v: order.get(v, 0)))
        sweep = Sweep(weight.function, bilinears, term.mask, batch, queries, key_order)
        index = self._sweep(sweep, tuple(column))
        return Part(index, tuple(column), tuple(factors), tuple(exponents), outer)

    @staticmethod
    def _order(term: Term, weight: Weight) -> tuple[str, ...]:
        return variables_of(*(f for t in weight.score for f in t.factors), *term.factors)

    def _keys(self, score: list[Term], term: Term, left: tuple[str, ...], at: Position | None) -> frozenset[str]:
        """Variables that are summed over and that the weights depend on."""
        inside = frozenset(v for part in score for v in part.variables - part.summed)
        keys = inside & term.summed
        if not keys or (inside - keys) - frozenset(left):
            raise self.refuse("a sum over weights that does not reduce keys to queries", at)
        return keys

    def _exponents(
        self, score: list[Term], keys: frozenset[str], at: Position | None
    ) -> tuple[list[Term], list[tuple[Expression, ...]]]:
        """Parts of an exponential's score that do not depend on the keys: the host multiplies by them. Maxima cancel."""
        inside: list[Term] = []
        outside: list[tuple[Expression, ...]] = []
        maxima: dict[Reference, float] = {}
        for term in score:
            references = [f for f in term.factors if isinstance(f, Reference) and f.tensor in self.maxima]
            numbers = [f for f in term.factors if isinstance(f, Number)]
            if len(references) == 1 and len(numbers) == len(term.factors) - 1 and not term.summed:
                value = 1.0
                for number in numbers:
                    value *= number.value
                maxima[references[0]] = maxima.get(references[0], 0.0) + value
            elif term.variables & keys:
                inside.append(term)
            elif term.summed:
                raise self.refuse("a score that no key takes part in", at)
            else:
                outside.append(term.factors)
        for reference, value in maxima.items():
            if value == 0:
                continue
            factors = (Number(value), reference)
            if reference.tensor in self.known:
                raise self.refuse(f"{reference} is taken off and not put back", at)
            if frozenset(variables_of(reference)) & keys:
                inside.append(Term(factors))
            else:
                outside.append(factors)
        return inside, outside

    def _score(
        self, score: list[Term], keys: frozenset[str], left: tuple[str, ...], at: Position | None
    ) -> tuple[tuple[Bilinear, ...], tuple[str, ...], tuple[str, ...]]:
        """Query and key sides of every part of a score; the variables of the batch, and of the queries."""
        sides = []
        key_variables: set[str] = set()
        query_variables: set[str] = set()
        for term in score:
            key_side = tuple(f for f in term.factors if frozenset(variables_of(f)) & keys)
            query_side = tuple(f for f in term.factors if f not in key_side)
            key_variables |= frozenset(variables_of(*key_side)) - term.summed - keys
            query_variables |= frozenset(variables_of(*query_side)) - term.summed
            sides.append(Bilinear(query_side, key_side, tuple(sorted(term.summed))))
        order = {variable: place for place, variable in enumerate(left)}
        wrong = (key_variables | query_variables) - order.keys() or key_variables - query_variables
        if wrong or not query_variables:
            raise self.refuse("a score that is no product of queries and keys", at)
        batch = tuple(sorted(key_variables & query_variables, key=order.__getitem__))
        queries = tuple(sorted(query_variables - key_variables, key=order.__getitem__))
        return tuple(sides), batch, queries

    def _sweep(self, sweep: Sweep, column: tuple[Expression, ...]) -> int:
        """Number of a sweep that has the column: one with the same weights, if the column can be known in time for it."""
        needs = [self.made_by[r.tensor] for f in column for r in walk(f) if isinstance(r, Reference)]
        for number, place in enumerate(self.sweeps):
            step = self.steps[place]
            assert isinstance(step, Sweep)
            if step.weights == sweep.weights and all(need < place for need in needs):
                if column and column not in step.columns:
                    self.steps[place] = replace(step, columns=(*step.columns, column))
                return number
        self.sweeps.append(self.add(replace(sweep, columns=(column,) if column else ())))
        return len(self.sweeps) - 1


def _lacking(cascade: Cascade, name: str, lacks: str) -> tuple[str, Position | None]:
    """Say why a result cannot be given, and where it is written."""
    why = "is one of outputs" if cascade.outputs else "is a result, as no Einsum reads it"
    written = (*cascade.expressions, *cascade.extended, *cascade.finally_)
    return f"{name} {why}, but {lacks}", next(einsum.at for einsum in written if einsum.result.tensor == name)


def _host_bindings(cascade: Cascade) -> frozenset[str]:
    """Tensors that the cascade's ``bindings`` give to the host."""
    bindings = dict(cascade.extras).get("bindings")
    found = bindings.get("host") if isinstance(bindings, Mapping) else None
    return (
        frozenset(item.text for item in found.items if isinstance(item, Scalar)) if isinstance(found, Sequence) else frozenset()
    )
