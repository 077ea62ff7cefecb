"""Every name of a file or folder that handpick writes, so that nobody else has to spell one.

A layout is a folder and knows the names in it; it opens nothing and makes nothing. Names inside a file of another
tool's format (peft's ``adapter_config.json``) stay with the module that speaks that format.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Layout:
    """A folder, with names for what is in it."""

    folder: Path


class ParsedLayout(Layout):
    """Records as they were parsed, two files a source, named by the digest of the source's bytes."""

    __slots__ = ()

    def table(self, sha256: str) -> Path:
        """Return where the usable records are."""
        return self.folder / f"{sha256[:16]}.arrow"

    def set_aside(self, sha256: str) -> Path:
        """Return where the unusable ones are."""
        return self.folder / f"{sha256[:16]}.jsonl"

    def tables(self) -> Iterator[Path]:
        """Yield every table that is there."""
        return self.folder.glob("*.arrow")


class DataLayout(Layout):
    """A folder that records are read into: those parsed, and lists of those that were set aside."""

    __slots__ = ()

    @property
    def parsed(self) -> Path:
        """The cache of parsed records, a ``ParsedLayout``."""
        return self.folder / "parsed"

    def quarantine(self, of: str | None = None) -> Path:
        """Return the list of records set aside; where a folder has several, ``of`` says which."""
        return self.folder / ("quarantine.jsonl" if of is None else f"quarantine-{of}.jsonl")


class OverlapLayout(DataLayout):
    """What a search for repeated test items leaves."""

    __slots__ = ()

    @property
    def overlap(self) -> Path:
        """The examples that repeat a test item."""
        return self.folder / "overlap.jsonl"

    @property
    def clean(self) -> Path:
        """The pool without them."""
        return self.folder / "clean.jsonl"


class ReportLayout(Layout):
    """A report: one page, and beside it what its plots show."""

    __slots__ = ()

    @property
    def report(self) -> Path:
        """The page."""
        return self.folder / "report.html"

    @property
    def report_folder(self) -> Path:
        """The folder of pictures and tables, a ``FiguresLayout``."""
        return self.folder / "report"


class FiguresLayout(Layout):
    """The plots of a report as pictures, and the numbers in them."""

    __slots__ = ()

    def picture(self, name: str) -> Path:
        """Return where a plot's picture is."""
        return self.folder / f"{name}.png"

    def table(self, name: str) -> Path:
        """Return where a plot's numbers, or a table's, are."""
        return self.folder / f"{name}.csv"

    @property
    def composition(self) -> Path:
        """What was chosen by source and category."""
        return self.table("composition")


