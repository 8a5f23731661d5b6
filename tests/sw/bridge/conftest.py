"""Lets the tests of the host side import what they share (bridge_model.py)."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
