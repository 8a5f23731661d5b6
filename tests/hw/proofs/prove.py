"""Proves what is stated of the hardware's blocks, and prints a table.

    python tests/hw/proofs/prove.py [--only "PROOF: STATEMENT"]... [--breaks] [--workers N]

With ``--breaks`` each statement is tried on a copy of the code with a mistake in it instead, and must turn out to be false.
Exit status 1 if anything is not as it should be.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from fusemax.spec import Config
from fusemax_hw.pe import Pe
from proofs import bus, descriptors, progress, streams
from proofs.breaks import BREAKS, Break
from proofs.isolation import STATEMENTS, Isolation
from proofs.pe_word import PeSum, PeWord
from proofs.solver import Harness, Verdict, check, prove

__all__ = ["PROOFS", "Proof", "find_break", "main"]

ROOT = Path(__file__).resolve().parents[3]
#: Seconds for the search of an invariant.
SECONDS = 600
#: Cycles of those statements for which none was found in that time.
DEPTH = 16


@dataclass(frozen=True)
class Proof:
    """Statements of a harness, and how to ask for each of them."""

    harness: Callable[[list[str] | None], Harness]
    statements: tuple[str, ...]
    ask: Callable[[Harness], Verdict]


def _unbounded(harness: Harness) -> Verdict:
    return prove(harness, SECONDS)


def _bounded(harness: Harness) -> Verdict:
    return check(harness, DEPTH)


def _at_once(harness: Harness) -> Verdict:
    """The verdict is there after its latency, and depends on nothing that was before."""
    found = check(harness, 4)
    return Verdict(found.holds, "for all descriptors")


def _first_steps(harness: Harness) -> Verdict:
    """From any state, over the word's way through the pipeline."""
    assert isinstance(harness, Isolation)
    found = check(harness, harness.pe.latency + 2)
    return Verdict(found.holds, "for all words and states")


def one_word(names: list[str] | None) -> Isolation:
    return PeWord(Pe(Config(rows=4, columns=4, contexts=3)), names)


def one_sum(names: list[str] | None) -> Isolation:
    return PeSum(Pe(Config(rows=4, columns=4, contexts=3)), names)


def isolated(names: list[str] | None) -> Isolation:
    return Isolation(Pe(Config(rows=4, columns=4, contexts=3, functions=True, entropy=True)), names)


PROOFS: dict[str, tuple[Proof, ...]] = {
    "skid buffer": (Proof(streams.Skid, ("offers stay", "order, nothing lost", "nothing invented", "holds two"), _unbounded),),
    "queue": (Proof(streams.Fifo, ("order, nothing lost", "nothing invented", "comes out", "level"), _unbounded),),
    "ring": (Proof(streams.Ring, ("delay",), _unbounded),),
    "delay line": (Proof(streams.Delay, ("delay",), _unbounded),),
    "burst splitter": (
        Proof(
            bus.Splitter,
            ("bursts are legal", "offers stay", "each follows the one before", "no word left or added", "tags", "no wait"),
            _unbounded,
        ),
    ),
    "window": (Proof(bus.Window, ("the same in order", "what is inside is allowed, and nothing else"), _unbounded),),
    "read port": (
        Proof(
            bus.ReadPort,
            (
                *("offers stay", "bursts are legal", "no more than may be under way", "nothing is begun that drain forbids"),
                *("nothing is taken that was not asked for", "answers are taken", "words in order, with their addresses"),
            ),
            _unbounded,
        ),
        Proof(bus.ReadPort, ("no read outside the window",), _bounded),
    ),
    "write port": (
        Proof(
            bus.WritePort,
            (
                *("offers of addresses stay", "offers of words stay", "bursts are legal", "nothing follows what was refused"),
                *("no more than may be under way", "nothing is begun that drain forbids", "no word before its address"),
                *("strobes from the first byte on", "drained words write nothing"),
                *("nothing is taken that was not asked for", "answers are taken"),
            ),
            _unbounded,
        ),
        Proof(bus.WritePort, ("no write outside the window", "the last word is the last"), _bounded),
    ),
    "register port": (
        Proof(
            bus.RegisterPort,
            (
                *("answers stay", "no answer to a write before address and data", "no answer to a read before its address"),
                *("one at a time", "answers after two cycles", "taken at once"),
            ),
            _unbounded,
        ),
    ),
    "request arbiter": (
        Proof(
            bus.Arbiter,
            ("offers stay", "one at a time", "order, nothing lost", "nothing invented", "somebody goes"),
            _unbounded,
        ),
    ),
    "loading K": (Proof(progress.Loading, ("the next row comes", "no more than two tiles"), _unbounded),),
    "loading V": (Proof(progress.LoadingValues, ("the next row comes", "no more than two tiles"), _unbounded),),
    "issue": (
        Proof(progress.Issue, ("offers stay",), _unbounded),
        Proof(progress.Issue, ("the next tile comes",), _bounded),
    ),
    "descriptor check": (Proof(descriptors.Twin, descriptors.STATEMENTS, _at_once),),
    "descriptor check of an odd machine": (Proof(descriptors.OddTwin, descriptors.STATEMENTS, _at_once),),
    "PE and its model": (
        Proof(
            one_word,
            ("score of QK", "overflow of QK", "maximum", "score put aside", "coarse exponent of SUM and SLNV"),
            _first_steps,
        ),
        Proof(one_sum, ("value of SUM",), _first_steps),
    ),
    # Broken in tests/hw/pe/test_isolation.py.
    "isolation in a PE": (Proof(isolated, tuple(STATEMENTS), _first_steps),),
}


