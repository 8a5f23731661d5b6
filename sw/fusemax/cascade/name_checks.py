"""Whether the names of a cascade fit together."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

from .builtins import MAPS, REDUCTIONS
from .cascade import Cascade
from .einsum import Einsum, NamedReduction
from .errors import CascadeError, Position
from .expression import Binary, Call, Expression, Name, Number, Reference, Unary, Variable, index_text, variables_of, walk
from .indices import Index, classify
from .yaml_reader import Mapping, Node, Scalar, Sequence

__all__ = ["check_cascade"]


def check_cascade(cascade: Cascade) -> None:
    """Every name must be known, used and used as what it is, and every tensor be written before it is read.

    Raises
    ------
    CascadeError
        If not; names line and column.
    """
    Checker(cascade).check()


class Checker:
    def __init__(self, cascade: Cascade) -> None:
        self.cascade = cascade
        self.constants = {constant.name for constant in cascade.constants}
        self.functions = {function.name: len(function.parameters) for function in cascade.functions}
        self.used: set[str] = set()

    def check(self) -> None:
        self.definitions()
        if not self.cascade.einsums:
            raise CascadeError("expected at least one Einsum under expressions or extended", self.cascade.declaration[0].at)
        self.order()
        for einsum in self.cascade.einsums:
            self.einsum(einsum, iterating=einsum in self.cascade.extended)
        self.use()
        for section, node in self.cascade.extras:
            if section == "mapping":
                self.mapping(node)
            elif section == "bindings":
                self.bindings(node)

    # -- definitions -----------------------------------------------------------------------------------------------

    def definitions(self) -> None:
        cascade = self.cascade
        if not cascade.declaration:
            raise CascadeError("expected at least one tensor in declaration", Position(1, 1))
        tensor_ranks = {rank for ranks in cascade.ranks_of.values() for rank in ranks}
        split_ranks = {rank for split in cascade.split for rank in (split.rank, *split.parts)}
        for split in cascade.split:
            if len(split.parts) < 2:
                raise CascadeError(f"expected at least two parts of {split.rank}", split.at)
            if split.rank in split.parts:
                raise CascadeError(f"expected the parts of {split.rank} to have other names", split.at)
            if not {split.rank, *split.parts} & tensor_ranks:
                raise CascadeError(f"no tensor has the rank {split.rank} or a part of it", split.at)
        for alias in cascade.alias:
            if alias.rank not in tensor_ranks | split_ranks:
                raise self.unknown("a rank", alias.rank, tensor_ranks | split_ranks, alias.at)
            if cascade.base(alias.name) == alias.name or alias.name in split_ranks:
                raise CascadeError(f"expected another name than {alias.name}", alias.at)
        ranks = set(cascade.ranks)
        for constant in cascade.constants:
            if constant.name in ranks or constant.name in cascade.ranks_of:
                raise CascadeError(f"expected another name than {constant.name}, which is a rank or a tensor", constant.at)
        for function in cascade.functions:
            if function.name in MAPS or function.name in REDUCTIONS:
                raise CascadeError(f"expected another name than {function.name}, which is built in", function.at)
            if len(set(function.parameters)) != len(function.parameters):
                raise CascadeError(f"expected every parameter of {function.name} once", function.at)
            for node in walk(function.body):
                if isinstance(node, Variable) and node.name not in function.parameters:
                    raise self.unknown("a parameter", node.name, function.parameters, node.at)
                if isinstance(node, Reference):
                    raise CascadeError(f"expected only parameters and numbers in a function, found {node}", node.at)
                earlier = {f.name for f in cascade.functions[: cascade.functions.index(function)]}
                if isinstance(node, Call) and node.function in self.functions and node.function not in earlier:
                    raise CascadeError(f"expected {node.function} to be defined before it is used", node.at)
                self.node(node)
        iteration = cascade.iteration
        if iteration is not None:
            if iteration.stop not in tensor_ranks | split_ranks:
                raise self.unknown("a rank", iteration.stop, tensor_ranks | split_ranks, iteration.at)
            if not cascade.extended:
                raise CascadeError("expected Einsums under extended for the iterative rank", iteration.at)
        for name in ("initialization", "extended", "finally_"):
            section: tuple[Einsum, ...] = getattr(cascade, name)
            if section and iteration is None:
                raise CascadeError(f"expected a section iterative for the Einsums under {name.rstrip('_')}", section[0].at)

    # -- order -----------------------------------------------------------------------------------------------------

    def order(self) -> None:
        """Tensors are written before they are read, and once; those that are carried from step to step twice."""
        cascade = self.cascade
        written = set(cascade.inputs)
        for section in (cascade.expressions, cascade.initialization, cascade.extended, cascade.finally_):
            in_section: set[str] = set()
            for einsum in section:
                self.declared(einsum.result)
                for operand in einsum.operands:
                    self.declared(operand)
                    if operand.tensor not in written:
                        later = [e for e in cascade.einsums if e.result.tensor == operand.tensor]
                        line = f" on line {later[0].at.line}" if later and later[0].at else ""
                        raise CascadeError(f"{operand.tensor} is read before it is written{line}", operand.at)
                tensor = einsum.result.tensor
                carried = section is cascade.extended and tensor in cascade.iterative
                if tensor in in_section or (tensor in written and not carried):
                    raise CascadeError(f"{tensor} is written again", einsum.at)
                in_section.add(tensor)
                written.add(tensor)
        for einsum in cascade.extended:
            if cascade.iteration is None:
                continue
            own = [index for index in self.indices(einsum.result) if index.part == cascade.iteration.variable]
            if einsum.result.tensor in cascade.iterative:
                if len(own) != 1 or own[0].offset != 1:
                    variable = cascade.iteration.variable
                    raise CascadeError(
                        f"expected {einsum.result.tensor} to be written at [{variable}+1], because it is initialized at [0]",
                        einsum.at,
                    )
            elif len(own) != 1 or own[0].offset != 0:
                variable = cascade.iteration.variable
                why = " (or an initialization of it)" if len(own) == 1 else ""
                raise CascadeError(
                    f"expected the index {variable} of {einsum.result.tensor}, as it is written in every step{why}", einsum.at
                )
        for einsum in cascade.initialization:
            if einsum.result.tensor in cascade.iterative and not any(i.constant == 0 for i in self.indices(einsum.result)):
                raise CascadeError(f"expected {einsum.result.tensor} to be initialized at index 0", einsum.at)

    # -- Einsums ---------------------------------------------------------------------------------------------------

    def declared(self, reference: Reference) -> None:
        if reference.tensor not in self.cascade.ranks_of:
            raise self.unknown("a declared tensor", reference.tensor, self.cascade.ranks_of, reference.at)
        ranks = self.cascade.ranks_of[reference.tensor]
        if len(reference.indices) != len(ranks):
            listed = f"[{', '.join(ranks)}]" if ranks else "none"
            raise CascadeError(
                f"expected {len(ranks)} indices of {reference.tensor} ({listed}), found {len(reference.indices)}", reference.at
            )

    def indices(self, reference: Reference) -> list[Index]:
        ranks = self.cascade.ranks_of[reference.tensor]
        return [classify(self.cascade, index, rank) for index, rank in zip(reference.indices, ranks, strict=True)]

    def einsum(self, einsum: Einsum, iterating: bool) -> None:
        cascade = self.cascade
        for reference in (einsum.result, *einsum.operands):
            self.reference(reference)
        for index in self.indices(einsum.result):
            if index.kind in ("gather", "affine"):
                raise CascadeError(
                    "expected a variable, a number, variable+number or the split of a rank on the left, "
                    f"found {index_text(index.expression)}",
                    index.expression.at,
                )
        for node in walk(einsum.expression):
            self.node(node)
        for variable in einsum.ranks:
            rank = variable.upper()
            self.used.add(rank)
            if rank not in cascade.ranks:
                where = next(
                    node.at
                    for expression in (einsum.result, einsum.expression)
                    for node in walk(expression)
                    if isinstance(node, Variable) and node.name == variable
                )
                raise self.unknown("the lower-case name of a rank", variable, [r.lower() for r in cascade.ranks], where)
        iterated = {cascade.iteration.variable} if cascade.iteration and iterating else set()
        for reduction in einsum.reductions:
            self.reduction(einsum, reduction, iterated)
        self.terms(einsum, einsum.expression)
        if iterated & set(einsum.reduced):
            raise CascadeError(f"expected the iterative variable {', '.join(iterated)} on the left", einsum.at)

    def terms(self, einsum: Einsum, expression: Expression) -> None:
        """A sum is over the whole right side: a term that does not depend on what is summed over would be added many times."""
        if isinstance(expression, Binary) and expression.operator in ("+", "-"):
            self.terms(einsum, expression.left)
            self.terms(einsum, expression.right)
        elif expression is not einsum.expression:
            for variable in einsum.summed:
                if variable not in variables_of(expression):
                    raise CascadeError(
                        f"{expression} does not depend on {variable}, which the whole right side is summed over, so it would "
                        f"be added {variable.upper()} times; give the sum over {variable} an Einsum of its own",
                        expression.at or einsum.at,
                    )

    def reference(self, reference: Reference) -> None:
        self.used.add(reference.tensor)
        for index in self.indices(reference):
            if index.wrong is not None:
                raise CascadeError(
                    f"expected an index of rank {index.rank} of {reference.tensor} ({index.wrong}), "
                    f"found {index_text(index.expression)}",
                    index.expression.at,
                )

    def reduction(self, einsum: Einsum, reduction: NamedReduction, iterated: set[str]) -> None:
        own = self.functions.get(reduction.operation)
        if own is None and reduction.operation not in REDUCTIONS:
            known = [*REDUCTIONS, *(name for name, count in self.functions.items() if count == 2)]
            raise self.unknown("a reduction", reduction.operation, known, reduction.at)
        if own is not None and own != 2:
            raise CascadeError(
                f"expected a function of two arguments to reduce with, found {reduction.operation}", reduction.at
            )
        self.used.add(reduction.operation)
        ranks = reduction.ranks
        if own is None and REDUCTIONS[reduction.operation].new_rank:
            if len(ranks) != 2 or ranks[1] not in einsum.result.variables:
                raise CascadeError(
                    f"expected {reduction.operation}(reduced, made) with the made variable on the left", reduction.at
                )
            ranks = ranks[:1]
        elif own is None and reduction.operation in ("argmax", "argmin") and len(ranks) != 1:
            raise CascadeError(f"expected one variable of {reduction.operation}", reduction.at)
        for variable in ranks:
            if variable not in variables_of(einsum.expression):
                raise self.unknown("a variable of the expression", variable, variables_of(einsum.expression), reduction.at)
            if variable in einsum.result.variables or variable in iterated:
                raise CascadeError(f"{variable} is on the left and cannot be reduced", reduction.at)
            if sum(variable in other.ranks for other in einsum.reductions) > 1:
                raise CascadeError(f"expected {variable} to be reduced once", reduction.at)

    def node(self, node: Expression) -> None:
        """Names of one node of an expression."""
        match node:
            case Name(name):
                known = [*self.cascade.ranks, *self.constants]
                if name not in known:
                    if name in self.cascade.ranks_of:
                        ranks = ", ".join(self.cascade.ranks_of[name]).lower()
                        raise CascadeError(f"expected {name}[{ranks}], found no indices", node.at)
                    raise self.unknown("a rank or a constant", name, known, node.at)
                self.used.add(name)
            case Call(name, arguments):
                self.call(node.at, name, arguments)
            case Number() | Variable() | Reference() | Unary() | Binary():
                pass

    def call(self, at: Position | None, name: str, arguments: tuple[Expression, ...]) -> None:
        self.used.add(name)
        if name in self.functions:
            least = most = self.functions[name]
        elif name in MAPS:
            least, most = MAPS[name].least, MAPS[name].most
        else:
            raise self.unknown("a function", name, [*MAPS, *self.functions], at)
        if len(arguments) < least or (most is not None and len(arguments) > most):
            wanted = f"{least}" if least == most else f"at least {least}"
            raise CascadeError(f"expected {wanted} arguments of {name}, found {len(arguments)}", at)
        if name == "take":
            which = arguments[-1]
            if not isinstance(which, Number) or not (which.value.is_integer() and 0 <= which.value < len(arguments) - 1):
                raise CascadeError("expected the number of an argument as the last one of take, counted from 0", which.at or at)

    # -- use -------------------------------------------------------------------------------------------------------

    def use(self) -> None:
        cascade = self.cascade
        for declaration in cascade.declaration:
            if declaration.tensor not in self.used:
                raise CascadeError(f"{declaration.tensor} is declared but not used", declaration.at)
        used = self.used | {rank for ranks in cascade.ranks_of.values() for rank in ranks}
        for split in cascade.split:
            for part in split.parts:
                if part not in used:
                    raise CascadeError(f"{part} is a part of {split.rank} but not used", split.at)
        for item in (*cascade.alias, *cascade.constants, *cascade.functions):
            if item.name not in self.used:
                raise CascadeError(f"{item.name} is defined but not used", item.at)
        if cascade.outputs:
            read = {o.tensor for e in cascade.einsums for o in e.operands if o.tensor != e.result.tensor}
            for tensor in cascade.outputs:
                if tensor not in cascade.ranks_of or tensor in cascade.inputs:
                    written = [t for t in cascade.ranks_of if t not in cascade.inputs]
                    raise self.unknown("a result", tensor, written, None)
            for einsum in cascade.einsums:
                if einsum.result.tensor not in read and einsum.result.tensor not in cascade.outputs:
                    raise CascadeError(f"{einsum.result.tensor} is neither read nor one of the outputs", einsum.at)

    # -- mapping and bindings --------------------------------------------------------------------------------------

    def mapping(self, node: Node) -> None:
        """Ranks and tensors that the mapping names; its other words are left to who reads them."""
        if not isinstance(node, Mapping):
            raise CascadeError("expected mapping to be a mapping", node.at)
        for key, value in node.pairs:
            if key.text in ("loop-order", "rank-order"):
                self.mapped_ranks(value)
            elif key.text == "spacetime" and isinstance(value, Mapping):
                for name, inner in value.pairs:
                    if name.text in ("space", "time"):
                        self.mapped_ranks(inner)
                    else:
                        self.mapped_tensor(name)
                        if isinstance(inner, Mapping):
                            for _, ranks in inner.pairs:
                                self.mapped_ranks(ranks)
            elif key.text == "partitioning" and isinstance(value, Mapping):
                for name, _ in value.pairs:
                    self.mapped_tensor(name)

    def mapped_tensor(self, name: Scalar) -> None:
        """A tensor, or a rank that the mapping splits for all tensors."""
        if name.text not in self.cascade.ranks_of and name.text not in self.cascade.ranks:
            raise self.unknown("a tensor or a rank", name.text, [*self.cascade.ranks_of, *self.cascade.ranks], name.at)

    def mapped_ranks(self, node: Node) -> None:
        if isinstance(node, Mapping):
            for name, ranks in node.pairs:
                self.mapped_tensor(name)
                self.mapped_ranks(ranks)
        elif isinstance(node, Sequence):
            for item in node.items:
                # A mapping may split a rank further: P1 of P; TeAAL adds .pos or .coord.
                text = item.text.split(".")[0] if isinstance(item, Scalar) else ""
                if text not in self.cascade.ranks and text.rstrip("0123456789") not in self.cascade.ranks:
                    if (
                        any(rank in text for rank in self.cascade.ranks)
                        and text.isupper()
                        and "format" in dict(self.cascade.extras)
                    ):
                        continue
                    raise self.unknown("a rank", text, self.cascade.ranks, item.at)

    def bindings(self, node: Node) -> None:
        """Tensors that are bound to a part of a machine: each once."""
        bound: dict[str, Position] = {}
        for key, value in node.pairs if isinstance(node, Mapping) else ():
            if not isinstance(value, Sequence) or not all(isinstance(item, Scalar) for item in value.items):
                continue
            for item in value.items:
                assert isinstance(item, Scalar)
                if item.text not in self.cascade.ranks_of:
                    raise self.unknown("a declared tensor", item.text, self.cascade.ranks_of, item.at)
                if item.text in bound:
                    raise CascadeError(f"{item.text} is bound twice, to {key.text} too", item.at)
                bound[item.text] = item.at

    @staticmethod
    def unknown(what: str, name: str, known: Iterable[str], at: Position | None) -> CascadeError:
        known = list(known)
        close = [k for k in known if k.lower() == name.lower()] or get_close_matches(name, known, 1)
        hint = f"did you mean {close[0]}?" if close else f"known: {', '.join(dict.fromkeys(known)) or 'none'}"
        return CascadeError(f"expected {what}, found {name!r}; {hint}", at)
