"""fusemax.torch.scaled_dot_product_attention against PyTorch's own, on inputs that are rounded to bfloat16 first."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import fusemax
from fusemax.spec import config_named

pytest.importorskip("torch", reason="needs the extra torch")

import torch

from fusemax.torch import scaled_dot_product_attention

pytestmark = pytest.mark.filterwarnings("ignore")
theirs = torch.nn.functional.scaled_dot_product_attention


#: Capped scores, and scores as results, need the option linear.
MACHINE = replace(config_named("small"), name="small_linear", linear=True)


@pytest.fixture(scope="module")
def device():
    with fusemax.open("model", MACHINE) as opened:
        yield opened


def tensors(*shapes: tuple[int, ...], dtype: Any = torch.float32) -> list[Any]:
    generator = torch.Generator().manual_seed(7)
    return [torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype) for shape in shapes]


def check(device: fusemax.Device, q: Any, k: Any, v: Any, *, limit: float = 1e-4, **options: Any) -> None:
    out = scaled_dot_product_attention(q, k, v, **options, device=device)
    if (mask := options.get("attn_mask")) is not None and mask.dtype != torch.bool:
        # PyTorch 2.14 takes the bytes of a float32 mask beside float64 queries for float64 numbers.
        options["attn_mask"] = mask.double()
    expected = theirs(*(x.bfloat16().double() for x in (q, k, v)), **options)
    assert out.dtype == q.dtype and out.shape == expected.shape and out.is_contiguous()
    assert float((out.double() - expected).norm()) <= limit * float(expected.norm())


SHAPE = (2, 3, 9, 16)
CAUSAL = torch.ones(9, 9).tril().bool()


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"is_causal": True},
        {"scale": 0.4},
        {"attn_mask": CAUSAL},
        {"attn_mask": torch.zeros(9, 9).masked_fill(~CAUSAL, -torch.inf)},
        {"attn_mask": torch.zeros(2, 1, 9, 9).masked_fill(~CAUSAL, torch.finfo(torch.float32).min)},
        {"attn_mask": (torch.arange(9) < torch.tensor([[9], [4]]))[:, None, None]},
        {"attn_mask": CAUSAL & ~CAUSAL.tril(-3)},
    ],
    ids=["plain", "causal", "scale", "boolean", "infinite", "lowest", "padding", "window"],
)
def test_as_theirs(device: fusemax.Device, options: dict[str, Any]) -> None:
    check(device, *tensors(SHAPE, SHAPE, SHAPE), **options)


@pytest.mark.parametrize(
    ("dtype", "limit"), [(torch.bfloat16, 4e-3), (torch.float16, 4e-4), (torch.float32, 1e-4), (torch.float64, 1e-4)]
)
def test_types(device: fusemax.Device, dtype: Any, limit: float) -> None:
    check(device, *tensors(SHAPE, SHAPE, SHAPE, dtype=dtype), limit=limit)


def test_causal_is_aligned_at_the_first_key(device: fusemax.Device) -> None:
    q, k, v = tensors((1, 2, 4, 8), (1, 2, 7, 8), (1, 2, 7, 5))
    check(device, q, k, v, is_causal=True)
    out = scaled_dot_product_attention(q, k, v, is_causal=True, device=device)
    torch.testing.assert_close(out[..., 0, :], v[..., 0, :].bfloat16().float(), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    ("q", "k", "v", "gqa"),
    [
        ((9, 16), (5, 16), (5, 4), False),
        ((3, 9, 16), (3, 5, 16), (3, 5, 4), False),
        ((2, 6, 9, 16), (2, 2, 5, 16), (2, 2, 5, 4), True),
        ((2, 6, 9, 16), (2, 2, 5, 16), (2, 3, 5, 16), True),
        ((2, 6, 9, 16), (1, 1, 5, 16), (2, 6, 5, 4), False),
        ((1, 1, 9, 16), (4, 3, 5, 16), (4, 3, 5, 16), False),
        ((2, 2, 3, 9, 16), (2, 1, 3, 5, 16), (1, 2, 3, 5, 4), False),
        ((2, 0, 16), (2, 5, 16), (2, 5, 4), False),
    ],
)
def test_shapes(device: fusemax.Device, q: tuple, k: tuple, v: tuple, gqa: bool) -> None:
    if gqa and k[1] != v[1]:
        with pytest.raises(ValueError, match="the heads of key and value must be multiples of each other, not 2 and 3"):
            check(device, *tensors(q, k, v), enable_gqa=gqa)
        return
    check(device, *tensors(q, k, v), enable_gqa=gqa)


def test_strides(device: fusemax.Device) -> None:
    (packed,) = tensors((2, 9, 3, 4, 16), dtype=torch.bfloat16)
    q, k, v = packed.permute(2, 0, 3, 1, 4)
    check(device, q, k, v, limit=4e-3)
    check(device, q.flip(2), k[..., ::2, :], v[..., ::2, :], limit=4e-3)
    assert not q.is_contiguous()


def test_queries_that_see_nothing_give_zeros(device: fusemax.Device) -> None:
    q, k, v = tensors(SHAPE, SHAPE, SHAPE)
    mask = CAUSAL.clone()
    mask[:, :3] = False
    out = scaled_dot_product_attention(q, k, v, mask, device=device)
    assert not out[..., :3, :].any() and out[..., 3:, :].all()


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"dropout_p": 0.1}, ValueError, "dropout_p must be 0, since nothing is dropped here, not 0.1"),
        ({"is_causal": True, "attn_mask": CAUSAL}, ValueError, "attn_mask must not be given with is_causal"),
        ({"attn_mask": CAUSAL.long()}, TypeError, "attn_mask must be boolean or of floating-point numbers, not torch.int64"),
        ({"device": "model"}, TypeError, "device must be a Device or None, not 'model'"),
        (
            {"key": torch.ones(SHAPE).half()},
            ValueError,
            "must be of one type, but query is torch.float32 and key is torch.float16",
        ),
        ({"key": torch.ones(2, 2, 9, 16)}, ValueError, "must broadcast without enable_gqa, not be 3, 2 and 3"),
        ({"value": torch.ones(16)}, ValueError, r"value must have at least 2 axes, length and head dim, not shape \(16,\)"),
        ({"query": torch.ones(SHAPE, device="meta")}, ValueError, "query must be on the CPU, not on meta"),
    ],
)
def test_wrong_arguments(device: fusemax.Device, options: dict[str, Any], error: type[Exception], message: str) -> None:
    ones = torch.ones(SHAPE)
    with pytest.raises(error, match=message):
        scaled_dot_product_attention(**{"query": ones, "key": ones, "value": ones, "device": device} | options)


def test_no_gradient(device: fusemax.Device) -> None:
    q, k, v = tensors(SHAPE, SHAPE, SHAPE)
    q.requires_grad_()
    out = scaled_dot_product_attention(q, k, v, device=device)
    with pytest.raises(NotImplementedError, match="fusemax computes attention forward only and has no gradient"):
        out.sum().backward()
    with torch.no_grad():
        assert not scaled_dot_product_attention(q, k, v, device=device).requires_grad


# -- the operator ------------------------------------------------------------------------------------------------------


def test_one_node_of_a_graph(device: fusemax.Device) -> None:
    class Model(torch.nn.Module):
        def forward(self, q, k, v):
            return scaled_dot_product_attention(q * 2, k, v, is_causal=True, device=device) + 1

    arrays = tensors(SHAPE, SHAPE, SHAPE)
    expected = Model()(*arrays)
    compiled = torch.compile(Model(), fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(*arrays), expected, rtol=0, atol=0)
    # A graph whose gradient nobody asks for is traced, too.
    arrays[0].requires_grad_()
    torch.testing.assert_close(compiled(*arrays).detach(), expected, rtol=0, atol=0)
    exported = torch.export.export(Model(), tuple(x.detach() for x in arrays))
    assert [str(node.target) for node in exported.graph.nodes].count("fusemax.attention.default") == 1
    torch.testing.assert_close(exported.module()(*arrays), expected, rtol=0, atol=0)


def test_operator_keeps_its_contract() -> None:
    q, k, v = tensors((2, 4, 5, 8), (2, 2, 7, 8), (1, 2, 7, 3))
    for mask in (None, torch.rand(5, 7) < 2):
        torch.library.opcheck(
            torch.ops.fusemax.attention.default, (q, k, v, mask, None, torch.zeros(4), None, True, 3, 0.3, None, 0)
        )


def test_a_device_that_is_gone(device: fusemax.Device) -> None:
    q, k, v = tensors(SHAPE, SHAPE, SHAPE)
    arguments = (None, None, None, None, False, 0, None, None)
    with pytest.raises(fusemax.FusemaxError, match="device 999 must be open, but nothing refers to it any more"):
        torch.ops.fusemax.attention(q, k, v, *arguments, 999)
    other = fusemax.open("model", "tiny")
    other.close()
    with pytest.raises(fusemax.FusemaxError, match="the device must be open, but was closed"):
        scaled_dot_product_attention(q, k, v, device=other)


def test_tensors_are_arrays(device: fusemax.Device) -> None:
    """fusemax.attention itself takes tensors, bfloat16 ones through DLPack among them."""
    for dtype in (torch.float32, torch.bfloat16, torch.float16, torch.float64):
        q, k, v = tensors(SHAPE, SHAPE, SHAPE, dtype=dtype)
        expected = fusemax.attention(*(x.bfloat16().float().numpy() for x in (q, k, v)), device=device)
        np.testing.assert_array_equal(fusemax.attention(q, k, v, device=device).view(np.uint16), expected.view(np.uint16))
        flipped = fusemax.attention(q, k.transpose(-1, -2).contiguous().transpose(-1, -2), v[:], device=device)
        np.testing.assert_array_equal(flipped.view(np.uint16), expected.view(np.uint16))
    with pytest.raises(TypeError, match=r"q must be an array of numbers, not Tensor: .*gradient"):
        fusemax.attention(q.requires_grad_(), k, v, device=device)
    assert fusemax.attention(torch.ones(2, 0, 4).bfloat16(), torch.ones(2, 3, 4).bfloat16(), torch.ones(2, 3, 4)).shape == (
        2,
        0,
        4,
    )


@pytest.mark.skipif("bias" not in fusemax.api.attention.AttentionOptions.__optional_keys__, reason="attention has no bias yet")
def test_a_bias(device: fusemax.Device) -> None:
    bias = tensors((2, 1, 9, 9))[0].bfloat16().float()
    check(device, *tensors(SHAPE, SHAPE, SHAPE), attn_mask=bias)
    check(device, *tensors(SHAPE, SHAPE, SHAPE), attn_mask=bias.masked_fill(~CAUSAL, -torch.inf))


@pytest.mark.skipif("mask" not in fusemax.api.attention.AttentionOptions.__optional_keys__, reason="attention has no mask yet")
def test_any_mask(device: fusemax.Device) -> None:
    mask = torch.rand(2, 3, 9, 9, generator=torch.Generator().manual_seed(3)) < 0.5
    mask[..., 0] = True
    check(device, *tensors(SHAPE, SHAPE, SHAPE), attn_mask=mask)
