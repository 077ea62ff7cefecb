"""The rounds: take the most promising of the diverse subset, answer, judge, train the classifier anew.

Every round has a folder, ``rounds/1`` and so on, and every step of it a file that is written when the step is over, so
that a run that was killed goes on behind its last finished step:

    batch.json       the ids that were taken, with M, R, Q and the nearest hard example of each
    verdicts.jsonl   the base model's answer and what the judge says of it
    classifier/      trained on all that is judged so far, but for what is held out
    hardness.npy     its M of every example of the diverse subset
    cost.json        the seconds that they took, by this machine's clock
    round.json       the figures: the same, whenever and wherever they are made

Legend: V examples of the diverse subset.
"""

import json
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from handpick.data.examples import Example
from handpick.data.own_record import record_of
from handpick.documents import DAMAGED
from handpick.errors import JudgeError
from handpick.evaluation.task import prompt_of
from handpick.files import atomic_write, read_array, write_array
from handpick.iterselecttune.answering import Answering
from handpick.iterselecttune.classifier import Classifier
from handpick.iterselecttune.estimate import round_size
from handpick.iterselecttune.held_out import HeldOutMetrics, accuracy, held_out_metrics, is_held_out
from handpick.iterselecttune.judging import JudgedExample, Judging, Question
from handpick.iterselecttune.reads import READ_AS
from handpick.iterselecttune.round_files import damaged_error, read_batch, read_verdicts
from handpick.iterselecttune.score import NearestHard, ScoredCandidate, most_promising
from handpick.iterselecttune.settings import IterSelectSettings
from handpick.layout import RoundLayout
from handpick.progress import log, progress
from handpick.sealed import read_sealed, seal, write_sealed
from handpick.store.codec import Floats


@dataclass(frozen=True, slots=True)
class Subset:
    """The diverse subset: examples in the order in which clusters take turns, and their embeddings, float32 (V, D).

    ``rows`` are their rows in the whole pool's embeddings, (V,).
    """

    examples: Sequence[Example]
    rows: NDArray[np.int64]
    embeddings_VD: Floats


@dataclass(frozen=True, slots=True)
class TakenExample:
    """An example that was taken out of the subset: in which round, and what spoke for it.

    The ``row`` of ``scored`` is its place in the subset; ``nearest`` there is a row of the whole pool's embeddings.
    """

    round: int
    scored: ScoredCandidate

    @property
    def place(self) -> int:
        """In the subset."""
        return self.scored.row


@dataclass
class Labelled:
    """All that was judged so far. ``hard`` has None where there is no verdict."""

    taken: list[TakenExample] = field(default_factory=list)
    hard: list[bool | None] = field(default_factory=list)

    def with_verdict(self) -> list[tuple[TakenExample, bool]]:
        return [(each, hard) for each, hard in zip(self.taken, self.hard, strict=True) if hard is not None]


@dataclass(frozen=True, slots=True)
class RoundsOutcome:
    """What the rounds come to: all that was judged, the last classifier (None: there never were two kinds to tell
    apart), and a line of figures per round."""

    labelled: Labelled
    classifier: Classifier | None
    figures: list[dict[str, Any]]


