"""What can be set of the classifier."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from handpick.flag_names import NO_FLAG, Flag


class ClassifierSettings(BaseModel):
    """How the classifier is trained; BERT is the paper's, the rest what BERT is fine-tuned with."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    model: Annotated[str, Flag("classifier", "DIR|NAME")] = Field(
        "google-bert/bert-base-uncased", description="its encoder (default: BERT-base)"
    )
    epochs: Annotated[int, Flag("classifier_epochs")] = Field(3, gt=0, description="passes over the judged examples")
    learning_rate: Annotated[float, Flag("classifier_lr")] = Field(2e-5, gt=0, description="learning rate")
    batch: Annotated[int, NO_FLAG] = Field(16, gt=0, description="examples a step")
    max_length: Annotated[int, NO_FLAG] = Field(
        512, ge=8, description="tokens read of an example, or as many as the encoder can read"
    )
    held_out: float = Field(0.2, ge=0, lt=1, description="share of the judged that it is tested on")
