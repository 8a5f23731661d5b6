"""Simulate soc.v: a machine, a memory and a bus master in plain Verilog compute attention, bit for bit as the model does.

    python examples/soc/run.py [-o DIR] [--config CONFIG] [--simulator verilator|icarus]
                                   [--keys N] [--query-heads N] [--verilog DIR]

The host makes two files, which a system would have in its flash: the memory (descriptor, program, queries, keys, values),
and the list of register accesses that starts the machine. Needs the extra sim, a C++ compiler and make; or Icarus Verilog 11
or newer, in which registers and memories begin as X.
"""

import argparse
import os
import subprocess
import sys
from pathlib import Path

import numpy as np

import fusemax
from fusemax.spec import DESCRIPTOR, DESCRIPTOR_BYTES, DESCRIPTOR_STRIDE_BYTES, IDENTITY, INTERFACE_VERSION, register
from fusemax_hw.emit import emit
from fusemax_sim import toolchain
from fusemax_sim.build import MAKE_VARIABLES

HERE = Path(__file__).resolve().parent
SOURCES = ("axi_memory.v", "register_master.v", "soc.v", "soc_bench.v")
MEMORY_BYTES = 1 << 14
HEADS, QUERIES, HEAD_DIM = 2, 7, 16
#: Commands of register_master.v.
WRITE, EXPECT, WAIT = 1, 2, 3


def memory_before_and_after(config, query_heads, keys):
    """What is in memory before the job and after it: the model's, whose driver has put everything in its place."""
    q, k, v = (
        np.random.default_rng(seed).standard_normal((heads, length, HEAD_DIM), np.float32)
        for seed, heads, length in ((1, query_heads, QUERIES), (2, HEADS, keys), (3, HEADS, keys))
    )
    with fusemax.open("model", config, memory_bytes=MEMORY_BYTES) as device:
        result = fusemax.attention(q, k, v, device=device, out_dtype="float32")
        after = device.transport.memory.copy()
    # The one job is the ring's first descriptor; its output is not there yet.
    job = DESCRIPTOR.unpack(int.from_bytes(after[:DESCRIPTOR_BYTES].tobytes(), "little"))
    before = after.copy()
    before[job["o_address"] : job["o_address"] + query_heads * QUERIES * 4 * HEAD_DIM] = 0
    assert not np.array_equal(before, after)
    assert after[job["o_address"] :][: 4 * HEAD_DIM].view(np.float32).tolist() == result[0, 0].tolist()
    return before, after


def register_accesses():
    """(command, register, value): what fusemax_start and fusemax_ring of the C driver do, and a look at the outcome."""
    ring_log2 = 4
    return [
        (EXPECT, "IDENTITY", IDENTITY),
        (EXPECT, "VERSION", INTERFACE_VERSION),
        (WRITE, "RING_BASE_LOW", 0),
        (WRITE, "RING_BASE_HIGH", 0),
        (WRITE, "RING_SIZE_LOG2", ring_log2),
        # It may read all of the memory, and write behind the ring.
        (WRITE, "READ_WINDOW_LAST_LOW", MEMORY_BYTES - 1),
        (WRITE, "READ_WINDOW_LAST_HIGH", 0),
        (WRITE, "WRITE_WINDOW_FIRST_LOW", DESCRIPTOR_STRIDE_BYTES << ring_log2),
        (WRITE, "WRITE_WINDOW_LAST_LOW", MEMORY_BYTES - 1),
        (WRITE, "WRITE_WINDOW_LAST_HIGH", 0),
        (WRITE, "WATCHDOG", 10_000),
        (WRITE, "INTERRUPT_ENABLE", 3),
        (WRITE, "RING_TAIL", 1),
        (WAIT, "INTERRUPT", 0),
        (EXPECT, "ERROR_CAUSE", 0),
        (EXPECT, "STATUS", 0),
        (EXPECT, "RING_HEAD", 1),
        (EXPECT, "INTERRUPT", 1),
        (WRITE, "INTERRUPT", 3),
        (EXPECT, "INTERRUPT", 0),
    ]


def write_hex(path, memory, word_bytes):
    words = memory.reshape(-1, word_bytes)[:, ::-1]
    path.write_text("".join(f"{word.tobytes().hex()}\n" for word in words))


def read_hex(path, word_bytes):
    words = [line.split("//")[0].strip() for line in path.read_text().splitlines() if not line.startswith(("@", "//"))]
    return np.frombuffer(bytes.fromhex("".join(words)), np.uint8).reshape(-1, word_bytes)[:, ::-1].reshape(-1)


