"""``handpick iterselect``, from settings to a selection.

    pool ─► embeddings ─► clusters ─► diverse subset ─► rounds: take, answer, judge, train ─► fill the budget

Source: IterSelectTune (arXiv 2410.13464).
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from numpy.typing import NDArray

from handpick.budget import Budget
from handpick.data.pool import Pool
from handpick.data.reading import ReadingSettings
from handpick.data.unwritten import count_unwritten, report_unwritten
from handpick.documents import DAMAGED, reading
from handpick.errors import DataError, FingerprintMismatch, SettingsError, StoreError
from handpick.executors import executor_for, rows_of
from handpick.files import atomic_write, read_array, write_array
from handpick.fingerprint import Fingerprint, digest, require_same
from handpick.in_memory import named_in_memory
from handpick.iterselecttune.answering import Answering
from handpick.iterselecttune.diversity import clusters, interleave_clusters
from handpick.iterselecttune.encoder import encoder_fingerprint
from handpick.iterselecttune.estimate import ExpectedWork, estimate_work
from handpick.iterselecttune.filling import fill_budget
from handpick.iterselecttune.hardness import pool_hardness
from handpick.iterselecttune.judging import Judging, find_judging
from handpick.iterselecttune.reads import READ_AS, reads_fingerprint
from handpick.iterselecttune.rounds import Rounds, RoundsOutcome, Subset
from handpick.iterselecttune.score import ScoredCandidate
from handpick.iterselecttune.settings import READS_UNSAID, IterSelectSettings, written_settings
from handpick.layout import DataLayout, IterSelectLayout
from handpick.methods import ITERSELECT
from handpick.model import device
from handpick.own_folder import check_inputs
from handpick.pipeline.prepare import open_data
from handpick.progress import collect_timings, log, progress
from handpick.run_place import fetch_place, hold_place
from handpick.scorers.inputs import Data, Inputs
from handpick.scorers.provenance import resume_from_store, stored_representation
from handpick.scorers.row_scorer import open_encoder
from handpick.scorers.scorer import open_scorer
from handpick.sealed import unseal, write_sealed
from handpick.selection import Selection
from handpick.settings import Settings
from handpick.store import FeatureStore
from handpick.store.codec import Floats
from handpick.store.manifest import contents_of


@dataclass(frozen=True, slots=True)
class IterPick:
    """One of the chosen: its row in the embeddings' store, and what spoke for it.

    ``how``: "judged" hard, "inferred", or "easy": judged easy, and taken since nothing else was left. ``nearest`` is
    the row of the hard example it was nearest to, -1 where there was none.
    """

    row: int
    how: str
    round: int | None
    hardness: float | None
    cosine: float | None
    score: float
    nearest: int


@dataclass(frozen=True, slots=True)
class IterRun:
    """A finished selection, the figures of every round, and what the judge took."""

    selection: Selection
    picks: list[IterPick]
    figures: list[dict[str, Any]]
    judging: dict[str, Any]


class PreparedIterSelect:
    """A run that is checked and has its pool open, before anything costly.

    Args:
        settings: of the run.

    Raises:
        HandpickError: of the kind that fits what is wrong; nothing was computed.
    """

    def __init__(self, settings: IterSelectSettings) -> None:
        self.settings = settings
        fetch_place(settings.out, needed=False)  # before anything is written here
        self._of_embeddings = _embedding_settings(settings)
        self._executor = executor_for(**settings.who_computes)
        named = {"judge": settings.judge, "judge_prompt": [settings.judging.prompt] if settings.judging.prompt else []}
        check_inputs(settings.layout, {"pool": settings.pool}, named)
        self.judging: Judging = find_judging(settings)
        self.answering = Answering(settings)
        self._space = open_encoder(self._of_embeddings, None).space()  # what cannot be found is said now
        self._encoder = encoder_fingerprint(settings.classifier.model)
        self._data: Data = open_data("pool", settings.pool, self._of_embeddings, DataLayout(self._of_embeddings.folder))
        self.pool: Pool = self._data.pool
        Budget.parse(settings.budget).examples_needed(len(self.pool))
        self._inputs = self._fingerprint()
        self._check_same_run()
        self.expected: ExpectedWork = estimate_work(settings, self.pool, self.judging)
        unwritten = count_unwritten(self.pool, self.answering.renderer)
        report_unwritten({"pool": unwritten}, settings.layout.unwritten)

    def run(self) -> IterRun:
        """Run everything, from where an earlier run of the same folder stopped.

        Raises:
            HandpickError: of the kind that fits what is wrong; what was computed is kept.
        """
        layout = self.settings.layout
        with hold_place(self.settings.out):
            with collect_timings() as seconds:
                run = self._run(layout)
            cost = {"seconds": seconds, "device": str(device()), "threads": torch.get_num_threads()}
            _write_json(layout.cost, cost)
        return run

    def _run(self, layout: IterSelectLayout) -> IterRun:
        settings = self.settings
        layout.folder.mkdir(parents=True, exist_ok=True)
        write_sealed(layout.plan, {"inputs": self._inputs})
        self._write_settings(layout.iterselect_settings)
        store = self._embed_pool()
        Budget.parse(settings.budget).examples_needed(len(store))  # of those that can be used
        embeddings_ND = store.array(0)
        pool_row_N = rows_of(store, self.pool)
        subset = self._subset(layout, embeddings_ND, pool_row_N)
        outcome = Rounds(settings, subset, self.answering, self.judging).run()
        _write_json(layout.figures, outcome.figures)
        judging = self._judge_usage()
        _write_json(layout.judging, judging)
        picks = self._picks(outcome, subset, store, embeddings_ND)
        selection = self._selection(picks, store.ids, pool_row_N)
        selection.save(layout.folder)
        lines = (json.dumps(line, ensure_ascii=False) + "\n" for line in _explain_picks(picks, store.ids))
        atomic_write(layout.explained, "".join(lines).encode())
        return IterRun(selection, picks, outcome.figures, judging)

    def _write_settings(self, path: Path) -> None:
        if memory := named_in_memory(settings := written_settings(self.settings)):
            path.unlink(missing_ok=True)  # of an earlier run
            log(f"no {path.name}: no file can name a {' and a '.join(memory)} that was handed over in Python")
            return
        atomic_write(path, yaml.safe_dump(settings, sort_keys=False).encode())

    def _embed_pool(self) -> FeatureStore:
        scorer = open_scorer(Inputs(self._of_embeddings, self._data))
        for stage in scorer.stages():
            stage.run(self._executor)
        return scorer.pool_features()

    def _subset(self, layout: IterSelectLayout, embeddings_ND: Any, pool_row_N: NDArray[np.int64]) -> Subset:
        """Choose the diverse subset: of every cluster in turn what the base model can be asked."""
        path = layout.diverse
        if path.exists():
            with reading(path, StoreError, "remove it, and run the same again"):
                rows = read_array(path)
                if (
                    rows.ndim != 1
                    or rows.dtype != np.int64
                    or (len(rows) and not 0 <= rows.min() <= rows.max() < len(pool_row_N))
                ):
                    raise ValueError("it holds no rows of the embeddings")
        else:
            log(f"k-means: {min(self.settings.clusters, len(pool_row_N))} clusters of {len(pool_row_N):,} embeddings")
            order_N = interleave_clusters(
                clusters(embeddings_ND, self.settings.clusters, self.settings.seed), self.settings.seed
            )
            rows = np.array(list(self._iterate_askable(order_N, pool_row_N)), dtype=np.int64)
            if not len(rows):
                raise DataError("no example of the pool has a prompt that leaves the model room for an answer")
            write_array(path, rows)
        examples = [self.pool[int(row)] for row in pool_row_N[rows]]
        return Subset(examples, rows, np.asarray(embeddings_ND[rows], dtype=np.float32))

    def _iterate_askable(self, order_N: NDArray[np.int64], pool_row_N: NDArray[np.int64]) -> Iterator[int]:
        n = min(self.settings.n_diverse, len(order_N))
        found, refused, first = 0, 0, ""
        with progress("the diverse subset", total=n) as advance:
            for row in order_N.tolist():
                if found == n:
                    break
                example = self.pool[int(pool_row_N[row])]
                if not self.answering.can_answer(example):
                    continue
                try:
                    self.judging.check(json.loads(example.raw))
                except DataError as error:
                    refused, first = refused + 1, first or str(error)
                    continue
                found += 1
                advance(1)
                yield row
        if refused and not found:
            raise DataError(f"{first} (none of the {refused:,} examples that the model can answer can be judged)")
        if refused:
            log(f"{refused:,} examples that cannot be judged are passed over; the first: {first}")

    def _picks(self, outcome: RoundsOutcome, subset: Subset, store: FeatureStore, embeddings_ND: Any) -> list[IterPick]:
        """Return what was judged hard, in the order in which it was taken; then what is most like it; then the easy."""
        judged = {
            hard: [e for e, is_hard in outcome.labelled.with_verdict() if is_hard == hard] for hard in (True, False)
        }
        if not judged[True]:
            raise DataError(
                f"none of the {len(outcome.labelled.taken):,} judged examples is hard for {self.settings.model}, so "
                "there is nothing to choose by: give a better judge or a higher --hard-below, or judge more"
            )
        found = {
            hard: [
                _pick(e.scored, int(subset.rows[e.place]), "judged" if hard else "easy", e.round) for e in judged[hard]
            ]
            for hard in (True, False)
        }
        n = Budget.parse(self.settings.budget).examples_needed(len(store))
        if len(found[True]) > n:
            log(f"{len(found[True]):,} examples are judged hard, more than the budget: the first {n:,} are taken")
        rows = {hard: np.array([pick.row for pick in found[hard]], dtype=np.int64) for hard in (True, False)}
        inferred: list[ScoredCandidate] = []
        if n > len(found[True]):
            inferred = fill_budget(
                self._hardness(outcome, store),
                embeddings_ND,
                rows[True],
                rows[False],
                alpha=self.settings.alpha,
                n=n - len(found[True]),
                batch=self.settings.batch,
            )
        more = [_pick(each, each.row, "inferred", None) for each in inferred]
        return [*found[True], *more, *found[False]][:n]

    def _hardness(self, outcome: RoundsOutcome, store: FeatureStore) -> Floats | None:
        if outcome.classifier is None:
            log("there is no classifier, so the budget is filled by likeness to the hard examples alone")
            return None
        classifier = outcome.classifier
        path = self.settings.layout.hardness_store(digest(classifier.fingerprint()))
        return pool_hardness(
            classifier,
            self.pool,
            store.ids,
            path,
            self._of_embeddings.shard_rows,
            self.settings.reads,
            self._executor,
        )

    def _selection(self, picks: Sequence[IterPick], ids: Sequence[str], pool_row_N: NDArray[np.int64]) -> Selection:
        rows = [int(pool_row_N[pick.row]) for pick in picks]
        return Selection(
            ids=[ids[pick.row] for pick in picks],
            scores=[pick.score for pick in picks],
            picked_for=[ids[pick.nearest] if pick.nearest >= 0 else None for pick in picks],
            settings={"method": ITERSELECT, **written_settings(self.settings)},
            fingerprints={"pool": {"files": contents_of(self.pool.files)}, ITERSELECT: self._inputs},
            record=lambda choice: self.pool.raw(rows[choice]),
            origins=[self.pool.location(row) for row in rows],
        )

    def _judge_usage(self) -> dict[str, Any]:
        used = self.judging.used
        return {
            "judge": self.settings.judge,
            "calls": used.calls,
            "tokens_in": used.tokens_in,
            "tokens_out": used.tokens_out,
            "cost": self.judging.cost(used),
            "whole_pool_calls": self.judging.calls_each * len(self.pool),
        }

    def _fingerprint(self) -> Fingerprint:
        """Return what decides the rounds; not how many there are, nor the budget, nor the caps."""
        settings = self.settings
        return {
            "pool": contents_of(self.pool.files),
            **reads_fingerprint(settings.reads),
            "embeddings": self._space,
            "answers": self.answering.fingerprint,
            "judge": self.judging.fingerprint(),
            "seed": settings.seed,
            "alpha": settings.alpha,
            "batch": settings.batch,
            "clusters": settings.clusters,
            "diverse": settings.n_diverse,
            "encoder": self._encoder,
            "classifier": settings.classifier.model_dump(mode="json", exclude={"model"}),
        }

    def _check_same_run(self) -> None:
        """Refuse to go on in the folder of another run.

        Raises:
            FingerprintMismatch: it was another.
            StoreError: its plan is damaged.
        """
        path = self.settings.layout.plan
        try:
            inputs = dict(unseal(json.loads(path.read_bytes()))["inputs"])
        except FileNotFoundError:
            return
        except DAMAGED as error:
            raise StoreError(f"{path} is damaged ({error}); remove the folder, or give another --out") from error
        there, here = inputs.get("reads", READS_UNSAID), self.settings.reads
        if there != here:
            raise FingerprintMismatch(
                f"the run in {self.settings.folder} was begun with --reads {there}, and this one has --reads {here}: "
                f"give --reads {there} to go on with it, or another --out"
            )
        require_same(inputs, self._inputs, what=f"the run in {self.settings.folder}")


def _pick(scored: ScoredCandidate, row: int, how: str, number: int | None) -> IterPick:
    return IterPick(row, how, number, scored.hardness, scored.cosine, scored.score, scored.nearest)


def run_iterselect(settings: IterSelectSettings) -> IterRun:
    """Choose what is hard for the base model; says first what it will take.

    Raises:
        HandpickError: of the kind that fits what is wrong; what was computed is kept, and the same call goes on.
    """
    prepared = PreparedIterSelect(settings)
    for line in prepared.expected.lines():
        log(line)
    return prepared.run()


def _embedding_settings(settings: IterSelectSettings) -> Settings:
    """Return the settings under which the pool's embeddings would be made, or are made already.

    Raises:
        SettingsError: the store holds something else.
    """
    wanted = READ_AS[settings.reads].representation
    if settings.store is not None and (there := stored_representation(settings.store)) != wanted:
        fits = [f"give --reads {reads}, or " for reads, each in READ_AS.items() if each.representation == there]
        raise SettingsError(
            f"the store {settings.store} holds {there} features, and --reads {settings.reads} takes {wanted}: "
            f"{''.join(fits)}name one that `handpick represent --representation {wanted}` made"
        )
    given: dict[str, Any] = {
        "method": "embed",
        "pool": settings.pool,
        "out": str(settings.folder),
        "store": settings.store,
    }
    if wanted != "embed":
        given["representation"] = wanted
    if settings.store is None or "encoder" in settings.model_fields_set:
        given["encoder"] = settings.encoder
    given |= {
        name: getattr(settings, name) for name in ReadingSettings.model_fields if name in settings.model_fields_set
    }
    if settings.max_quarantined is not None:
        given["max_quarantined"] = settings.max_quarantined
    return resume_from_store(Settings(**given))


def _explain_picks(picks: Sequence[IterPick], ids: Sequence[str]) -> Iterator[dict[str, Any]]:
    for pick in picks:
        yield {
            "id": ids[pick.row],
            "how": pick.how,
            "round": pick.round,
            "hardness": pick.hardness,
            "similarity": pick.cosine,
            "score": pick.score,
            "nearest": ids[pick.nearest] if pick.nearest >= 0 else None,
        }


def _write_json(path: Path, content: Any) -> None:
    atomic_write(path, json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False).encode())
