"""What can be set of prefilters: cheap representations that say which candidates the method's own looks at."""

import math
from decimal import Decimal, InvalidOperation
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from handpick.flag_names import Flag
from handpick.representations import find_scorer

SHARE = 0.1
CHECKED = 0.01  # of the pool, that are scored although they were cut
_FEWEST, _MOST = 50, 1000


def _names(value: Any) -> list[str]:
    several = [value] if isinstance(value, str) else value
    if not isinstance(several, list | tuple) or not all(isinstance(name, str) for name in several):
        raise ValueError("should be a representation or a list of them")
    return list(several)


def _check_known(names: list[str]) -> list[str]:
    for name in names:
        find_scorer(name)
    return names


def _shares(value: Any) -> list[float]:
    return [_share(each) for each in (value if isinstance(value, list | tuple) else [value])]


def _share(value: Any) -> float:
    """Parse ``10%`` or ``0.1``."""
    text = str(value).strip()
    try:
        share = Decimal(text.removesuffix("%").rstrip()) / (100 if text.endswith("%") else 1)
    except InvalidOperation:
        share = Decimal(0)
    if not share.is_finite() or not 0 < share <= 1:
        raise ValueError("should be above 0 and at most the whole pool, such as 10% or 0.1")
    return float(share)


class PrefilterSettings(BaseModel):
    """Which representations rank the pool before the method's own does, and how much each leaves."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    prefilter: Annotated[
        list[str], BeforeValidator(_names), AfterValidator(_check_known), Flag(metavar="REPRESENTATION")
    ] = Field(
        [],
        description="a cheap representation that ranks the pool first: the method's own looks at every query's best "
        "alone; several: one after the other",
    )
    prefilter_share: Annotated[list[float], BeforeValidator(_shares), Flag(metavar="N%")] = Field(
        [], description="of the pool, that the prefilter leaves; one for each (default: 10%)"
    )
    prefilter_check: int | None = Field(
        None,
        ge=0,
        description="how many of those that it leaves out are looked at all the same, to estimate what was missed "
        "(default: 1% of the pool, from 50 to 1000)",
    )

    @property
    def prefilter_shares(self) -> list[float]:
        """The share of each prefilter."""
        return self.prefilter_share or [SHARE] * (len(self.prefilter) == 1)

    def count_left(self, n_pool: int) -> int:
        """Return how many of a pool the last prefilter leaves."""
        return math.ceil(Decimal(repr(self.prefilter_shares[-1])) * n_pool)

    def count_checked(self, n_pool: int) -> int:
        """Return how many of those that were left out are looked at all the same, where there are as many."""
        if self.prefilter_check is not None:
            return self.prefilter_check
        return min(max(round(CHECKED * n_pool), _FEWEST), _MOST)
