"""The text of a cascade, one Einsum a line."""

from __future__ import annotations

import re
from collections.abc import Iterable

from .cascade import Cascade
from .expression import Number
from .yaml_reader import Mapping, Node, Scalar, Sequence

__all__ = ["to_text"]

#: Text that means the same without quotes, anywhere.
BARE = re.compile(r"[A-Za-z0-9_.+/()<=-][A-Za-z0-9_.+/()<>=* -]*")


def to_text(cascade: Cascade) -> str:
    """Write the text of a cascade: YAML that :func:`fusemax.cascade.parse` reads back as an equal one.

    Parameters
    ----------
    cascade
        Any cascade; comments of the text that it was read from are gone.

    Returns
    -------
    str
        The whole document, one Einsum a line.
    """
    lines = ["einsum:", "  declaration:"]
    lines += [f"    {item.tensor}: {flow(item.ranks)}" for item in cascade.declaration]
    if cascade.split:
        lines += ["  split:", *(f"    {item.rank}: {flow(item.parts)}" for item in cascade.split)]
    if cascade.alias:
        lines += ["  alias:", *(f"    {item.name}: {item.rank}" for item in cascade.alias)]
    if cascade.constants:
        lines += ["  constants:", *(f"    {item.name}: {number(item.value)}" for item in cascade.constants)]
    lines += listed("functions", cascade.functions)
    if cascade.iteration:
        variable, stop = cascade.iteration.variable, cascade.iteration.stop
        lines += ["  iterative:", f"    {variable}: {variable} >= {stop}"]
    lines += listed("expressions", cascade.expressions)
    lines += listed("initialization", cascade.initialization)
    lines += listed("extended", cascade.extended)
    lines += listed("finally", cascade.finally_)
    if cascade.outputs:
        lines.append(f"  outputs: {flow(cascade.outputs)}")
    for section, node in cascade.extras:
        lines += written(f"{section}:", node, 0)
    return "\n".join(lines) + "\n"


def number(value: float) -> str:
    return f"-{Number(-value)}" if value < 0 else f"{Number(value)}"


def listed(section: str, items: Iterable[object]) -> list[str]:
    lines = [f"    - {item}" for item in items]
    return [f"  {section}:", *lines] if lines else []


def flow(names: Iterable[str]) -> str:
    return f"[{', '.join(names)}]"


def written(head: str, node: Node, indent: int) -> list[str]:
    """``head`` (a key or a dash) and the node that belongs to it."""
    space = " " * indent
    match node:
        case Scalar(text):
            return [f"{space}{head} {quoted(text)}" if text else f"{space}{head}"]
        case Sequence(items) if all(isinstance(item, Scalar) for item in items):
            return [f"{space}{head} {flow(quoted(item.text) or repr('') for item in items if isinstance(item, Scalar))}"]
        case Sequence(items):
            return [f"{space}{head}", *(line for item in items for line in written("-", item, indent + 2))]
        case Mapping(()):
            return [f"{space}{head} {{}}"]
        case Mapping(pairs):
            return [
                f"{space}{head}",
                *(line for key, value in pairs for line in written(f"{quoted(key.text)}:", value, indent + 2)),
            ]
    raise AssertionError(node)


def quoted(text: str) -> str:
    if not text or (BARE.fullmatch(text) and not text.startswith(("- ", "--- ")) and text == text.strip() and text != "-"):
        return text
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n").replace("\t", "\\t")
    return f'"{escaped}"'
