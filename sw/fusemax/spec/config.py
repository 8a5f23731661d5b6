"""Parameters of one generated machine."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from operator import index
from typing import Any

from .integers import ceil_div, clog2
from .timing import Timing

__all__ = ["CONFIGS", "NORTH_BITS", "Config", "config_named"]

#: Bits of the bus that goes down a column: one per row of a mask, if the rows are no more.
NORTH_BITS = 27
BUS_WIDTHS = (32, 64, 128, 256, 512, 1024)
#: A microword has 10 bits for the number of a feature.
MAX_HEAD_DIM = 1023
#: Walkers count the bus words of a row in 9 bits; a float32 row of output has a word more in front.
MAX_ROW_BEATS = 511
#: Files have a configuration's name in theirs, which a file system limits.
LONGEST_NAME = 100


@dataclass(frozen=True, kw_only=True)
class Config:
    """What is fixed when the Verilog is written; everything else is a run-time value.

    Raises
    ------
    TypeError
        If a field is not of its type; NumPy's integers and truth values are taken, and become Python's.
    ValueError
        If a field is out of its range; the message names the field, the value and the range.
    """

    #: Name in file names and in the manifest, of up to 100 letters, digits and underscores.
    name: str = "custom"
    #: PE rows: keys per tile (M0), 2 to 256.
    rows: int
    #: PE columns and lanes: queries per tile (P0), 2 to 256.
    columns: int
    #: Largest head dim of queries and keys (E), 1 to 256.
    max_e: int = 64
    #: Largest head dim of values (F), 1 to 256.
    max_f: int = 64
    #: Width of the AXI4 data bus, in bits.
    bus_bits: int = 64
    #: Width of an AXI4 address, in bits.
    address_bits: int = 40
    #: Bursts that may be under way on the read channel.
    outstanding_reads: int = 16
    #: Bursts that may be under way on the write channel: until their response has come.
    outstanding_writes: int = 16
    #: Query tiles whose state stays on chip at ``max_e``, ``max_f`` (P1); more fit when head dims are smaller.
    query_tiles: int = 4
    #: Score registers of a PE, 2 to 9: its accumulator and ``contexts - 1`` hold registers. If not given, 3 or more, so that
    #: the initiation interval is E + F + 2 at head dims of 32 and more (or the largest, if they are smaller).
    contexts: int = 0
    #: Register stages of a PE, operands to accumulator, 2 to 5.
    pe_latency: int = 4
    #: Bits of a score S in a PE, two's complement.
    score_bits: int = 32
    #: Bits of a score's fraction (SF).
    score_frac_bits: int = 16
    #: Operation LIN, weights with a sign, fixed references.
    linear: bool = False
    #: Operations SET and ADD, EXP of -|S|, a spare hold register: weights that are functions of the score. Brings ``linear``.
    functions: bool = False
    #: Operation ENT: sums of weight times score.
    entropy: bool = False

    def __post_init__(self) -> None:
        if not isinstance(self.name, str):
            raise TypeError(f"name must be a string, not {self.name!r}")
        if not self.name.replace("_", "").isalnum() or not self.name.isascii():
            raise ValueError(f"name must be letters, digits and underscores, not {self.name!r}")
        if len(self.name) > LONGEST_NAME:
            raise ValueError(f"name must be of at most {LONGEST_NAME} characters, not {len(self.name)}")
        for field in ("linear", "functions", "entropy"):
            object.__setattr__(self, field, _switch(field, getattr(self, field)))
        if self.functions:
            object.__setattr__(self, "linear", True)
        for field, low, high in (
            ("rows", 2, 256),
            ("columns", 2, 256),
            ("max_e", 1, MAX_HEAD_DIM),
            ("max_f", 1, MAX_HEAD_DIM),
            ("address_bits", 12, 64),
            ("outstanding_reads", 1, 256),
            ("outstanding_writes", 2, 256),
            ("query_tiles", 1, 64),
            ("pe_latency", 2, 5),
            ("contexts", 2, 9),
            ("score_bits", 26, 34),
            ("score_frac_bits", 10, 20),
        ):
            value = _integer(field, getattr(self, field))
            if field == "contexts" and value == 0:
                value = self._enough_contexts()
            object.__setattr__(self, field, value)
            if not low <= value <= high:
                raise ValueError(f"{field} must be from {low} to {high}, not {value}")
        if self.functions and self.contexts < 3:
            raise ValueError(
                f"contexts must be 3 or more with functions, whose spare hold register no tile has, not {self.contexts}"
            )
        self._check_bus()
        if self.score_bits - self.score_frac_bits < 10:
            raise ValueError(
                f"score_frac_bits must leave 10 of the {self.score_bits} score_bits to the integer part, "
                f"not {self.score_bits - self.score_frac_bits}"
            )

    def _check_bus(self) -> None:
        object.__setattr__(self, "bus_bits", _integer("bus_bits", self.bus_bits))
        if self.bus_bits not in BUS_WIDTHS:
            raise ValueError(f"bus_bits must be one of {', '.join(map(str, BUS_WIDTHS))}, not {self.bus_bits!r}")
        words = MAX_ROW_BEATS * self.bus_bytes
        for field, most in (("max_e", words // 2), ("max_f", (words - self.bus_bytes) // 4)):
            if getattr(self, field) > most:
                raise ValueError(
                    f"{field} must be at most {most} on a bus of {self.bus_bits} bits, whose rows have at most {MAX_ROW_BEATS} "
                    f"words, not {getattr(self, field)}"
                )

    def _enough_contexts(self) -> int:
        """A tile's scores stay in a hold register from MAX to the last SLNV; a new tile needs one every initiation interval."""
        e, f = min(self.max_e, 32), min(self.max_f, 32)
        return min(9, max(3, 1 + ceil_div(Timing(self).lifetime(f), e + f + 2)))

    # -- formats that follow ---------------------------------------------------------------------------------

    @property
    def product_align(self) -> int:
        """Bits by which a product is moved left before the right shift onto the grid of the scores or sums."""
        return self.score_bits - 25

    @property
    def sum_bits(self) -> int:
        """Bits of the sums that travel down the columns (W), two's complement.

        Room for ``rows`` aligned products of weight and value, each below 2^25 before it is aligned, and for a score and a
        placed product, so that no addition wraps unseen.
        """
        return self.score_bits + 1 + max(2, clog2(self.rows))

    @property
    def query_exponent_bias(self) -> int:
        """Exponent word of a query element: this minus its biased exponent (see docs/explanation/microarchitecture.md)."""
        return 277 + self.product_align - self.score_frac_bits - 255

    @property
    def reference_bits(self) -> int:
        """Bits of a reference RM: the integer part of a score, rounded up."""
        return self.score_bits - self.score_frac_bits + 1

    @property
    def mantissa_bits(self) -> int:
        """Bits of a weight's mantissa in a hold register, where its exponent lies above it; with a sign if there is LIN."""
        return 18 if self.linear else 17

    @property
    def linear_shift(self) -> int:
        """Lowest bit of a score that LIN takes: its weight has 18 bits, unit 2^-12 unless the score's is coarser."""
        return max(0, self.score_frac_bits - 12)

    @property
    def holds(self) -> int:
        """Hold registers of a PE (H); also the depth of the rings of references, rescales and reciprocals."""
        return self.contexts - 1

    # -- sizes of the memories ---------------------------------------------------------------------------------

    @property
    def bus_bytes(self) -> int:
        return self.bus_bits // 8

    @property
    def beat_elements(self) -> int:
        """16-bit elements in one bus word."""
        return self.bus_bits // 16

    def beats(self, elements: int, element_bytes: int = 2) -> int:
        """Bus words of a row of ``elements`` elements."""
        return ceil_div(elements * element_bytes, self.bus_bytes)

    @property
    def key_beats(self) -> int:
        """Bus words of one of a row's two key buffers."""
        return self.beats(self.max_e)

    @property
    def value_beats(self) -> int:
        """Bus words of one of a row's two value buffers."""
        return self.beats(self.max_f)

    @property
    def values_in_keys(self) -> bool:
        """Whether values may be the first elements of the keys (``Descriptor.values_in_keys``): a row's bank has to hold three
        keys then, since each stays until its value was read."""
        return self.key_beats <= 2 * self.value_beats

    @property
    def query_bank_beats(self) -> int:
        """Words of a column's query bank with queries, each of ``beat_elements`` scaled query elements."""
        return self.query_tiles * self.beats(self.max_e)

    @property
    def mask_field_bits(self) -> int:
        """Bits of a mask row that a key tile takes: one per row of the array, the others are zero."""
        return 16 if self.rows <= 16 else 32

    @property
    def mask_block_tiles(self) -> int:
        """Key tiles in a bus word of a mask row; 0 if the array has more rows than the north bus has bits."""
        return self.bus_bits // self.mask_field_bits if self.rows <= NORTH_BITS else 0

    @property
    def mask_tiles(self) -> int:
        """Most query tiles of a group whose mask bits are on chip, for two bus words of keys each."""
        return self.query_tiles

    @property
    def bias_tiles(self) -> int:
        """Most query tiles of a group whose bias is on chip, for two key tiles each."""
        return min(4, self.query_tiles)

    @property
    def bias_words(self) -> int:
        """Words of a query bank for a query's bias of a key tile, of 32 bits per key; a power of two."""
        return 1 << clog2(ceil_div(2 * self.rows, self.beat_elements))

    @property
    def mask_base(self) -> int:
        """First word of a query bank with mask bits, behind the queries."""
        return self.query_bank_beats

    @property
    def bias_base(self) -> int:
        """First word of a query bank with a bias, behind the mask bits."""
        return self.mask_base + 2 * self.mask_tiles

    @property
    def query_bank_words(self) -> int:
        """Words of a column's query bank: scaled queries, mask bits, bias."""
        return self.bias_base + 2 * self.bias_tiles * self.bias_words

    @property
    def state_words(self) -> int:
        """Words of a lane's state memory: F numerators and a denominator per resident query tile."""
        return self.query_tiles * (self.max_f + 1)

    @property
    def reference_words(self) -> int:
        """Words of a lane's reference memory: one for each of the most query tiles that stay on chip, whatever the head dims.

        That is four times ``query_tiles``, since more fit at smaller head dims (:meth:`resident_query_tiles`).
        """
        return 4 * self.query_tiles

    @property
    def output_beats(self) -> int:
        """Bus words of a lane's output buffer: two float32 rows at ``max_f``, or four bfloat16 rows."""
        return 2 * self.beats(self.max_f, 4)

    @property
    def program_words(self) -> int:
        """Microwords of the largest program (largest initiation interval)."""
        return 1 << clog2(self.max_e + self.max_f + 2 * self.rows + 64)

    def resident_query_tiles(self, e: int, f: int) -> int:
        """Query tiles that fit on chip at head dims ``e`` and ``f``."""
        return min(
            self.query_bank_beats // self.beats(e),
            self.state_words // (f + 1),
            self.reference_words,
        )

    def to_dict(self) -> dict[str, Any]:
        """Fields by name, as written to the manifest."""
        return asdict(self)


