"""``fusemax run``: attention of a real layer on a device, checked and measured."""

from __future__ import annotations

import argparse
import contextlib
import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from ..evaluation import exact, minilm
from .extras import require
from .machine import add_machine, machine
from .options import positive, table, whole
from .program_files import write_program

if TYPE_CHECKING:
    from ..runtime.device import Device

__all__ = ["ERROR_BUDGET", "add"]

#: Largest error allowed, as a multiple of that of rounding the exact result to bfloat16.
ERROR_BUDGET = 1.03

#: Takes what is going on, and the tiles issued so far.
Progress = Callable[[str, int], None]


@dataclass(frozen=True)
class Figures:
    """What one call of attention showed.

    Members
    -------
    heads
        Which heads of the layer.
    cycles
        First doorbell to last interrupt.
    utilisation
        Multiply-adds of QK and SLNV over those that the array could have done in these cycles.
    error, rounding_error
        Relative L2 error of the result, and of the exact result rounded to bfloat16, both against float64.
    as_model
        The bit-exact model gave the same bits; None if it is the device itself.
    """

    heads: list[int]
    cycles: int
    utilisation: float
    error: float
    rounding_error: float
    as_model: bool | None

    @property
    def correct(self) -> bool:
        return self.as_model is not False and self.error <= ERROR_BUDGET * self.rounding_error


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "run",
        help="run attention of a real layer",
        description="Run attention of a layer of all-MiniLM-L6-v2 on the emitted Verilog, head by head and all heads in one "
        "call; compare with the bit-exact model and with float64; write figures.json, and the program as fusemax compile "
        "does. Extras: sim for the device rtl; cli for the picture and the bar.",
    )
    data = minilm.load()
    add_machine(parser, "base")
    parser.add_argument("--device", choices=("rtl", "model"), default="rtl", help="default: rtl")
    parser.add_argument("--layer", type=whole(), choices=data.layers, default=data.layers[0], help=f"default: {data.layers[0]}")
    parser.add_argument("--heads", type=whole(), default=len(data.heads), metavar="N", help="only the layer's first N heads")
    parser.add_argument(
        "--trace",
        type=Path,
        metavar="FILE",
        help="write a waveform, *.fst or *.vcd, and views of it for GTKWave and Surfer",
    )
    parser.add_argument(
        "--trace-depth",
        type=whole(),
        metavar="N",
        help="levels of the hierarchy in it: 1 buses and interrupt, 2 the device's ports, 5 also the blocks that control the "
        "array, more its inside; default: 5",
    )
    parser.add_argument(
        "--trace-cycles", type=cycles, metavar="FIRST:LAST", help="only these cycles, counted from the end of reset"
    )
    parser.add_argument("--timeout", type=positive, metavar="SECONDS", help="longest time of one call")
    parser.add_argument("-o", dest="directory", type=Path, default=Path("build/run"), metavar="DIR", help="default: build/run")
    parser.add_argument("--json", action="store_true", help="print figures as JSON")
    parser.set_defaults(function=run)


def cycles(text: str) -> tuple[int, int]:
    """Read ``FIRST:LAST``."""
    first, separator, last = text.partition(":")
    if not (separator and first.isdecimal() and last.isdecimal()):
        raise argparse.ArgumentTypeError(f"must be FIRST:LAST, two cycle numbers, not {text!r}")
    return int(first), int(last)


