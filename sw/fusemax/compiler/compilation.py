"""Cascade to program."""

from __future__ import annotations

from functools import lru_cache
from os import PathLike

from ..cascade import Cascade, cascade_named
from ..spec import Config, config_named
from .lowering import Lowered, lower
from .mapper import map_cascade
from .microwords import encode
from .modulo_schedule import Binding, modulo_schedule
from .program import Program

__all__ = ["compile"]


def compile(
    cascade: str | PathLike[str] | Cascade = "attention_1pass",
    *,
    head_dim: int,
    value_dim: int | None = None,
    config: str | Config = "small",
    binding: Binding = Binding.CO_ISSUED,
    score_bound: float | None = None,
    bias: bool = False,
) -> Program:
    """Compile a cascade for a machine.

    Programs are cached: the same arguments give the same object.

    Parameters
    ----------
    cascade
        A cascade, the name of a shipped one (:data:`fusemax.cascade.CASCADES`) or the path of a file
        (docs/reference/cascades.md).
    head_dim
        Head dim of queries and keys (E), 1 to ``config.max_e``. A number that the cascade adds to its scores takes two more.
    value_dim
        Head dim of values (F), 1 to ``config.max_f``; ``head_dim`` if not given.
    config
        A configuration or the name of a shipped one (:data:`fusemax.spec.CONFIGS`).
    binding
        What of two tiles may be under way at the same time; all that can be if not given, which is the fastest.
    score_bound
        Largest \\|score\\| that a call will have, for weights that are a function of the score with a range
        (:data:`fusemax.compiler.functions.WEIGHT_FUNCTIONS`). The smaller it is, the more exact they are.
    bias
        For calls with ``bias=``: every tile takes as many slots more as the array has rows.

    Returns
    -------
    Program
        Its microwords, listing and schedule.

    Raises
    ------
    TypeError, ValueError
        If an argument is not as above.
    ReachError
        If the array cannot run the cascade; names the line and why. A ValueError too.
    MissingOptionError
        If the machine was made without an operation that it needs; names the option. A ValueError too.
    ScheduleError
        If the machine has no schedule for it.
    """
    machine = config_named(config)
    value_dim = head_dim if value_dim is None else value_dim
    check_dim("head_dim", head_dim, machine.max_e, machine)
    check_dim("value_dim", value_dim, machine.max_f, machine)
    if not isinstance(binding, Binding):
        raise TypeError(f"binding must be a Binding, not {binding!r}")
    if not isinstance(bias, bool):
        raise TypeError(f"bias must be True or False, not {bias!r}")
    return _compile(cascade_named(cascade), int(head_dim), int(value_dim), machine, binding, score_bound, bias)


def check_dim(name: str, value: int, limit: int, config: Config) -> None:
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"{name} must be an integer, not {value!r}")
    if not 1 <= value <= limit:
        raise ValueError(f"{name} must be from 1 to {limit} on {config.name!r}, not {value}")


@lru_cache(maxsize=256)
def _compile(
    cascade: Cascade, e: int, f: int, config: Config, binding: Binding, score_bound: float | None, bias: bool
) -> Program:
    mapped = map_cascade(cascade)
    mapped.check_dims(e, f)
    lowered: Lowered = lower(mapped, config, e, f, score_bound, bias=bias)
    e, f = lowered.e, lowered.f
    check_dim("head_dim, with the elements for the bias of the scores,", e, config.max_e, config)
    check_dim("value_dim, with columns for the sums of scores,", f, config.max_f, config)
    schedule = modulo_schedule(lowered.micros, config, e, f, binding=binding, spare_hold=lowered.spare_hold)
    return Program(
        config,
        e,
        f,
        encode(schedule),
        fixed_reference=lowered.fixed_reference,
        spare_hold=lowered.spare_hold,
        feeding=lowered.feeding,
    )
