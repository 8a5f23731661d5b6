"""Sphinx: the pages and, from the docstrings, the API reference (``make site``). Nothing is fetched at build time."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.addnodes import pending_xref

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / folder) for folder in ("sw", "hw", "sim")]

project = "fusemax"
author = "the fusemax authors"
extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.napoleon",
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
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_type_aliases = {"ArrayLike": "ArrayLike", "NDArray": "NDArray"}
python_maximum_signature_line_length = 88
napoleon_google_docstring = False
napoleon_use_rtype = False
napoleon_custom_sections = [("Members", "params_style")]
#: Titles in the site are short.
add_module_names = False

nitpicky = True
# What is not ours has no page here, and nothing is fetched to find one.
nitpick_ignore_regex = [
    (r"py:.*", r"(numpy|np|ml_dtypes|collections|pathlib|argparse|threading|matplotlib|os|enum|types|serial|amaranth)\b.*"),
    # Types of parameters are prose in NumPy's style, as in "array (..., P, E)".
    (r"py:class", r"[^.]*"),
    # A function hides its module; a type variable has no page.
    (r"py:class", r"fusemax\.(model\.cycles\.CycleCounts|arith\.exp2\.Weight|planning\.splitting\.Number)"),
]
#: More than one thing has this name, and a docstring says only the name.
suppress_warnings = ["ref.python"]

html_theme = "furo"
html_title = "fusemax"
html_theme_options = {"source_view_link": "", "navigation_with_keys": True}
html_show_sphinx = False
html_copy_source = False


def unlink_folders(app: Any, doctree: nodes.document) -> None:
    """Make a link to a folder of the repository, which a site has no page for, plain text."""
    here = Path(app.env.doc2path(app.env.docname)).parent
    for link in list(doctree.findall(pending_xref)):
        if link.get("reftype") == "myst" and (here / link["reftarget"]).is_dir():
            link.replace_self(link.children)


def find_exported(app: Any, env: Any, node: pending_xref, content: nodes.Element) -> nodes.Element | None:
    """Resolve a name that is documented elsewhere: one that a package exports, or an exception of another module."""
    if node.get("refdomain") != "py":
        return None
    domain = env.domains["py"]
    kinds = domain.objtypes_for_role(node["reftype"])
    package, name = "fusemax", node["reftarget"].removeprefix("fusemax.")
    while name:
        found = [
            full
            for full, entry in domain.objects.items()
            if entry.objtype in kinds and full.startswith(f"{package}.") and full.endswith(f".{name}")
        ]
        if len(found) == 1:
            return domain.resolve_xref(env, node["refdoc"], app.builder, node["reftype"], found[0], node, content)
        head, _, name = name.partition(".")
        package = f"{package}.{head}"
    return None


def write_index(app: Any, exception: Exception | None) -> None:
    """The first page is docs/README.md."""
    if exception is None and app.builder.format == "html":
        page = '<!doctype html><meta charset="utf-8"><meta http-equiv="refresh" content="0; url=docs/README.html">\n'
        (Path(app.outdir) / "index.html").write_text(page, encoding="utf-8")


def escape_bars(app: Any, what: str, name: str, found: object, options: object, lines: list[str]) -> None:
    """A bar in a docstring is that of a size, |S|; reStructuredText would look for a substitution."""
    for number, line in enumerate(lines):
        parts = line.split("``")
        parts[::2] = [part.replace("|", r"\|") for part in parts[::2]]
        lines[number] = "``".join(parts)


def setup(app: Any) -> dict[str, bool]:
    """Connect the handlers above."""
    app.connect("doctree-read", unlink_folders)
    app.connect("missing-reference", find_exported)
    app.connect("build-finished", write_index)
    app.connect("autodoc-process-docstring", escape_bars)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
