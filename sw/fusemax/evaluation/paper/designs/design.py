"""What a design is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ..machine import Machine
from ..plan import Stage
from ..ranks import Ranks, attention_ranks
from ..workloads import BATCH, Model

__all__ = ["Design", "ranks_of"]


@dataclass(frozen=True)
class Design:
    """A machine and how attention runs on it.

    Members
    -------
    name, title
        Name in records, and as the paper writes it.
    machine
        Machine of attention and of the linear layers.
    attention
        Stages of the attention of a model's layer on sequences of so many tokens.
    """

    name: str
    title: str
    machine: Machine
    attention: Callable[[Model, int], tuple[Stage, ...]]


def ranks_of(model: Model, tokens: int, machine: Machine) -> Ranks:
    """Ranks of the attention of a model's layer: as many queries as keys, all heads of all sequences."""
    return attention_ranks(
        heads=BATCH * model.heads,
        e=model.head_dim,
        f=model.head_dim,
        queries=tokens,
        keys=tokens,
        rows=machine.rows,
        columns=machine.columns,
    )
