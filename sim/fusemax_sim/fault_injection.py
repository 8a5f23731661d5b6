"""Faults at random times: memories that answer with errors or not at all, wrong descriptors and programs, aborts and resets.

An injection queues some jobs on the emitted Verilog and lets something go wrong. The machine must stop by itself or go on,
tell what it was, come out of a reset, write nothing but the output of its jobs, and do the next jobs right.
``python -m fusemax_sim.fault_injection CONFIG SEED [COUNT]`` repeats some of them.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache
from typing import Any

import numpy as np

import fusemax
from fusemax.spec import (
    DESCRIPTOR,
    DESCRIPTOR_BYTES,
    DESCRIPTOR_STRIDE_BYTES,
    EXACT_CAUSES,
    PROGRAM_HEADER,
    Cause,
    Config,
    Descriptor,
    register,
)

from .memory import Failure, Memory
from .problems import CONFIGS, Disagreement
from .recorded_calls import RecordedCall, record_call
from .rtl_transport import RtlTransport

__all__ = ["KINDS", "FaultInjector", "inject_faults"]

RING_SIZE_LOG2 = 7
RING_BYTES = DESCRIPTOR_STRIDE_BYTES << RING_SIZE_LOG2
PIECE_BYTES = 1 << 15
#: Cycles without progress; more than any of the memories needs for a word.
WATCHDOG = 3000
#: Cycles after which jobs that go on are aborted: a wrong descriptor may ask for more than anyone can wait for.
PATIENCE = 200_000
#: Cycles in which a machine stops that has nothing to wait for.
SHORT = 20_000
UNTOUCHED = 0x3C

Random = np.random.Generator


def _call(config: Config, q: tuple[int, ...], k: tuple[int, ...], f: int, **options: Any) -> Callable[[fusemax.Device], Any]:
    """A call with arrays of these shapes, as far as the machine's head dims go."""
    e, f = min(q[-1], config.max_e), min(f, config.max_f)
    shapes = ((*q[:-1], e), (*k, e), (*k, f))
    arrays = [np.random.default_rng((7, name)).standard_normal(shape, np.float32) for name, shape in enumerate(shapes)]
    return lambda device: fusemax.attention(*arrays, device=device, **options)


@lru_cache(maxsize=8)
def calls_of(config: Config) -> tuple[RecordedCall, ...]:
    """Jobs of several kinds, recorded once: heads, float32, masks and skipped tiles, shared keys and states, chains."""
    state = {"return_lse": True} if config.bus_bits >= 64 else {}
    calls = (
        _call(config, (2, 9, 6), (2, 11), 7),
        _call(config, (14, 20), (9,), 12, out_dtype="float32"),
        _call(config, (30, 8), (30,), 8, causal=True),
        _call(config, (4, 6, 8), (2, 20), 8, window=(9, 2), **state),
        _call(config, (40, 6), (60,), 9, prefix=5, window=(8, 0)),
    )
    return tuple(record_call(config, call) for call in calls)


