"""What each checkpoint weighs: w_t of LESS (Xia et al. ICML 2024, arXiv 2402.04333), a mean learning rate.

Of our own warmup it is that of the epoch which a checkpoint ends, as it was recorded. Of a Trainer's checkpoints it is
that of the steps since the one named before it, from the log in ``trainer_state.json``. The log may have gaps, and in
transformers 4.36 it says at a step what the next one's rate is; what is missing is computed from the schedule where the
log is one of a known schedule's (linear, cosine, constant; with warmup), else read between what was logged, and said.

Legend: S steps, W numbers of steps of warmup.
"""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from handpick.documents import DAMAGED, reading
from handpick.errors import ModelError
from handpick.layout import CheckpointLayout
from handpick.progress import log
from handpick.sealed import read_sealed
from handpick.training.optimizer_state import OPTIMIZER_FILES, read_optimizer
from handpick.training.sealed_checkpoint import repair_advice

_TRAINER_STATE = "trainer_state.json"  # the Trainer's name for its log

Floats = NDArray[np.float64]


_MOST_STEPS = 10_000_000  # of a run whose schedule is told


def checkpoint_weights(paths: Sequence[Path]) -> list[float] | None:
    """Return each checkpoint's mean learning rate, normalised to sum 1 (LESS, section 3.2).

    None where one has neither a record of ours nor a Trainer's log, or all rates are zero: the caller weighs them alike
    and says so.
    """
    logs = {path: _read_log(path) for path in paths if not CheckpointLayout(path).record.exists()}
    if None in logs.values():
        return None
    own = {path: found for path, found in logs.items() if found is not None}
    rates, told = [], set[tuple[float, ...]]()
    for path in paths:
        if path not in own:
            record = CheckpointLayout(path).record
            with reading(record, ModelError, "name another checkpoint, or train the warmup anew"):
                rates.append(_rate(_own_rate(path)))
            continue
        run = _of_one_run(own[path], list(own.values()))
        if not run.logged:
            return None
        before = max((other.step for other in own.values() if other.step < own[path].step), default=0)
        computed = _rates(run)
        if computed is None:
            computed = _between(run)
            if tuple(run.logged.values()) not in told:
                log(
                    f"{path}: the log has the learning rates of {len(run.logged)} steps in {run.step}, from which no "
                    "schedule can be told: what lies between them is read off straight lines"
                )
            told.add(tuple(run.logged.values()))
        rates.append(float(np.mean(computed[before : own[path].step])))
    total = math.fsum(rates)  # `sum` of Python 3.11 has other last bits than that of 3.12
    return [rate / total for rate in rates] if total > 0 else None


def _own_rate(path: Path) -> float:
    """Read the mean learning rate that our own warmup wrote down."""
    file = CheckpointLayout(path).record
    advice = repair_advice(path)
    rate = read_sealed(file, advice).get("mean_learning_rate")
    if isinstance(rate, bool) or not isinstance(rate, int | float) or not 0 <= rate < float("inf"):
        raise ModelError(f"{file} is damaged: it has no mean_learning_rate; {advice}")
    return float(rate)


@dataclass(frozen=True, slots=True)
class _Log:
    """Learning rates that a Trainer logged up to a checkpoint.

    Args:
        step: the checkpoint's, counted from 1.
        max_steps: of the whole run.
        logged: rates by the step that they were logged at.
        told: rates by the step, counted from 0, that an optimizer was told to take next.
        peak: what the schedule's factors are multiplied with; None where no optimizer's state says it.
    """

    step: int
    max_steps: int
    logged: Mapping[int, float]
    told: Mapping[int, float]
    peak: float | None


def _read_log(path: Path) -> _Log | None:
    """Read a Trainer's log; None where there is none."""
    file = path / _TRAINER_STATE
    if not file.exists():
        return None
    try:
        state: Mapping[str, Any] = json.loads(file.read_text())
        step = int(state["global_step"])
        entries = [(int(e["step"]), _rate(e["learning_rate"])) for e in state["log_history"] if "learning_rate" in e]
        max_steps = int(state.get("max_steps") or step)
        if max(step, max_steps) > _MOST_STEPS:
            raise ValueError(f"a run of more than {_MOST_STEPS:,} steps")
    except DAMAGED as error:
        raise ModelError(f"{file} cannot be read as a Trainer's: {error!r}") from error
    if step < 1:
        return None
    group = _first_group(path)
    told = {step: group["lr"]} if "lr" in group else {}
    peak = group.get("initial_lr")
    return _Log(step, max(step, max_steps), {at: rate for at, rate in sorted(entries) if 0 < at <= step}, told, peak)


def _first_group(path: Path) -> Mapping[str, Any]:
    """Return the settings of the optimizer's first group, whose rate is the one that is logged; none without a file."""
    file = next((path / name for name in OPTIMIZER_FILES if (path / name).exists()), None)
    try:
        groups = read_optimizer(file).groups if file else []
    except ModelError:  # the rates can do without it, and whoever needs the moments says what is wrong
        return {}
    group = groups[0] if groups else {}
    return {name: float(group[name]) for name in ("lr", "initial_lr") if _is_rate(group.get(name))}


