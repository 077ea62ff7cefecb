"""Every name of a file or folder that handpick writes, so that nobody else has to spell one.

A layout is a folder and knows the names in it; it opens no file and makes nothing. Names inside a file of another
tool's format (peft's ``adapter_config.json``) stay with the module that speaks that format.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from handpick.listing import matching


@dataclass(frozen=True)
class Layout:
    """A folder, with names for what is in it."""

    folder: Path

    also: ClassVar[tuple[str, ...]] = ()  #: Patterns of names that methods of the layout give.

    def written_files(self) -> Iterator[Path]:
        """Yield every file or folder that is written directly in this one, and is there."""
        for pattern in self._names():
            yield from matching(self.folder, pattern)

    @classmethod
    def _names(cls) -> Iterator[str]:
        for kind in cls.__mro__:
            yield from vars(kind).get("also", ())
            yield from (each.name.partition("/")[0] for each in vars(kind).values() if isinstance(each, InFolder))


class InFolder(property):
    """A file or folder of a layout, by its name there."""

    def __init__(self, name: str) -> None:
        super().__init__(lambda layout: layout.folder / name)
        self.name = name

    def __get__(self, layout: Any, kind: type | None = None, /) -> Path:  # type: ignore[override]  # of a layout alone
        path: Path = super().__get__(layout, kind)
        return path


def user_cache() -> Path:
    """Return the folder of what runs share: ``HANDPICK_CACHE``, else handpick's in the user's cache."""
    own = os.environ.get("HANDPICK_CACHE")
    users = os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser()
    return Path(own) if own else Path(users) / "handpick"


def is_unfinished(name: str) -> bool:
    """Return whether a file or folder of this name is on its way to another name, or of this machine alone."""
    return name.startswith(".") or name.endswith(".part") or name == "part"


def lock_of(folder: Path) -> Path:
    """Return what a run holds while it writes in a folder."""
    return folder / ".lock"


def token_of(folder: Path, name: str) -> Path:
    """Return a file by which workers on other machines tell that they see a folder; there while they write in it."""
    return folder / f".workers.{name}.partial"


class ParsedLayout(Layout):
    """Records as they were parsed, a few files a source, named by the digest of the source's bytes.

    What was read otherwise than by the table of formats alone has the key of that reading in its names too.
    """

    def table(self, sha256: str, reading: str = "") -> Path:
        """Return where the usable records are."""
        return self._path(sha256, reading, "arrow")

    def set_aside(self, sha256: str, reading: str = "") -> Path:
        """Return where the unusable ones are."""
        return self._path(sha256, reading, "jsonl")

    def columns(self, sha256: str, reading: str) -> Path:
        """Return where it is said which columns the records have, where a user has named some."""
        return self._path(sha256, reading, "columns.json")

    def _path(self, sha256: str, reading: str, suffix: str) -> Path:
        return self.folder / f"{'-'.join(filter(None, (sha256[:16], reading)))}.{suffix}"

    def tables(self) -> Iterator[Path]:
        """Yield every table that is there."""
        return matching(self.folder, "*.arrow")


def checksums_of(table: Path) -> Path:
    """Return where the checksums of parsed records are, by the path of their table; written last."""
    return table.with_suffix(".crc32.json")


class TriedLayout(Layout):
    """The user's cache folder: what tries of models have shown."""

    def of_model(self, digest: str) -> Path:
        """Return what is kept of a model."""
        return self.folder / "tried" / f"{digest}.json"


class ObjectsLayout(Layout):
    """The user's cache folder: objects that were fetched out of buckets, and the runs that are written into them."""

    def fetched(self, digest: str, name: str) -> Path:
        """Return where an object is, or a folder of them, under its own name; another version has another digest."""
        return self.folder / "objects" / digest / name

    def run(self, digest: str, name: str) -> Path:
        """Return the folder that a run works in whose own is in a bucket."""
        return self.folder / "runs" / digest / name


class MirrorLayout(Layout):
    """What a folder has more that is kept in a bucket."""

    index = InFolder("objects.json")  #: In the bucket alone: which objects there are, and the digest of each.
    word = InFolder(".mirror")  #: On this machine alone: the word of the run that wrote there last.


