"""The table of representations: all that the rest of the house knows of one: what it needs, gives and reads.

A new representation is one line here, and one file under ``handpick.scorers`` with the class that the line names,
which is imported when it is used. Nothing outside that file compares its name.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal, NamedTuple

from handpick.choices import look_up
from handpick.errors import SettingsError
from handpick.objectives.judge_fields import JUDGE_FIELDS
from handpick.objectives.settings import ObjectiveSettings


class Refusal(NamedTuple):
    """A value of a setting that a representation cannot do with, and what is said of it."""

    setting: str
    value: object
    sentence: str


class Passes(NamedTuple):
    """What a representation's rows of the pool cost, in forward passes of the model over the pool.

    One is 2·P operations a token, with logits at the response (costs/flops.py); a row of gradients is a forward pass
    and the way back through a frozen base, two. ``at_checkpoints``: so many at each checkpoint. ``besides`` is what is
    read that is no pass of the model over the pool. A warmup, the queries and the choice come on top.
    """

    number: float
    at_checkpoints: bool = False
    besides: str = ""
    at_most: bool = False

    def __str__(self) -> str:
        passes = f"{'up to ' * self.at_most}{self.number:g}{' a checkpoint' * self.at_checkpoints}"
        if not self.besides:
            return passes
        return f"{passes} and {self.besides}" if self.number else self.besides


@dataclass(frozen=True)
class ScorerSpec:
    """A line of the table of representations; nothing outside a representation's own file compares its name.

    ``load``: where its class stands, as ``module:Class``. ``output``: features, from which candidates can be compared
    with each other too; the similarity itself; or one score per candidate, the same for every query.
    ``needs``: "model", "tokenizer" (of the model, and no more of it), "query", "warmup".
    ``reads``: the settings that it looks at, besides those that every run has; ``rows``: those of them that decide the
    pool's rows, and so may not change under a store. ``fixed``: settings whose value is its own, whatever the method
    says. ``refuses``: values that it cannot do with. ``stores``: whose store it starts from, where that is another's.
    ``bound_to_queries``: the pool's rows are made for these queries, all together, and serve no others.
    ``looks_at_pool``: what a candidate scores depends on which others there are: a covariance, how rare a word is.
    ``keeps_rows``: whether there is a store of the pool's rows. ``argument``: what must stand behind a colon.
    ``passes``: what its rows cost, where the model is needed for them.
    ``beside``: the setting that names another representation, whose features of the pool it looks at too.
    ``shards_model``: whether its rows can be made by ranks that hold one model together.
    """

    load: str
    summary: str
    source: str
    output: Literal["features", "similarity", "scores", "nothing"]
    needs: frozenset[str] = frozenset()
    reads: frozenset[str] = frozenset()
    rows: frozenset[str] = frozenset()
    fixed: Mapping[str, object] = field(default_factory=lambda: MappingProxyType({}))
    refuses: tuple[Refusal, ...] = ()
    stores: str | None = None
    bound_to_queries: bool = False
    looks_at_pool: bool = False
    keeps_rows: bool = True
    argument: str | None = None
    passes: Passes | None = None
    beside: str | None = None
    shards_model: bool = False

    @property
    def has_objective(self) -> bool:
        """Whether the queries' rows are gradients of an objective."""
        return "objective" in self.reads

    @property
    def has_pool_features(self) -> bool:
        """Whether there are features of the pool that any queries can be compared with: a store to start from."""
        return self.output == "features" and not self.bound_to_queries

    @property
    def gives_cheap_features(self) -> bool:
        """Whether its features of the pool are its own and need no gradients."""
        return self.has_pool_features and self.stores is None and "warmup" not in self.needs

    @property
    def joins_queries(self) -> bool:
        """Whether all queries are looked at together, so that there is no similarity to a single one."""
        return self.output == "scores" or self.bound_to_queries


