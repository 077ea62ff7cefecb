"""Checkpoints that a plain transformers Trainer wrote, and what is refused of them."""

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import Trainer, TrainingArguments

from handpick.errors import ModelError
from handpick.gradients.layers import canonical_name
from handpick.model import load_base
from handpick.training.checkpoint import (
    check_checkpoint,
    load_adapter,
    load_moments,
    moments_file,
    trainable_parameters,
)
from handpick.training.checkpoint_weights import checkpoint_weights
from handpick.training.settings import LoraSettings
from handpick.training.warmup import load_trainable, new_adapter
from tests.gradients.oracle import random_sequences
from tests.gradients.tiny_models import VOCAB, base_model, lora_model
from tests.training.warmups import run


@dataclass
class Foreign:
    """What a Trainer left in a folder, and what it held in memory when it did."""

    checkpoints: list[Path]
    first: dict[str, Tensor]
    second: dict[str, Tensor]


def train_with_trainer(model: nn.Module, rows: list[dict[str, Any]], out: Path) -> Foreign:
    """Two epochs of four steps, the way people do it: weight decay on, every step logged."""
    trainer = Trainer(
        model,
        TrainingArguments(
            output_dir=str(out), per_device_train_batch_size=2, num_train_epochs=2, learning_rate=1e-2,
            lr_scheduler_type="linear", weight_decay=0.1, save_strategy="epoch", logging_steps=1, report_to=[],
            use_cpu=True, disable_tqdm=True,
        ),
        train_dataset=rows,
    )  # fmt: skip
    trainer.train()
    state = trainer.optimizer.state
    parameters = {canonical_name(name): p for name, p in trainer.model.named_parameters() if p.requires_grad}
    return Foreign(
        [out / "checkpoint-4", out / "checkpoint-8"],
        {name: state[parameter]["exp_avg"] for name, parameter in parameters.items()},
        {name: state[parameter]["exp_avg_sq"] for name, parameter in parameters.items()},
    )


class Odd(nn.Module):
    """All of one shape, in no alphabetical order, and with names that the Trainer takes for norms and biases."""

    def __init__(self) -> None:
        super().__init__()
        self.zeta = nn.Linear(6, 6)
        self.norm = nn.Linear(6, 6)
        self.unbiased = nn.Linear(6, 6)
        self.k_norm = nn.Linear(6, 6)
        self.normal = nn.Linear(6, 6)
        self.alpha = nn.Linear(6, 6)

    def forward(self, x: Tensor, labels: Tensor) -> dict[str, Tensor]:
        y = self.alpha(self.normal(self.k_norm(self.unbiased(self.norm(self.zeta(x).tanh()).tanh()).tanh()).tanh()))
        return {"loss": (y - labels).square().mean()}


def odd_model() -> nn.Module:
    torch.manual_seed(0)
    return get_peft_model(Odd(), LoraConfig(r=2, target_modules=[name for name, _ in Odd().named_children()]))  # type: ignore[arg-type]


def odd_rows() -> list[dict[str, Any]]:
    generator = torch.Generator().manual_seed(0)
    return [{name: torch.randn(6, generator=generator) for name in ("x", "labels")} for _ in range(8)]


def language_rows() -> list[dict[str, Any]]:
    rows = [s.input_ids[:6] for s in random_sequences(40, VOCAB) if len(s.input_ids) >= 6][:8]
    return [{"input_ids": torch.tensor(ids), "labels": torch.tensor(ids)} for ids in rows]


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Foreign:
    return train_with_trainer(lora_model("llama"), language_rows(), tmp_path_factory.mktemp("trainer"))


def assert_moments(got: Any, want: Foreign) -> None:
    assert got.step == 8
    assert got.first.keys() == got.second.keys() == want.first.keys()
    for name in want.first:
        assert torch.equal(got.first[name], want.first[name]), name
        assert torch.equal(got.second[name], want.second[name]), name


