"""What a selection must keep to: settings, which ``handpick.constraints`` applies."""

from pydantic import BaseModel, ConfigDict, Field

from handpick.settings.values import Limits, Paths


class Constraints(BaseModel):
    """What a selection must keep to, whatever the algorithm ranks first."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    balanced: bool = Field(False, description="every subtask counts the same, however many queries it has")
    max_share: Limits = Field(
        {},
        description="SOURCE=SHARE of the budget (0.3, 30%) or number of examples (3), at most; * for each other source",
    )
    min_share: Limits = Field({}, description="SOURCE=SHARE of the budget, or number of examples, at least")
    always: str | None = Field(None, description="file of ids, one a line, that are chosen first")
    max_cosine: float | None = Field(
        None, gt=-1, le=1, description="leave out what is more similar than this to what was chosen before it"
    )
    exclude_overlap: Paths = Field([], description="test sets: leave out what repeats one of their items")
    overlap_threshold: float = Field(
        0.75, gt=0, le=1, description="exclude_overlap: part of a test item's word runs from which on it counts"
    )