class DataLayout(Layout):
    """A folder that records are read into: those parsed, and lists of those that were set aside."""

    also: ClassVar[tuple[str, ...]] = ("quarantine.jsonl", "quarantine-*.jsonl")

    parsed = InFolder("parsed")  #: The cache of parsed records, a ``ParsedLayout``.
    unwritten = InFolder("unwritten.json")  #: What records carry and the chat template does not write.

    def quarantine(self, of: str | None = None) -> Path:
        """Return the list of records set aside; where a folder has several, ``of`` says which."""
        return self.folder / ("quarantine.jsonl" if of is None else f"quarantine-{of}.jsonl")


class OverlapLayout(DataLayout):
    """What a search for repeated test items leaves."""

    overlap = InFolder("overlap.jsonl")  #: The examples that repeat a test item.
    clean = InFolder("clean.jsonl")  #: The pool without them.


class ReportLayout(Layout):
    """A report: one page, and beside it what its plots show."""

    report = InFolder("report.html")  #: The page.
    report_folder = InFolder("report")  #: The folder of pictures and tables, a ``FiguresLayout``.


class FiguresLayout(Layout):
    """The plots of a report as pictures, and the numbers in them."""

    composition = InFolder("composition.csv")  #: What was chosen by source and category.

    def picture(self, name: str) -> Path:
        """Return where a plot's picture is."""
        return self.folder / f"{name}.png"

    def table(self, name: str) -> Path:
        """Return where a plot's numbers, or a table's, are."""
        return self.folder / f"{name}.csv"


class RunLayout(ReportLayout):
    """The folder of ``select``, ``represent`` or ``similarity``."""

    also: ClassVar[tuple[str, ...]] = ("quarantine.jsonl", "quarantine-*.jsonl", "overlap.jsonl", "unwritten.json")
    selection = InFolder("selection.json")  #: The selection: ids, scores, settings, fingerprints.
    records = InFolder("selected.jsonl")  #: The chosen records, as they came.
    comparison = InFolder("comparison.html")  #: The page of this selection beside another.
    settings = InFolder("settings.yaml")  #: The settings, as ``handpick run`` takes them.
    cost = InFolder("cost.json")  #: What the run took.
    distances = InFolder("distances.json")  #: How far the selection is from the queries.
    remarks = InFolder("remarks.json")  #: What the method itself says of its result.
    audition = InFolder("audition")  #: How the method was found, an ``AuditionLayout``.
    similarity = InFolder("similarity.npy")  #: The similarity of queries and pool, whole.
    similarity_ids = InFolder("similarity.json")  #: The ids of its rows and columns.

    @property
    def overlap(self) -> Path:
        """The examples that repeat a test item and were left out."""
        return OverlapLayout(self.folder).overlap

    def quarantine(self, of: str = "pool") -> Path:
        """Return the list of records set aside: of the "pool", or of the "query"."""
        return DataLayout(self.folder).quarantine(None if of == "pool" else of)

    @property
    def unwritten(self) -> Path:
        """What records carry and the chat template does not write."""
        return DataLayout(self.folder).unwritten

    features = InFolder("features")  #: The folder of feature stores.

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

    def landmarks(self, digest: str) -> Path:
        """Return the folder of landmarks and what they were spread by, a ``LandmarksLayout``."""
        return self.features / f"landmarks-{digest}"

    def tacs_store(self, digest: str) -> Path:
        """Return the store of the pool's losses on targets' paths."""
        return self.features / f"tacs-{digest}"

    def tacs_path(self, digest: str) -> Path:
        """Return the folder of a target's path, a ``TacsPathLayout``."""
        return self.features / f"tacs-path-{digest}"

    def tacs_calibration(self, digest: str) -> Path:
        """Return the folder of a calibration of a target's path, a ``TacsCalibrationLayout``."""
        return self.features / f"tacs-calibration-{digest}"

    def tacs_clusters(self, digest: str) -> Path:
        """Return which cluster each query is of."""
        return self.features / f"tacs-clusters-{digest}.json"

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
        return matching(self.features, "query-*")

    def _begun(self, names: str) -> list[Path]:
        manifest = StoreLayout(self.features / names).manifest.relative_to(self.features)
        return [path.parent for path in matching(self.features, manifest.as_posix())]

    warmup = InFolder("warmup")  #: The warmup's checkpoints, a ``WarmupLayout``.

    @property
    def warmup_record(self) -> Path:
        """What the warmup was made from, and its checkpoints."""
        return WarmupLayout(self.warmup).record

    def fresh_adapter(self, digest: str) -> Path:
        """Return the folder of an adapter that was never trained."""
        return WarmupLayout(self.warmup).fresh_adapter(digest)

    prefilter = InFolder("prefilter")  #: What prefilters left, a folder a cut.
    prefilter_check = InFolder("prefilter.json")  #: How much they left, and what they missed.

    def cut(self, digest: str) -> "CutLayout":
        """Return the folder of a cut and of all that is made of what it left."""
        return CutLayout(self.prefilter / digest)

    samples = InFolder("samples")  #: Answers that were drawn and scored, a ``SamplesLayout``.
    model = InFolder("model")  #: The model that was trained on the selection, a ``FinetuneLayout``.


