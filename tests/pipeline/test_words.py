"""What needs no model: words, random draws, test sets, and what an earlier run left in the folder."""

import json
from pathlib import Path
from typing import Any

import pytest

import handpick
from handpick.data.pool import Pool
from handpick.data.quarantine import Quarantine
from handpick.errors import DataError, SettingsError
from handpick.overlap import run_overlap

ANSWERED = [f"what does the {animal} eat in winter when snow lies deep" for animal in ("fox", "hare", "owl", "deer")]
ALONE = [f"and what about the {animal} in winter when snow lies deep" for animal in ("wolf", "lynx", "mole", "crow")]


def write(path: Path, records: list[dict[str, Any]]) -> str:
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return str(path)


def record(name: str, question: str, answer: str | None = None) -> dict[str, Any]:
    messages = [{"role": "user", "content": question}]
    return {"id": name, "messages": messages + ([{"role": "assistant", "content": answer}] if answer else [])}


@pytest.fixture
def pool(tmp_path: Path) -> str:
    answered = [record(f"a{i}", question, "berries and roots") for i, question in enumerate(ANSWERED)]
    return write(tmp_path / "pool.jsonl", answered + [record(f"p{i}", question) for i, question in enumerate(ALONE)])


@pytest.mark.parametrize("method", ["random", "bm25", "dsir"])
def test_what_has_no_response_is_not_chosen(method: str, pool: str, tmp_path: Path) -> None:
    query = write(tmp_path / "query.jsonl", [record("q", "what does the bear eat in winter")])
    out = tmp_path / "out"
    chosen = handpick.select(pool=pool, query=query, method=method, budget=4, out=str(out))
    assert sorted(chosen.ids) == ["a0", "a1", "a2", "a3"]
    aside = [json.loads(line) for line in (out / "quarantine.jsonl").read_text().splitlines()]
    assert [each["id"] for each in aside] == ["p0", "p1", "p2", "p3"]
    with pytest.raises(SettingsError, match="the budget is 5 examples and 4 of the pool's 8 can be used"):
        handpick.select(pool=pool, query=query, method=method, budget=5, out=str(out))


def test_a_query_that_shares_no_word_takes_no_turn(pool: str, tmp_path: Path) -> None:
    query = write(tmp_path / "query.jsonl", [record("none", "zzz"), record("some", "what does the owl eat")])
    chosen = handpick.select(pool=pool, query=query, method="bm25", budget=4, out=str(tmp_path / "out"))
    assert chosen.picked_for == ["some"] * 4
    assert chosen.ids[0] == "a2"
    nothing = write(tmp_path / "nothing.jsonl", [record("none", "zzz")])
    with pytest.raises(DataError, match="no query shares a word with the pool"):
        handpick.select(pool=pool, query=nothing, method="bm25", budget=4, out=str(tmp_path / "out"))


def test_two_test_sets_may_number_their_items_alike(pool: str, tmp_path: Path) -> None:
    sets = [write(tmp_path / f"t{i}.jsonl", [record("0", ANSWERED[i])]) for i in range(2)]
    found = run_overlap([pool], sets, tmp_path / "overlap", 0.75)
    ids = Pool.open(pool, cache=tmp_path / "parsed", quarantine=Quarantine(tmp_path / "q.jsonl", None)).ids()
    assert [ids[row] for row, _ in found.rows] == ["a0", "a1"]


def test_targets_with_an_id_in_common_are_refused_before_any_work(pool: str, tmp_path: Path) -> None:
    both = {
        name: [write(tmp_path / f"{name}.jsonl", [record("0", f"what does the {name} eat")])] for name in ("a", "b")
    }
    out = tmp_path / "out"
    with pytest.raises(DataError, match="the targets 'a' and 'b' both have a query '0'"):
        handpick.select(pool=pool, target=both, method="bm25", budget=2, out=str(out))
    assert not (out / "selection.json").exists()


def test_what_an_earlier_run_left_is_taken_away(pool: str, tmp_path: Path) -> None:
    query = write(tmp_path / "query.jsonl", [record("q", ANSWERED[0])])
    out = tmp_path / "out"
    settings: dict[str, Any] = {"pool": pool, "query": query, "method": "bm25", "budget": 2, "out": str(out)}
    assert "a0" not in handpick.select(**settings, exclude_overlap=[query]).ids
    (out / "distances.json").write_text("{}")
    assert "a0" in handpick.select(**settings).ids
    assert not (out / "overlap.jsonl").exists()
    assert not (out / "distances.json").exists()


def test_settings_that_mislead_are_refused() -> None:
    def refused(match: str, **settings: Any) -> None:
        with pytest.raises(SettingsError, match=match):
            handpick.select(pool="pool.jsonl", query="query.jsonl", model="model", **settings)

    refused("embed has no objective to look at objective", method="embed", objective="reward", reward="choice")
    refused(r"rds\+ reads with the base model alone", method="rds+", checkpoints=["c"])
    refused("gist takes plain gradients", method="gist", optimizer="adam")
    refused("whitening needs projected gradients", method="whitened-rr", projection="none")
    refused("overlap_threshold is for", method="bm25", overlap_threshold=0.5)
    refused("split is for", method="bm25", split="shared")
