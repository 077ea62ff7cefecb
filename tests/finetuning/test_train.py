"""From a selection to a model: which records, which recipe, and what is wrong in one sentence."""

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from handpick import bundled
from handpick.data.render import Renderer
from handpick.errors import DataError, FingerprintMismatch, HandpickError, SettingsError
from handpick.finetuning.finetune import load_finetuned
from handpick.finetuning.train import recipe_for, run_export, run_train
from handpick.model import load_tokenizer
from handpick.selection import Selection
from handpick.training.settings import SMALL_FINETUNE, FinetuneSettings
from tests.conftest import make_model, write_jsonl

QUICK: dict[str, Any] = {"epochs": 1, "batch": 4, "lora": {"rank": 2}}


def select(folder: Path, records: list[dict[str, Any]], model: Path | None) -> Path:
    """A selection of these records, as `handpick select` leaves it."""
    lines = [json.dumps(record).encode() for record in records]
    settings = {} if model is None else {"model": str(model)}
    ids = [str(i) for i in range(len(records))]
    Selection(ids, [0.0] * len(ids), [None] * len(ids), settings, {}, lambda choice: lines[choice]).save(folder)
    return folder


@pytest.fixture
def selection(tiny_model: Path, pool_records: list[dict[str, Any]], tmp_path: Path) -> Path:
    return select(tmp_path / "run", pool_records[:8], tiny_model)


def test_a_selection_trains_its_own_model_into_its_own_folder(
    selection: Path, tiny_model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = run_train(selection, **QUICK)
    said = capsys.readouterr().err
    assert out == selection / "model"
    assert "recipe: small, for a model of 0.0 M parameters (--recipe)" in said
    assert "fine-tuning on 8 examples × 1, 4 a step: LoRA of rank 2, computed in float32 on " in said
    record = yaml.safe_load((out / "train.yaml").read_text())
    assert record["selection"] == str(selection.resolve())
    assert record["base_model"] == str(tiny_model.resolve())
    assert record["left_out"] == 0
    assert record["made_from"]["recipe"]["learning_rate"] == SMALL_FINETUNE.learning_rate
    assert not load_finetuned(out).training

    assert run_train(selection, **QUICK) == out
    assert f"{out} is already trained" in capsys.readouterr().err
    with pytest.raises(FingerprintMismatch, match=r"recipe.epochs is 1 there and 2 here"):
        run_train(selection, **QUICK | {"epochs": 2})


def test_a_file_of_records_will_do(
    tiny_model: Path, pool_records: list[dict[str, Any]], selection: Path, tmp_path: Path
) -> None:
    file = write_jsonl(tmp_path / "some.jsonl.gz", pool_records[:8])
    of_file = run_train(file, str(tiny_model), tmp_path / "a", **QUICK)
    of_folder = run_train(selection, None, tmp_path / "b", **QUICK)
    name = "adapter_model.safetensors"
    assert (of_file / name).read_bytes() == (of_folder / name).read_bytes()


def test_auto_takes_the_recipe_by_size(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    large = make_model(tmp_path / "large")
    capsys.readouterr()
    assert recipe_for(str(bundled.model_path()), "auto", {}) == SMALL_FINETUNE
    config = json.loads((large / "config.json").read_text()) | {"hidden_size": 1024, "intermediate_size": 40_000}
    (large / "config.json").write_text(json.dumps(config))
    assert recipe_for(str(large), "auto", {}) == FinetuneSettings()
    assert [line.split(",")[0] for line in capsys.readouterr().err.splitlines()] == ["recipe: small", "recipe: tis"]
    assert recipe_for(str(large), "small", {}) == SMALL_FINETUNE
    assert capsys.readouterr().err == ""


def test_what_the_user_says_replaces_the_recipes(tiny_model: Path) -> None:
    used = recipe_for(str(tiny_model), "tis", {"epochs": "3", "lora": {"dropout": 0.0}})
    assert used.epochs == 3
    assert (used.lora.rank, used.lora.dropout) == (128, 0.0)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"epochs": 0}, r"epochs: should be greater than 0, not 0"),
        ({"schedule": "steep"}, r"schedule: should be 'linear', 'cosine' or 'constant', not 'steep'"),
        ({"lora": {"rank": "many"}}, r"lora.rank: should be a valid integer"),
        ({"epoch": 1}, r"epoch: "),
    ],
)
def test_a_setting_that_is_wrong_is_named(wrong: dict[str, Any], said: str, tiny_model: Path) -> None:
    with pytest.raises(SettingsError, match=said):
        recipe_for(str(tiny_model), "small", wrong)