def _find(name: str, statement: str) -> Proof:
    return next(proof for proof in PROOFS[name] if statement in proof.statements)


def ask(name: str, statement: str) -> tuple[Verdict, float]:
    """Ask for one statement, and how many seconds that took."""
    begin = time.monotonic()
    proof = _find(name, statement)
    return proof.ask(proof.harness([statement])), time.monotonic() - begin


def find_break(name: str, statement: str) -> Break:
    """The mistake that makes a statement false."""
    return next(wrong for wrong in BREAKS[name] if statement in wrong.statements)


def ask_broken(name: str, statement: str) -> tuple[Verdict, float]:
    """Ask for one statement on a copy of the code that has its mistake; it holds if the answer is no."""
    begin = time.monotonic()
    wrong = find_break(name, statement)
    with tempfile.TemporaryDirectory() as directory:
        for part in ("hw", "sw", "tests/hw/proofs"):
            shutil.copytree(ROOT / part, Path(directory, part), ignore=shutil.ignore_patterns("__pycache__"))
        file = Path(directory, wrong.file)
        text = file.read_text(encoding="utf-8")
        if text.count(wrong.old) < 1:
            raise ValueError(f"{wrong.file} must have {wrong.old!r}")
        file.write_text(text.replace(wrong.old, wrong.new), encoding="utf-8")
        path = os.pathsep.join((f"{directory}/hw", f"{directory}/sw", os.environ.get("PYTHONPATH", "")))
        command = [sys.executable, f"{directory}/tests/hw/proofs/prove.py", "--only", f"{name}: {statement}"]
        done = subprocess.run(command, env=os.environ | {"PYTHONPATH": path}, capture_output=True, text=True, check=False)
    if not done.stdout.endswith((" passed, 0 failed\n", " 1 failed\n")):
        raise RuntimeError(f"{wrong}:\n{done.stdout[-1000:]}{done.stderr[-2000:]}")
    return Verdict("0 passed, 1 failed" in done.stdout, "found"), time.monotonic() - begin


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Proves what is stated of the hardware's blocks.")
    parser.add_argument("--only", action="append", metavar='"PROOF: STATEMENT"', help="this one; may be repeated")
    parser.add_argument("--breaks", action="store_true", help="see each statement fail on hardware with a mistake")
    parser.add_argument("--workers", type=int, default=len(os.sched_getaffinity(0)), metavar="N", help="default: all cores")
    options = parser.parse_args(arguments)
    chosen = [
        (name, statement)
        for name, proofs in PROOFS.items()
        for proof in proofs
        for statement in proof.statements
        if (not options.only or f"{name}: {statement}" in options.only) and (name in BREAKS or not options.breaks)
    ]
    failed = 0
    print("| block | statement | holds | s |\n|---|---|---|---:|", flush=True)
    with ThreadPoolExecutor(options.workers) as pool:
        for (name, statement), (verdict, seconds) in zip(
            chosen, pool.map(lambda pair: (ask_broken if options.breaks else ask)(*pair), chosen), strict=True
        ):
            failed += not verdict.holds
            extent = verdict.extent if verdict.holds else "NOT FOUND" if options.breaks else f"NO ({verdict.extent})"
            print(f"| {name} | {statement} | {extent} | {seconds:.1f} |", flush=True)
    print(f"{len(chosen) - failed} passed, {failed} failed")
    return 1 if failed or not chosen else 0


if __name__ == "__main__":
    sys.exit(main())
