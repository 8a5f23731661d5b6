"""Words that travel between the parts of the machine (docs/explanation/microarchitecture.md, section 2).

Every function takes the :class:`~fusemax.spec.Config` and gives a layout; widths are derived here and nowhere else.
"""

from amaranth.hdl import signed, unsigned
from amaranth.lib import data, enum

from fusemax.arith.column_sum import COARSE_BITS
from fusemax.spec import Config, Op

__all__ = [
    "INTERVAL_BITS",
    "NorthSource",
    "OpCode",
    "lane_word",
    "load_word",
    "loaded_query",
    "north_bus",
    "north_word",
    "partial_bus",
    "pe_control",
    "reference_word",
    "state_float",
    "store_word",
    "west_bus",
    "west_word",
]


class OpCode(enum.Enum, shape=3):
    """Main operation of a word; the numbers are the microword's (:class:`fusemax.spec.Op`). ENT is an SLNV with ``first``."""

    NOP = Op.NOP.value
    QK = Op.QK.value
    EXP = Op.EXP.value
    SUM = Op.SUM.value
    SLNV = Op.SLNV.value
    LIN = Op.LIN.value
    SET = Op.SET.value
    ADD = Op.ADD.value


class NorthSource(enum.Enum, shape=2):
    """What a north feeder puts on its column."""

    #: The scaled query element that the word addresses.
    QUERY = 0
    #: The reference RM' of the word's hold index.
    REFERENCE = 1
    #: Which keys the column's query sees.
    INTERVAL = 2
    #: The number in the place of ``keys``, two's complement; the same for all columns.
    CONSTANT = 3


#: A bound on its way along the north edge, relative to the tile: from -512 to 511 at column 0, up to 255 more at the last.
INTERVAL_BITS = 11


def bits_for_count(count: int) -> int:
    """Bits of a number below ``count``."""
    return max(count - 1, 0).bit_length()


def pe_control(config: Config) -> data.StructLayout:
    """Control of a PE, handed on eastward with the west operand."""
    hold = bits_for_count(config.holds)
    return data.StructLayout(
        {
            "op": OpCode,  #: main operation
            "first": 1,  #: QK loads the accumulator
            "max": 1,  #: downward maximum; S moves to hold[hold_max]
            "mask": 1,  #: the north operand says which rows are seen, the west exponent is the row's number
            "hold": hold,  #: hold register that the operation reads
            "hold_max": hold,  #: hold register that MAX writes; on machines with LIN also the one that EXP, LIN and SET do
        }
    )


def west_bus(config: Config) -> data.StructLayout:
    """To a PE from its west."""
    return data.StructLayout(
        {
            "control": pe_control(config),
            "sig": signed(9),  #: significand of k or v, or of a constant; 0 for ENT
            "exponent": unsigned(8),  #: 255 - Ek, 255 - Ev, or the row's number; of a constant the right shift
        }
    )


def north_bus(config: Config) -> data.StructLayout:
    """To a PE from its north.

    Which rows are seen is a bit per row in all bits of the bus, if there are no more rows than these; else ``hi`` and ``lo`` of
    an interval, in the operand's upper and lower 9 bits.
    """
    return data.StructLayout(
        {
            "operand": signed(18),  #: q~, or reference + 1, or -128 for LIN
            "exponent": signed(9),  #: exponent word of q~
        }
    )


def partial_bus(config: Config) -> data.StructLayout:
    """Downward: running sum, or the complement of the running maximum, which the PEs compare by adding."""
    return data.StructLayout(
        {
            "value": signed(config.sum_bits),
            "valid": 1,  #: of a maximum: a row above is visible
            "overflow": 1,  #: of a maximum: a visible score above has left its range; of LIN: has left that of LIN
            "coarse": unsigned(COARSE_BITS),  #: of a sum: coarse exponent, ``Timing.coarse_lead`` cycles ahead of the value
        }
    )


def reference_word(config: Config) -> data.StructLayout:
    """From a lane to the north feeder above it: the reference RM' of a MAX for the ring."""
    return data.StructLayout(
        {
            "valid": 1,  #: write the ring
            "hold": unsigned(bits_for_count(config.holds)),  #: ring entry
            "reference": signed(config.reference_bits),
        }
    )


