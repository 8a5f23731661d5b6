"""The C driver and the example's C function, as a program of their own, on the emitted Verilog."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import numpy as np
import pytest
from c_driver import STATUS, compile_c

import fusemax
from fusemax.spec import CONFIGS, register
from fusemax_sim.bench_commands import Command, Request
from fusemax_sim.build import build
from fusemax_sim.memory import Memory
from fusemax_sim.process import START_SECONDS, SimulatorProcess

pytestmark = pytest.mark.cosim

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "soc"
BUS = Path(__file__).with_name("simulated_bus.c")
MEMORY_BYTES = 1 << 16
HEADS, QUERIES, KEYS, E, F = 2, 11, 21, 12, 20


@pytest.fixture(scope="module", params=["c99", "c++11"])
def program(request, tmp_path_factory) -> Path:
    directory = tmp_path_factory.mktemp("c")
    sources = ("fusemax_driver.c", EXAMPLE / "attention.c", BUS)
    # The bench needs mmap; driver and example need no more than the language.
    compile_c(directory, f"-I{EXAMPLE}", "-D_POSIX_C_SOURCE=200809L", *sources, "-o", "simulated_bus", language=request.param)
    return directory / "simulated_bus"


def run(program: Path, directory: Path, memory: Memory, memory_bytes: int = MEMORY_BYTES):
    """Outcome of the program, and its operands."""
    config = CONFIGS["tiny"]
    image = directory / "program.bin"
    image.write_bytes(fusemax.compile(head_dim=E, value_dim=F, config=config).to_bytes())
    shapes = ((HEADS, QUERIES, E), (HEADS, KEYS, E), (HEADS, KEYS, F))
    floats = [np.random.default_rng(seed).standard_normal(shape, np.float32) for seed, shape in enumerate(shapes)]
    bits = [(array.view(np.uint32) >> 16).astype("<u2") for array in floats]
    call = directory / "call.bin"
    call.write_bytes(b"".join(array.tobytes() for array in bits))
    arguments = [*memory.plusargs(), f"+doorbell={register('RING_TAIL').offset}"]
    file = os.memfd_create("memory")
    try:
        os.ftruncate(file, memory_bytes)
        simulator = SimulatorProcess(build(config), arguments, file)
        try:
            # The first command runs through reset.
            simulator.send(Request(Command.RUN, cycles=1))
            assert simulator.receive(START_SECONDS) is not None
            # Python's time limits make a socket one that does not block; the program's reads wait.
            simulator.socket.setblocking(True)
            socket = simulator.socket.fileno()
            sizes = (memory_bytes, image, call, HEADS, QUERIES, KEYS, E, F)
            command = [program, socket, file, *sizes]
            done = subprocess.run(
                [str(part) for part in command], pass_fds=(socket, file), capture_output=True, timeout=60, check=False
            )
        finally:
            simulator.kill()
    finally:
        os.close(file)
    return done, [(array.astype(np.uint32) << 16).view(np.float32) for array in bits]


def test_results_are_the_models(program, tmp_path):
    done, operands = run(program, tmp_path, Memory(stall_probability=0.1, seed=5))
    assert done.returncode == 0, done.stderr
    with fusemax.open("model", "tiny") as device:
        expected = fusemax.attention(*operands, scale=0.25, device=device, out_dtype="float32")
    assert done.stdout == expected.astype("<f4").tobytes()


@pytest.mark.parametrize(
    ("memory", "memory_bytes", "status", "cause"),
    [
        (Memory(read_errors=(0x1000, 0x1008)), MEMORY_BYTES, "FAULT", b"a read was answered with an error"),
        (Memory(write_errors=(0x1800, MEMORY_BYTES)), MEMORY_BYTES, "FAULT", b"a write was answered with an error"),
        (Memory(), 0x1800, "RANGE", b"out of range"),
    ],
    ids=["read", "write", "memory too small"],
)
def test_what_fails_is_reported(program, tmp_path, memory, memory_bytes, status, cause):
    done, _ = run(program, tmp_path, memory, memory_bytes)
    assert done.returncode == STATUS.index(status), done.stderr
    assert cause in done.stderr
    assert done.stdout == b""
