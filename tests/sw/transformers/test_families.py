"""Small random models of many families, with their attention on a device, against the library's own attention.

The library's attention gets queries, keys and values that are rounded to bfloat16, as the device's are.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

import fusemax
from fusemax.runtime.options import AttentionOptions
from fusemax.spec import config_named

pytest.importorskip("torch", reason="needs the extra torch")
pytest.importorskip("transformers", reason="needs the extra transformers")

import torch
import transformers

from fusemax.transformers import register
from fusemax.transformers.attention import attention_forward

pytestmark = pytest.mark.filterwarnings("ignore")

WORDS, LENGTH, TOKENS = 97, 12, 10
SIZES = {"vocab_size": WORDS, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4}
SPECIAL = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": None}
DECODER = {**SIZES, **SPECIAL, "num_key_value_heads": 2, "max_position_embeddings": 128}
#: Configuration classes and arguments; options of attention that not every version of this package has.
FAMILIES: dict[str, tuple[str, dict[str, Any], tuple[str, ...]]] = {
    "llama": ("LlamaConfig", DECODER, ()),
    "qwen3": ("Qwen3Config", {**DECODER, "head_dim": 16}, ()),
    "gpt2": ("GPT2Config", {"vocab_size": WORDS, "n_embd": 64, "n_layer": 2, "n_head": 4, **SPECIAL}, ()),
    "mistral, window": ("MistralConfig", {**DECODER, "sliding_window": 5}, ()),
    "gemma 2, cap": (
        "Gemma2Config",
        {**DECODER, "head_dim": 16, "sliding_window": 6, "query_pre_attn_scalar": 16},
        ("softcap",),
    ),
    "gpt-oss, sinks": (
        "GptOssConfig",
        {**DECODER, "head_dim": 16, "sliding_window": 6, "num_local_experts": 2, "num_experts_per_tok": 1},
        (),
    ),
    "deepseek v3, latent": (
        "DeepseekV3Config",
        {
            **DECODER,
            "num_key_value_heads": 4,
            "q_lora_rank": 32,
            "kv_lora_rank": 32,
            "qk_rope_head_dim": 8,
            "qk_nope_head_dim": 16,
            "v_head_dim": 12,
            "n_routed_experts": 4,
            "num_experts_per_tok": 2,
            "n_group": 2,
            "topk_group": 1,
            "moe_intermediate_size": 32,
            "first_k_dense_replace": 1,
            "n_shared_experts": 1,
        },
        (),
    ),
    "bloom, alibi": ("BloomConfig", {"vocab_size": WORDS, "hidden_size": 64, "n_layer": 2, "n_head": 4, **SPECIAL}, ()),
    "bert": ("BertConfig", {**SIZES, "max_position_embeddings": 64}, ()),
    "modernbert, window": ("ModernBertConfig", {**SIZES, "num_hidden_layers": 3, "local_attention": 8, "pad_token_id": 0}, ()),
    "t5, bias": (
        "T5Config",
        {
            "vocab_size": WORDS,
            "d_model": 64,
            "d_kv": 16,
            "d_ff": 96,
            "num_layers": 2,
            "num_heads": 4,
            "decoder_start_token_id": 0,
        },
        ("bias",),
    ),
}
ENCODERS = {"bert", "modernbert, window"}


#: Capped scores, and scores as results, need the option linear.
MACHINE = replace(config_named("small"), name="small_linear", linear=True)


@pytest.fixture(scope="module")
def device() -> Iterator[fusemax.Device]:
    with fusemax.open("model", MACHINE) as opened:
        register(opened)
        yield opened


def family(name: str) -> Any:
    """The configuration of a family; the test is skipped if attention cannot express the family yet."""
    kind, arguments, needed = FAMILIES[name]
    missing = [option for option in needed if option not in AttentionOptions.__optional_keys__]
    if missing:
        pytest.skip(f"attention has no {missing[0]} yet")
    return getattr(transformers, kind)(**arguments)


def model_of(config: Any, implementation: str, kind: str) -> Any:
    torch.manual_seed(0)
    model = getattr(transformers, kind).from_config(config, attn_implementation=implementation).eval()
    assert model.config._attn_implementation == implementation
    return model


def padded(side: str) -> tuple[Any, Any]:
    """Three sequences of different lengths, and their mask."""
    ids = torch.randint(3, WORDS, (3, LENGTH), generator=torch.Generator().manual_seed(1))
    mask = torch.ones_like(ids)
    for row, length in enumerate((LENGTH, 7, 3)):
        mask[row, : LENGTH - length] = 0 if side == "left" else 1
        mask[row, length:] = 0 if side == "right" else mask[row, length:]
    return ids, mask


@pytest.fixture
def rounded(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Lets a model's own attention see bfloat16 numbers."""

    def of(model: Any) -> None:
        for module in {type(part).__module__ for part in model.modules()}:
            eager = getattr(sys.modules[module], "eager_attention_forward", None)
            if eager is not None:

                def round_first(layer, query, key, value, *rest, eager=eager, **more):
                    return eager(layer, *(x.bfloat16().to(x.dtype) for x in (query, key, value)), *rest, **more)

                monkeypatch.setattr(sys.modules[module], "eager_attention_forward", round_first)

    return of


