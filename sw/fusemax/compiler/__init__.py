"""From the text of a cascade to a program: recognise, schedule, check, assemble."""
