"""Chosen examples that leave nothing to learn from: their answers stand behind the limit of tokens.

Most representations that read tokens refuse such records of a pool; those that read a conversation whole take them.
"""

from collections.abc import Sequence

from handpick.budget import Budget
from handpick.errors import DataError
from handpick.scorers.inputs import Inputs
from handpick.scorers.scoring_problem import Remark

_TAKEN = 1000  # examples at a time


def remark_on_answers(inputs: Inputs, chosen: Sequence[int]) -> list[Remark]:
    """Return what to say of chosen examples that training at this ``max_length`` would set aside, if there are any.

    Args:
        inputs: of the run. Where it renders nothing, or nothing looks at ``max_length``, nothing is known.
        chosen: rows of the pool.
    """
    settings, renderer, pool = inputs.settings, inputs.renderer, inputs.pool.pool
    reads_limit = "max_length" in settings.reads or Budget.parse(settings.budget).kind == "tokens"
    if renderer is None or not reads_limit:
        return []
    ids: list[str] = []
    for start in range(0, len(chosen), _TAKEN):
        for example in pool.take(chosen[start : start + _TAKEN]):
            try:
                renderer(example.messages, settings.max_length)
            except DataError:
                ids.append(example.id)
    if not ids:
        return []
    said = (
        f"{len(ids):,} of {len(chosen):,} chosen examples leave no response within --max-length "
        f"{settings.max_length:,} (the first: {ids[0]!r}), and training at that limit sets them aside: raise it, or "
        "take them out of the pool"
    )
    return [Remark("Answers within the limit", said, warns=True, detail={"ids": ids})]
