"""``handpick.tokenize``: what TRL's trainer is handed is what ``handpick train`` trains on."""

import json
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoModelForCausalLM
from trl import SFTConfig, SFTTrainer

import handpick
from handpick.finetuning.train import open_records
from tests.conftest import write_jsonl

LONG = {"messages": [{"role": "user", "content": "why? " * 600}, {"role": "assistant", "content": "Because."}]}
MARKED = {
    "messages": [
        {"role": "user", "content": "1"},
        {"role": "assistant", "content": "2", "train": False},
        {"role": "user", "content": "3"},
        {"role": "assistant", "content": "4"},
    ]
}


@pytest.fixture
def records(pool_records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [*pool_records[:6], LONG, MARKED]


def test_trl_is_handed_what_train_trains_on(
    records: list[dict[str, Any]], tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write_jsonl(tmp_path / "records.jsonl", records)
    with open_records(file, str(tiny_model), 300, tmp_path / "train") as data:
        wanted = [(s.input_ids, s.labels) for s in data.sequences]
    assert len(wanted) == 7
    capsys.readouterr()
    lines = [json.dumps(record).encode() for record in records]
    chosen = handpick.Selection(
        [str(i) for i in range(8)], [0.0] * 8, [None] * 8, {"model": str(tiny_model)}, {}, lines.__getitem__
    )
    dataset = handpick.tokenize(chosen, max_length=300)
    assert "1 record left out (1 no response token left)" in capsys.readouterr().err
    assert [(row["input_ids"], row["labels"]) for row in dataset] == wanted
    trainer = SFTTrainer(
        AutoModelForCausalLM.from_pretrained(tiny_model),
        SFTConfig(str(tmp_path / "trl"), max_length=300, bf16=False, report_to="none"),
        train_dataset=dataset,
    )
    assert [(row["input_ids"], row["labels"]) for row in trainer.train_dataset] == wanted
    batch = trainer.data_collator([trainer.train_dataset[0]])
    assert (batch["input_ids"][0].tolist(), batch["labels"][0].tolist()) == wanted[0]


def test_a_folder_a_file_and_records_give_the_same(
    records: list[dict[str, Any]], tiny_model: Path, tmp_path: Path
) -> None:
    file = write_jsonl(tmp_path / "records.jsonl", records)
    lines = [json.dumps(record).encode() for record in records]
    settings = {"model": str(tiny_model), "columns": {"messages": "said"}}
    renamed = [json.dumps({"said": record["messages"]}).encode() for record in records]
    names = [str(i) for i in range(8)]
    plain = handpick.Selection(names, [0.0] * 8, [None] * 8, {}, {}, lines.__getitem__)
    mapped = handpick.Selection(names, [0.0] * 8, [None] * 8, settings, {}, renamed.__getitem__)
    mapped.save(tmp_path / "run")
    of_file = handpick.tokenize(file, str(tiny_model)).to_list()
    assert of_file == handpick.tokenize(plain, str(tiny_model)).to_list()
    assert of_file == handpick.tokenize(records, str(tiny_model)).to_list()
    assert of_file == handpick.tokenize(tmp_path / "run").to_list(), "columns and model are the selection's own"
    assert of_file == handpick.tokenize(mapped).to_list()


def test_train_reads_a_selection_as_it_was_chosen(
    records: list[dict[str, Any]], tiny_model: Path, tmp_path: Path
) -> None:
    """Of a selection in memory as of its folder: a column of another shape's name is not read instead."""
    lines = [
        json.dumps({"said": each["messages"], "prompt": "no", "completion": "no"}).encode() for each in records[:6]
    ]
    settings = {"model": str(tiny_model), "columns": {"messages": "said"}}
    chosen = handpick.Selection([str(i) for i in range(6)], [0.0] * 6, [None] * 6, settings, {}, lines.__getitem__)
    chosen.save(tmp_path / "run")
    quick: dict[str, Any] = {"recipe": "small", "epochs": 1, "batch": 4, "max_length": 128}
    of_memory = handpick.train(chosen, out=tmp_path / "memory", **quick)
    of_folder = handpick.train(tmp_path / "run", out=tmp_path / "folder", **quick)
    weights = "adapter_model.safetensors"
    assert (of_memory / weights).read_bytes() == (of_folder / weights).read_bytes()