LONG = {"messages": [{"role": "user", "content": "why? " * 600}, {"role": "assistant", "content": "Because."}]}
PAIR = {
    "prompt": [{"role": "user", "content": "Hi"}],
    "chosen": [{"role": "assistant", "content": "Hello"}],
    "rejected": [{"role": "assistant", "content": "No"}],
}


def test_a_record_that_is_cut_off_is_left_out_by_name(
    tiny_model: Path, pool_records: list[dict[str, Any]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = run_train(select(tmp_path / "run", [*pool_records[:4], LONG], tiny_model), **QUICK)
    assert f"1 record set aside (1 no response token left): {out / 'quarantine.jsonl'}" in capsys.readouterr().err
    record = yaml.safe_load((out / "train.yaml").read_text())
    assert (record["left_out"], record["made_from"]["examples"]) == (1, 4)
    (line,) = (out / "quarantine.jsonl").read_text().splitlines()
    assert json.loads(line)["line"] == 5


@pytest.mark.parametrize(
    ("records", "said"),
    [
        ([], r"^the selection in .* is empty: there is nothing to train on$"),
        ([LONG, LONG], r"^none of the 2 records of .* can be trained on; the first, '.*', has no response token left"),
        ([PAIR], r"^1 of the 1 records of .* are pairs of a chosen and a rejected answer"),
    ],
    ids=["empty", "cut off", "pairs"],
)
def test_a_selection_that_cannot_be_trained_on(
    records: list[dict[str, Any]], said: str, tiny_model: Path, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match=said):
        run_train(select(tmp_path / "run", records, tiny_model), **QUICK)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({}, "does not say which model to train: name one with --model"),
        ({"model": "MODEL"}, "name one with --out"),
        ({"model": "MODEL", "out": "OUT", "selection": "nowhere.jsonl"}, "there is no selection .*nowhere.jsonl"),
        ({"model": "./nowhere", "out": "OUT"}, "there is no model folder ./nowhere"),
    ],
    ids=["no model", "no folder", "no selection", "no such model"],
)
def test_what_is_missing_is_named(
    arguments: dict[str, str], said: str, tiny_model: Path, pool_records: list[dict[str, Any]], tmp_path: Path
) -> None:
    file = write_jsonl(tmp_path / "some.jsonl", pool_records[:2])
    places = {"MODEL": str(tiny_model), "OUT": str(tmp_path / "out"), "nowhere.jsonl": str(tmp_path / "nowhere.jsonl")}
    known = {name: places.get(value, value) for name, value in arguments.items()}
    with pytest.raises(HandpickError, match=said):
        run_train(known.pop("selection", str(file)), **known, **QUICK)


def test_a_selection_without_a_model_asks_for_one(pool_records: list[dict[str, Any]], tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="name one with --model"):
        run_train(select(tmp_path / "run", pool_records[:2], None), **QUICK)


def test_an_export_of_a_real_selection(tiny_model: Path, tmp_path: Path) -> None:
    """Every record of the demo's boolq set, which has fields besides the messages."""
    file = bundled.target_path("boolq")
    config = run_export(file, "axolotl", tmp_path / "out", str(tiny_model), max_length=512)
    with gzip.open(file, "rt") as lines:
        wanted = [json.loads(line)["messages"] for line in lines]
    renderer = Renderer(load_tokenizer(str(tiny_model)))
    messages = [json.loads(line)["messages"] for line in (tmp_path / "out" / "messages.jsonl").open()]
    tokens = [json.loads(line) for line in (tmp_path / "out" / "tokens.jsonl").open()]
    assert [m for m in messages if m not in wanted] == []
    assert len(messages) == len(tokens) > 40
    for one, rendered in zip(messages, tokens, strict=True):
        assert renderer.tokenizer.decode(rendered["input_ids"]) == renderer.tokenizer.apply_chat_template(
            one, tokenize=False
        )
    assert config == tmp_path.resolve() / "out" / "axolotl.yaml"
