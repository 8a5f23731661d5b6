"""A board's whole system, simulated from its RTL, with its serial pins joined to a pseudo-terminal."""

from .simulation import BoardSimulation

__all__ = ["BoardSimulation"]
