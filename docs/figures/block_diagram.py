"""Draw the block diagram of a machine as SVG, with the sizes of a configuration.

    python docs/figures/block_diagram.py [FILE [CONFIG]]

The same configuration gives the same bytes, so that a test can compare the committed picture with this script.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from xml.etree import ElementTree

from fusemax.spec import Config, config_named

TARGET = Path(__file__).with_name("block_diagram.svg")
SIZE = 1060, 700
FONT = "Helvetica, Arial, sans-serif"
CONTROL, LOADING, ARRAY, LANES, OUTSIDE = "#dbe7f5", "#e3f1dc", "#fde9c8", "#f6d9d5", "#eeeeee"
LINE, DATA, CONTROL_LINE = "#333333", "#2f6b2f", "#2b5c94"

#: Rows and columns that are drawn, whatever the machine has.
SHOWN = 4
#: Left edge of column 0, its distance to the next one, and the same of the rows.
LEFT, COLUMN_STEP, PE_WIDTH = 470, 88, 74
TOP, ROW_STEP, PE_HEIGHT = 300, 52, 38


class Drawing:
    """SVG elements in the order in which they are drawn."""

    def __init__(self, width: int, height: int) -> None:
        box = f"0 0 {width} {height}"
        attributes = {"xmlns": "http://www.w3.org/2000/svg", "viewBox": box, "font-family": FONT}
        self.root = ElementTree.Element("svg", attributes)
        self._add("title").text = "Block diagram"
        markers = self._add("defs")
        for name, colour in (("data", DATA), ("control", CONTROL_LINE)):
            marker = ElementTree.SubElement(
                markers, "marker", id=name, viewBox="0 0 8 8", refX="7", refY="4", markerWidth="8", markerHeight="8"
            )
            marker.set("markerUnits", "userSpaceOnUse")
            marker.set("orient", "auto")
            ElementTree.SubElement(marker, "path", d="M0 0L8 4L0 8z", fill=colour)
        self._add("rect", width=width, height=height, fill="white")

    def _add(self, tag: str, **attributes: object) -> ElementTree.Element:
        names = {name.replace("_", "-"): f"{value}" for name, value in attributes.items()}
        return ElementTree.SubElement(self.root, tag, names)

    def box(self, x: int, y: int, width: int, height: int, fill: str, lines: Sequence[str], size: int = 13) -> None:
        """Draw a box; the first line of its text is bold."""
        self._add("rect", x=x, y=y, width=width, height=height, rx=4, fill=fill, stroke=LINE)
        leading = size + 2
        first = y + height / 2 - leading * (len(lines) - 1) / 2 + size / 3
        for number, line in enumerate(lines):
            weight = "bold" if number == 0 else "normal"
            self.text(x + width / 2, first + number * leading, line, size if number == 0 else size - 2, weight)

    def text(self, x: float, y: float, text: str, size: int = 11, weight: str = "normal", anchor: str = "middle") -> None:
        """Write a line of text."""
        self._add(
            "text", x=f"{x:g}", y=f"{y:.1f}", font_size=size, font_weight=weight, text_anchor=anchor, fill=LINE
        ).text = text

    def arrow(self, *points: tuple[int, int], kind: str = "data") -> None:
        """Draw an arrow along ``points``: ``data`` thick and green, ``control`` thin and blue."""
        colour, width = (DATA, 2) if kind == "data" else (CONTROL_LINE, 1.3)
        path = "M" + "L".join(f"{x} {y}" for x, y in points)
        self._add("path", d=path, fill="none", stroke=colour, stroke_width=width, marker_end=f"url(#{kind})")

    def to_text(self) -> str:
        """Return the file's text."""
        ElementTree.indent(self.root)
        return ElementTree.tostring(self.root, encoding="unicode") + "\n"


def block_diagram(config: Config) -> str:
    """Return the SVG of ``config``'s block diagram."""
    drawing = Drawing(*SIZE)
    draw_outside(drawing, config)
    draw_control(drawing)
    draw_loading(drawing, config)
    draw_array(drawing, config)
    draw_lanes(drawing, config)
    draw_legend(drawing)
    return drawing.to_text()


def draw_outside(drawing: Drawing, config: Config) -> None:
    """Draw memory and host."""
    lines = ("Memory", "job ring · programs · queries, keys, values · results")
    drawing.box(20, 20, 1020, 52, OUTSIDE, lines)
    drawing.text(280, 88, f"AXI4, {config.bus_bits} bits", anchor="start")
    drawing.box(20, 610, 150, 52, OUTSIDE, ("Host", "AXI4-Lite, interrupt"))
    drawing.arrow((80, 610), (80, 562), kind="control")
    drawing.arrow((110, 560), (110, 608), kind="control")


def draw_control(drawing: Drawing) -> None:
    """Draw what decides: registers, dispatcher, walkers, program, sequencer."""
    drawing.box(20, 508, 150, 52, CONTROL, ("Registers", "doorbell, counters"))
    drawing.box(20, 410, 150, 52, CONTROL, ("Dispatcher", "descriptor to job"))
    drawing.box(20, 180, 150, 74, CONTROL, ("Walkers", "queries, keys, values,", "tiles, results"))
    drawing.box(205, 404, 130, 64, CONTROL, ("Program", "one microword", "per slot"))
    drawing.box(205, 264, 130, 74, CONTROL, ("Sequencer", "issues a microword", "or waits"))
    drawing.arrow((95, 508), (95, 464), kind="control")
    drawing.arrow((95, 410), (95, 256), kind="control")
    drawing.arrow((170, 436), (203, 436), kind="control")
    drawing.arrow((270, 404), (270, 340), kind="control")
    drawing.arrow((170, 236), (230, 236), (230, 262), kind="control")
    drawing.arrow((335, 285), (449, 285), kind="control")
    drawing.text(402, 279, "words to corner")


