"""Host bridge: memory and registers over a serial line (docs/reference/bridge.md)."""
