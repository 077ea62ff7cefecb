"""The warmup: what it trains on, what training it is, and what it leaves behind."""

import math
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from handpick.errors import ModelError
from handpick.model import load_base
from handpick.training.checkpoint import load_moments, trainable_parameters
from handpick.training.checkpoint_weights import checkpoint_weights
from handpick.training.settings import LoraSettings, WarmupSettings
from handpick.training.warmup import SortedInBatch, new_adapter, warmup_rows
from tests.gradients.tiny_models import base_model
from tests.training.warmups import KILLS, SEED, SEQUENCES, SETTINGS, WITH_DROPOUT, run

KEPT = [
    "README.md",
    "adam_moments.safetensors",
    "adapter_config.json",
    "adapter_model.safetensors",
    "digests.json",
    "handpick_checkpoint.json",
    "trainer_state.json",
]
N_STEPS = 6


def learning_rate(step: int) -> float:
    """Of the step after ``step`` others: a line up over the first 30% of the steps, rounded up, then one down to 0."""
    n_rising = math.ceil(SETTINGS.warmup_ratio * N_STEPS)
    share = step / n_rising if step < n_rising else (N_STEPS - step) / (N_STEPS - n_rising)
    return SETTINGS.learning_rate * share


def trained_by_hand(base: Path) -> Iterator[dict[str, dict[str, Tensor]]]:
    """The warmup in plain torch, one unpadded sequence at a time; after each epoch, the weights and Adam's moments.

    The loss of a step is what transformers' Trainer has: cross-entropy summed over every response token of the whole
    batch, divided by their number. A long answer weighs more than a short one, and the micro-batches leave no trace.
    The gradient is clipped to norm 1, as it is by default there and was in LESS.
    """
    model = new_adapter(load_base(str(base), torch.float32), SETTINGS.lora, SEED, in_float32=True)
    weights = trainable_parameters(model)
    optimizer = torch.optim.AdamW(weights.values(), betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0)
    step = 0
    for epoch in range(SETTINGS.epochs):
        order = np.random.default_rng([SEED, epoch]).permutation(len(SEQUENCES))
        for start in range(0, len(order), SETTINGS.batch):
            batch = [SEQUENCES[i] for i in order[start : start + SETTINGS.batch]]
            nats = torch.zeros(())
            for sequence in batch:
                logits_TV = model(input_ids=torch.tensor([sequence.input_ids])).logits[0]
                targets_T = torch.tensor(sequence.labels[1:])
                nats = nats + torch.nn.functional.cross_entropy(logits_TV[:-1], targets_T, reduction="sum")
            optimizer.zero_grad()
            (nats / sum(sequence.n_labels for sequence in batch)).backward()
            assert torch.nn.utils.clip_grad_norm_(weights.values(), 1.0) > 1, "else the clipping would not show"
            optimizer.param_groups[0]["lr"] = learning_rate(step)
            optimizer.step()
            step += 1
        state = {name: optimizer.state[weight] for name, weight in weights.items()}
        yield {
            "weight": {name: weight.detach().clone() for name, weight in weights.items()},
            "first": {name: s["exp_avg"].clone() for name, s in state.items()},
            "second": {name: s["exp_avg_sq"].clone() for name, s in state.items()},
        }


