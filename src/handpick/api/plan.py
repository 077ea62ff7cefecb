"""``handpick.plan``: what a call of another function will take, before it is made."""

from collections.abc import Callable
from typing import Any, Literal, TypeAlias, overload

from handpick.api.evaluate import checked_tasks
from handpick.api.handed_over import merge_settings
from handpick.api.select import checked_settings
from handpick.api.study import study_settings
from handpick.api.train import planned_records, template_args_for
from handpick.choices import look_up
from handpick.errors import SettingsError
from handpick.planning import (
    MethodComparison,
    Plan,
    compare_methods,
    plan_evaluate,
    plan_represent,
    plan_select,
    plan_study,
    plan_train,
)
from handpick.settings import Settings

Command: TypeAlias = Literal["select", "represent", "train", "evaluate", "study"]


@overload
def plan(command: Command, /, *, probe_seconds: float = 10.0, **arguments: Any) -> Plan: ...
@overload
def plan(command: Literal["compare"], /, *, probe_seconds: float = 10.0, **arguments: Any) -> MethodComparison: ...
def plan(command: str, /, *, probe_seconds: float = 10.0, **arguments: Any) -> Plan | MethodComparison:
    """Say what a call will take: tokens, operations, disk, memory, and time from a probe. Nothing else is done.

    Args:
        command: ``select``, ``represent``, ``train``, ``evaluate`` or ``study``; or ``compare``, ``select`` by every
            method there is.
        probe_seconds: to compute for, to see how fast this machine is.
        arguments: those of the function of that name (``represent_pool`` for ``represent``), all by name; of
            ``compare`` those of ``select`` without a method, and ``train_model`` and ``price_per_hour`` as
            `handpick plan select --compare` has them.

    Returns:
        The stages in order, each with its cost, and their total; of ``compare`` a bill for each method.

    Raises:
        HandpickError: what the call itself would raise before it starts.
    """
    found: Plan | MethodComparison = look_up(_PLANNERS, command, "command to plan")(
        probe_seconds, merge_settings(**arguments)
    )
    return found


def _of_settings(planner: Callable[..., Any]) -> Callable[[float, dict[str, Any]], Any]:
    def plan_settings(seconds: float, arguments: dict[str, Any]) -> Any:
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


def _compare(seconds: float, arguments: dict[str, Any]) -> MethodComparison:
    beside = {name: arguments.pop(name, None) for name in ("train_model", "price_per_hour")}

    def compare(settings: Settings, seconds: float) -> MethodComparison:
        return compare_methods(settings, seconds, **beside)

    found: MethodComparison = _of_settings(compare)(seconds, arguments)
    return found


_PLANNERS: dict[str, Callable[[float, dict[str, Any]], Any]] = {
    "select": _of_settings(plan_select),
    "compare": _compare,
    "represent": _of_settings(plan_represent),
    "train": _train,
    "evaluate": _evaluate,
    "study": _study,
}
