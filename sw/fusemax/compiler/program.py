"""A program: the microwords of one initiation interval."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

from ..errors import ProgramError
from ..spec import MICROWORD, PROGRAM_HEADER, PROGRAM_MAGIC, PROGRAM_VERSION, Config, config_named
from ..spec.integers import ceil_div
from .feeding import Feeding
from .listing import PROGRAM_FLAGS, assemble, disassemble
from .micro import Operation
from .microwords import WORD_BYTES, as_bytes, decode, tag_of
from .schedule import Schedule
from .symbolic_checker import check

__all__ = ["Program"]

HEADER_BYTES = PROGRAM_HEADER.bits // 8


@dataclass(frozen=True)
class Program:
    """A program for one configuration and one pair of head dims.

    Members
    -------
    config : Config
        Machine that the program is for.
    e, f : int
        Head dim of queries and keys, and of values.
    microwords : tuple of int
        Word *s* is issued in slot *s* of every iteration.
    fixed_reference, spare_hold : bool
        Flags that jobs need that run it (:class:`fusemax.spec.Descriptor`).
    feeding : Feeding
        What the host must do for it to compute what its cascade says.

    Raises
    ------
    ProgramError
        If there are no microwords, more than the machine holds, or a word has more than 32 bits.
    """

    config: Config
    e: int
    f: int
    microwords: tuple[int, ...]
    fixed_reference: bool = False
    spare_hold: bool = False
    feeding: Feeding = field(default_factory=Feeding, compare=False)

    def __post_init__(self) -> None:
        if not 1 <= len(self.microwords) <= self.config.program_words:
            most = self.config.program_words
            raise ProgramError(f"a program for {self.config.name!r} must have 1 to {most} microwords, not {self.ii}")
        for slot, word in enumerate(self.microwords):
            if not 0 <= word < 1 << MICROWORD.bits:
                raise ProgramError(f"microword {slot} must have {MICROWORD.bits} bits, not {word:#x}")

    @property
    def ii(self) -> int:
        """Initiation interval: a tile starts every ``ii`` slots."""
        return len(self.microwords)

    @cached_property
    def stages(self) -> int:
        """Iterations that a tile spans."""
        return self.schedule.stages

    @cached_property
    def schedule(self) -> Schedule:
        """Where each operation of a tile is; it can be plotted."""
        return decode(self.microwords, self.config, self.e, self.f, fixed_reference=self.fixed_reference)

    def check(self) -> None:
        """Check that the machine can run it (:func:`fusemax.compiler.symbolic_checker.check`).

        Raises
        ------
        RuleError
            If it cannot.
        """
        check(
            self.microwords,
            self.config,
            self.e,
            self.f,
            fixed_reference=self.fixed_reference,
            spare_hold=self.spare_hold,
            raw=self.feeding.raw,
        )

    @cached_property
    def needs(self) -> tuple[str, ...]:
        """Options that a machine must have to run it (:class:`fusemax.spec.Config`)."""
        micros = [placed.micro for placed in self.schedule.placed]
        operations = {micro.operation for micro in micros}
        absolute = any(micro.operation is Operation.EXP and micro.first for micro in micros)
        wanted = {
            "linear": self.fixed_reference or Operation.LIN in operations,
            "functions": self.spare_hold or absolute or bool({Operation.SET, Operation.ADD} & operations),
            "entropy": Operation.ENT in operations,
        }
        return tuple(option for option, needed in wanted.items() if needed)

    @cached_property
    def takes_bias(self) -> bool:
        """Whether it adds a bias to every score, which its calls must bring."""
        return any(placed.operation is Operation.BIAS for placed in self.schedule.placed)

    @cached_property
    def words_bytes(self) -> bytes:
        """Microwords as they lie in memory."""
        return as_bytes(self.microwords)

    @cached_property
    def tag(self) -> int:
        """CRC-32 of the microwords; jobs name the program that they need by it."""
        return tag_of(self.microwords)

    @property
    def beats(self) -> int:
        """Bus words that the machine reads: the header, which ends a bus word, and the microwords, which begin one."""
        header, words = PROGRAM_HEADER.bits, self.ii * MICROWORD.bits
        return ceil_div(header, self.config.bus_bits) + ceil_div(words, self.config.bus_bits)

    def to_bytes(self) -> bytes:
        """Write the header (:data:`fusemax.spec.PROGRAM_HEADER`) and the microwords."""
        header = PROGRAM_HEADER.pack(
            {"magic": PROGRAM_MAGIC, "version": PROGRAM_VERSION, "ii": self.ii, "e": self.e, "f": self.f, "tag": self.tag}
        )
        return header.to_bytes(HEADER_BYTES, "little") + self.words_bytes

    @classmethod
    def from_bytes(
        cls, data: bytes, config: str | Config = "small", *, fixed_reference: bool = False, spare_hold: bool = False
    ) -> Program:
        """Read the program that :meth:`to_bytes` wrote. The flags are those of its jobs; they are not in the bytes.

        Raises
        ------
        ProgramError
            If magic, version, length or tag are wrong.
        """
        machine = config_named(config)
        if len(data) < HEADER_BYTES:
            raise ProgramError(f"a program must have a header of {HEADER_BYTES} bytes, not {len(data)}")
        header = PROGRAM_HEADER.unpack(int.from_bytes(data[:HEADER_BYTES], "little"))
        for name, value in (("magic", PROGRAM_MAGIC), ("version", PROGRAM_VERSION)):
            if header[name] != value:
                raise ProgramError(f"a program's {name} must be {value:#x}, not {header[name]:#x}")
        expected = HEADER_BYTES + WORD_BYTES * header["ii"]
        if len(data) != expected:
            raise ProgramError(f"a program of {header['ii']} microwords must have {expected} bytes, not {len(data)}")
        words = tuple(int.from_bytes(data[at : at + WORD_BYTES], "little") for at in range(HEADER_BYTES, len(data), WORD_BYTES))
        program = cls(machine, header["e"], header["f"], words, fixed_reference, spare_hold)
        if program.tag != header["tag"]:
            raise ProgramError(
                f"a program's tag must be the CRC-32 of its microwords, {program.tag:#010x}, not {header['tag']:#010x}"
            )
        return program

    def listing(self) -> str:
        """Write the program as text for a person; :meth:`from_listing` reads it.

        Raises
        ------
        ProgramError
            If a word has an operation that does not exist, or a constant that no machine has: text cannot say so.
        """
        flags = [name for name in PROGRAM_FLAGS if getattr(self, name)]
        return disassemble(self.microwords, self.config, self.e, self.f, flags)

    @classmethod
    def from_listing(cls, text: str, config: str | Config = "small") -> Program:
        """Read the program that a text describes (:mod:`fusemax.compiler.listing`).

        Raises
        ------
        ProgramError
            If a line is not understood, a slot is named twice or is not on the machine, a number does not fit its field, or a
            head dim is missing; names the line.
        """
        machine = config_named(config)
        listed = assemble(text, machine)
        fixed_reference, spare_hold = (name in listed.flags for name in PROGRAM_FLAGS)
        return cls(machine, listed.e, listed.f, listed.microwords, fixed_reference, spare_hold)
