"""Whether the names of a cascade fit together: one file for each thing that is asked, in the order in which it is asked."""

from __future__ import annotations

from ..cascade import Cascade
from ..errors import CascadeError
from .definitions import check_definitions
from .einsums import check_einsum
from .machine_sections import check_machine_sections
from .order import check_order
from .use import check_use

__all__ = ["check_cascade"]


def check_cascade(cascade: Cascade) -> None:
    """Check that every name is known, used, and used as what it is, and that tensors are written before they are read.

    Parameters
    ----------
    cascade
        As it was read; the other functions of the package rely on what is checked here.

    Raises
    ------
    CascadeError
        If it is not so; names line and column.
    """
    check_definitions(cascade)
    if not cascade.einsums:
        raise CascadeError("expected at least one Einsum under expressions or extended", cascade.declaration[0].at)
    check_order(cascade)
    for einsum in cascade.einsums:
        check_einsum(cascade, einsum)
    check_use(cascade)
    check_machine_sections(cascade)
