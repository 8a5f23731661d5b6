"""Dividers of a PLL."""

from collections.abc import Iterable
from dataclasses import dataclass

__all__ = ["Pll", "Range"]

#: Largest relative error of a frequency.
TOLERANCE = 1e-3

Range = tuple[float, float]


@dataclass(frozen=True)
class Pll:
    """A PLL: output = input · multiplier / divider, and VCO = output · output divider.

    Members
    -------
    dividers, multipliers, output_dividers
        Values that there are. If ``multiplies_vco``, the VCO is input · multiplier / divider instead.
    phase_detector_hz, vco_hz
        Ranges of input / divider and of the VCO.
    """

    dividers: Iterable[int]
    multipliers: Iterable[int]
    output_dividers: Iterable[int]
    phase_detector_hz: Range
    vco_hz: Range
    multiplies_vco: bool = False

    def settings(self, input_hz: float, output_hz: float) -> tuple[int, int, int, float]:
        """Divider, multiplier and output divider of the frequency that is nearest, and that frequency.

        Raises
        ------
        ValueError
            If it is more than 0.1 % away.
        """
        found = []
        for divider in self.dividers:
            if not self.phase_detector_hz[0] <= input_hz / divider <= self.phase_detector_hz[1]:
                continue
            for multiplier in self.multipliers:
                for output_divider in self.output_dividers:
                    feedback = input_hz * multiplier / divider
                    hz = feedback / output_divider if self.multiplies_vco else feedback
                    if self.vco_hz[0] <= hz * output_divider <= self.vco_hz[1]:
                        found.append((abs(hz - output_hz), divider, multiplier, output_divider, hz))
        nearest = min(found, default=None)
        if nearest is None or nearest[0] > TOLERANCE * output_hz:
            hint = "" if nearest is None else f"; the nearest is {nearest[4]:.0f} Hz"
            raise ValueError(f"clock_hz must be one that the PLL makes of {input_hz:.0f} Hz, not {output_hz!r}{hint}")
        return nearest[1:]