def _is_rate(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < math.inf


def _rate(value: Any) -> float:
    """Return a learning rate that a file holds.

    Raises:
        ValueError: it is none.
    """
    if not _is_rate(value):
        raise ValueError(f"{value!r} is no learning rate")
    return float(value)


def _of_one_run(own: _Log, all_logs: Sequence[_Log]) -> _Log:
    """Return what all checkpoints of a checkpoint's run know: those whose logs are the same as far as both go."""
    run = own
    for other in all_logs:
        both = min(own.step, other.step)
        begins = [{at: rate for at, rate in each.logged.items() if at <= both} for each in (own, other)]
        if (other.max_steps, other.peak) == (own.max_steps, own.peak) and begins[0] == begins[1]:
            further = other if other.step > run.step else run
            run = _Log(further.step, own.max_steps, further.logged, {**run.told, **other.told}, own.peak)
    return run


def _known(of: _Log, early: bool) -> tuple[Floats, Floats]:
    """Return the steps, counted from 0 as schedules count, of which the rate is known, and the rates."""
    known = {**of.told, **{at if early else at - 1: rate for at, rate in of.logged.items()}}
    return np.array(sorted(known), dtype=float), np.array([known[at] for at in sorted(known)])


def _rates(of: _Log) -> Floats | None:
    """Return the learning rate of each step, (step,); None where the log does not tell it."""
    early = _logs_early(of)
    if len(of.logged) == of.step and not early:
        return np.array(list(of.logged.values()))
    return _by_schedule(of, early)


def _between(of: _Log) -> Floats:
    """Return the learning rate of each step, (step,), on straight lines between those that are known."""
    at, rates = _known(of, _logs_early(of))
    return np.asarray(np.interp(np.arange(of.step, dtype=float), at, rates))


def _logs_early(of: _Log) -> bool:
    """Return whether what is logged at a step is the next one's rate, as in transformers 4.36.

    A schedule may fit one way and not the other; else an optimizer may have been told the rate that was just logged.
    """
    own, next_one = (_by_schedule(of, early) is not None for early in (False, True))
    if own != next_one:
        return next_one
    rates = list(of.logged.values())
    if own or of.step not in of.logged or len(set(rates[-2:])) == 1:
        return False
    told = of.told.get(of.step, 0.0 if of.step == of.max_steps else None)  # a schedule ends at zero
    return told is not None and bool(np.isclose(rates[-1], told, rtol=1e-6, atol=0))


def _by_schedule(of: _Log, early: bool) -> Floats | None:
    """Return the rate of each step, (step,), where all schedules that fit what is known agree; None where none fits.

    The unknowns are the kind of schedule and its steps of warmup, and the peak where no optimizer says it.
    """
    at, rates = _known(of, early)
    few = np.unique(np.linspace(0, len(at) - 1, 24).astype(int))  # enough to tell nearly all that do not fit
    steps = np.arange(of.step, dtype=float)
    fits: list[Floats] = []
    for schedule in _SCHEDULES:
        warmup_W1 = np.arange(of.max_steps + 1)[:, None]
        fit_W = _fits(schedule(at[few], warmup_W1, of.max_steps), rates[few], of.peak)
        for warmup_11 in warmup_W1[fit_W][:, None]:
            factor_1S = schedule(at, warmup_11, of.max_steps)
            if _fits(factor_1S, rates, of.peak)[0]:
                peak = _peaks(factor_1S, rates, of.peak)[0, 0]
                fits.append(peak * schedule(steps, warmup_11, of.max_steps)[0])
    if fits and all(np.allclose(fit, fits[0], rtol=1e-3, atol=1e-3 * float(fits[0].max())) for fit in fits):
        return fits[0]
    return None


def _fits(factor_WS: Floats, rate_S: Floats, peak: float | None) -> NDArray[np.bool_]:
    """Return which rows of a schedule's factors are the rates, (W,)."""
    peak_W1 = _peaks(factor_WS, rate_S, peak)
    close_WS = np.isclose(factor_WS * peak_W1, rate_S, rtol=1e-6, atol=1e-9 * float(np.abs(rate_S).max()))
    return np.asarray(close_WS.all(axis=1) & (peak_W1[:, 0] > 0))


def _peaks(factor_WS: Floats, rate_S: Floats, peak: float | None) -> Floats:
    """Return what each row of factors is to be multiplied with, (W, 1); zero where its factors are all zero."""
    if peak is not None:
        return np.full((len(factor_WS), 1), peak)
    largest_W1 = factor_WS.argmax(axis=1)[:, None]
    factor_W1 = np.take_along_axis(factor_WS, largest_W1, axis=1)
    return np.where(factor_W1 > 0, rate_S[largest_W1] / np.where(factor_W1 > 0, factor_W1, 1), 0)


# A schedule's factors (W, S) at steps counted from 0, for numbers of steps of warmup (W, 1), in a run of n steps.
def _linear(step_S: Floats, warmup_W1: NDArray[np.int64], n: int) -> Floats:
    return _with_warmup(step_S, warmup_W1, (n - step_S) / np.maximum(1, n - warmup_W1))


def _cosine(step_S: Floats, warmup_W1: NDArray[np.int64], n: int) -> Floats:
    turn_WS = np.pi * (step_S - warmup_W1) / np.maximum(1, n - warmup_W1)
    return _with_warmup(step_S, warmup_W1, 0.5 * (1 + np.cos(turn_WS)))


def _constant(step_S: Floats, warmup_W1: NDArray[np.int64], n: int) -> Floats:
    return _with_warmup(step_S, warmup_W1, np.ones((len(warmup_W1), len(step_S))))


_SCHEDULES: tuple[Callable[[Floats, NDArray[np.int64], int], Floats], ...] = (_linear, _cosine, _constant)


def _with_warmup(step_S: Floats, warmup_W1: NDArray[np.int64], factor_WS: Floats) -> Floats:
    return np.where(step_S < warmup_W1, step_S / np.maximum(1, warmup_W1), np.maximum(0.0, factor_WS))
