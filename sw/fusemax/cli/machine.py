"""The options ``--config``, ``--set`` and ``--name``, which every command that is about a machine has."""

from __future__ import annotations

import argparse
import hashlib
from collections.abc import Mapping
from dataclasses import fields, replace

from ..spec import CONFIGS, Config

__all__ = ["FIELDS", "add_machine", "changed", "machine", "setting"]

#: Parameters that ``--set`` changes; the name has an option of its own.
FIELDS = tuple(field.name for field in fields(Config) if field.name != "name")
#: Those of them that are on or off, 1 or 0.
SWITCHES = tuple(field.name for field in fields(Config) if field.default is False)
#: Characters of a name that is made of the changes. The cached simulators have it in their file names.
LONGEST_NAME = 80


def add_machine(parser: argparse.ArgumentParser, default: str | None, shown: str | None = None) -> None:
    """Add ``--config``, ``--set`` and ``--name``; :func:`machine` is what they ask for.

    Parameters
    ----------
    default
        Configuration if ``--config`` is not given.
    shown
        What the help says of the default, if it is not its name.
    """
    parser.add_argument(
        "--config",
        type=config_option,
        default=default,
        metavar="NAME",
        help=f"{', '.join(CONFIGS)}; default: {shown or default}",
    )
    parser.add_argument(
        "--set",
        dest="changes",
        action="append",
        default=[],
        type=setting,
        metavar="FIELD=NUMBER",
        help=f"change a parameter of the configuration; may be repeated. Fields: {', '.join(FIELDS)}",
    )
    parser.add_argument(
        "--name", help="name of a configuration that was changed; default: made of the changes, as in base_rows5_columns7"
    )


def config_option(name: str) -> Config:
    """A shipped configuration, for argparse."""
    if name not in CONFIGS:
        raise argparse.ArgumentTypeError(f"must be one of {', '.join(CONFIGS)}, not {name!r}")
    return CONFIGS[name]


def setting(text: str) -> tuple[str, int]:
    """A parameter of a configuration and its value, for argparse."""
    name, equals, value = text.partition("=")
    if not equals:
        raise argparse.ArgumentTypeError(f"must be FIELD=NUMBER as in rows=5, not {text!r}")
    if name not in FIELDS:
        raise argparse.ArgumentTypeError(f"the field must be one of {', '.join(FIELDS)}, not {name!r}")
    try:
        number = int(value)
    except ValueError:
        number = None
    if name in SWITCHES:
        if number not in (0, 1):
            raise argparse.ArgumentTypeError(f"{name} must be 0 or 1, not {value!r}")
        return name, bool(number)
    if number is None:
        raise argparse.ArgumentTypeError(f"{name} must be a whole number, not {value!r}")
    return name, number


def machine(options: argparse.Namespace) -> Config:
    """Return the machine that the options ask for.

    Raises
    ------
    ValueError
        If a value is out of its range, or the name is none or taken; if there are changes and no configuration to change.
    """
    if options.config is None:
        raise ValueError("--set and --name must come with --config")
    config = changed(options.config, dict(options.changes))
    if options.name is not None:
        config = replace(config, name=options.name)
    if CONFIGS.get(config.name, config) != config:
        raise ValueError(f"--name must not be that of another configuration ({', '.join(CONFIGS)}), not {config.name!r}")
    return config


def changed(config: Config, changes: Mapping[str, int]) -> Config:
    """Return ``config`` with other parameters; its name tells them, in the order of the fields.

    Raises
    ------
    ValueError
        If a value is out of its range.
    """
    other = replace(config, **changes)
    different = [f"{field}{getattr(other, field):d}" for field in FIELDS if getattr(other, field) != getattr(config, field)]
    name = "_".join([config.name, *different])
    if len(name) > LONGEST_NAME:
        name = f"{config.name}_{hashlib.sha256(name.encode()).hexdigest()[:12]}"
    return replace(other, name=name)
