"""What DSIR's smoothing chooses: sums for GSM8K's 64 questions, from the small pool.

    HANDPICK_DATA=… python benchmarks/dsir_smoothing.py

A sum is an example of flan_cot's gsm8k or aqua. Writes benchmarks/results/dsir_smoothing.md.
"""

import tempfile
from pathlib import Path
from statistics import median

from beats_random import DATA
from finetune import read

import handpick

BUDGET = 100
SMOOTHINGS = (1e-8, 1e-6, 1e-4, 1e-2)


def main() -> None:
    pool_file, query = DATA / "pool" / "pool_small.jsonl.gz", DATA / "targets" / "gsm8k" / "dev.jsonl.gz"
    with tempfile.TemporaryDirectory() as scratch:
        pool = read([pool_file], Path(scratch))
        categories = dict(zip(pool.ids(), pool.column("category"), strict=True))
        words = {example.id: sum(len(m.content.split()) for m in example.messages)
                 for example in pool.examples(0, len(pool))}  # fmt: skip
        sums = {example_id for example_id, category in categories.items() if category in ("gsm8k", "aqua")}
        lines = [
            f"{len(pool):,} records, {len(sums)} of them sums; {median(words.values()):.0f} words a record (median).",
            "",
            f"| smoothing | sums among the first {BUDGET} | words of a choice, median |", "|---|---|---|",
        ]  # fmt: skip
        for smoothing in SMOOTHINGS:
            chosen = handpick.select(
                str(pool_file), str(query), method="dsir", algorithm="mean-max", dsir_smoothing=smoothing,
                budget=BUDGET, out=scratch,
            ).ids  # fmt: skip
            found, length = sum(each in sums for each in chosen), median(words[each] for each in chosen)
            lines.append(f"| {smoothing:g} | {found} | {length:.0f} |")
    table = "\n".join(lines)
    Path("benchmarks/results/dsir_smoothing.md").write_text(table + "\n")
    print(table)


if __name__ == "__main__":
    main()
