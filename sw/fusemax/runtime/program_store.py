"""Programs in device memory."""

from __future__ import annotations

from ..compiler.program import Program
from ..planning.memory_map import place_program
from ..spec import Config
from .device_memory import DeviceMemory

__all__ = ["ProgramStore"]


class ProgramStore:
    """Writes each program to device memory when it is used for the first time, and knows where it is.

    Who calls :meth:`load` or :meth:`reserve` has the memory's lock.
    """

    def __init__(self, config: Config, memory: DeviceMemory) -> None:
        self._config = config
        self._memory = memory
        self._addresses: dict[int, int] = {}

    def load(self, program: Program) -> int:
        """Return the address of a program's first microword, behind the programs before it if there is room.

        Raises
        ------
        DeviceMemoryError
            If there is no room for it.
        """
        if program.tag not in self._addresses:
            memory = self._memory
            words, end = place_program(self._config, program, memory.free)
            start, room = next(iter(memory.gaps()), (0, 0))
            if start != memory.free or end > room:
                return self.reserve(program)
            self._write(program, words)
            memory.free = end
        return self._addresses[program.tag]

    def reserve(self, program: Program) -> int:
        """Do the same while the memory behind the programs may be in use: a new program goes to an area of its own.

        Raises
        ------
        DeviceMemoryError
            If there is no room for it.
        """
        if program.tag not in self._addresses:
            words, end = place_program(self._config, program, 0)
            self._write(program, words + self._memory.reserve_locked("microwords", end))
        return self._addresses[program.tag]

    def rewrite(self, program: Program) -> None:
        """Write a program anew, where it is: something has changed it."""
        self._write(program, self._addresses[program.tag])

    def _write(self, program: Program, words: int) -> None:
        """Write a program's header and microwords, the latter to address ``words``."""
        image = program.to_bytes()
        self._memory.write(words + len(program.words_bytes) - len(image), image)
        self._addresses[program.tag] = words
