#!/usr/bin/env bash
# transformers 5.24.0 with torch 2.14.1: an attention function of one's own, registered by AttentionInterface.register.
#
# Expected: the function is given the padding mask of the call, as the built-in "sdpa" is.
# Seen: it is given attention_mask=None, and no warning is logged at the most verbose level: padding tokens are attended
# to. The same name must be registered with AttentionMaskInterface too. A function that returns (batch, heads, length,
# dim) instead of (batch, length, heads, dim) is accepted as well; the numbers are wrong.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check numpy==2.4.6 torch==2.14.1 transformers==5.24.0
"$folder/venv/bin/python" - <<'PYTHON'
import logging
from importlib.metadata import version

import torch
from transformers import AttentionInterface, AttentionMaskInterface, LlamaConfig, LlamaModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask
from transformers.utils import logging as model_logging

print("transformers", version("transformers"), "torch", version("torch"))
warnings = []
handler = logging.Handler(logging.WARNING)
handler.emit = lambda record: warnings.append(record.getMessage())
model_logging.set_verbosity_debug()
model_logging.add_handler(handler)
masks = []


def same(module, query, key, value, attention_mask, **options):
    masks.append(attention_mask)
    return sdpa_attention_forward(module, query, key, value, attention_mask, **options)


def heads_first(module, query, key, value, attention_mask, **options):
    output, weights = sdpa_attention_forward(module, query, key, value, attention_mask, **options)
    return output.transpose(1, 2).contiguous(), weights


AttentionInterface.register("same", same)
AttentionInterface.register("heads_first", heads_first)
AttentionMaskInterface.register("heads_first", sdpa_mask)
torch.manual_seed(0)
model = LlamaModel(
    LlamaConfig(hidden_size=64, intermediate_size=64, num_attention_heads=4, num_hidden_layers=1, vocab_size=100)
).eval()
tokens = torch.randint(0, 100, (2, 8))
padding = torch.ones(2, 8, dtype=torch.long)
padding[0, :5] = 0  # the first sequence is left-padded


@torch.no_grad()
def last_hidden(name):
    model.set_attn_implementation(name)
    return model(input_ids=tokens, attention_mask=padding).last_hidden_state[:, -1]


right = last_hidden("sdpa")


def difference(name):
    found = (last_hidden(name) - right).abs().amax(dim=1)
    print(f"{name}: largest difference of the padded sequence {found[0]:.2f}, of the other {found[1]:.2f}")
    return found


lost = difference("same")
assert masks == [None] and lost[0] > 0.1 and lost[1] == 0
assert not [text for text in warnings if "mask" in text], warnings
AttentionMaskInterface.register("same", sdpa_mask)
assert difference("same").max() == 0
assert difference("heads_first").min() > 0.1
PYTHON
