"""Sequencer, walkers, loader, store engine, registers: everything that decides."""
