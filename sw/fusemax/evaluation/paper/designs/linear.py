"""Linear layers of a transformer layer: projections Q, K, V, Z and the two of the feed-forward layer."""

from __future__ import annotations

from ....spec import ceil_div
from ..machine import WORD_BYTES, Machine, Operation, Unit
from ..plan import Move, Phase, Stage, Work
from ..ranks import Ranks
from ..workloads import BATCH, Model

__all__ = ["linear_layers"]


def linear_layers(model: Model, tokens: int, machine: Machine) -> tuple[Stage, ...]:
    """One stage per layer: outputs = inputs · weights for all tokens of all sequences."""
    width, inner = model.width, model.feed_forward
    shapes = dict.fromkeys(("Q", "K", "V", "Z"), (width, width)) | {"FFN1": (width, inner), "FFN2": (inner, width)}
    return tuple(layer(name, BATCH * tokens, *shape, machine) for name, shape in shapes.items())


def layer(name: str, rows: int, inputs: int, outputs: int, machine: Machine) -> Stage:
    """Rows on the array's rows, outputs on its columns, inputs in time."""
    tiles = ceil_div(rows, machine.rows)
    ranks = Ranks({"r": rows, "i": inputs, "o": outputs, "s": tiles, "u": ceil_div(outputs, machine.columns)})
    work = Work(name, "r i o", Unit.ARRAY, "r o", {Operation.MAC: 1})
    reads = weight_reads(tiles, inputs, outputs, machine)
    weights = reads * ranks.count("i o")
    moves = (
        Move(
            tensor="inputs",
            memory_reads=ranks.count("r i"),
            buffer_writes=ranks.count("r i"),
            buffer_reads=ranks.count("r i u"),
        ),
        Move(tensor="weights", memory_reads=weights, buffer_writes=weights, buffer_reads=ranks.count("i o s")),
        Move(tensor="outputs", memory_writes=ranks.count("r o")),
    )
    return Stage(name, ranks, (Phase((work,)),), moves)


def weight_reads(tiles: int, inputs: int, outputs: int, machine: Machine) -> int:
    """How often the weights are read from memory, as the artifact's mapper chooses.

    Once, if all of them and a tile of inputs fit the buffer; otherwise once for each group of input tiles, the largest power of
    two that fits beside a tile of weights.
    """
    words = machine.buffer_bytes // WORD_BYTES
    tile_words = machine.rows * inputs
    if inputs * outputs + tile_words <= words:
        return 1
    group = 1
    while (2 * group + 1) * tile_words <= words:
        group *= 2
    return ceil_div(tiles, group)
