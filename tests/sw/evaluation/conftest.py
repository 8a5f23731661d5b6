"""Lets the tests have a board that is a model (model_board.py)."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from model_board import make_board

__all__ = ["make_board"]
