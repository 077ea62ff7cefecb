"""A record that makes a row which is not finite is set aside, and the run is that of the pool without it.

The model has a token whose embedding is not finite, as one has that was never trained or was damaged; some records hold
the token.
"""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer

import handpick
from handpick.choices import Optimizer
from handpick.errors import DataError
from handpick.scorers.gradient_encoder import GradientEncoder
from tests.conftest import write_jsonl

Given = dict[str, Any]

MARK, BAD = "ÿ", (1, 17, 18, 39)
QUICK: dict[str, Given] = {
    "gradient-rr": {"method": "gradient-rr"},
    "whitened": {"method": "gradient-rr", "representation": "whitened"},
    "score-only": {"method": "gradient-rr", "score_only": True},
    "gist": {"method": "gist"},
    "tacs": {"method": "tacs", "tacs_rate": 1e-3, "tacs_depth": 2, "max_length": 512},
    "rds+": {"method": "rds+"},
    "perplexity": {"representation": "perplexity", "algorithm": "doubly-greedy"},
    "ifd": {"representation": "ifd", "algorithm": "doubly-greedy"},
}


@pytest.fixture(scope="module")
def poisoned(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The model, in which one token is read as what is no number."""
    folder = shutil.copytree(tiny_model, tmp_path_factory.mktemp("poisoned") / "model")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"tie_word_embeddings": False}))
    weights = load_file(folder / "model.safetensors")
    weights["lm_head.weight"] = weights["model.embed_tokens.weight"].clone()
    token = AutoTokenizer.from_pretrained(folder)(MARK, add_special_tokens=False)["input_ids"][-1]
    weights["model.embed_tokens.weight"][token] = float("inf")
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return str(folder)


@pytest.fixture
def pools(pool_records: list[dict[str, Any]], tmp_path: Path) -> tuple[Path, Path]:
    """Forty records of which four hold the token, and the others alone."""
    records = json.loads(json.dumps(pool_records[:40]))
    for row in BAD:
        records[row]["messages"][0]["content"] += f" {MARK}"
    others = [record for row, record in enumerate(records) if row not in BAD]
    return write_jsonl(tmp_path / "pool.jsonl", records), write_jsonl(tmp_path / "others.jsonl", others)


@pytest.fixture
def values(untrained: Given, poisoned: str) -> Given:
    return untrained | {"model": poisoned, "dtype": "float32", "max_length": 256}


def of(name: str, values: Given) -> Given:
    asked: Given = {key: value for key, value in values.items() if key != "method"} | QUICK[name]
    if name in ("tacs", "rds+", "perplexity", "ifd"):
        del asked["warmup"]
    if name in ("perplexity", "ifd"):
        del asked["query"]
    return asked


@pytest.mark.parametrize("name", QUICK)
def test_a_run_is_that_of_the_pool_without_these_records(
    name: str, values: Given, pools: tuple[Path, Path], pool_records: list[dict[str, Any]], tmp_path: Path,
    set_aside: Callable[[], dict[int, str]], capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    asked = of(name, values) | {"budget": "100%"}
    found = handpick.select(**asked | {"pool": pools[0]}, out=str(tmp_path / "out"))
    said = capsys.readouterr().err
    without = handpick.select(**asked | {"pool": pools[1]}, out=str(tmp_path / "without"))
    assert len(found) == 36
    assert sorted(found.ids) == sorted(without.ids)
    order = dict(zip(without.ids, without.scores, strict=True))
    # batches are others, and with them the last bits: two of one score may change places
    np.testing.assert_allclose(found.scores, [order[each] for each in found.ids], rtol=1e-4, atol=1e-5)
    kind = "gradient" if name in ("whitened", "score-only", "gist", "gradient-rr") else name
    assert set_aside() == {row + 1: f"{kind} row not finite: in float32" for row in BAD}
    assert f"4 records set aside (4 {kind} row not finite)" in said


def test_two_checkpoints_leave_out_what_either_has_not(
    given: Given, pool_records: list[dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    set_aside: Callable[[], dict[int, str]], out: str,
) -> None:  # fmt: skip
    """The rows of the second shard's first record at one checkpoint, and of the second's at the other: Adam's too."""
    own = GradientEncoder.encode

    def encode(encoder: GradientEncoder, checkpoint: int, optimizer: Optimizer, *args: Any) -> Any:
        rows_BK = own(encoder, checkpoint, optimizer, *args)
        if optimizer == "adam":
            rows_BK[checkpoint, 3] = np.inf
        return rows_BK

    monkeypatch.setattr(GradientEncoder, "encode", encode)
    selection = handpick.select(**given | {"budget": "100%"}, out=out)
    assert len(selection) == 34
    assert np.isfinite(selection.scores).all()
    names = [path.name for path in sorted(Path(out, "warmup").glob("checkpoint-*"), key=lambda p: int(p.name[11:]))]
    at = {1: names[0], 2: names[1], 17: names[0], 18: names[1], 33: names[0], 34: names[1]}
    reasons = set_aside()
    assert {line: reason.rpartition(" ")[2] for line, reason in reasons.items()} == at
    aside = {pool_records[line - 1]["id"] for line in at}
    assert not aside & set(selection.ids)


def test_a_query_is_refused_by_name(
    values: Given, pools: tuple[Path, Path], query_records: list[dict[str, Any]], tmp_path: Path
) -> None:
    """Before the pool is read."""
    queries = json.loads(json.dumps(query_records[:4]))
    queries[2]["messages"][0]["content"] += MARK
    path = write_jsonl(tmp_path / "queries.jsonl", queries)
    for name in ("gradient-rr", "gist", "tacs", "rds+"):
        asked = of(name, values) | {"pool": pools[0], "query": path}
        kind = {"rds+": "rds[+]", "tacs": "tacs"}.get(name, "gradient")
        with pytest.raises(
            DataError, match=f"the query '{queries[2]['id']}' has a {kind} row that is not finite in fl"
        ):
            handpick.select(**asked, out=str(tmp_path / name))
        assert not list(Path(tmp_path, name, "features").glob("pool*"))


def test_a_warmup_leaves_out_the_steps_of_such_records(
    values: Given, given: Given, pools: tuple[Path, Path], out: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Adam's moments stay finite too, or no row of the pool would be."""
    warmup = given["warmup"] | {"at_least": 40, "batch": 4}
    asked = values | {"method": "less-rr", "warmup": warmup, "pool": pools[0], "budget": "100%"}
    selection = handpick.select(**asked, out=out)
    said = capsys.readouterr().err
    assert "of 20 steps had a gradient that is not finite, and were left out" in said
    assert len(selection) == 36
    for path in Path(out, "warmup").glob("checkpoint-*/*.safetensors"):
        assert all(bool(tensor.isfinite().all()) for tensor in load_file(path).values())
