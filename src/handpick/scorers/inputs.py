"""What a scorer is given: a run's settings, its data, and what the user handed over in Python."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from handpick.data.pool import Pool
from handpick.data.quarantine import Quarantine
from handpick.data.render import Renderer
from handpick.errors import SettingsError
from handpick.layer_numbers import ALL, layers_among
from handpick.model import load_config, load_renderer, position_limit
from handpick.objectives.protocol import Objective
from handpick.rewards import UserReward
from handpick.settings import Settings, not_given
from handpick.settings.representation import GradientSettings


@dataclass(frozen=True, slots=True)
class Data:
    """A pool or a query set, and where its bad records go."""

    pool: Pool
    quarantine: Quarantine


@dataclass(frozen=True, slots=True)
class UserObjects:
    """What a user hands over in Python instead of naming it: a reward, or how their objective is made."""

    reward: UserReward | None = None
    objective: Callable[[Renderer, int], Objective] | None = None


@dataclass(frozen=True, slots=True)
class Inputs:
    """A run, opened: ``renderer`` and ``query`` are there where the representation needs them."""

    settings: Settings
    pool: Data
    query: Data | None = None
    renderer: Renderer | None = None
    own: UserObjects = field(default_factory=UserObjects)

    @property
    def queries(self) -> Data:
        """The queries.

        Raises:
            SettingsError: there are none.
        """
        if self.query is None:
            raise not_given("query")
        return self.query

    @property
    def model_renderer(self) -> Renderer:
        """What turns conversations into the model's tokens.

        Raises:
            SettingsError: no model is given.
        """
        if self.renderer is None:
            raise no_model()
        return self.renderer


@dataclass(frozen=True, slots=True)
class ChoiceLimits:
    """What is known of a choice before anything is computed, in rows of the pool.

    ``left_out`` are not to be chosen from; ``always`` are chosen whatever they score. ``check`` refuses candidates, by
    their rows, of which no choice can keep to the constraints; it is told how many there were at first.
    """

    left_out: frozenset[int] = frozenset()
    always: tuple[int, ...] = ()
    check: Callable[[NDArray[np.int64], int], None] = lambda rows_N, n_before: None


def part_of(inputs: Inputs, rows: Sequence[int], folder: Path, **changed: Any) -> Inputs:
    """Return a run on some of the pool's rows, with a folder of its own for all that is made.

    Args:
        inputs: of the whole run.
        rows: of the pool, ascending, each once.
        folder: for the part's stores.
        changed: settings that are others for the part, such as ``checkpoints``.
    """
    settings = inputs.settings.model_copy(update={"out": str(folder), "store": None} | changed)
    pool = Data(inputs.pool.pool.part(rows), inputs.pool.quarantine)
    return replace(inputs, settings=settings, pool=pool)


def no_model() -> SettingsError:
    """Return what to say where a model is needed and none is given."""
    return SettingsError("no model given: name a folder or a model on the Hub with --model")


def model_name(settings: GradientSettings) -> str:
    """Return the name of a run's model.

    Raises:
        SettingsError: none is given.
    """
    if settings.model is None:
        raise no_model()
    return settings.model


def open_renderer(settings: Settings) -> Renderer:
    """Return what turns conversations into the model's tokens: the first look at the model, before any data is read.

    Raises:
        SettingsError: no model is given.
        ModelError: it is none, or its tokenizer cannot be used.
    """
    return load_renderer(model_name(settings), settings.template_args)


def check_max_length(settings: Settings) -> None:
    """Raise SettingsError where ``max_length`` is more than the model has positions for."""
    limit = position_limit(str(settings.model))
    if limit is not None and settings.max_length > limit:
        raise SettingsError(
            f"the model reads {limit} tokens at most, and max_length is {settings.max_length}; give "
            f"--max-length {limit} or less"
        )


def check_layers(settings: GradientSettings) -> None:
    """Raise SettingsError where ``layers`` names one that the model's configuration does not have."""
    if settings.layers == ALL:
        return
    n_layers = getattr(load_config(model_name(settings)).get_text_config(), "num_hidden_layers", None)
    if isinstance(n_layers, int):  # else it is found out when the model is loaded
        layers_among(settings.layers, n_layers)


def target_labels(settings: Settings, query: Pool) -> list[str]:
    """Return the target of every query, "" where there is but one."""
    names = [name for name, files in settings.target.items() for _ in files] or [""] * len(query.files)
    return [name for name, file in zip(names, query.files, strict=True) for _ in range(file.rows)]


def subtask_labels(settings: Settings, query: Pool) -> list[str]:
    """Return the subtask of every query; those of two targets are never the same."""
    labels = zip(target_labels(settings, query), query.column("subtask"), strict=True)
    return [f"{target}/{subtask or ''}" if target else subtask or "" for target, subtask in labels]
