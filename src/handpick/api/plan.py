"""``handpick.plan``: what a call of another function will take, before it is made."""

from collections.abc import Callable
from typing import Any, Literal, TypeAlias

from handpick.api.evaluate import checked_tasks
from handpick.api.handed_over import merge_settings
from handpick.api.select import checked_settings
from handpick.api.study import study_settings
from handpick.api.train import planned_records, template_args_for
from handpick.choices import look_up
from handpick.errors import SettingsError
from handpick.planning import Plan, plan_evaluate, plan_represent, plan_select, plan_study, plan_train

Command: TypeAlias = Literal["select", "represent", "train", "evaluate", "study"]


def plan(command: Command, /, *, probe_seconds: float = 10.0, **arguments: Any) -> Plan:
    """Say what a call will take: tokens, operations, disk, memory, and time from a probe. Nothing else is done.

    Args:
        command: ``select``, ``represent``, ``train``, ``evaluate`` or ``study``.
        probe_seconds: to compute for, to see how fast this machine is.
        arguments: those of the function of that name (``represent_pool`` for ``represent``), all by name.

    Returns:
        The stages in order, each with its cost, and their total.

    Raises:
        HandpickError: what the call itself would raise before it starts.
    """
    return look_up(_PLANNERS, command, "command to plan")(probe_seconds, merge_settings(**arguments))


def _of_settings(planner: Callable[..., Plan]) -> Callable[[float, dict[str, Any]], Plan]:
    def plan_settings(seconds: float, arguments: dict[str, Any]) -> Plan:
        if own := [name for name in ("reward", "objective") if callable(arguments.get(name))]:
            raise SettingsError(f"a {own[0]} of your own cannot be planned for: name one, or leave it out")
        with checked_settings(merge_settings(arguments.pop("settings", None), **arguments)) as settings:
            return planner(settings, seconds)

    return plan_settings


def _train(seconds: float, arguments: dict[str, Any]) -> Plan:
    if "selection" not in arguments:
        raise SettingsError("no selection given: name its folder, or a file of records, as selection")
    arguments.pop("out", None)  # where the model goes is nothing to a plan
    selection = arguments.pop("selection")
    told = template_args_for(selection, arguments.pop("template_args", None))
    with planned_records(selection, arguments.pop("model", None)) as (records, model):
        return plan_train(records, model, seconds=seconds, template_args=told, **arguments)


def _evaluate(seconds: float, arguments: dict[str, Any]) -> Plan:
    if missing := [name for name in ("model", "target") if name not in arguments]:
        raise SettingsError(f"no {missing[0]} given: evaluate needs a model and a target")
    with checked_tasks(arguments.pop("model"), arguments.pop("target"), arguments) as (settings, tasks):
        return plan_evaluate(settings, tasks, seconds)


def _study(seconds: float, arguments: dict[str, Any]) -> Plan:
    if arguments.keys() != {"config"}:
        raise SettingsError("a study is planned from its config alone: give config, a file or a mapping")
    return plan_study(study_settings(arguments["config"]), seconds)


_PLANNERS: dict[str, Callable[[float, dict[str, Any]], Plan]] = {
    "select": _of_settings(plan_select),
    "represent": _of_settings(plan_represent),
    "train": _train,
    "evaluate": _evaluate,
    "study": _study,
}
