"""Parser of expressions, Einsums, functions and stop conditions.

Precedence, weakest first: ``or``, ``and``, ``not``, comparisons (they do not chain), ``+ -``, ``* /``, unary ``-``, ``**``
(from the right). Tensors, shapes and constants start with a capital letter; variables and functions do not.
"""

from __future__ import annotations

import math
import re
from typing import NamedTuple

from .depth import DEEPEST, Depth
from .einsum import Einsum, Function, NamedReduction
from .errors import CascadeError, Position
from .expression import Binary, Call, Expression, Name, Number, Reference, Unary, Variable
from .yaml_reader import Scalar

__all__ = ["parse_einsum", "parse_expression", "parse_function"]

TOKEN = re.compile(
    r"(?P<space>\s+)|(?P<number>(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?)|(?P<name>[A-Za-z_][A-Za-z0-9_]*)"
    r"|(?P<symbol>::|\*\*|<=|>=|==|!=|[-+*/<>=()\[\],])"
)
KEYWORDS = ("and", "or", "not")
CONSTANTS = {"inf": math.inf, "pi": math.pi}
LEVELS = (("or",), ("and",), ("not",), ("<", "<=", ">", ">=", "==", "!="), ("+", "-"), ("*", "/"))
COMPARISONS = LEVELS.index(("<", "<=", ">", ">=", "==", "!="))


class Token(NamedTuple):
    """A number, name or symbol of the text, or its end."""

    kind: str
    text: str
    at: Position

    def __str__(self) -> str:
        return repr(self.text) if self.text else "the end"


def parse_einsum(text: str | Scalar) -> Einsum:
    """Parse an Einsum, ``tensor[indices] = expression ::reduction(ranks)``.

    Parameters
    ----------
    text
        One equation; a scalar of a document knows where each of its characters stands.

    Returns
    -------
    Einsum
        Its names are not checked.

    Raises
    ------
    CascadeError
        If the text is none; names line and column and what was expected.
    """
    parser = Parser(text)
    einsum = parser.einsum()
    parser.end("an operator, '::' or the end")
    return einsum


def parse_expression(text: str | Scalar) -> Expression:
    """Parse an expression alone.

    Raises
    ------
    CascadeError
        If the text is none; names line and column and what was expected.
    """
    parser = Parser(text)
    expression = parser.expression()
    parser.end("an operator or the end")
    return expression


def parse_function(text: str | Scalar) -> Function:
    """Parse a function, ``name(parameters) = expression``.

    Raises
    ------
    CascadeError
        If the text is none; names line and column and what was expected.
    """
    parser = Parser(text)
    function = parser.function()
    parser.end("an operator or the end")
    return function