@pytest.mark.parametrize("name", ["llama", "gpt2", "qwen3"])
def test_a_trainers_moments_come_back_by_name(name: str, tmp_path: Path) -> None:
    model = lora_model(name, everywhere=True)
    want = train_with_trainer(model, language_rows(), tmp_path)
    assert_moments(load_moments(want.checkpoints[1], lora_model(name, everywhere=True)), want)


def test_the_trainers_second_group_is_put_back_in_its_place(tmp_path: Path) -> None:
    """The Trainer saves states by number, and numbers what it spares weight decay last; all shapes here
    agree, so that nothing but the order tells one moment from another.
    """
    want = train_with_trainer(odd_model(), odd_rows(), tmp_path)
    groups = torch.load(want.checkpoints[1] / "optimizer.pt", weights_only=True)["param_groups"]
    assert [len(group["params"]) for group in groups] == [6, 6], "norm, unbiased and k_norm stand in the second"
    assert_moments(load_moments(want.checkpoints[1], odd_model()), want)


def test_the_adapter_is_loaded_with_the_trainers_weights(llama: Foreign) -> None:
    model = load_trainable(base_model("llama"), llama.checkpoints)
    for path in reversed(llama.checkpoints):
        load_adapter(model, path)
        want = load_file(path / "adapter_model.safetensors")
        got = {name: weight.detach() for name, weight in trainable_parameters(model).items()}
        torch.testing.assert_close(got, want, rtol=0, atol=0)


def rates_of(steps: range) -> float:
    """Mean of a linear decay from 1e-2 at step 0 to zero at step 8."""
    return float(np.mean([1e-2 * (8 - step) / 8 for step in steps]))


def test_weights_are_read_from_the_trainers_log(llama: Foreign) -> None:
    first, second = rates_of(range(4)), rates_of(range(4, 8))
    want = [first / (first + second), second / (first + second)]
    assert checkpoint_weights(llama.checkpoints) == pytest.approx(want)
    assert checkpoint_weights(llama.checkpoints[::-1]) == pytest.approx(want[::-1])


def edited_state(llama: Foreign, out: Path, edit: Callable[[dict[str, Any]], None]) -> list[Path]:
    """Copies of the checkpoints, each with its ``trainer_state.json`` edited."""
    copies = []
    for path in llama.checkpoints:
        copies.append(Path(shutil.copytree(path, out / path.name)))
        state = json.loads((path / "trainer_state.json").read_text())
        edit(state)
        (copies[-1] / "trainer_state.json").write_text(json.dumps(state))
    return copies


def test_the_rate_of_an_epoch_is_that_of_its_own_steps_whatever_else_is_given(llama: Foreign, tmp_path: Path) -> None:
    """The second checkpoint's log holds the first epoch too, also where the first checkpoint is not given."""

    def as_if_of_another_run(state: dict[str, Any]) -> None:
        for entry in state["log_history"]:
            if "learning_rate" in entry:
                entry["learning_rate"] *= 10

    other = edited_state(llama, tmp_path, as_if_of_another_run)
    weights = checkpoint_weights([llama.checkpoints[1], other[1]])
    assert weights == pytest.approx([1 / 11, 10 / 11])
    weights = checkpoint_weights([llama.checkpoints[0], other[1]])
    first, second = rates_of(range(4)), 10 * rates_of(range(4, 8))
    assert weights == pytest.approx([first / (first + second), second / (first + second)])


def test_without_learning_rates_there_are_no_weights(llama: Foreign, tmp_path: Path) -> None:
    assert checkpoint_weights(edited_state(llama, tmp_path / "a", lambda state: state["log_history"].clear())) is None
    copies = edited_state(llama, tmp_path / "b", lambda state: None)
    (copies[1] / "trainer_state.json").unlink()
    assert checkpoint_weights(copies) is None


def config(checkpoint: Path, **settings: object) -> None:
    path = checkpoint / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | settings))


def change_adapter(change: Callable[[dict[str, Tensor]], object]) -> Callable[[Path], None]:
    def broken(checkpoint: Path) -> None:
        weights = load_file(checkpoint / "adapter_model.safetensors")
        change(weights)
        save_file(weights, checkpoint / "adapter_model.safetensors")

    return broken


