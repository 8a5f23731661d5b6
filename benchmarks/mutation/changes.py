"""Changes of a Python file, one at a time: of Python's operators, and of what they mean in Amaranth."""

from __future__ import annotations

import ast
import copy
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

__all__ = ["Change", "changes"]

OPERATORS: dict[type[ast.AST], type[ast.AST]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.FloorDiv,
    ast.FloorDiv: ast.Mult,
    ast.Mod: ast.FloorDiv,
    ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd,
    ast.BitXor: ast.BitOr,
    ast.LShift: ast.RShift,
    ast.RShift: ast.LShift,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
    ast.And: ast.Or,
    ast.Or: ast.And,
}
#: Arguments that change no behaviour: names of signals, and what a register is while nobody looks at it.
SILENT_ARGUMENTS = {"name", "reset_less", "src_loc_at", "stacklevel"}
#: Longest text of a change's old and new code.
LONGEST = 90
#: Calls whose numbers are widths; a signal with a bit too many does what it did, so there they only become less.
SHAPES = {"In", "Out", "Signal", "unsigned", "signed"}


@dataclass(frozen=True)
class Change:
    """One change.

    Members
    -------
    name
        Where and what, without line numbers: as long as the function stays, so does the name.
    line
        Where it is now.
    make
        Make it, in the tree that was given to :func:`changes`; a tree has one change at most.
    """

    name: str
    line: int
    make: Callable[[], None]


def changes(tree: ast.Module) -> list[Change]:
    """List all changes of a module, in the order of the text."""
    seen: Counter[str] = Counter()
    found = []
    for scope, node, new, make in _walk(tree, ""):
        texts = (_short(ast.unparse(part)) if part is not None else "nothing" for part in (node, new))
        name = f"{scope}: " * bool(scope) + " → ".join(texts)
        seen[name] += 1
        found.append(Change(name + f" ({seen[name]})" * (seen[name] > 1), node.lineno, make))
    return found


def _walk(node: ast.AST, scope: str) -> Iterator[tuple[str, Any, ast.AST | None, Callable[[], None]]]:
    """Functions, old and new parts within a node, and how to make the change; ``scope`` is the function that it is in."""
    if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
        scope = f"{scope}.{node.name}" if scope else node.name
    for field, value in ast.iter_fields(node):
        if _is_silent(node, field):
            continue
        for index, child in enumerate(value if isinstance(value, list) else [value]):
            if not isinstance(child, ast.AST):
                continue

            def put(new: Any, field: str = field, value: Any = value, index: int = index) -> None:
                if isinstance(value, list):
                    value[index] = new
                else:
                    setattr(node, field, new)

            if isinstance(child, ast.stmt) and _has_effect(child):
                yield scope, child, None, lambda put=put, child=child: put(ast.copy_location(ast.Pass(), child))
            if isinstance(child, ast.AugAssign) and isinstance(child.value, ast.List) and len(child.value.elts) > 1:
                for statement in child.value.elts:
                    yield scope, statement, None, lambda of=child.value.elts, statement=statement: of.remove(statement)
            if isinstance(child, ast.expr):
                alternatives = [*_alternatives(child, is_width=_is_width(node))]
                if isinstance(node, ast.If) and field == "test":
                    alternatives.append(ast.UnaryOp(ast.Not(), child))
                for new in alternatives:
                    ast.fix_missing_locations(ast.copy_location(new, child))
                    yield scope, child, new, lambda put=put, new=new: put(new)
            yield from _walk(child, scope)


def _is_silent(node: ast.AST, field: str) -> bool:
    """Whether a part of a node is for readers and type checkers, or the text of an error."""
    if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
        return True
    if isinstance(node, ast.keyword) and node.arg in SILENT_ARGUMENTS:
        return True
    return field in ("annotation", "returns", "decorator_list") or (isinstance(node, ast.Raise) and field in ("exc", "cause"))


def _has_effect(node: ast.stmt) -> bool:
    """Whether a statement can be left out as a whole, and the code still runs."""
    if isinstance(node, ast.AugAssign):
        # Of a list of Amaranth's statements every one is left out by itself.
        return not (isinstance(node.value, ast.List) and len(node.value.elts) > 1)
    if isinstance(node, ast.Assign):
        return isinstance(node.targets[0], (ast.Attribute, ast.Subscript))
    return isinstance(node, (ast.Break, ast.Continue)) or (isinstance(node, ast.Expr) and isinstance(node.value, ast.Call))


def _is_width(parent: ast.AST) -> bool:
    """Whether a number within ``parent`` is the width of a signal, or of a field of a layout."""
    return isinstance(parent, ast.Dict) or (isinstance(parent, ast.Call) and ast.unparse(parent.func) in SHAPES)


def _alternatives(node: ast.expr, is_width: bool) -> Iterator[ast.expr]:
    """Expressions that could stand in the place of ``node`` by mistake."""

    def with_part(**parts: Any) -> Any:
        new = copy.copy(node)
        for field, value in parts.items():
            setattr(new, field, value)
        return new

    match node:
        case ast.BinOp(op=operator) | ast.BoolOp(op=operator) if type(operator) in OPERATORS and not _is_text(node):
            yield with_part(op=OPERATORS[type(operator)]())
        case ast.Compare(ops=operators):
            for index, operator in enumerate(operators):
                yield with_part(ops=[*operators[:index], OPERATORS[type(operator)](), *operators[index + 1 :]])
        case ast.UnaryOp(op=ast.Invert() | ast.Not(), operand=operand):
            yield operand
        case ast.Constant(value=bool(value)):
            yield with_part(value=not value)
        case ast.Constant(value=int(value)):
            if not is_width:
                yield with_part(value=value + 1)
            if value > 0:
                yield with_part(value=value - 1)
        case ast.IfExp(test=test):
            yield with_part(test=ast.UnaryOp(ast.Not(), test))
        case ast.Call(func=ast.Name("Mux"), args=[choose, one, other]):
            yield with_part(args=[choose, other, one])
        case ast.Call(func=ast.Attribute(ast.Name("m"), "If" | "Elif"), args=[condition]):
            yield with_part(args=[ast.Compare(condition, [ast.Eq()], [ast.Constant(0)])])


def _is_text(node: ast.expr) -> bool:
    """Whether an operator is for text."""
    return isinstance(node, ast.BinOp) and any(
        isinstance(side, ast.JoinedStr) or (isinstance(side, ast.Constant) and isinstance(side.value, str))
        for side in (node.left, node.right)
    )


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= LONGEST else line[: LONGEST - 1] + "…"
