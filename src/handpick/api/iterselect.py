"""``handpick.iterselect``: what is hard for a model, found with a judge and a classifier."""

from pathlib import Path
from typing import Any

from handpick.api.handed_over import Model, Records, merge_settings, name_inputs
from handpick.choices import Dtype
from handpick.iterselecttune.run import run_iterselect
from handpick.iterselecttune.settings import IterSelectSettings, Reads, Verdicts
from handpick.selection import Selection


def iterselect(
    pool: Records,
    model: Model,
    judge: str,
    *,
    budget: int | str | None = None,
    out: str | Path | None = None,
    seed: int | None = None,
    rounds: int | None = None,
    batch: int | None = None,
    verdict: Verdicts | None = None,
    reads: Reads | None = None,
    encoder: str | Path | None = None,
    store: str | Path | None = None,
    dtype: Dtype | None = None,
    **others: Any,
) -> Selection:
    """Choose from a pool what is hard for a model (IterSelectTune); there is no task and no query set.

    Args:
        pool: what to choose from, as ``handpick.select``.
        model: the base model, whose answers are judged, as ``handpick.select``.
        judge: a model as its server knows it, ``local:PATH``, or ``rule:REWARD`` for no judge at all.
        budget: examples, or a percent of the pool; ``"20%"`` unless given.
        out: the folder for all that is written; ``runs/iterselect`` unless given.
        seed: of the diverse subset and the classifier.
        rounds: of answering, judging and training the classifier, at most.
        batch: examples that are judged a round.
        verdict: both answers side by side, or a score each.
        reads: what the classifier and the embeddings read of an example: ``"prompt"`` unless given, or
            ``"conversation"``, with the answer.
        encoder: the sentence encoder.
        store: the pool's embeddings, where they are made already.
        dtype: what the models compute in.
        others: any other field of ``handpick.iterselecttune.settings.IterSelectSettings``.

    Returns:
        The selection; it is also written to ``out``, with the figures of every round.

    Raises:
        HandpickError: of the kind that fits what is wrong; what was computed is kept, and the same call goes on.
    """
    values = merge_settings(
        pool=pool, model=model, judge=judge, budget=None if budget is None else str(budget), out=out, seed=seed,
        rounds=rounds, batch=batch, verdict=verdict, reads=reads, encoder=encoder, store=store, dtype=dtype, **others,
    )  # fmt: skip
    with name_inputs(values) as plain:
        return run_iterselect(IterSelectSettings.from_values(plain)).selection
