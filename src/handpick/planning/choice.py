"""The last stage: the similarity and the algorithm, which the probe runs on numbers drawn at random.

Legend: Q queries, N candidates, K features, T checkpoints, B budget.
"""

import numpy as np

from handpick.algorithms import AlgorithmSettings, find, pick
from handpick.budget import Budget
from handpick.costs import probe
from handpick.costs.cost import Amount, Extent, StageCost, StageKind
from handpick.costs.machine import resident_bytes
from handpick.costs.similarity import similarity_seconds
from handpick.data.pool import Pool
from handpick.errors import SettingsError
from handpick.scorers.inputs import Inputs
from handpick.scorers.scoring_problem import fits_in_memory, is_read_many_times

_COLUMNS = 20_000  # that the algorithm chooses from


def plan_choice(inputs: Inputs, extent: Extent) -> StageCost:
    """Return what comes after the features."""
    settings, n, n_queries = inputs.settings, extent.candidates, extent.queries
    flops, seconds = 0.0, 0.0
    if extent.dim and settings.scorer.output == "features":
        flops = 2.0 * n_queries * n * extent.dim * extent.checkpoints
        seconds = similarity_seconds(settings.storage, n_queries, extent.dim) * n * extent.checkpoints
    note = settings.used_algorithm
    if "candidates" in find(settings.used_algorithm).reads and settings.kde_width != 0:
        note += ", whose own time depends on the data and is not estimated"
    else:
        again = 2 if settings.prefilter else 1  # with some of what the prefilter left out, to tell what was missed
        seconds += again * _choosing_seconds(inputs, n_queries, n)
    if settings.exclude_overlap:
        note += "; looking for overlaps is not estimated"
    chosen = _count_chosen(inputs, n)
    held, disk = resident_bytes(), round(chosen * _mean_raw(inputs.pool.pool))
    if fits_in_memory((n_queries, n)):
        held += 4 * n_queries * n
    elif is_read_many_times(settings) or settings.scorer.output == "similarity":  # else it is streamed
        disk += 4 * n_queries * n
    return StageCost(
        StageKind.CHOICE.value,
        chosen,
        None,
        flops or None,
        disk,
        held,
        Amount.exactly(seconds),
        note,
        kind=StageKind.CHOICE,
    )


def _count_chosen(inputs: Inputs, n: int) -> int:
    """Return the number of examples that will be chosen; of a budget in tokens, all at most."""
    budget = Budget.parse(inputs.settings.budget)
    if budget.kind == "tokens":
        return n
    try:
        return min(n, budget.examples_needed(len(inputs.pool.pool) if inputs.settings.prefilter else n))
    except SettingsError:  # of the records that can be used, fewer than of the pool: said by the run
        return n


def _mean_raw(pool: Pool) -> float:
    """Return the mean bytes of a record as it will be written again, over some of the pool."""
    rows = np.random.default_rng(0).integers(0, len(pool), size=min(200, len(pool))).tolist()
    return float(np.mean([len(pool.raw(row)) + 1 for row in rows]))


def _choosing_seconds(inputs: Inputs, n_queries: int, n: int) -> float:
    settings, query = inputs.settings, inputs.query
    some = min(n, _COLUMNS)
    similarity_QN = np.random.default_rng(0).standard_normal((n_queries, some), dtype=np.float32)
    budget = max(1, round(_count_chosen(inputs, n) * some / n))
    subtasks = None if query is None else [str(name or "") for name in query.pool.column("subtask")]
    own = AlgorithmSettings(**{name: getattr(settings, name) for name in AlgorithmSettings.model_fields})
    began = probe.clock()
    pick(
        similarity_QN,
        budget,
        settings.used_algorithm,
        subtasks=subtasks if subtasks is not None and len(subtasks) == n_queries else None,
        seed=settings.seed,
        balanced=settings.balanced,
        settings=own,
    )
    return (probe.clock() - began) * n / some