class CutLayout(RunLayout):
    """The folder of the part of a pool that a prefilter left: a run's, and which rows they are."""

    left = InFolder("left.npy")  #: The rows that it left.
    checked = InFolder("checked.npy")  #: Rows that it did not, drawn to tell what was missed.
    record = InFolder("cut.json")  #: What it was made from, and how deep lists go; written last.


class StoreLayout(Layout):
    """The folder of one feature store."""

    manifest = InFolder("manifest.json")  #: The plan of the store; what has none is no store.
    provenance = InFolder("represent.yaml")  #: How the features were made, so that a query's can be made like them.

    @property
    def parsed(self) -> Path:
        """Parsed records, beside the store, so that every run that shares it shares them."""
        return DataLayout(self.folder.parent).parsed

    def shards(self, checkpoint: int) -> Path:
        """Return the folder of a checkpoint's shards."""
        return self.folder / "shards" / str(checkpoint)

    def has_shards(self) -> bool:
        """Return whether any shard is written, whole or not."""
        return any(matching(self.folder, "shards/*/*.safetensors"))

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

    record = InFolder("subspace.json")  #: What it was made from; written last.
    queries = InFolder("queries.npy")  #: The queries' coordinates.
    basis = InFolder("basis.npy")  #: Its basis.


class LandmarksLayout(Layout):
    """Landmarks of a pool, and what was spread from them."""

    candidates = InFolder("candidates.npy")  #: Rows of the cheap features that can be chosen.
    exact = InFolder("exact")  #: The landmarks' exact rows, a ``PartLayout``.

    def refined(self, digest: str) -> Path:
        """Return the folder of candidates that were made exact after all, a ``PartLayout``."""
        return self.folder / f"refined-{digest}"

    def coefficients(self, digest: str) -> Path:
        """Return the ridge's coefficients for the queries whose store has this digest."""
        return self.folder / f"coefficients-{digest}.npy"


class PartLayout(RunLayout):
    """The folder of exact rows of a part of a pool: that of a run on the part."""

    rows = InFolder("rows.npy")  #: Which rows of the cheap features they are.


class CheckpointsLayout(Layout):
    """A folder of checkpoints, as transformers' Trainer names them."""

    def checkpoint(self, step: int) -> Path:
        """Return the folder of the checkpoint at a step, a ``CheckpointLayout``."""
        return self.folder / f"checkpoint-{step}"

    def checkpoints(self) -> list[Path]:
        """Return the checkpoints that are there, whole or not, in no order (``step_of`` gives one)."""
        return list(matching(self.folder, "checkpoint-*"))


def step_of(checkpoint: Path) -> int:
    """Return the step that a checkpoint's folder is named by."""
    return int(checkpoint.name.rpartition("-")[2])


class WarmupLayout(CheckpointsLayout):
    """The folder of a warmup."""

    record = InFolder("warmup.json")  #: What it was made from, and its checkpoints once there are all.

    def fresh_adapter(self, digest: str) -> Path:
        """Return the folder of an adapter that was never trained."""
        return self.folder / f"fresh-{digest}"

    def fresh_adapter_part(self, digest: str) -> Path:
        """Return where such an adapter is written before it is renamed."""
        return self.folder / f"fresh-{digest}.part"


