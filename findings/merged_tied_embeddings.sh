#!/usr/bin/env bash
# An adapter on the head or the embedding of a model that ties them, merged by peft, is another model than the adapted.
#
# peft 0.21.2, transformers 5.23.0, torch 2.13.0. `merge_and_unload` adds an adapter's update to the weight that the
# head and the embedding share, so it reaches both ends; before merging each end had its own update alone. Logits
# differ by more than they are large (random adapters); a warning is all that peft gives, when the adapter is made.
#
# Seen (of a Llama with tie_word_embeddings, adapters of random A and B):
#   lm_head                  the embedding moved by the head's update
#   embed_tokens             the head moved by the embedding's update
#   embed_tokens, lm_head    both moved by the sum of both updates
#   q_proj                   the same model, to rounding
#
# handpick merges nothing: what it evaluates and trains on carries its adapter (docs/checkpoints.md).
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
export HF_HOME="$work/hf" HF_HUB_OFFLINE=1 TRANSFORMERS_VERBOSITY=error PIP_DISABLE_PIP_VERSION_CHECK=1
"${PYTHON:-python3}" -m venv venv
venv/bin/pip install -qq torch==2.13.0 transformers==5.23.0 peft==0.21.2
venv/bin/pip freeze --all | grep -iE '^(torch|peft|transformers)=='
venv/bin/python -W ignore - <<'EOP'
import sys

import torch
from peft import LoraConfig, get_peft_model
from transformers import LlamaConfig, LlamaForCausalLM


def merged(targets):
    """How far the logits go, and what part of all updates each end of the model moved by."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=32,
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        tie_word_embeddings=True,
    )
    model = LlamaForCausalLM(config)
    before = model.lm_head.weight.detach().clone()
    adapted = get_peft_model(model, LoraConfig(r=2, target_modules=targets)).eval()
    for name, weight in adapted.named_parameters():
        if "lora_" in name:
            torch.nn.init.normal_(weight)
    layers = [layer for layer in adapted.modules() if hasattr(layer, "get_delta_weight")]
    update = sum(layer.get_delta_weight("default").detach() for layer in layers)
    ids = torch.arange(8)[None]
    want = adapted(input_ids=ids).logits
    whole = adapted.merge_and_unload()
    off = float((whole(input_ids=ids).logits - want).abs().max() / want.abs().max())
    ends = (whole.lm_head.weight, whole.model.embed_tokens.weight)
    moved = [round(float((end.detach() - before).norm() / update.norm()), 3) if end.shape == update.shape else 0 for end in ends]
    return off, moved


facts = []
for targets in (["lm_head"], ["embed_tokens"], ["embed_tokens", "lm_head"]):
    off, moved = merged(targets)
    print(f"{', '.join(targets)}: logits off by {off:.2g} of the largest; head and embedding moved by {moved} of all updates")
    facts.append((f"{targets} differ", (off > 1, moved), (True, [1.0, 1.0])))
off, _ = merged(["q_proj"])
print(f"q_proj: logits off by {off:.1g}")
facts.append(("q_proj differs", off > 1e-4, False))
changed = [f"{what}\n  found {found!r}\n  now   {now!r}" for what, now, found in facts if now != found]
if changed:
    sys.exit("CHANGED: " + "\n".join(changed))
print("as found")
EOP
