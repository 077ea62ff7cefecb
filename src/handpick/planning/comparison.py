"""Every method's bill for one pool, model and machine, beside the training that the selection is for.

A method is planned as ``plan select`` does it, from the run's own stages, whatever it is: a new line of the table of
methods is in here by itself. What several take alike (a warmup, the same rows) is probed once.
"""

from collections import defaultdict
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from handpick.costs.cost import Amount, Plan, StageKind, Work
from handpick.costs.probe import Probing
from handpick.errors import HandpickError, SettingsError, first_line
from handpick.layout import RunLayout
from handpick.methods import METHODS, OWN_COMMANDS
from handpick.model import free_memory
from handpick.planning.select import PROBE_SECONDS, plan_beside, scratch_folders
from handpick.planning.training_bill import TrainingBill, bill_training
from handpick.progress import forward_lines, log
from handpick.representations import Passes
from handpick.scorers.provenance import parsed_records
from handpick.settings import Settings, parse_settings
from handpick.settings.passes import passes_by

_OF_THE_METHOD = ("representation", "algorithm", "store")


@dataclass(frozen=True, slots=True)
class MethodBill:
    """What one method takes. ``left_out`` names what of it could not be estimated, so that the rest is a lower bound.

    ``passes`` are operations as forward passes of the pool; None where they are not counted, or nothing tells how many
    operations a pass has.
    """

    method: str
    seconds: Amount
    disk: int
    memory: int | None
    flops: float | None
    passes: float | None
    ratio: float | None
    money: float | None
    left_out: list[str] = field(default_factory=list)

    def beside(self, training: TrainingBill | str) -> dict[str, Any]:
        """Return for machines what stands beside the plan of this one method."""
        return _training_json(training) | {"ratio": self.ratio, "passes": self.passes, "money": self.money}


@dataclass(frozen=True, slots=True)
class MethodComparison:
    """Methods by the time they take, those that cannot be run here with the reason, and the training beside them.

    ``training`` is a sentence where it could not be priced. ``chosen`` is the number of examples to choose.
    """

    bills: list[MethodBill]
    refused: dict[str, str]
    training: TrainingBill | str
    chosen: int
    price_per_hour: float | None
    notes: list[str]

    def to_json(self) -> dict[str, Any]:
        """Return it for machines: seconds, bytes, operations."""
        return {
            "command": "select",
            "methods": [asdict(bill) for bill in self.bills],
            "refused": self.refused,
            "chosen": self.chosen,
            "price_per_hour": self.price_per_hour,
            "notes": self.notes,
        } | _training_json(self.training)


def _training_json(training: TrainingBill | str) -> dict[str, Any]:
    if isinstance(training, str):
        return {"training": training, "rule": None}
    return {"training": training.to_json(), "rule": training.rule}


def compare_methods(
    settings: Settings,
    seconds: float = PROBE_SECONDS,
    train_model: str | None = None,
    price_per_hour: float | None = None,
) -> MethodComparison:
    """Plan every method of the table with the same pool, queries, model and budget, each from nothing.

    Args:
        settings: of a run; its method is one among the others.
        seconds: to compute for, about, for each piece of work that differs.
        train_model: the model to be trained on what is chosen, as ``bill_training``.
        price_per_hour: money that an hour of this machine costs.

    Raises:
        SettingsError: a part of a method is set, which all would then have; or as ``bill_training``.
    """
    if given := [name for name in _OF_THE_METHOD if getattr(settings, name) is not None]:
        raise SettingsError(f"--compare takes every method with its own parts: leave --{given[0]} out")
    said: dict[str, None] = {}
    plans: dict[str, Plan] = {}
    refused: dict[str, str] = {}
    with scratch_folders() as scratch, forward_lines(lambda line: said.update({line: None})):
        training = bill_training(settings, train_model, seconds)
        settings = _from_nothing(settings, scratch.run)
        probing = Probing(seconds, scratch.probe)
        priced: dict[str, dict[tuple[StageKind, str], Work]] = defaultdict(dict)
        for method in METHODS:
            try:
                own = _with_method(settings, method)
                lent = replace(probing, priced=priced[own.stored_representation])
                plans[method] = plan_beside(own, lent, scratch.bad)
            except HandpickError as error:
                refused[method] = first_line(error)
            except (torch.OutOfMemoryError, MemoryError):
                refused[method] = "it does not fit in this machine's memory"
            free_memory()
    for line in said:
        log(line)
    refused |= {name: f"a command of its own, not planned: handpick {name}" for name in OWN_COMMANDS}
    bills = [bill_of(_with_method(settings, name), plan, training, price_per_hour) for name, plan in plans.items()]
    bills.sort(key=lambda bill: bill.seconds.value)
    chosen = max((plan.stages[-1].examples or 0 for plan in plans.values()), default=0)
    notes = [note for plan in list(plans.values())[:1] for note in plan.notes[-1:]]
    return MethodComparison(bills, refused, training, chosen, price_per_hour, notes)


def bill_of(settings: Settings, plan: Plan, training: TrainingBill | str, price_per_hour: float | None) -> MethodBill:
    """Return the plan of a run with these settings as one line, beside the training."""
    total = plan.total
    seconds = total.seconds or Amount.exactly(0.0)
    known = None if isinstance(training, str) else training
    rows = [stage for stage in plan.stages if stage.kind in (StageKind.POOL, StageKind.LEFT) and not stage.there]
    counted = passes_by(settings.scorer) == Passes(0) or all(stage.flops is not None for stage in rows)
    return MethodBill(
        settings.method,
        seconds,
        total.disk,
        total.memory,
        total.flops,
        known.passes(total.flops) if known and counted else None,
        known.ratio(seconds) if known else None,
        None if price_per_hour is None else seconds.value / 3600 * price_per_hour,
        [f"{line.name}: {line.note}" for line in plan.stages if line.seconds is None or "not estimated" in line.note],
    )


def _with_method(settings: Settings, method: str) -> Settings:
    """Return the same settings with another method, checked as if they had been given so."""
    return parse_settings(settings.model_dump(exclude_unset=True) | {"method": method})


def _from_nothing(settings: Settings, folder: Path) -> Settings:
    """Return settings whose run finds nothing that an earlier one has left, but the records that it has parsed."""
    there, parsed = parsed_records(settings), RunLayout(folder).parsed
    parsed.parent.mkdir(parents=True)
    with suppress(OSError):  # they are parsed for the comparison alone then
        there.mkdir(parents=True, exist_ok=True)
        parsed.symlink_to(there.resolve(), target_is_directory=True)
    return settings.model_copy(update={"out": str(folder)})
