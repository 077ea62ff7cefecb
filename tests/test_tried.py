"""What a model was tried for is known to the next command, and to no other model's, machine's or code's."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from handpick.errors import ModelError
from handpick.gradients import check as rows_check
from handpick.gradients.engine import GradientEngine
from handpick.model import check, load_base, tried
from handpick.sampling import decode
from handpick.sampling.decode import Company, company
from handpick.training.settings import LoraSettings
from handpick.training.warmup import new_adapter
from tests.conftest import make_model


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty cache folder, and a process that knows nothing yet."""
    monkeypatch.setenv("HANDPICK_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(check, "_passed", set())
    return tmp_path / "cache"


@pytest.fixture
def tries(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What has been tried."""
    found: list[str] = []

    def note(module: Any, name: str) -> None:
        original = getattr(module, name)
        monkeypatch.setattr(module, name, lambda *given: (found.append(name), original(*given))[1])

    note(check, "refusal")
    note(rows_check, "_try_rows")
    note(decode, "_try_company")
    return found


def load_anew(folder: Path, dtype: torch.dtype = torch.float32) -> nn.Module:
    """Load a model as the next command does."""
    check._passed.clear()
    return load_base(str(folder), dtype)


def engine_on(folder: Path, targets: list[str]) -> GradientEngine:
    lora = LoraSettings(rank=2, alpha=4, dropout=0.0, targets=targets)
    return GradientEngine(new_adapter(load_anew(folder), lora, 0, in_float32=True))


def test_every_try_is_made_once_for_a_model(cache: Path, tries: list[str], tiny_model: Path) -> None:
    for _ in range(2):
        engine = engine_on(tiny_model, ["q_proj", "v_proj"])
        rows_check.check_rows(engine)
        assert company(engine.model) is Company.ANY
    assert tries == ["refusal", "_try_rows", "_try_company"]
    (kept,) = cache.rglob("*.json")
    assert set(json.loads(kept.read_text())["made with"]) == {
        "model", "dtype", "quantization", "device", "code", "torch", "transformers", "peft",
    }  # fmt: skip


def test_another_type_adapter_or_model_is_another(
    cache: Path, tries: list[str], tiny_model: Path, tmp_path: Path
) -> None:
    rows_check.check_rows(engine_on(tiny_model, ["q_proj", "v_proj"]))
    tries.clear()
    rows_check.check_rows(engine_on(tiny_model, ["q_proj"]))
    assert tries == ["_try_rows"]
    load_anew(tiny_model, torch.bfloat16)
    load_anew(make_model(tmp_path / "other", seed=1))
    assert tries == ["_try_rows", "refusal", "refusal"]


def test_the_same_folder_with_other_weights_is_another_model(cache: Path, tries: list[str], tmp_path: Path) -> None:
    folder = make_model(tmp_path / "m")
    load_anew(folder)
    make_model(folder, seed=1)
    load_anew(folder)
    assert tries == ["refusal", "refusal"]


def test_other_code_tries_again(
    cache: Path, tries: list[str], tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load_anew(tiny_model)
    monkeypatch.setattr(tried, "_own_code", lambda: "another")
    load_anew(tiny_model)
    assert tries == ["refusal", "refusal"]


def test_a_refusal_is_found_again(cache: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(check, "refusal", lambda model: "is refused")
    for _ in range(2):
        with pytest.raises(ModelError, match="is refused"):
            load_anew(tiny_model)
    assert not list(cache.rglob("*.json"))


@pytest.mark.parametrize("damage", [b"", b"{", b"[]", b'{"made with": {}, "shown": {}}', b"\xff"])
def test_a_damaged_record_is_made_anew(cache: Path, tries: list[str], tiny_model: Path, damage: bytes) -> None:
    load_anew(tiny_model)
    (kept,) = cache.rglob("*.json")
    whole = kept.read_bytes()
    kept.write_bytes(damage)
    load_anew(tiny_model)
    assert tries == ["refusal", "refusal"]
    assert kept.read_bytes() == whole


def test_without_a_folder_to_write_to_everything_is_tried(
    cache: Path, tries: list[str], tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("HANDPICK_CACHE", str(tmp_path / "file" / "folder"))
    load_anew(tiny_model)
    load_anew(tiny_model)
    assert tries == ["refusal", "refusal"]
