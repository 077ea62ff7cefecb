"""A folder as ``handpick iterselect`` leaves it, written by hand: no judge is asked and nothing is trained."""

import hashlib
import json
from pathlib import Path
from typing import Any

import yaml

from handpick.sealed import write_sealed
from handpick.selection import Selection
from tests.conftest import write_jsonl
from tests.reporting.conftest import record

SETTINGS: dict[str, Any] = {
    "model": "base", "judge": "judge-of-all", "budget": "12", "out": "runs/iter", "seed": 0, "rounds": 3, "batch": 8,
    "alpha": 0.6, "clusters": 100, "patience": 1, "verdict": "pairwise", "hard_below": 0.5, "judging": {},
    "allow_code_execution": False, "max_new_tokens": 512, "dtype": "auto", "encoder": "all-minilm-l6-v2",
    "classifier": {
        "model": "google-bert/bert-base-uncased", "epochs": 3, "learning_rate": 2e-05, "batch": 16, "max_length": 512,
        "held_out": 0.2,
    },
}  # fmt: skip
EMPTY = [None, None, 0]
ROUNDS: list[dict[str, Any]] = [
    {
        "round": 1, "judged": 8, "hard": 3, "easy": 4, "ties": 1, "flipped": 1, "missing": 1, "train": 6, "held_out": 1,
        "accuracy": 1.0, "precision": None, "recall": None, "auc": None, "ece": 0.25,
        "reliability": [EMPTY] * 2 + [[0.25, 0.0, 1]] + [EMPTY] * 7,
    },
    {
        "round": 2, "judged": 8, "hard": 5, "easy": 3, "ties": 0, "flipped": 1, "missing": 0, "train": 12,
        "held_out": 3, "accuracy": 2 / 3, "precision": 0.5, "recall": 1.0, "auc": 0.75, "ece": 0.125,
        "reliability": [EMPTY, [0.125, 0.0, 2]] + [EMPTY] * 6 + [[0.875, 1.0, 1], EMPTY],
    },
]  # fmt: skip
SECONDS: list[dict[str, float]] = [
    {"answers": 30.5, "judge": 61.0},
    {"answers": 28.0, "judge": 55.0, "classifier": 120.0},
]
JUDGING: dict[str, Any] = {
    "judge": "judge-of-all", "calls": 32, "tokens_in": 12_345, "tokens_out": 678, "cost": 0.0421,
    "whole_pool_calls": 80,
}  # fmt: skip


def pool_of(n: int) -> list[dict[str, Any]]:
    """Records of two sources, named r0 and so on."""
    sources = ("flan", "oasst")
    return [record(k, f"what is {k} times {k}", f"It is {k * k}.", source=sources[k % 2]) for k in range(n)]


def explained_of(n: int) -> list[dict[str, Any]]:
    """Eight judged hard in two rounds, the others inferred; there was no classifier yet for the first three."""
    lines = []
    for k in range(n):
        how, number = ("judged", 1 if k < 3 else 2) if k < 8 else ("inferred", None)
        hardness, similarity, score, nearest = None, None, 0.3, None
        if k >= 3:
            hardness, similarity, nearest = round(0.9 - k / 50, 3), round(0.5 + k / 100, 3), f"r{k % 3}"
            score = round(0.6 * hardness + 0.4 * similarity, 4)
        lines.append(
            {
                "id": f"r{k}", "how": how, "round": number, "hardness": hardness, "similarity": similarity,
                "score": score, "nearest": nearest,
            }
        )  # fmt: skip
    return lines


def iterated_folder(
    out: Path,
    pool: list[dict[str, Any]],
    explained: list[dict[str, Any]],
    *,
    settings: dict[str, Any] | None = None,
    rounds: list[dict[str, Any]] | None = None,
    judging: dict[str, Any] | None = None,
) -> Path:
    """Write it, and the pool beside it; ``settings`` and ``judging`` are what differs from those above."""
    path = write_jsonl(out.parent / "pool.jsonl", pool)
    lines = path.read_bytes().splitlines()
    row_of = {each["id"]: row for row, each in enumerate(pool)}
    asked = SETTINGS | {"pool": [str(path)]} | (settings or {})
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    Selection(
        ids=[each["id"] for each in explained],
        scores=[each["score"] for each in explained],
        picked_for=[each["nearest"] for each in explained],
        settings={"method": "iterselect", **asked},
        fingerprints={"pool": {"files": [{"sha256": digest, "rows": len(pool)}]}},
        record=lambda choice: lines[row_of[explained[choice]["id"]]],
        origins=[(str(path), row_of[each["id"]] + 1) for each in explained],
    ).save(out)
    (out / "iterselect.yaml").write_text(yaml.safe_dump(asked))
    (out / "rounds.json").write_text(json.dumps(ROUNDS if rounds is None else rounds))
    for number, seconds in enumerate(SECONDS, 1):
        (out / "rounds" / str(number)).mkdir(parents=True)
        write_sealed(out / "rounds" / str(number) / "cost.json", {"seconds": seconds})
    (out / "judging.json").write_text(json.dumps(JUDGING | (judging or {})))
    write_jsonl(out / "explained.jsonl", explained)
    cost = {"seconds": {"rounds": 294.5, "total": 300.0}, "device": "cpu", "threads": 2}
    (out / "cost.json").write_text(json.dumps(cost))
    write_jsonl(out / "quarantine.jsonl", [{"file": "pool.jsonl", "line": 1, "id": None, "reason": "no response"}])
    return out
