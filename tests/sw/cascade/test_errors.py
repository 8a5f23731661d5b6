"""Errors of cascades."""

from __future__ import annotations

from fusemax.cascade import CascadeError
from fusemax.errors import FusemaxError


def test_errors_are_value_errors_of_the_package() -> None:
    assert issubclass(CascadeError, FusemaxError)
    assert issubclass(CascadeError, ValueError)
