"""Models that blocks of the hardware are compared with."""
