"""Reader of the part of YAML: what it accepts reads as PyYAML reads it, and what it refuses it refuses in its place."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from fusemax.cascade.catalog import DIRECTORY
from fusemax.cascade.errors import CascadeError
from fusemax.cascade.writer import written
from fusemax.cascade.yaml_reader import Mapping, Node, Scalar, Sequence, read_document


def plain(node: Node) -> object:
    match node:
        case Scalar(text):
            return text
        case Sequence(items):
            return [plain(item) for item in items]
        case Mapping(pairs):
            return {key.text: plain(value) for key, value in pairs}


FORMS = """\
# comment
a: 1          # another
"b c": 'it''s'
d: [x, "y, z", [], {k: v, w: [1, 2]}]
e:
- one
- two
f:
  - k: 1
    l: 2
  - - nested
    - list
  -
    m: n
g: text that goes
  on in the next line

  and after an empty one
h:
i: [
  many, lines,   # with a comment
  more
  ]
j: "escaped \\" \\\\ \\n"
k: RM[m1+1, p] = max(RM[m1, p], LM[m1, p]) ::max(m0)
l: -inf
m: a#b
n: {}
"""


def test_forms_read_as_yaml() -> None:
    assert plain(read_document(FORMS)) == yaml.load(FORMS, yaml.BaseLoader)


@pytest.mark.parametrize("path", sorted(DIRECTORY.glob("*.yaml")), ids=lambda path: path.stem)
def test_the_library_is_yaml(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert plain(read_document(text)) == yaml.load(text, yaml.BaseLoader)


texts = st.text(st.characters(codec="ascii", min_codepoint=32, max_codepoint=126), max_size=12)
scalars = texts.map(Scalar)
nodes = st.recursive(
    scalars,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4).map(lambda items: Sequence(tuple(items))),
        st.dictionaries(texts.filter(bool), inner, max_size=4).map(
            lambda pairs: Mapping(tuple((Scalar(key), value) for key, value in pairs.items()))
        ),
    ),
    max_leaves=12,
)


@settings(max_examples=100)
@given(nodes)
def test_what_is_written_reads_back_and_is_yaml(node: Node) -> None:
    text = "\n".join(written("top:", node, 0))
    assert read_document(text).get("top") == node  # type: ignore[union-attr]
    assert yaml.load(text, yaml.BaseLoader) == {"top": plain(node)}


@settings(max_examples=2500)
@given(st.text(st.sampled_from(list("ab:- \n[]{},#'\"")), max_size=24))
def test_any_text_reads_as_yaml_or_is_refused(text: str) -> None:
    try:
        node = read_document(text)
    except CascadeError as error:
        assert error.at is not None
        return
    assert plain(node) == yaml.load(text, yaml.BaseLoader)


def test_positions() -> None:
    document = read_document("a:\n  - first  # c\n  - 'it''s' \nb: one\n  two\n")
    first, second = document.get("a").items  # type: ignore[union-attr]
    assert first.at == (2, 5)
    assert second.places[3] == (3, 10), "the s comes after the doubled quote"
    folded = document.get("b")  # type: ignore[union-attr]
    assert folded.text == "one two"
    assert folded.places[4] == (5, 3)


@pytest.mark.parametrize(
    ("text", "place", "message"),
    [
        ("", (1, 1), "expected a mapping with the section einsum, found nothing"),
        ("a: 1\n   b: 2", (2, 5), "expected text without ': '"),
        ("a:\n  b: 1\n    c: 2", (3, 6), "expected text without ': '"),
        ("a:\n  - x\n c: 1", (3, 2), "expected 0 spaces before the text, found 1"),
        ("a:\n\t- x", (2, 1), "expected spaces, not a tab"),
        ("a: &x 1", (1, 4), "not an anchor of YAML"),
        ("a: *x", (1, 4), "not an alias of YAML"),
        ("a: !x 1", (1, 4), "not a tag of YAML"),
        ("a: |\n  x", (1, 4), "not a block scalar of YAML"),
        ("a: 1\na: 2", (2, 1), "expected every key once, found 'a' again"),
        ("a: 'x", (1, 4), "expected a closing '"),
        ("a: 'x' y", (1, 7), "expected the end of the line after the quote"),
        ("a: [x, y", (1, 9), "expected ',' or a closing bracket, found the end"),
        ("a: [x] y", (1, 7), "expected the end of the line after the bracket"),
        ("a: [RM[0, p] = -inf]", (1, 5), "expected an expression with brackets in quotes"),
        ("- LM[m1, p] = B[m1, m0, p] :: max(m0)", (1, 28), "without a space between them, as in ::max(m)"),
        ("a:\n  - B[m]\n    :: max(m)", (3, 5), "without a space between them, as in ::max(m)"),
        ("a: 1\n---\nb: 2", (2, 1), "expected one document"),
        ('a: "\\q"', (1, 5), "after a backslash"),
    ],
)
def test_refused(text: str, place: tuple[int, int], message: str) -> None:
    with pytest.raises(CascadeError) as caught:
        read_document(text)
    assert caught.value.at == place, caught.value
    assert message in str(caught.value)
