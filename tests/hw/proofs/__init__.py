"""Statements about blocks of the hardware that a solver proves; ``prove.py`` beside this file proves them all."""
