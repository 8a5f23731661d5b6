"""Checker: whatever is wrong in a program, it objects."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fusemax
from fusemax.cascade import CASCADES, parse
from fusemax.cascade.catalog import DIRECTORY
from fusemax.compiler import symbolic_checker as checker
from fusemax.compiler.lowering import lower
from fusemax.compiler.mapper import map_cascade
from fusemax.compiler.micro import Operation
from fusemax.compiler.microwords import encode
from fusemax.compiler.modulo_schedule import Binding, modulo_schedule
from fusemax.compiler.program import Program
from fusemax.compiler.symbolic_checker import RULES, check, same_meaning
from fusemax.errors import RuleError
from fusemax.spec import CONFIGS, MICROWORD, Config, Op, Timing

Words = list[dict[str, int]]
SMALL = CONFIGS["small"]
ATTENTION = map_cascade(CASCADES["attention_1pass"])


def program(config: Config = SMALL, e: int = 8, f: int = 8, binding: Binding = Binding.CO_ISSUED) -> Words:
    micros = lower(ATTENTION, config, e, f).micros
    return [MICROWORD.unpack(word) for word in encode(modulo_schedule(micros, config, e, f, binding=binding))]


def pack(words: Words) -> list[int]:
    return [MICROWORD.pack(word) for word in words]


def slot(words: Words, op: Op, index: int = 0) -> int:
    return next(at for at, word in enumerate(words) if word["op"] == op and (op is Op.SUM or word["index"] == index))


def change(at: Op, number: int = 0, /, **fields: int) -> Callable[[Words], None]:
    """Other fields in the word of an operation."""

    def apply(words: Words) -> None:
        words[slot(words, at, number)].update(fields)

    return apply


def move(op: Op, index: int, stages: int) -> Callable[[Words], None]:
    """An operation some iterations later."""

    def apply(words: Words) -> None:
        words[slot(words, op, index)]["stage"] += stages

    return apply


def move_weighing(words: Words) -> None:
    """SUM and all SLNVs an iteration later."""
    for word in words:
        word["stage"] += word["op"] in (Op.SUM, Op.SLNV)


def exchange(one: tuple[Op, int], other: tuple[Op, int], *, indices_only: bool = False) -> Callable[[Words], None]:
    """Two operations in each other's slots; MASK stays with SUM."""

    def apply(words: Words) -> None:
        a, b = slot(words, *one), slot(words, *other)
        for field in ("index", "first", "last") if indices_only else ("op", "stage", "index", "first", "last", "mask"):
            words[a][field], words[b][field] = words[b][field], words[a][field]

    return apply


@pytest.mark.parametrize(
    ("rule", "break_it"),
    [
        ("length", lambda words: words.clear()),
        ("length", lambda words: words.extend([dict.fromkeys(words[0], 0)] * 1000)),
        ("word", change(Op.EXP, op=15)),
        ("word", change(Op.EXP, index=1)),
        ("word", change(Op.EXP, last=1)),
        ("word", change(Op.EXP, constant=1)),
        ("option", change(Op.EXP, op=Op.LIN)),
        ("option", change(Op.EXP, first=1)),
        ("option", change(Op.EXP, src=1)),
        ("walk", change(Op.SLNV, 3, op=Op.NOP, index=0)),
        ("walk", change(Op.SLNV, 3, index=4)),
        ("walk", change(Op.SLNV, 3, index=8)),
        ("walk", change(Op.SUM, index=0)),
        ("walk", exchange((Op.QK, 2), (Op.QK, 3), indices_only=True)),
        ("walk", exchange((Op.SLNV, 2), (Op.SLNV, 3), indices_only=True)),
        ("walk", move(Op.QK, 0, 1)),
        ("kind", move(Op.EXP, 0, 1)),
        ("flags", change(Op.QK, 3, first=1)),
        ("flags", change(Op.SLNV, 7, last=0)),
        ("partial bus", change(Op.SUM, max=1)),
        ("partial bus", change(Op.SLNV, 0, max=1)),
        ("write port", exchange((Op.QK, 0), (Op.EXP, 0))),
        ("north bus", change(Op.QK, 1, mask=1)),
        ("north bus", change(Op.EXP, mask=1)),
        ("move", change(Op.QK, 0, first=0)),
        ("move", change(Op.QK, 1, max=1)),
        ("move", exchange((Op.QK, 0), (Op.QK, 1))),
        ("move", lambda words: words.append(words.pop(0))),
        ("undefined", change(Op.QK, 0, max=0)),
        ("mask", change(Op.SUM, mask=0)),
        ("mask", change(Op.SLNV, 0, mask=1)),
        ("accumulator", move(Op.QK, 7, 1)),
        ("undefined", move(Op.EXP, 0, -1)),
        ("hold", move(Op.SLNV, 7, 1)),
        ("hold", exchange((Op.EXP, 0), (Op.QK, 6))),
        ("hold", move_weighing),
        ("undefined", move(Op.SUM, 0, 5)),
        ("undefined", exchange((Op.SUM, 0), (Op.SLNV, 0))),
    ],
)
def test_a_broken_program_is_refused(rule: str, break_it: Callable[[Words], None]) -> None:
    words = program()
    check(pack(words), SMALL, 8, 8)
    break_it(words)
    with pytest.raises(RuleError) as caught:
        check(pack(words), SMALL, 8, 8)
    assert caught.value.rule == rule, caught.value
    assert str(caught.value).startswith(f"{rule}, slot {caught.value.slot}: ")


