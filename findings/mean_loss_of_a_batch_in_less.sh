#!/usr/bin/env bash
# With the loss of its documentation, dattri-llm's LESS scores an example by who else is in its batch, which has 8.
#
# dattri-llm 0.1.0, transformers 5.23.0, torch 2.13.0. `model(**batch).loss` is the mean over all labelled tokens of a
# batch, so the gradient caught of one example is its own times its share of them. Adam's update is not proportional to
# the gradient, so the cosine that LESS scores by is another one, of another sign even. Alone in its batch (a size of 1),
# or under a loss that adds up every example's own mean, an example has one score whoever stands beside it.
#
# Seen (the score of one record of 8 labelled tokens, beside none, one of 1, one of 20, and seven of 20):
#   model(**batch).loss            [0.0055, 0.0052, 0.002, -0.0007]
#   the sum of examples' means     [0.0055, 0.0055, 0.0055, 0.0055]
#
# handpick's row is one example's, whatever batch it is made in (docs/gradients.md, "The same cosines").
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
export HF_HOME="$work/hf" HF_HUB_OFFLINE=1 TRANSFORMERS_VERBOSITY=error PIP_DISABLE_PIP_VERSION_CHECK=1
"${PYTHON:-python3}" -m venv venv
venv/bin/pip install -qq torch==2.13.0 transformers==5.23.0 dattri-llm==0.1.0
venv/bin/pip freeze --all | grep -iE '^(torch|transformers|dattri-llm)=='
venv/bin/python -W ignore - <<'EOF'
import sys
import tempfile

import torch
from dattri_llm import REGISTER_ALL, AttributionArguments, AttributionTask, HookManagerConfig, LESSAttributor
from transformers import LlamaConfig, LlamaForCausalLM

torch.manual_seed(0)
shape = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "vocab_size": 64}
model = LlamaForCausalLM(LlamaConfig(**shape)).eval()
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.0)


def record(seed, prompt, answer):
    """Tokens at random, of which the last ``answer`` have labels, filled up to 24."""
    ids = torch.randint(1, 64, (prompt + answer,), generator=torch.Generator().manual_seed(seed))
    labels = torch.where(torch.arange(len(ids)) < prompt, -100, ids)
    fill = torch.nn.functional.pad
    return {"input_ids": fill(ids, (0, 24 - len(ids))), "labels": fill(labels, (0, 24 - len(ids)), value=-100)}


def documented(model, batch):
    return model(**batch).loss


def summed(model, batch):
    logits, labels = model(input_ids=batch["input_ids"]).logits[:, :-1], batch["labels"][:, 1:]
    nats = torch.nn.functional.cross_entropy(logits.transpose(1, 2), labels, reduction="none")
    return (nats.sum(1) / (labels != -100).sum(1)).sum()


def attribute(records, loss=documented):
    """LESS in its frozen form, 8 examples a step, which is the default; one query."""
    with tempfile.TemporaryDirectory() as folder:
        task = AttributionTask(loss, model)
        attributor = LESSAttributor(AttributionArguments(folder), task=task, optimizers=[optimizer])
        return attributor.attribute(records, [record(99, 4, 8)], hook_config=HookManagerConfig(linear_io=REGISTER_ALL))


for seed in range(4):  # so that Adam has a state
    documented(model, {name: value[None] for name, value in record(50 + seed, 4, 12).items()}).backward()
    optimizer.step()
    optimizer.zero_grad()

own, short, long = record(1, 8, 8), record(2, 20, 1), record(3, 4, 20)


def scores(loss):
    found = [attribute([own, *beside], loss).scores[0, 0] for beside in ([], [short], [long], [long] * 7)]
    return [round(float(score), 4) for score in found]


facts = [
    ("model(**batch).loss", scores(documented), [0.0055, 0.0052, 0.002, -0.0007]),
    ("the sum of examples' means", scores(summed), [0.0055, 0.0055, 0.0055, 0.0055]),
]

for what, now, _ in facts:
    print(f"{what}: {now!r}")
changed = [f"{what}\n  found {found!r}\n  now   {now!r}" for what, now, found in facts if now != found]
if changed:
    sys.exit("CHANGED: " + "\n".join(changed))
print("as found")
EOF
