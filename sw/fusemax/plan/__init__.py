"""Plans: calls that are several sweeps of the array with steps of the host between them."""
