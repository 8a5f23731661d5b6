"""The table of rules: which operation of the machine an expression is, by the operations that give its operands."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass

from .operations import (
    Accumulate,
    Contract,
    Divide,
    Factor,
    Header,
    MachineOperation,
    Operand,
    Raw,
    Rescaled,
    RunningMaximum,
    ScoreSum,
    TileMaximum,
    TileSum,
    Weigh,
    WeightedSum,
)

__all__ = ["RULES", "START", "Form", "Rule", "Value", "When", "nearest"]


class When(enum.Enum):
    """Which step of a state is meant."""

    OLD = "before the tile"
    NEW = "after the tile"
    LAST = "after the last tile"


@dataclass(frozen=True)
class Value:
    """What an expression is and, of a state, its tensor and step."""

    operation: MachineOperation
    state: str | None = None
    when: When | None = None

    @property
    def name(self) -> str:
        """What errors call it."""
        return self.operation.name


class Form(enum.Enum):
    """How an expression is written."""

    PRODUCTS = "sum of products"
    SUM = "sum"
    LARGEST = "largest"
    EXP = "exp of a difference"
    MAX = "max"
    TIMES = "*"
    PLUS = "+"
    DIVIDED = "/"
    ALONE = "alone"


#: Forms whose operands may change places.
COMMUTATIVE = (Form.PRODUCTS, Form.MAX, Form.TIMES, Form.PLUS)
#: An operand of a pattern: the operation that gives it and, of a state, the step.
Wanted = tuple[MachineOperation | type[MachineOperation], When | None]


@dataclass(frozen=True)
class Rule:
    """A form, what its operands must be, and what it gives.

    Members
    -------
    form
        How it is written.
    operands
        The pattern.
    gives
        The operation, and the step of the state that it writes. The state is that of the first operand.
    text
        The pattern as errors say it.
    """

    form: Form
    operands: tuple[Wanted, ...]
    gives: MachineOperation
    text: str
    when: When | None = None

    def apply(self, values: Sequence[Value]) -> Value | None:
        """Find what it gives; none if the rule is about other operands."""
        orders = (values, values[::-1]) if self.form in COMMUTATIVE else (values,)
        for order in orders:
            if len(order) == len(self.operands) and all(map(_is, order, self.operands)):
                return Value(self.gives, order[0].state if self.when else None, self.when)
        return None

    def matches(self, values: Sequence[Value]) -> int:
        """How many operands are as wanted, in the better order."""
        orders = (values, values[::-1]) if self.form in COMMUTATIVE else (values,)
        return max(sum(map(_is, order, self.operands)) for order in orders)


def _is(value: Value, wanted: Wanted) -> bool:
    operation, when = wanted
    same = isinstance(value.operation, operation) if isinstance(operation, type) else value.operation == operation
    return same and value.when is when


def _state_rules(sums: type[MachineOperation]) -> tuple[Rule, ...]:
    """A running sum: rescaled, or plain."""
    rescaled, plain, scaled = Accumulate(sums), Accumulate(sums, rescaled=False), Rescaled(sums)
    name = plain.name
    return (
        Rule(
            Form.TIMES, ((rescaled, When.OLD), (Factor, None)), scaled, f"{name} times exp(old - new running maximum)", When.OLD
        ),
        Rule(Form.PLUS, ((scaled, When.OLD), (sums, None)), rescaled, f"{scaled.name} plus {sums.text}", When.NEW),
        Rule(Form.PLUS, ((plain, When.OLD), (sums, None)), plain, f"{name} plus {sums.text}, without a maximum", When.NEW),
    )


#: In the order in which the nearest one is looked for.
RULES: tuple[Rule, ...] = (
    Rule(Form.PRODUCTS, ((Operand, None), (Operand, None)), Contract(), "queries times keys, summed over the head dim"),
    Rule(
        Form.PRODUCTS, ((Weigh, None), (Operand, None)), WeightedSum(), "weights times values, summed over the rows of a tile"
    ),
    Rule(
        Form.PRODUCTS, ((Contract, None), (Operand, None)), WeightedSum(), "scores times values, summed over the rows of a tile"
    ),
    Rule(Form.PRODUCTS, ((Weigh, None), (Contract, None)), ScoreSum(), "weights times scores, summed over the rows of a tile"),
    Rule(Form.LARGEST, ((Contract, None),), TileMaximum(), "the maximum of scores over the rows of a tile"),
    Rule(Form.SUM, ((Weigh, None),), TileSum(), "the sum of weights over the rows of a tile"),
    Rule(Form.SUM, ((Contract, None),), TileSum(), "the sum of scores over the rows of a tile"),
    Rule(Form.EXP, ((Contract, None), (RunningMaximum, When.NEW)), Weigh(running=True), "exp(scores - new running maximum)"),
    Rule(
        Form.EXP,
        ((RunningMaximum, When.OLD), (RunningMaximum, When.NEW)),
        Factor(),
        "exp(old running maximum - new running maximum)",
    ),
    Rule(
        Form.MAX,
        ((RunningMaximum, When.OLD), (TileMaximum, None)),
        RunningMaximum(),
        "max(old running maximum, maximum of the tile)",
        When.NEW,
    ),
    *(rule for sums in (TileSum, WeightedSum, ScoreSum) for rule in _state_rules(sums)),
    *(
        Rule(
            Form.DIVIDED,
            ((Accumulate(sums, rescaled), When.LAST), (Accumulate(TileSum, rescaled), When.LAST)),
            Divide(),
            f"the last {Accumulate(sums).name.removeprefix('the running ')} divided by the last denominator",
        )
        for sums in (WeightedSum, ScoreSum)
        for rescaled in (True, False)
    ),
    *(
        Rule(Form.ALONE, ((Accumulate(sums, rescaled), When.LAST),), Raw(), f"the last {name} alone")
        for sums, name in ((WeightedSum, "numerator"), (ScoreSum, "sum of scores"))
        for rescaled in (True, False)
    ),
    *(
        Rule(Form.ALONE, ((Accumulate(TileSum, rescaled), When.LAST),), Header(), "the last denominator alone")
        for rescaled in (True, False)
    ),
    Rule(Form.ALONE, ((RunningMaximum, When.LAST),), Header(), "the last running maximum alone"),
)
#: Where the lanes start their states.
START = {RunningMaximum: "-inf", Accumulate: "0"}


def nearest(form: Form, values: Sequence[Value]) -> Rule | None:
    """Find the rule of a form whose operands are most alike; none if no rule has the form."""
    rules = [rule for rule in RULES if rule.form is form]
    return max(rules, key=lambda rule: rule.matches(values)) if rules else None
