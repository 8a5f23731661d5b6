"""Lets the tests have a board that is a model (model_board.py)."""

from model_board import make_board

__all__ = ["make_board"]
