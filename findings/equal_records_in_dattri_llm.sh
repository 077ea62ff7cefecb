#!/usr/bin/env bash
# Of a training record that stands twice, dattri-llm's score is the sum of both: twice as similar as it is.
#
# dattri-llm 0.1.0, transformers 5.23.0, torch 2.13.0. Rows of a score are known by a hash of their content, and
# `agnostic_matrix`, `trajectory_agnostic` and `query` add up the rows of one hash, as those of one record at several
# checkpoints. Two equal records have one hash too, so a pool's repeats come first in a ranking of what is similar, and
# the matrix has fewer rows than the data set. `scores` itself has a row a record.
#
# Seen (LESS, one checkpoint, of records [a, b, a] and one query, a's cosine with it 0.0055):
#   scores             [0.0055, -0.0071, 0.0055]
#   agnostic_matrix    [0.011, -0.0071]
#
# handpick has a row a record of the pool, and says which repeat another (docs/look.md).
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

a, b = record(1, 8, 8), record(3, 4, 20)
found = attribute([a, b, a], summed)
facts = [
    ("scores", [round(score, 4) for score in found.scores[:, 0].tolist()], [0.0055, -0.0071, 0.0055]),
    ("agnostic_matrix", [round(score, 4) for score in found.agnostic_matrix()[1][:, 0].tolist()], [0.011, -0.0071]),
]

for what, now, _ in facts:
    print(f"{what}: {now!r}")
changed = [f"{what}\n  found {found!r}\n  now   {now!r}" for what, now, found in facts if now != found]
if changed:
    sys.exit("CHANGED: " + "\n".join(changed))
print("as found")
EOF
