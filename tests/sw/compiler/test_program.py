"""Programs as bytes and as text."""

from __future__ import annotations

import zlib
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fusemax
from fusemax.compiler.program import Program
from fusemax.errors import ProgramError
from fusemax.spec import CONFIGS, MICROWORD, PROGRAM_VERSION, Op

SMALL = CONFIGS["small"]


def word_of(fields: dict[str, int]) -> int:
    """A microword; the index of SET and ADD is a significand, -255 to 255, in two's complement."""
    if fields["op"] in (Op.SET, Op.ADD):
        fields = {**fields, "index": (fields["index"] % 511 - 255) % 1024}
    return MICROWORD.pack(fields)


words = st.fixed_dictionaries(
    {
        "op": st.sampled_from(list(Op)),
        "stage": st.integers(0, 15),
        "index": st.integers(0, 1023),
        **{flag: st.integers(0, 1) for flag in ("first", "last", "max", "mask")},
    }
).map(word_of)
some_operation = MICROWORD.pack({"op": Op.EXP, "stage": 2})
programs = st.builds(
    lambda e, f, before, after: Program(SMALL, e, f, (*before, some_operation, *after)),
    st.integers(1, 64),
    st.integers(1, 64),
    st.lists(words, max_size=20),
    st.lists(words, max_size=20),
)


@settings(max_examples=100, deadline=None)
@given(programs)
def test_bytes_round_trip(program: Program) -> None:
    assert Program.from_bytes(program.to_bytes(), SMALL) == program


@settings(max_examples=100, deadline=None)
@given(programs)
def test_text_round_trip(program: Program) -> None:
    assert Program.from_listing(program.listing(), SMALL) == program


def test_layout_of_the_bytes() -> None:
    program = fusemax.compile(head_dim=8)
    data = program.to_bytes()
    assert data[:4] == b"FMAX"
    assert int.from_bytes(data[4:6], "little") == PROGRAM_VERSION
    assert int.from_bytes(data[6:8], "little") == program.ii == 18
    assert int.from_bytes(data[12:16], "little") == program.tag == zlib.crc32(data[16:])
    assert int.from_bytes(data[16:20], "little") == program.microwords[0]
    assert len(data) == 16 + 4 * 18


FUNCTIONS = replace(SMALL, name="functions", functions=True, entropy=True)


@pytest.mark.parametrize("cascade", ["sigmoid_attention", "attention_entropy", "attention_1pass"])
def test_text_of_every_operation(cascade: str) -> None:
    program = fusemax.compile(cascade, head_dim=8, config=FUNCTIONS)
    assert Program.from_listing(program.listing(), FUNCTIONS) == program
    flags = {"fixed_reference": program.fixed_reference, "spare_hold": program.spare_hold}
    assert Program.from_bytes(program.to_bytes(), FUNCTIONS, **flags) == program


def test_constants_in_text() -> None:
    lines = fusemax.compile("sigmoid_attention", head_dim=8, config=FUNCTIONS).listing().splitlines()
    assert ".flags fixed_reference spare_hold" in lines
    operations = [line.split("#")[0].split()[1:] for line in lines if line.split(":")[0].strip().isdecimal()]
    assert ["ADD", "stage=0", "src=aux", "const=-234*2^-11", "first"] in operations
    assert ["SET", "stage=0", "src=aux", "dst=aux", "const=-250*2^-6"] in operations
    assert ["EXP", "0", "stage=0", "dst=aux", "first"] in operations
    assert ["EXP", "0", "stage=1", "const=2"] in operations
    assert any("MAX" in line and "max" in line and "dst=aux" in line for line in lines), "a move of the tile's own"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("0: SET const=3", r"const of SET must be sig\*2\^k, not '3'"),
        ("0: EXP const=3*2^1", r"const of EXP must be a whole number, not '3\*2\^1'"),
        ("0: ADD const=256*2^0", "the significand of const must be from -255 to 255, not 256"),
        ("0: ADD const=1*2^99", r"k must be from -?\d+ to \d+ in a constant"),
        ("0: ADD src=spare const=1*2^0", "src must be aux, not 'spare'"),
        (".flags fast", "a flag must be one of fixed_reference, spare_hold, not 'fast'"),
    ],
)
def test_constants_that_are_none(line: str, message: str) -> None:
    with pytest.raises(ProgramError, match=f"line 3: {message}"):
        Program.from_listing(f".e 1\n.f 1\n{line}", FUNCTIONS)


