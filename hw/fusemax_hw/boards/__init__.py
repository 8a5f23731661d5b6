"""The machine as a whole system for an FPGA board, and the boards.

A board is a file of its own: its platform of amaranth-boards, its pins and its PLL. What the host must know too stands in
:mod:`fusemax.board.catalog`.
"""
