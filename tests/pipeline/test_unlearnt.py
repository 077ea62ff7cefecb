"""Chosen examples of which the limit of tokens leaves no answer."""

import json
from pathlib import Path
from typing import Any

import pytest

import handpick
from handpick.layout import RunLayout
from tests.conftest import write_jsonl


@pytest.fixture
def pool(tmp_path: Path) -> str:
    """Ten records, of which two have a prompt of over 64 tokens."""
    asked = ["Count with me. " * 40 if n in (3, 5) else "" for n in range(10)]
    records: list[dict[str, Any]] = [
        {"id": f"e{n}", "prompt": f"{before}What is {n} and {n}?", "response": f"It is {2 * n}."}
        for n, before in enumerate(asked)
    ]
    return str(write_jsonl(tmp_path / "pool.jsonl", records))


def remarks(folder: Path) -> list[dict[str, Any]]:
    path = RunLayout(folder).remarks
    return json.loads(path.read_bytes())["remarks"] if path.exists() else []


def test_what_training_would_set_aside_is_counted(
    pool: str, query_file: Path, tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = {"pool": pool, "query": str(query_file), "model": str(tiny_model), "budget": 10, "max_length": 64}
    chosen = handpick.select(**given, method="rds+", out=str(tmp_path / "run"))
    assert len(chosen) == 10
    (remark,) = remarks(tmp_path / "run")
    assert set(remark["detail"]["ids"]) == {"e3", "e5"}
    assert remark["warns"]
    assert remark["said"].startswith("2 of 10 chosen examples leave no response within --max-length 64 (the first: 'e")
    handpick.train(tmp_path / "run", out=tmp_path / "model", max_length=64, epochs=1)
    assert "2 records set aside" in capsys.readouterr().err  # the same


@pytest.mark.parametrize(
    "own",
    [
        {"method": "rds+", "max_length": 512, "budget": 10},
        {"method": "perplexity", "max_length": 64, "budget": 8},  # sets them aside itself
        {"method": "bm25", "max_length": 64, "budget": 10},  # looks at no limit, and says so
    ],
)
def test_nothing_is_said_where_nothing_is_lost(
    own: dict[str, Any], query_file: Path, tiny_model: Path, tmp_path: Path, pool: str
) -> None:
    given = {"pool": pool, "model": str(tiny_model)} | (
        {} if own["method"] == "perplexity" else {"query": str(query_file)}
    )
    handpick.select(**given | own, out=str(tmp_path / "run"))
    assert remarks(tmp_path / "run") == []


def test_a_budget_of_tokens_reads_the_limit_too(pool: str, query_file: Path, tiny_model: Path, tmp_path: Path) -> None:
    given = {"pool": pool, "query": str(query_file), "model": str(tiny_model), "budget": "9k tokens", "max_length": 64}
    handpick.select(**given, method="bm25", out=str(tmp_path / "run"))
    (remark,) = remarks(tmp_path / "run")
    assert len(remark["detail"]["ids"]) == 2