def verilator(verilog, parameters, directory):
    """Commands that build and run the bench with Verilator, and their environment."""
    root, cxx = toolchain.verilator_root(), toolchain.compiler()
    translate = [
        *(root / "bin" / "verilator_bin", "--cc", "--exe", "--main", "--timing", "--top-module", "soc_bench", "-Mdir", "build"),
        *("--prefix", "Vsoc", "-Wall", "-Wno-PROCASSINIT", "-Wno-BLKSEQ"),
        *(f"-G{name}={value}" for name, value in parameters.items()),
        *(verilog / "lint.vlt", *sorted(verilog.glob("*.v")), *(HERE / name for name in SOURCES)),
    ]
    # It is a short simulation: compiling it well would take longer.
    variables = {"CXX": cxx, "LINK": cxx, **MAKE_VARIABLES, "OPT_FAST": "-O0", "OPT_GLOBAL": "-O0"}
    make = [toolchain.make_program(), "-C", "build", "-f", "Vsoc.mk", *(f"{name}={value}" for name, value in variables.items())]
    return [translate, make, [directory / "build" / "Vsoc"]], {"VERILATOR_ROOT": str(root)}


def icarus(verilog, parameters, directory):
    """The same with Icarus Verilog."""
    values = [f"-Psoc_bench.{name}={value}" for name, value in parameters.items()]
    sources = [*sorted(verilog.glob("*.v")), *(HERE / name for name in SOURCES)]
    return [
        ["iverilog", "-g2005", "-Wall", "-s", "soc_bench", *values, "-o", "soc.vvp", *sources],
        ["vvp", "-N", "soc.vvp"],
    ], {}


SIMULATORS = {"verilator": verilator, "icarus": icarus}


def simulate(simulator, config, directory, verilog=None):
    """Build and run the bench in ``directory``, of a machine that may have been emitted before; returns what it prints."""
    if verilog is None:
        verilog = directory / "verilog"
        emit(config, verilog)
    parameters = {
        "ADDRESS_BITS": config.address_bits,
        "BUS_BITS": config.bus_bits,
        "MEMORY_WORDS": MEMORY_BYTES // config.bus_bytes,
    }
    steps, variables = SIMULATORS[simulator](verilog, parameters, directory)
    for step in steps:
        command = [str(part) for part in step]
        done = subprocess.run(command, cwd=directory, env=os.environ | variables, capture_output=True, text=True)
        if done.returncode or done.stderr:
            raise SystemExit(f"{done.stdout}{done.stderr}{command[0]} failed")
    return done.stdout


def main():
    parser = argparse.ArgumentParser(description="Simulate the system of soc.v.")
    parser.add_argument("-o", dest="directory", type=Path, default=Path("build/soc"), metavar="DIR")
    parser.add_argument("--config", default="tiny")
    parser.add_argument("--keys", type=int, default=13, metavar="N")
    parser.add_argument("--query-heads", type=int, default=HEADS, metavar="N", help=f"a multiple of the {HEADS} key heads")
    parser.add_argument("--simulator", choices=SIMULATORS, default="verilator")
    parser.add_argument("--verilog", type=Path, metavar="DIR", help="that of the machine; it is emitted if not given")
    options = parser.parse_args()
    config = fusemax.CONFIGS[options.config]
    directory = options.directory.resolve()
    directory.mkdir(parents=True, exist_ok=True)

    before, after = memory_before_and_after(config, options.query_heads, options.keys)
    write_hex(directory / "memory.hex", before, config.bus_bytes)
    accesses = [command << 44 | register(name).offset << 32 | value for command, name, value in register_accesses()]
    accesses += [0] * (64 - len(accesses))
    (directory / "list.hex").write_text("".join(f"{access:012x}\n" for access in accesses))

    verilog = options.verilog and options.verilog.resolve()
    print(simulate(options.simulator, config, directory, verilog).splitlines()[0])
    found = read_hex(directory / "memory_after.hex", config.bus_bytes)
    wrong = np.flatnonzero(found != after) if len(found) == len(after) else np.arange(1)
    print("memory is as the model's, byte for byte" if not len(wrong) else f"memory differs from byte {wrong[0]:#x} on")
    return 0 if not len(wrong) else 1


if __name__ == "__main__":
    sys.exit(main())
