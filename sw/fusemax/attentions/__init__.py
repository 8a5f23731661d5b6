"""Attention systems of the literature, by the names of their papers, as plans on the array.

Each takes ``device``, where to run (a model device of configuration ``base`` is opened for the call if not given), and
``counters``, a list that takes the counters of every sweep in turn.
"""
