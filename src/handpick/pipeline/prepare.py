"""A run before its work: everything opened, and everything checked that can be.

``select``, ``plan select`` and a study's choices all begin here, and so refuse the same settings with the same words.
What is small is looked at first, since a pool may take an hour to read.
"""

import tempfile
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from handpick.budget import Budget
from handpick.data.pool import Pool
from handpick.data.quarantine import Quarantine
from handpick.data.reading import check_columns
from handpick.data.unwritten import count_unwritten, report_unwritten
from handpick.errors import DataError, SettingsError
from handpick.executors import Executor, executor_for, smallest_device
from handpick.files import remove_left_overs
from handpick.layout import DataLayout, RunLayout
from handpick.model import MODEL_CONFIG, has_bfloat16
from handpick.objectives.judge_fields import JUDGE_FIELDS
from handpick.overlap import find_overlaps
from handpick.own_folder import check_inputs
from handpick.pipeline.apply_constraints import check_constraints, limits_of
from handpick.progress import log
from handpick.scorers.gradient_encoder import tokens_per_batch
from handpick.scorers.inputs import Data, Inputs, UserObjects, open_renderer, subtask_labels, target_labels
from handpick.scorers.provenance import parsed_records
from handpick.scorers.scorer import Scorer, no_features, open_scorer
from handpick.scorers.scoring_problem import ScoringProblem
from handpick.settings import Settings, not_given


@dataclass(frozen=True, slots=True)
class PreparedRun:
    """All that a choice needs; ``left_out`` are rows of the pool that are not to be chosen from."""

    inputs: Inputs
    scorer: Scorer
    budget: Budget
    left_out: frozenset[int] = frozenset()

    def run_stages(self, executor: Executor) -> ScoringProblem:
        """Compute what is missing, and return what to choose by.

        Args:
            executor: who makes features.

        Raises:
            HandpickError: as the stages.
        """
        for stage in self.scorer.stages():
            stage.run(executor)
        problem = self.scorer.problem()
        return problem.drop_rows(self.left_out) if self.left_out else problem


def executor_of(settings: Settings, *, by_share: bool = False) -> Executor:
    """Return who makes a run's features. Entered before the run is prepared, its workers load meanwhile.

    Args:
        settings: of the run.
        by_share: whether several processes of a launcher may run this, a share of the features each.

    Raises:
        SettingsError: as ``executor_for``, or it is no work of ranks.
    """
    imports = ["datasets", *(spec.load.partition(":")[0] for spec in settings.scorers)]
    if "model" in settings.needs:
        trains = any("lora_targets" in spec.reads for spec in settings.scorers)
        imports += ["transformers.modeling_utils", *(["peft"] if trains else [])]
    executor = executor_for(imports=imports, shard_model=settings.shard_model, **settings.who_computes)
    if executor.rank is not None and not by_share:
        raise SettingsError(
            "--engine ranks shares the features of a pool out, and this has more to do than those: run `handpick "
            "represent` so, and then `handpick select --store` in one process"
        )
    return executor


def decide_for_workers(settings: Settings, executor: Executor) -> Settings:
    """Return settings in which what a device decides is decided by the smallest that computes.

    They are as they were where that is what this process would decide for itself.

    Args:
        settings: of a run.
        executor: who will compute; its workers are waited for where anything is left open.

    Raises:
        HandpickError: no worker can start, or one does not fit.
    """
    is_open = settings.dtype == "auto" or settings.batch_tokens is None
    if not is_open or "batch_tokens" not in settings.reads or not (devices := executor.devices()):
        return settings
    smallest = smallest_device(devices)
    decided: dict[str, Any] = {}
    if settings.dtype == "auto" and smallest.has_bfloat16 != has_bfloat16():
        decided["dtype"] = "bfloat16" if smallest.has_bfloat16 else "float32"
    tokens = tokens_per_batch(settings, smallest.kind)
    if tokens != tokens_per_batch(settings):
        decided["batch_tokens"] = tokens
    if decided:
        said = ", ".join(f"{name} {value}" for name, value in decided.items())
        log(f"the workers compute on other devices than this process, and have {said}")
    return settings.model_copy(update=decided)


