"""Which examples of the pool repeat a test set, and whether known leaks are found.

    python benchmarks/overlap.py

Prints and writes, for each target's test set: the hits in the pool at several thresholds, what is caught of the test
set itself with one word of each item changed, and of GSM8K also the known leaks. Every hit at the default threshold
is written out with the item it repeats. The data is found through HANDPICK_DATA.
"""

import argparse
import gzip
import json
import os
import random
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from handpick.data.examples import Example, Message
from handpick.data.overlap import THRESHOLD, HeldOut, Overlap

DATA = Path(os.environ.get("HANDPICK_DATA", Path(__file__).parents[1] / ".." / "shared" / "data"))
TARGETS = [
    "gsm8k", "boolq", "mbpp", "mmlu", "bbh", "ag_news", "dbpedia", "rotten_tomatoes", "xquad", "humaneval", "ifeval",
]  # fmt: skip
THRESHOLDS = (0.3, 0.5, 0.7, THRESHOLD, 0.9)


def read(path: Path) -> list[dict[str, Any]]:
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def example(record: dict[str, Any]) -> Example:
    messages = tuple(Message(m["role"], m["content"]) for m in record["messages"])
    return Example(record["id"], messages, b"", source=record.get("source"), category=record.get("category"))


def one_word_changed(asked: Example, rng: random.Random) -> Example:
    words = " ".join(m.content for m in asked.messages if m.role != "assistant").split()
    words[rng.randrange(len(words))] = "somethingelse"
    return Example(asked.id, (Message("user", " ".join(words)),), b"")


def compared(examples: Iterable[Example], held_out: HeldOut) -> list[Overlap]:
    return [o for row, e in enumerate(examples) if (o := held_out.compare(row, e)) is not None]


def counts(found: list[Overlap], of_example: bool = False) -> str:
    values = [o.of_example if of_example else o.share for o in found]
    return " | ".join(f"{sum(value >= threshold for value in values):,}" for threshold in THRESHOLDS)


def shown(text: str, length: int = 330) -> str:
    text = " ".join(text.split()).replace("|", "/")
    return text if len(text) <= length else text[:length] + " …"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--targets", nargs="+", default=TARGETS)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/overlap.md"))
    args = parser.parse_args()

    pool = [example(record) for record in read(DATA / "pool" / "pool.jsonl.gz")]
    head = "| what | of | " + " | ".join(f"≥ {t}" for t in THRESHOLDS) + " |\n|---|---|" + "---|" * len(THRESHOLDS)
    in_pool, caught, hits = [head], [head], list[str]()
    for target in args.targets:
        records = read(DATA / "targets" / target / "test.jsonl.gz")
        tests = [example(record) for record in records]
        held_out = HeldOut(tests, [record.get("example", row) for row, record in enumerate(records)])
        start = time.perf_counter()
        found = compared(pool, held_out)
        seconds = time.perf_counter() - start
        in_pool.append(f"| {target}: share of the item | {len(pool):,} | {counts(found)} |")
        in_pool.append(f"| {target}: share of the example | {len(pool):,} | {counts(found, of_example=True)} |")
        rng = random.Random(0)
        changed = compared((one_word_changed(t, rng) for t in tests), held_out)
        caught.append(f"| {target}: one word changed | {len(tests):,} | {counts(changed)} |")
        if target == "gsm8k":
            asked = {t.messages[0].content.strip() for t in tests}
            maths = [example(r) for r in read(DATA / "fixtures" / "contaminated_math.jsonl.gz")]
            for label, leaked in (("leaks", True), ("the rest of the leaks' file", False)):
                part = [e for e in maths if (e.messages[0].content.strip() in asked) is leaked]
                of = compared(part, held_out)
                caught.append(f"| {target}, {label}: share of the item | {len(part):,} | {counts(of)} |")
                caught.append(f"| {target}, {label}: share of the example | {len(part):,} | {counts(of, True)} |")
        if target == "boolq":
            moved = [t.messages[0].content.split("question: ")[1].split("\n")[0] for t in tests]
            of = compared((Example("", (Message("user", f"Q: {q} Yes or no?"),), b"") for q in moved), held_out)
            caught.append(f"| {target}: under another template | {len(moved):,} | {counts(of)} |")
        flagged = sorted((o for o in found if o.share >= THRESHOLD), key=lambda o: (-o.share, o.row))
        hits.append(f"\n## {target}: {len(flagged)} hits, {len(held_out.unjudged)} items unjudged\n")
        for o in flagged:
            e = pool[o.row]
            hits.append(f"- {o.share:.2f} `{e.id}` {e.source}, {e.category}: {shown(e.messages[0].content)}")
            hits.append(f"  - `{tests[o.item].id}`: {shown(tests[o.item].messages[0].content)}")
        print(f"{target}: {len(flagged)} hits in {seconds:.0f} s", flush=True)
    lines = ["# Overlap of the pool with the test sets", "\n## In the pool\n", *in_pool]
    text = "\n".join([*lines, "\n## What is caught\n", *caught, *hits]) + "\n"
    args.out.write_text(text, encoding="utf-8")
    print("\n".join([*in_pool, "", *caught]))


if __name__ == "__main__":
    main()
