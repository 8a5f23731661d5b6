"""Every relative link of every page leads to a file, and every anchor to a heading."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from urllib.parse import unquote

import pytest
from doc_pages import PAGES, ROOT, name
from markdown_it import MarkdownIt
from markdown_it.token import Token
from mdit_py_plugins.anchors import anchors_plugin


@cache
def tokens(page: Path) -> list[Token]:
    """Return the tokens of a page, those within lines among them."""
    parser = MarkdownIt("commonmark").enable("table").use(anchors_plugin, max_level=6)
    found = parser.parse(page.read_text(encoding="utf-8"))
    return [each for token in found for each in (token, *(token.children or ()))]


def anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings."""
    return {str(token.attrs["id"]) for token in tokens(page) if token.type == "heading_open"}


def links(page: Path) -> list[str]:
    """Return what the links and pictures of a page lead to."""
    return [
        str(token.attrs.get("href") or token.attrs.get("src")) for token in tokens(page) if token.type in ("link_open", "image")
    ]


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_links(page: Path) -> None:
    for link in links(page):
        if re.match(r"https?:", link):
            continue
        path, _, anchor = unquote(link).partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.is_relative_to(ROOT), f"{link} leads out of the repository"
        assert target.exists(), f"{link} leads nowhere"
        if anchor:
            assert anchor in anchors(target), f"{link}: the page has the anchors {sorted(anchors(target))}"


def test_every_page_is_in_the_index() -> None:
    index = ROOT / "docs" / "README.md"
    listed = {(index.parent / link.partition("#")[0]).resolve() for link in links(index)}
    decisions = set((ROOT / "docs" / "decisions").glob("0*.md"))
    assert {page for page in PAGES if page.is_relative_to(index.parent)} - decisions - {index} <= listed


def test_every_decision_is_in_the_list() -> None:
    folder = ROOT / "docs" / "decisions"
    assert {folder / link for link in links(folder / "README.md")} == set(folder.glob("0*.md"))
