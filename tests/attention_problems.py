"""Random calls of fusemax.attention with everything combined; a problem is also the text of the call that repeats it.

PYTHONPATH=tests python -m attention_problems "Problem(...)"
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import ml_dtypes
import numpy as np
from attention_reference import Reference, reference, visible_keys
from hypothesis import strategies as st

import fusemax
from fusemax import State
from fusemax.spec import Config
from fusemax_sim.problems import CONFIGS

__all__ = ["MACHINES", "Problem", "check", "problems"]

#: A bus of 32 bits does not write states, whose words have 64.
MACHINES: dict[str, Config] = {
    **{name: CONFIGS[name] for name in ("tiny", "small", "base", "odd3x5")},
    "flat2x7_bus64": replace(CONFIGS["flat2x7"], name="flat2x7_bus64", bus_bits=64),
    "tall9x2": CONFIGS["tall9x2"],
}
BFLOAT16 = np.dtype(ml_dtypes.bfloat16)


@dataclass(frozen=True)
class Problem:
    """A call of :func:`fusemax.attention`.

    Members
    -------
    config
        Name in :data:`MACHINES`.
    leading
        Batch axes and key heads; empty for none.
    share
        Query heads of a key head.
    queries, keys, e, f
        P, M, E, F.
    factor
        What the normally distributed queries are multiplied by.
    layout
        Order of the axes in memory: ``heads`` before length, or ``length`` before heads.
    mask
        Seed of a boolean mask, share of the pairs that are seen, axes in which it differs (those of the queries' batch, heads
        and queries, and the keys), whether it is packed before the call, and the pairs on a side of a block that is seen as a
        whole or not at all; None for none.
    bias
        Seed of a bias, its standard deviation, such axes, its format, and the share of pairs that it hides by -inf or the
        lowest number; None for none.
    in_keys
        The values are the first columns of the keys, in the same memory, if there are enough.
    initial
        Seed of the state that the call begins with; None for none.
    options
        Further arguments.
    """

    config: str = "tiny"
    seed: int = 0
    leading: tuple[int, ...] = ()
    share: int = 1
    queries: int = 1
    keys: int = 1
    e: int = 1
    f: int = 1
    factor: float = 1.0
    in_dtype: str = "bfloat16"
    layout: str = "heads"
    in_keys: bool = False
    initial: int | None = None
    options: dict[str, Any] = field(default_factory=dict)
    mask: tuple[int, float, tuple[bool, ...], bool, int] | None = None
    bias: tuple[int, float, tuple[bool, ...], str, float] | None = None

    @property
    def query_leading(self) -> tuple[int, ...]:
        return (*self.leading[:-1], self.leading[-1] * self.share) if self.leading else ()

    def arrays(self) -> list[np.ndarray]:
        """Queries, keys and values."""
        shapes = (
            (*self.query_leading, self.queries, self.e),
            (*self.leading, self.keys, self.e),
            (*self.leading, self.keys, self.f),
        )
        found = []
        for number, shape in enumerate(shapes):
            array = np.random.default_rng((self.seed, number)).standard_normal(shape, np.float32)
            array *= self.factor if number == 0 else 1
            array = array.astype(np.float32 if self.in_dtype == "float32" else BFLOAT16)
            if self.layout == "length" and self.leading:
                array = np.ascontiguousarray(array.swapaxes(-2, -3)).swapaxes(-2, -3)
            found.append(array)
        if self.in_keys and self.f <= self.e:
            found[2] = found[1][..., : self.f]
        return found

    def _pairs(self, axes: tuple[bool, ...]) -> tuple[int, ...]:
        shape = (*self.query_leading, self.queries, self.keys)
        return tuple(size if full else 1 for size, full in zip(shape, axes, strict=True))

    def pairs(self) -> dict[str, np.ndarray]:
        """Mask and bias, those that there are."""
        found = {}
        if self.mask is not None:
            seed, share, axes, _, block = self.mask
            shape = self._pairs(axes)
            blocks = (
                np.random.default_rng((seed, 11)).random((*shape[:-2], *(-(-size // block) for size in shape[-2:]))) < share
            )
            found["mask"] = blocks.repeat(block, -2).repeat(block, -1)[..., : shape[-2], : shape[-1]]
        if self.bias is not None:
            seed, size, axes, form, hidden = self.bias
            random = np.random.default_rng((seed, 12))
            bias = (size * random.standard_normal(self._pairs(axes))).astype(np.float32 if form == "float32" else BFLOAT16)
            lowest = np.array([-np.inf, float(ml_dtypes.finfo(bias.dtype).min)]).astype(bias.dtype)
            found["bias"] = np.where(random.random(bias.shape) < hidden, lowest[random.integers(2, size=bias.shape)], bias)
        return found

    def state(self) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
        """Maximum, denominator and numerator; a fifth of the queries have seen no key."""
        if self.initial is None:
            return None
        shape = (*self.query_leading, self.queries)
        random = np.random.default_rng((self.initial, 9))
        none = random.random(shape) < 0.2
        maximum = random.normal(0, 4, shape).astype(np.float32)
        denominator = np.where(none, 0, random.uniform(0.5, 9, shape)).astype(np.float32)
        numerator = np.where(none[..., None], 0, random.normal(0, 3, (*shape, self.f))).astype(np.float32)
        return np.where(none, -np.inf, maximum).astype(np.float32), denominator, numerator

    def run(self, device: fusemax.Device, arrays: Sequence[np.ndarray] | None = None, **more: Any) -> Any:
        """The call's result on a device, of other arrays if they are given."""
        state = self.state()
        options = self.options | ({} if state is None else {"state": State(*state)}) | self.pairs()
        if self.mask is not None and self.mask[3] and self.mask[2][-1]:
            options["mask"] = fusemax.PackedMask(options["mask"], device.config)
        return fusemax.attention(*(self.arrays() if arrays is None else arrays), device=device, **options, **more)

    def visible(self, entry: int, query: int, head: int | None = None) -> np.ndarray:
        """Which keys a query of a batch entry sees, in a query head or in any."""
        options = self.options
        defaults = {"query_offset": 0, "key_lengths": self.keys, "prefix": 0, "key_start": 0}
        numbers = (np.ravel(options.get(name, default)) for name, default in defaults.items())
        offset, *rest = (int(each[entry if each.size > 1 else 0]) for each in numbers)
        near = visible_keys(query + offset, self.keys, options.get("window"), options.get("causal", False), *rest)
        seen = np.ones((*self.query_leading, self.queries, self.keys), np.bool_)
        for name, pairs in self.pairs().items():
            seen &= pairs if name == "mask" else pairs > ml_dtypes.finfo(pairs.dtype).min
        of_heads = seen.reshape(-1, self.query_leading[-1] if self.leading else 1, self.queries, self.keys)[entry, :, query]
        return near & (of_heads.any(axis=0) if head is None else of_heads[head])

    def reference(self) -> Reference:
        """In float64."""
        names = set(self.options) - {"out_dtype", "return_lse", "return_state"}
        return reference(*self.arrays(), **{name: self.options[name] for name in names}, **self.pairs(), state=self.state())

    def bound(self) -> np.ndarray:
        """Of the error, by :func:`fusemax.error_bound`; of calls without states, sinks and caps."""
        names = set(self.options) - {"return_lse", "return_state"}
        given = {name: self.options[name] for name in names} | self.pairs()
        return fusemax.error_bound(*self.arrays(), config=MACHINES[self.config], **given)

    @property
    def command(self) -> str:
        return f'PYTHONPATH=tests python -m attention_problems "{self!r}"'


