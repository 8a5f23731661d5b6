"""Generated header and page: as committed, accepted by compilers, and with the numbers that Layout packs."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from fusemax.spec import COUNTERS, DESCRIPTOR, MICROWORD, PROGRAM_HEADER, REGISTERS, Field, Layout, counter_offset
from fusemax.spec.export import c_header, main, markdown, words

ROOT = Path(__file__).resolve().parents[3]


def macros() -> dict[str, int]:
    found = re.findall(r"^#define FUSEMAX_(\w+) +(0x[0-9A-F]+|\d+)u?(?: |$)", c_header(), re.MULTILINE)
    assert len(found) == c_header().count("#define") - 1  # the guard has no value
    values = {name: int(value, 0) for name, value in found}
    assert len(values) == len(found)
    return values


@pytest.mark.parametrize(("path", "text"), [("tests/golden/fusemax.h", c_header), ("docs/reference/registers.md", markdown)])
def test_committed_files_are_current(path, text):
    assert (ROOT / path).read_text(encoding="utf-8") == text(), f"{path} must be regenerated: make docs"


def test_macros_of_registers_and_counters():
    values = macros()
    for register in REGISTERS:
        assert values[f"REG_{register.name}"] == register.offset
        for offset, field in register.fields.placed() if register.fields else ():
            assert values[f"{register.name}_{field.name}_SHIFT".upper()] == offset
            assert values[f"{register.name}_{field.name}_MASK".upper()] == register.fields.pack(
                {field.name: (1 << field.bits) - 1}
            )
    for name, _ in COUNTERS:
        assert values[f"COUNTER_{name}".upper()] == counter_offset(name)


@pytest.mark.parametrize(
    ("prefix", "layout"), [("DESCRIPTOR", DESCRIPTOR), ("PROGRAM", PROGRAM_HEADER), ("MICROWORD", MICROWORD)]
)
def test_macros_write_what_pack_packs(prefix, layout):
    """A C program that ors ``value << SHIFT & MASK`` into the word at OFFSET writes the bytes of Layout.pack."""
    values = macros()
    for field in layout.fields:
        if field.name.startswith("_"):
            continue
        number = 0x0123_4567_89AB_CDEF >> 3 & (1 << field.bits) - 1
        name = f"{prefix}_{field.name}".upper()
        offset = values.get(f"{name}_OFFSET", 0)
        written = number << values[f"{name}_SHIFT"] & values[f"{name}_MASK"] if field.bits <= 32 else number
        signed = field.signed and number >> field.bits - 1
        assert written << 8 * offset == layout.pack({field.name: number - (signed << field.bits)})


@pytest.mark.parametrize(
    ("compiler", "language", "standard"), [("g++", "c", "c99"), ("g++", "c++", "c++98"), ("g++", "c++", "c++20")]
)
def test_header_compiles_without_warnings(tmp_path, compiler, language, standard):
    path = shutil.which(compiler)
    if path is None:
        pytest.skip(f"{compiler} is not there: apt-get install {compiler}")
    (tmp_path / "fusemax.h").write_text(c_header())
    names = sorted(macros())
    text = '#include "fusemax.h"\n#include "fusemax.h"\nunsigned long values[] = {'
    text += ", ".join(f"FUSEMAX_{name}" for name in names) + "};\n#if FUSEMAX_REG_STATUS != 0x14\n#error offset\n#endif\n"
    options = [
        "-x",
        language,
        f"-std={standard}",
        "-Wall",
        "-Wextra",
        "-pedantic",
        "-Werror",
        "-fsyntax-only",
        "-I",
        str(tmp_path),
    ]
    done = subprocess.run([path, *options, "-"], input=text, text=True, capture_output=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr


def test_page_names_everything():
    page = markdown()
    names = [r.name for r in REGISTERS] + [name for name, _ in COUNTERS]
    names += [f.name for layout in (DESCRIPTOR, MICROWORD, PROGRAM_HEADER) for f in layout.fields if not f.name.startswith("_")]
    assert [name for name in names if f"`{name}`" not in page] == []
    assert "_reserved" not in page


def test_main_writes_both(tmp_path):
    assert main([str(tmp_path / "a.h"), str(tmp_path / "b.md")]) == 0
    assert (tmp_path / "a.h").read_text() == c_header()
    assert (tmp_path / "b.md").read_text() == markdown()


def test_main_refuses_other_suffixes(tmp_path, capsys):
    with pytest.raises(SystemExit):
        main([str(tmp_path / "a.txt")])
    assert "FILE must end in .h or .md, not 'a.txt'" in capsys.readouterr().err


def test_fields_must_not_cross_words():
    layout = Layout("Bad", "", (Field("a", 30, ""), Field("b", 4, "")))
    with pytest.raises(ValueError, match=r"^Bad.b must lie in one 32-bit word or fill words, not bits 30 on$"):
        list(words(layout))