@pytest.mark.parametrize(
    ("rule", "break_it"),
    [
        ("bias", exchange((Op.QK, 7), (Op.BIAS, 0))),
        ("bias", lambda words: words[slot(words, Op.BIAS, 7)].update(stage=1)),
        ("walk", change(Op.BIAS, 3, index=4)),
        ("walk", change(Op.BIAS, 3, op=Op.NOP, index=0)),
        ("walk", exchange((Op.BIAS, 2), (Op.BIAS, 3), indices_only=True)),
        ("flags", change(Op.BIAS, 0, first=0)),
        ("flags", change(Op.BIAS, 7, last=0)),
        ("north bus", change(Op.BIAS, 3, mask=1)),
    ],
)
def test_a_broken_bias_is_refused(rule: str, break_it: Callable[[Words], None]) -> None:
    micros = lower(ATTENTION, SMALL, 8, 8, bias=True).micros
    words = [MICROWORD.unpack(word) for word in encode(modulo_schedule(micros, SMALL, 8, 8))]
    check(pack(words), SMALL, 8, 8)
    break_it(words)
    with pytest.raises(RuleError) as caught:
        check(pack(words), SMALL, 8, 8)
    assert caught.value.rule == rule, caught.value


def test_a_bias_takes_a_slot_per_row() -> None:
    for e, f, slots in ((64, 64, 146), (16, 16, 50), (128, 128, 274)):
        micros = lower(ATTENTION, CONFIGS["base"], e, f, bias=True).micros
        assert modulo_schedule(micros, CONFIGS["base"], e, f).ii == slots


@pytest.mark.parametrize("binding", [Binding.SERIAL, Binding.OVERLAPPED])
def test_the_maximum_may_stand_alone(binding: Binding) -> None:
    """But not beside an operation that is not the first QK, and its tile's QKs come before it."""
    words = program(binding=binding)
    check(pack(words), SMALL, 8, 8)
    for op, number in ((Op.EXP, 0), (Op.QK, 3)):
        broken = [dict(word) for word in words]
        at = slot(broken, op, number)
        for field in ("op", "stage", "index"):
            broken[0][field], broken[at][field] = broken[at][field], broken[0][field]
        with pytest.raises(RuleError, match=r"^(move|write port), slot 0: MAX "):
            check(pack(broken), SMALL, 8, 8)
    late = [dict(word) for word in words]
    for word in late:
        word["stage"] += word["op"] == Op.QK
    with pytest.raises(RuleError, match=r"^undefined, slot 0: MAX of tile 0 reads the accumulator"):
        check(pack(late), SMALL, 8, 8)


def test_reserved_bits_are_refused() -> None:
    words = pack(program())
    words[5] |= 1 << 31
    with pytest.raises(RuleError, match=r"^word, slot 5"):
        check(words, SMALL, 8, 8)


@pytest.mark.parametrize(
    ("rule", "slower"),
    [
        ("reference", {"reference": 3}),
        ("reference", {"feedback": 2}),
        ("recurrence", {"adder": 17}),
        # The next one is no lane that could be built: its rescale distance is later than its reference.
        ("lane ring", {"reference": 60, "feedback": -60}),
    ],
)
def test_a_slower_lane_is_noticed(rule: str, slower: dict[str, int]) -> None:
    config = Config(rows=8, columns=8, contexts=9)
    e = 32 if rule == "lane ring" else 8
    words = pack(program(config, e, e))
    check(words, config, e, e)
    with pytest.raises(RuleError) as caught:
        check(words, config, e, e, timing=Timing(config, **slower))
    assert caught.value.rule == rule, caught.value


