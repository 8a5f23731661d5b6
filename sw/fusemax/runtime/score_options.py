"""Options about scores that leave the machine: a cap, and scores and weights as results."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np

from .argument_checks import numbers_of

__all__ = ["SCORES", "ScoreOptions"]

#: Scores that a call can return: in front of the cap, behind it, and behind biases and masks.
SCORES = ("raw", "capped", "masked")


@dataclass(frozen=True)
class ScoreOptions:
    """What a call wants of its scores.

    Members
    -------
    softcap
        c of c · tanh(s / c); None for none.
    weights
        The weights are a result.
    scores
        Which scores are a result, one of :data:`SCORES`; None for none.
    """

    softcap: float | None = None
    weights: bool = False
    scores: str | None = None

    @classmethod
    def of(cls, softcap: object, weights: object, scores: object) -> Self:
        """Check the options.

        Raises
        ------
        TypeError, ValueError
            If one is not what :func:`fusemax.attention` says.
        """
        cap = None
        if softcap is not None:
            number = numbers_of(softcap)
            if number is None or number.ndim:
                raise TypeError(f"softcap must be a number or None, not {softcap!r}")
            if not (np.isfinite(number) and number >= 0):
                raise ValueError(f"softcap must be finite and greater than 0, or 0 for no cap, not {softcap!r}")
            cap = float(number) or None
        if not isinstance(weights, (bool, np.bool_)):
            raise TypeError(f"return_weights must be True or False, not {weights!r}")
        if scores is not None and (not isinstance(scores, str) or scores not in SCORES):
            raise ValueError(f"return_scores must be one of {', '.join(SCORES)}, or None, not {scores!r}")
        return cls(cap, bool(weights), scores)

    @property
    def needed(self) -> bool:
        """Whether the call needs scores at all."""
        return self != ScoreOptions()
