"""The shapes that the benchmark shows."""

from __future__ import annotations

from .case import Case

__all__ = ["GROUPS", "cases"]

LENGTHS = (16, 32, 64, 128, 256, 512, 2048)

#: Cases by group. A case may be in several.
GROUPS: dict[str, tuple[Case, ...]] = {
    "targets": (
        Case(heads=1, queries=1024, keys=1024, e=64, f=64, target=0.981),
        Case(heads=8, queries=256, keys=256, e=64, f=64, target=0.978),
        Case(heads=1, queries=1024, keys=1024, e=128, f=128, target=0.989),
        Case(heads=12, queries=128, keys=128, e=32, f=32, target=0.955),
        Case(heads=32, queries=64, keys=64, e=64, f=64, target=0.965),
    ),
    # Tails in every dimension, unequal head dims, small head dims, few queries, other configurations.
    "shapes": (
        Case(heads=3, queries=100, keys=77, e=64, f=32),
        Case(heads=2, queries=300, keys=500, e=48, f=80),
        Case(heads=4, queries=192, keys=192, e=128, f=64),
        Case(heads=16, queries=16, keys=16, e=64, f=64),
        Case(heads=4, queries=256, keys=256, e=16, f=16),
        Case(heads=8, queries=1, keys=1024, e=64, f=64),
        Case(config="tiny", heads=2, queries=128, keys=128, e=64, f=64),
        Case(config="tiny", heads=12, queries=32, keys=32, e=32, f=32),
        Case(config="small", heads=2, queries=256, keys=256, e=64, f=64),
        Case(config="small", heads=12, queries=128, keys=128, e=32, f=32),
    ),
    "latencies": tuple(
        Case(heads=heads, queries=length, keys=length, e=dim, f=dim, latency_cycles=latency)
        for heads, length, dim in ((8, 256, 64), (12, 128, 32))
        for latency in (1, 20, 240)
    ),
    # As many query tiles as are resident decide how often a key is used: 16, 32, 48 and 64 times.
    "roofline": tuple(
        Case(heads=1, queries=queries, keys=1024, e=64, f=64, beat_interval_cycles=interval)
        for interval in (1, 2, 4)
        for queries in (16, 32, 48, 64, 128)
    ),
    "lengths": (
        *(Case(heads=1, queries=length, keys=length, e=64, f=64) for length in LENGTHS),
        Case(heads=1, queries=4096, keys=4096, e=64, f=64),
    ),
    "modelled": (
        Case(config="paper", heads=1, queries=1 << 16, keys=1 << 16, e=64, f=64, target=0.980, modelled=True),
        *(Case(heads=1, queries=1 << log2, keys=1 << log2, e=64, f=64, modelled=True) for log2 in (14, 16, 18, 20)),
        *(
            Case(config="paper", heads=1, queries=1 << log2, keys=1 << log2, e=dim, f=dim, modelled=True)
            for dim in (64, 128)
            for log2 in (10, 12, 14, 16, 18, 20)
            if (dim, log2) != (64, 16)
        ),
    ),
}


def cases(groups: tuple[str, ...] = tuple(GROUPS)) -> list[Case]:
    """Cases of the groups, each once, with its target if one of them has it.

    The modelled ones come first, then those on the same machine and memory together, quickest first; the longest machines last.
    """
    chosen: dict[str, Case] = {}
    for group in groups:
        for case in GROUPS[group]:
            same = chosen.setdefault(str(case.parameters()), case)
            if same.target is None:
                chosen[str(case.parameters())] = case

    def machine(case: Case) -> tuple[str, int, int]:
        return case.config, case.latency_cycles, case.beat_interval_cycles

    longest: dict[tuple[str, int, int], int] = {}
    for case in chosen.values():
        if not case.modelled:
            longest[machine(case)] = max(longest.get(machine(case), 0), case.expected_cycles)
    return sorted(
        chosen.values(),
        key=lambda case: (not case.modelled, longest.get(machine(case), 0), machine(case), case.expected_cycles),
    )
