"""Reader of the part of YAML that cascades are written in.

Block and flow mappings and sequences, plain, quoted and continued scalars, comments. Every scalar is text, and knows the
line and column of each of its characters. What this reader accepts, YAML reads alike; anchors, tags, block scalars and
several documents are refused by name (docs/decisions/0011-cascade-text.md).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from .depth import Depth
from .errors import CascadeError, Position

__all__ = ["Mapping", "Node", "Scalar", "Sequence", "read_document"]


@dataclass(frozen=True)
class Scalar:
    """Text, with the position of each character and of its end."""

    text: str
    places: tuple[Position, ...] = field(default=(), compare=False, repr=False)

    @property
    def at(self) -> Position:
        return self.places[0]


@dataclass(frozen=True)
class Sequence:
    """Items in order, and where the first one starts."""

    items: tuple[Node, ...]
    at: Position = field(default=Position(1, 1), compare=False, repr=False)


@dataclass(frozen=True)
class Mapping:
    """Keys with their values in order, and where the first one starts."""

    pairs: tuple[tuple[Scalar, Node], ...]
    at: Position = field(default=Position(1, 1), compare=False, repr=False)

    def get(self, key: str) -> Node | None:
        """The value of ``key``."""
        return next((value for name, value in self.pairs if name.text == key), None)


Node = Scalar | Sequence | Mapping

REFUSED = {
    "&": "an anchor",
    "*": "an alias",
    "!": "a tag",
    "|": "a block scalar",
    ">": "a block scalar",
    "%": "a directive",
    "@": "a reserved character",
    "`": "a reserved character",
    "?": "a complex key",
}
ESCAPES = {"n": "\n", "t": "\t", "\\": "\\", '"': '"', "/": "/", "0": "\0", " ": " "}


def read_document(text: str) -> Node:
    """Read the structure of a document.

    Raises
    ------
    CascadeError
        If the text is not of this part of YAML; names line, column and what was expected.
    """
    return Reader(text).document()


class Line:
    """What is left of a line: its text from column ``indent`` (counted from 0) on."""

    def __init__(self, number: int, text: str) -> None:
        self.number = number
        self.indent = len(text) - len(text.lstrip(" "))
        self.text = text

    def at(self, column: int) -> Position:
        return Position(self.number, column + 1)


class Reader:
    """Cursor over lines; a method per structure takes the lines that belong to it."""

    def __init__(self, text: str) -> None:
        self.lines = [Line(number, line.rstrip()) for number, line in enumerate(text.split("\n"), start=1)]
        self.next = 0
        self.depth = Depth()

    # -- lines -----------------------------------------------------------------------------------------------------

    def peek(self) -> Line | None:
        """The next line that holds more than a comment."""
        while self.next < len(self.lines):
            line = self.lines[self.next]
            content = line.text.lstrip(" ")
            if content.startswith("\t"):
                raise CascadeError("expected spaces, not a tab, before the text of a line", line.at(line.indent))
            if content and not content.startswith("#"):
                return line
            self.next += 1
        return None

    def document(self) -> Node:
        line = self.peek()
        if line is not None and re.fullmatch(r"---( +#.*)?", line.text):
            self.next += 1
            line = self.peek()
        for later in self.lines[self.next :]:
            if re.match(r"(---|\.\.\.)( |$)", later.text):
                raise CascadeError("expected one document", later.at(0))
        if line is None:
            raise CascadeError("expected a mapping with the section einsum, found nothing", Position(1, 1))
        node = self.block(line.indent)
        rest = self.peek()
        if rest is not None:
            raise self.unexpected(rest, line.indent)
        return node

    @staticmethod
    def unexpected(line: Line, indent: int) -> CascadeError:
        return CascadeError(f"expected {indent} spaces before the text, found {line.indent}", line.at(line.indent))

    # -- block -----------------------------------------------------------------------------------------------------

    def block(self, indent: int) -> Node:
        """The node that starts on the next line, whose text starts at ``indent``."""
        line = self.peek()
        assert line is not None
        with self.depth.level("blocks", line.at(indent)):
            return self.structure(line, indent)

    def structure(self, line: Line, indent: int) -> Node:
        """The node that starts on this line."""
        if is_item(line.text[indent:]):
            return self.block_sequence(indent)
        if self.find_colon(line, indent) is not None:
            return self.block_mapping(indent)
        return self.inline(line, indent, indent - 1)

    def block_sequence(self, indent: int) -> Sequence:
        items = []
        start = self.peek()
        assert start is not None
        while (line := self.peek()) is not None and line.indent == indent and is_item(line.text[indent:]):
            rest = line.text[indent + 1 :]
            content = rest.lstrip(" ")
            if not content or content.startswith("#"):
                self.next += 1
                items.append(self.nested(line, indent, indent + 1))
            else:
                # What follows the dash is a block of its own: the dash becomes a space.
                line.text = f"{line.text[:indent]} {rest}"
                line.indent = len(line.text) - len(content)
                items.append(self.block(line.indent))
        self.end_of_block(indent)
        return Sequence(tuple(items), start.at(indent))

    def block_mapping(self, indent: int) -> Mapping:
        pairs: list[tuple[Scalar, Node]] = []
        start = self.peek()
        assert start is not None
        while (line := self.peek()) is not None and line.indent == indent and not is_item(line.text[indent:]):
            colon = self.find_colon(line, indent)
            if colon is None:
                raise CascadeError("expected 'key: value'", line.at(indent))
            key = self.key(line, indent, colon)
            if any(key.text == other.text for other, _ in pairs):
                raise CascadeError(f"expected every key once, found {key.text!r} again", key.at)
            content = line.text[colon + 1 :].lstrip(" ")
            if not content or content.startswith("#"):
                self.next += 1
                pairs.append((key, self.nested(line, colon + 1, indent)))
            else:
                pairs.append((key, self.inline(line, len(line.text) - len(content), indent)))
        self.end_of_block(indent)
        return Mapping(tuple(pairs), start.at(indent))

    def end_of_block(self, indent: int) -> None:
        line = self.peek()
        if line is not None and line.indent > indent:
            raise self.unexpected(line, indent)

    def nested(self, parent: Line, column: int, indent: int) -> Node:
        """The block below a key or a dash; empty if the next line is not indented deeper than ``indent``."""
        line = self.peek()
        if line is not None and (line.indent > indent or (line.indent == indent and is_item(line.text[indent:]))):
            return self.block(line.indent)
        return Scalar("", (parent.at(column),))

    def find_colon(self, line: Line, start: int) -> int | None:
        """Column of the colon that ends a key starting at ``start``; none if the text is no key."""
        text = line.text
        if text[start] in "[{":
            return None
        if text[start] in "'\"":
            end = closing_quote(text, start)
            match = re.match(r" *:( |$)", text[end + 1 :]) if end is not None else None
            return end + 1 + match.end() - len(match[1]) - 1 if end is not None and match else None
        match = re.search(r":( |$)| #", text[start:])
        if match is None or match[0] == " #":
            return None
        colon = start + match.start()
        if text[colon - 1] == ":":
            raise CascadeError(
                "expected '::' and the reduction without a space between them, as in ::max(m)", line.at(colon - 1)
            )
        return colon

    def key(self, line: Line, start: int, colon: int) -> Scalar:
        if line.text[start] in "'\"":
            return self.quoted(line, start)[0]
        self.refuse(line, start)
        return scalar(line, start, line.text[start:colon].rstrip())

    def inline(self, line: Line, start: int, parent: int) -> Node:
        """A scalar or a flow collection that starts in a line; a scalar may go on in lines indented deeper than ``parent``."""
        if line.text[start] in "[{":
            flow = Flow(self, line, start)
            node = flow.node()
            flow.end_of_line()
            return node
        if line.text[start] in "'\"":
            node, end = self.quoted(line, start)
            rest = line.text[end:]
            if rest.lstrip(" ") and not re.match(r" +#", rest):
                raise CascadeError("expected the end of the line after the quote", line.at(end))
            self.next += 1
            return node
        return self.plain(line, start, parent)

    def plain(self, line: Line, start: int, parent: int) -> Scalar:
        self.refuse(line, start)
        text = ""
        places: list[Position] = []
        blanks = 0
        while True:
            part, comment = until_comment(line.text[start:])
            colon = re.search(r":( |$)", part)
            if colon:
                column = start + colon.start()
                if line.text[column - 1] == ":":
                    raise CascadeError(
                        "expected '::' and the reduction without a space between them, as in ::max(m)", line.at(column - 1)
                    )
                raise CascadeError("expected text without ': ' or in quotes", line.at(column))
            text += part
            places += [line.at(start + offset) for offset in range(len(part))]
            end = line.at(start + len(part))
            self.next += 1
            if comment:
                break
            blanks = 0
            while self.next + blanks < len(self.lines) and not self.lines[self.next + blanks].text:
                blanks += 1
            if self.next + blanks == len(self.lines):
                break
            line = self.lines[self.next + blanks]
            if line.indent <= parent or line.text[line.indent] == "#":
                break
            joint = "\n" * blanks or " "
            text += joint
            places += [end] * len(joint)
            self.next += blanks
            start = line.indent
        return Scalar(text, (*places, end))

    @staticmethod
    def refuse(line: Line, start: int) -> None:
        character = line.text[start]
        following = line.text[start + 1 : start + 2]
        if character == "-" and following not in ("", " "):
            return
        if character in REFUSED:
            raise CascadeError(f"expected text, not {REFUSED[character]} of YAML ({character})", line.at(start))
        if character in ",]}#-:":
            raise CascadeError(f"expected text, found {character!r}", line.at(start))

    @staticmethod
    def quoted(line: Line, start: int) -> tuple[Scalar, int]:
        """A quoted scalar and the column after it."""
        quote = line.text[start]
        end = closing_quote(line.text, start)
        if end is None:
            raise CascadeError(f"expected a closing {quote} on the same line", line.at(start))
        text = ""
        places = []
        column = start + 1
        while column < end:
            character = line.text[column]
            width = 1
            if quote == "'" and character == "'":
                width = 2
            elif quote == '"' and character == "\\":
                if line.text[column + 1] not in ESCAPES:
                    raise CascadeError(f"expected one of {', '.join(ESCAPES)} after a backslash", line.at(column))
                character = ESCAPES[line.text[column + 1]]
                width = 2
            text += character
            places.append(line.at(column))
            column += width
        return Scalar(text, (*places, line.at(end))), end + 1


class Flow:
    """Cursor in a flow collection, which may go over several lines."""

    def __init__(self, reader: Reader, line: Line, column: int) -> None:
        self.reader = reader
        self.line = line
        self.column = column

    def skip(self) -> str:
        """Go to the next character that is neither space nor comment, and return it."""
        while True:
            rest = self.line.text[self.column :]
            content = rest.lstrip(" ")
            if content and not (content.startswith("#") and (self.column == 0 or rest != content)):
                self.column = len(self.line.text) - len(content)
                return content[0]
            self.reader.next += 1
            if self.reader.next == len(self.reader.lines):
                raise CascadeError("expected ',' or a closing bracket, found the end", self.line.at(len(self.line.text)))
            self.line = self.reader.lines[self.reader.next]
            self.column = 0

    def end_of_line(self) -> None:
        rest = self.line.text[self.column :]
        if rest.lstrip(" ") and not re.match(r" +#", rest):
            raise CascadeError("expected the end of the line after the bracket", self.line.at(self.column))
        self.reader.next += 1

    def node(self) -> Node:
        character = self.skip()
        if character not in "[{":
            return self.scalar()
        with self.reader.depth.level("blocks", self.line.at(self.column)):
            return self.sequence() if character == "[" else self.mapping()

    def sequence(self) -> Sequence:
        at = self.line.at(self.column)
        self.column += 1
        items = []
        while self.skip() != "]":
            items.append(self.node())
            if self.skip() == ":":
                raise CascadeError("expected ',' or ']'", self.line.at(self.column))
            self.separator("]")
        self.column += 1
        return Sequence(tuple(items), at)

    def mapping(self) -> Mapping:
        at = self.line.at(self.column)
        self.column += 1
        pairs: list[tuple[Scalar, Node]] = []
        while self.skip() != "}":
            key = self.scalar()
            if any(key.text == other.text for other, _ in pairs):
                raise CascadeError(f"expected every key once, found {key.text!r} again", key.at)
            number = self.line.number
            if self.skip() != ":" or self.line.number != number:
                raise CascadeError("expected ':' after the key, on the same line", self.line.at(self.column))
            self.column += 1
            value = Scalar("", (self.line.at(self.column),)) if self.skip() in ",}" else self.node()
            pairs.append((key, value))
            self.separator("}")
        self.column += 1
        return Mapping(tuple(pairs), at)

    def separator(self, closing: str) -> None:
        found = self.skip()
        if found == ",":
            self.column += 1
        elif found != closing:
            raise CascadeError(f"expected ',' or {closing!r}, found {found!r}", self.line.at(self.column))

    def scalar(self) -> Scalar:
        if self.skip() in "'\"":
            node, self.column = Reader.quoted(self.line, self.column)
            return node
        Reader.refuse(self.line, self.column)
        rest = self.line.text[self.column :]
        match = re.search(r"[,\[\]{}]|:( |$|[,\[\]{}])| #", rest)
        text = rest[: match.start()] if match else rest
        if match and match[0] in "[{":
            raise CascadeError(
                "expected an expression with brackets in quotes, or on a line of its own after '- '", self.line.at(self.column)
            )
        node = scalar(self.line, self.column, text.rstrip())
        self.column += len(text)
        return node


def is_item(text: str) -> bool:
    return text == "-" or text.startswith("- ")


def scalar(line: Line, start: int, text: str) -> Scalar:
    return Scalar(text, tuple(line.at(start + offset) for offset in range(len(text) + 1)))


def until_comment(text: str) -> tuple[str, bool]:
    """``text`` without the comment at its end, and whether there was one."""
    match = re.search(r" +#", text)
    return (text[: match.start()], True) if match else (text, False)


def closing_quote(text: str, start: int) -> int | None:
    """Column of the quote that closes the one at ``start``."""
    quote = text[start]
    column = start + 1
    while column < len(text):
        if quote == '"' and text[column] == "\\":
            column += 1
        elif text[column] == quote:
            if quote == '"' or text[column + 1 : column + 2] != "'":
                return column
            column += 1
        column += 1
    return None