@pytest.fixture(scope="module")
def checkpoints(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return run(tiny_model, tmp_path_factory.mktemp("warmup"))


def trained(tiny_model: Path, checkpoint: Path) -> dict[str, dict[str, Tensor]]:
    """What a checkpoint's files hold, in the form of ``trained_by_hand``."""
    model = new_adapter(load_base(str(tiny_model), torch.float32), SETTINGS.lora, SEED, in_float32=True)
    moments = load_moments(checkpoint, model)
    weights = load_file(checkpoint / "adapter_model.safetensors")
    return {"weight": weights, "first": dict(moments.first), "second": dict(moments.second)}


def differences(got: dict[str, dict[str, Tensor]], want: dict[str, dict[str, Tensor]]) -> dict[str, float]:
    """‖got − want‖ / ‖want‖ of the worst tensor of each kind."""
    for kind in want:
        assert got[kind].keys() == want[kind].keys()
    return {
        kind: max(float((got[kind][name] - tensor).norm() / tensor.norm()) for name, tensor in want[kind].items())
        for kind in want
    }


def test_it_leaves_a_checkpoint_an_epoch_and_no_pickle(checkpoints: list[Path]) -> None:
    assert [path.name for path in checkpoints] == ["checkpoint-3", "checkpoint-6"]
    for path in checkpoints:
        assert sorted(file.name for file in path.iterdir()) == KEPT


def test_it_is_adamw_as_written_by_hand(tiny_model: Path, checkpoints: list[Path]) -> None:
    for checkpoint, want in zip(checkpoints, trained_by_hand(tiny_model), strict=True):
        error = differences(trained(tiny_model, checkpoint), want)
        assert max(error.values()) < 5e-6, (checkpoint.name, error)


@pytest.mark.parametrize("micro_batch", [1, 3, 100])
def test_the_micro_batch_changes_nothing(
    micro_batch: int, tiny_model: Path, checkpoints: list[Path], tmp_path: Path
) -> None:
    """Also where it does not divide the batch of four, or is larger."""
    again = run(tiny_model, tmp_path, SETTINGS.model_copy(update={"micro_batch": micro_batch}))
    assert [path.name for path in again] == [path.name for path in checkpoints]
    error = differences(trained(tiny_model, again[-1]), trained(tiny_model, checkpoints[-1]))
    assert max(error.values()) < 5e-6, error


def test_gradient_checkpointing_changes_no_bit(tiny_model: Path, checkpoints: list[Path], tmp_path: Path) -> None:
    again = run(tiny_model, tmp_path, gradient_checkpointing=True)
    want, got = trained(tiny_model, checkpoints[-1]), trained(tiny_model, again[-1])
    for kind, tensors in want.items():
        assert all(torch.equal(got[kind][name], tensor) for name, tensor in tensors.items()), kind


def test_the_moments_carry_the_step_and_adams_settings(tiny_model: Path, checkpoints: list[Path]) -> None:
    model = new_adapter(load_base(str(tiny_model), torch.float32), SETTINGS.lora, SEED, in_float32=True)
    for checkpoint, step in zip(checkpoints, [3, 6], strict=True):
        moments = load_moments(checkpoint, model)
        assert (moments.step, moments.beta1, moments.beta2, moments.eps) == (step, 0.9, 0.999, 1e-8)


def test_a_checkpoint_weighs_the_mean_learning_rate_of_its_epoch(checkpoints: list[Path]) -> None:
    means = [np.mean([learning_rate(step) for step in epoch]) for epoch in ((0, 1, 2), (3, 4, 5))]
    weights = checkpoint_weights(checkpoints)
    assert weights is not None
    np.testing.assert_allclose(weights, np.array(means) / sum(means), rtol=1e-12)


@pytest.fixture(scope="module")
def unbroken(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return run(tiny_model, tmp_path_factory.mktemp("unbroken"), WITH_DROPOUT)


@pytest.mark.parametrize(
    "when", [pytest.param(when, marks=[pytest.mark.slow] * (when != "in the second epoch")) for when in KILLS]
)
def test_a_killed_run_goes_on_to_the_same_bits(
    when: str, tiny_model: Path, unbroken: list[Path], tmp_path: Path
) -> None:
    """With dropout on, so that the random state must come back too."""
    command = [sys.executable, "-m", "tests.training.warmups", str(tiny_model), str(tmp_path), when]
    killed = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, check=False)
    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()
    finished = sorted(path.parent.name for path in tmp_path.glob("*/handpick_checkpoint.json"))
    begun = sorted(path.name for path in tmp_path.iterdir())
    assert (begun, finished) == {
        "in the second epoch": (["checkpoint-3"], ["checkpoint-3"]),
        "while the second checkpoint is written": (["checkpoint-3", "checkpoint-6"], ["checkpoint-3"]),
        "while the pickles are thrown away": (["checkpoint-3", "checkpoint-6"], ["checkpoint-3", "checkpoint-6"]),
    }[when]

    resumed = run(tiny_model, tmp_path, WITH_DROPOUT)

    assert [path.name for path in resumed] == [path.name for path in unbroken]
    for got, want in zip(resumed, unbroken, strict=True):
        assert sorted(file.name for file in got.iterdir()) == KEPT
        for name in ("adapter_model.safetensors", "adam_moments.safetensors", "handpick_checkpoint.json"):
            assert (got / name).read_bytes() == (want / name).read_bytes(), (got.name, name)


def test_dropout_is_on_while_training(checkpoints: list[Path], unbroken: list[Path]) -> None:
    """Else the test above would show less than it says."""
    with_dropout, without = (load_file(paths[-1] / "adapter_model.safetensors") for paths in (unbroken, checkpoints))
    assert not any(torch.equal(with_dropout[name], without[name]) for name in without)


def test_the_same_seed_draws_the_same_adapter_and_another_seed_another() -> None:
    def weights(seed: int, callers_seed: int) -> Tensor:
        base = base_model("llama")
        torch.manual_seed(callers_seed)
        before = torch.get_rng_state()
        model = new_adapter(base, LoraSettings(rank=4), seed, in_float32=True)
        assert torch.equal(torch.get_rng_state(), before), "the caller's random numbers are left alone"
        return torch.cat([weight.detach().flatten() for weight in trainable_parameters(model).values()])

    assert torch.equal(weights(3, callers_seed=1), weights(3, callers_seed=2))
    assert not torch.equal(weights(3, callers_seed=1), weights(4, callers_seed=1))


@pytest.mark.parametrize(
    ("name", "adapted"),
    [
        ("llama", {"q_proj", "k_proj", "v_proj", "o_proj"}),
        ("qwen2", {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}),
        ("gpt2", {"c_attn", "c_proj", "c_fc"}),
    ],
)
def test_auto_is_attention_for_llama_and_every_linear_layer_elsewhere(name: str, adapted: set[str]) -> None:
    model = new_adapter(base_model(name), LoraSettings(rank=2), 0, in_float32=True)
    assert {weight.split(".")[-3] for weight in trainable_parameters(model)} == adapted


def test_an_adapter_on_layers_that_are_not_there_is_refused() -> None:
    with pytest.raises(ModelError, match="query_key_value"):
        new_adapter(base_model("llama"), LoraSettings(targets=["query_key_value"]), 0, in_float32=True)
    with pytest.raises(ModelError, match=r"it has no layer porj, v_porj$"):  # some are there
        new_adapter(base_model("llama"), LoraSettings(targets=["q_proj", "porj", "v_porj"]), 0, in_float32=True)


@pytest.mark.parametrize(
    ("n_pool", "n_drawn"),
    [(300, 300), (1000, 1000), (5_000, 1000), (20_000, 1000), (40_000, 2000)],
    ids="pool of {0}".format,
)
def test_the_warmup_draws_a_twentieth_and_at_least_a_thousand(n_pool: int, n_drawn: int) -> None:
    rows = warmup_rows(n_pool, WarmupSettings(), seed=0)
    assert len(rows) == len(set(rows)) == n_drawn
    assert set(rows) <= set(range(n_pool))
    assert rows == warmup_rows(n_pool, WarmupSettings(), seed=0)
    assert rows != warmup_rows(n_pool, WarmupSettings(), seed=1)


def test_every_epoch_has_an_order_of_its_own() -> None:
    sampler = SortedInBatch([5] * 50, batch=8, seed=0)
    orders = []
    for epoch in range(3):
        sampler.set_epoch(epoch)
        orders.append(tuple(sampler))
        assert sorted(orders[-1]) == list(range(50))
    assert len(set(orders)) == 3
    assert len(sampler) == 50


def test_sorting_stays_inside_a_batch() -> None:
    lengths = np.random.default_rng(0).integers(1, 99, size=21)
    order = list(SortedInBatch(lengths.tolist(), batch=8, seed=3))
    drawn = np.random.default_rng([3, 0]).permutation(21)
    for start in (0, 8, 16):
        batch = order[start : start + 8]
        assert set(batch) == set(drawn[start : start + 8])
        assert [lengths[i] for i in batch] == sorted(lengths[i] for i in batch)
