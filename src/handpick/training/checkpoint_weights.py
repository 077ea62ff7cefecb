"""What each checkpoint of a warmup weighs: w_t of LESS (Xia et al. ICML 2024, arXiv 2402.04333), the mean learning rate
of the epoch that it ends."""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from handpick.layout import CheckpointLayout

_TRAINER_STATE = "trainer_state.json"  # the Trainer's name for its log


def checkpoint_weights(paths: Sequence[Path]) -> list[float] | None:
    """Return the mean learning rate of the epoch that each checkpoint ends, normalised to sum 1 (LESS, section 3.2).

    Ours is in the checkpoint's record, a Trainer's in the log of its ``trainer_state.json``. None where one has
    neither, or all are zero: the caller weighs them alike and says so.
    """
    rates = []
    for path in paths:
        ours, trainers = CheckpointLayout(path).record, path / _TRAINER_STATE
        if ours.exists():
            rates.append(float(json.loads(ours.read_text())["mean_learning_rate"]))
        elif trainers.exists():
            logged = _logged_rates(json.loads(trainers.read_text()))
            if not logged:
                return None
            rates.append(sum(logged) / len(logged))
        else:
            return None
    total = sum(rates)
    return [rate / total for rate in rates] if total > 0 else None


def _logged_rates(state: Mapping[str, Any]) -> list[float]:
    """Read the learning rates that a Trainer logged in the epoch of its last step, up to that step."""
    if not state.get("epoch"):
        return []
    steps_an_epoch = state["global_step"] / state["epoch"]
    begin = steps_an_epoch * (math.ceil(state["epoch"] - 1e-3) - 1) + 0.5  # half a step, for an epoch that is rounded
    return [
        entry["learning_rate"]
        for entry in state["log_history"]
        if "learning_rate" in entry and begin < entry["step"] <= state["global_step"]
    ]
