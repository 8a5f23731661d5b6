"""Passes by brute force: all multiplications, additions and maps of a tiny problem, done in as few sweeps as they can be.

Nothing here knows of levels or kinds. An Einsum is unrolled into points, one per value of its variables; a point reads
elements and adds to one. An element that has a coordinate of the rank, and that was computed from such elements, belongs to
that coordinate's tile. Tiles are visited in order, again and again; when a tile is visited, every point is done whose
elements are there, unless it reads an element of another tile. What a point reads at a fixed coordinate was kept, and a carried
state may be read in the step after the one that wrote it. The number of sweeps until all is done is the number of passes.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np

from fusemax.cascade import Cascade, Einsum
from fusemax.cascade.expression import Binary, Call, Expression, Name, Number, Reference, Unary, Variable, variables_of
from fusemax.cascade.interpreter import interpret, shapes_of

__all__ = ["sweeps"]

Element = tuple[str, tuple[int, ...]]

COMPARE = {
    "<": np.less,
    "<=": np.less_equal,
    ">": np.greater,
    ">=": np.greater_equal,
    "==": np.equal,
    "!=": np.not_equal,
}


@dataclass
class Point:
    einsum: Einsum
    values: dict[str, int]
    writes: tuple[Element, ...]
    #: Elements with the indices that they are read by.
    reads: list[tuple[Element, Reference]]
    #: Tiles in which it can be done, one set for each element that it reads; none if in any.
    tiles: list[set[int]] = field(default_factory=list)


def sweeps(cascade: Cascade, rank: str, sizes: Mapping[str, int], same: Mapping[str, str] | None = None, seed: int = 0) -> int:
    """Sweeps over the fibers of ``rank`` on a problem of these sizes."""
    return Simulator(cascade, rank, sizes, same or {}, seed).run()


class Simulator:
    def __init__(self, cascade: Cascade, rank: str, sizes: Mapping[str, int], same: Mapping[str, str], seed: int) -> None:
        self.cascade = cascade
        self.shapes = shapes_of(cascade, sizes)
        random = np.random.default_rng(seed)
        inputs = {tensor: random.normal(size=[self.shapes[r] for r in cascade.ranks_of[tensor]]) for tensor in cascade.inputs}
        self.tensors = {**inputs, **interpret(cascade, inputs, **sizes)}
        self.rank = cascade.base(rank)
        split = next((s for s in cascade.split if s.rank == self.rank), None)
        whole = next((s for s in cascade.split if self.rank in s.parts), None)
        self.parts = split.parts if split else (self.rank,)
        self.whole = whole.rank if whole else None
        # Elements of one coordinate of the outermost part are one tile.
        inner = self.parts[1:] if split else (whole.parts[whole.parts.index(self.rank) + 1 :] if whole else ())
        self.tile_size = int(np.prod([self.shapes[part] for part in inner])) if inner else 1
        self.tiles = self.shapes[self.parts[0]]
        self.own = {self.rank, *self.parts} | ({self.whole} if self.whole else set())
        if cascade.iteration and cascade.iteration.stop in self.own:
            self.own.add(cascade.iteration.variable.upper())
        self.names = self.own | {alias.name for alias in cascade.alias if alias.rank in self.own} | set(same)
        self.points = [point for einsum in cascade.einsums for point in self.unrolled(einsum)]

    # -- points ----------------------------------------------------------------------------------------------------

    def unrolled(self, einsum: Einsum) -> Iterator[Point]:
        made = {r.ranks[-1] for r in einsum.reductions if r.operation == "argtop"}
        variables = [variable for variable in einsum.ranks if variable not in made]
        for coordinates in itertools.product(*(range(self.shapes[v.upper()]) for v in variables)):
            values = dict(zip(variables, coordinates, strict=True))
            reads: list[tuple[Element, Reference]] = []
            self.read(einsum.expression, values, reads)
            writes = []
            for extra in itertools.product(*(range(self.shapes[v.upper()]) for v in made)):
                all_values = values | dict(zip(made, extra, strict=True))
                writes.append((einsum.result.tensor, tuple(self.index(i, all_values) for i in einsum.result.indices)))
            yield Point(einsum, values, tuple(writes), reads)

    def read(self, expression: Expression, values: dict[str, int], reads: list[tuple[Element, Reference]]) -> None:
        """Elements that a value needs; of where(…) on coordinates only the side that is taken."""
        match expression:
            case Call("where", (Binary(operator, left, right), yes, no)) if (
                operator in COMPARE
                and not any(isinstance(node, Reference) for node in (left, right))
                and all(isinstance(node, Variable | Number | Name) for node in (left, right))
            ):
                taken = COMPARE[operator](self.index(left, values), self.index(right, values))
                self.read(yes if taken else no, values, reads)
                return
            case Reference(tensor, indices):
                reads.append(((tensor, tuple(self.index(index, values) for index in indices)), expression))
        for child in expression.children:
            self.read(child, values, reads)

    def index(self, expression: Expression, values: dict[str, int]) -> int:
        match expression:
            case Number(value):
                return int(value)
            case Variable(name):
                return values[name]
            case Name(name):
                return self.shapes[name]
            case Unary("-", operand):
                return -self.index(operand, values)
            case Binary("+", left, right):
                return self.index(left, values) + self.index(right, values)
            case Binary("-", left, right):
                return self.index(left, values) - self.index(right, values)
            case Binary("*", left, right):
                return self.index(left, values) * self.index(right, values)
            case Reference(tensor, indices):
                return int(self.tensors[tensor][tuple(self.index(index, values) for index in indices)])
        raise AssertionError(expression)

    # -- tiles -----------------------------------------------------------------------------------------------------

    def by_other_name(self, einsum: Einsum, full: set[str]) -> bool:
        """Whether an Einsum reads elements only by another name of the rank, and not by the rank's own."""
        own, other = (
            any(
                self.tile(einsum, operand, (operand.tensor, (0,) * len(operand.indices)), by_other_name) is not None
                for operand in einsum.operands
                if operand.tensor in full
            )
            for by_other_name in (False, True)
        )
        return other and not own

    def tile(self, einsum: Einsum, reference: Reference, element: Element, by_other_name: bool) -> int | None:
        """Tile that an element is in by its indices; none if it has no coordinate of the rank, or a fixed one."""
        own = {variable for variable in einsum.ranks if variable.upper() in self.own}
        whole = next((split for split in self.cascade.split if self.rank in split.parts), None)
        found: dict[str, int] = {}
        running = False
        for index, rank, coordinate in zip(reference.indices, self.cascade.ranks_of[reference.tensor], element[1], strict=True):
            if rank not in self.names and rank != self.whole:
                continue
            variables = set(variables_of(index))
            others = {v for v in variables if v.upper() not in self.own and not (whole and v.upper() in whole.parts)}
            if variables and own and bool(others) != by_other_name and not isinstance(index, Reference):
                # The same sequence by another name, beside the rank itself: another rank.
                continue
            running |= bool(variables)
            if rank in self.parts:
                found[rank] = coordinate
            else:
                found.update(dict.fromkeys(self.parts, coordinate // self.tile_size))
        if set(found) != set(self.parts) or not running:
            return None
        return found[self.parts[0]]

    def roots(self) -> set[str]:
        def has(tensor: str) -> bool:
            ranks = set(self.cascade.ranks_of[tensor])
            return bool(ranks & (self.names - set(self.parts))) or set(self.parts) <= ranks

        return {tensor for tensor in self.cascade.inputs if has(tensor)}

    def assign_tiles(self) -> None:
        """Which elements belong to a tile, and so which tiles a point must be done in."""
        roots = self.roots()
        full = set(roots)
        # A tensor is a fiber's element by element if a point that reads such elements writes it with the rank's indices.
        while True:
            before = set(full)
            other = {id(einsum): self.by_other_name(einsum, full) for einsum in self.cascade.einsums}
            for point in self.points:
                point.tiles = []
                for element, reference in point.reads:
                    if element[0] not in full:
                        continue
                    tile = self.tile(point.einsum, reference, element, other[id(point.einsum)])
                    if tile is not None:
                        carried = element[0] in self.cascade.iterative
                        point.tiles.append({tile - 1, tile} if carried else {tile})
                if (
                    point.tiles
                    and self.tile(point.einsum, point.einsum.result, point.writes[0], other[id(point.einsum)]) is not None
                ):
                    full.add(point.einsum.result.tensor)
            if full == before:
                return

    # -- sweeps ----------------------------------------------------------------------------------------------------

    def run(self) -> int:
        self.assign_tiles()
        missing: dict[Element, int] = {}
        for point in self.points:
            for element in point.writes:
                missing[element] = missing.get(element, 0) + 1
        waiting = list(self.points)
        last = 0
        for sweep in range(1, 20):
            for tile in range(self.tiles):
                progress = True
                while progress:
                    progress = False
                    left = []
                    for point in waiting:
                        ready = all(not missing.get(element) for element, _ in point.reads)
                        if ready and all(tile in allowed for allowed in point.tiles):
                            progress = True
                            for element in point.writes:
                                missing[element] -= 1
                            if point.tiles:
                                last = sweep
                        else:
                            left.append(point)
                    waiting = left
            if not waiting:
                return last
        raise AssertionError(f"not done: {waiting[:3]}")