def change_optimizer(change: Callable[[dict[str, Any]], object]) -> Callable[[Path], None]:
    def broken(checkpoint: Path) -> None:
        state = torch.load(checkpoint / "optimizer.pt", weights_only=True)
        change(state)
        torch.save(state, checkpoint / "optimizer.pt")

    return broken


def swap_in(checkpoint: Path) -> None:
    weights = load_file(checkpoint / "adapter_model.safetensors")
    (checkpoint / "adapter_model.safetensors").unlink()
    torch.save(weights, checkpoint / "adapter_model.bin")


def other_adapter(**lora: Any) -> Callable[[Path], None]:
    def broken(checkpoint: Path) -> None:
        lora_model("llama", **lora).save_pretrained(checkpoint)  # type: ignore[operator]

    return broken


def truncate(name: str) -> Callable[[Path], None]:
    def broken(checkpoint: Path) -> None:
        content = (checkpoint / name).read_bytes()
        (checkpoint / name).write_bytes(content[: len(content) // 2])

    return broken


Q0_A = "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight"

# what is wrong → how to make it so, and what the error names
NO_CHECKPOINT: dict[str, tuple[Callable[[Path], object], str]] = {
    "no folder": (shutil.rmtree, "no checkpoint folder"),
    "no config": (lambda path: (path / "adapter_config.json").unlink(), "adapter_config.json"),
    "a config that is no JSON": (truncate("adapter_config.json"), r"adapter_config\.json cannot be read"),
    "another kind of adapter": (lambda path: config(path, peft_type="IA3"), "IA3"),
    "no weights": (lambda path: (path / "adapter_model.safetensors").unlink(), r"no adapter_model\.safetensors"),
    "weights in a pickle": (swap_in, r"no adapter_model\.safetensors; save the adapter as safetensors"),
}
OTHER_ADAPTER: dict[str, tuple[Callable[[Path], object], str]] = {
    "another rank": (other_adapter(r=8), r"lora_A\.weight is \(8, 32\), not \(4, 32\)"),
    "another alpha": (lambda path: config(path, lora_alpha=99), "lora_alpha is 99, not 8"),
    "another scaling": (lambda path: config(path, use_rslora=True), "use_rslora is True, not False"),
    "a weight too few": (change_adapter(lambda weights: weights.pop(Q0_A)), f"no {Q0_A}"),
    "a weight too many": (
        change_adapter(lambda weights: weights.update(embed_tokens=torch.zeros(3))),
        "holds embed_tokens",
    ),
    "damaged": (truncate("adapter_model.safetensors"), r"adapter_model\.safetensors is damaged"),
}
OTHER_MOMENTS: dict[str, tuple[Callable[[Path], object], str]] = {
    "none": (lambda path: (path / "optimizer.pt").unlink(), r"no optimizer state.*optimizer=sgd"),
    "damaged": (truncate("optimizer.pt"), r"optimizer\.pt is damaged"),
    "of no optimizer": (lambda path: torch.save({"a": torch.ones(2)}, path / "optimizer.pt"), r"optimizer\.pt is dam"),
    "of fewer parameters": (
        change_optimizer(lambda state: state["param_groups"][0]["params"].pop()),
        "the state of 15 parameters, where transformers' Trainer keeps 16",
    ),
    "in other groups": (
        change_optimizer(
            lambda state: state["param_groups"][1]["params"].append(state["param_groups"][0]["params"].pop())
        ),
        r"the state of 15 \+ 1 parameters in groups that no known trainer makes",
    ),
    "of another shape": (
        change_optimizer(lambda state: state["state"][0].update(exp_avg=torch.zeros(7, 7))),
        rf"{Q0_A} is \(7, 7\), the weight \(4, 32\)",
    ),
    "of an optimizer without a first moment": (
        change_optimizer(lambda state: state["state"][0].pop("exp_avg")),
        "not the state of an Adam that handpick knows: it keeps exp_avg_sq, step",
    ),
    "of an optimizer without a second moment": (
        change_optimizer(lambda state: state["state"][0].pop("exp_avg_sq")),
        "not the state of an Adam that handpick knows: it keeps exp_avg, step",
    ),
}


@pytest.mark.parametrize("what", NO_CHECKPOINT)
def test_what_is_no_checkpoint_is_refused(what: str, llama: Foreign, tmp_path: Path) -> None:
    break_it, named = NO_CHECKPOINT[what]
    copy = Path(shutil.copytree(llama.checkpoints[1], tmp_path / "copy"))
    check_checkpoint(copy)
    break_it(copy)
    with pytest.raises(ModelError, match=named):
        check_checkpoint(copy)
    with pytest.raises(ModelError, match=named):
        load_trainable(base_model("llama"), [llama.checkpoints[0], copy])


@pytest.mark.parametrize("what", OTHER_ADAPTER)
def test_a_later_checkpoint_must_be_like_the_first(what: str, llama: Foreign, tmp_path: Path) -> None:
    break_it, named = OTHER_ADAPTER[what]
    copy = Path(shutil.copytree(llama.checkpoints[1], tmp_path / "copy"))
    model = load_trainable(base_model("llama"), llama.checkpoints)
    load_adapter(model, copy)
    break_it(copy)
    with pytest.raises(ModelError, match=named):
        load_adapter(model, copy)


@pytest.mark.parametrize("what", OTHER_MOMENTS)
def test_moments_that_are_not_the_adapters_are_refused(what: str, llama: Foreign, tmp_path: Path) -> None:
    break_it, named = OTHER_MOMENTS[what]
    copy = Path(shutil.copytree(llama.checkpoints[1], tmp_path / "copy"))
    model = load_trainable(base_model("llama"), [copy])
    load_moments(copy, model)
    break_it(copy)
    with pytest.raises(ModelError, match=named):
        load_moments(copy, model)
    if what == "none":  # found out before any training, too
        with pytest.raises(ModelError, match=named):
            moments_file(copy)


def test_our_own_moments_are_held_to_the_same(tiny_model: Path, tmp_path: Path) -> None:
    checkpoint = run(tiny_model, tmp_path)[-1]

    def adapter(**settings: Any) -> nn.Module:
        return new_adapter(load_base(str(tiny_model), torch.float32), LoraSettings(**settings), 0, in_float32=True)

    with pytest.raises(ModelError, match=r"lora_A\.weight is \(4, 32\), the weight \(2, 32\)"):
        load_moments(checkpoint, adapter(rank=2))
    with pytest.raises(ModelError, match=r"adam_moments\.safetensors .* another adapter.*mlp"):
        load_moments(checkpoint, adapter(rank=4, targets="all-linear"))
    truncate("adam_moments.safetensors")(checkpoint)
    with pytest.raises(ModelError, match=r"adam_moments\.safetensors is damaged"):
        load_moments(checkpoint, adapter(rank=4))


def test_an_adapter_for_another_model_is_refused(llama: Foreign) -> None:
    with pytest.raises(ModelError, match=r"checkpoint-4 does not fit this model"):
        load_trainable(base_model("gpt2"), llama.checkpoints)


class Bomb:
    """Leaves a file behind when it is unpickled."""

    def __init__(self, crater: Path) -> None:
        self.crater = crater

    def __reduce__(self) -> tuple[Callable[..., object], tuple[str, str]]:
        return open, (str(self.crater), "w")


def test_code_in_an_optimizers_pickle_is_not_run(llama: Foreign, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(llama.checkpoints[1], tmp_path / "copy"))
    crater = tmp_path / "crater"
    change_optimizer(lambda state: state.update(note=Bomb(crater)))(copy)
    torch.load(copy / "optimizer.pt", weights_only=False)["note"].close()
    assert crater.exists(), "the bomb is live"
    crater.unlink()
    with pytest.raises(ModelError, match="does not run"):
        load_moments(copy, load_trainable(base_model("llama"), [copy]))
    assert not crater.exists()
