"""The plan of a fine-tuning: counts, steps and bytes."""

from pathlib import Path
from typing import Any

import pytest

from handpick.costs.training import micro_batches
from handpick.data.render import Renderer
from handpick.errors import HandpickError, SettingsError
from handpick.model import load_base, load_tokenizer
from handpick.planning import plan_train
from handpick.training.settings import LoraSettings
from handpick.training.warmup import SortedInBatch, new_adapter
from tests.conftest import write_jsonl

LORA = {"rank": 4, "alpha": 8, "dropout": 0.0}


@pytest.fixture(scope="module")
def chosen(pool_records: list[dict[str, Any]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_jsonl(tmp_path_factory.mktemp("chosen") / "chosen.jsonl", pool_records[:21])


def test_counts_steps_and_bytes(chosen: Path, tiny_model: Path, tmp_path: Path) -> None:
    plan = plan_train(
        chosen, str(tiny_model), recipe="small", seconds=0.1, epochs=3, batch=8, lora=LORA, max_length=256
    )
    stage = plan.stages[-1]
    assert stage.examples == 21
    assert "9 steps" in stage.note
    import torch

    model: Any = new_adapter(load_base(str(tiny_model), torch.float32), LoraSettings(**LORA), 0, in_float32=True)
    model.save_pretrained(tmp_path)
    real = (tmp_path / "adapter_model.safetensors").stat().st_size
    assert stage.disk < real < stage.disk + 4_000  # the header's names
    assert stage.tokens is not None
    assert stage.tokens.is_exact
    assert stage.seconds is not None
    assert stage.seconds.value > 0


def test_micro_batches_are_the_trainers(pool_records: list[dict[str, Any]], chosen: Path, tiny_model: Path) -> None:
    from handpick.data.examples import Message

    renderer = Renderer(load_tokenizer(str(tiny_model)))
    sequences = [
        renderer([Message(m["role"], m["content"]) for m in record["messages"]], 256) for record in pool_records[:21]
    ]
    batches = micro_batches(sequences, 8, 3, 5)
    assert {len(batch) for batch in batches} <= {1, 2}  # 3 does not divide 8
    order = list(SortedInBatch([len(s.input_ids) for s in sequences], 8, 5))
    assert [s.input_ids for batch in batches for s in batch] == [sequences[i].input_ids for i in order]


@pytest.mark.parametrize("changed", [{"packing": True}, {"adapter": "none"}])
def test_what_is_not_planned_is_said(changed: dict[str, Any], chosen: Path, tiny_model: Path) -> None:
    with pytest.raises(SettingsError, match="cannot be planned"):
        plan_train(chosen, str(tiny_model), recipe="small", **changed)


def test_bad_input(tiny_model: Path, tmp_path: Path) -> None:
    with pytest.raises(HandpickError, match=r"nothing\.jsonl"):
        plan_train(tmp_path / "nothing.jsonl", str(tiny_model), recipe="small")
