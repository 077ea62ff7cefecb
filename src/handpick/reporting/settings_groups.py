"""The settings of a selection, as the page shows them."""

from collections.abc import Mapping
from typing import Any

from handpick.iterselecttune.settings import IterSelectSettings
from handpick.methods import ITERSELECT
from handpick.reporting.iterated import Iterated
from handpick.reporting.run_folder import RunFolder
from handpick.settings import Settings

_FIRST = ["method", "judge", "budget", "query", "target", "pool", "model", "seed"]


def group_settings(run: RunFolder) -> dict[str, dict[str, str]]:
    """Group the settings as ``said``, those that were set or are needed, and the ``rest``, left as they are."""
    if isinstance(run.made_by, Iterated):
        given, default = dict(run.made_by.settings), _defaults_of_iterselect()
    else:
        given, default = run.made_by.model_dump(mode="json"), Settings().model_dump(mode="json")
    shown = {name: value for name, value in given.items() if name != "out" and value not in (None, [], {})}
    said = {name: shown[name] for name in _FIRST if name in shown}
    said |= {name: value for name, value in shown.items() if value != default.get(name)}
    rest = {name: value for name, value in shown.items() if name not in said}
    return {"said": _settings_as_text(said), "rest": _settings_as_text(rest)}


def _defaults_of_iterselect() -> dict[str, Any]:
    needed = IterSelectSettings(pool=["-"], model="-", judge="-")
    return {"method": ITERSELECT, **needed.model_dump(mode="json")}


def _settings_as_text(settings: Mapping[str, Any]) -> dict[str, str]:
    def text(value: Any) -> str:
        if isinstance(value, list):
            return ", ".join(text(each) for each in value)
        if isinstance(value, dict):
            return ", ".join(f"{name} = {text(each)}" for name, each in value.items())
        return "yes" if value is True else "no" if value is False else str(value)

    return {name.replace("_", " "): text(value) for name, value in settings.items()}