class TacsPathLayout(CheckpointsLayout):
    """The folder of a target's path; a checkpoint is named by the passes over the target's examples."""

    record = InFolder("path.json")  #: What it was made from.
    part = InFolder("part")  #: Where a checkpoint is written before it is renamed.


class TacsCalibrationLayout(Layout):
    """The folder of a calibration."""

    record = InFolder("calibration.json")  #: What it was made from, and the cosines of every cell that is done.

    def trial(self, fold: int, rate: float) -> Path:
        """Return the folder of the path that is tried at a learning rate without a fold, a ``TacsPathLayout``."""
        return self.folder / f"fold-{fold + 1}-rate-{rate:g}"


class CheckpointLayout(Layout):
    """What handpick keeps in a checkpoint, beside what peft and the Trainer write."""

    #: The step and the mean learning rate; in a warmup, what makes the checkpoint count.
    record = InFolder("handpick_checkpoint.json")
    moments = InFolder("adam_moments.safetensors")  #: Adam's state, by parameter name.
    digests = InFolder("digests.json")  #: What its files are, where the checkpoint is ours.
    whole = InFolder("whole")  #: In a fine-tuning, what makes the checkpoint count.


class FinetuneLayout(DataLayout):
    """The folder of a fine-tuned model."""

    #: What peft and transformers write of the model and of its tokenizer.
    also: ClassVar[tuple[str, ...]] = (
        "*.safetensors", "*.bin", "*.index.json", "*config.json", "tokenizer*", "special_tokens_map.json",
        "added_tokens.json", "vocab.*", "merges.txt", "chat_template*",
    )  # fmt: skip
    record = InFolder("train.yaml")  #: What the model was made from, and whether it is finished.
    unfinished = InFolder("unfinished")  #: Checkpoints, a ``CheckpointsLayout``; gone when the model stands.
    unfinished_model = InFolder("unfinished/model")  #: Where the model is written before it is moved into place.


class ExportLayout(DataLayout):
    """The folder of an export for another trainer."""

    messages = InFolder("messages.jsonl")  #: The examples as messages.
    sharegpt = InFolder("sharegpt.jsonl")  #: The examples as LLaMA-Factory reads conversations.
    tokens = InFolder("tokens.jsonl")  #: The examples as axolotl and TRL read tokens.
    tokenized = InFolder("tokenized")  #: The examples as LLaMA-Factory reads tokens: a saved data set.
    tokenized_part = InFolder(".tokenized.part")  #: Where that data set is written before it is renamed.
    template = InFolder("chat_template.jinja")  #: The chat template.
    dataset_info = InFolder("dataset_info.json")  #: The list of data sets that LLaMA-Factory looks for.
    axolotl = InFolder("axolotl.yaml")  #: The config for axolotl.
    llama_factory = InFolder("llama_factory.yaml")  #: The config for LLaMA-Factory.
    ms_swift = InFolder("ms_swift.yaml")  #: The config for ms-swift.
    ms_swift_records = InFolder("ms_swift.jsonl")  #: The examples as ms-swift reads tokens.
    ms_swift_template = InFolder("ms_swift_template.py")  #: A template for ms-swift that puts nothing around them.
    trl = InFolder("trl.yaml")  #: The config for TRL's own command.
    model = InFolder("model")  #: Where the other trainer is to put the model.


class AnswersLayout(Layout):
    """Answers of models, kept by all they depend on."""

    def journal(self, digest: str) -> Path:
        """Return the answers that depend on what has this digest."""
        return self.folder / f"answers-{digest}.jsonl"


class VerdictsLayout(Layout):
    """What judges answered."""

    judge = InFolder("judge.jsonl")  #: Of a judge behind a server.
    local_judge = InFolder("judge-local.jsonl")  #: Of one that is loaded here.
    local_answers = InFolder("local")  #: Its answers as they came, an ``AnswersLayout``.


class SamplesLayout(Layout):
    """The samples of a run's policy gradient and their rewards."""

    def samples(self, digest: str) -> Path:
        """Return the samples that depend on what has this digest."""
        return self.folder / f"samples-{digest}.jsonl"

    def rewards(self, digest: str) -> Path:
        """Return the scores by the reward with this digest."""
        return self.folder / f"rewards-{digest}.jsonl"

    def report(self, digest: str) -> Path:
        """Return what came of every prompt."""
        return self.folder / f"report-{digest}.jsonl"

    verdicts = InFolder("verdicts")  #: What a judge answered, a ``VerdictsLayout``.