def draw_loading(drawing: Drawing, config: Config) -> None:
    """Draw the way of queries, keys and values to the edges of the array."""
    drawing.box(205, 110, 130, 46, LOADING, ("Reader", f"{config.outstanding_reads} bursts under way"))
    drawing.box(205, 186, 130, 40, LOADING, ("Loader", "scales queries"))
    drawing.arrow((270, 72), (270, 108))
    drawing.arrow((270, 156), (270, 184))
    drawing.arrow((95, 180), (95, 133), (203, 133), kind="control")
    for column in range(SHOWN):
        x = LEFT + column * COLUMN_STEP
        drawing.box(x, 186, PE_WIDTH, 74, LOADING, ("North", f"feeder {column}", "query bank,", "references"), 12)
    for row in range(SHOWN):
        y = TOP + row * ROW_STEP
        drawing.box(360, y, 80, PE_HEIGHT, LOADING, (f"West {row}", "key, value"), 12)
    drawing.arrow((335, 206), (LEFT - 2, 206))
    drawing.arrow((348, 206), (348, 319), (358, 319))
    for row in range(SHOWN - 1):
        y = TOP + row * ROW_STEP + PE_HEIGHT
        drawing.arrow((400, y), (400, y + ROW_STEP - PE_HEIGHT - 1))
    for column in range(SHOWN - 1):
        x = LEFT + column * COLUMN_STEP + PE_WIDTH
        drawing.arrow((x, 223), (x + COLUMN_STEP - PE_WIDTH - 1, 223))


def draw_array(drawing: Drawing, config: Config) -> None:
    """Draw the PEs: operands go east and south, partial values south."""
    for row in range(SHOWN):
        for column in range(SHOWN):
            x, y = LEFT + column * COLUMN_STEP, TOP + row * ROW_STEP
            drawing.box(x, y, PE_WIDTH, PE_HEIGHT, ARRAY, (f"PE {row},{column}",), 12)
            start = x - (COLUMN_STEP - PE_WIDTH) if column else 440
            drawing.arrow((start, y + PE_HEIGHT // 2), (x - 1, y + PE_HEIGHT // 2))
            above = y - (ROW_STEP - PE_HEIGHT) if row else 260
            drawing.arrow((x + PE_WIDTH // 2, above), (x + PE_WIDTH // 2, y - 1))
    right = LEFT + SHOWN * COLUMN_STEP
    size = f"{config.rows} rows × {config.columns} columns"
    for number, line in enumerate((size, "a row: a key of the tile", "a column: a query")):
        drawing.text(right + 8, TOP + 30 + 17 * number, line, 12, "bold" if number == 0 else "normal", "start")
    notes = (
        "operands: east and south,",
        "one PE per cycle",
        "partial values: south",
        "PE: multiplier, shifter,",
        f"adder, table of 2^f, {config.holds} holds",
    )
    for number, line in enumerate(notes):
        drawing.text(right + 8, TOP + 93 + 16 * number, line, 11, "normal", "start")


def draw_lanes(drawing: Drawing, config: Config) -> None:
    """Draw the lanes and the way of the results to memory."""
    bottom = TOP + SHOWN * ROW_STEP
    for column in range(SHOWN):
        x = LEFT + column * COLUMN_STEP
        drawing.box(x, bottom + 14, PE_WIDTH, 96, LANES, (f"Lane {column}", "RM, RD, RNV", "1 / RD", "output", "buffer"), 12)
        drawing.arrow((x + PE_WIDTH // 2, bottom - ROW_STEP + PE_HEIGHT), (x + PE_WIDTH // 2, bottom + 12))
        if column < SHOWN - 1:
            edge = x + PE_WIDTH
            drawing.arrow((edge, bottom + 62), (edge + COLUMN_STEP - PE_WIDTH - 1, bottom + 62))
    right = LEFT + SHOWN * COLUMN_STEP
    drawing.box(870, bottom + 36, 130, 52, LANES, ("Store", "collects results"))
    drawing.box(870, 110, 130, 46, LANES, ("Writer", f"{config.outstanding_writes} bursts under way"))
    drawing.arrow((right - (COLUMN_STEP - PE_WIDTH), bottom + 62), (868, bottom + 62))
    drawing.arrow((1000, bottom + 62), (1016, bottom + 62), (1016, 133), (1002, 133))
    drawing.arrow((935, 110), (935, 74))
    # New references go back to the north feeders.
    drawing.arrow(
        (LEFT + 12, bottom + 14), (LEFT + 12, bottom + 5), (456, bottom + 5), (456, 240), (LEFT - 2, 240), kind="control"
    )
    drawing.text(452, bottom + 22, "references back,", 11, "normal", "end")
    drawing.text(452, bottom + 36, "in every column", 11, "normal", "end")


def draw_legend(drawing: Drawing) -> None:
    """Draw what the two kinds of arrows mean."""
    drawing.arrow((205, 630), (245, 630))
    drawing.text(252, 634, "data", anchor="start")
    drawing.arrow((205, 650), (245, 650), kind="control")
    drawing.text(252, 654, "control, references", anchor="start")
    drawing.text(470, 650, "Drawn with 4 rows and 4 columns; every machine has the same parts.", 11, "normal", "start")


def main() -> None:
    parser = argparse.ArgumentParser(description="Draw the machine's block diagram.")
    parser.add_argument("target", nargs="?", type=Path, default=TARGET, help="file to write")
    parser.add_argument("config", nargs="?", default="tiny", help="name of a configuration")
    options = parser.parse_args()
    options.target.write_text(block_diagram(config_named(options.config)), encoding="utf-8")


if __name__ == "__main__":
    main()
