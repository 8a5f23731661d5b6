"""fusemax.compile."""

from __future__ import annotations

import pytest

import fusemax
from fusemax.compiler.modulo_schedule import Binding
from fusemax.compiler.symbolic_checker import check
from fusemax.spec import CONFIGS, Config


def test_head_dims_and_configuration() -> None:
    program = fusemax.compile("attention_1pass", head_dim=64, config="base")
    assert (program.e, program.f, program.ii, program.config) == (64, 64, 130, CONFIGS["base"])
    assert fusemax.compile(head_dim=16, value_dim=5).f == 5
    check(program.microwords, program.config, 64, 64)


def test_programs_are_cached() -> None:
    assert fusemax.compile(head_dim=32) is fusemax.compile(
        fusemax.ATTENTION_1PASS, head_dim=32, value_dim=32, config=CONFIGS["small"]
    )


def test_bindings() -> None:
    programs = [fusemax.compile(head_dim=16, config="base", binding=binding) for binding in Binding]
    assert [program.ii for program in programs] == [60, 35, 34]
    assert programs[2] is fusemax.compile(head_dim=16, config="base")


def test_any_configuration() -> None:
    config = Config(name="odd", rows=5, columns=3, contexts=4)
    check(fusemax.compile(head_dim=7, config=config).microwords, config, 7, 7)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"head_dim": 65}, ValueError, "head_dim must be from 1 to 64 on 'small', not 65"),
        ({"head_dim": 0}, ValueError, "head_dim must be from 1 to 64 on 'small', not 0"),
        ({"head_dim": 8, "value_dim": 200, "config": "base"}, ValueError, "value_dim must be from 1 to 128 on 'base', not 200"),
        ({"head_dim": 8.0}, TypeError, "head_dim must be an integer, not 8.0"),
        ({"head_dim": True}, TypeError, "head_dim must be an integer, not True"),
        (
            {"head_dim": 8, "config": "huge"},
            ValueError,
            "config must be one of tiny, small, base, wide, paper or a Config, not 'huge'",
        ),
        ({"head_dim": 8, "config": 3}, TypeError, "config must be a Config or a name, not 3"),
        ({"head_dim": 8, "binding": "serial"}, TypeError, "binding must be a Binding, not 'serial'"),
        ({"head_dim": 8, "cascade": "flow"}, ValueError, "cascade must be the path of a file or one of attention_1pass"),
    ],
)
def test_wrong_arguments(arguments: dict, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        fusemax.compile(**arguments)
