"""Host side of the bridge: memory and registers over a serial line (docs/reference/bridge.md)."""

from .bridge_transport import BridgeTransport
from .line import ByteStream, Counts, LinkError, LinkRestartedError, LinkTimeoutError
from .link import Link, Order
from .target import AccessError, Target

__all__ = [
    "AccessError",
    "BridgeTransport",
    "ByteStream",
    "Counts",
    "Link",
    "LinkError",
    "LinkRestartedError",
    "LinkTimeoutError",
    "Order",
    "Target",
]