def _integer(name: str, value: object) -> int:
    """``value`` as Python's integer; a truth value is none."""
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        raise TypeError(f"{name} must be an integer, not {value!r}")
    try:
        return index(value)  # type: ignore[arg-type]
    except TypeError:
        # An array of several.
        raise TypeError(f"{name} must be an integer, not {value!r}") from None


def _switch(name: str, value: object) -> bool:
    """``value`` as Python's truth value; NumPy's is known by its type's name, since NumPy is not needed here."""
    if isinstance(value, bool):
        return value
    if type(value).__module__ == "numpy" and type(value).__name__ in ("bool", "bool_"):
        return bool(value)
    raise TypeError(f"{name} must be True or False, not {value!r}")


#: The shipped configurations by name.
CONFIGS: dict[str, Config] = {
    config.name: config
    for config in (
        Config(name="tiny", rows=4, columns=4, contexts=3),
        Config(name="small", rows=8, columns=8, contexts=3),
        Config(
            name="base",
            rows=16,
            columns=16,
            max_e=128,
            max_f=128,
            bus_bits=128,
            contexts=4,
            outstanding_writes=64,
        ),
        # Heads of 256, and latent attention: DeepSeek's keys of 576 and values of 512 columns.
        Config(
            name="wide",
            rows=16,
            columns=16,
            max_e=576,
            max_f=512,
            bus_bits=128,
            contexts=4,
            outstanding_writes=64,
        ),
        Config(
            name="paper",
            rows=256,
            columns=256,
            max_e=128,
            max_f=128,
            bus_bits=1024,
            query_tiles=16,
            contexts=6,
            outstanding_reads=64,
            outstanding_writes=256,
        ),
    )
}


def config_named(config: str | Config) -> Config:
    """``config`` itself, or the named configuration.

    Raises
    ------
    TypeError
        If ``config`` is neither a :class:`Config` nor a string.
    ValueError
        If there is no configuration of that name.
    """
    if isinstance(config, Config):
        return config
    if not isinstance(config, str):
        raise TypeError(f"config must be a Config or a name, not {config!r}")
    if config not in CONFIGS:
        raise ValueError(f"config must be one of {', '.join(CONFIGS)} or a Config, not {config!r}")
    return CONFIGS[config]
