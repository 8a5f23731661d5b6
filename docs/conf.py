"""Sphinx: the pages and, from the docstrings, the API reference (``make site``). Nothing is fetched at build time."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from docutils import nodes

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / folder) for folder in ("sw", "hw", "sim")]

project = "fusemax"
author = "the fusemax authors"
extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
]
# The source directory is the repository, so that a link means the same here and on a page that a forge shows.
root_doc = "docs/contents"
include_patterns = ["*.md", "docs/**", "examples/README.md", "sw/fusemax/data/README.md", "build/api/**"]
exclude_patterns = [".*", ".venv", "docs/_templates", "build/site", "build/doctrees"]
# autosummary looks from the source directory, everything else from this one.
templates_path = [str(ROOT / "docs" / "_templates")]

myst_heading_anchors = 4
myst_links_external_new_tab = False

autosummary_generate = True
autosummary_ignore_module_all = False
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
napoleon_google_docstring = False
napoleon_use_rtype = False
napoleon_custom_sections = [("Members", "params_style")]
#: Titles in the site are short.
add_module_names = False

nitpicky = True
# What is not ours has no page here, and nothing is fetched to find one.
nitpick_ignore_regex = [
    (r"py:.*", r"(numpy|np|npt|ml_dtypes|collections|pathlib|argparse|threading|matplotlib|os|enum|types|serial)\b.*"),
    (r"py:.*", r"(NDArray|ArrayLike|Any|Self|Path|Callable|Iterable|Iterator|Mapping|Sequence|Hashable|PathLike|Fraction)"),
]

html_theme = "furo"
html_title = "fusemax"
html_theme_options = {"source_view_link": "", "navigation_with_keys": True}
html_show_sphinx = False
html_copy_source = False


def link_to_folder(app: Any, env: Any, node: nodes.Element, contnode: nodes.Element) -> nodes.Element | None:
    """A link to a folder of the repository, which a site has no page for, is its text."""
    target = ROOT / Path(env.docname).parent / str(node.get("reftarget", ""))
    return contnode if node.get("reftype") == "myst" and target.is_dir() else None


def write_index(app: Any, exception: Exception | None) -> None:
    """The first page is docs/README.md."""
    if exception is None and app.builder.format == "html":
        page = '<!doctype html><meta charset="utf-8"><meta http-equiv="refresh" content="0; url=docs/README.html">\n'
        (Path(app.outdir) / "index.html").write_text(page, encoding="utf-8")


def setup(app: Any) -> dict[str, bool]:
    """Connect the handlers above."""
    app.connect("missing-reference", link_to_folder)
    app.connect("build-finished", write_index)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