def run(options: argparse.Namespace) -> int:
    import fusemax

    data = minilm.load()
    if not 1 <= options.heads <= len(data.heads):
        raise ValueError(f"--heads must be from 1 to {len(data.heads)}, not {options.heads}")
    config = machine(options)
    if options.trace is not None and options.device == "model":
        raise ValueError("--trace must come with --device rtl: the model has no signals")
    for name, value in (("--trace-depth", options.trace_depth), ("--trace-cycles", options.trace_cycles)):
        if value is not None and options.trace is None:
            raise ValueError(f"{name} must come with --trace, the file that it is about")
    if options.device == "rtl":
        require("fusemax run --device rtl", ["sim"])
    q, k, v = (x[data.layers.index(options.layer), : options.heads] for x in (data.q, data.k, data.v))
    program = fusemax.compile("attention_1pass", head_dim=q.shape[-1], value_dim=v.shape[-1], config=config)
    tiles = -(-q.shape[-2] // config.columns) * -(-k.shape[-2] // config.rows)

    traced = {name: getattr(options, name) for name in ("trace", "trace_depth", "trace_cycles")}
    written = write_program(program, "attention_1pass", options.directory)
    calls = [[head] for head in range(options.heads)]
    if options.heads > 1:
        calls.append(list(range(options.heads)))
    with progress_bar(sum(map(len, calls)) * tiles) as progress:
        progress("opening the device", 0)
        with (
            fusemax.open(options.device, config=config, **traced) as device,
            contextlib.nullcontext() if options.device == "model" else fusemax.open("model", config=config) as model,
        ):
            figures, done = [], 0
            for heads in calls:
                name = f"head {heads[0]}" if len(heads) == 1 else "all heads"
                figures.append(
                    measure(
                        q[heads],
                        k[heads],
                        v[heads],
                        [data.heads[head] for head in heads],
                        device,
                        model,
                        options.timeout,
                        lambda issued, _, name=name, done=done: progress(name, done + issued),
                    )
                )
                done += len(heads) * tiles
            progress("done", done)

    report = {
        "device": options.device,
        "config": config.to_dict(),
        "layer": options.layer,
        "tokens": q.shape[-2],
        "head_dim": q.shape[-1],
        "calls": [{**asdict(figure), "correct": figure.correct} for figure in figures],
        "correct": all(figure.correct for figure in figures),
    }
    text = json.dumps(report, indent=2)
    figures_file = options.directory / "figures.json"
    figures_file.write_text(text + "\n", encoding="utf-8", newline="\n")
    if options.json:
        print(text)
    else:
        print(f"Layer {options.layer} of all-MiniLM-L6-v2, {q.shape[-2]} tokens, on {options.device}, {config.name} ", end="")
        print(f"({config.rows} x {config.columns})\n")
        print(figures_table(figures))
        print("\nerror: relative L2 against float64; rounding: that of the exact result in bfloat16;")
        print(f"budget: {ERROR_BUDGET} x rounding")
        for path in (figures_file, *written):
            print(path)
    return 0 if report["correct"] else 1


def measure(
    q: NDArray[Any],
    k: NDArray[Any],
    v: NDArray[Any],
    heads: list[int],
    device: Device,
    model: Device | None,
    timeout: float | None,
    progress: Callable[[int, int], None],
) -> Figures:
    """One call of attention on ``device``, compared with the model and with float64."""
    import fusemax

    result = fusemax.attention(q, k, v, device=device, timeout=timeout, progress=progress)
    cycles = device.counters.cycles
    expected = None if model is None else fusemax.attention(q, k, v, device=model)
    exact_result = exact.attention(q, k, v)
    config = device.config
    macs = len(heads) * q.shape[-2] * k.shape[-2] * (q.shape[-1] + v.shape[-1])
    return Figures(
        heads=heads,
        cycles=cycles,
        utilisation=macs / (config.rows * config.columns * cycles),
        error=exact.relative_error(result, exact_result),
        rounding_error=exact.relative_error(exact_result.astype(ml_dtypes.bfloat16), exact_result),
        as_model=None if expected is None else bool(np.array_equal(result.view(np.uint16), expected.view(np.uint16))),
    )


def figures_table(figures: list[Figures]) -> str:
    """The table that the command prints."""
    header = ("head", "cycles", "utilisation", "error", "rounding", "as the model", "")
    rows = [
        (
            f"{f.heads[0]}" if len(f.heads) == 1 else "all, one call",
            f"{f.cycles}",
            f"{f.utilisation:.4f}",
            f"{f.error:.3e}",
            f"{f.rounding_error:.3e}",
            {None: "-", True: "bit for bit", False: "NO"}[f.as_model],
            "ok" if f.correct else "WRONG",
        )
        for f in figures
    ]
    return table(header, rows)


@contextlib.contextmanager
def progress_bar(tiles: int) -> Iterator[Progress]:
    """A bar of so many tiles on stderr; none if ``rich`` is not installed."""
    try:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
    except ImportError:
        yield lambda text, issued: None
        return
    columns = (SpinnerColumn(), TextColumn("{task.description:18}"), BarColumn(), TextColumn("{task.percentage:3.0f} %"))
    with Progress(*columns, TimeElapsedColumn(), console=Console(stderr=True)) as bar:
        task = bar.add_task("", total=tiles)
        yield lambda text, issued: bar.update(task, description=text, completed=issued)
