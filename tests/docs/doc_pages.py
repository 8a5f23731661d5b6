"""The repository's pages."""

from pathlib import Path

ROOT = Path(__file__).parents[2]
#: Pages that scripts write; their text is in benchmarks/pages and fusemax.spec.export.
GENERATED = {*(ROOT / "docs" / "measurements").glob("*.md"), ROOT / "docs" / "reference" / "registers.md"}
PAGES = sorted(
    {*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), ROOT / "examples" / "README.md", ROOT / "sw/fusemax/data/README.md"}
)
WRITTEN = [page for page in PAGES if page not in GENERATED]


def name(page: Path) -> str:
    """Return a page's path as a test's name."""
    return page.relative_to(ROOT).as_posix()
