"""FLAT: the three-pass cascade with rows of scores kept on chip between its products, if they fit.

Kao et al., *FLAT: An Optimized Dataflow for Mitigating Attention Bottlenecks*, ASPLOS 2023. Its dataflow depends on length and
head dim; the choices are those of FLAT's own search, as the artifact took them over.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..energy import wrapped
from ..machine import FLAT_MACHINE, WORD_BYTES
from ..plan import Move, Phase, Stage
from ..ranks import Ranks
from ..workloads import Model
from .design import Design, ranks_of
from .softmax import SOFTMAX, matrix_product, softmax_moves

__all__ = ["FLAT", "FlatDataflow", "flat_dataflow"]


@dataclass(frozen=True)
class FlatDataflow:
    """How FLAT runs a length.

    Members
    -------
    rows
        Queries whose scores are worked on together.
    on_chip
        Of Q, K, V and AV, those that stay in the buffer for these rows.
    scores_on_chip
        Scores and weights stay in the buffer too, and the products hold sums in the PEs; otherwise they hold weights.
    """

    rows: int
    on_chip: tuple[str, ...]
    scores_on_chip: bool = True


DATAFLOWS: dict[tuple[int, int], FlatDataflow] = {
    (64, 1 << 10): FlatDataflow(1 << 10, ()),
    (64, 1 << 12): FlatDataflow(1 << 12, ()),
    (64, 1 << 14): FlatDataflow(1 << 10, ()),
    (64, 1 << 16): FlatDataflow(1 << 8, ("AV",)),
    (64, 1 << 18): FlatDataflow(1 << 10, ("Q", "AV"), scores_on_chip=False),
    (64, 1 << 20): FlatDataflow(1 << 10, ("Q", "AV"), scores_on_chip=False),
    (128, 1 << 10): FlatDataflow(1 << 10, ("V",)),
    (128, 1 << 12): FlatDataflow(1 << 12, ("V",)),
    (128, 1 << 14): FlatDataflow(1 << 10, ("Q",)),
    (128, 1 << 16): FlatDataflow(1 << 8, ("Q", "AV")),
    (128, 1 << 18): FlatDataflow(1 << 10, ("Q", "AV"), scores_on_chip=False),
    (128, 1 << 20): FlatDataflow(1 << 10, ("Q", "AV"), scores_on_chip=False),
}


def flat_dataflow(head_dim: int, tokens: int) -> FlatDataflow:
    """FLAT's choice.

    Raises
    ------
    ValueError
        If it is not known for that head dim and length.
    """
    if (head_dim, tokens) not in DATAFLOWS:
        known = ", ".join(f"{e} and {n}" for e, n in DATAFLOWS)
        raise ValueError(f"head dim and tokens must be one of {known}, not {head_dim} and {tokens}")
    return DATAFLOWS[head_dim, tokens]


def attention(model: Model, tokens: int) -> tuple[Stage, ...]:
    ranks = ranks_of(model, tokens, FLAT_MACHINE)
    dataflow = flat_dataflow(model.head_dim, tokens)
    spaces = {"QK": "m p", "AV": "f p"} if dataflow.scores_on_chip else {"QK": "e m", "AV": "m f"}
    products = tuple(matrix_product(name, space) for name, space in spaces.items())
    chosen = moves_on_chip(ranks, dataflow) if dataflow.scores_on_chip else moves_off_chip(ranks, dataflow)
    softmax = softmax_moves(ranks, off_chip=not dataflow.scores_on_chip)
    return (Stage("attention", ranks, (Phase((*products, *SOFTMAX)),), (*chosen, *softmax)),)


def moves_on_chip(ranks: Ranks, dataflow: FlatDataflow) -> tuple[Move, ...]:
    """Rows of scores in the buffer. Of what does not fit, a share of the accesses goes to memory instead: it is spilt."""
    count, scores = ranks.count, ranks.count("m p")
    blocks = ranks["p"] // dataflow.rows
    spilt = spilt_share(ranks, dataflow)
    streamed = count("e m1 p")
    moves = []
    for tensor, once in (("Q", count("e p")), ("K", blocks * count("e m")), ("V", blocks * count("f m"))):
        if tensor in dataflow.on_chip:
            words = once * (1 - spilt) + streamed * spilt
            moves.append(Move(tensor=tensor, memory_reads=words, buffer_writes=once, buffer_reads=streamed))
        else:
            moves.append(Move(tensor=tensor, memory_reads=streamed))
    elided = wrapped(scores, ranks["m"] * dataflow.rows)
    # Seven accesses to each score: QK, SN and A are written; GM, SN, A and AV read.
    accesses = Move(tensor="QK, SN, A", memory_reads=4 * spilt * scores, memory_writes=3 * spilt * scores)
    written = count("f p")
    return (
        *moves,
        accesses,
        Move(tensor="A", buffer_writes=scores, buffer_reads=scores, wrapped_reads=elided),
        Move(tensor="AV", memory_writes=written, buffer_writes=written if "AV" in dataflow.on_chip else 0),
    )


def spilt_share(ranks: Ranks, dataflow: FlatDataflow) -> float:
    """Share of what is meant to be in the buffer that is not; tensors that pass by take a tile each, twice for both halves."""
    resident = {"Q": dataflow.rows * ranks["e"], "K": ranks["m"] * ranks["e"]}
    resident |= {"V": ranks["m"] * ranks["f"], "AV": dataflow.rows * ranks["f"]}
    words = sum(size if tensor in dataflow.on_chip else FLAT_MACHINE.rows * ranks["e"] for tensor, size in resident.items())
    capacity_words = FLAT_MACHINE.buffer_bytes // WORD_BYTES
    return 1 - min(1, capacity_words / (ranks["m"] * dataflow.rows + 2 * words))


def moves_off_chip(ranks: Ranks, dataflow: FlatDataflow) -> tuple[Move, ...]:
    """Scores and weights in memory; K and V pass by once for each block of rows."""
    count, scores, blocks = ranks.count, ranks.count("m p"), ranks["p"] // dataflow.rows
    sums = count("f m1 p")
    return (
        Move(tensor="Q", memory_reads=count("e p"), buffer_writes=count("e p"), buffer_reads=count("e m1 p")),
        Move(tensor="K", memory_reads=blocks * count("e m")),
        Move(tensor="QK", memory_writes=scores),
        Move(tensor="A", memory_reads=scores),
        Move(tensor="V", memory_reads=blocks * count("f m")),
        # The first of M1 partial sums is not read.
        Move(tensor="AV", memory_writes=count("f p"), buffer_writes=sums, buffer_reads=sums - count("f p")),
    )


FLAT = Design("flat", "FLAT", FLAT_MACHINE, attention)
