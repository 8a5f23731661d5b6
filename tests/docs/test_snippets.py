"""What the pages show is run: Python, files, and commands with what they print."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from doc_pages import GENERATED, PAGES, ROOT, name
from sybil import Example, Sybil
from sybil.parsers.markdown import CodeBlockParser, PythonCodeBlockParser, SkipParser

from fusemax.cli import main

#: Generated pages are shown by other tests to be what their scripts write.
RUN = [
    page for page in PAGES if page not in GENERATED and re.search(r"^```(python|yaml|console)", page.read_text("utf-8"), re.M)
]


def write_file(example: Example) -> None:
    """Write a block that begins with a comment of its name to the current directory."""
    named = re.match(r"# ([\w-]+\.\w+)", example.parsed)
    assert named, "a file's block must begin with its name in a comment"
    Path(named[1]).write_text(example.parsed, encoding="utf-8")


def run_commands(example: Example) -> None:
    """Run the commands of a block, and compare what each prints with the lines below it, word by word.

    Three dots before them stand for what it prints first.
    """
    capsys: pytest.CaptureFixture[str] = example.namespace["capsys"]
    for text in re.split(r"^\$ ", example.parsed, flags=re.M)[1:]:
        line, _, expected = text.partition("\n")
        program, *arguments = shlex.split(line)
        if program == "fusemax":
            capsys.readouterr()
            main(arguments)
            printed = "".join(capsys.readouterr())
        else:
            assert program == "python", f"a command must be fusemax or python, not {program}"
            command = [sys.executable, ROOT / arguments[0], *arguments[1:]]
            printed = subprocess.run(command, check=True, capture_output=True, text=True, env={**os.environ}).stdout
        words, wanted = printed.split(), expected.split()
        if wanted[:1] == ["..."]:
            wanted = wanted[1:]
            words = words[-len(wanted) :]
        assert words == wanted, line


SYBIL = Sybil(
    parsers=[
        SkipParser(),
        PythonCodeBlockParser(),
        CodeBlockParser("yaml", write_file),
        CodeBlockParser("console", run_commands),
    ]
)


@pytest.mark.parametrize("page", RUN, ids=name)
def test_page(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    document = SYBIL.parse(page)
    document.namespace["capsys"] = capsys
    examples = list(document.examples())
    assert examples
    for example in examples:
        try:
            example.evaluate()
        except pytest.skip.Exception:  # a block that is skipped does not skip the page
            continue
