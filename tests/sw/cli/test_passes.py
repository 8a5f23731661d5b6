"""fusemax passes, and fusemax compile of a file."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fusemax.cascade import CASCADES
from fusemax.cascade.catalog import DIRECTORY
from fusemax.cli import main


def test_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["passes", "attention_3pass", "--rank", "M", "--json"]) == 0
    (record,) = json.loads(capsys.readouterr().out)
    assert list(record) == ["rank", "passes", "passes_deferred_division", "chain", "footprint"]
    assert (record["rank"], record["passes"], record["passes_deferred_division"]) == ("M", 3, 2)
    assert record["footprint"] == ["QK", "SN"]
    assert len(record["chain"]) == 2
    assert "GM" in record["chain"][0] and "SD" in record["chain"][1]


@pytest.mark.parametrize(("name", "passes"), [("attention_3pass", 3), ("attention_2pass", 2), ("attention_1pass", 1)])
def test_taxonomy(name: str, passes: int, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["passes", str(DIRECTORY / f"{name}.yaml"), "--rank", "M", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)[0]["passes"] == passes


@pytest.mark.parametrize("name", CASCADES)
def test_all_ranks_of_the_library(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["passes", name, "--json"]) == 0
    records = json.loads(capsys.readouterr().out)
    declared = {rank for ranks in CASCADES[name].ranks_of.values() for rank in ranks}
    assert {record["rank"] for record in records} >= declared - {"I"}
    assert all(record["passes"] >= 1 for record in records)


def test_text(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["passes", "flowformer", "--rank", "M", "--rank", "P"]) == 0
    assert [line[:10] for line in capsys.readouterr().out.splitlines() if line[0] != " "] == ["M: 2 passe", "P: 2 passe"]
    assert main(["passes", "flowformer", "--rank", "M", "--same", "P=M"]) == 0
    text = capsys.readouterr().out
    assert text.startswith("M: 4 passes (Q 2, K 2, V 1); 4 with deferred division\n  pass 2: ")
    assert text.endswith("  kept or computed again, O(M) each: SK, SQ, IN, CS\n")
    assert main(["passes", "attention_1pass", "--rank", "P"]) == 0
    assert capsys.readouterr().out == "P: 1 pass (Q 1); 1 with deferred division\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nothing"], "error: the cascade must be a file or one of attention_1pass, "),
        (["nothing.yaml"], "error: No such file or directory: 'nothing.yaml'"),
        (["attention_3pass", "--rank", "K"], "rank must be one of E, P, M, F, not 'K'; K is a tensor, its ranks are E, M"),
        (["attention_3pass", "--same", "X=M"], "rank must be one of E, P, M, F, not 'X'"),
    ],
)
def test_errors(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["passes", *arguments]) == 1
    printed = capsys.readouterr()
    assert message in printed.err
    assert printed.out == ""


def test_usage(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (["passes"], ["passes", "attention_1pass", "--same", "P"]):
        with pytest.raises(SystemExit) as stopped:
            main(arguments)
        assert stopped.value.code == 2
    assert "must be two ranks as in P=M, not 'P'" in capsys.readouterr().err


def test_errors_of_a_file_name_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("einsum:\n  declaration: {A: [M], Z: []}\n  expressions:\n    - Z = A[n]\n", encoding="utf-8")
    assert main(["passes", str(path)]) == 1
    error = capsys.readouterr().err
    assert f"error: {path}, line 4, column 13: expected " in error


def test_compile(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text((DIRECTORY / "attention_1pass.yaml").read_text(encoding="utf-8"), encoding="utf-8")
    common = ["--config", "tiny", "--head-dim", "8", "--json", "-o"]
    assert main(["compile", str(path), *common, str(tmp_path / "a")]) == 0
    assert json.loads(capsys.readouterr().out)["cascade"] == "mine"
    assert main(["compile", *common, str(tmp_path / "b")]) == 0
    assert json.loads(capsys.readouterr().out)["cascade"] == "attention_1pass"
    assert (tmp_path / "a" / "program.bin").read_bytes() == (tmp_path / "b" / "program.bin").read_bytes()
    assert main(["compile", "attention_2pass", *common, str(tmp_path / "c")]) == 1
    assert "attention_2pass, line 23, column 7: the array cannot run this" in capsys.readouterr().err
    assert not (tmp_path / "c").exists()


def test_tiles_of_the_picture(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    image = pytest.importorskip("matplotlib.image")
    heights = []
    for tiles in ("2", "9"):
        assert main(["compile", "--config", "tiny", "--head-dim", "4", "--tiles", tiles, "-o", str(tmp_path / tiles)]) == 0
        heights.append(image.imread(tmp_path / tiles / "schedule.png").shape[0])
    assert heights[1] > heights[0] + 200
    for wrong in ("0", "-1", "x", "1001"):
        with pytest.raises(SystemExit):
            main(["compile", "--tiles", wrong])
        assert f"argument --tiles: must be an integer of at least 1 and at most 1000, not '{wrong}'" in capsys.readouterr().err


def test_messages_do_not_speak_of_classes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (["passes", "flow"], ["compile", "flow", "-o", str(tmp_path)]):
        assert main(arguments) == 1
        error = capsys.readouterr().err
        assert error.startswith("error: the cascade must be a file or one of attention_1pass, ")
        assert "Cascade" not in error