_OBJECTIVE = frozenset(ObjectiveSettings.model_fields)
_TEMPLATE = frozenset({"template_args"})
_MODEL = _TEMPLATE | frozenset({"max_length", "dtype", "quantization", "batch_tokens"})
_ADAPTED = _MODEL | {"gradient_checkpointing", "warmup", "lora_targets", "storage"}
_NARROWED = frozenset({"response_tokens", "layers"})
_PROJECTED = frozenset({"eps_mode", "projection", "projection_dim", "projection_nonzeros"})
_OF_GRADIENTS = _ADAPTED | _NARROWED | _OBJECTIVE | {"checkpoints", "optimizer"}
_OF_EVERY_CHECKPOINT = Passes(2, at_checkpoints=True)
_OF_ENCODER = Passes(0, besides="1 of its encoder")
_LANDMARKS = frozenset({"landmarks", "landmark_draw", "landmark_features", "refine", "encoder"})
_ON_PATHS = _MODEL | {"gradient_checkpointing", "lora_targets", "tacs_paths", "tacs_rate", "tacs_depth"}
_JUDGE = frozenset(JUDGE_FIELDS.values())
_GRADIENT_NEEDS = frozenset({"model", "query", "warmup"})

SCORERS: dict[str, ScorerSpec] = {
    "gradient": ScorerSpec(
        "handpick.scorers.gradient:Gradient", "gradient of the loss at a LoRA warmup's checkpoints, projected",
        "LESS, arXiv 2402.04333", "features", _GRADIENT_NEEDS, _OF_GRADIENTS | _PROJECTED | {"score_only"},
        rows=_ADAPTED | _NARROWED | _PROJECTED, passes=_OF_EVERY_CHECKPOINT, shards_model=True,
    ),
    "whitened": ScorerSpec(
        "handpick.scorers.whitened_gradient:Whitened",
        "the same, the query's side through the inverse of the pool's covariance",
        "ours, after TRAK, arXiv 2303.14186", "features", _GRADIENT_NEEDS,
        _OF_GRADIENTS | _PROJECTED | {"whitening_damping"}, rows=_ADAPTED | _NARROWED | _PROJECTED, stores="gradient",
        looks_at_pool=True, passes=_OF_EVERY_CHECKPOINT,
        refuses=(Refusal("projection", "none", "whitening needs projected gradients: choose another --projection"),),
    ),
    "gist": ScorerSpec(
        "handpick.scorers.gist:Gist", "gradient in the subspace of the queries' gradients", "GIST, arXiv 2602.18584",
        "features", _GRADIENT_NEEDS, _OF_GRADIENTS | {"gist_dim"}, rows=_ADAPTED | _NARROWED | {"gist_dim"},
        fixed=MappingProxyType({"optimizer": "sgd"}), bound_to_queries=True, passes=Passes(2),
        refuses=(
            Refusal("optimizer", "adam", "gist takes plain gradients: leave optimizer out"),
            Refusal("balanced", True, "gist compares with each subtask's mean already: leave balanced out"),
        ),
    ),
    "landmarks": ScorerSpec(
        "handpick.scorers.landmarks:Landmarks", "gradient of a few, its similarity spread over cheap features to all",
        "Influence Distillation, arXiv 2505.19051", "similarity", _GRADIENT_NEEDS,
        _OF_GRADIENTS | _PROJECTED | _LANDMARKS, rows=_ADAPTED | _NARROWED | _PROJECTED | _LANDMARKS,
        beside="landmark_features", looks_at_pool=True, passes=Passes(1, besides="2 a checkpoint for the landmarks"),
    ),
    "tacs": ScorerSpec(
        "handpick.scorers.tacs:Tacs", "how much easier it gets once the model has learnt the queries",
        "TACS, arXiv 2605.09404", "similarity", frozenset({"model", "query"}), _ON_PATHS, rows=_ON_PATHS,
        bound_to_queries=True, passes=Passes(2),
    ),
    "rds+": ScorerSpec(
        "handpick.scorers.hidden_states:HiddenStates", "position-weighted mean of the last hidden states",
        "Ivison et al., arXiv 2503.01807", "features", frozenset({"model", "query"}), _MODEL | {"storage"},
        rows=_MODEL | {"storage"}, passes=Passes(1),
    ),
    "whitened-rds+": ScorerSpec(
        "handpick.scorers.whitened_rows:WhitenedHiddenStates",
        "the same, the query's side through the inverse of the pool's second moment", "ours", "features",
        frozenset({"model", "query"}), _MODEL | {"storage", "whitening_damping"}, rows=_MODEL | {"storage"},
        stores="rds+", looks_at_pool=True, passes=Passes(1),
    ),
    "embed": ScorerSpec(
        "handpick.scorers.embedding:Embedding", "sentence embedding of the conversation", "TIS, arXiv 2602.14696",
        "features", frozenset({"query"}), frozenset({"encoder", "storage"}), rows=frozenset({"encoder", "storage"}),
        passes=_OF_ENCODER,
    ),
    "whitened-embed": ScorerSpec(
        "handpick.scorers.whitened_rows:WhitenedEmbedding",
        "the same, the query's side through the inverse of the pool's second moment", "ours", "features",
        frozenset({"query"}), frozenset({"encoder", "storage", "whitening_damping"}),
        rows=frozenset({"encoder", "storage"}), stores="embed", looks_at_pool=True, passes=_OF_ENCODER,
    ),
    "embed-prompt": ScorerSpec(
        "handpick.scorers.embedding:PromptEmbedding", "sentence embedding of the prompt alone, without the answer",
        "IterSelectTune, arXiv 2410.13464", "features", frozenset({"query"}), frozenset({"encoder", "storage"}),
        rows=frozenset({"encoder", "storage"}), passes=_OF_ENCODER,
    ),
    "bm25": ScorerSpec(
        "handpick.scorers.bm25:Bm25Scorer", "BM25 of the query's words in an example", "Robertson and Zaragoza 2009",
        "similarity", frozenset({"query"}), looks_at_pool=True, keeps_rows=False,
    ),
    "dsir": ScorerSpec(
        "handpick.scorers.dsir:DsirScorer", "log importance weight of hashed n-grams", "DSIR, arXiv 2302.03169",
        "scores", frozenset({"query"}), frozenset({"dsir_smoothing"}), looks_at_pool=True, keeps_rows=False,
    ),
    "perplexity": ScorerSpec(
        "handpick.scorers.model_scores:Perplexity", "of the response, under the model",
        "Yin and Rush, arXiv 2410.16208", "scores", frozenset({"model"}), _MODEL, rows=_MODEL,
        passes=Passes(1),
    ),
    "ifd": ScorerSpec(
        "handpick.scorers.model_scores:IFD",
        "loss of the response with the prompt over without; 1 or more comes last", "Li et al., arXiv 2308.12032",
        "scores", frozenset({"model"}), _MODEL, rows=_MODEL,
        passes=Passes(2, at_most=True),
    ),
    "length": ScorerSpec(
        "handpick.scorers.response_length:ResponseLength", "tokens of the response",
        "Zhao et al., arXiv 2402.04833", "scores", frozenset({"tokenizer"}), _TEMPLATE, rows=_TEMPLATE,
    ),
    "vectors": ScorerSpec(
        "handpick.scorers.vector_file:Vectors", "row of a file of vectors with ids, made elsewhere", "yours",
        "features", frozenset({"query"}), frozenset({"storage"}), rows=frozenset({"storage"}), argument="FILE",
    ),
    "scores": ScorerSpec(
        "handpick.scorers.score_file:Scores", "score in a file with ids, made elsewhere; largest first", "yours",
        "scores", keeps_rows=False, argument="FILE",
    ),
    "reward": ScorerSpec(
        "handpick.scorers.reward_scores:Rewarded", "reward of its own answer; largest first", "rewards", "scores",
        reads=frozenset({"allow_code_execution", "allow_weak_sandbox"}), argument="NAME",
    ),
    "judge": ScorerSpec(
        "handpick.scorers.judge_grades:Judged", "grade that a language model gives its own answer; largest first",
        "rewards", "scores", reads=_JUDGE, keeps_rows=False, argument="MODEL",
    ),
    "none": ScorerSpec("handpick.scorers.nothing:Nothing", "nothing at all", "baseline", "nothing", keeps_rows=False),
}  # fmt: skip


def find_scorer(representation: str) -> ScorerSpec:
    """Return the table's line of a representation, such as ``rds+`` or ``scores:FILE``.

    Raises:
        SettingsError: there is none of that name, or what must stand behind its colon is missing or out of place.
    """
    name, colon, argument = representation.partition(":")
    spec = SCORERS.get(name)
    if spec is None:  # the names as they are written: vectors:FILE
        return look_up(
            {f"{each}:{line.argument}" if line.argument else each: line for each, line in SCORERS.items()},
            name,
            "representation",
        )
    if spec.argument is not None and not argument:
        raise SettingsError(f"the representation {name} needs more: write {name}:{spec.argument}")
    if spec.argument is None and colon:
        raise SettingsError(f"the representation {name} takes nothing behind a colon: write {name}")
    return spec
