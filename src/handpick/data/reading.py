"""How a user has records read, where the table of formats does not say it: a mapping of columns, and turns' weights."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator

from handpick.errors import DataError
from handpick.flag_names import Flag

ColumnRole = Literal[
    "prompt", "response", "system", "context", "messages", "chosen", "rejected", "label", "tools", "text", "id",
    "source",
]  # fmt: skip
TurnWeights = Literal["refuse", "round"]
COLUMN_ROLES: tuple[ColumnRole, ...] = get_args(ColumnRole)

# of these roles one is what the record is read from; with each go the others that may stand beside it, and with all of
# them, or with none, those that nothing that is said is read from
_BESIDE: dict[str, frozenset[str]] = {
    "text": frozenset(),
    "messages": frozenset({"system", "chosen", "rejected", "label", "tools"}),
    "prompt": frozenset({"response", "system", "context", "chosen", "rejected", "label", "tools"}),
    "chosen": frozenset({"rejected", "system", "tools"}),
}
_OF_RECORD = frozenset({"id", "source"})
_NEEDS = {"chosen": "rejected", "rejected": "chosen"}


@dataclass(frozen=True, slots=True)
class Reading:
    """What decides how a record is read, besides the record: the same bytes under another reading are another pool.

    ``columns`` are pairs of a role and the column that has it; none: the table of formats alone. ``rounds_weights``:
    turns whose weight is neither 0 nor 1 are learnt from one half on; else they are refused.
    """

    columns: tuple[tuple[str, str], ...] = ()
    rounds_weights: bool = False

    @property
    def key(self) -> str:
        """What tells readings apart, 8 hex digits; empty for the one by the table alone."""
        if self == Reading():
            return ""
        said = json.dumps([sorted(self.columns), self.rounds_weights], ensure_ascii=False)
        return sha256(said.encode()).hexdigest()[:8]

    def column(self, role: ColumnRole) -> str | None:
        """Return the column of a role."""
        return dict(self.columns).get(role)


TABLE_ALONE = Reading()


def reading_of(settings: Mapping[str, Any]) -> Reading:
    """Return how records are read, of settings as they were written down; those of before said nothing."""
    own = {name: settings[name] for name in ReadingSettings.model_fields if name in settings}
    return ReadingSettings(**own).reading


def check_columns(reading: Reading, columns: Iterable[Mapping[str, int]]) -> None:
    """Refuse a mapping of a column that no record has.

    Args:
        reading: with the mapping.
        columns: of each pool that was read, how many records have a column.

    Raises:
        DataError: a column is in none of them.
    """
    there = {name for each in columns for name in each}
    for role, column in reading.columns:
        if column not in there:
            raise DataError(
                f"no record has the column {column!r}, which --columns takes for the {role}; there are "
                f"{', '.join(sorted(there)) or 'none'}"
            )


def _mapping(value: Any) -> Any:
    """Parse ``ROLE=COLUMN,…`` as flags have it, one or several, or a mapping."""
    if isinstance(value, Mapping):
        return dict(value)
    several = [value] if isinstance(value, str) else value
    if not isinstance(several, list | tuple) or not all(isinstance(each, str) for each in several):
        raise ValueError("should be ROLE=COLUMN, such as prompt=question,response=answer")
    pairs = [pair.partition("=") for each in several for pair in each.split(",") if pair.strip()]
    if not all(role.strip() and column.strip() for role, _, column in pairs):
        raise ValueError("should be ROLE=COLUMN, such as prompt=question,response=answer")
    named = {role.strip(): column.strip() for role, _, column in pairs}
    if len(named) < len(pairs):
        raise ValueError("should name each role once")
    return named


Columns = Annotated[dict[str, str], BeforeValidator(_mapping)]


class ReadingSettings(BaseModel):
    """How records are read, where their shape alone does not say it."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    columns: Annotated[Columns, Flag(metavar="ROLE=COLUMN,…")] = Field(
        {},
        description=f"which columns hold what: {', '.join(COLUMN_ROLES)}; text=COLUMN learns a bare text whole; "
        "id=COLUMN is what records are known by, source=COLUMN what sources are counted by",
    )
    turn_weights: TurnWeights = Field(
        "refuse", description="of turns that weigh neither 0 nor 1: refuse the record, or round: learn from 0.5 on"
    )

    @field_validator("columns", mode="after")
    @classmethod
    def _check_columns(cls, columns: dict[str, str]) -> dict[str, str]:
        unknown = [role for role in columns if role not in COLUMN_ROLES]
        if unknown:
            raise ValueError(f"should name roles among {', '.join(COLUMN_ROLES)}")
        if not columns.keys() - _OF_RECORD:
            return columns
        main = next((role for role in _BESIDE if role in columns), None)
        if main is None:
            raise ValueError(f"should say which column is the {', the '.join(_BESIDE)}")
        if foreign := [role for role in columns if role != main and role not in _OF_RECORD | _BESIDE[main]]:
            raise ValueError(
                f"should not name {foreign[0]} beside {main}, which is another shape: write the records of one of the "
                "two in a shape that is known"
            )
        if lacking := [_NEEDS[role] for role in columns if _NEEDS.get(role, role) not in columns]:
            raise ValueError(f"should name {lacking[0]} too")
        if "label" in columns and main == "prompt" and "response" not in columns:
            raise ValueError("should name response too, which the label is of")
        return columns

    @property
    def reading(self) -> Reading:
        """How records are read."""
        return Reading(tuple(self.columns.items()), self.turn_weights == "round")
