"""``handpick doctor`` on a small model: all well, and what it says when something is not."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from typer.testing import CliRunner

from handpick import bundled, doctor
from handpick.cli import app
from handpick.costs.probe import Size
from handpick.doctor import Check, examine
from handpick.errors import DataError, SettingsError
from handpick.gradients.engine import GradientEngine
from handpick.gradients.memory import Footprint
from handpick.model import load_base, load_tokenizer, load_unread
from handpick.settings import Settings
from handpick.training.settings import LoraSettings, WarmupSettings
from handpick.training.warmup import new_adapter
from tests.conftest import write_jsonl

NAMES = ["data", "look", "reading", "adapter", "gradient", "padding", "dtype", "projection", "memory", "speed"]


@pytest.fixture
def settings(tiny_model: Path, pool_records: list[dict[str, Any]], tmp_path: Path) -> Settings:
    pool = write_jsonl(tmp_path / "pool.jsonl", pool_records[:30])
    return Settings(pool=str(pool), model=str(tiny_model), max_length=256, projection_dim=512, dtype="float32")


def checks(settings: Settings) -> dict[str, Check]:
    return {check.name: check for check in examine(settings)}


def test_all_is_well(settings: Settings) -> None:
    found = checks(settings)
    assert list(found) == NAMES
    assert all(check.passed for check in found.values()), found


def test_fewer_tokens_and_layers(settings: Settings) -> None:
    found = checks(settings.model_copy(update={"layers": "late", "response_tokens": 8}))
    assert all(check.passed for check in found.values()), found
    assert "matrices in layers late, 4,096 coordinates" in found["adapter"].found


def test_a_wrong_gradient_is_caught(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    own = GradientEngine.features
    monkeypatch.setattr(GradientEngine, "features", lambda *args: own(*args) * 1.01)
    failed = [name for name, check in checks(settings).items() if not check.passed]
    assert failed == ["gradient"]


def test_weights_that_change_as_they_are_read_are_caught(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a kernel does that repacks them in a pass without gradients."""

    def repack(module: nn.Module, *_: Any) -> None:
        if not torch.is_grad_enabled():
            module.weight.data *= 1.01  # type: ignore[operator, union-attr]

    def load(*given: Any) -> nn.Module:
        model = load_unread(*given)
        for layer in model.modules():
            if isinstance(layer, nn.Linear):
                layer.register_forward_pre_hook(repack)
        return model

    monkeypatch.setattr(doctor, "load_unread", load)
    found = checks(settings)
    assert [name for name, check in found.items() if not check.passed] == ["look"]
    assert "--quantization none" in found["look"].advice


