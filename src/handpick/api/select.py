"""``handpick.select`` and ``handpick.represent_pool``: choosing from a pool, or building its features alone."""

from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, TypeAlias

from handpick.api.handed_over import Files, Model, Records, merge_settings, name_inputs
from handpick.auditions.chosen import run_auto
from handpick.auditions.settings import AuditionSettings
from handpick.choices import Dtype
from handpick.data.render import Renderer
from handpick.errors import SettingsError
from handpick.in_memory import PREFIX, is_in_memory
from handpick.methods import AUTO
from handpick.objectives.protocol import Objective
from handpick.pipeline.run import run_represent, run_select
from handpick.rewards import wrap
from handpick.scorers.inputs import UserObjects
from handpick.selection import Selection
from handpick.settings import Settings, parse_settings
from handpick.store import FeatureStore
from handpick.training.settings import WarmupSettings

Warmup: TypeAlias = Literal["auto", "less", "small", "none"] | Mapping[str, Any] | WarmupSettings


def select(
    pool: Records | None = None,
    query: Records | None = None,
    model: Model | None = None,
    *,
    method: str | None = None,
    budget: int | str | None = None,
    algorithm: str | None = None,
    representation: str | None = None,
    target: Mapping[str, Records] | None = None,
    out: str | Path | None = None,
    store: str | Path | None = None,
    checkpoints: Files | None = None,
    warmup: Warmup | None = None,
    seed: int | None = None,
    max_length: int | None = None,
    dtype: Dtype | None = None,
    workers: int | None = None,
    reward: str | Callable[..., Any] | None = None,
    objective: str | Callable[[Renderer, int], Objective] | None = None,
    settings: Settings | None = None,
    audition: Mapping[str, Any] | None = None,
    **others: Any,
) -> Selection:
    """Choose from a pool the examples that teach a model the task that a query set shows.

    Records and models may be in memory. An equal call goes on from what an earlier one left in ``out``.

    Args:
        pool: what to choose from: files, a data set on the Hub, a list of records or a ``datasets.Dataset``.
        query: the few examples of the task, likewise.
        model: the base model: a folder, a name on the Hub, or (module, tokenizer), of which a copy is worked on.
        method: see ``handpick methods``; ``less-rr`` unless given; ``auto`` finds out which helps
            (``handpick.audition``).
        budget: ``1000``, which it is unless given, ``"5%"`` or ``"2M tokens"``.
        algorithm: instead of the method's own.
        representation: instead of the method's own.
        target: instead of ``query``: those of several tasks, by name, which share the budget.
        out: the folder for all that is written; ``runs/`` and the name of the query unless given.
        store: a folder of features to start from, instead of a pool.
        checkpoints: LoRA checkpoints to use instead of a warmup.
        warmup: how the adapter is trained first.
        seed: of every random choice.
        max_length: tokens of a conversation that are kept.
        dtype: what the model computes in.
        workers: processes that make features; this one unless given. A script that gives it needs
            ``if __name__ == "__main__":`` around its calls.
        reward: for ``method="nice"``: a name as on the command line, or any ``(prompts, completions, records) ->
            scores``: messages without the answer, answers, and the queries' records as they stood in their file.
        objective: of the query side, instead of the method's: a name, or ``(renderer, max_length) -> Objective`` that
            makes one of your own (``handpick.objectives.protocol``).
        settings: a whole ``handpick.Settings``, which what is given beside it replaces.
        audition: with ``method="auto"``, fields of ``handpick.auditions.settings.AuditionSettings``.
        others: any other field of ``handpick.Settings``.

    Returns:
        The selection; it is also written to ``out``.

    Raises:
        HandpickError: of the kind that fits what is wrong (see ``handpick.errors``).
    """
    own = UserObjects(wrap(reward) if callable(reward) else None, objective if callable(objective) else None)
    values = merge_settings(
        settings, pool=pool, query=query, model=model, method=method, budget=budget, algorithm=algorithm,
        representation=representation, target=target, out=out, store=store, checkpoints=checkpoints, warmup=warmup,
        seed=seed, max_length=max_length, dtype=dtype, workers=workers,
        reward=own.reward.name if own.reward else reward, objective=None if own.objective else objective, **others,
    )  # fmt: skip
    if method == AUTO:
        if own.reward is not None or own.objective is not None:
            raise SettingsError("an audition reads files: a reward or objective of your own has no name there")
        with name_inputs(values) as plain:
            return run_auto(plain, AuditionSettings.from_values(audition or {})).selection
    if audition is not None:
        raise SettingsError('audition is for method="auto": leave it out')
    with checked_settings(values) as used:
        return run_select(used, own).selection


def represent_pool(
    pool: Records | None = None,
    model: Model | None = None,
    *,
    method: str | None = None,
    representation: str | None = None,
    out: str | Path | None = None,
    checkpoints: Files | None = None,
    warmup: Warmup | None = None,
    seed: int | None = None,
    max_length: int | None = None,
    dtype: Dtype | None = None,
    settings: Settings | None = None,
    **others: Any,
) -> FeatureStore:
    """Build the feature store of a pool alone; ``select(store=…)`` starts from it.

    Args:
        pool: as ``select`` takes it, like all that follows but for ``out``.
        model: the base model.
        method: of which the representation is taken.
        representation: instead of the method's own.
        out: the folder for all that is written; ``runs/features`` unless given.
        checkpoints: LoRA checkpoints to use instead of a warmup.
        warmup: how the adapter is trained first.
        seed: of every random choice.
        max_length: tokens of a conversation that are kept.
        dtype: what the model computes in.
        settings: a whole ``handpick.Settings``, which what is given beside it replaces.
        others: any other field of ``handpick.Settings``.

    Returns:
        The store, ``features/pool`` in that folder, or ``features/pool-NAME`` of another representation.

    Raises:
        HandpickError: of the kind that fits what is wrong (see ``handpick.errors``).
    """
    values = merge_settings(
        settings, pool=pool, model=model, method=method, representation=representation, out=out,
        checkpoints=checkpoints, warmup=warmup, seed=seed, max_length=max_length, dtype=dtype, **others,
    )  # fmt: skip
    with checked_settings(values) as used:
        return run_represent(used)


@contextmanager
def checked_settings(values: Mapping[str, Any]) -> Generator[Settings]:
    """Yield checked settings in which what is in memory has names, known inside.

    Raises:
        SettingsError: a name is unknown, a value is wrong, or vLLM is to draw from a model in memory.
        ModelError: a model in memory cannot be used.
    """
    with name_inputs(values) as plain:
        query: Sequence[str] = plain.get("query", ())
        if query and is_in_memory(query[0]):
            plain.setdefault("out", f"runs/{query[0].removeprefix(PREFIX)}")
        used = parse_settings(plain)
        if used.sampler == "vllm" and is_in_memory(used.model):
            raise SettingsError(
                "vLLM reads a model from its folder: save the model and name that, or leave sampler out"
            )
        yield used
