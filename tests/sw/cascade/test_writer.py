"""Text that is written reads back as an equal cascade."""

from __future__ import annotations

import pytest
from texts import SMALL

from fusemax.cascade import CASCADES, parse, to_text


@pytest.mark.parametrize("name", CASCADES)
def test_round_trip(name: str) -> None:
    cascade = CASCADES[name]
    again = parse(to_text(cascade), name)
    assert again == cascade
    assert to_text(again) == to_text(cascade)
    assert again != parse(SMALL)


def test_round_trip_of_what_the_library_does_not_use() -> None:
    text = SMALL.replace("exp(QK[m, p])", "gelu(QK[m, p] * EPS)").replace(
        "  expressions:", "  functions: ['gelu(x) = x * (1 + erf(x))']\n  constants: {EPS: -1e-8}\n  expressions:"
    )
    text += "mapping:\n  loop-order: {QK: [P, M, E]}\nformat:\n  Q: {default: {rank-order: [E, P], E: {format: C}}}\n"
    text += "architecture:\n  system:\n    - name: a b\n      local: []\n"
    cascade = parse(text)
    assert parse(to_text(cascade)) == cascade
    assert [section for section, _ in cascade.extras] == ["mapping", "format", "architecture"]
