"""The cells of a study, in the order in which they are done: those that decide come first."""

from handpick.algorithms import AlgorithmSettings
from handpick.budget import Budget
from handpick.data.pool import Pool
from handpick.studies.cells import FULL, RANDOM, ZERO_SHOT, CellKey
from handpick.studies.settings import StudySettings


def budgets_of(study: StudySettings, pool: Pool) -> list[int]:
    """Return the budgets in examples, the smallest first; one that is larger than the pool stays as it is."""
    counts = [Budget.parse(budget) for budget in study.budgets]
    sizes = [int(b.amount) if b.kind == "examples" else b.examples_needed(len(pool)) for b in counts]
    return sorted(set(sizes))


def grid(study: StudySettings, pool: Pool) -> list[CellKey]:
    """Return all cells: of each model zero-shot, then by budget, seed, method and target.

    Then quantiles, then the full pool.

    A random draw is trained on once, with its own number as the seed; the full pool once, with the first seed.
    """
    places: list[CellKey] = []
    for model in study.models:
        if ZERO_SHOT in study.baselines:
            places += [CellKey(model, ZERO_SHOT, target, None, None, 0) for target in study.targets]
        for budget in budgets_of(study, pool):
            for number in range(max(len(study.seeds), study.draws)):
                for method in study.chosen_by:
                    seeds = range(study.draws) if method == RANDOM else study.seeds
                    if number < len(seeds):
                        places += [CellKey(model, method, t, budget, None, seeds[number]) for t in study.targets]
        if study.quantiles is not None:
            for seed in study.seeds:
                for method in quantile_methods(study):
                    for target in study.targets:
                        each = study.quantiles.each
                        places += [CellKey(model, method, target, each, q, seed) for q in range(study.quantiles.bins)]
        if FULL in study.baselines:
            places += [CellKey(model, FULL, target, None, None, study.seeds[0]) for target in study.targets]
    return places


def quantile_methods(study: StudySettings) -> list[str]:
    """Return the methods that order the pool by nearness to queries, one per representation and optimizer.

    A selection that was made elsewhere orders no pool, and has no quantiles.
    """
    found: dict[tuple[object, ...], str] = {}
    for method in study.chosen_by:
        if study.selection_of(method) is not None:
            continue
        settings = study.method(method, {"query": ["…"]})
        if settings.scorer.output in ("features", "similarity"):
            of = (settings.used_representation, settings.used_optimizer, *map(repr, _own(study, method)))
            found.setdefault(of, method)
    return list(found.values())


def _own(study: StudySettings, method: str) -> list[object]:
    """Return what is said of a method besides the algorithm, which quantiles replace."""
    own = study.methods.get(method, {})
    return [
        (name, own[name])
        for name in sorted(own)
        if name not in ("method", "algorithm", *AlgorithmSettings.model_fields)
    ]


def quantile_of(ids: list[str], bins: int, quantile: int, each: int) -> list[str]:
    """Return the first ``each`` of a slice of an order cut into ``bins`` of equal size (but for one example)."""
    start, stop = len(ids) * quantile // bins, len(ids) * (quantile + 1) // bins
    return ids[start : min(stop, start + each)]
