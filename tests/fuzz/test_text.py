"""Text from outside: cascades, listings of programs, command lines."""

from __future__ import annotations

import contextlib
import io
import random

from inputs import fuzzed, mutated

import fusemax
from fusemax.cascade import CASCADES, CascadeError, parse
from fusemax.cascade.catalog import DIRECTORY
from fusemax.cascade.passes import count_passes, ranks_to_count
from fusemax.cascade.writer import to_text
from fusemax.cli import main, parser
from fusemax.compiler.program import Program
from fusemax.errors import FusemaxError, ProgramError

CASCADE_TEXTS = [(DIRECTORY / f"{name}.yaml").read_text(encoding="utf-8") for name in sorted(CASCADES)]
CASCADE_PIECES = (
    *("[", "]", "{", "}", ":", "- ", "\n", "\n  ", "'", '"', "#", "&a", "*a", "|", "?", "!", "%", "exp(", "max(", "::", "sum("),
    *(
        "take(",
        " = ",
        "m0",
        "m1",
        "M",
        "P",
        "1e999",
        "-0",
        "0",
        "inf",
        "nan",
        "9" * 400,
        "(" * 300,
        "[" * 300,
        "/",
        "iterative",
    ),
)
PROGRAMS = [
    fusemax.compile(name, head_dim=e, value_dim=f, config=config)
    for name, e, f, config in (("attention_1pass", 8, 8, "tiny"), ("attention_1pass", 5, 3, "small"))
]


@fuzzed
def test_cascades(rng: random.Random) -> None:
    """Read, or refused with a place; what was read can be written and counted."""
    text = mutated(rng, rng.choice(CASCADE_TEXTS), CASCADE_PIECES)
    try:
        cascade = parse(text)
    except CascadeError:
        return
    assert parse(to_text(cascade)) is not None
    # What takes longer is done with some of them.
    if rng.random() < 0.02:
        for rank in ranks_to_count(cascade):
            with contextlib.suppress(CascadeError):
                count_passes(cascade, rank)
    if rng.random() < 0.005:
        with contextlib.suppress(FusemaxError, ValueError):
            fusemax.compile(cascade, head_dim=4, value_dim=4, config="tiny")


@fuzzed
def test_listings(rng: random.Random) -> None:
    text = mutated(
        rng, rng.choice(PROGRAMS).listing(), ("QK", "SLNV", "MAX", "first", "last", "=", "-1", "99999999999", "e=", "\t", "#")
    )
    with contextlib.suppress(ProgramError):
        Program.from_listing(text, rng.choice(("tiny", "small")))


COMMANDS = [
    "verilog --config tiny --set rows=5 --name mine -o out",
    "compile attention_1pass --config small --head-dim 16 --value-dim 24 --score-bound 3 -o out",
    "plan flowformer",
    "run --device model --config tiny --heads 1 --layer 3 --timeout 5 --trace a.fst --trace-depth 3 --trace-cycles 5:9",
    "board build ulx3s_85f --until project --memory-bytes 65536 --clock-mhz 50 --baud 1000000 --seed 3",
    "board info --port absent --baud 9600 --latency 0.1",
    "bench --shape 1x2x2x2x2 --modelled --config tiny --latency 60 --beat-interval 1 --longest 100 --timeout 9",
    "paper",
    "passes attention_2pass --rank M --same P=M",
    "explore --shape 1x4x4x4x4 --rows 2 --columns 2 --query-tiles 1 --bus 64 --workers 1",
    "info --config tiny --json",
]
VALUES = (
    *(
        "0",
        "-1",
        "1",
        "nan",
        "inf",
        "-inf",
        "1e300",
        "1e-320",
        "",
        " ",
        "x",
        "9" * 30,
        "9" * 5000,
        "0x10",
        "1_000",
        "\u0665",
        "=",
        "a=b",
    ),
    *(
        "rows=0",
        "rows=1e9",
        "rows=",
        "linear=2",
        "1:2",
        ":",
        "-5:3",
        "1x1",
        "1x2x3x4x5",
        "0x0x0x0x0",
        "/",
        ".",
        "/dev/null",
        "\x00",
        "P=P",
    ),
)
#: Commands that are done in a moment, whatever their options: they are run, too.
QUICK = {"info", "passes"}


@fuzzed
def test_command_lines(rng: random.Random) -> None:
    """Wrong usage ends with status 2, and what is run with 0 or 1; nothing else comes out."""
    words = rng.choice(COMMANDS).split()
    for _ in range(rng.choice((1, 1, 2, 3))):
        place = rng.randrange(len(words))
        new = rng.choice((rng.choice(VALUES), rng.choice(rng.choice(COMMANDS).split()), mutated(rng, words[place], VALUES)))
        words[place : place + rng.randrange(2)] = [new]
    quiet = io.StringIO()
    with contextlib.redirect_stderr(quiet), contextlib.redirect_stdout(quiet):
        try:
            options = PARSER.parse_args(words)
            if options.command in QUICK:
                assert main(words) in (0, 1)
        except SystemExit as stopped:
            assert stopped.code in (0, 2)


PARSER = parser()
