"""The host bridge with a memory, simulated from its RTL, and the real host code on the other end of its line."""

from .build import build_bridge
from .soak import Soak, Throughput, measure_throughput, soak
from .stream import BridgeSimulation, Noise

__all__ = ["BridgeSimulation", "Noise", "Soak", "Throughput", "build_bridge", "measure_throughput", "soak"]
