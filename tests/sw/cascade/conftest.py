"""Lets the tests of cascades import what they share (sweeps.py)."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
