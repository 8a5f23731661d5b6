"""CITATION.cff: the keys that its format requires, and the version and licence of the package."""

import tomllib
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parent.parent
CITATION = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def test_required_keys():
    """https://github.com/citation-file-format/citation-file-format, schema 1.2.0."""
    assert CITATION["cff-version"] == "1.2.0"
    assert all(CITATION[key] for key in ("message", "title", "authors"))
    assert CITATION["type"] == "software"


def test_it_is_about_this_package():
    assert CITATION["version"] == PROJECT["version"]
    assert CITATION["license"] == PROJECT["license"]
    assert CITATION["repository-code"] == PROJECT["urls"]["Repository"]


def test_the_paper_is_a_reference():
    (paper,) = CITATION["references"]
    assert all(paper[key] for key in ("type", "title", "authors"))
    assert (paper["authors"][0]["family-names"], paper["year"]) == ("Nayak", 2024)
    assert paper["doi"] == "10.1109/MICRO61859.2024.00107"
