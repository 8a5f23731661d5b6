"""Arithmetic units, bit-exact to the models in :mod:`fusemax.arith`."""