class RunLayout(ReportLayout):
    """The folder of ``select``, ``represent`` or ``similarity``."""

    __slots__ = ()

    @property
    def selection(self) -> Path:
        """The selection: ids, scores, settings, fingerprints."""
        return self.folder / "selection.json"

    @property
    def records(self) -> Path:
        """The chosen records, as they came."""
        return self.folder / "selected.jsonl"

    @property
    def settings(self) -> Path:
        """The settings, as ``handpick run`` takes them."""
        return self.folder / "settings.yaml"

    @property
    def cost(self) -> Path:
        """What the run took."""
        return self.folder / "cost.json"

    @property
    def distances(self) -> Path:
        """How far the selection is from the queries."""
        return self.folder / "distances.json"

    @property
    def similarity(self) -> Path:
        """The similarity of queries and pool, whole."""
        return self.folder / "similarity.npy"

    @property
    def similarity_ids(self) -> Path:
        """The ids of its rows and columns."""
        return self.folder / "similarity.json"

    @property
    def overlap(self) -> Path:
        """The examples that repeat a test item and were left out."""
        return OverlapLayout(self.folder).overlap

    def quarantine(self, of: str = "pool") -> Path:
        """Return the list of records set aside: of the "pool", or of the "query"."""
        return DataLayout(self.folder).quarantine(None if of == "pool" else of)

    @property
    def features(self) -> Path:
        """The folder of feature stores."""
        return self.folder / "features"

    @property
    def parsed(self) -> Path:
        """Parsed records, beside the stores; of a pool's store elsewhere, ``StoreLayout(store).parsed``."""
        return DataLayout(self.features).parsed

    def pool_store(self, representation: str) -> Path:
        """Return the store of the pool's features, named by the representation they are kept as."""
        return self.features / ("pool" if representation == "gradient" else f"pool-{representation}")

    def query_store(self, digest: str) -> Path:
        """Return the store of queries, by the digest of its manifest."""
        return self.features / f"query-{digest}"

    def score_store(self, digest: str) -> Path:
        """Return the store of the pool's scores for the queries whose store has this digest."""
        return self.features / f"scores-{digest}"

    def gist_store(self, digest: str) -> Path:
        """Return the store of the pool's coordinates in a subspace."""
        return self.features / f"gist-{digest}"

    def gist_query_store(self, digest: str) -> Path:
        """Return the store of the queries' coordinates in a subspace."""
        return self.query_store(f"gist-{digest}")

    def subspace(self, digest: str) -> Path:
        """Return the folder of a subspace, a ``SubspaceLayout``."""
        return self.features / f"subspace-{digest}"

    def hardness_store(self, digest: str) -> Path:
        """Return the store of how hard a classifier finds the pool."""
        return self.features / f"hardness-{digest}"

    def stores(self) -> list[Path]:
        """Return the folders of all feature stores that were begun, by name."""
        return self._begun("*")

    def pool_stores(self) -> list[Path]:
        """Return the folders of the pool's stores that were begun, by name."""
        return self._begun("pool*")

    def query_stores(self) -> Iterator[Path]:
        """Yield the folders of the queries' stores."""
        return self.features.glob("query-*")

    def _begun(self, names: str) -> list[Path]:
        manifest = StoreLayout(self.features / names).manifest.relative_to(self.features)
        return [path.parent for path in sorted(self.features.glob(str(manifest)))]

    @property
    def warmup(self) -> Path:
        """The warmup's checkpoints, a ``WarmupLayout``."""
        return self.folder / "warmup"

    @property
    def warmup_record(self) -> Path:
        """What the warmup was made from, and its checkpoints."""
        return WarmupLayout(self.warmup).record

    def fresh_adapter(self, digest: str) -> Path:
        """Return the folder of an adapter that was never trained."""
        return WarmupLayout(self.warmup).fresh_adapter(digest)

    @property
    def samples(self) -> Path:
        """Answers that were drawn and scored, a ``SamplesLayout``."""
        return self.folder / "samples"

    @property
    def model(self) -> Path:
        """The model that was trained on the selection, a ``FinetuneLayout``."""
        return self.folder / "model"


class StoreLayout(Layout):
    """The folder of one feature store."""

    __slots__ = ()

    @property
    def manifest(self) -> Path:
        """The plan of the store; what has none is no store."""
        return self.folder / "manifest.json"

    @property
    def provenance(self) -> Path:
        """How the features were made, so that a query's can be made like them."""
        return self.folder / "represent.yaml"

    @property
    def parsed(self) -> Path:
        """Parsed records, beside the store, so that every run that shares it shares them."""
        return DataLayout(self.folder.parent).parsed

    def shards(self, checkpoint: int) -> Path:
        """Return the folder of a checkpoint's shards."""
        return self.folder / "shards" / str(checkpoint)

    def shard(self, checkpoint: int, file: int, number: int) -> Path:
        """Return the tensors of the ``number``-th shard of the ``file``-th file."""
        return self.shards(checkpoint) / f"{file}-{number}.safetensors"

    def second_moment(self, checkpoint: int, digest: str) -> Path:
        """Return the rows' second moment; another pool has another digest."""
        return self.folder / f"second-moment-{checkpoint}-{digest}.npy"


def sidecar_of(shard: Path) -> Path:
    """Return what makes a shard count, by the path of its tensors."""
    return shard.with_suffix(".json")


class SubspaceLayout(Layout):
    """The subspace of some queries' gradients."""

    __slots__ = ()

    @property
    def record(self) -> Path:
        """What it was made from; written last."""
        return self.folder / "subspace.json"

    @property
    def queries(self) -> Path:
        """The queries' coordinates."""
        return self.folder / "queries.npy"

    @property
    def basis(self) -> Path:
        """Its basis."""
        return self.folder / "basis.npy"


class CheckpointsLayout(Layout):
    """A folder of checkpoints, as transformers' Trainer names them."""

    __slots__ = ()

    def checkpoint(self, step: int) -> Path:
        """Return the folder of the checkpoint at a step, a ``CheckpointLayout``."""
        return self.folder / f"checkpoint-{step}"

    def checkpoints(self) -> list[Path]:
        """Return the checkpoints that are there, whole or not, in no order (``step_of`` gives one)."""
        return list(self.folder.glob("checkpoint-*"))