def prepare_run(settings: Settings, own: UserObjects | None = None, exclude_ids: Collection[str] = ()) -> PreparedRun:
    """Open and check a selection that is about to be made.

    Args:
        settings: of the run.
        own: what the user handed over in Python.
        exclude_ids: ids of the pool that are not to be chosen from.

    Raises:
        HandpickError: of the kind that fits what is wrong.
    """
    remove_left_overs(settings.folder)
    prepared = open_run(settings, own, DataLayout(settings.folder))
    settings, pool = prepared.inputs.settings, prepared.inputs.pool.pool
    RunLayout(settings.folder).overlap.unlink(missing_ok=True)  # of an earlier run
    left_out = _find_overlapping_rows(settings, pool) if settings.exclude_overlap else set()
    if exclude_ids:
        left_out |= {row for row, example_id in enumerate(pool.ids()) if example_id in exclude_ids}
    check_constraints(settings, pool, left_out)
    prepared.scorer.constrain(limits_of(settings, pool, left_out))
    if settings.unused_settings:
        log(f"with these settings nothing looks at {', '.join(settings.unused_settings)}")
    return PreparedRun(prepared.inputs, prepared.scorer, prepared.budget, frozenset(left_out))


def prepare_plan(settings: Settings, scratch: Path) -> PreparedRun:
    """Open and check a selection that is only planned: as ``prepare_run``, and nothing is written but parsed records.

    Args:
        settings: of the run.
        scratch: where records that cannot be used are listed meanwhile.

    Raises:
        HandpickError: what ``prepare_run`` would raise.
    """
    prepared = open_run(settings, None, DataLayout(scratch))
    for test_set in settings.exclude_overlap:
        Pool.open(
            [test_set],
            cache=parsed_records(settings),
            quarantine=Quarantine(DataLayout(scratch).quarantine("test")),
            reading=settings.reading,
        )
    check_constraints(settings, prepared.inputs.pool.pool, set())
    return prepared


def open_run(settings: Settings, own: UserObjects | None, bad: DataLayout) -> PreparedRun:
    """Open a selection's data, model and scorer; ``bad`` is where records that cannot be used are listed."""
    needs = settings.needs
    executor_of(settings)  # refuses what it cannot do
    budget = Budget.parse(settings.budget)
    if budget.kind == "tokens" and settings.model is None:
        raise SettingsError("a budget in tokens is counted with the model's tokenizer: name one with --model")
    if "query" in needs and not settings.sources:  # before the model's tokenizer is loaded
        raise not_given("query")
    if not settings.pool:
        raise not_given("pool")
    check_inputs(RunLayout(settings.folder), data_of(settings), files_of(settings))
    counts = needs & {"model", "tokenizer"} or budget.kind == "tokens"
    renderer = open_renderer(settings) if counts else None
    query = open_data("query", settings.sources, settings, bad) if "query" in needs else None
    if query is not None:
        check_queries(settings, query.pool)
    pool = open_data("pool", settings.pool, settings, bad)
    check_columns(settings.reading, [each.pool.columns for each in (query, pool) if each is not None])
    scorer = open_scorer(Inputs(settings, pool, query, renderer, own or UserObjects()))
    scorer.preflight()
    _say_unwritten(scorer.inputs, bad)
    return PreparedRun(scorer.inputs, scorer, budget)


def open_pool_run(settings: Settings, bad: DataLayout) -> PreparedRun:
    """Open what makes the features of a pool alone, for ``represent`` and its plan.

    With ``shard_model`` it makes those of queries too, where there are any.

    Raises:
        SettingsError: the representation has no features, or makes them for queries.
        HandpickError: as ``open_run``.
    """
    spec = settings.scorer
    if not spec.has_pool_features:
        raise no_features(settings)
    if settings.score_only:
        raise SettingsError("score_only is for a selection: `represent` is there to keep the features")
    if settings.prefilter:
        raise SettingsError("a prefilter is for a selection: `represent` makes the features of the whole pool")
    if not settings.pool:
        raise not_given("pool")
    executor_of(settings, by_share=True)  # refuses what it cannot do
    check_inputs(RunLayout(settings.folder), data_of(settings), files_of(settings))
    renderer = open_renderer(settings) if spec.needs & {"model", "tokenizer"} else None
    query = open_data("query", settings.sources, settings, bad) if settings.shard_model and settings.sources else None
    if query is not None:
        check_queries(settings, query.pool)
    pool = open_data("pool", settings.pool, settings, bad)
    check_columns(settings.reading, [each.pool.columns for each in (query, pool) if each is not None])
    scorer = open_scorer(Inputs(settings, pool, query, renderer))
    scorer.preflight()
    _say_unwritten(scorer.inputs, bad)
    return PreparedRun(scorer.inputs, scorer, Budget.parse(settings.budget))


def data_of(settings: Settings) -> dict[str, Any]:
    """Return the sources that a run reads its data from, by the settings that name them."""
    return {name: getattr(settings, name) for name in ("pool", "query", "target", "exclude_overlap")}


