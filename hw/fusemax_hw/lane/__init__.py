"""The lane: one-dimensional processing element below a column."""