def step_of(checkpoint: Path) -> int:
    """Return the step that a checkpoint's folder is named by."""
    return int(checkpoint.name.rpartition("-")[2])


class WarmupLayout(CheckpointsLayout):
    """The folder of a warmup."""

    __slots__ = ()

    @property
    def record(self) -> Path:
        """What it was made from, and its checkpoints once there are all."""
        return self.folder / "warmup.json"

    def fresh_adapter(self, digest: str) -> Path:
        """Return the folder of an adapter that was never trained."""
        return self.folder / f"fresh-{digest}"

    def fresh_adapter_part(self, digest: str) -> Path:
        """Return where such an adapter is written before it is renamed."""
        return self.folder / f"fresh-{digest}.part"


class CheckpointLayout(Layout):
    """What handpick keeps in a checkpoint, beside what peft and the Trainer write."""

    __slots__ = ()

    @property
    def record(self) -> Path:
        """The step and the mean learning rate; in a warmup, what makes the checkpoint count."""
        return self.folder / "handpick_checkpoint.json"

    @property
    def moments(self) -> Path:
        """Adam's state, by parameter name."""
        return self.folder / "adam_moments.safetensors"

    @property
    def whole(self) -> Path:
        """In a fine-tuning, what makes the checkpoint count."""
        return self.folder / "whole"


class FinetuneLayout(DataLayout):
    """The folder of a fine-tuned model."""

    __slots__ = ()

    @property
    def record(self) -> Path:
        """What the model was made from, and whether it is finished."""
        return self.folder / "train.yaml"

    @property
    def unfinished(self) -> Path:
        """Checkpoints, a ``CheckpointsLayout``; gone when the model stands."""
        return self.folder / "unfinished"

    @property
    def unfinished_model(self) -> Path:
        """Where the model is written before its files are moved into place."""
        return self.unfinished / "model"


class ExportLayout(DataLayout):
    """The folder of an export for another trainer."""

    __slots__ = ()

    @property
    def messages(self) -> Path:
        """The examples as messages."""
        return self.folder / "messages.jsonl"

    @property
    def tokens(self) -> Path:
        """The examples as axolotl reads tokens."""
        return self.folder / "tokens.jsonl"

    @property
    def tokenized(self) -> Path:
        """The examples as LLaMA-Factory reads tokens: a saved data set."""
        return self.folder / "tokenized"

    @property
    def tokenized_part(self) -> Path:
        """Where that data set is written before it is renamed."""
        return self.folder / ".tokenized.part"

    @property
    def template(self) -> Path:
        """The chat template."""
        return self.folder / "chat_template.jinja"

    @property
    def dataset_info(self) -> Path:
        """The list of data sets that LLaMA-Factory looks for."""
        return self.folder / "dataset_info.json"

    @property
    def axolotl(self) -> Path:
        """The config for axolotl."""
        return self.folder / "axolotl.yaml"

    @property
    def llama_factory(self) -> Path:
        """The config for LLaMA-Factory."""
        return self.folder / "llama_factory.yaml"

    @property
    def model(self) -> Path:
        """Where the other trainer is to put the model."""
        return self.folder / "model"


class AnswersLayout(Layout):
    """Answers of models, kept by all they depend on."""

    __slots__ = ()

    def journal(self, digest: str) -> Path:
        """Return the answers that depend on what has this digest."""
        return self.folder / f"answers-{digest}.jsonl"


class VerdictsLayout(Layout):
    """What judges answered."""

    __slots__ = ()

    @property
    def judge(self) -> Path:
        """Of a judge behind a server."""
        return self.folder / "judge.jsonl"

    @property
    def local_judge(self) -> Path:
        """Of one that is loaded here."""
        return self.folder / "judge-local.jsonl"

    @property
    def local_answers(self) -> Path:
        """Its answers as they came, an ``AnswersLayout``."""
        return self.folder / "local"


class SamplesLayout(Layout):
    """The samples of a run's policy gradient and their rewards."""

    __slots__ = ()

    def samples(self, digest: str) -> Path:
        """Return the samples that depend on what has this digest."""
        return self.folder / f"samples-{digest}.jsonl"

    def rewards(self, digest: str) -> Path:
        """Return the scores by the reward with this digest."""
        return self.folder / f"rewards-{digest}.jsonl"

    def report(self, digest: str) -> Path:
        """Return what came of every prompt."""
        return self.folder / f"report-{digest}.jsonl"

    @property
    def verdicts(self) -> Path:
        """What a judge answered, a ``VerdictsLayout``."""
        return self.folder / "verdicts"