def changed(data: bytes, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda data: data[:15], "must have a header of 16 bytes, not 15"),
        (lambda data: changed(data, 0), "magic must be 0x58414d46, not 0x58414d47"),
        (lambda data: changed(data, 4), "version must be 0x3, not 0x2"),
        (lambda data: data[:-1], "of 18 microwords must have 88 bytes, not 87"),
        (lambda data: data + b"\0", "of 18 microwords must have 88 bytes, not 89"),
        (lambda data: changed(data, 6), "of 19 microwords must have 92 bytes, not 88"),
        (lambda data: changed(data, 12), "tag must be the CRC-32 of its microwords"),
        (lambda data: changed(data, 40), "tag must be the CRC-32 of its microwords"),
    ],
)
def test_bytes_that_are_no_program(edit, message: str) -> None:
    with pytest.raises(ProgramError, match=message):
        Program.from_bytes(edit(fusemax.compile(head_dim=8).to_bytes()))


def test_words_are_checked() -> None:
    with pytest.raises(ProgramError, match=f"for 'small' must have 1 to {SMALL.program_words} microwords, not 0"):
        Program(SMALL, 8, 8, ())
    with pytest.raises(ProgramError, match="must have 1 to"):
        Program(SMALL, 8, 8, (0,) * (SMALL.program_words + 1))
    with pytest.raises(ProgramError, match="microword 1 must have 32 bits, not 0x100000000"):
        Program(SMALL, 8, 8, (0, 1 << 32))


def test_listing_can_be_read() -> None:
    lines = fusemax.compile(head_dim=8).listing().splitlines()
    assert lines[0] == "# small: 8 rows, 8 columns, 2 hold registers"
    assert lines[2:4] == [".e 8", ".f 8"]
    assert lines[5].split() == "0: QK 0 stage=0 first max # 0, MAX 18".split()
    assert lines[6].split() == "1: SUM 8 stage=2 mask # 37, MASK 1".split()
    assert len(lines) == 5 + 18


def test_listing_of_empty_slots() -> None:
    lines = fusemax.compile(head_dim=1).listing().splitlines()
    assert any(line.split() == f"{at}: NOP 0 stage=0".split() for at, line in enumerate(lines[5:]))


def test_text_by_hand() -> None:
    program = Program.from_listing(".e 2\n.f 1\n 0: QK 0 stage=0 first max\n# nothing\n3: EXP stage=4  # weights\n")
    assert (program.e, program.f) == (2, 1)
    assert program.microwords == (
        MICROWORD.pack({"op": Op.QK, "first": 1, "max": 1}),
        0,
        0,
        MICROWORD.pack({"op": Op.EXP, "stage": 4}),
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("0: QK 0 stage=x", "line 1: must be 'slot: operation"),
        ("QK 0", "line 1: must be 'slot: operation"),
        (".g 3", "line 1: must be 'slot: operation"),
        (".e 1\n0: MUL 0", "line 2: the operation must be one of NOP, QK, EXP, SUM, SLNV, LIN, SET, ADD, ENT, BIAS, not 'MUL'"),
        ("0: QK 0 stage=1 third", "line 1: a flag must be one of first, last, max, mask, not 'third'"),
        ("0: QK 0 stage=16", "line 1: Microword.stage must be from 0 to 15, not 16"),
        ("0: QK 1024", "line 1: Microword.index must be from 0 to 1023, not 1024"),
        ("0: QK 0\n0: NOP", "line 2: slot 0 must be named once, not again"),
        (".e 4\n0: QK 0", r"must say \.f"),
        (".e 4\n.f 4\n", "must have 1 to"),
        (".e 4\n.f 4\n999999999999: NOP", "line 3: the slot must be from 0 to 255, not 999999999999"),
    ],
)
def test_text_that_is_no_program(text: str, message: str) -> None:
    with pytest.raises(ProgramError, match=message):
        Program.from_listing(text)


def test_words_that_text_cannot_say() -> None:
    with pytest.raises(ProgramError, match="the significand of microword 1 must be from -255 to 255, not 256"):
        Program(SMALL, 8, 8, (some_operation, MICROWORD.pack({"op": Op.SET, "index": 256}))).listing()
    with pytest.raises(ProgramError, match=r"the operation of microword 1 must be one of NOP, QK, .*, BIAS, not 15"):
        Program(SMALL, 8, 8, (some_operation, 15)).listing()
    with pytest.raises(ProgramError, match="must hold an operation"):
        Program(SMALL, 8, 8, (0, 0)).listing()


def test_schedule_of_a_program_read_from_bytes() -> None:
    program = fusemax.compile(head_dim=16, value_dim=5)
    assert Program.from_bytes(program.to_bytes()).schedule == program.schedule
    assert program.stages == program.schedule.stages == 3
