"""Memories in the emitted Verilog."""
