"""Measuring a case on the emitted Verilog, or modelling it."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...api.attention import attention
from ...compiler.compilation import compile as compile_program
from ...compiler.program import Program
from ...model.cycles import IdealMemory, cycles
from ...opening import open_device, simulated_memory
from ...planning.memory_map import Shape
from ...planning.residency import residency
from ...runtime.device import MEMORY_BYTES, Device
from ...spec import Config, ceil_div
from .case import Case
from .paper import paper_utilisation

__all__ = ["Digests", "check", "measure", "opened", "random_problem", "simulated"]

#: More cycles than these from the doorbell to the interrupt, counted by the testbench, would mean another thing is counted.
COUNT_TOLERANCE_CYCLES = 8
STALLS = ("stall_q", "stall_k", "stall_v", "stall_output", "idle", "slots_empty")


def random_problem(case: Case) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
    """Q, K and V of a case, from three seeds."""
    shapes = ((case.queries, case.e), (case.keys, case.e), (case.keys, case.f))
    q, k, v = (
        np.random.default_rng(seed).standard_normal((case.heads, *shape), dtype=np.float32) for seed, shape in enumerate(shapes)
    )
    return q, k, v


class Digests:
    """Digest of what a row is measured on: Verilog of the machine, program, groups of query tiles, simulated board."""

    def __init__(self) -> None:
        self._verilog: dict[Config, str] = {}
        self._board = ""

    def of(self, case: Case, program: Program | None = None) -> str:
        """``program`` is the default one if not given."""
        config = case.machine
        program = program or compile_program(head_dim=case.e, value_dim=case.f, config=config)
        groups = residency(config, case.e, case.f, case.queries, case.keys)
        parts = (self._verilog_of(config), program.to_bytes().hex(), repr(groups), self._board_digest())
        return hashlib.sha256("\0".join(parts).encode()).hexdigest()

    def _verilog_of(self, config: Config) -> str:
        if config not in self._verilog:
            from fusemax_sim.emission import verilog_digest

            self._verilog[config] = verilog_digest(config)
        return self._verilog[config]

    def _board_digest(self) -> str:
        if not self._board:
            import fusemax_sim

            digest = hashlib.sha256()
            for path in sorted((Path(fusemax_sim.__file__).parent / "verilog").glob("*.*")):
                # Waveforms do not change what is measured.
                digest.update(path.read_bytes())
            self._board = digest.hexdigest()
        return self._board


@contextmanager
def opened(case: Case) -> Iterator[tuple[Device, Device]]:
    """The simulated device of a case, and the bit-exact model of the same machine."""
    memory = simulated_memory()(read_latency_cycles=case.latency_cycles, beat_interval_cycles=case.beat_interval_cycles)
    room = memory_of(case)
    with (
        open_device("rtl", case.config, memory=memory, memory_bytes=room) as device,
        open_device("model", case.config, memory_bytes=room) as model,
    ):
        yield device, model


def memory_of(case: Case) -> int:
    """Device memory for a case: more than enough, since pages that nothing is written to cost nothing."""
    row_bytes = 2 * (case.e + case.f) + 4 * case.machine.bus_bytes
    array_bytes = 2 * case.heads * (case.queries + case.keys) * row_bytes
    return MEMORY_BYTES + ceil_div(array_bytes, case.machine.bus_bytes) * case.machine.bus_bytes


def measure(
    case: Case, device: Device, model: Device, timeout: float | None = None, program: Program | None = None
) -> dict[str, Any]:
    """Run a case on ``device`` and describe it; the results are compared with those of ``model``.

    ``program`` is the default one if not given.
    """
    problem = random_problem(case)
    started = time.perf_counter()
    result = attention(*problem, device=device, timeout=timeout, program=program)
    seconds = time.perf_counter() - started
    counters = device.counters
    testbench_cycles: int = device.transport.testbench_cycles  # type: ignore[attr-defined]
    expected = attention(*problem, device=model, program=program)
    return {
        **describe(case, counters.cycles),
        "kind": "RTL",
        "testbench_cycles": testbench_cycles,
        "kilocycles_per_second": round(counters.cycles / seconds / 1000, 1),
        "bits_as_model": bool(np.array_equal(result.view(np.uint16), expected.view(np.uint16))),
        "bytes_read": counters.bytes_read,
        "bytes_written": counters.bytes_written,
        **{name: counters.values[name] for name in STALLS},
    }


def simulated(case: Case) -> dict[str, Any]:
    """A case in the cycle model."""

    program = compile_program(head_dim=case.e, value_dim=case.f, config=case.machine)
    shape = Shape(heads=case.heads, queries=case.queries, keys=case.keys, e=case.e, f=case.f)
    memory = IdealMemory(read_latency_cycles=case.latency_cycles, beat_interval_cycles=case.beat_interval_cycles)
    counts = cycles(program, shape, memory)
    return {
        **describe(case, counts.cycles),
        "kind": "model",
        "bytes_read": counts.bytes_read,
        "bytes_written": counts.bytes_written,
        **{name: counts.values[name] for name in STALLS},
    }


def describe(case: Case, cycles: int) -> dict[str, Any]:
    """What a row says of a case that took so many cycles."""
    return {
        **case.parameters(),
        "cycles": cycles,
        "utilisation": round(case.utilisation(cycles), 5),
        "limit": round(case.limit, 5),
        "paper": round(paper_utilisation(case.e, case.f, case.keys, case.machine.rows), 5),
    }


def check(case: Case, row: dict[str, Any]) -> list[str]:
    """What is wrong with a row; nothing if all is as it must be."""
    wrong = []
    # The row's own figure is rounded.
    if case.target is not None and (utilisation := case.utilisation(row["cycles"])) < case.target:
        wrong.append(f"utilisation must be at least {case.target}, not {utilisation:.6f}")
    if row["kind"] == "RTL":
        if not row["bits_as_model"]:
            wrong.append("the result must be the model's, bit for bit")
        if abs(row["testbench_cycles"] - row["cycles"]) > COUNT_TOLERANCE_CYCLES:
            wrong.append(f"the testbench must count as the device, {row['cycles']} cycles, not {row['testbench_cycles']}")
    return wrong
