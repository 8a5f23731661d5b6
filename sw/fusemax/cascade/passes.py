"""How often a cascade must go over the fibers of a rank.

A pass is one traversal of all elements of the fibers of a rank; one more is needed whenever an element must be visited again
after all others were, in every mapping of the cascade (FuseMax, section III). The number is a property of the cascade, not of
the function that it computes: what is counted is the least over all mappings of these Einsums, with state that does not
grow with the rank. How it is found is in :mod:`.sweep_analysis`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from .cascade import Cascade
from .deferred_division import defer_division
from .rank_family import Family
from .sweep_analysis import Barrier, SweepAnalysis

__all__ = ["Barrier", "Passes", "count_passes", "ranks_to_count"]


@dataclass(frozen=True)
class Passes:
    """Passes over the fibers of a rank.

    Members
    -------
    rank
        The rank.
    passes, passes_deferred_division
        Of the cascade as it is, and with its divisions moved behind the sums that they can be moved behind.
    chain
        What forces the second and every further pass, in order.
    footprint
        Tensors of which a whole fiber must be kept, read again or computed again: their size grows with the rank.
    per_input
        Passes over the fibers of each input that has the rank, the others taken as given.
    """

    rank: str
    passes: int
    passes_deferred_division: int
    chain: tuple[Barrier, ...]
    footprint: tuple[str, ...]
    per_input: Mapping[str, int]

    def to_dict(self) -> dict[str, object]:
        """For JSON."""
        return {
            "rank": self.rank,
            "passes": self.passes,
            "passes_deferred_division": self.passes_deferred_division,
            "chain": [str(barrier) for barrier in self.chain],
            "footprint": list(self.footprint),
        }


def count_passes(cascade: Cascade, rank: str, same: Mapping[str, str] | None = None) -> Passes:
    """Count the passes over the fibers of ``rank``.

    Parameters
    ----------
    cascade
        Any cascade.
    rank
        A rank of its tensors, or a split one: then elements are those of all parts together. The outer part alone (M1) counts
        tiles.
    same
        Other ranks that are the same sequence, as in {"P": "M"} for self-attention: their fibers count for ``rank`` too.

    Returns
    -------
    Passes
        How many, what forces each of them, and what is kept between them.

    Raises
    ------
    CascadeError
        If the cascade has no such rank, or the passes grow with the iteration.
    """
    analysis = SweepAnalysis(cascade, Family.of(cascade, rank, same or {}))
    each = analysis.of_each_root()
    # An Einsum that goes over the rank by two names is counted by one of them: an input's own count may be the larger one.
    most = max((analysis, *each.values()), key=lambda found: found.passes)
    late = defer_division(cascade)
    deferred = SweepAnalysis(late, Family.of(late, rank, same or {}))
    deferred_passes = max(found.passes for found in (deferred, *deferred.of_each_root().values()))
    return Passes(
        rank,
        most.passes,
        min(most.passes, deferred_passes),
        most.chain(),
        analysis.footprint(each),
        {root: found.passes for root, found in each.items() if root in cascade.inputs},
    )


def ranks_to_count(cascade: Cascade) -> tuple[str, ...]:
    """List the ranks of the tensors, without the names that an iteration gives another rank."""
    declared = {rank for ranks in cascade.ranks_of.values() for rank in ranks} | {split.rank for split in cascade.split}
    return tuple(rank for rank in cascade.ranks if rank in declared and not cascade.iteration_of(rank))