@st.composite
def problems(draw: st.DrawFn, configs: tuple[str, ...] = tuple(MACHINES), most: int = 40) -> Problem:
    """Any problem that is allowed; lengths up to ``most``."""
    config = draw(st.sampled_from(configs))
    machine = MACHINES[config]
    leading = draw(st.sampled_from([(), (1,), (2,), (3,), (2, 1), (2, 2), (1, 3), (2, 1, 2)]))
    share = draw(st.sampled_from([1, 1, 1, 2, 3, 4, 7, 12, 40])) if leading else 1
    queries = draw(st.integers(1, most if share < 7 else 5))
    keys = draw(st.integers(1, most))
    batch = int(np.prod(leading[:-1])) if leading else 1
    heads = leading[-1] * share if leading else 1
    options: dict[str, Any] = {}

    def perhaps(chance_of: int) -> bool:
        return draw(st.integers(0, chance_of)) == chance_of

    def per_entry(low: int, high: int) -> Any:
        one = st.integers(low, high)
        return draw(st.one_of(one, st.lists(one, min_size=batch, max_size=batch)))

    def per_head(numbers: st.SearchStrategy[float]) -> list[float]:
        return draw(st.lists(numbers, min_size=heads, max_size=heads))

    alibi = perhaps(5)
    e = draw(st.integers(1, min(24, machine.max_e - 4 if alibi else machine.max_e)))
    f = draw(st.integers(1, min(24, machine.max_f)))
    if perhaps(1):
        options["causal"] = True
    if perhaps(2):
        options["query_offset"] = per_entry(-queries - 3, keys + 3)
    if perhaps(2):
        options["window"] = (draw(st.integers(-1, 9)), draw(st.integers(-1, 9)))
    if perhaps(3):
        options["key_lengths"] = per_entry(0, keys)
    if perhaps(3):
        options["key_start"] = per_entry(0, keys)
    if perhaps(2):
        options["prefix"] = per_entry(0, keys + 2)
    if perhaps(4):
        one = st.floats(0.0625, 0.5, width=32)
        options["scale"] = draw(st.one_of(one, st.lists(one.map(lambda number: -number), min_size=heads, max_size=heads)))
    if perhaps(4):
        shape = draw(st.sampled_from([(), (queries,), (*leading[:-1], heads, queries) if leading else (queries,)]))
        options["temperature"] = np.round(np.random.default_rng(draw(st.integers(0, 99))).uniform(0.3, 3, shape), 3).tolist()
    if alibi:
        options["alibi_slopes"] = per_head(st.sampled_from([0.0, 2.0**-3, 2.0**-8, 0.5, 1.0, 0.3, -0.7]))
    if perhaps(4):
        options["sink"] = per_head(st.floats(-5, 5, width=16))
    if perhaps(6):
        options["softcap"] = draw(st.sampled_from([0.5, 3.0, 30.0]))
    axes = st.lists(st.booleans(), min_size=len(leading) + 2, max_size=len(leading) + 2).map(tuple)
    mask = bias = None
    if perhaps(2):
        share_seen, blocks = st.sampled_from([0.5, 0.1, 0.9]), st.sampled_from([1, 1, 6, 13])
        mask = draw(st.tuples(st.integers(0, 99), share_seen, axes, st.booleans(), blocks))
    if perhaps(3):
        forms = st.sampled_from(["bfloat16", "float32"])
        bias = draw(st.tuples(st.integers(0, 99), st.sampled_from([1.0, 0.1, 9.0]), axes, forms, st.sampled_from([0, 0, 0.3])))
    for name in ("return_lse", "return_state"):
        if perhaps(2):
            options[name] = True
    if draw(st.booleans()):
        options["out_dtype"] = "float32"
    return Problem(
        config=config,
        seed=draw(st.integers(0, 1 << 16)),
        leading=leading,
        share=share,
        queries=queries,
        keys=keys,
        e=e,
        f=f,
        factor=draw(st.sampled_from([1.0, 1.0, 0.2, 4.0])),
        in_dtype=draw(st.sampled_from(["bfloat16", "float32"])),
        layout=draw(st.sampled_from(["heads", "length"])),
        in_keys=draw(st.sampled_from([False, False, True])),
        initial=draw(st.one_of(st.none(), st.none(), st.none(), st.integers(0, 99))),
        options=options,
        mask=mask,
        bias=bias,
    )


