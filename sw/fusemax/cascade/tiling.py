"""Rewriting a cascade so that it goes over a rank tile by tile.

A sum over a whole rank becomes the sum of a tile and a state that it is added to. So a cascade that is written without tiles,
such as sigmoid attention, is one that an array with a tile's worth of rows can run.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from .cascade import Cascade, Declaration, Iteration, Split
from .einsum import Einsum
from .errors import ReachError
from .expression import Binary, Expression, Name, Number, Reference, Variable, map_expression

__all__ = ["tile", "tileable_rank"]


def tileable_rank(cascade: Cascade) -> str | None:
    """Find the rank over which a cascade could go tile by tile: of two factors of scores, the one that a later sum is over.

    None if there is none, or if the cascade has tiles already.
    """
    if cascade.iteration is not None or cascade.split:
        return None
    for scores in cascade.expressions:
        match scores.expression:
            case Binary("*", Reference(left, _), Reference(right, _)) if {left, right} <= set(cascade.inputs):
                for variable in scores.result.variables:
                    for later in cascade.expressions[cascade.expressions.index(scores) + 1 :]:
                        reads = any(operand.tensor == scores.result.tensor for operand in later.operands)
                        if variable in later.reduced and (reads or len(later.operands) > 1):
                            return variable.upper()
    return None


def tile(cascade: Cascade, rank: str) -> Cascade:
    """Go over a rank tile by tile.

    Parameters
    ----------
    cascade
        One without an iteration.
    rank
        Rank that becomes a split one, whose outer part is iterative.

    Returns
    -------
    Cascade
        One that computes the same results.

    Raises
    ------
    ReachError
        If something of the rank needs a sum over all of it, or it is reduced by something else than addition; names the line.
    """
    return _Tiling(cascade, rank).cascade()


@dataclass
class _Tiling:
    """What is known while a cascade is rewritten.

    Members
    -------
    before, extended, after
        Einsums without the rank, of a tile, and behind the last tile.
    states
        The state of each tensor that is a sum over the rank.
    """

    source: Cascade
    rank: str
    before: list[Einsum] = field(default_factory=list)
    start: list[Einsum] = field(default_factory=list)
    extended: list[Einsum] = field(default_factory=list)
    after: list[Einsum] = field(default_factory=list)
    states: dict[str, str] = field(default_factory=dict)
    added: list[Declaration] = field(default_factory=list)

    def cascade(self) -> Cascade:
        """The rewritten cascade."""
        variable = self.rank.lower()
        self.outer, self.inner = self._fresh(f"{self.rank}1"), self._fresh(f"{self.rank}0")
        for einsum in self.source.expressions:
            if any(operand.tensor in self._late for operand in einsum.operands) and variable not in einsum.ranks:
                self.after.append(self._last(einsum))
            elif variable not in einsum.ranks:
                self.before.append(einsum)
            else:
                self._tiled(einsum, variable)
        outputs = tuple(self._result(tensor) for tensor in self.source.results)
        gone = set(self.states)
        declared = [self._declared(declaration) for declaration in self.source.declaration if declaration.tensor not in gone]
        outer = self.outer.lower()
        return replace(
            self.source,
            declaration=(*declared, *self.added),
            expressions=tuple(self.before),
            initialization=tuple(self.start),
            extended=tuple(self.extended),
            finally_=tuple(self.after),
            split=(*self.source.split, Split(self.rank, (self.outer, self.inner))),
            iteration=Iteration(outer, self.outer),
            outputs=outputs,
        )

    def _result(self, tensor: str) -> str:
        """A result that is a sum over the rank needs an Einsum that reads the last state."""
        if tensor not in self.states:
            return tensor
        written = next(einsum for einsum in self.source.expressions if einsum.result.tensor == tensor)
        name = self._fresh(f"{tensor}_ALL")
        self.added.append(Declaration(name, self.source.ranks_of[tensor]))
        result = replace(written.result, tensor=name)
        self.after.append(Einsum(result, self._at(written.result, Name(self.outer)), at=written.at))
        return name

    @property
    def _late(self) -> set[str]:
        """Tensors that are known behind the last tile only."""
        return set(self.states) | {einsum.result.tensor for einsum in self.after}

    def _tiled(self, einsum: Einsum, variable: str) -> None:
        """An Einsum of the rank."""
        late = next((operand for operand in einsum.operands if operand.tensor in self._late), None)
        if late is not None:
            reason = (
                f"{einsum.result.tensor} reads {late.tensor}, which is known behind the last tile of {variable} only, for "
                f"every {variable} again; a running value (iterative) would be known tile by tile"
            )
            raise ReachError(f"the array cannot run this: {reason}", late.at, self.source.name)
        if variable in einsum.result.variables:
            self.extended.append(self._in_tile(einsum, variable))
            return
        named = next((reduction for reduction in einsum.reductions if variable in reduction.ranks), None)
        if named is not None and named.operation not in ("add", "sum"):
            reason = (
                f"{einsum.result.tensor} is the {named.operation} over the whole of {variable}, known behind the last tile "
                "only; write the running one as attention_1pass does (iterative)"
            )
            raise ReachError(f"the array cannot run this: {reason}", named.at or einsum.at, self.source.name)
        tensor = einsum.result.tensor
        part, state = self._fresh(f"{tensor}_TILE"), self._fresh(f"{tensor}_SUM")
        outer = Variable(self.outer.lower())
        ranks = self.source.ranks_of[tensor]
        self.states[tensor] = state
        self.added += [Declaration(name, self._with_outer(ranks)) for name in (part, state)]
        reductions = tuple(
            replace(r, ranks=tuple(self.inner.lower() if name == variable else name for name in r.ranks))
            for r in einsum.reductions
        )
        tile_sum = self._placed(part, einsum.result, outer)
        self.extended.append(Einsum(tile_sum, self._renamed(einsum.expression, variable), reductions, at=einsum.at))
        old, new = (self._placed(state, einsum.result, step) for step in (outer, Binary("+", outer, Number(1.0))))
        self.start.append(Einsum(self._placed(state, einsum.result, Number(0.0)), Number(0.0), at=einsum.at))
        self.extended.append(Einsum(new, Binary("+", old, tile_sum, at=einsum.at), at=einsum.at))

    def _in_tile(self, einsum: Einsum, variable: str) -> Einsum:
        indices: list[Expression] = []
        for index in einsum.result.indices:
            is_rank = index == Variable(variable)
            indices += [Variable(self.outer.lower()), Variable(self.inner.lower())] if is_rank else [index]
        result = replace(einsum.result, indices=tuple(indices))
        return replace(einsum, result=result, expression=self._renamed(einsum.expression, variable))

    def _renamed(self, expression: Expression, variable: str) -> Expression:
        """An expression of a tile: elements of inputs by both parts of the rank, what is computed by its own two indices."""
        outer, inner = Variable(self.outer.lower()), Variable(self.inner.lower())
        whole = Binary("+", Binary("*", outer, Name(self.inner)), inner)
        computed = {einsum.result.tensor for einsum in self.extended}

        def rename(node: Expression) -> Expression:
            if not isinstance(node, Reference):
                return node
            indices: list[Expression] = []
            for index in node.indices:
                parts = [outer, inner] if node.tensor in computed else [whole]
                indices += parts if index == Variable(variable) else [index]
            return replace(node, indices=tuple(indices))

        return map_expression(rename, expression)

    def _last(self, einsum: Einsum) -> Einsum:
        """An Einsum behind the last tile: it reads the last states."""

        def rename(node: Expression) -> Expression:
            if isinstance(node, Reference) and node.tensor in self.states:
                return self._at(node, Name(self.outer))
            return node

        return replace(einsum, expression=map_expression(rename, einsum.expression))

    def _at(self, reference: Reference, step: Expression) -> Reference:
        return replace(self._placed(self.states[reference.tensor], reference, step), at=reference.at)

    @staticmethod
    def _placed(tensor: str, like: Reference, step: Expression) -> Reference:
        """A tensor with the step in front of its last index."""
        return replace(like, tensor=tensor, indices=(*like.indices[:-1], step, *like.indices[-1:]))

    def _with_outer(self, ranks: tuple[str, ...]) -> tuple[str, ...]:
        return (*ranks[:-1], self.outer, *ranks[-1:])

    def _declared(self, declaration: Declaration) -> Declaration:
        """The declaration of a tensor that is computed in tiles has both parts of the rank."""
        if declaration.tensor not in {einsum.result.tensor for einsum in self.extended}:
            return declaration
        ranks: list[str] = []
        for rank in declaration.ranks:
            ranks += [self.outer, self.inner] if rank == self.rank else [rank]
        return replace(declaration, ranks=tuple(ranks))

    def _fresh(self, name: str) -> str:
        taken = {*self.source.ranks_of, *self.source.ranks, *(declaration.tensor for declaration in self.added)}
        while name in taken:
            name += "N"
        return name
