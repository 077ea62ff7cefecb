"""Records of other shapes through whole runs: what is chosen, what is set aside, and what is said of it."""

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import handpick
from handpick.cli import app
from handpick.compare import compare
from handpick.errors import DataError, FingerprintMismatch
from handpick.reporting.picks import parse_picks
from tests.conftest import write_jsonl
from tests.pipeline.conftest import Finished

Given = dict[str, Any]


def handpick_command(*flags: object) -> str:
    """Run a command that should end well, and return what it says."""
    result = CliRunner().invoke(app, [str(flag) for flag in flags])
    assert result.exit_code == 0, result.output
    return " ".join(result.output.split())


def chosen(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "selected.jsonl").read_bytes().splitlines()]


@pytest.fixture
def query(tmp_path: Path) -> Path:
    return write_jsonl(
        tmp_path / "query.jsonl", [{"prompt": f"What is {i} times 3?", "response": f"{3 * i}."} for i in range(3)]
    )


CALL = {"name": "convert", "arguments": {"value": 2}}


@pytest.mark.parametrize(
    "record",
    [
        {"question": "What is 2 times 3?", "answer": "6."},
        {"system_prompt": "Be brief.", "question": "What is 2 times 3?", "response": "6."},
        {"query": "What is 2 times 3?", "response": "6.", "type": "x"},
        {
            "conversations": [
                {"from": "human", "value": "What is 2 times 3?"},
                {"from": "function_call", "value": json.dumps(CALL)},
                {"from": "observation", "value": "6"},
                {"from": "gpt", "value": "6."},
            ],
            "tools": json.dumps([{"name": "convert"}]),
        },
        {"messages": [{"role": "user", "content": "What is 2 times 3?"}, {"role": "assistant", "tool_calls": [CALL]}]},
    ],
    ids=["GSM8K", "OpenOrca", "MetaMath", "LLaMA-Factory calls", "calls alone"],
)
def test_other_shapes_are_chosen_from_and_written_back(record: dict[str, Any], query: Path, tmp_path: Path) -> None:
    records = [record | {"n": i} for i in range(4)]
    pool = write_jsonl(tmp_path / "pool.jsonl", records)
    handpick_command(
        "select", "--pool", pool, "--query", query, "--method", "bm25", "--budget", 4, "--out", tmp_path / "o"
    )
    assert sorted((tmp_path / "o" / "selected.jsonl").read_bytes().splitlines()) == sorted(
        pool.read_bytes().splitlines()
    )


@pytest.mark.parametrize("form", ["messages", "TRL", "LLaMA-Factory"])
def test_no_unwanted_answer_is_chosen(form: str, query: Path, tmp_path: Path) -> None:
    def record(i: int) -> dict[str, Any]:
        asked, said, label = f"What is {i} times 3?", f"{3 * i}." if i % 2 else "No.", bool(i % 2)
        if form == "TRL":
            return {"prompt": asked, "completion": said, "label": label}
        if form == "LLaMA-Factory":
            return {"instruction": asked, "input": "", "output": said, "kto_tag": label}
        turns = [{"role": "user", "content": asked}, {"role": "assistant", "content": said}]
        return {"messages": turns, "label": label}

    pool = write_jsonl(tmp_path / "pool.jsonl", [record(i) for i in range(12)])
    out = tmp_path / "o"
    said = handpick_command(
        "select", "--pool", pool, "--query", query, "--method", "random", "--budget", 6, "--out", out
    )
    assert "pool: 6 set aside, each an answer labelled unwanted (KTO)" in said
    assert all(each.get("label", each.get("kto_tag")) for each in chosen(out))
    lines = (out / "quarantine.jsonl").read_text().splitlines()
    assert [json.loads(line)["line"] for line in lines] == [1, 3, 5, 7, 9, 11]


def test_pairs_in_a_pool_are_said(query: Path, tmp_path: Path) -> None:
    pair = {"prompt": "Hi", "chosen": "Hello", "rejected": "No"}
    pool = write_jsonl(tmp_path / "pool.jsonl", [pair, {"query": "Hi", "response": "Hey", "rejected_response": "No"}])
    said = handpick_command(
        "select", "--pool", pool, "--query", query, "--method", "random", "--budget", 1, "--out", tmp_path / "o"
    )
    assert "pool: 2 records are pairs of a preferred and a rejected answer, of which the preferred one is read" in said