def check(problem: Problem, device: fusemax.Device | None = None) -> None:
    """Compare the model's result with float64.

    Raises
    ------
    AssertionError
        If it is too far off; the message has the command that repeats it.
    """
    if device is None:
        with fusemax.open("model", MACHINES[problem.config], memory_bytes=1 << 22) as opened:
            return check(problem, opened)
    try:
        _compare(problem, problem.run(device), problem.reference())
    except BaseException as error:
        error.add_note(f"repeat: {problem.command}")
        raise


def _compare(problem: Problem, result: Any, exact: Reference) -> None:
    options = problem.options
    results = list(result) if isinstance(result, tuple) else [result]
    assert len(results) == 1 + bool(options.get("return_lse")) + bool(options.get("return_state"))
    out = results.pop(0)
    float32 = options.get("out_dtype") == "float32"
    assert out.dtype == (np.float32 if float32 else BFLOAT16)
    assert out.shape == exact.out.shape
    # Scores are off by their own precision, queries at 17 bits among it; weights by the exponential's, about 6e-5.
    score_error = 5e-5 + exact.largest_score * 2.0**-17
    if problem.initial is None and not {"softcap", "sink"} & set(options):
        limit = problem.bound()
    else:
        limit = (2 * score_error + 1.2e-4) * exact.largest_value
        if not float32:
            limit = limit + np.abs(exact.out) * 2.0**-8
    assert (np.abs(out.astype(np.float64) - exact.out) <= limit).all()
    none = exact.lse == -np.inf
    assert not out[none].any()
    if options.get("return_lse"):
        _compare_logs(results.pop(0), exact.lse, score_error)
    if options.get("return_state"):
        state = results.pop(0)
        assert isinstance(state, State)
        _compare_logs(state.lse(), exact.lse, score_error)
        assert np.array_equal(state.output(options.get("out_dtype", "bfloat16")).view(np.uint8), out.view(np.uint8))
        assert (state.denominator[none] == 0).all()


def _compare_logs(lse: np.ndarray, exact: np.ndarray, score_error: float) -> None:
    assert lse.dtype == np.float32
    assert lse.shape == exact.shape
    none = exact == -np.inf
    assert np.array_equal(lse == -np.inf, none)
    assert (np.abs(lse[~none] - exact[~none]) <= score_error + 1.2e-4 + 1e-6 * np.abs(exact[~none])).all()


if __name__ == "__main__":
    check(eval(sys.argv[1]))
    print("as float64")