class EvaluationLayout(DataLayout):
    """The folder of an evaluation."""

    __slots__ = ()

    @property
    def evaluation(self) -> Path:
        """The estimates of all tasks."""
        return self.folder / "evaluation.json"

    def predictions(self, task: str) -> Path:
        """Return a task's answers and scores, a line a record."""
        return self.folder / f"predictions-{task}.jsonl"

    @property
    def answers(self) -> Path:
        """Answers as they come, an ``AnswersLayout``."""
        return self.folder / "answers"

    @property
    def verdicts(self) -> Path:
        """What judges answered, a ``VerdictsLayout``."""
        return self.folder / "verdicts"

    @property
    def versus(self) -> Path:
        """How one model did against another."""
        return self.folder / "versus.json"

    @property
    def versus_verdicts(self) -> Path:
        """Both models' answers and who won, a line a prompt."""
        return self.folder / "verdicts.jsonl"

    @property
    def lm_eval(self) -> Path:
        """What lm-evaluation-harness found."""
        return self.folder / "lm_eval.json"


class StudyLayout(ReportLayout, DataLayout):
    """The folder of a study; a list of records set aside for the pool, and for each target's queries and tests."""

    __slots__ = ()

    @property
    def results(self) -> Path:
        """The table of cells."""
        return self.folder / "results.json"

    @property
    def steps(self) -> Path:
        """The folder of all steps."""
        return self.folder / "steps"

    def step(self, name: str) -> Path:
        """Return the folder of a step, a ``StepLayout``."""
        return self.steps / name


class StepLayout(Layout):
    """The folder of a study's step; what it holds depends on its kind."""

    __slots__ = ()

    @property
    def record(self) -> Path:
        """What it was made from and what came of it; written last."""
        return self.folder / "step.json"

    @property
    def order(self) -> Path:
        """The ids of the whole pool, in order of choice."""
        return self.folder / "order.json"

    @property
    def distances(self) -> Path:
        """How far subsets are from the queries."""
        return self.folder / "distances.json"

    @property
    def predictions(self) -> Path:
        """An evaluation's answers and scores, a line a record."""
        return self.folder / "predictions.jsonl"


class IterSelectLayout(RunLayout):
    """The folder of ``iterselect``: a run's, and the rounds."""

    __slots__ = ()

    @property
    def plan(self) -> Path:
        """What decides the rounds: a folder is gone on with by the same alone."""
        return self.folder / "plan.json"

    @property
    def iterselect_settings(self) -> Path:
        """The settings of ``iterselect``, without the judge's address."""
        return self.folder / "iterselect.yaml"

    @property
    def diverse(self) -> Path:
        """Rows of the diverse subset."""
        return self.folder / "diverse.npy"

    @property
    def figures(self) -> Path:
        """The figures of all rounds."""
        return self.folder / "rounds.json"

    @property
    def judging(self) -> Path:
        """What the judge took."""
        return self.folder / "judging.json"

    @property
    def explained(self) -> Path:
        """Why each example was chosen."""
        return self.folder / "explained.jsonl"

    @property
    def answers(self) -> Path:
        """The base model's answers, an ``AnswersLayout``."""
        return self.folder / "answers"

    @property
    def verdicts(self) -> Path:
        """What the judge answered, a ``VerdictsLayout``."""
        return self.folder / "verdicts"

    def round(self, number: int) -> "RoundLayout":
        """Return the folder of a round, counted from 1."""
        return RoundLayout(self.folder / "rounds" / str(number))


class RoundLayout(Layout):
    """The folder of one round of ``iterselect``."""

    __slots__ = ()

    @property
    def batch(self) -> Path:
        """The examples that were taken."""
        return self.folder / "batch.json"

    @property
    def verdicts(self) -> Path:
        """What was said of them."""
        return self.folder / "verdicts.jsonl"

    @property
    def classifier(self) -> Path:
        """What was learnt, a ``ClassifierLayout``."""
        return self.folder / "classifier"

    @property
    def hardness(self) -> Path:
        """What the classifier says of the diverse subset."""
        return self.folder / "hardness.npy"

    @property
    def figures(self) -> Path:
        """The round's figures; written last."""
        return self.folder / "round.json"


class ClassifierLayout(Layout):
    """The folder of a classifier, beside what transformers writes."""

    __slots__ = ()

    @property
    def record(self) -> Path:
        """What it was made from and the digests of its files; a folder without it is none of ours."""
        return self.folder / "classifier.json"