def test_rose_pairs_the_answers_of_a_prompt(
    given: Given, finished: Finished, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    answers = [("1", "yes", True), ("1", "no", False), ("2", "no", False), ("3", "yes", True), ("1", "Yes.", True)]
    records = [{"prompt": prompt, "completion": said, "label": label} for prompt, said, label in answers]
    kto = write_jsonl(tmp_path / "kto.jsonl", records)
    pair = {"id": "p", "prompt": "1", "chosen": "yes", "rejected": "no"}
    both = [
        handpick.select(**given | {"query": query, "method": "rose"}, out=finished.copy_to(tmp_path / query.stem))
        for query in (kto, write_jsonl(tmp_path / "pair.jsonl", [pair]))
    ]
    assert (both[0].ids, both[0].scores) == (both[1].ids, both[1].scores)
    said = " ".join(capsys.readouterr().err.split())
    assert "query: 1 pair of answers labelled wanted and unwanted" in said
    assert "query: 3 set aside, each an unpaired answer (KTO)" in said


def test_columns_of_ones_own_by_flag_in_yaml_and_in_python(query: Path, tmp_path: Path) -> None:
    records = [{"frage": f"What is {i} times 4?", "antwort": f"{4 * i}.", "answer": "x"} for i in range(8)]
    pool = write_jsonl(tmp_path / "pool.jsonl", records)
    flags = ("--pool", pool, "--query", query, "--method", "bm25", "--budget", 3)
    columns = {"prompt": "frage", "response": "antwort"}
    handpick_command("select", *flags, "--columns", "prompt=frage,response=antwort", "--out", tmp_path / "flag")
    (tmp_path / "run.yaml").write_text(
        f"pool: {pool}\nquery: {query}\nmethod: bm25\nbudget: 3\nout: {tmp_path / 'yaml'}\n"
        f"columns: {json.dumps(columns)}\n"
    )
    handpick_command("run", tmp_path / "run.yaml")
    own = handpick.select(pool=pool, query=query, method="bm25", budget=3, columns=columns, out=tmp_path / "python")
    assert [json.loads(own.record(i)) for i in range(3)] == chosen(tmp_path / "flag") == chosen(tmp_path / "yaml")
    assert "could not be read" not in handpick_command("report", tmp_path / "flag")
    with pytest.raises(DataError, match="no record has the column 'antwrot'"):
        handpick.select(pool=pool, query=query, method="bm25", budget=3, columns=columns | {"response": "antwrot"})


def test_a_column_that_sources_are_counted_by(query: Path, tmp_path: Path) -> None:
    """In what a selection may have of them, in the report and in the comparison of two."""
    turns = [{"prompt": f"What is {i} times 4?", "completion": 4 * i} for i in range(8)]
    records = [turn | {"meta": {"set": "ab"[i % 2]}, "source": "all"} for i, turn in enumerate(turns)]
    given: Given = {"pool": records, "query": query, "method": "bm25", "budget": 4}
    capped = handpick.select(
        **given, columns={"source": "meta.set"}, max_share={"a": "1 example"}, out=tmp_path / "capped"
    )
    assert sorted(pick.source for pick in parse_picks(capped)) == ["a", "b", "b", "b"]
    free = handpick.select(**given, columns={"source": "meta.set"}, out=tmp_path / "free")
    alone = compare(capped, free).only_a.sources
    assert set(alone) <= {"a", "b"}
    plain = handpick.select(**given, out=tmp_path / "plain")
    assert {pick.source for pick in parse_picks(plain)} == {"all"}


def test_a_store_is_of_one_reading(untrained: Given, tmp_path: Path) -> None:
    records = [{"id": f"n{i}", "a": f"What is {i}?", "b": f"{i}.", "question": "?", "answer": "!"} for i in range(6)]
    given = untrained | {"pool": write_jsonl(tmp_path / "pool.jsonl", records), "budget": 2, "out": tmp_path / "o"}
    handpick.select(**given, columns={"prompt": "a", "response": "b"})
    with pytest.raises(FingerprintMismatch):
        handpick.select(**given, columns={"prompt": "b", "response": "a"})
    again = given | {"store": tmp_path / "o" / "features" / "pool", "out": tmp_path / "p"}
    del again["pool"], again["warmup"]
    assert handpick.select(**again).settings["columns"] == {"prompt": "a", "response": "b"}


def test_turn_weights(query: Path, tmp_path: Path) -> None:
    turns = [{"role": "user", "content": "What is 2 times 3?"}, {"role": "assistant", "content": "6."}]
    weights = [1, 0, 0.7, 0.2]
    records = [{"id": f"w{w}", "messages": [turns[0], turns[1] | {"weight": w}]} for w in weights]
    pool = write_jsonl(tmp_path / "pool.jsonl", records)

    def run(*more: object) -> tuple[list[str], dict[str, str]]:
        out = tmp_path / "o"
        handpick_command(
            "select", "--pool", pool, "--query", query, "--method", "bm25", "--budget", "100%", "--out", out, *more
        )
        bad = [json.loads(line) for line in (out / "quarantine.jsonl").read_text().splitlines()]
        return sorted(each["id"] for each in chosen(out)), {each["id"]: each["reason"] for each in bad}

    ids, reasons = run()
    assert ids == ["w1"]
    unlearnt = "no response to learn from: the record says of all its answers that they are not to be learnt"
    assert reasons["w0"] == unlearnt
    assert reasons["w0.7"].startswith("turn weight: `weight` of turn 2 of `messages` is 0.7; ")
    ids, reasons = run("--turn-weights", "round")
    assert (ids, reasons) == (["w0.7", "w1"], {"w0": unlearnt, "w0.2": unlearnt})
