"""Make the demo pool and the dev sets that handpick ships.

    python scripts/bundled/make_pool.py --data DATA --out src/handpick/bundled

DATA holds pool/pool.jsonl.gz and targets/<name>/dev.jsonl.gz. The pool is a seeded random sample of the
records that the shipped model has not seen (handpick/bundled/split.py says which) and whose licence allows
it, without duplicates, fixed before anything is selected from it. Each record is written as its line stood in
the source. The same input gives the same bytes.
"""

import argparse
import gzip
import io
import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from handpick.bundled.split import is_share_alike, is_unseen, licence, may_train, normalise_messages
from handpick.data.examples import Message

TARGETS = ("gsm8k", "boolq", "mbpp")
SIZE = 2500
SEED = 0


def candidates(pool: Path) -> dict[str, tuple[dict[str, Any], bytes]]:
    """By id, the records that may ship and that the model cannot have seen, each with its line."""
    trained, by_text = set(), {}
    with gzip.open(pool, "rb") as lines:
        for line in lines:
            record = json.loads(line)
            messages = [Message(m["role"], m["content"]) for m in record["messages"]]
            text = normalise_messages(messages)
            if not is_unseen(messages):
                if may_train(record):
                    trained.add(text)
            elif licence(record) is not None:
                by_text.setdefault(text, (record, line.rstrip(b"\n")))
    return {record["id"]: (record, line) for text, (record, line) in by_text.items() if text not in trained}


def write(path: Path, lines: list[bytes]) -> None:
    """Write gzip JSON Lines whose bytes depend on the lines alone."""
    path.parent.mkdir(parents=True, exist_ok=True)
    buffer = io.BytesIO()
    with gzip.GzipFile(filename="", mode="wb", compresslevel=9, fileobj=buffer, mtime=0) as out:
        out.writelines(line + b"\n" for line in lines)
    path.write_bytes(buffer.getvalue())
    print(f"{path}: {len(lines)} records, {path.stat().st_size / 1e3:.0f} kB")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()

    allowed = candidates(args.data / "pool" / "pool.jsonl.gz")
    ids = sorted(allowed)
    chosen = sorted(np.random.default_rng(SEED).choice(len(ids), SIZE, replace=False))
    files: dict[str, list[bytes]] = {"permissive": [], "share_alike": []}
    composition: Counter[tuple[str, str, str]] = Counter()
    for i in chosen:
        record, line = allowed[ids[i]]
        its_terms = str(licence(record))
        files["share_alike" if is_share_alike(record) else "permissive"].append(line)
        category = "all templates" if record["source"] == "t0" else record["category"]
        composition[record["source"], category, its_terms if record["source"] != "t0" else "MIT or CC BY 4.0"] += 1
    for name, lines in files.items():
        write(args.out / "pool" / f"{name}.jsonl.gz", lines)
    for name in TARGETS:
        with gzip.open(args.data / "targets" / name / "dev.jsonl.gz", "rb") as dev:
            write(args.out / "targets" / f"{name}.jsonl.gz", dev.read().splitlines())

    print(f"\n{len(chosen)} of {len(allowed)} candidates")
    for (source, category, its_terms), count in sorted(composition.items()):
        print(f"{count:5d}  {source:13s} {category:24s} {its_terms}")


if __name__ == "__main__":
    main()
