"""Random attention problems: drawn from a configuration and a seed, run on the emitted Verilog, compared bit for bit.

A problem is run three times: on the Verilog with a memory that stalls, on the Verilog with one that does not, and on the
model. ``python -m fusemax_sim.problems CONFIG SEED`` repeats one of them.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

import fusemax
from fusemax import spec
from fusemax.errors import ScoreOverflowError
from fusemax.spec import Config

from .memory import Memory

__all__ = ["CONFIGS", "FAMILIES", "Disagreement", "Outcome", "Problem", "check", "differences", "draw", "run"]

#: Configurations by name: the shipped ones that Verilator compiles in a minute or two, and others with a value of each
#: structural parameter that those do not have.
CONFIGS: dict[str, Config] = {
    config.name: config
    for config in (
        spec.CONFIGS["tiny"],
        spec.CONFIGS["small"],
        spec.CONFIGS["base"],
        Config(name="odd3x5", rows=3, columns=5),
        Config(name="flat2x7", rows=2, columns=7, max_e=576, max_f=500, bus_bits=32, contexts=2, pe_latency=2, query_tiles=1),
        Config(name="tall9x2", rows=9, columns=2, max_e=37, max_f=5, bus_bits=256, contexts=5, pe_latency=5, query_tiles=3),
        Config(
            name="wide5x6",
            rows=5,
            columns=6,
            max_e=70,
            max_f=70,
            bus_bits=128,
            address_bits=32,
            outstanding_reads=1,
            pe_latency=3,
            score_bits=30,
            score_frac_bits=18,
        ),
    )
}

#: Longest P and M, and largest E and F.
MOST_ROWS, MOST_DIM = 70, 128
#: Seconds after which a call of some ten thousand cycles has failed.
TIMEOUT_S = 120.0
#: Counters that the model has as exactly as the machine with any memory; cycles and stalls depend on it.
EXACT_COUNTERS = (
    *("jobs", "tiles", "slots_qk", "slots_exp", "slots_sum", "slots_slnv", "slots_max", "slots_empty"),
    *("bytes_read", "bytes_written"),
)
#: Counters that divide the cycles among themselves.
CYCLE_COUNTERS = (
    *("slots_qk", "slots_exp", "slots_sum", "slots_slnv", "slots_empty"),
    *("stall_q", "stall_k", "stall_v", "stall_output", "idle"),
)
#: Cycles from the doorbell's acceptance to the interrupt, less those that the machine counts itself.
CYCLES_OUTSIDE = 2

Array = NDArray[Any]
Random = np.random.Generator


class Disagreement(AssertionError):
    """Two devices did not give the same."""


@dataclass(frozen=True)
class Problem:
    """One call of :func:`fusemax.attention`.

    Members
    -------
    leading
        Leading axes of the arrays.
    queries, keys, e, f
        P, M, E, F.
    family
        Which of :data:`FAMILIES` the numbers are from.
    in_dtype, out_dtype
        ``bfloat16`` or ``float32``.
    memory
        The memory that stalls.
    """

    config: Config
    seed: int
    leading: tuple[int, ...]
    queries: int
    keys: int
    e: int
    f: int
    family: str
    scale: float | None
    in_dtype: str
    out_dtype: str
    memory: Memory

    def arrays(self) -> tuple[Array, Array, Array]:
        """Queries, keys and values, each from a seed of its own."""
        q_random, k_random, v_random = (np.random.default_rng((self.seed, name)) for name in (1, 2, 3))
        q = q_random.standard_normal((*self.leading, self.queries, self.e))
        k = k_random.standard_normal((*self.leading, self.keys, self.e))
        v = v_random.standard_normal((*self.leading, self.keys, self.f))
        q, k, v = FAMILIES[self.family](np.random.default_rng((self.seed, 4)), q, k, v)
        dtype = np.dtype(np.float32 if self.in_dtype == "float32" else ml_dtypes.bfloat16)
        return q.astype(dtype), k.astype(dtype), v.astype(dtype)

    @property
    def command(self) -> str:
        """Shell command that repeats this problem alone."""
        if CONFIGS.get(self.config.name) == self.config:
            return f"python -m fusemax_sim.problems {self.config.name} {self.seed}"
        call = f"problems.check({self.config!r}, {self.seed})"
        return f'python -c "from fusemax import Config; from fusemax_sim import problems; {call}"'

    def __str__(self) -> str:
        shapes = f"leading axes {self.leading}, P {self.queries}, M {self.keys}, E {self.e}, F {self.f}"
        numbers = f"{self.family} {self.in_dtype}, scale {self.scale}, to {self.out_dtype}"
        return f"{self.config.name} seed {self.seed}: {shapes}, {numbers}, {self.memory}"


@dataclass(frozen=True)
class Outcome:
    """What a device made of a problem.

    Members
    -------
    bits
        The result's bits as unsigned integers; of no elements if there was an error.
    error
        Name of the exception, or nothing.
    counters
        All of them.
    outside_cycles
        Cycles from doorbell to interrupt as counted outside the device, 0 on the model.
    """

    bits: NDArray[np.unsignedinteger]
    error: str
    counters: dict[str, int]
    outside_cycles: int


# -- numbers -----------------------------------------------------------------------------------------------------------


def normal(random: Random, q: Array, k: Array, v: Array) -> tuple[Array, Array, Array]:
    return q, k, v


def peaked(random: Random, q: Array, k: Array, v: Array) -> tuple[Array, Array, Array]:
    """A few keys have all the weight."""
    return q * random.choice([4, 12, 40]), k, v


def constant(random: Random, q: Array, k: Array, v: Array) -> tuple[Array, Array, Array]:
    """All weights are equal; the values often are, too."""
    q, k = np.full_like(q, q.flat[0]), np.full_like(k, k.flat[0])
    return q, k, np.full_like(v, v.flat[0]) if random.random() < 0.5 else v


def outlier(random: Random, q: Array, k: Array, v: Array) -> tuple[Array, Array, Array]:
    """A column of the keys, a column and a row of the values are much larger than the rest."""
    k[..., random.integers(k.shape[-1])] *= 20
    v[..., random.integers(v.shape[-1])] *= 1000
    v[..., random.integers(v.shape[-2]), :] *= 2.0**20
    return q, k, v


def zeros(random: Random, q: Array, k: Array, v: Array) -> tuple[Array, Array, Array]:
    """Zeros of both signs and subnormal numbers among the others, some arrays of nothing else, some rows without a number."""
    for x in (q, k, v):
        small = np.array([0.0, -0.0, 2.0**-127, -(2.0**-130), 2.0**-133])
        chosen = random.random(x.shape) < random.choice([0.3, 0.9, 1.0], p=[0.6, 0.3, 0.1])
        x[chosen] = random.choice(small, np.count_nonzero(chosen))
        x[random.random(x.shape[:-1]) < 0.2] = -0.0
    return q, k, v


def spread(random: Random, q: Array, k: Array, v: Array) -> tuple[Array, Array, Array]:
    """Exponents all over bfloat16; the scores stay as they are, since each column of q is as small as that of k is large."""
    exponents = random.integers(-100, 101, q.shape[-1])
    v = np.ldexp(np.sign(v), random.integers(-126, 128, v.shape))
    return np.ldexp(q, exponents), np.ldexp(k, -exponents), v


def huge(random: Random, q: Array, k: Array, v: Array) -> tuple[Array, Array, Array]:
    """Values up to the largest of bfloat16, keys much larger than queries."""
    largest = float(ml_dtypes.finfo(ml_dtypes.bfloat16).max)
    return q * 2.0**-110, k * 2.0**110, np.clip(v * largest, -largest, largest)


def small(random: Random, q: Array, k: Array, v: Array) -> tuple[Array, Array, Array]:
    """Values about the smallest normal number, so that many results are below it; queries much larger than keys."""
    return q * 2.0**100, k * 2.0**-100, v * 2.0**-125


def rising(random: Random, q: Array, k: Array, v: Array) -> tuple[Array, Array, Array]:
    """Scores that rise (or fall) from key to key, so that every tile (or none) moves the reference."""
    step = random.choice([0.05, 0.7, 9.0]) * random.choice([1, -1])
    k = k * 0.1 + step * np.arange(k.shape[-2])[:, None] / k.shape[-1] ** 0.5
    return np.abs(q), k, v


def beyond(random: Random, q: Array, k: Array, v: Array) -> tuple[Array, Array, Array]:
    """Scores about the limit of their range: most problems overflow."""
    return q * 2.0**7, k * 2.0**7, v


#: Name to function of a random generator, q, k and v, which are normally distributed and may be changed.
FAMILIES: dict[str, Callable[[Random, Array, Array, Array], tuple[Array, Array, Array]]] = {
    function.__name__: function for function in (normal, peaked, constant, outlier, zeros, spread, huge, small, rising, beyond)
}
CHANCES = (0.2, 0.1, 0.1, 0.1, 0.1, 0.1, 0.08, 0.08, 0.1, 0.04)


# -- problems ----------------------------------------------------------------------------------------------------------


def draw(config: str | Config, seed: int) -> Problem:
    """The problem of that seed; ``config`` is a :class:`Config` or a name of :data:`CONFIGS`."""
    machine = CONFIGS[config] if isinstance(config, str) else config
    random = np.random.default_rng((seed, 0))

    def choose(*values: Any) -> Any:
        return values[random.integers(len(values))]

    def size(unit: int, most: int) -> int:
        """Any number up to ``most``, but often one at an edge."""
        edges = [edge for edge in (1, unit - 1, unit, unit + 1, 2 * unit, most) if 1 <= edge <= most]
        return choose(*edges) if random.random() < 0.35 else int(random.integers(1, most + 1))

    return Problem(
        config=machine,
        seed=seed,
        leading=choose((), (1,), (2,), (3,), (2, 2), (1, 2), (2, 1), (1, 2, 1)),
        queries=size(machine.columns, MOST_ROWS),
        keys=size(machine.rows, MOST_ROWS),
        e=size(machine.beat_elements, min(machine.max_e, MOST_DIM)),
        f=size(machine.beat_elements, min(machine.max_f, MOST_DIM)),
        family=str(random.choice(list(FAMILIES), p=CHANCES)),
        scale=choose(None, None, float(np.ldexp(random.uniform(1, 2) * choose(1, -1), int(random.integers(-5, 0))))),
        in_dtype=choose("bfloat16", "float32"),
        out_dtype=choose("bfloat16", "float32"),
        memory=Memory(
            width_bits=choose(None, machine.bus_bits),
            read_latency_cycles=choose(1, 2, 7, 60, 250),
            stall_probability=choose(0.05, 0.2, 0.5, 0.8),
            seed=seed,
            beat_interval_cycles=choose(1, 1, 2, 4),
            outstanding_bursts=choose(1, 2, 4, 64),
        ),
    )


def run(problem: Problem, device: fusemax.Device, timeout: float = TIMEOUT_S) -> Outcome:
    """Run a problem on an open device. Exceptions other than ScoreOverflowError are passed on."""
    q, k, v = problem.arrays()
    out_bits, error = np.zeros(0, np.uint16), ""
    try:
        out = fusemax.attention(q, k, v, problem.scale, device, out_dtype=problem.out_dtype, timeout=timeout)
        out_bits = out.view(np.uint16 if problem.out_dtype == "bfloat16" else np.uint32)
    except ScoreOverflowError as raised:
        error = type(raised).__name__
    # Read first: register accesses do not change it.
    outside_cycles = getattr(device.transport, "testbench_cycles", 0)
    return Outcome(out_bits, error, device.counters.values, outside_cycles)


def differences(problem: Problem, outcome: Outcome, model: Outcome) -> list[str]:
    """In what an outcome of the Verilog is not that of the model, or contradicts itself; empty if it is right.

    Cycles are compared if the problem's memory does not stall, which must be the default one then.
    """
    found = []
    ii = fusemax.compile(head_dim=problem.e, value_dim=problem.f, config=problem.config).ii
    if outcome.error != model.error:
        found.append(f"raised {outcome.error or 'nothing'}, the model {model.error or 'nothing'}")
    elif outcome.bits.shape != model.bits.shape:
        found.append(f"shape {outcome.bits.shape}, the model's {model.bits.shape}")
    else:
        wrong = np.argwhere(outcome.bits != model.bits)
        if len(wrong):
            first = tuple(int(index) for index in wrong[0])
            values = f"{int(outcome.bits[first]):#x}, the model's {int(model.bits[first]):#x}"
            found.append(f"{len(wrong)} of {outcome.bits.size} elements differ, first {first}: {values}")
    for name in EXACT_COUNTERS if problem.memory.stall_probability else model.counters:
        if outcome.counters[name] != model.counters[name]:
            found.append(f"{name} {outcome.counters[name]}, the model's {model.counters[name]}")
    cycles = outcome.counters["cycles"]
    after = sum(outcome.counters[name] for name in CYCLE_COUNTERS) - cycles
    # The iteration whose results were the last ones may end, in empty slots, after they are in memory.
    if not 0 <= after < ii:
        found.append(f"{cycles} cycles, but slots, stalls and idle are {cycles + after}")
    if outcome.outside_cycles != cycles + CYCLES_OUTSIDE:
        found.append(f"{cycles} cycles, but {outcome.outside_cycles} counted outside")
    return found


def check(config: str | Config, seed: int, timeout: float = TIMEOUT_S) -> dict[str, Any]:
    """Draw a problem, and run it with stalls, without stalls and on the model.

    Returns
    -------
    What it was and what it took, as plain numbers and strings.

    Raises
    ------
    Disagreement
        If anything differs; the message has the command that repeats it. Other exceptions name it in a note.
    """
    problem = draw(config, seed)
    try:
        outcomes = {}
        for name, memory in (("stalls", problem.memory), ("no stalls", Memory())):
            with fusemax.open("rtl", problem.config, memory=memory) as device:
                outcomes[name] = run(problem, device, timeout)
        with fusemax.open("model", problem.config) as device:
            model = run(problem, device, timeout)
    except BaseException as error:
        error.add_note(f"{problem}\nrepeat: {problem.command}")
        raise
    calm = replace(problem, memory=Memory())
    found = [
        f"{name}: {text}"
        for name, run_problem in (("stalls", problem), ("no stalls", calm))
        for text in differences(run_problem, outcomes[name], model)
    ]
    if found:
        raise Disagreement("\n".join([str(problem), *found, f"repeat: {problem.command}"]))
    return {
        "shape": [math.prod(problem.leading), problem.queries, problem.keys, problem.e, problem.f],
        "family": problem.family,
        "out_dtype": problem.out_dtype,
        "error": model.error,
        "cycles": outcomes["no stalls"].counters["cycles"],
        "cycles_with_stalls": outcomes["stalls"].counters["cycles"],
    }


def main() -> int:
    """``python -m fusemax_sim.problems CONFIG SEED``."""
    if len(sys.argv) != 3 or sys.argv[1] not in CONFIGS or not sys.argv[2].isdecimal():
        print(f"usage: python -m fusemax_sim.problems {{{','.join(CONFIGS)}}} SEED", file=sys.stderr)
        return 2
    print(draw(sys.argv[1], int(sys.argv[2])))
    try:
        print(check(sys.argv[1], int(sys.argv[2])))
    except Disagreement as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
