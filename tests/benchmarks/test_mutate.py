"""Mutation testing: the changes that are made, tests that notice one, resuming, and that what is committed is judged."""

from __future__ import annotations

import ast
import json
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TEXT = '''
"""Words are left alone, and so are numbers of types."""
LIMIT: Literal[3] = 3

class Block:
    def elaborate(self, platform):
        taken = Signal(2, name="taken")
        m.d.comb += [taken.eq(a & ~b), out.eq(Mux(taken, one, other))]
        with m.If(taken == 1):
            m.d.sync += count.eq(count + 1)
        if self.wide and not platform:
            raise ValueError(f"{1 + 1}")
'''
CHANGES = """
3 → 4
3 → 2
Block.elaborate: 2 → 1
Block.elaborate: taken.eq(a & ~b) → nothing
Block.elaborate: out.eq(Mux(taken, one, other)) → nothing
Block.elaborate: a & ~b → a | ~b
Block.elaborate: ~b → b
Block.elaborate: Mux(taken, one, other) → Mux(taken, other, one)
Block.elaborate: m.If(taken == 1) → m.If((taken == 1) == 0)
Block.elaborate: taken == 1 → taken != 1
Block.elaborate: 1 → 2
Block.elaborate: 1 → 0
Block.elaborate: m.d.sync += count.eq(count + 1) → nothing
Block.elaborate: count + 1 → count - 1
Block.elaborate: 1 → 2 (2)
Block.elaborate: 1 → 0 (2)
Block.elaborate: self.wide and (not platform) → self.wide or not platform
Block.elaborate: self.wide and (not platform) → not (self.wide and (not platform))
Block.elaborate: not platform → platform
"""


def test_changes(script) -> None:
    """All that there are, each made by itself, with another text."""
    changes = script("mutation.changes").changes
    assert [change.name for change in changes(ast.parse(TEXT))] == CHANGES.strip().splitlines()
    texts = set()
    for number in range(len(changes(ast.parse(TEXT)))):
        tree = ast.parse(TEXT)
        changes(tree)[number].make()
        texts.add(ast.unparse(ast.fix_missing_locations(tree)))
    assert len(texts) == len(CHANGES.strip().splitlines())
    assert ast.unparse(ast.parse(TEXT)) not in texts


def test_the_nearest_tests_come_first(script) -> None:
    stages = script("mutation.trial").stages
    (mirrored, _), (folder, _) = stages("hw/fusemax_hw/bus/skid.py", near=True)[:1] * 2
    assert mirrored == folder and "tests/hw/bus/test_reader.py" in folder
    first, second, *beyond = stages("hw/fusemax_hw/bus/reader.py", near=False)
    assert first[0] == ("tests/hw/bus/test_reader.py",)
    assert "tests/hw/bus/test_reader.py" not in second[0] and "tests/hw/bus/test_writer.py" in second[0]
    assert beyond[0][1] == "cosim"


def test_a_change_is_noticed_or_not(script) -> None:
    """Of a countdown: one that counts the other way, and one of a number that nobody reads."""
    trial = script("mutation.trial")
    path, tests = "hw/fusemax_hw/control/countdown.py", (("tests/hw/control/test_countdown.py",), trial.DESELECT)
    found = trial.try_change(path, "Countdown.step: self.left - 1 → self.left + 1", [tests])
    assert found["status"] == "failed" and found["by"].startswith("tests/hw/control/test_countdown.py::")
    none = (("tests/hw/control/test_job.py",), trial.DESELECT)
    assert trial.try_change(path, "Countdown.step: self.left - 1 → self.left + 1", [none])["status"] == "passed"
    trial.server().close()


def test_what_is_tried_again(script) -> None:
    is_open = script("mutate")._is_open
    assert is_open(None, "a", True)
    assert is_open({"digest": "b", "status": "failed", "near": True}, "a", True)
    assert not is_open({"digest": "a", "status": "passed", "near": True}, "a", True)
    assert is_open({"digest": "a", "status": "passed", "near": True}, "a", False)
    assert not is_open({"digest": "a", "status": "failed", "near": True}, "a", False)


def test_the_committed_rows(script) -> None:
    """Every change that no test has noticed is judged, and nothing else is."""
    mutate = script("mutate")
    rows, judged = mutate.read(mutate.RESULTS), json.loads(mutate.SURVIVORS.read_text(encoding="utf-8"))
    assert {name for name, row in rows.items() if row["status"] == "passed"} == set(judged)
    for name in judged:
        path, _, change = name.partition(" ")
        changes = script("mutation.changes").changes(ast.parse((ROOT / path).read_text(encoding="utf-8")))
        assert change in {found.name for found in changes}, f"{name} is no change any more"


def test_too_few_arguments(script) -> None:
    with pytest.raises(SystemExit):
        script("mutate").main(["--area", "docs"])
