"""Print when one tile's operations are where, in cycles since the tile's first word was at the corner of the array.

    python docs/figures/one_tile.py [CONFIG [HEAD_DIM]]

All numbers come from the compiled program and from :class:`fusemax.spec.Timing`, the timetable of hardware and scheduler.
"""

from __future__ import annotations

import sys

import fusemax
from fusemax.cli.options import table
from fusemax.compiler.micro import Operation
from fusemax.compiler.program import Program
from fusemax.spec import Timing

SHOWN = (Operation.QK, Operation.MASK, Operation.MAX, Operation.EXP, Operation.SUM, Operation.SLNV)
HEADER = ("operation", "corner", "PE 0,0 reads", "PE 0,0 done", "last PE reads", "last PE done", "lane 0", "last lane")


def rows(program: Program) -> list[tuple[str, ...]]:
    """Return a line for the first and the last word of each operation."""
    config, timing = program.config, Timing(program.config)
    far = config.rows - 1 + config.columns - 1
    found = []
    for operation in SHOWN:
        placed = program.schedule.of(operation)
        for word in placed if len(placed) < 2 else (placed[0], placed[-1]):
            name = operation.name if len(placed) == 1 else f"{operation.name} {word.index}"
            reads = word.offset + timing.feeder
            done = reads + config.pe_latency - 1
            lane = done + config.rows
            # QK, MASK and EXP leave nothing on the partial bus.
            lanes = (
                (lane, lane + config.columns - 1) if operation in (Operation.MAX, Operation.SUM, Operation.SLNV) else ("", "")
            )
            found.append((name, *(f"{cycle}" for cycle in (word.offset, reads, done, reads + far, done + far, *lanes))))
    return found


def lane_rows(program: Program) -> list[tuple[str, str]]:
    """Return when lane 0 has what becomes of the partial values."""
    timing = Timing(program.config)

    def at_lane(operation: Operation, index: int = 0) -> int:
        return program.schedule.offset(operation, index) + timing.feeder + program.config.pe_latency - 1 + program.config.rows

    reference = at_lane(Operation.MAX) + timing.reference
    state = timing.normalise + timing.adder
    denominator, numerator = at_lane(Operation.SUM) + state, at_lane(Operation.SLNV, program.f - 1) + state
    return [
        ("new reference RM", f"{reference}"),
        ("reference in the ring of north feeder 0", f"{reference + timing.feedback}"),
        ("new denominator RD", f"{denominator}"),
        (f"new numerator RNV {program.f - 1}", f"{numerator}"),
        ("last key tile only: 1 / RD", f"{denominator + timing.reciprocal}"),
        (f"last key tile only: result {program.f - 1}", f"{numerator + timing.reciprocal + timing.output}"),
    ]


def main() -> int:
    config = sys.argv[1] if len(sys.argv) > 1 else "tiny"
    head_dim = int(sys.argv[2]) if len(sys.argv) > 2 else 16
    program = fusemax.compile(head_dim=head_dim, config=config)
    print(f"{config}, E = F = {head_dim}: a tile every {program.ii} slots\n")
    print(table(HEADER, rows(program)))
    print()
    print(table(("lane 0", "cycle"), lane_rows(program)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