FUNCTIONS = replace(SMALL, name="functions", contexts=9, functions=True, entropy=True)
WEIGHTS = ("exp(QK[m, p])", "QK[m, p]", "relu(QK[m, p])", "sigmoid(QK[m, p])", "elu1(QK[m, p])", "exp(min(QK[m, p], 0))")


def function_program(weight: str, config: Config = FUNCTIONS, e: int = 8, f: int = 8) -> Program:
    text = (DIRECTORY / "sigmoid_attention.yaml").read_text(encoding="utf-8").replace("sigmoid(QK[m, p])", f"{weight} * 1")
    return fusemax.compile(parse(text.replace(") * 1", ")")), head_dim=e, value_dim=f, config=config)


def check_program(program: Program, words: Words) -> None:
    flags = {"fixed_reference": program.fixed_reference, "spare_hold": program.spare_hold}
    check(pack(words), program.config, program.e, program.f, **flags)


@pytest.mark.parametrize("weight", WEIGHTS)
@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_functions_of_the_score_pass(weight: str, config: Config) -> None:
    program = function_program(weight, replace(config, functions=True), 16, 16)
    check_program(program, [MICROWORD.unpack(word) for word in program.microwords])


@pytest.mark.parametrize("divided", [False, True])
@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_entropy_passes(config: Config, divided: bool) -> None:
    """SUM comes before the sums of scores, since a row begins with its state; MASK rides on it all the same."""
    text = (DIRECTORY / "attention_entropy.yaml").read_text(encoding="utf-8")
    if divided:
        text = re.sub(r"- (N.f, p.|T.p.) = (.*)", r"- \1 = \2 / RD[M1, p]", text)
    program = fusemax.compile(parse(text), head_dim=32, config=replace(config, entropy=True))
    program.check()
    assert program.feeding.raw != divided
    (mask,) = (word for word in map(MICROWORD.unpack, program.microwords) if word["mask"])
    assert mask["op"] == Op.SUM


@pytest.mark.parametrize(("rule",), [("row",)])
def test_sums_of_scores_come_behind_the_denominator(rule: str) -> None:
    """In front of it they would be parts of the bus word that SUM writes."""
    config = replace(CONFIGS["tiny"], entropy=True, contexts=4)
    lowered = lower(map_cascade(CASCADES["attention_entropy"]), config, 8, 8)
    (total,) = (micro for micro in lowered.micros if micro.operation is Operation.SUM)
    micros = [micro for micro in lowered.micros if micro is not total]
    micros.insert(next(at for at, micro in enumerate(micros) if micro.operation is Operation.SLNV), total)
    words = encode(modulo_schedule(micros, config, lowered.e, lowered.f))
    with pytest.raises(RuleError, match=rf"^{rule}, slot \d+: ENT must come behind its tile's SUM, but comes \d+ slots before"):
        check(words, config, lowered.e, lowered.f, raw=True)


@pytest.mark.parametrize(
    ("rule", "break_it"),
    [
        ("value order", move(Op.SLNV, 7, 1)),
        ("spare hold", lambda words: add_of(words, "src").update(stage=add_of(words, "src")["stage"] + 1)),
    ],
)
def test_a_broken_function_is_refused(rule: str, break_it: Callable[[Words], object]) -> None:
    program = function_program("sigmoid(QK[m, p])", FUNCTIONS)
    words = [MICROWORD.unpack(word) for word in program.microwords]
    check_program(program, words)
    break_it(words)
    with pytest.raises(RuleError) as caught:
        check_program(program, words)
    assert caught.value.rule == rule, caught.value


