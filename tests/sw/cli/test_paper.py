"""``fusemax paper``."""

import builtins
import json

from fusemax.cli import main
from fusemax.evaluation.paper import PUBLISHED, Published, records


def test_json_is_the_records(capsys):
    assert main(["paper", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == records()


def test_tables_and_pictures(tmp_path, monkeypatch, capsys):
    picture = tmp_path / "new" / "pictures" / "one.png"

    def draw(directory):
        assert directory.is_dir()
        return [directory / "one.png"]

    monkeypatch.setattr("fusemax.cli.paper.draw", draw)
    assert main(["paper", "-o", str(picture.parent)]) == 0
    text = capsys.readouterr().out
    for words in ("6.72263", "ours instead", "figure 6b", "+Binding (FuseMax)", "Speed-up over unfused, end to end"):
        assert words in text
    assert "NOT reproduced" not in text
    assert picture.name in text


def test_plain_tables_without_rich(monkeypatch, capsys):
    imported = builtins.__import__

    def without_rich(name, *rest):
        if name.partition(".")[0] == "rich":
            raise ModuleNotFoundError("no rich", name="rich")
        return imported(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without_rich)
    assert main(["paper"]) == 0
    text = capsys.readouterr().out
    assert "attention, speed-up over FLAT" in text
    assert "━" not in text
    assert "---" in text


def test_fails_if_a_figure_is_not_reproduced(monkeypatch, capsys):
    first = PUBLISHED[0]
    wrong = Published(first.what, first.design, first.baseline, first.quantity, first.scope, first.over, "6.73")
    monkeypatch.setattr("fusemax.cli.paper.PUBLISHED", (wrong,))
    assert main(["paper", "--json"]) == 1
