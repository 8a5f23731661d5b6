"""Every component says in its docstring what each of its ports is, with the direction that the port has."""

import re
from dataclasses import replace
from itertools import chain

import pytest
from amaranth.lib.wiring import In

from fusemax.spec import CONFIGS
from fusemax_hw.boards.system import System
from fusemax_hw.bridge.bridge import Bridge
from fusemax_hw.bridge.executor import Executor
from fusemax_hw.bridge.receiver import FrameReceiver
from fusemax_hw.bridge.sender import FrameSender, FrameWriter
from fusemax_hw.bridge.uart import UartReceiver, UartTransmitter
from fusemax_hw.bus.bursts import BurstSplitter
from fusemax_hw.bus.reader import Reader
from fusemax_hw.bus.skid import SkidBuffer
from fusemax_hw.bus.window import WindowStage
from fusemax_hw.bus.writer import Writer
from fusemax_hw.control.descriptor_check import DescriptorCheck
from fusemax_hw.control.dispatcher import Dispatcher
from fusemax_hw.control.issue_walker import IssueWalker
from fusemax_hw.control.job_table import JobTable
from fusemax_hw.control.load_walker import LoadWalker
from fusemax_hw.control.program_store import ProgramStore
from fusemax_hw.control.registers import Registers
from fusemax_hw.control.request_arbiter import RequestArbiter
from fusemax_hw.control.sequencer import Sequencer
from fusemax_hw.control.store import Store
from fusemax_hw.control.tile_walker import TileWalker
from fusemax_hw.control.watchdog import Watchdog
from fusemax_hw.memory.block_memory import BlockMemory
from fusemax_hw.top import Machine

TINY = CONFIGS["tiny"]
COMPONENTS = (
    System(TINY, divisor=8, memory_bytes=8192),
    Bridge(TINY, divisor=8, memory_bytes=8192),
    Executor(TINY, 8192, 512, 4096, 4096),
    FrameReceiver(4096),
    FrameSender(4096),
    FrameWriter(4096),
    UartReceiver(8),
    UartTransmitter(8),
    BurstSplitter(TINY, 1),
    Reader(TINY, 1),
    SkidBuffer(8),
    WindowStage(TINY, 1),
    Writer(TINY),
    DescriptorCheck(TINY),
    Dispatcher(replace(TINY, functions=True)),
    IssueWalker(TINY),
    JobTable(48),
    LoadWalker(TINY, "q"),
    ProgramStore(TINY),
    Registers(TINY),
    RequestArbiter(TINY),
    Sequencer(replace(TINY, functions=True)),
    Store(TINY),
    TileWalker(TINY, "q"),
    Watchdog(),
    BlockMemory(TINY, 8192),
    Machine(TINY),
)


def described(component) -> dict[str, str]:
    """Direction of every port in the docstring's section on members."""
    section = component.__doc__.split("Members\n    -------\n")[1].split("\n\n")[0]
    lines = re.findall(r"^    (\w[\w, ]*) : (In|Out)\(.+\)(?:\.array\(\w+\))?\n        \S", section, re.MULTILINE)
    return dict(chain.from_iterable(((name, direction) for name in names.split(", ")) for names, direction in lines))


@pytest.mark.parametrize("component", COMPONENTS, ids=lambda component: type(component).__name__)
def test_every_port_is_described(component):
    ports = {name: "In" if member.flow is In else "Out" for name, member in component.signature.members.items()}
    assert described(component) == ports


@pytest.mark.parametrize("component", COMPONENTS, ids=lambda component: type(component).__name__)
def test_the_first_line_is_short(component):
    first, *rest = component.__doc__.splitlines()
    assert first.endswith(".") and len(first.split()) <= 12
    assert not rest or not rest[0].strip()
