"""Shapes that were lost or refused before, through the commands as a user types them: exits, files and sentences."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset, DatasetDict
from transformers import AutoTokenizer
from typer.testing import CliRunner, Result

from handpick.bundled import model_path
from handpick.cli import app
from tests.conftest import write_jsonl

CALL = {"id": "c1", "type": "function", "function": {"name": "set_lamp", "arguments": '{"room": "hall", "on": true}'}}
TOOLS = [{"type": "function", "function": {"name": "set_lamp", "description": "switch a lamp", "parameters": {}}}]
ASKED = {"role": "user", "content": "Switch the lamp on."}
THINKING = (
    "{% for m in messages %}{{ '<|' + m.role + '|>' }}{% if m.role == 'assistant' %}"
    "{% set thought = m.reasoning_content or '' %}{% set said = m.content %}"
    "{% if '</think>' in said %}{% set thought = said.split('</think>')[0].replace('<think>', '').strip() %}"
    "{% set said = said.split('</think>')[1].strip() %}{% endif %}"
    "{{ '<think>\\n' + thought + '\\n</think>\\n\\n' + said + '<|end|>\\n' }}"
    "{% else %}{{ m.content + '\\n' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def taught(records: list[dict[str, Any]], folder: Path, template: str | None = None) -> list[str]:
    """What an export for axolotl labels of each record."""
    model = folder / "model"
    shutil.copytree(model_path(), model)
    if template:
        (model / "chat_template.jinja").write_text(template)
    selection = write_jsonl(folder / "records.jsonl", records)
    done = run("export", "--selection", selection, "--model", model, "--to", "axolotl", "--out", folder / "out")
    assert done.exit_code == 0, done.output
    assert not list((folder / "out").glob("quarantine*"))
    tokenizer = AutoTokenizer.from_pretrained(model)
    rows = lines(folder / "out" / "tokens.jsonl")
    assert len(rows) == len(records) == len(lines(folder / "out" / "messages.jsonl"))
    return [tokenizer.decode([label for label in row["labels"] if label != -100]) for row in rows]


def test_calls_are_taught_and_exported(tmp_path: Path) -> None:
    beside: list[dict[str, Any]] = [{"content": ""}, {"content": "Right away."}, {"content": None}, {}]
    records = [
        {"messages": [ASKED, {"role": "assistant", "tool_calls": [CALL], **content}], "tools": TOOLS}
        for content in beside
    ]
    call = '<tool_call>\n{"name": "set_lamp", "arguments": {"room": "hall", "on": true}}\n</tool_call><|end|>'
    assert taught(records, tmp_path) == [call, f"Right away.\n{call}", call, call]
    exported = lines(tmp_path / "out" / "messages.jsonl")
    assert all(each["messages"][1]["tool_calls"] and each["tools"] == TOOLS for each in exported)


def test_turns_that_are_not_to_be_learnt_have_no_labels(tmp_path: Path) -> None:
    marks: list[dict[str, Any]] = [{"weight": 0}, {"loss": False}, {"train": False}]
    bad, good = {"role": "assistant", "content": "I made it up."}, {"role": "assistant", "content": "Sorry. Paris."}
    records = [{"messages": [ASKED, bad | mark, {"role": "user", "content": "No."}, good]} for mark in marks]
    assert taught(records, tmp_path) == ["Sorry. Paris.<|end|>"] * 3


@pytest.mark.parametrize(
    "answer",
    [
        {"content": "<think>\nSo double 2.\n</think>\n\nIt is 4."},
        {"content": "It is 4.", "reasoning_content": "So double 2."},
    ],
    ids=["in the text", "beside it"],
)
def test_thoughts_are_taught(answer: dict[str, Any], tmp_path: Path) -> None:
    records = [{"messages": [ASKED, {"role": "assistant", **answer}]}]
    assert taught(records, tmp_path, THINKING) == ["<think>\nSo double 2.\n</think>\n\nIt is 4.<|end|>"]


ONE = {"question": "What is 2 times 3?", "answer": "It is 6."}
SHAREGPT = {
    "conversations": [
        {"from": "human", "value": "How many feet are 2 meters?"},
        {"from": "function_call", "value": '{"name": "convert", "arguments": {"value": 2}}'},
        {"from": "observation", "value": '{"feet": 6.6}'},
        {"from": "gpt", "value": "About 6.6 feet."},
    ],
    "tools": json.dumps([{"name": "convert", "description": "meters to feet", "parameters": {}}]),
}


@pytest.mark.parametrize(
    "record",
    [
        SHAREGPT,
        ONE,
        {"system_prompt": "Be brief.", "question": "Why?", "response": "So."},
        {"query": "Why?", "response": "So."},
    ],
    ids=["ShareGPT with calls", "GSM8K", "OpenOrca", "MetaMath"],
)
def test_columns_and_roles_are_read(record: dict[str, Any], tmp_path: Path) -> None:
    pool = write_jsonl(tmp_path / "pool.jsonl", [record | {"id": name} for name in "ab"])
    assert selected(pool, tmp_path) == lines(Path(pool))


def selected(pool: object, folder: Path, n: int = 2) -> list[dict[str, Any]]:
    """Every record of a pool, chosen at random and put in the order of ids."""
    done = run("select", "--pool", pool, "--method", "random", "--budget", n, "--out", folder / "run")
    assert done.exit_code == 0, done.output
    return sorted(lines(folder / "run" / "selected.jsonl"), key=lambda record: str(record["id"]))


def test_unwanted_answers_are_set_aside_and_said(tmp_path: Path) -> None:
    records = [{"id": str(i), "prompt": "Why?", "completion": f"So {i}.", "label": i % 2 == 0} for i in range(4)]
    pool = write_jsonl(tmp_path / "pool.jsonl", records)
    assert [record["id"] for record in selected(pool, tmp_path)] == ["0", "2"]
    aside = lines(tmp_path / "run" / "quarantine.jsonl")
    assert [entry["id"] for entry in aside] == ["1", "3"]
    assert all(entry["reason"].startswith("answer labelled unwanted") for entry in aside)


@pytest.mark.parametrize("column", ["instruction", "question"])
def test_preferences_under_other_columns_are_used_by_rose(column: str, tmp_path: Path) -> None:
    pairs = [{column: f"What is {i}?", "chosen": f"It is {i}.", "rejected": "No idea."} for i in range(3)]
    query = write_jsonl(tmp_path / "query.jsonl", pairs)
    pool = write_jsonl(tmp_path / "pool.jsonl", [{"prompt": f"{i}?", "completion": f"{i}!"} for i in range(6)])
    done = run(
        *("select", "--pool", pool, "--query", query, "--model", model_path(), "--method", "rose", "--warmup", "none"),
        *("--optimizer", "sgd", "--projection-dim", 64, "--budget", 2, "--dtype", "float32", "--out", tmp_path / "run"),
    )
    assert done.exit_code == 0, done.output
    assert len(lines(tmp_path / "run" / "selected.jsonl")) == 2


@pytest.mark.parametrize("kind", ["one", "dict"])
def test_folders_of_save_to_disk_are_read(kind: str, tmp_path: Path) -> None:
    records = [ONE | {"id": name} for name in "ab"]
    data = Dataset.from_list(records)
    (data if kind == "one" else DatasetDict({"train": data, "test": data})).save_to_disk(tmp_path / "saved")
    assert selected(tmp_path / "saved", tmp_path) == records


def test_an_object_around_the_records_is_read(tmp_path: Path) -> None:
    records = [{"id": name, "input": "Why?", "output": "So."} for name in "ab"]
    (tmp_path / "pool.json").write_text(json.dumps({"type": "text2text", "instances": records}, indent=1))
    assert selected(tmp_path / "pool.json", tmp_path) == records