class FaultInjector:
    """A machine, its memory, and the calls in it; context manager.

    Parameters
    ----------
    config
        Name of a configuration.
    seed
        Of the memory's timing, and of the injections, one after the other.
    """

    def __init__(self, config: str, seed: int) -> None:
        self.config = CONFIGS[config]
        self.calls = calls_of(self.config)
        longest = max(len(call.before) for call in self.calls)
        if longest > PIECE_BYTES:
            raise ValueError(f"a call must have at most {PIECE_BYTES} bytes, not {longest}")
        self.random = np.random.default_rng((seed, 11))
        timing = Memory(
            read_latency_cycles=int(self.random.choice([1, 5, 60, 200])),
            stall_probability=float(self.random.choice([0, 0.1, 0.5])),
            seed=seed,
            beat_interval_cycles=int(self.random.choice([1, 1, 3])),
            outstanding_bursts=int(self.random.choice([1, 4, 256])),
        )
        self.transport = RtlTransport(self.config, timing, memory_bytes=RING_BYTES + PIECE_BYTES * len(self.calls))
        self._start()

    def __enter__(self) -> FaultInjector:
        return self

    def __exit__(self, *_: object) -> None:
        self.transport.close()

    # -- registers ---------------------------------------------------------------------------------------------

    def __getitem__(self, name: str) -> int:
        return self.transport.read_register(register(name).offset)

    def __setitem__(self, name: str, value: int) -> None:
        self.transport.write_register(register(name).offset, value)

    def status(self) -> dict[str, int]:
        layout = register("STATUS").fields
        assert layout is not None
        return layout.unpack(self["STATUS"])

    def window(self, kind: str, first: int, last: int) -> None:
        """``READ`` or ``WRITE``: the bytes that may be."""
        for bound, address in (("FIRST", first), ("LAST", last)):
            self[f"{kind}_WINDOW_{bound}_LOW"] = address & 0xFFFF_FFFF
            self[f"{kind}_WINDOW_{bound}_HIGH"] = address >> 32

    def _start(self) -> None:
        self["RING_SIZE_LOG2"] = RING_SIZE_LOG2
        self["INTERRUPT_ENABLE"] = 3
        self["WATCHDOG"] = WATCHDOG
        for kind in ("READ", "WRITE"):
            self.window(kind, 0, (1 << 64) - 1)

    # -- memory ------------------------------------------------------------------------------------------------

    def base(self, call: int) -> int:
        """Where a call lies."""
        return RING_BYTES + call * PIECE_BYTES

    def _piece(self, call: int) -> np.ndarray:
        return self.transport.memory[self.base(call) :][: len(self.calls[call].before)]

    def fill(self) -> None:
        """Memory as before all jobs."""
        self.transport.memory[:] = UNTOUCHED
        for index, call in enumerate(self.calls):
            piece = self._piece(index)
            piece[:] = np.where(call.output, UNTOUCHED, call.before)

    def queue(self, calls: list[int]) -> int:
        """Write the calls' descriptors, from the ring's begin on; the number of jobs."""
        jobs = [job for call in calls for job in self.calls[call].placed(self.base(call))]
        for index, job in enumerate(jobs):
            self.put(index, replace(job, interrupt=int(index == len(jobs) - 1)))
        return len(jobs)

    def put(self, index: int, job: Descriptor) -> None:
        image = job.pack().to_bytes(DESCRIPTOR_BYTES, "little")
        self.transport.memory[index * DESCRIPTOR_STRIDE_BYTES :][:DESCRIPTOR_BYTES] = np.frombuffer(image, np.uint8)

    def is_right(self, call: int) -> bool:
        """Whether the call's output is there."""
        entry = self.calls[call]
        return bool((self._piece(call)[entry.output] == entry.after[entry.output]).all())

    # -- an injection --------------------------------------------------------------------------------------------

    def inject(self) -> dict[str, Any]:
        """One injection and the jobs behind it: what it was and what came of it.

        Raises
        ------
        Disagreement
            If the machine hangs, writes where it must not, or goes wrong.
        """
        random = self.random
        kind = str(random.choice([*KINDS, "descriptor"]))
        calls = [int(call) for call in random.choice(len(self.calls), int(random.integers(1, 4)), replace=False)]
        if kind in ("descriptor", "program", "window"):
            calls = calls[:2]
        self.fill()
        count = self.queue(calls)
        wrong = KINDS[kind](self, calls, count)
        before = self.transport.memory.copy()
        allowed = np.zeros(len(before), np.bool_)
        for call in calls:
            self._allow(allowed, call)
        if wrong is not None and wrong["field"]:
            # Whatever the descriptor says: the window is what bounds it.
            allowed[wrong["first"] : wrong["last"] + 1] = True

        tail = wrong["tail"] if wrong is not None and "tail" in wrong else count
        self["RING_TAIL"] = tail
        self._meddle(kind)
        cause = self._stop(kind)
        head, job = self["RING_HEAD"], self["ERROR_JOB"]
        if cause is not Cause.NONE:
            # A descriptor that cannot be read is told for its own job, which may be in the midst of a chain.
            exact = cause in (*EXACT_CAUSES, Cause.READ, Cause.WINDOW)
            self.expect(job == head or (exact and head < job < count), f"ERROR_JOB {job}, but RING_HEAD {head}")
        if cause in EXACT_CAUSES:
            # A job that continues, or does not, makes the one behind it wrong.
            at_fault = () if wrong is None else (wrong["job"], wrong["job"] + (wrong["field"] == "continues"))
            self.expect(job in at_fault, f"{cause.name} of job {job}, but {wrong} is wrong")
        self._reset(kind)
        stray = np.flatnonzero((self.transport.memory != before) & ~allowed)
        self.expect(not stray.size, f"{len(stray)} bytes were written outside the output, first {stray[:1]}")
        self._check_complete(calls, head, wrong)
        self._next_jobs()
        return {"kind": kind, "cause": cause.name}

    def expect(self, right: bool, text: str) -> None:
        if not right:
            raise Disagreement(text)

    def _allow(self, allowed: np.ndarray, call: int) -> None:
        output = self.calls[call].output
        allowed[self.base(call) :][: len(output)] |= output

    def _meddle(self, kind: str) -> None:
        """Abort or reset after a random time; ring the doorbell again, which changes nothing."""
        if kind in ("abort", "reset"):
            self.transport.step(int(self.random.integers(1, int(self.random.choice([30, 300, 6000])))))
            self["CONTROL"] = 2 if kind == "abort" else 1
        elif kind == "none":
            self.transport.step(int(self.random.integers(1, 500)))
            self["RING_TAIL"] = self["RING_TAIL"]

    def _stop(self, kind: str) -> Cause:
        """Wait until the jobs are complete, or the machine has stopped; the cause."""
        if kind == "reset":
            return Cause.NONE
        waited = 0
        while True:
            try:
                self.transport.wait_interrupt(30, max_cycles=PATIENCE)
            except TimeoutError:
                self.expect(not waited, "neither complete nor stopped after an abort")
                waited += 1
                self["CONTROL"] = 2
                continue
            cause = Cause(self["ERROR_CAUSE"])
            status = self.status()
            self.expect(bool(status["error"]) == (cause is not Cause.NONE), f"STATUS {status}, but cause {cause.name}")
            self.expect(cause in (*CAUSES[kind], Cause.NONE) or bool(waited), f"{cause.name} is no cause of {kind}")
            if cause is not Cause.NONE:
                self.expect(self["INTERRUPT"] & 2 != 0, "an error, but no interrupt")
                self.expect(not status["busy"], "an error, but busy")
            return cause

    def _reset(self, kind: str) -> None:
        """A soft reset, in the midst of which the doorbell does nothing; a memory that was silent answers at last."""
        self["CONTROL"] = 1
        silent = kind in ("silent", "closed")
        if silent:
            self.transport.step(int(self.random.integers(1, 500)))
        if self.status()["draining"]:
            self["RING_TAIL"] = 1
            # It may have ended just now.
            self.expect(self["RING_TAIL"] == 0 or not silent, "the doorbell was taken while the machine was draining")
            self["CONTROL"] = 1
            if self.random.random() < 0.3:
                self["CONTROL"] = 2
        self.transport.fail(Failure.NONE)
        for _ in range(SHORT // 10):
            if not self.status()["draining"]:
                break
            self.transport.step(10)
        else:
            raise Disagreement(f"the reset has not ended after {SHORT} cycles")
        # An abort or a doorbell that came just behind the end counts.
        self["CONTROL"] = 1
        while self.status()["draining"]:
            self.transport.step(10)
        for name in ("STATUS", "ERROR_CAUSE", "RING_HEAD", "RING_TAIL", "INTERRUPT"):
            self.expect(self[name] == 0, f"{name} is not 0 after a reset")

    def _check_complete(self, calls: list[int], head: int, wrong: dict[str, Any] | None) -> None:
        """The output of calls whose jobs are all complete is right, and of others what there is, but for what was spoilt."""
        end = 0
        for call in calls:
            start, end = end, end + len(self.calls[call].jobs)
            spoilt = wrong is not None and wrong["job"] is not None and start <= wrong["job"]
            self.expect(head < end or spoilt or self.is_right(call), f"call {call} is complete, but not right")
            entry, piece = self.calls[call], self._piece(call)
            right = ~entry.output | (piece == entry.after) | (piece == UNTOUCHED)
            self.expect(spoilt or bool(right.all()), f"call {call} is not complete, and its output neither right nor untouched")

    def _next_jobs(self) -> None:
        """Other jobs, or the same again, on a memory that is as it should be."""
        self._start()
        self.fill()
        calls = [int(call) for call in self.random.choice(len(self.calls), 2, replace=False)]
        count = self.queue(calls)
        expected = self.transport.memory.copy()
        for call in calls:
            entry = self.calls[call]
            expected[self.base(call) :][: len(entry.output)][entry.output] = entry.after[entry.output]
        self["RING_TAIL"] = count
        try:
            self.transport.wait_interrupt(60, max_cycles=PATIENCE)
        except TimeoutError:
            raise Disagreement("the next jobs hang") from None
        self.expect(self.status()["error"] == 0, f"the next jobs stop: {Cause(self['ERROR_CAUSE']).name}")
        self.expect(self["RING_HEAD"] == count, "the next jobs are not complete")
        self.expect(bool((self.transport.memory == expected).all()), "the next jobs are not right")
        self["CONTROL"] = 1
        self["INTERRUPT"] = 3


# -- what goes wrong: each tells which job and which field, if any, it has spoilt ----------------------------------------


def _nothing(machine: FaultInjector, calls: list[int], count: int) -> None:
    return None


def _error(machine: FaultInjector, calls: list[int], count: int) -> None:
    random = machine.random
    failure = Failure(int(random.choice([Failure.READ_ERROR, Failure.WRITE_ERROR])))
    most = 800 if failure is Failure.READ_ERROR else 150
    machine.transport.fail(failure, int(random.integers(most)), decode_error=bool(random.integers(2)))


def _silent(machine: FaultInjector, calls: list[int], count: int) -> None:
    failure = Failure(int(machine.random.choice([Failure.READ_SILENT, Failure.WRITE_SILENT])))
    machine.transport.fail(failure, int(machine.random.integers(800 if failure is Failure.READ_SILENT else 60)))


def _closed(machine: FaultInjector, calls: list[int], count: int) -> None:
    failure = Failure(int(machine.random.choice([Failure.READ_CLOSED, Failure.WRITE_CLOSED])))
    machine.transport.fail(failure, int(machine.random.integers(250 if failure is Failure.READ_CLOSED else 150)))


def _descriptor(machine: FaultInjector, calls: list[int], count: int) -> dict[str, Any]:
    """One bit of a field, or all of it, in the last call's first job; what it may write is bounded by the window."""
    random = machine.random
    job = count - len(machine.calls[calls[-1]].jobs)
    place = machine.transport.memory[job * DESCRIPTOR_STRIDE_BYTES :][:DESCRIPTOR_BYTES]
    placed = [(offset, field) for offset, field in DESCRIPTOR.placed() if field.name not in ("_reserved", "interrupt")]
    offset, field = placed[int(random.integers(len(placed)))]
    flips = (
        1 << int(random.integers(field.bits)) if random.random() < 0.7 else int(random.integers(1, 1 << min(field.bits, 60)))
    )
    image = int.from_bytes(place.tobytes(), "little") ^ flips << offset
    place[:] = np.frombuffer(image.to_bytes(DESCRIPTOR_BYTES, "little"), np.uint8)
    outputs = [machine.base(call) + np.flatnonzero(machine.calls[call].output)[[0, -1]] for call in calls]
    first, last = int(min(low for low, _ in outputs)), int(max(high for _, high in outputs))
    machine.window("WRITE", first, last)
    bus_bytes = machine.config.bus_bytes
    return {"job": job, "field": field.name, "first": first // bus_bytes * bus_bytes, "last": last | bus_bytes - 1}


def _program(machine: FaultInjector, calls: list[int], count: int) -> dict[str, Any]:
    """A bit of the last call's program or of its header."""
    random = machine.random
    call = calls[-1]
    job = count - len(machine.calls[call].jobs)
    fields = machine.calls[call].placed(machine.base(call))[0]
    header = random.random() < 0.7
    bits = PROGRAM_HEADER.bits if header else 32 * fields.ii
    bit = int(random.integers(bits))
    machine.transport.memory[fields.program_address - header * PROGRAM_HEADER.bits // 8 + bit // 8] ^= 1 << bit % 8
    return {"job": job, "field": ""}


def _window(machine: FaultInjector, calls: list[int], count: int) -> None:
    """A window that ends somewhere in what is read or written."""
    random = machine.random
    kind = str(random.choice(["READ", "WRITE"]))
    end = len(machine.transport.memory)
    bound = int(random.integers(end) if random.random() < 0.3 else random.integers(RING_BYTES))
    if kind == "WRITE" or random.random() < 0.5:
        call = machine.calls[calls[int(random.integers(len(calls)))]]
        bytes_of = np.flatnonzero(call.output) if kind == "WRITE" else np.flatnonzero(call.before)
        bound = machine.base(calls[0]) + int(bytes_of[int(random.integers(len(bytes_of)))])
    machine.window(kind, *((0, bound) if random.random() < 0.5 else (bound, end)))


def _overrun(machine: FaultInjector, calls: list[int], count: int) -> dict[str, Any]:
    """A doorbell for more jobs than the ring holds, or for one that is behind the head."""
    tail = int(machine.random.integers((1 << RING_SIZE_LOG2) + 1, 1 << 16))
    return {"job": None, "field": "", "tail": tail}


#: What goes wrong, by name.
KINDS: dict[str, Callable[[FaultInjector, list[int], int], dict[str, Any] | None]] = {
    "none": _nothing,
    "abort": _nothing,
    "reset": _nothing,
    "error": _error,
    "silent": _silent,
    "closed": _closed,
    "descriptor": _descriptor,
    "program": _program,
    "window": _window,
    "overrun": _overrun,
}
#: Causes that it may have.
CAUSES: dict[str, tuple[Cause, ...]] = {
    "none": (),
    "abort": (Cause.ABORT,),
    "error": (Cause.READ, Cause.WRITE),
    "silent": (Cause.TIMEOUT,),
    "closed": (Cause.TIMEOUT,),
    "descriptor": (Cause.READ, Cause.WRITE, Cause.DESCRIPTOR, Cause.PROGRAM, Cause.WINDOW, Cause.TIMEOUT),
    "program": (Cause.PROGRAM, Cause.TIMEOUT),
    "window": (Cause.WINDOW,),
    "overrun": (Cause.RING,),
}


def inject_faults(config: str, seed: int, count: int) -> list[dict[str, Any]]:
    """``count`` injections, one after the other, on one machine.

    Raises
    ------
    Disagreement
        If one goes wrong; the message has the command that repeats it.
    """
    results: list[dict[str, Any]] = []
    with FaultInjector(config, seed) as machine:
        for number in range(count):
            try:
                results.append(machine.inject())
            except (Disagreement, TimeoutError) as error:
                command = f"python -m fusemax_sim.fault_injection {config} {seed} {number + 1}"
                raise Disagreement(f"injection {number}: {error}\nrepeat: {command}") from error
    return results


def main() -> int:
    """``python -m fusemax_sim.fault_injection CONFIG SEED [COUNT]``."""
    arguments = sys.argv[1:]
    if len(arguments) not in (2, 3) or arguments[0] not in CONFIGS or not all(text.isdecimal() for text in arguments[1:]):
        print(f"usage: python -m fusemax_sim.fault_injection {{{','.join(CONFIGS)}}} SEED [COUNT]", file=sys.stderr)
        return 2
    results = inject_faults(arguments[0], int(arguments[1]), int(arguments[2]) if len(arguments) == 3 else 20)
    for (kind, cause), number in sorted(Counter((row["kind"], row["cause"]) for row in results).items()):
        print(f"{kind:>12} {cause:>12} {number:>6}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
