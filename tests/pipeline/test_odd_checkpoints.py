"""A checkpoint of others with odd files is refused in one sentence, before any work where its header tells."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

import handpick
from handpick.errors import HandpickError
from tests.pipeline.conftest import Finished

MOMENTS, CONFIG, RECORD = "adam_moments.safetensors", "adapter_config.json", "handpick_checkpoint.json"


def optimizer(saved: object) -> Callable[[Path], None]:
    def put(folder: Path) -> None:
        (folder / MOMENTS).unlink()
        torch.save(saved, folder / "optimizer.pt")

    return put


def trainer_state(text: str) -> Callable[[Path], None]:
    def put(folder: Path) -> None:
        (folder / RECORD).unlink()
        (folder / "trainer_state.json").write_text(text)

    return put


def text(name: str, content: str) -> Callable[[Path], object]:
    return lambda folder: (folder / name).write_text(content)


def config(**changed: object) -> Callable[[Path], object]:
    def put(folder: Path) -> None:
        there = json.loads((folder / CONFIG).read_text())
        (folder / CONFIG).write_text(json.dumps(there | changed))

    return put


def without_metadata(folder: Path) -> None:
    save_file(load_file(folder / MOMENTS), folder / MOMENTS)


def with_metadata(settings: str) -> Callable[[Path], None]:
    def put(folder: Path) -> None:
        save_file(load_file(folder / MOMENTS), folder / MOMENTS, metadata={"adam": settings})

    return put


STATE = {"step": 1, "exp_avg": torch.zeros(2), "exp_avg_sq": torch.zeros(2)}
GROUP = {"params": [0], "betas": (0.9, 0.999), "eps": 1e-8, "lr": 1e-3, "weight_decay": 0.0, "amsgrad": False}
ODD: dict[str, Callable[[Path], object]] = {
    "a group without parameters": optimizer({"state": {}, "param_groups": [{}]}),
    "groups that are a number": optimizer({"state": {}, "param_groups": 5}),
    "a list of an optimizer": optimizer([1, 2]),
    "a state that is a number": optimizer({"state": {0: 3}, "param_groups": [GROUP]}),
    "betas that are text": optimizer({"state": {0: STATE}, "param_groups": [GROUP | {"betas": "xy"}]}),
    "a group without betas": optimizer({"state": {0: STATE}, "param_groups": [{"params": [0], "amsgrad": False}]}),
    "a rate that is a list": optimizer({"state": {0: STATE}, "param_groups": [GROUP | {"lr": []}]}),
    "half a trainer's state": trainer_state("{"),
    "no log": trainer_state('{"epoch": 1.0, "global_step": 2}'),
    "a log of numbers": trainer_state('{"epoch": 1.0, "global_step": 2, "log_history": [1, 2]}'),
    "an endless step": trainer_state('{"global_step": 1e999, "log_history": []}'),
    "a list of a trainer": trainer_state("[]"),
    "a list of our own record": text(RECORD, "[]"),
    "a rate without end": text(RECORD, '{"step": 2, "mean_learning_rate": NaN}'),
    "moments without settings": without_metadata,
    "moments with a list of settings": with_metadata("[1]"),
    "moments with odd settings": with_metadata('{"step": 1, "colour": "red"}'),
    "a rank that is text": config(r="x"),
    "targets that are a number": config(target_modules=7),
    "a config that is a list": text(CONFIG, "[]"),
    "weights that are text": text("adapter_model.safetensors", "weights"),
}


@pytest.mark.parametrize("is_ours", [False, True], ids=["foreign", "ours"])
@pytest.mark.parametrize("odd", ODD)
def test_it_is_refused_in_one_sentence(
    odd: str, is_ours: bool, finished: Finished, given: dict[str, Any], tmp_path: Path
) -> None:
    checkpoint = shutil.copytree(finished.folder / "warmup" / "checkpoint-3", tmp_path / "odd")
    if not is_ours:
        (checkpoint / "digests.json").unlink()
    ODD[odd](checkpoint)
    with pytest.raises(HandpickError) as refused:
        handpick.select(**{**given, "method": "less", "warmup": "auto"}, checkpoints=[checkpoint], out=tmp_path / "out")
    assert str(checkpoint) in str(refused.value)
    assert "\n" not in str(refused.value)
