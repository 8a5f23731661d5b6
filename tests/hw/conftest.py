"""Lets the tests of the hardware import what they share (bench.py)."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