class EvaluationLayout(DataLayout):
    """The folder of an evaluation."""

    also: ClassVar[tuple[str, ...]] = ("predictions-*.jsonl",)
    evaluation = InFolder("evaluation.json")  #: The estimates of all tasks.

    def predictions(self, task: str) -> Path:
        """Return a task's answers and scores, a line a record."""
        return self.folder / f"predictions-{task}.jsonl"

    answers = InFolder("answers")  #: Answers as they come, an ``AnswersLayout``.
    verdicts = InFolder("verdicts")  #: What judges answered, a ``VerdictsLayout``.
    versus = InFolder("versus.json")  #: How one model did against another.
    versus_verdicts = InFolder("verdicts.jsonl")  #: Both models' answers and who won, a line a prompt.
    lm_eval = InFolder("lm_eval.json")  #: What lm-evaluation-harness found.


class StudyLayout(ReportLayout, DataLayout):
    """The folder of a study; a list of records set aside for the pool, and for each target's queries and tests."""

    results = InFolder("results.json")  #: The table of cells.
    cost = InFolder("cost.json")  #: What each of them took.
    steps = InFolder("steps")  #: The folder of all steps.

    def step(self, name: str) -> Path:
        """Return the folder of a step, a ``StepLayout``."""
        return self.steps / name


class AuditionLayout(StudyLayout):
    """The folder of an audition: that of its rounds' studies, and what was planned and found."""

    plan = InFolder("plan.json")  #: The rounds and candidates, fixed before the first training.
    record = InFolder("audition.json")  #: What every round has found, and what was decided.

    def queries(self, name: str) -> Path:
        """Return a file of queries: all of a target, or those that one half chooses by."""
        return self.folder / "queries" / f"{name}.jsonl"


class StepLayout(Layout):
    """The folder of a study's step; what it holds depends on its kind."""

    record = InFolder("step.json")  #: What it was made from and what came of it; written last.
    cost = InFolder("cost.json")  #: What it took.
    order = InFolder("order.json")  #: The ids of the whole pool, in order of choice.
    distances = InFolder("distances.json")  #: How far subsets are from the queries.
    predictions = InFolder("predictions.jsonl")  #: An evaluation's answers and scores, a line a record.


class IterSelectLayout(RunLayout):
    """The folder of ``iterselect``: a run's, and the rounds."""

    also: ClassVar[tuple[str, ...]] = ("rounds",)
    plan = InFolder("plan.json")  #: What decides the rounds: a folder is gone on with by the same alone.
    iterselect_settings = InFolder("iterselect.yaml")  #: The settings of ``iterselect``, without the judge's address.
    diverse = InFolder("diverse.npy")  #: Rows of the diverse subset.
    figures = InFolder("rounds.json")  #: The figures of all rounds.
    judging = InFolder("judging.json")  #: What the judge took.
    explained = InFolder("explained.jsonl")  #: Why each example was chosen.
    answers = InFolder("answers")  #: The base model's answers, an ``AnswersLayout``.
    verdicts = InFolder("verdicts")  #: What the judge answered, a ``VerdictsLayout``.

    def round(self, number: int) -> "RoundLayout":
        """Return the folder of a round, counted from 1."""
        return RoundLayout(self.folder / "rounds" / str(number))


class RoundLayout(Layout):
    """The folder of one round of ``iterselect``."""

    batch = InFolder("batch.json")  #: The examples that were taken.
    verdicts = InFolder("verdicts.jsonl")  #: What was said of them.
    classifier = InFolder("classifier")  #: What was learnt, a ``ClassifierLayout``.
    hardness = InFolder("hardness.npy")  #: What the classifier says of the diverse subset.
    cost = InFolder("cost.json")  #: The seconds that its parts took.
    figures = InFolder("round.json")  #: The round's figures; written last.


class ClassifierLayout(Layout):
    """The folder of a classifier, beside what transformers writes."""

    #: What it was made from and the digests of its files; a folder without it is none of ours.
    record = InFolder("classifier.json")
