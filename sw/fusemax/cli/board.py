"""``fusemax board``: FPGA boards: list, build, load, info, test."""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..board import BAUD, BOARDS
from ..board.connection import LATENCY_S, check_bitstream, connect, look, open_board
from ..bridge import BridgeTransport
from ..errors import MissingExtraError
from ..evaluation.board_selftest import check_memory, check_results
from ..spec import IDENTITY, Config
from .extras import MODULES, require
from .machine import add_machine, machine
from .options import between, table, whole

if TYPE_CHECKING:
    from ..runtime.device import Device

__all__ = ["add"]

#: Seconds after which a transfer is long enough for a bar.
BAR_SECONDS = 1.0
#: The operating system's number of bits per second.
MOST_BAUD = (1 << 31) - 1
#: What a project is written without.
PROJECT_UNUSED = tuple(name for name in MODULES["bitstream"] if name.startswith("yowasp"))


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "board", help="FPGA boards: list, build, load, info, test", description="FPGA boards (docs/measurements/boards.md)."
    )
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")

    listing = actions.add_parser("list", help="boards, and serial ports of this computer")
    listing.set_defaults(function=list_boards)

    building = actions.add_parser(
        "build",
        help="make a bitstream",
        description="Write the project of a board (Verilog, manifest, page, FuseSoC core, C header, constraints, scripts) and "
        "make its bitstream where the tools are open. Extra: bitstream.",
    )
    add_board(building)
    add_machine(building, None, shown="one that fits the board")
    building.add_argument("-o", dest="directory", type=Path, metavar="DIR", help="default: build/board/BOARD-CONFIG")
    building.add_argument("--memory-bytes", type=whole(), metavar="N", help="size of the memory; default: the board's")
    building.add_argument("--clock-mhz", type=between(1, 1000), metavar="MHZ", help="default: the board's")
    building.add_argument(
        "--baud", type=whole(1, MOST_BAUD), metavar="N", help="bits per second of the line; default: the board's"
    )
    building.add_argument("--seed", type=whole(0, (1 << 31) - 1), default=1, help="of nextpnr; default: 1")
    steps = ("project", "synthesis", "bitstream")
    building.add_argument("--until", choices=steps, default=steps[-1], help="last step; default: all for which tools are open")
    building.set_defaults(function=build)

    loading = actions.add_parser("load", help="load a bitstream")
    add_board(loading)
    loading.add_argument("bitstream", type=Path, metavar="FILE")
    loading.add_argument("--flash", action="store_true", help="into the flash memory, so that it stays")
    loading.set_defaults(function=load)

    information = actions.add_parser("info", help="what a board at a serial port says of itself")
    add_port(information)
    information.set_defaults(function=info)

    testing = actions.add_parser("test", help="test a board at a serial port")
    add_port(testing)
    add_machine(testing, None, shown="that of --board")
    testing.add_argument(
        "--board",
        choices=tuple(BOARDS),
        default=next(iter(BOARDS)),
        help=f"whose default configuration the bitstream was made for; default: {next(iter(BOARDS))}",
    )
    testing.add_argument("--heads", type=whole(1), default=1, metavar="N", help="heads of a MiniLM layer; default: 1")
    testing.add_argument("--tokens", type=whole(1), metavar="N", help="only the first N tokens")
    testing.add_argument("--decode", type=whole(0), default=4, metavar="N", help="tokens to decode with a cache; default: 4")
    testing.set_defaults(function=test)

    for action in (listing, building, information, testing):
        action.add_argument("--json", action="store_true", help="print as JSON")