def add_of(words: Words, field: str) -> dict[str, int]:
    return next(word for word in words if word["op"] == Op.ADD and word[field])


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(WEIGHTS), st.data())
def test_a_change_of_a_word_is_refused_or_changes_the_meaning(weight: str, data: st.DataObject) -> None:
    """No bit of a program is without effect."""
    program = function_program(weight, e=3, f=2)
    flags = {"fixed_reference": program.fixed_reference, "spare_hold": program.spare_hold}
    slots = [at for at, word in enumerate(program.microwords) if word]
    at = data.draw(st.sampled_from(slots))
    changed = list(program.microwords)
    changed[at] ^= 1 << data.draw(st.integers(0, MICROWORD.bits - 1))
    try:
        check(changed, program.config, program.e, program.f, **flags)
    except RuleError:
        return
    fields, before = MICROWORD.unpack(changed[at]), MICROWORD.unpack(program.microwords[at])
    if fields | {"stage": 0} == before | {"stage": 0}:
        # Later or earlier by whole iterations, and still legal.
        assert same_meaning(changed, program.microwords, program.config, **flags)
    elif not times_zero(fields, before):
        assert not same_meaning(changed, program.microwords, program.config, **flags)


def times_zero(fields: dict[str, int], before: dict[str, int]) -> bool:
    """An ADD of 0 is the same whatever it multiplies."""
    return fields["op"] == before["op"] == Op.ADD and not before["index"] and not fields["index"]


def test_every_rule_is_broken_by_a_test() -> None:
    broken = {
        mark.args[1][at][0]
        for test in (
            test_a_broken_program_is_refused,
            test_a_broken_function_is_refused,
            test_a_broken_bias_is_refused,
            test_sums_of_scores_come_behind_the_denominator,
            test_a_slower_lane_is_noticed,
        )
        for mark in test.pytestmark
        for at in range(len(mark.args[1]))
    }
    assert broken == set(RULES)


def test_messages_name_slot_and_what_was_found() -> None:
    words = program()
    words[slot(words, Op.SLNV, 7)]["stage"] += 1
    with pytest.raises(
        RuleError, match=r"^hold, slot \d+: SLNV 7 of tile 0 must find EXP of tile 0 in the hold, but finds MAX of"
    ):
        check(pack(words), SMALL, 8, 8)
    words = program(Config(rows=8, columns=8, contexts=9))
    with pytest.raises(RuleError, match=r"EXP of tile 0 must find MAX of tile 0 in the reference, but finds nothing"):
        check(pack(words), Config(rows=8, columns=8, contexts=9), 8, 8, timing=Timing(SMALL, reference=3))


def legal(words: Words, config: Config, e: int, f: int) -> bool:
    """The distances of docs/explanation/microarchitecture.md in closed form, for words that have everything once."""
    timing, ii = Timing(config), len(words)
    offsets = {(Op(word["op"]), word["index"]): word["stage"] * ii + at for at, word in enumerate(words)}
    qk = [offsets[Op.QK, index] for index in range(e)]
    slnv = [offsets[Op.SLNV, index] for index in range(f)]
    exp, total = offsets[Op.EXP, 0], offsets[Op.SUM, f]
    return (
        ii >= timing.recurrence
        and qk == sorted(qk)
        and qk[-1] < ii
        and exp - ii >= timing.max_to_exp
        and min(total, slnv[0]) - exp >= timing.exp_to_sum
        and slnv == sorted(slnv)
        and slnv[0] > total
        and slnv[-1] - slnv[0] < ii
        and slnv[-1] < ii * (config.holds + 1)
    )


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_verdict_is_that_of_the_closed_form(data: st.DataObject) -> None:
    config = Config(
        rows=data.draw(st.integers(2, 12)),
        columns=2,
        contexts=data.draw(st.integers(2, 5)),
        pe_latency=data.draw(st.integers(2, 5)),
    )
    e, f = data.draw(st.integers(1, 6)), data.draw(st.integers(1, 6))
    words = program(config, e, f, data.draw(st.sampled_from(list(Binding))))
    for _ in range(data.draw(st.integers(0, 2))):
        a, b = (data.draw(st.integers(1, len(words) - 1)) for _ in range(2))
        words[a], words[b] = words[b], words[a]
    for _ in range(data.draw(st.integers(0, 2))):
        word = words[data.draw(st.integers(0, len(words) - 1))]
        word["stage"] = max(0, word["stage"] + data.draw(st.integers(-1, 1)))
    try:
        check(pack(words), config, e, f, seed=data.draw(st.integers(0, 1000)))
    except RuleError as error:
        assert not legal(words, config, e, f), error
    else:
        assert legal(words, config, e, f)


def test_the_checker_shares_no_code_with_the_scheduler() -> None:
    imports = re.findall(r"^from (\S+) import", Path(checker.__file__).read_text(), re.MULTILINE)
    assert set(imports) == {"__future__", "collections", "collections.abc", "dataclasses", "..errors", "..spec"}
