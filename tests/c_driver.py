"""The C driver for the tests: compiled once, called through ctypes, its registers in Python."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from fusemax.integration.write import driver_sources

__all__ = ["STATUS", "Array", "Driver", "Fault", "Job", "JobEnd", "Machine", "Program", "Settings", "Window", "compile_c"]

STATUS = ("OK", "BUSY", "FULL", "FAULT", "DRAINING", "ABSENT", "VERSION", "PROGRAM", "RANGE", "SPLIT")

U32, U64, I32 = ctypes.c_uint32, ctypes.c_uint64, ctypes.c_int32
READ = ctypes.CFUNCTYPE(U32, ctypes.c_void_p, U32)
WRITE = ctypes.CFUNCTYPE(None, ctypes.c_void_p, U32, U32)


def structure(name: str, *fields: tuple[str, type]) -> type[ctypes.Structure]:
    return type(name, (ctypes.Structure,), {"_fields_": fields})


def numbers(names: str, kind: type = U32) -> list[tuple[str, type]]:
    return [(name, kind) for name in names.split()]


Bus = structure("Bus", ("read", READ), ("write", WRITE), ("context", ctypes.c_void_p))
Machine = structure(
    "Machine",
    ("bus", Bus),
    *numbers("rows columns bus_bytes contexts max_e max_f query_tiles pe_latency"),
    ("ring", ctypes.c_void_p),
    *numbers("ring_size queued rung complete"),
)
Window = structure("Window", *numbers("first last", U64))
Settings = structure(
    "Settings",
    ("ring", ctypes.c_void_p),
    ("ring_address", U64),
    ("ring_size_log2", U32),
    ("read", Window),
    ("write", Window),
    *numbers("watchdog_cycles interrupts"),
)
Program = structure("Program", *numbers("ii e f tag"))
Array = structure("Array", ("address", U64), *numbers("row_stride share_stride head_stride batch_stride"))
Job = structure(
    "Job",
    ("program", ctypes.POINTER(Program)),
    ("program_address", U64),
    *numbers("batch heads share queries keys"),
    ("scale", ctypes.c_double),
    *((name, Array) for name in "qkvo"),
    *numbers("float32_out interrupt", ctypes.c_int),
    *numbers("mask_lo mask_hi", I32),
)
Fault = structure("Fault", ("cause", U32), ("address", U64), ("job", U32))
JobEnd = structure("JobEnd", ("cycles", U64), *numbers("nonfinite overflow", ctypes.c_int))


def compile_c(directory: Path, *arguments: str | Path, language: str = "c99") -> None:
    """Write the driver's files to ``directory`` and compile there, with all warnings as errors."""
    name = "g++" if language.startswith("c++") else "gcc"
    compiler = shutil.which(name)
    if compiler is None:
        pytest.skip(f"{name} is not there: apt-get install {name}")
    for file, text in driver_sources().items():
        (directory / file).write_text(text)
    options = ["-x", language[:3] if name == "g++" else "c", f"-std={language}"]
    options += ["-Wall", "-Wextra", "-pedantic", "-Wconversion", "-Werror", "-O1", f"-I{directory}"]
    command = [compiler, *options, *map(str, arguments)]
    done = subprocess.run(command, cwd=directory, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr


class Driver:
    """Functions of the driver's library by their names without ``fusemax_``; statuses come as text."""

    def __init__(self, library: Path) -> None:
        self._library = ctypes.CDLL(str(library))
        self._library.fusemax_pack.restype = U64
        self._library.fusemax_counter.restype = U64
        self._library.fusemax_status_text.restype = self._library.fusemax_cause_text.restype = ctypes.c_char_p

    def __getattr__(self, name: str) -> Callable[..., str]:
        function = getattr(self._library, f"fusemax_{name}")
        return lambda *arguments: STATUS[function(*arguments)]

    def number(self, name: str, *arguments: object) -> int:
        return getattr(self._library, f"fusemax_{name}")(*arguments)

    def text(self, name: str, code: int) -> str:
        return getattr(self._library, f"fusemax_{name}_text")(code).decode()

    def open(self, read: Callable[[int], int], write: Callable[[int, int], None]) -> tuple[str, ctypes.Structure]:
        """Status and machine. An exception in ``read`` or ``write`` would be lost: pytest makes an error of it."""
        machine = Machine()
        bus = Bus(READ(lambda _, offset: read(offset)), WRITE(lambda _, offset, value: write(offset, value)), None)
        machine.kept_alive = bus
        return STATUS[self._library.fusemax_open(ctypes.byref(machine), ctypes.byref(bus))], machine