def add_board(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("board", choices=tuple(BOARDS), metavar="BOARD", help=", ".join(BOARDS))


def add_port(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--port", required=True, metavar="NAME", help="serial port, such as /dev/ttyUSB0")
    parser.add_argument(
        "--baud", type=whole(1, MOST_BAUD), default=BAUD, metavar="N", help=f"as the bitstream was made for; default: {BAUD}"
    )
    parser.add_argument(
        "--latency", type=between(1e-6, 60), default=LATENCY_S, metavar="SECONDS", help=f"of the line; default: {LATENCY_S}"
    )


def board_machine(options: argparse.Namespace) -> Config:
    """Return the machine that the options ask for; it is the board's default one, or made of it, without ``--config``."""
    options.config = options.config or BOARDS[options.board].config
    return machine(options)


def list_boards(options: argparse.Namespace) -> int:
    from ..board.port import find_ports

    try:
        ports = [{"port": name, "description": description} for name, description in find_ports()]
    except MissingExtraError:
        ports = None
    if options.json:
        print(json.dumps({"boards": [asdict(board) for board in BOARDS.values()], "ports": ports}, indent=2))
        return 0
    header = ["board", "FPGA", "LUTs", "multipliers", "machine", "memory KiB", "MHz", "baud", "tools"]
    rows = [
        [
            board.name,
            board.part,
            f"{board.luts}",
            f"{board.multipliers}",
            f"{board.config.rows} x {board.config.columns}",
            f"{board.memory_bytes >> 10}",
            f"{board.clock_hz / 1e6:g}",
            f"{board.baud}",
            board.tools,
        ]
        for board in BOARDS.values()
    ]
    print(table(header, rows))
    print()
    if ports is None:
        print("serial ports: pip install 'fusemax[board]'")
    else:
        print(
            "serial ports:" + "".join(f"\n  {each['port']}  {each['description']}" for each in ports) + (ports == []) * " none"
        )
    return 0


def build(options: argparse.Namespace) -> int:
    config = board_machine(options)
    require("fusemax board build", ["bitstream"], unused=() if options.until != "project" else PROJECT_UNUSED)
    from fusemax_hw.boards.build import write_project

    directory = options.directory or Path("build") / "board" / f"{options.board}-{config.name}"

    def say(text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    project = write_project(
        options.board,
        config,
        directory,
        memory_bytes=options.memory_bytes,
        clock_hz=None if options.clock_mhz is None else options.clock_mhz * 1e6,
        baud=options.baud,
        seed=options.seed,
    )
    project.save()
    if options.until != "project":
        say("synthesis ...")
        used = project.synthesise()
        say(", ".join(f"{name.replace('_', ' ')}: {used[name]} of {project.report['available'][name]}" for name in used))
        if options.until == "bitstream" and project.is_open:
            say("place and route ...")
            say(f"{project.place() / 1e6:.1f} MHz")
            project.pack()
        elif options.until == "bitstream":
            say(f"no open tools go on from here: see the project in {directory}")
    print(json.dumps(project.report, indent=2) if options.json else directory)
    return 0


def load(options: argparse.Namespace) -> int:
    from ..board.loading import load as load_bitstream

    load_bitstream(options.board, options.bitstream, flash=options.flash)
    return 0


def info(options: argparse.Namespace) -> int:
    port, target = connect(options.port, options.baud, options.latency)
    with contextlib.closing(port):
        found = look(target)
    report = {
        "identity": f"{found.identity:#x}",
        "is a fusemax": found.identity == IDENTITY,
        "interface version": found.version,
        **found.shape,
        **found.limits,
        "memory bytes": found.state.memory_bytes,
        "bridge version": found.state.version,
    }
    if options.json:
        print(json.dumps(report, indent=2))
    else:
        print(table(["", ""], [[name.replace("_", " "), str(value)] for name, value in report.items()]))
    return 0


def test(options: argparse.Namespace) -> int:
    config = board_machine(options)
    outcomes = []
    start = time.monotonic()
    port, target = connect(options.port, options.baud, options.latency)
    with contextlib.closing(port):
        # A job that somebody has left under way would write to the memory that is tested.
        target.reset()
        check_bitstream(target, config)
        outcomes.append(check_memory(target))
        counts = asdict(target.link.counts)
    with (
        transfer_bar() as bar,
        open_board(config, options.port, baud=options.baud, latency_s=options.latency, transfer_progress=bar) as device,
    ):
        for outcome in check_results(device, options.heads, options.tokens, options.decode):
            outcomes.append(outcome)
        report = summary(device, counts, time.monotonic() - start)
    right = all(outcome.right for outcome in outcomes)
    report |= {"config": config.to_dict(), "tests": [asdict(outcome) for outcome in outcomes], "right": right}
    if options.json:
        print(json.dumps(report, indent=2))
        return 0 if right else 1
    rows = [
        [each.name, f"{each.seconds:.2f}", f"{each.cycles or '-'}", "bit for bit" if each.right else "WRONG"]
        for each in outcomes
    ]
    print(table(["test", "seconds", "cycles", ""], rows))
    print()
    shares = {name: f"{report[name]:.1%}" for name in ("transfer", "compute")}
    print(f"of {report['seconds']:.1f} s: transfer {shares['transfer']}, compute {shares['compute']}")
    repeats = ", ".join(
        f"{name.replace('_', ' ')} {report['line'][name]}" for name in ("repeated_requests", "damaged", "timeouts")
    )
    print(f"line: {report['line']['requests']} requests; {repeats}")
    return 0 if right else 1


def summary(device: Device, before: dict[str, int], seconds: float) -> dict[str, Any]:
    """Time of the whole test, shares of it, and what the line has counted."""
    transport = device.transport
    assert isinstance(transport, BridgeTransport)
    line = {name: count + before[name] for name, count in asdict(transport.counts).items()}
    spent = transport.seconds
    return {"seconds": seconds, "transfer": spent.transfer / seconds, "compute": spent.compute / seconds, "line": line}


@contextlib.contextmanager
def transfer_bar() -> Iterator[Callable[[int, int], None] | None]:
    """A bar on stderr for transfers that take long; none if stderr is not a terminal, or ``rich`` is not installed."""
    try:
        from rich.console import Console
        from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn
    except ImportError:
        yield None
        return
    console = Console(stderr=True)
    if not console.is_terminal:
        yield None
        return
    columns = (TextColumn("transfer"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("", visible=False)
        begin = time.monotonic()

        def show(done: int, total: int) -> None:
            nonlocal begin
            if bar.tasks[0].completed >= done:
                begin = time.monotonic()
            long = time.monotonic() - begin >= BAR_SECONDS
            bar.update(task, completed=done, total=total, visible=long and done < total)

        yield show