class Rounds:
    """The loop over rounds.

    Args:
        settings: of the run.
        subset: what is judged from.
        answering: the base model.
        judging: who says what is hard.
    """

    def __init__(self, settings: IterSelectSettings, subset: Subset, answering: Answering, judging: Judging) -> None:
        self._settings = settings
        self._subset = subset
        self._answering = answering
        self._judging = judging
        self._texts = [READ_AS[settings.reads].text(example) for example in subset.examples]
        share, seed = settings.classifier.held_out, settings.seed
        self._held_out_V = np.array([is_held_out(text, share, seed) for text in self._texts], dtype=np.bool_)
        self._nearest = NearestHard(subset.embeddings_VD)
        self._hardness_V: Floats | None = None
        self._classifier: Classifier | None = None
        self._labelled = Labelled()

    def run(self) -> RoundsOutcome:
        """Run all rounds, from where an earlier run stopped.

        Raises:
            JudgeError: as the judge, or it has no verdict on anything.
            HandpickError: as the parts.
        """
        if n_repeated := len(self._texts) - len(set(self._texts)):
            log(
                f"{n_repeated:,} of the {len(self._texts):,} examples of the diverse subset read as an earlier one "
                "does: they have the same M and R, and each is judged by its own answer"
            )
        figures: list[dict[str, Any]] = []
        without_a_rise = 0
        for number in range(1, self._settings.rounds + 1):
            if len(self._labelled.taken) == len(self._subset.examples):
                log("every example of the diverse subset is judged: no further round")
                break
            left = self._settings.rounds - number + 1
            begun = self._settings.layout.round(number).batch.exists()
            if not begun and not round_size(self._settings, self._judging, left):
                log(f"the cap on the judge's calls is reached: no round {number}")
                break
            ended = self._round(number)
            if ended is None:
                log(f"the judge has no verdict in round {number}, and the rounds end before it")
                break
            found, rose = ended
            figures.append(found)
            without_a_rise = 0 if rose else without_a_rise + 1
            if self._settings.patience and without_a_rise == self._settings.patience and number < self._settings.rounds:
                log(f"the held-out accuracy has stopped rising: no round {number + 1} (--patience)")
                break
        return RoundsOutcome(self._labelled, self._classifier, figures)

    def _round(self, number: int) -> tuple[dict[str, Any], bool] | None:
        """Run a round: its figures, and whether the accuracy rose (as long as nobody can say: yes).

        None where no verdict was to be had, after rounds that have some: a cap is reached, or the judge has changed.
        """
        layout = self._settings.layout.round(number)
        layout.folder.mkdir(parents=True, exist_ok=True)
        seconds: dict[str, float] = {}
        taken = self._take_examples(layout, number)
        judged = self._judge_examples(layout, taken, seconds)
        if judged is None:
            return None
        hard = [each.hard for each in judged]
        self._labelled.taken += taken
        self._labelled.hard += hard
        places = np.array([each.place for each, is_hard in zip(taken, hard, strict=True) if is_hard], dtype=np.int64)
        self._nearest.add(self._subset.embeddings_VD[places], self._subset.rows[places])
        before_V = self._hardness_V
        with _clock(seconds, "classifier"):
            self._train_classifier(layout)
        held, rose = self._measure_held_out(before_V)
        if layout.figures.exists():
            return read_sealed(layout.figures, "remove it, and run the same again"), rose
        known = [each for each in hard if each is not None]
        trained = [each for each, _ in self._labelled.with_verdict() if not self._held_out_V[each.place]]
        found = {
            "round": number,
            "judged": len(taken),
            "hard": sum(known),
            "easy": len(known) - sum(known),
            "ties": sum(each.tie for each in judged),
            "flipped": sum(each.flipped for each in judged),
            "missing": len(hard) - len(known),
            "train": len(trained),
            "held_out": 0 if held is None else held.n,
            **_held_out_figures(held),
        }
        write_sealed(layout.cost, {"seconds": {name: round(value, 1) for name, value in seconds.items()}})
        write_sealed(layout.figures, found)
        return found, rose

    def _take_examples(self, layout: RoundLayout, number: int) -> list[TakenExample]:
        """Choose the round's examples: the most promising that are left."""
        path, ids = layout.batch, [example.id for example in self._subset.examples]
        if path.exists():
            place_of = {example_id: place for place, example_id in enumerate(ids)}
            try:
                return [
                    TakenExample(number, ScoredCandidate(place_of[each.pop("id")], **each)) for each in read_batch(path)
                ]
            except (KeyError, TypeError, AttributeError) as error:
                raise damaged_error(path, error) from error
        n = round_size(self._settings, self._judging, self._settings.rounds - number + 1)
        left = np.setdiff1d(np.arange(len(ids)), [each.place for each in self._labelled.taken])
        best = most_promising(left, self._hardness_V, self._nearest, self._settings.alpha, n)
        lines = [{"id": ids[each.row], **asdict(each)} for each in best]
        for line in lines:
            del line["row"]
        write_sealed(path, {"taken": lines}, indent=None)
        return [TakenExample(number, each) for each in best]

    def _judge_examples(
        self, layout: RoundLayout, taken: Sequence[TakenExample], seconds: dict[str, float]
    ) -> list[JudgedExample] | None:
        """Ask the judge; None where it says nothing at all, after rounds in which it did.

        Raises:
            JudgeError: it says nothing at all in the first.
        """
        path = layout.verdicts
        if path.exists():
            return read_verdicts(path, len(taken))
        examples = [self._subset.examples[each.place] for each in taken]
        with _clock(seconds, "answers"):
            texts = self._answering(examples)
        with _clock(seconds, "judge"):
            judged = self._judging([_question(e, text) for e, text in zip(examples, texts, strict=True)])
        if all(each.hard is None for each in judged):
            if self._labelled.taken:
                return None
            raise JudgeError(
                f"the judge has no verdict on any of the {len(judged):,} examples of {layout.folder}: raise the caps, "
                f"or look into its answers in {self._settings.layout.verdicts}, and run the same again"
            )
        lines = [
            {"id": e.id, "hard": each.hard, "tie": each.tie, "flipped": each.flipped, "answer": text, **each.said}
            for e, text, each in zip(examples, texts, judged, strict=True)
        ]
        sealed = "".join(json.dumps(seal(line), ensure_ascii=False) + "\n" for line in lines)
        atomic_write(path, sealed.encode(), private=True)
        return judged

    def _train_classifier(self, layout: RoundLayout) -> None:
        """Train the classifier on all that is judged and not held out, and ask it about the subset."""
        taught = [(e.place, hard) for e, hard in self._labelled.with_verdict() if not self._held_out_V[e.place]]
        if not taught:
            log("all that is judged is held out: no classifier")
            return
        n_hard = sum(hard for _, hard in taught)
        if not 2 <= n_hard <= len(taught) - 2:
            what = "hard" if n_hard >= 2 else "easy"
            log(f"all but {min(n_hard, len(taught) - n_hard)} of the {len(taught):,} judged are {what}: no classifier")
            return
        if layout.classifier.is_dir():
            self._classifier = Classifier.open(layout.classifier)
        else:
            self._classifier = Classifier.train(
                [self._texts[place] for place, _ in taught],
                [hard for _, hard in taught],
                layout.classifier,
                self._settings.classifier,
                seed=self._settings.seed,
            )
        path = layout.hardness
        if path.exists():
            try:
                self._hardness_V = read_array(path)
                return
            except DAMAGED as error:
                log(f"{path} is damaged ({error}): it is computed anew")
        with progress("scoring the diverse subset", total=len(self._texts)) as advance:
            self._hardness_V = self._classifier.probabilities(self._texts, advance)
        write_array(path, self._hardness_V)

    def _measure_held_out(self, before_V: Floats | None) -> tuple[HeldOutMetrics | None, bool]:
        """Measure the classifier on what was held out, and whether it is better than the one of the round before.

        Both are asked about the same examples, so that a larger held-out set is no rise.
        """
        held = [(each.place, hard) for each, hard in self._labelled.with_verdict() if self._held_out_V[each.place]]
        if self._hardness_V is None or not held:
            return None, True
        places, hard = np.array([place for place, _ in held]), [each for _, each in held]
        found = held_out_metrics(self._hardness_V[places], hard)
        rose = before_V is None or accuracy(self._hardness_V[places], hard) > accuracy(before_V[places], hard)
        return found, rose


def _question(example: Example, answer: str) -> Question:
    return Question(
        example.id,
        [turn.to_json() for turn in prompt_of(example)],
        example.messages[-1].content,
        answer,
        record_of(example),
    )


def _held_out_figures(held: HeldOutMetrics | None) -> dict[str, Any]:
    found = {each.name: None for each in fields(HeldOutMetrics)} if held is None else held.to_json()
    return {name: value for name, value in found.items() if name != "n"}


@contextmanager
def _clock(seconds: dict[str, float], what: str) -> Iterator[None]:
    began = time.monotonic()
    yield
    seconds[what] = time.monotonic() - began
