from collections.abc import Callable, Mapping

import numpy as np
import pytest
from amaranth.hdl import Value
from amaranth.sim import Simulator


def run_unit(unit, inputs: Mapping[str, np.ndarray], outputs: tuple[str, ...]) -> dict[str, np.ndarray]:
    """Gives ``unit`` one set of inputs a cycle and returns its outputs ``unit.latency`` cycles later.

    A dotted name is a field. Inputs are integers; outputs come as integers of their shape.
    """

    def port(name: str):
        value = unit
        for part in name.split("."):
            value = getattr(value, part)
        return value

    columns = [(Value.cast(port(name)), [int(value) for value in values]) for name, values in inputs.items()]
    count = len(columns[0][1])
    probes = [Value.cast(port(name)) for name in outputs]
    results: list[list[int]] = [[] for _ in probes]

    async def testbench(ctx):
        for cycle in range(count + unit.latency):
            if cycle < count:
                for signal, values in columns:
                    ctx.set(signal, values[cycle])
            if cycle >= unit.latency:
                for probe, result in zip(probes, results, strict=True):
                    result.append(ctx.get(probe))
            await ctx.tick()

    simulator = Simulator(unit)
    simulator.add_clock(1e-6)
    simulator.add_testbench(testbench)
    simulator.run()
    return {name: np.array(result, np.int64) for name, result in zip(outputs, results, strict=True)}


@pytest.fixture(name="run_unit")
def run_unit_fixture() -> Callable[..., dict[str, np.ndarray]]:
    return run_unit