class Parser:
    """Recursive descent: a method per rule of the grammar takes the tokens that belong to it."""

    def __init__(self, text: str | Scalar) -> None:
        if isinstance(text, str):
            text = Scalar(text, tuple(Position(1, column) for column in range(1, len(text) + 2)))
        self.tokens = list(tokens(text))
        self.next = 0
        self.depth = Depth()

    @property
    def token(self) -> Token:
        return self.tokens[self.next]

    def take(self, *texts: str) -> Token | None:
        """The next token if it is one of ``texts``."""
        token = self.token
        if token.kind in ("symbol", "name") and token.text in texts:
            self.next += 1
            return token
        return None

    def expect(self, text: str, what: str | None = None) -> Token:
        token = self.take(text)
        if token is None:
            raise self.expected(what or repr(text))
        return token

    def expected(self, what: str) -> CascadeError:
        return CascadeError(f"expected {what}, found {self.token}", self.token.at)

    def end(self, what: str) -> None:
        if self.token.kind != "end":
            raise self.expected(what)

    def name(self, what: str, capital: bool) -> Token:
        token = self.token
        if token.kind != "name" or token.text[0].isupper() != capital or token.text in (*KEYWORDS, *CONSTANTS):
            raise self.expected(what)
        self.next += 1
        return token

    # -- equations -------------------------------------------------------------------------------------------------

    def einsum(self) -> Einsum:
        left = self.name("a tensor (its name starts with a capital letter)", capital=True)
        indices = self.indices() if self.take("[") else ()
        self.expect("=")
        expression = self.expression()
        reductions = []
        while colons := self.take("::"):
            operation = self.name("the name of a reduction", capital=False)
            self.expect("(")
            ranks = [self.name("a variable to reduce", capital=False).text]
            while self.take(","):
                ranks.append(self.name("a variable to reduce", capital=False).text)
            self.expect(")", "',' or ')'")
            reductions.append(NamedReduction(operation.text, tuple(ranks), colons.at))
        return Einsum(Reference(left.text, indices, at=left.at), expression, tuple(reductions), left.at)

    def function(self) -> Function:
        name = self.name("the name of a function (in lower case)", capital=False)
        self.expect("(")
        parameters = [self.name("a parameter (in lower case)", capital=False).text]
        while self.take(","):
            parameters.append(self.name("a parameter (in lower case)", capital=False).text)
        self.expect(")", "',' or ')'")
        self.expect("=")
        return Function(name.text, tuple(parameters), self.expression(), name.at)

    def indices(self) -> tuple[Expression, ...]:
        """Indices up to the closing bracket."""
        if self.take("]"):
            return ()
        indices = [self.expression(COMPARISONS + 1)]
        while self.take(","):
            indices.append(self.expression(COMPARISONS + 1))
        self.expect("]", "',' or ']'")
        return tuple(indices)

    # -- expressions -----------------------------------------------------------------------------------------------

    def expression(self, level: int = 0) -> Expression:
        if level == len(LEVELS):
            return self.unary()
        if LEVELS[level] == ("not",):
            token = self.take("not")
            if not token:
                return self.expression(level + 1)
            with self.depth.level("expressions", token.at):
                return Unary("not", self.expression(level), at=token.at)
        left = self.expression(level + 1)
        operators = 0
        while token := self.take(*LEVELS[level]):
            # The tree of a - b - c is as deep as that of (a - b) - c.
            operators += 1
            if operators > DEEPEST:
                raise CascadeError(f"expected at most {DEEPEST} operators in a row", token.at)
            left = Binary(token.text, left, self.expression(level + 1), at=left.at)
            if level == COMPARISONS and self.token.text in LEVELS[level]:
                raise self.expected("'and' between two comparisons")
        return left

    def unary(self) -> Expression:
        with self.depth.level("expressions", self.token.at):
            return self.signed()

    def signed(self) -> Expression:
        token = self.take("-")
        if token:
            return Unary("-", self.unary(), at=token.at)
        base = self.atom()
        if self.take("**"):
            return Binary("**", base, self.unary(), at=base.at)
        return base

    def atom(self) -> Expression:
        token = self.token
        if token.kind == "number":
            self.next += 1
            return Number(float(token.text), at=token.at)
        if self.take("("):
            inner = self.expression()
            self.expect(")", "an operator or ')'")
            return inner
        if token.kind != "name" or token.text in KEYWORDS:
            raise self.expected("a tensor, a variable, a number, a function or '('")
        self.next += 1
        if token.text in CONSTANTS:
            return Number(CONSTANTS[token.text], at=token.at)
        if token.text[0].isupper():
            if self.take("["):
                return Reference(token.text, self.indices(), at=token.at)
            if self.token.text == "(":
                raise CascadeError("expected a function's name in lower case before '('", token.at)
            return Name(token.text, at=token.at)
        if self.take("("):
            arguments = [self.expression()]
            while self.take(","):
                arguments.append(self.expression())
            self.expect(")", "',' or ')'")
            return Call(token.text, tuple(arguments), at=token.at)
        if self.token.text == "[":
            raise CascadeError("expected a tensor's name to start with a capital letter", token.at)
        return Variable(token.text, at=token.at)


def tokens(scalar: Scalar) -> list[Token]:
    found = []
    position = 0
    while position < len(scalar.text):
        match = TOKEN.match(scalar.text, position)
        if match is None:
            raise CascadeError(f"expected an Einsum's text, found {scalar.text[position]!r}", scalar.places[position])
        if match.lastgroup is not None and match["space"] is None:
            kind = "number" if match["number"] else "name" if match["name"] else "symbol"
            found.append(Token(kind, match[0], scalar.places[position]))
        position = match.end()
    found.append(Token("end", "", scalar.places[len(scalar.text)]))
    return found