@pytest.mark.parametrize("side", ["none", "left", "right"])
@pytest.mark.parametrize("name", FAMILIES)
def test_hidden_states(device: fusemax.Device, rounded: Any, name: str, side: str) -> None:
    config = family(name)
    ids, mask = padded(side)
    more = {"decoder_input_ids": ids[:, :7]} if name == "t5, bias" else {}
    states = []
    for implementation in ("eager", "fusemax"):
        model = model_of(config, implementation, "AutoModel")
        if implementation == "eager":
            rounded(model)
        device.driver.queue.ring.write("COUNTERS_CLEAR", 1)
        with torch.no_grad():
            found = model(input_ids=ids, attention_mask=mask, **more).last_hidden_state
        states.append(found if more else found[mask.bool()])
        assert (device.counters.tiles > 0) == (implementation == "fusemax")
    assert torch.isfinite(states[1]).all()
    assert float((states[1] - states[0]).norm()) <= 2e-3 * float(states[0].norm())


@pytest.mark.parametrize("name", [name for name in FAMILIES if name not in ENCODERS])
def test_ten_greedy_tokens(device: fusemax.Device, rounded: Any, name: str) -> None:
    """From prompts that are padded on the left, with the library's cache."""
    config = family(name)
    ids, mask = padded("left")
    kind = "AutoModelForSeq2SeqLM" if name == "t5, bias" else "AutoModelForCausalLM"
    tokens = []
    for implementation in ("eager", "fusemax"):
        model = model_of(config, implementation, kind)
        if implementation == "eager":
            rounded(model)
        with torch.no_grad():
            tokens.append(
                model.generate(
                    input_ids=ids, attention_mask=mask, do_sample=False, min_new_tokens=TOKENS, max_new_tokens=TOKENS
                )
            )
    assert tokens[0].shape[1] >= TOKENS
    assert torch.equal(*tokens)


# -- the traps ---------------------------------------------------------------------------------------------------------


class Layer(torch.nn.Module):
    is_causal = True


def layer(*shape: int, seed: int = 0) -> Any:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def test_lengths_come_before_heads() -> None:
    q, k, v = layer(2, 4, 5, 8), layer(2, 2, 5, 8, seed=1), layer(2, 2, 5, 3, seed=2)
    out, weights = attention_forward(Layer(), q, k, v, None, scaling=0.3)
    assert out.shape == (2, 5, 4, 3) and weights is None
    expected = fusemax.attention(q, k, v, 0.3, causal=True, out_dtype="float32")
    torch.testing.assert_close(out, torch.from_numpy(expected).transpose(1, 2), rtol=0, atol=0)


@pytest.mark.parametrize("queries", [1, 9])
def test_a_window_of_w_is_w_keys(queries: int) -> None:
    q, k, v = layer(1, 1, queries, 8), layer(1, 1, 9, 8, seed=1), layer(1, 1, 9, 3, seed=2)
    out, _ = attention_forward(Layer(), q, k, v, None, sliding_window=3)
    expected = fusemax.attention(q, k, v, causal=True, window=(2, 0), query_offset=9 - queries, out_dtype="float32")
    # The tiles of a single query begin with the first key that it sees, so its last bits may differ.
    torch.testing.assert_close(out, torch.from_numpy(expected).transpose(1, 2), rtol=1e-6, atol=1e-6)


def test_without_a_mask_the_layer_says_whether_it_is_causal() -> None:
    q, k, v = layer(1, 1, 4, 8), layer(1, 1, 9, 8, seed=1), layer(1, 1, 9, 3, seed=2)
    whole = torch.from_numpy(fusemax.attention(q, k, v, out_dtype="float32")).transpose(1, 2)
    torch.testing.assert_close(attention_forward(torch.nn.Module(), q, k, v, None)[0], whole, rtol=0, atol=0)
    torch.testing.assert_close(attention_forward(Layer(), q, k, v, None, is_causal=False)[0], whole, rtol=0, atol=0)
    with pytest.raises(ValueError, match="attention_mask must be given for 4 causal queries and 9 keys"):
        attention_forward(Layer(), q, k, v, None)
    with pytest.raises(ValueError, match="attention_mask must be given with sliding_window if attention is not causal"):
        attention_forward(torch.nn.Module(), q, k, v, None, sliding_window=4)


def test_what_the_device_cannot_do_is_refused() -> None:
    q = layer(1, 1, 4, 8)
    with pytest.raises(ValueError, match=r"dropout must be 0, since nothing is dropped here, not 0.1: use model.eval\(\)"):
        attention_forward(Layer(), q, q, q, None, dropout=0.1)
    with pytest.raises(NotImplementedError, match="output_attentions must be False"):
        attention_forward(Layer(), q, q, q, None, output_attentions=True)
    with pytest.raises(TypeError, match="device must be a Device or None, not 'model'"):
        register("model")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="name must be a string, not 3"):
        register(None, 3)  # type: ignore[arg-type]


def test_masks_are_registered_with_attention(device: fusemax.Device) -> None:
    """Without a mask function the library gives None, and padding is lost in silence."""
    from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS

    register(device, "fusemax two")
    function = ALL_MASK_ATTENTION_FUNCTIONS["fusemax two"]
    mask = function(
        batch_size=1, q_length=3, kv_length=3, attention_mask=torch.ones(1, 3).bool(), allow_is_bidirectional_skip=True
    )
    assert mask.shape == (1, 1, 3, 3) and (mask < 0).sum() == 3


def test_bloom_of_another_implementation_is_the_library_s(device: fusemax.Device) -> None:
    config = family("bloom, alibi")
    ids, mask = padded("right")
    device.driver.queue.ring.write("COUNTERS_CLEAR", 1)
    with torch.no_grad():
        model_of(config, "eager", "AutoModel")(input_ids=ids, attention_mask=mask)
    assert device.counters.tiles == 0
