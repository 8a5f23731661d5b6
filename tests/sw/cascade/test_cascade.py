"""What follows from a cascade's text: ranks, states, inputs and results."""

from __future__ import annotations

from texts import LOOP, SMALL

from fusemax.cascade import parse


def test_parts() -> None:
    cascade = parse(SMALL, "small")
    assert cascade.name == "small"
    assert cascade.inputs == ("Q", "K")
    assert cascade.results == ("Z",)
    assert cascade.ranks == ("E", "P", "M")
    assert [einsum.result.tensor for einsum in cascade.einsums] == ["QK", "Z"]
    assert cascade.einsums[1].at == (9, 7)
    assert hash(cascade) == hash(parse(SMALL))


def test_iteration() -> None:
    cascade = parse(LOOP)
    assert cascade.iterative == {"R"}
    assert cascade.base("I") == "M"
    assert cascade.iteration_of("I") and not cascade.iteration_of("M")
