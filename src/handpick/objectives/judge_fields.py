"""The judge's options as settings of ``select``: flat, each by the name of its flag."""

from collections.abc import Callable
from copy import copy
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, create_model
from pydantic.fields import FieldInfo

from handpick.flag_names import option_name
from handpick.judge.settings import JudgeOptions, Temperature

_LEFT_OUT = {"workers"}  # settings.yaml has never had it

# The flat name of every option. A flat setting that is None is not written down, so that None is said as "none".
JUDGE_FIELDS = {
    name: flat
    for name, field in JudgeOptions.model_fields.items()
    if (flat := option_name(name, field)) and name not in _LEFT_OUT
}

# what may be "none", and is a number by default
_WITH_A_WORD: dict[str, tuple[Any, Callable[[Any], Any]]] = {
    "temperature": (Temperature | Literal["none"], float),
    "seed": (int | Literal["none"], int),
}


def _flat_field(name: str) -> tuple[Any, FieldInfo]:
    flat = copy(JudgeOptions.model_fields[name])
    flat.description = f"reward judge: {flat.description}"
    if name not in _WITH_A_WORD:
        return flat.annotation, flat
    kind, number = _WITH_A_WORD[name]
    flat.metadata, flat.default = [], number(flat.default)
    return kind, flat


if TYPE_CHECKING:  # the fields are made below; by name they are read here alone

    class JudgeFields(BaseModel): ...

else:
    JudgeFields = create_model("JudgeFields", **{flat: _flat_field(name) for name, flat in JUDGE_FIELDS.items()})


def judge_options(settings: JudgeFields) -> JudgeOptions:
    """Return what flat settings say of a judge.

    Raises:
        SettingsError: as ``JudgeOptions.from_values``.
    """
    return JudgeOptions.from_values({name: getattr(settings, flat) for name, flat in JUDGE_FIELDS.items()})
