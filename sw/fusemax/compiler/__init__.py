"""From the text of a cascade to a program: map, lower, schedule, check, assemble."""