def files_of(settings: Settings) -> dict[str, Any]:
    """Return the settings of a run that may name a file, but for its data."""
    named = {name: getattr(settings, name) for name in ("always", "reward", "representation", "prefilter")}
    named |= {"judge_prompt": getattr(settings, JUDGE_FIELDS["prompt"])}
    if settings.model is not None and Path(settings.model).resolve() != RunLayout(settings.folder).model.resolve():
        named["model"] = Path(settings.model) / MODEL_CONFIG  # the folder of a model that was trained on it is no run's
    return named


def _say_unwritten(inputs: Inputs, layout: DataLayout) -> None:
    """Say and keep what the records carry and the chat template does not write, where the run renders any."""
    pools = {"pool": inputs.pool.pool} | ({} if inputs.query is None else {"query": inputs.query.pool})
    found = {} if inputs.renderer is None else {name: count_unwritten(p, inputs.renderer) for name, p in pools.items()}
    report_unwritten(found, layout.unwritten)


def open_data(name: str, sources: Sequence[str], settings: Settings, bad: DataLayout) -> Data:
    """Return a pool or queries, read and parsed.

    Raises:
        SettingsError: none are named.
        DataError: they cannot be read.
    """
    if not sources:
        raise not_given(name)
    path = bad.quarantine(None if name == "pool" else name)
    quarantine = Quarantine(path, settings.max_quarantined, each_once=bool(settings.prefilter))
    unwanted = settings.unwanted_queries if name == "query" else "aside"
    opened = Pool.open(
        list(sources),
        cache=parsed_records(settings),
        quarantine=quarantine,
        reading=settings.reading,
        unwanted=unwanted,
    )
    for sentence in opened.judged.sentences():
        log(f"{name}: {sentence}")
    if unwanted != "pair" and (n := opened.pairs):
        log(
            f"{name}: {n:,} record{'s are pairs' if n != 1 else ' is a pair'} of a preferred and a rejected answer, of "
            "which the preferred one is read"
        )
    return Data(opened, quarantine)


def check_queries(settings: Settings, query: Pool) -> None:
    """Look at the queries of all targets together, and of each by itself.

    Raises:
        DataError: two targets have an id in common, or no record of a target can be read.
        SettingsError: there is nothing to balance.
    """
    if len(settings.target) > 1:
        _check_targets_ids(settings)
    if settings.balanced:
        _check_balanced(settings, query)


def _check_targets_ids(settings: Settings) -> None:
    """Look at every target by itself, without a trace in the run's folder but the parsed records.

    Raises:
        DataError: two targets have an id in common, so that the second's query would be taken for a repetition; or
            no record of a target can be read.
    """
    target_of: dict[str, str] = {}
    for target, files in settings.target.items():
        for query_id in _ids_of(target, files, settings):
            if target_of.setdefault(query_id, target) != target:
                raise DataError(
                    f"the targets {target_of[query_id]!r} and {target!r} both have a query {query_id!r}; give every "
                    "query an id of its own"
                )


def _ids_of(target: str, files: list[str], settings: Settings) -> list[str]:
    with tempfile.TemporaryDirectory() as folder:  # bad records stand in the quarantine of all queries together
        quarantine = Quarantine(DataLayout(Path(folder)).quarantine())
        try:
            return Pool.open(
                files,
                cache=parsed_records(settings),
                quarantine=quarantine,
                reading=settings.reading,
                unwanted=settings.unwanted_queries,
            ).ids()
        except DataError as error:
            raise DataError(
                f"no query of the target {target!r} can be used: no record of {', '.join(files)} can be read; mend "
                "them, or leave the target out"
            ) from error


def _check_balanced(settings: Settings, query: Pool) -> None:
    """Raise SettingsError where the queries of every budget are of one subtask: to balance them would do nothing."""
    subtasks_of: dict[str, set[str]] = {}
    for target, subtask in zip(target_labels(settings, query), subtask_labels(settings, query), strict=True):
        subtasks_of.setdefault(target if settings.splits_budget else "", set()).add(subtask)
    if max(map(len, subtasks_of.values())) < 2:
        raise SettingsError(
            "balanced counts every subtask of the queries the same, and they have fewer than two: name each query's in "
            "its field `subtask`, or leave balanced out"
        )


def _find_overlapping_rows(settings: Settings, pool: Pool) -> set[int]:
    """Find the rows that repeat an item of the test sets; each is written to overlap.jsonl with the item."""
    found = find_overlaps(pool, settings.exclude_overlap, settings.folder, settings.overlap_threshold, settings.reading)
    rows = {each.row for each in found}
    log(
        f"{len(rows):,} examples repeat an item of the test sets and are left out: {RunLayout(settings.folder).overlap}"
    )
    if len(rows) == len(pool):
        raise DataError("every example of the pool repeats an item of the test sets: nothing is left to choose from")
    return rows
