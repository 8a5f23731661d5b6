"""Compile attention, print its program and draw its schedule: ``python examples/schedule.py [PICTURE]``."""

import sys

import fusemax

picture = sys.argv[1] if len(sys.argv) > 1 else "schedule.png"
program = fusemax.compile("attention_1pass", head_dim=16, value_dim=16, config="small")
print(program.listing())
program.schedule.plot(picture)
