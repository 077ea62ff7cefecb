"""The price of fewer tokens and fewer layers: what is chosen beside what plain gradients choose, and the time a row.

    python benchmarks/approximations.py [--records 1000] [--timed 128] [--rounds 3] [--write]

The demo's model, some of its pool, all three targets; one warmup, at whose checkpoint every row is made. Plain is
less-rr as it is. Beside it: a plain run with another seed of the projection, which is what the projection alone does to
the choice; ``--response-tokens``, also with the queries' answers cut to as many (which handpick does not do: this
comparison is the reason); ``--layers``; and both.

Overlap: the share of plain's first 5% by round-robin that is chosen too, mean over the targets. Time: rows of the same
sequences, batch by batch, in turns.
"""

import argparse
import gzip
import json
import tempfile
import time
from pathlib import Path
from statistics import mean, median
from typing import Any

import numpy as np

import handpick
from handpick import bundled
from handpick.data.examples import Example, Message
from handpick.objectives.next_token import NextToken
from handpick.scorers.gradient_encoder import GradientEncoder
from handpick.scorers.inputs import open_renderer
from handpick.settings import Settings

RESULT = Path(__file__).parent / "results" / "approximations.md"
TARGETS = ("gsm8k", "boolq", "mbpp")
Given = dict[str, Any]

# what is changed, and whether the queries' answers are cut as well
VARIANTS: dict[str, tuple[Given, bool]] = {
    "plain": ({}, False),
    "plain, another projection": ({"seed": 1}, False),
    "--response-tokens 64": ({"response_tokens": 64}, False),
    "--response-tokens 32": ({"response_tokens": 32}, False),
    "--response-tokens 32, queries too": ({"response_tokens": 32}, True),
    "--response-tokens 16": ({"response_tokens": 16}, False),
    "--response-tokens 16, queries too": ({"response_tokens": 16}, True),
    "--layers late": ({"layers": "late"}, False),
    "--layers 0": ({"layers": "0"}, False),
    "--layers late --response-tokens 32": ({"layers": "late", "response_tokens": 32}, False),
}


def sample(records: int, folder: Path) -> Path:
    """Some of the demo's records, drawn at random."""
    texts = [gzip.decompress(path.read_bytes()).decode() for path in bundled.pool_paths()]
    lines = [line for text in texts for line in text.splitlines(keepends=True)]
    rows = np.random.default_rng(0).permutation(len(lines))[:records]
    path = folder / "pool.jsonl"
    path.write_text("".join(lines[row] for row in sorted(rows.tolist())), encoding="utf-8")
    return path


def chosen(given: Given, variant: str, target: str, folder: Path) -> list[str]:
    """The ids that a variant chooses for a target; the pool's rows are made once a variant."""
    changed, cuts_queries = VARIANTS[variant]
    own: Given = {}
    if cuts_queries:
        n = changed["response_tokens"]
        own["objective"] = lambda renderer, max_length: NextToken(renderer, max_length, n)
    out = folder / f"{list(VARIANTS).index(variant)}-{target}"
    store = folder / f"{list(VARIANTS).index(variant)}-{TARGETS[0]}" / "features" / "pool"
    if cuts_queries:  # the same rows of the pool
        plain = variant.removesuffix(", queries too")
        store = folder / f"{list(VARIANTS).index(plain)}-{TARGETS[0]}" / "features" / "pool"
    if store.exists():
        own["store"] = str(store)
    settings = given | changed | own | {"query": str(bundled.target_path(target)), "out": str(out)}
    if "store" in own:
        settings.pop("pool")
    return handpick.select(**settings).ids


def speeds(given: Given, timed: int, rounds: int) -> dict[str, float]:
    """Time of each variant's rows beside plain's, the median of rounds in turns."""
    made: dict[str, tuple[GradientEncoder, NextToken, list[Any]]] = {}
    for variant, (changed, cuts_queries) in VARIANTS.items():
        if cuts_queries:
            continue
        settings = Settings(**given | changed)
        renderer = open_renderer(settings)
        objective = NextToken(renderer, settings.max_length, settings.response_tokens)
        encoder = GradientEncoder(settings, [Path(p) for p in settings.checkpoints], renderer.tokenizer, "adam")
        records = [json.loads(line) for line in Path(settings.pool[0]).read_text(encoding="utf-8").splitlines()[:timed]]
        items = objective.prepare([_example(record) for record in records]).items
        made[variant] = encoder, objective, items
    took: dict[str, list[float]] = {variant: [] for variant in made}
    for at in range(rounds + 1):
        for variant, (encoder, objective, items) in made.items():
            began = time.process_time()
            encoder.encode(0, "adam", objective, items)
            if at:
                took[variant].append(time.process_time() - began)
    return {variant: median(a / b for a, b in zip(each, took["plain"], strict=True)) for variant, each in took.items()}


def _example(record: Given) -> Example:
    return Example("", tuple(Message(m["role"], m["content"]) for m in record["messages"]), b"")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--records", type=int, default=1000)
    parser.add_argument("--timed", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--write", action="store_true", help="write the table to results/approximations.md")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        given: Given = {
            "pool": str(sample(asked.records, folder)), "model": str(bundled.model_path()), "method": "less-rr",
            "budget": "5%", "max_length": 256, "dtype": "float32",
        }  # fmt: skip
        warmed = folder / "warmed"
        handpick.select(**given, query=str(bundled.target_path(TARGETS[0])), out=str(warmed))
        given["checkpoints"] = sorted(str(path) for path in (warmed / "warmup").glob("checkpoint-*"))
        picks = {v: {t: chosen(given, v, t, folder) for t in TARGETS} for v in VARIANTS}
        times = speeds(given, asked.timed, asked.rounds)
    lines = [
        f"{asked.records:,} records of the demo's pool, its model, 5% for each of {', '.join(TARGETS)}; float32 on "
        f"a CPU; processor time of {asked.timed} rows through Adam, {asked.rounds} rounds in turns.",
        "",
        "| rows | share of plain's choice, mean (by target) | time ÷ plain's |",
        "|---|---|---|",
    ]
    for variant in VARIANTS:
        shares = [len(set(picks[variant][t]) & set(picks["plain"][t])) / len(picks["plain"][t]) for t in TARGETS]
        by_target = ", ".join(f"{share:.0%}" for share in shares)
        time_of = f"{times[variant]:.2f}" if variant in times else ""
        lines.append(f"| {variant} | {mean(shares):.0%} ({by_target}) | {time_of} |")
    text = "\n".join(lines) + "\n"
    print(text)
    if asked.write:
        RESULT.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