@pytest.mark.parametrize("error", [RuntimeError("no backward pass"), NotImplementedError("no backward pass")])
def test_gradients_that_cannot_be_taken_after_a_look_are_caught(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    own, taken = doctor._input_gradient, []

    def gradient(*given: Any) -> torch.Tensor:
        taken.append(given)
        if len(taken) == 2:
            raise error
        return own(*given)

    monkeypatch.setattr(doctor, "_input_gradient", gradient)
    check = next(check for check in examine(settings) if check.name == "look")
    assert not check.passed
    assert check.found == "no gradient can be taken after a pass without gradients: no backward pass"


def test_the_4_bit_kernel_that_repacks_is_off(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """And where it is on, on a CPU that has it, the look says so."""
    pytest.importorskip("bitsandbytes")
    from bitsandbytes.nn import modules

    own = settings.model_copy(update={"quantization": "4bit", "model": str(bundled.model_path())})
    assert next(check for check in examine(own) if check.name == "look").passed
    if not modules.has_avx512bf16():
        pytest.skip("this CPU has no AVX512-BF16, and so no such kernel")

    def as_shipped(*given: Any) -> nn.Module:
        model = load_unread(*given)
        for module in model.modules():
            if isinstance(module, modules.Linear4bit):
                module.support_avx512bf16_for_cpu = True
        return model

    monkeypatch.setattr(doctor, "load_unread", as_shipped)
    look = next(check for check in examine(own) if check.name == "look")
    assert not look.passed


def test_rows_that_depend_on_their_neighbours_are_caught(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    own = GradientEngine.features

    def leaking(*args: Any) -> torch.Tensor:
        rows_BK = own(*args)
        return rows_BK + 0.01 * (rows_BK.sum(0) - rows_BK)

    monkeypatch.setattr(GradientEngine, "features", leaking)
    assert not checks(settings)["padding"].passed


def test_examples_of_one_length_get_one_to_pad(
    settings: Settings, pool_records: list[dict[str, Any]], tmp_path: Path
) -> None:
    alike = [{**pool_records[0], "id": str(i)} for i in range(10)]
    update = {"pool": [str(write_jsonl(tmp_path / "mixed.jsonl", [*alike, *pool_records[1:5]]))]}
    assert "a padded batch" in checks(settings.model_copy(update=update))["padding"].found
    update = {"pool": [str(write_jsonl(tmp_path / "alike.jsonl", alike))]}
    assert "nothing to pad" in checks(settings.model_copy(update=update))["padding"].found


def test_bad_records_are_counted(settings: Settings, tmp_path: Path) -> None:
    pool = tmp_path / "bad.jsonl"
    pool.write_text("{oops\n" * 3 + Path(settings.pool[0]).read_text())
    check = next(examine(settings.model_copy(update={"pool": [str(pool)]})))
    assert "; 3 of the whole pool" in check.found


def test_a_tokenizer_without_a_template_is_named(settings: Settings, tmp_path: Path) -> None:
    """A base model's conversations are written in a form of ours."""
    tokenizer = load_tokenizer(str(settings.model))
    said = "; no chat template of its own, so they are in the Tulu form"
    for template in (None, "{% for m in messages %}{{ m.role + ':' + m.content + eos_token }}{% endfor %}"):
        tokenizer.chat_template = template
        folder = tmp_path / ("with" if template else "without")
        shutil.copytree(str(settings.model), folder, ignore=shutil.ignore_patterns("*.jinja"))
        tokenizer.save_pretrained(folder)
        check = next(examine(settings.model_copy(update={"model": str(folder)})))
        assert (said in check.found) == (template is None)


def test_a_large_model_gets_the_adapter_of_its_preset(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("handpick.scorers.checkpoints.SMALL_MODEL", 0)
    found = checks(settings)
    assert all(check.passed for check in found.values()), found
    assert "65,536 coordinates" in found["adapter"].found  # rank 128, not 16


def test_more_tokens_than_positions_are_refused(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("handpick.scorers.inputs.position_limit", lambda name: 64)
    with pytest.raises(SettingsError, match="--max-length 64 or less"):
        checks(settings)


def test_a_checkpoint_is_taken_where_one_is_named(settings: Settings, tmp_path: Path) -> None:
    fresh = new_adapter(load_base(str(settings.model), torch.float32), LoraSettings(rank=2), 0, in_float32=True)
    fresh.save_pretrained(tmp_path / "fresh")  # type: ignore[operator]
    found = checks(settings.model_copy(update={"checkpoints": [str(tmp_path / "fresh")]}))
    assert all(check.passed for check in found.values()), found
    assert "512 coordinates (of the first checkpoint)" in found["adapter"].found  # B alone: A has no gradient yet


def test_a_type_that_the_machine_imitates_is_named(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "has_bfloat16", lambda: False)
    check = checks(settings.model_copy(update={"dtype": "bfloat16"}))["dtype"]
    assert not check.passed
    assert "--dtype float32" in check.advice


def test_a_pool_without_responses_is_refused(settings: Settings, tmp_path: Path) -> None:
    silent = [{"messages": [{"role": "user", "content": f"Anyone? {i}"}]} for i in range(5)]
    pool = write_jsonl(tmp_path / "silent.jsonl", silent)
    with pytest.raises(DataError, match="0 can be used"):
        checks(settings.model_copy(update={"pool": [str(pool)]}))


def test_the_command_prints_a_line_a_check(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    flags = ["doctor", "--pool", settings.pool[0], "--model", str(settings.model), "--max-length", "256"]
    result = CliRunner().invoke(app, [*flags, "--dtype", "float32"])
    assert result.exit_code == 0, result.output
    lines = [line for line in result.output.splitlines() if line.startswith("ok  ")]
    assert [line.split()[1] for line in lines] == NAMES
    own = GradientEngine.features
    monkeypatch.setattr(GradientEngine, "features", lambda *args: own(*args) * 1.01)
    result = CliRunner().invoke(app, [*flags, "--dtype", "float32"])
    assert result.exit_code == 1
    assert "FAIL gradient" in result.output


def test_a_batch_that_does_not_fit_is_named(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "available_bytes", lambda: 1 << 20)
    check = checks(settings)["memory"]
    assert not check.passed
    assert "--gradient-checkpointing" in check.advice


def test_the_largest_batch_is_as_full_as_it_may_be(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not only as full as the few records that are tried make it."""
    asked: list[tuple[int, int]] = []
    own = Footprint.peak

    def peak(self: Footprint, n_sequences: int, longest: int) -> float:
        asked.append((n_sequences, longest))
        return own(self, n_sequences, longest)

    monkeypatch.setattr(Footprint, "peak", peak)
    checks(settings.model_copy(update={"batch_tokens": 5000}))
    assert (5000 // settings.max_length, settings.max_length) in asked
    assert len({length for _, length in asked}) > 8
    assert all(5000 // length == n for n, length in asked)


def test_a_warmup_that_does_not_fit_is_named(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Its batch is of four, of the longest record that was looked at, with all of their logits."""
    asked: list[list[Size]] = []

    def huge(engine: Any, saved: Any, sizes: list[Size]) -> int:
        asked.append(sizes)
        return 1 << 60

    monkeypatch.setattr(doctor, "training_bytes", huge)
    found = checks(settings)
    check = found["memory"]
    assert not check.passed
    assert "GiB for the warmup's, of the longest of these records" in check.found
    assert check.advice.endswith("warmup: {micro_batch: 1}")
    ((size,),) = asked
    assert size.sequences == 4
    assert size.longest > 20
    fresh = new_adapter(load_base(str(settings.model), torch.float32), LoraSettings(rank=2), 0, in_float32=True)
    fresh.save_pretrained(tmp_path / "fresh")  # type: ignore[operator]
    without = checks(settings.model_copy(update={"checkpoints": [str(tmp_path / "fresh")]}))["memory"]
    assert without.passed
    assert "warmup" not in without.found


def test_the_new_adapter_leaves_a_trained_model_about_as_it_was(settings: Settings) -> None:
    """Of a real model with all layers adapted, updates of a twentieth of a weight leave noise."""
    warmup = WarmupSettings(lora=LoraSettings(targets="all-linear"))  # rank 128
    own = settings.model_copy(update={"model": str(bundled.model_path()), "warmup": warmup})
    model = doctor._with_adapter(load_base(str(own.model), torch.float32), own)
    shares = [
        float(layer.get_delta_weight("default").detach().norm() / layer.get_base_layer().weight.norm())
        for layer in model.modules()
        if hasattr(layer, "get_delta_weight")
    ]
    assert len(shares) >= 7
    assert 0 < min(shares) <= max(shares) < 0.02


def test_the_cosine_of_long_rows_is_not_rounded_up() -> None:
    """A row of a real model has tens of millions of coordinates."""
    generator = torch.Generator().manual_seed(0)
    want_ND = torch.randn(2, 20_000_000, generator=generator)
    got_ND = want_ND + 0.1 * torch.randn(2, 20_000_000, generator=generator)
    assert doctor._lowest_cosine(got_ND, want_ND) == pytest.approx(1 / 1.01**0.5, abs=1e-5)
