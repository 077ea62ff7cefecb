"""What a Trainer's checkpoints weigh: the mean learning rate since the checkpoint before, whatever was logged."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import get_scheduler

from handpick.layout import CheckpointLayout
from handpick.progress import forward_lines
from handpick.sealed import write_sealed
from handpick.training.checkpoint_weights import checkpoint_weights


def run(
    out: Path, schedule: str, n_steps: int, *, warmup: int = 0, log_every: int = 1, save_at: Sequence[int],
    early: bool = False, with_optimizer: bool = True, settings: dict[str, Any] | None = None,
) -> tuple[list[Path], list[float]]:  # fmt: skip
    """A run as the Trainer logs and saves it, and the rate of each step as the optimizer took it."""
    weight = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.AdamW([{"params": [weight]}, {"params": [], "weight_decay": 0.0}], lr=1e-2)
    scheduler = get_scheduler(schedule, optimizer, warmup, n_steps, scheduler_specific_kwargs=settings)
    taken, logged, paths = [], [], []
    for step in range(1, n_steps + 1):
        taken.append(optimizer.param_groups[0]["lr"])
        weight.grad = torch.ones(1)
        optimizer.step()
        scheduler.step()
        if step % log_every == 0:
            rate = scheduler.get_last_lr()[0] if early else taken[-1]
            logged.append({"step": step, "loss": 1.0, "learning_rate": rate})
        if step in save_at:
            paths.append(out / f"checkpoint-{step}")
            paths[-1].mkdir(parents=True)
            state = {"global_step": step, "max_steps": n_steps, "epoch": 1.0, "log_history": logged}
            (paths[-1] / "trainer_state.json").write_text(json.dumps(state))
            if with_optimizer:
                torch.save(optimizer.state_dict(), paths[-1] / "optimizer.pt")
    return paths, taken


def means(taken: list[float], save_at: Sequence[int]) -> list[float]:
    parts = [taken[a:b] for a, b in zip([0, *save_at], save_at, strict=False)]
    each = [sum(part) / len(part) for part in parts]
    return [mean / sum(each) for mean in each]


# what was found wrong, and the values that are right
CASES: dict[str, tuple[dict[str, Any], list[float]]] = {
    "one epoch, four checkpoints, linear": (
        {"schedule": "linear", "n_steps": 8, "save_at": [2, 4, 6, 8]}, [0.4167, 0.3056, 0.1944, 0.0833],
    ),
    "one epoch, four checkpoints, cosine": (
        {"schedule": "cosine", "n_steps": 8, "save_at": [2, 4, 6, 8]}, [0.4360, 0.3433, 0.1797, 0.0410],
    ),
    "a log of every tenth step, and epochs of eight": (
        {"schedule": "linear", "n_steps": 16, "warmup": 2, "log_every": 10, "save_at": [8, 16]}, [0.6786, 0.3214],
    ),
    "a log of every third step": (
        {"schedule": "linear", "n_steps": 32, "warmup": 2, "log_every": 3, "save_at": [8, 16, 24, 32]},
        [0.3750, 0.3417, 0.2083, 0.0750],
    ),
    "a log of the next step's rate, as of transformers 4.36": (
        {"schedule": "linear", "n_steps": 8, "warmup": 2, "save_at": [4, 8], "early": True}, [0.5833, 0.4167],
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", CASES)
def test_a_checkpoint_weighs_the_mean_since_the_one_before(what: str, tmp_path: Path) -> None:
    settings, right = CASES[what]
    paths, taken = run(tmp_path, **settings)
    said: list[str] = []
    with forward_lines(said.append):
        got = checkpoint_weights(paths)
    assert got == pytest.approx(right, abs=6e-5)
    assert got == pytest.approx(means(taken, settings["save_at"]), rel=1e-6)
    assert not said


@pytest.mark.parametrize("schedule", ["linear", "cosine", "constant_with_warmup", "constant"])
@pytest.mark.parametrize("early", [False, True])
@pytest.mark.parametrize("with_optimizer", [False, True])
@pytest.mark.parametrize("warmup", [0, 3])
def test_a_log_of_every_step(schedule: str, early: bool, with_optimizer: bool, warmup: int, tmp_path: Path) -> None:
    """Whichever rate it is that is logged, and with or without an optimizer's state beside it."""
    save_at = [5, 9, 20]
    paths, taken = run(
        tmp_path, schedule, 24, warmup=warmup, save_at=save_at, early=early, with_optimizer=with_optimizer
    )
    # a straight line that begins behind the first step does not tell whether that one was a step of warmup
    is_told = not (schedule == "linear" and early and not with_optimizer and not warmup)
    tolerance = {"rel": 1e-6} if is_told else {"abs": 0.01}
    assert checkpoint_weights(paths) == pytest.approx(means(taken, save_at), **tolerance)


def test_the_last_bits_are_the_same_on_every_python(tmp_path: Path) -> None:
    """`sum` of 0.1, 0.2 and 0.3 is 0.6000000000000001 on Python 3.11 and 0.6 on newer ones."""
    paths = [tmp_path / f"checkpoint-{step}" for step in (1, 2, 3)]
    for path, rate in zip(paths, (0.1, 0.2, 0.3), strict=True):
        path.mkdir()
        write_sealed(CheckpointLayout(path).record, {"step": 1, "mean_learning_rate": rate}, indent=None)
    assert checkpoint_weights(paths) == [0.1 / 0.6, 0.2 / 0.6, 0.3 / 0.6]


def test_the_mean_is_of_the_steps_since_the_one_that_is_named(tmp_path: Path) -> None:
    paths, taken = run(tmp_path, "linear", 24, save_at=[6, 12, 18, 24])
    assert checkpoint_weights([paths[3], paths[1]]) == pytest.approx(means(taken, [12, 24])[::-1])


@pytest.mark.parametrize("early", [False, True])
def test_of_another_schedule_what_lies_between_is_read_off_and_said(early: bool, tmp_path: Path) -> None:
    """Not exact, and better than what was logged alone."""
    paths, taken = run(
        tmp_path, "polynomial", 40, log_every=4, save_at=[10, 20, 30, 40], early=early, settings={"power": 2.0}
    )
    said: list[str] = []
    with forward_lines(said.append):
        got = checkpoint_weights(paths)
    assert got == pytest.approx(means(taken, [10, 20, 30, 40]), abs=0.02)
    assert len(said) == 1
    assert "the learning rates of 10 steps in 40" in said[0]


def test_nothing_logged(tmp_path: Path) -> None:
    paths, _ = run(tmp_path, "linear", 8, log_every=100, save_at=[4, 8])
    assert checkpoint_weights(paths) is None