def west_word(config: Config) -> data.StructLayout:
    """Down the west edge: what feeder r needs to put row r's operand on the west bus."""
    depth = 2 * (config.key_beats + config.value_beats)
    constant = {
        "constant": 1,  #: sig and exponent are the operand
        "sig": signed(9),
        "exponent": unsigned(8),
    }
    return data.StructLayout(
        {
            "control": pe_control(config),
            **(constant if config.functions or config.entropy else {}),
            "beat": unsigned(bits_for_count(depth)),  #: address of the bus word in the row's bank
            "element": unsigned(bits_for_count(config.beat_elements)),  #: element of the bus word
            "row": unsigned(8),  #: number of the row; every feeder hands on one more
            "keys": unsigned(config.rows.bit_length()),  #: keys of the tile: the other rows' operands are zero
            "bias": 1,  #: the operand of row ``keys`` is 1, that of the others 0
        }
    )


def north_word(config: Config) -> data.StructLayout:
    """Along the north edge: what feeder c needs to put column c's operand on the north bus."""
    return data.StructLayout(
        {
            "source": NorthSource,
            "hold": unsigned(bits_for_count(config.holds)),  #: ring entry of the reference
            "beat": unsigned(bits_for_count(config.query_bank_words)),  #: address in the query bank
            "element": unsigned(bits_for_count(config.beat_elements)),  #: element of the bank's word
            "bits": 1,  #: only rows of the interval whose bit in the element is set are seen
            "lo": signed(INTERVAL_BITS),  #: first key of the tile that this column's query sees, if it is one of the tile's
            "hi": signed(INTERVAL_BITS),  #: key behind the last one that it sees, likewise
            "phase": unsigned(8),  #: place of this column's query among those of its position
            "share": unsigned(8),  #: queries of a position, less one; both bounds rise by one with the position
            "keys": unsigned(9),  #: keys of the tile that exist, or a constant
            "queries": unsigned(9),  #: queries from this column eastward; none left: empty interval
        }
    )


def lane_word(config: Config) -> data.StructLayout:
    """Along the lanes, in step with the partial values (a cycle ahead of them at every lane)."""
    hold = bits_for_count(config.holds)
    linear = {
        "check": 1,  #: the partial value's overflow counts: MAX, LIN
        "fixed": 1,  #: the reference is fixed: RM is 0, and states are not rescaled
    }
    return data.StructLayout(
        {
            **(linear if config.linear else {}),
            "max": 1,  #: the partial value is a maximum
            "sum": 1,  #: the partial value is SLD
            "slnv": 1,  #: the partial value is SLNV, or of ENT
            "first_max": 1,  #: MAX of a query tile's first key tile: the old reference is none
            "first": 1,  #: SUM or SLNV of a query tile's first key tile: the old state is zero
            "last": 1,  #: SUM or SLNV of a query tile's last key tile: the result goes out
            "hold": unsigned(hold),  #: ring entry of SUM and SLNV
            "hold_max": unsigned(hold),  #: ring entry of MAX
            "reference": unsigned(bits_for_count(config.reference_words)),  #: reference memory address of MAX
            "state": unsigned(bits_for_count(config.state_words)),  #: state memory address of SUM and SLNV
            "float32_out": 1,  #: results are float32, else bfloat16
            "raw_out": 1,  #: results are not divided by the denominator
            "element": unsigned(bits_for_count(config.beat_elements)),  #: place of the result in its bus word
            "write": 1,  #: the bus word is complete: write it; of SUM: reference and denominator are a bus word
            "output": unsigned(bits_for_count(config.output_beats)),  #: output buffer address of the bus word
        }
    )


def load_word(config: Config, payload_bits: int, depth: int) -> data.StructLayout:
    """Along an edge: a loaded bus word on its way to the bank of the feeder that ``skip`` counts down to."""
    return data.StructLayout(
        {
            "valid": 1,
            "skip": unsigned(8),  #: feeders still to pass; 0: this one
            "beat": unsigned(bits_for_count(depth)),  #: bank address
            "payload": unsigned(payload_bits),
        }
    )


def loaded_query(config: Config) -> data.ArrayLayout:
    """A query bank's word: the scaled elements of one bus word."""
    return data.ArrayLayout(north_bus(config), config.beat_elements)


def store_word(config: Config) -> data.StructLayout:
    """Along the lanes: a request for an output word, and the word itself once its lane is passed."""
    return data.StructLayout(
        {
            "valid": 1,
            "skip": unsigned(8),  #: lanes still to pass; 0: this one answers
            "done": 1,  #: a lane has answered: the payload travels on unchanged
            "output": unsigned(bits_for_count(config.output_beats)),  #: output buffer address
            "payload": unsigned(config.bus_bits),
        }
    )


def state_float() -> data.StructLayout:
    """Running numerator or denominator; zero is exponent -512."""
    return data.StructLayout({"fraction": unsigned(23), "exponent": signed(10), "sign": 1})
