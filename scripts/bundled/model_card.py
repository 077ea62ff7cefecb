"""Write the card of the shipped model from what its training left: report.json and training_log.csv.

python scripts/bundled/model_card.py src/handpick/bundled/model
"""

import csv
import json
import math
import sys
from pathlib import Path

CARD = """---
license: apache-2.0
language: en
---

# The language model that handpick ships

A Llama of 7.2 million parameters (6 layers × 256, 4 heads, vocabulary 8,192, tied embeddings, float16), so that the
demo, the tests and the studies need no model hub. It is a real language model and a very small one: it is good for
choosing data and for measuring, and for nothing else.

- **Made by** `scripts/bundled/train_model.py` with its defaults, from nothing, in {minutes:.0f} minutes on one core:
  {steps:,} steps of about 4,096 tokens, {epochs:.0f} epochs, AdamW in bfloat16 autocast.
- **Data**: {conversations:,} conversations, {tokens:.2f} M tokens: of the pool's records whose licence is Apache-2.0,
  MIT or CC BY (`LICENSES.md` in the folder above), two thirds by a hash of the prompt. The last third it has never
  seen: a test compares their normalised texts.
- **What it lacks on purpose**: grade-school mathematics (gsm8k, aqua), BoolQ, AG News and code were left out whole, so
  that a selection has something to teach it.
- **Tokenizer**: byte-level BPE trained on the same records; digits stand alone. Chat template: the Tulu form.

## How good it is

| | nats a token |
|---|---|
| unigram, add-one smoothed, on the same held-out records | {unigram:.3f} |
| this model | {held_out:.3f} (perplexity {perplexity:.1f}) |
| the float16 file as shipped | {float16:.3f} |

The held-out records are 1,500 of the same families from the unseen third; all their tokens count.

Greedy answers to easy prompts of the kinds it was trained on:

{answers}

## Training log

Losses are means over the steps since the row before, over all tokens of a conversation.
The whole log is in `training_log.csv`.

| step | epoch | training loss | held-out loss | minutes |
|---|---|---|---|---|
{log}
"""


def main() -> None:
    folder = Path(sys.argv[1])
    report = json.loads((folder / "report.json").read_text())
    answers = "\n\n".join(
        "> " + a["prompt"].replace("\n", "\n> ") + "\n\n" + f"→ {a['answer'].strip()}" for a in report["answers"]
    )
    with (folder / "training_log.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["held_out_loss"] != "nan"]
    log = "\n".join(f"| {' | '.join(row.values())} |" for row in rows)
    card = CARD.format(
        minutes=report["minutes"], steps=report["steps"], epochs=report["epochs"],
        conversations=report["train_conversations"], tokens=report["train_tokens"] / 1e6,
        unigram=report["unigram_loss_per_token"], held_out=report["held_out_loss_per_token"],
        perplexity=math.exp(report["held_out_loss_per_token"]),
        float16=report["held_out_loss_per_token_of_the_float16_file"], answers=answers, log=log,
    )  # fmt: skip
    (folder / "README.md").write_text(card)


if __name__ == "__main__":
    main()
