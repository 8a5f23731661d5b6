"""Sentence embeddings with attention on the device: what examples/embeddings.py claims.

With the model's weights if FUSEMAX_MINILM names the directory where pip has put them (the example says how), else with a
stand-in.
"""

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLE = Path(__file__).parent.parent / "examples" / "embeddings.py"
WEIGHTS = os.environ.get("FUSEMAX_MINILM")


@pytest.fixture(scope="module")
def example():
    spec = importlib.util.spec_from_file_location("embeddings", EXAMPLE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def run(*arguments: str) -> str:
    command = [sys.executable, "-W", "error", str(EXAMPLE), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.cosim
def test_stand_in_on_the_verilog():
    text = run("--device", "rtl", "--config", "tiny")
    assert "stands in" in text
    assert "6 calls" in text  # three sentences, two layers


@pytest.mark.parametrize("wrong", ["scale", "keys"])
def test_a_wrong_attention_is_noticed(example, monkeypatch, capsys, wrong):
    attention = example.fusemax.attention

    def disturbed(q, k, v, **options):
        if wrong == "scale":
            return attention(q, k, v, scale=0.9 / q.shape[-1] ** 0.5, **options)
        return attention(q, k[:, :-1], v[:, :-1], **options)

    monkeypatch.setattr(example.fusemax, "attention", disturbed)
    monkeypatch.setattr(sys, "argv", ["embeddings.py"])
    monkeypatch.setattr(example, "SENTENCES", example.SENTENCES[:2])
    monkeypatch.setattr(example, "PAGE", EXAMPLE.parent / "schedule.py")
    assert example.main() == 1
    assert "allowed 2e-03" in capsys.readouterr().out


def test_word_pieces(example):
    words = "[CLS] [SEP] [UNK] un ##believ ##able ##a cafe ' s $ 5".split()
    tokens = {word: number for number, word in enumerate(words)}
    found = example.Tokenizer(tokens)("Unbelievable café's\t$5 unbelievab")
    assert [words[number] for number in found] == "[CLS] un ##believ ##able cafe ' s $ 5 [UNK] [SEP]".split()


@pytest.mark.skipif(WEIGHTS is None, reason="FUSEMAX_MINILM does not name a directory with the model's package")
@pytest.mark.parametrize(
    ("arguments", "calls"),
    [(("--device", "model"), 24), pytest.param(("--device", "rtl", "--config", "small"), 18, marks=pytest.mark.cosim)],
    ids=["page on the model", "sentences on the Verilog"],
)
def test_the_model(arguments, calls):
    text = run("--weights", str(WEIGHTS), *arguments)
    assert f"{calls} calls" in text  # six layers
    published = re.findall(r"in float32 ([+-][\d.]+), published ([\d.]+)", text)
    assert len(published) == 3
    assert all(float(found) == float(value) for found, value in published)
