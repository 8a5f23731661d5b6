"""Compile attention, print its program and draw its schedule: ``python examples/schedule.py [PICTURE]``."""

import argparse

import fusemax

parser = argparse.ArgumentParser(description="Listing and picture of the program of attention in one pass.")
parser.add_argument("picture", nargs="?", default="schedule.png", help="file to draw to")
picture = parser.parse_args().picture
program = fusemax.compile("attention_1pass", head_dim=16, value_dim=16, config="small")
print(program.listing())
program.schedule.plot(picture)
