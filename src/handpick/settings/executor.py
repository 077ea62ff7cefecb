"""Who makes the features of a run: this process, others of this machine, Ray's actors, or the ranks of a job."""

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, model_validator

from handpick.errors import SettingsError
from handpick.flag_names import Flag

LOCAL, RAY, RANKS = "local", "ray", "ranks"
MACHINES = "Several machines"  # the heading in a command's help


class ExecutorSettings(BaseModel):
    """Who computes. None of it changes a row, so none of it is written beside a result."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    workers: int | None = Field(
        None,
        ge=1,
        exclude=True,
        description="processes of this machine that make features, a shard each at a time; default: this one",
    )
    engine: Annotated[str, Flag(metavar="local|ray|ray:ADDRESS|ranks", heading=MACHINES)] = Field(
        LOCAL,
        exclude=True,
        description="who makes features: this machine; a local Ray, that of RAY_ADDRESS or of an address; each process "
        "of torchrun or srun its share (`represent` alone)",
    )
    max_workers: Annotated[int | None, Flag(heading=MACHINES)] = Field(
        None, ge=1, exclude=True, description="Ray: actors, at most; default: one a GPU, or one a machine without any"
    )
    gpus_per_worker: Annotated[float | None, Flag(heading=MACHINES)] = Field(
        None, ge=0, exclude=True, description="Ray: GPUs of an actor; default: 1 where there are any"
    )

    @model_validator(mode="after")
    def _check_engine(self) -> "ExecutorSettings":
        name, _, address = self.engine.partition(":")
        if name not in (LOCAL, RAY, RANKS) or (address and name != RAY) or self.engine.endswith(":"):
            raise SettingsError(f"there is no engine {self.engine!r}: give local, ray, ray:ADDRESS or ranks")
        if address.startswith("ray:") or address.startswith("//"):
            raise SettingsError(
                f"--engine {self.engine}: handpick has to run on a machine of the cluster, which shares its folders; "
                "give ray:HOST:PORT there, or hand the command over with `ray job submit`"
            )
        if self.workers is not None and name != LOCAL:
            advice = "give --max-workers" if name == RAY else "leave it out"
            raise SettingsError(f"--workers counts processes of this machine, and the engine is {name}: {advice}")
        for setting in ("max_workers", "gpus_per_worker"):
            if getattr(self, setting) is not None and name != RAY:
                raise SettingsError(f"{setting} is for --engine ray: leave it out")
        return self

    @property
    def who_computes(self) -> dict[str, Any]:
        """The settings as ``executor_for`` takes them."""
        return {name: getattr(self, name) for name in ExecutorSettings.model_fields}


class CellExecutorSettings(ExecutorSettings):
    """Who fine-tunes and measures the cells of a study, a cell each at a time."""

    workers: int | None = Field(
        None,
        ge=1,
        exclude=True,
        description="how many fine-tunings at a time, each in a process of one thread (default: 1)",
    )
    engine: Annotated[str, Flag(metavar="local|ray|ray:ADDRESS", heading=MACHINES)] = Field(
        LOCAL,
        exclude=True,
        description="who fine-tunes and measures: this machine; a local Ray, that of RAY_ADDRESS or of an address",
    )
    max_workers: Annotated[int | None, Flag(heading=MACHINES)] = Field(
        None, ge=1, exclude=True, description="Ray: fine-tunings at a time, at most; default: one a GPU, or one a CPU"
    )
    gpus_per_worker: Annotated[float | None, Flag(heading=MACHINES)] = Field(
        None, ge=0, exclude=True, description="Ray: GPUs of a fine-tuning; default: 1 where there are any"
    )

    @model_validator(mode="after")
    def _check_no_ranks(self) -> "CellExecutorSettings":
        if self.engine == RANKS:
            raise SettingsError("--engine ranks: a study is no work of ranks: give local, ray or ray:ADDRESS")
        return self

    @property
    def at_once(self) -> int:
        """How many cells this machine does at a time."""
        return self.workers or 1
