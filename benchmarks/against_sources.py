"""handpick's methods, statistics and metrics against independent programs that compute the same.

    python -m venv sources && sources/bin/pip install torch==2.13.0
    sources/bin/pip install '.[text,rouge,transport]' 'lm-eval[ifeval]' torchmetrics apricot-select dattri-llm
    sources/bin/pip install --no-deps llama-index-core data-selection   # the first for nltk's punkt_tab, in its wheel
    HANDPICK_DATA=… sources/bin/python benchmarks/against_sources.py [NAME ...]

Each line: what was compared with which package, how many values, how many are equal, how many are not, and why. A
package that is not there is said, and its lines are left out. Real texts are those of HANDPICK_DATA; gradients are the
shipped model's, of the shipped pool, and need no other file. Lines are kept in benchmarks/results/against_sources.json
by the comparison's name, so that some can be made anew (ifeval, squad, …), and the table beside it is made of them.
"""

import argparse
import gzip
import itertools
import json
import os
import platform
import random
import re
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from handpick import bundled

Floats = NDArray[np.floating[Any]]
RESULTS = Path(__file__).parent / "results"
DATA = Path(os.environ.get("HANDPICK_DATA", Path(__file__).parents[2] / "shared" / "data"))
BARE = [("the", "a"), ("", ""), ("...", "the"), ("a", "a cat")]  # without a word on one side or both
ANSWERS = 5  # real answers held against every prompt of IFEval


@dataclass(frozen=True)
class Line:
    """A row of the table; ``why`` says what those that are not equal are."""

    what: str
    source: str
    compared: int
    equal: int
    why: str = ""


class MissingError(Exception):
    """Something that a comparison needs is not on this machine."""


def need(*packages: str) -> str:
    """Return the packages with their versions; raise where one is not installed."""
    try:
        return ", ".join(f"{package} {version(package)}" for package in packages)
    except PackageNotFoundError as error:
        raise MissingError(f"{error.name} is not installed") from error


def records(*parts: str) -> list[dict[str, Any]]:
    path = DATA.joinpath(*parts)
    if not path.exists():
        raise MissingError(f"there is no {path}: set HANDPICK_DATA")
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def real_answers() -> list[str]:
    return [record["messages"][-1]["content"] for record in records("pool", "pool_small.jsonl.gz")]


def counted(what: str, source: str, pairs: Iterable[tuple[Any, Any]], why: str = "") -> Line:
    compared = equal = 0
    for ours, theirs in pairs:
        compared += 1
        equal += ours == theirs
    return Line(what, source, compared, equal, why if equal < compared else "")


def near(what: str, source: str, ours: Floats, theirs: Floats, tolerance: float, why: str = "") -> Line:
    """Count as equal what is within a tolerance; the largest difference is said."""
    off = np.abs(np.asarray(ours, np.float64) - np.asarray(theirs, np.float64))
    said = f"within {tolerance:g}; the largest difference is {off.max():.1e}"
    return Line(what, source, off.size, int((off <= tolerance).sum()), f"{said}. {why}" if why else said)


# --- metrics ---


def programs_of_ifeval() -> tuple[str, Any, Any]:
    """The authors' program as lm-eval carries it, with nltk's data where a package has them."""
    source = need("lm-eval", "nltk", "langdetect")
    import nltk

    spec = find_spec("llama_index")
    for place in spec.submodule_search_locations if spec and spec.submodule_search_locations else ():
        nltk.data.path.insert(0, str(Path(place) / "core" / "_static" / "nltk_cache"))
    try:
        nltk.data.find("tokenizers/punkt_tab")
    except LookupError as error:
        raise MissingError("nltk's punkt_tab is not there: pip install --no-deps llama-index-core") from error
    import langdetect
    from lm_eval.tasks.ifeval import instructions_registry, instructions_util

    langdetect.DetectorFactory.seed = 0
    return source, instructions_registry.INSTRUCTION_DICT, instructions_util


def ifeval() -> Iterator[Line]:
    from handpick.rewards.ifeval import count_capital_words, count_sentences, follows

    source, instructions, util = programs_of_ifeval()
    prompts = records("targets", "ifeval", "dev.jsonl.gz") + records("targets", "ifeval", "test.jsonl.gz")
    answers, rng = real_answers(), random.Random(0)
    answers = [answer for answer in answers if len(answer.split()) >= 5]
    cases = [(prompt, answer) for prompt in prompts for answer in rng.sample(answers, ANSWERS)]
    found: dict[str, list[tuple[bool, bool]]] = {"strict": [], "loose": []}
    apart: dict[str, Counter[str]] = {way: Counter() for way in found}
    drawn = drawn_equal = 0
    for prompt, answer in cases:
        ours = {way: follows(answer, prompt, loose=way == "loose") for way in found}
        for place, (name, given) in enumerate(zip(prompt["instruction_id_list"], prompt["kwargs"], strict=True)):
            given = {key: value for key, value in (given or {}).items() if value is not None}
            program = instructions[name](name)
            program.build_description(**given)
            args = program.get_instruction_args()
            if args and "prompt" in args:
                program.build_description(prompt=prompt["messages"][0]["content"])
            at_random = name == "keywords:letter_frequency" and not re.fullmatch("[A-Za-z]", given["letter"].strip())
            for way in found:
                texts = variants(answer) if way == "loose" else [answer]
                theirs = any(text.strip() and program.check_following(text) for text in texts)
                if at_random:
                    drawn, drawn_equal = drawn + 1, drawn_equal + (ours[way][place] == theirs)
                    continue
                found[way].append((ours[way][place], bool(theirs)))
                apart[way][name] += ours[way][place] != theirs
    for way, pairs in found.items():
        why = "; ".join(f"{name} {n}" for name, n in apart[way].most_common() if n)
        why += ": a language is told by script and common words, not by langdetect" if why else ""
        yield counted(f"IFEval, {way}: instructions followed by {len(cases):,} real answers", source, pairs, why)
    yield Line(
        "IFEval: letters that are none (# and !)", source, drawn, drawn_equal,
        "the program draws a letter at random instead of the one that the prompt names",
    )  # fmt: skip
    texts = [answer for _, answer in cases] + list(hand_made())
    yield counted("IFEval: sentences", source, ((count_sentences(t), util.count_sentences(t)) for t in texts))
    capitals = (sum(word.isupper() for word in util.nltk.word_tokenize(text)) for text in texts)
    yield counted("IFEval: words in capitals", source, zip(map(count_capital_words, texts), capitals, strict=True))


def variants(answer: str) -> list[str]:
    """The eight texts that the authors' loose accuracy looks at."""
    lines = answer.split("\n")
    kept = ["\n".join(some).strip() for some in (lines[1:], lines[:-1], lines[1:-1])]
    return [answer, *kept, *(text.replace("*", "") for text in (answer, *kept))]


def hand_made() -> Iterator[str]:
    yield "1. Wash the rice.\n2. Cook it.\n3. Eat."
    yield "At 5 p.m. we left for the U.S. We DIDN'T look back... Did we?"
    yield "*\nA lone asterisk.\n* One more (so it is!)\n- And a hyphen."


def distorted(answer: str, rng: random.Random) -> str:
    """What a model might have said instead of an answer."""
    words = answer.split()
    ways = (
        answer,
        answer.upper(),
        f"The {answer}.",
        f"It is {answer}, I think",
        " ".join(words[: max(1, len(words) // 2)]),
        " ".join(reversed(words)),
        "",
        "the",
        "…",
    )
    return rng.choice(ways)


def short_answers(language: str | None) -> list[tuple[str, str]]:
    names = {"en": "english", "es": "spanish", "de": "german", "ar": "arabic", "zh": "chinese", "vi": "vietnamese",
             "hi": "hindi"}  # fmt: skip
    known = {language, names.get(language or "en", ""), *(["en", "english"] if language is None else [])}
    rng = random.Random(0)
    found = [(distorted(reference, rng), reference) for record in records("targets", "xquad", "test.jsonl.gz")
             if str(record.get("subtask")) in known for reference in record["answers"][:1]]  # fmt: skip
    return [*found, *BARE]


def squad() -> Iterator[Line]:
    from handpick.rewards.squad import f1, same_words

    pairs = short_answers(None)
    source = need("torchmetrics")
    from torchmetrics.functional.text import squad as squad_1

    def theirs(said: str, reference: str) -> dict[str, float]:
        answers = {"answer_start": [0], "text": [reference]}
        scores = squad_1([{"prediction_text": said, "id": "1"}], [{"answers": answers, "id": "1"}])
        return {name: float(value) / 100 for name, value in scores.items()}

    scored = [theirs(*pair) for pair in pairs]
    why = "where both sides have no word, torchmetrics gives 1, as version 2.0's script, and that of 1.1 gives 0"
    yield near("SQuAD F1, English", source, [f1(*pair) for pair in pairs], [each["f1"] for each in scored], 1e-6, why)
    exact = [each["exact_match"] for each in scored]
    yield near("SQuAD exact match, English", source, [same_words(*pair) for pair in pairs], exact, 1e-6)


def mlqa() -> Iterator[Line]:
    from handpick.rewards.squad import f1

    source = need("lm-eval")
    from lm_eval.tasks.mlqa import utils

    whys = {"ar": "lm-eval drops the article at the start of a word alone, MLQA's own script wherever it stands"}
    for language in ("en", "es", "de", "ar", "zh", "vi", "hi"):
        pairs = short_answers(language)
        if len(pairs) == len(BARE):  # a language that XQuAD's records here do not have
            continue
        ours, theirs = [f1(*pair, language) for pair in pairs], [utils.f1_score(*pair, language) for pair in pairs]
        yield near(f"MLQA F1, {language}", source, ours, theirs, 1e-6, whys.get(language, ""))


def rouge() -> Iterator[Line]:
    from handpick.rewards.rouge import rouge_l

    source = need("rouge-score")
    from rouge_score.rouge_scorer import RougeScorer

    scorer, texts = RougeScorer(["rougeL"], use_stemmer=False), real_answers()[:2000]
    pairs = list(itertools.pairwise(texts))
    ours = [rouge_l(a, b) for a, b in pairs]
    theirs = [scorer.score(b, a)["rougeL"].fmeasure for a, b in pairs]
    plain = [a.isascii() and b.isascii() for a, b in pairs]
    for ascii_alone, why in ((True, ""), (False, "rouge-score's own tokenizer drops every letter that is not a to z")):
        kept = [i for i, each in enumerate(plain) if each == ascii_alone]
        what = "ROUGE-L of real answers, ASCII" if ascii_alone else "ROUGE-L of real answers, other letters among them"
        yield near(what, source, [ours[i] for i in kept], [theirs[i] for i in kept], 1e-9, why)


# --- statistics ---


def spearman() -> Iterator[Line]:
    from handpick.studies.statistics import spearman as ours_of

    source = need("scipy")
    from scipy import stats

    rng, rho, share = np.random.default_rng(0), [], []
    for n in range(60):
        x, y = (rng.integers(0, 3 if n % 2 else 100, 4 + n // 2 % 2).tolist() for _ in range(2))
        if (found := ours_of(x, y)) is None:
            continue
        every = [stats.spearmanr(x, each).statistic for each in itertools.permutations(y)]
        one = stats.spearmanr(x, y).statistic
        rho.append((found[0], one))
        share.append((found[3], float((np.abs(every) >= abs(one) - 1e-9).mean())))
    yield near("Spearman's rho, half of them with ties", source, *map(np.array, zip(*rho, strict=True)), 1e-12)
    what = "its p: the share of all pairings as far from none"
    yield near(what, source, *map(np.array, zip(*share, strict=True)), 1e-12)


# --- choosing ---


def facility_location() -> Iterator[Line]:
    from handpick import rank

    source = need("apricot-select", "numba")
    from apricot import FacilityLocationSelection

    pairs: list[tuple[int, int]] = []
    for seed in range(5):
        rows = np.random.default_rng(seed).standard_normal((300, 16))
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)
        similarity = (1 + rows @ rows.T) / 2
        chosen = FacilityLocationSelection(40, metric="precomputed", optimizer="naive").fit(similarity).ranking
        pairs += zip(rank(similarity, 40, "facility-location").tolist(), chosen.tolist(), strict=True)
    yield counted("facility location: 5 × 40 picks in order", source, pairs)


def transport() -> Iterator[Line]:
    from handpick.algorithms import pick
    from handpick.algorithms.settings import AlgorithmSettings
    from handpick.distance import Products, distances

    source = need("POT")
    import ot
    from scipy.optimize import linear_sum_assignment

    rng = np.random.default_rng(0)
    rows = rng.standard_normal((240, 32)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    queries, pool = rows[:40], rows[40:]
    similarity = queries @ pool.T
    mass_q, mass_n = np.full(40, 1 / 40), np.full(200, 1 / 200)
    settings = AlgorithmSettings(uot_epsilon=0.05, uot_relaxation=0.05)
    plan = ot.unbalanced.sinkhorn_unbalanced(
        mass_q, mass_n, (1 - similarity.astype(np.float64)) / 2, 0.05, (float("inf"), 0.05), reg_type="kl",
        numItermax=100_000, stopThr=1e-13,
    )  # fmt: skip
    picks = pick(similarity, 200, "uot", settings=settings)
    theirs = plan.sum(axis=0)[picks.columns]
    yield near("unbalanced transport: mass that each of 200 receives", source, picks.scores, theirs, 1e-6)

    subset = pool[:40]
    found = distances(queries @ subset.T, Products(queries), Products(subset))
    cost = np.sqrt(2 * np.clip(1 - (queries @ subset.T).astype(np.float64), 0, None))
    best = cost[linear_sum_assignment(cost)].mean()
    what = "1-Wasserstein distance of 40 and 40 (by POT here, as an assignment there)"
    yield near(what, need("scipy"), np.array([found.wasserstein]), np.array([best]), 1e-9)


def dsir() -> Iterator[Line]:
    from handpick.scorers.dsir import Dsir

    source = need("data-selection", "scikit-learn")
    from data_selection import HashedNgramDSIR, hashed_ngram_dsir
    from scipy.stats import spearmanr
    from sklearn.utils import murmurhash3_32

    pool = real_answers()[:1000]
    queries = [record["messages"][0]["content"] for record in records("targets", "gsm8k", "dev.jsonl.gz")]
    ours = Dsir.fit(pool, queries).scores(pool)
    own_hash = hashed_ngram_dsir.hash_buckets

    def theirs(folder: Path) -> Floats:
        files = {"raw": folder / "raw.jsonl", "target": folder / "target.jsonl"}
        for name, texts in (("raw", pool), ("target", queries)):
            files[name].write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
        found = HashedNgramDSIR([str(files["raw"])], [str(files["target"])], cache_dir=str(folder / "c"), num_proc=1)
        found.fit_importance_estimator(num_tokens_to_fit="all")
        return np.array([found.importance_estimator(found.featurizer(text)) for text in pool])

    def one_hash(text: str, num_buckets: int = 10_000) -> int:
        return abs(int(murmurhash3_32(text, seed=0))) % num_buckets

    with tempfile.TemporaryDirectory() as folder:
        as_shipped = theirs(Path(folder))
    hashed_ngram_dsir.hash_buckets = one_hash
    with tempfile.TemporaryDirectory() as folder:
        same_hash = theirs(Path(folder))
    hashed_ngram_dsir.hash_buckets = own_hash
    scale = np.abs(same_hash).max()
    why = "relative to the largest; the package given MurmurHash3 for its SHA-256"
    yield near("DSIR: log weights of 1,000 real answers", source, ours / scale, same_hash / scale, 1e-6, why)
    agree = spearmanr(ours, as_shipped).statistic
    why = f"the package as it is: other buckets collide; rank correlation {agree:.4f}"
    equal = int(np.isclose(ours, as_shipped, rtol=1e-6).sum())
    yield Line("DSIR: the same by either's own hash", source, len(pool), equal, why)


# --- gradients ---


def gradient_rows(n: int, length: int) -> tuple[Any, list[Any], Any]:
    """The shipped model with an adapter that was trained a little, sequences of the shipped pool, its optimizer."""
    import torch

    from handpick.data.pool import Pool
    from handpick.data.quarantine import Quarantine
    from handpick.data.render import Renderer
    from handpick.model import load_base, load_tokenizer
    from handpick.objectives.next_token import NextToken
    from handpick.training.settings import LoraSettings
    from handpick.training.warmup import new_adapter

    name = str(bundled.model_path())
    with tempfile.TemporaryDirectory() as folder:
        pool = Pool.open([str(bundled.pool_paths()[0])], cache=Path(folder), quarantine=Quarantine(Path(folder) / "q"))
        examples = list(pool.examples(0, 4 * n))
    _, sequences, _ = NextToken(Renderer(load_tokenizer(name)), length).prepare(examples)
    base = load_base(name, torch.float32)
    model: Any = new_adapter(base, LoraSettings(rank=8, alpha=16, dropout=0.0), seed=0, in_float32=True)
    torch.manual_seed(0)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-3, weight_decay=0.0)
    for sequence in sequences[n : n + 8]:
        optimizer.zero_grad()
        model(**batch_of(sequence)).loss.backward()
        optimizer.step()
    optimizer.zero_grad()
    return model.eval(), sequences[:n], optimizer


def batch_of(sequence: Any) -> dict[str, Any]:
    import torch

    ids, labels = torch.tensor([sequence.input_ids]), torch.tensor([sequence.labels])
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": labels}


def less() -> Iterator[Line]:
    import torch

    source = need("dattri-llm", "torch", "peft")
    from dattri_llm import REGISTER_ALL, AttributionArguments, AttributionTask, HookManagerConfig, LESSAttributor

    from handpick.gradients.adam import AdamMoments, AdamPreconditioner
    from handpick.gradients.engine import GradientEngine
    from handpick.gradients.layers import canonical_name
    from handpick.gradients.projection import NoProjection
    from handpick.objectives.next_token import mean_loss
    from handpick.scorers.gradient_encoder import encode_rows

    n_pool, n_queries = 24, 8
    model, sequences, optimizer = gradient_rows(n_pool + n_queries, 128)
    engine = GradientEngine(model)
    state = {canonical_name(name): optimizer.state[p] for name, p in model.named_parameters() if p in optimizer.state}
    step = int(next(iter(state.values()))["step"])
    first, second = ({name: each[key] for name, each in state.items()} for key in ("exp_avg", "exp_avg_sq"))
    adam = AdamPreconditioner(AdamMoments(first, second, step), "adam")
    raw = NoProjection(engine.n_coordinates)
    rows = [mean_loss(sequence) for sequence in sequences]
    pool = encode_rows(engine, rows[:n_pool], 0, raw, 4096, adam).astype(np.float64)
    queries = encode_rows(engine, rows[n_pool:], 0, raw, 4096).astype(np.float64)
    ours = unit(pool) @ unit(queries).T

    class Sequences(torch.utils.data.Dataset[dict[str, Any]]):
        def __init__(self, own: list[Any]) -> None:
            self.own = own

        def __len__(self) -> int:
            return len(self.own)

        def __getitem__(self, row: int) -> dict[str, Any]:
            return {key: value[0] for key, value in batch_of(self.own[row]).items()}

    layers = {name: "linear_io" for name, module in model.named_modules()
              if isinstance(module, torch.nn.Linear) and (".lora_A." in name or ".lora_B." in name)}  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        args = AttributionArguments(folder, per_device_train_batch_size=1, per_device_eval_batch_size=1)
        task = AttributionTask(lambda model, batch: model(**batch).loss, model)
        attributor = LESSAttributor(args, task=task, optimizers=[optimizer])
        score = attributor.attribute(
            Sequences(sequences[:n_pool]),
            Sequences(sequences[n_pool:]),
            hook_config=HookManagerConfig(hook_types=layers),
        )
    _, theirs = score.agnostic_matrix()
    assert REGISTER_ALL is not None
    why = "cosines of Adam's updates and plain gradients, LoRA of rank 8 in the shipped model, float32, no projection"
    yield near(f"LESS: {n_pool} × {n_queries} similarities", source, ours, theirs.double().numpy(), 1e-5, why)


def unit(rows: Floats) -> Floats:
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


# --- stores ---


def stores() -> Iterator[Line]:
    """1-bit and int8 stores against float32, on gradient rows of the shipped pool."""
    from handpick.gradients.engine import GradientEngine
    from handpick.gradients.projection import projection
    from handpick.objectives.next_token import mean_loss
    from handpick.scorers.gradient_encoder import encode_rows
    from handpick.store.codec import decode, encode, products, row_norms
    from handpick.store.sign_rows import SignKernel, query_slope

    model, sequences, _ = gradient_rows(232, 128)
    engine = GradientEngine(model)
    sparse = projection("sparse", engine.n_coordinates, 8192, 0, 4)
    rows = encode_rows(engine, [mean_loss(sequence) for sequence in sequences], 0, sparse, 1024)
    queries, rows = unit(rows[:32]).astype(np.float32), rows[32:]
    exact = unit(rows).astype(np.float32)
    cosines, to_queries = exact @ exact.T, queries @ exact.T
    upper = np.triu_indices(len(rows), 1)
    for storage, tolerance in (("int8", 0.01), ("1bit", 0.05)):
        tensors = encode(rows, row_norms(rows), storage)  # type: ignore[arg-type]
        stored = decode(tensors, storage, 8192, normalized=True)  # type: ignore[arg-type]
        plain = stored @ stored.T
        found = SignKernel(1)(stored, stored) if storage == "1bit" else plain
        told = products(np.float32(query_slope(storage)) * queries, tensors, storage)  # type: ignore[arg-type]
        why = f"pairs over .5: {over(cosines[upper])} in float32, {over(found[upper])} in {storage}"
        why += f", {over(plain[upper])} by inner products" if storage == "1bit" else ""
        yield near(f"stores: {storage}, cosines of 200 rows", "float32", found[upper], cosines[upper], tolerance, why)
        what = f"stores: {storage}, of 32 queries to 200 rows"
        yield near(what, "float32", told, to_queries, tolerance, f"slope {slope(told, to_queries):.3f}")
    yield whitened(queries, rows)


def whitened(queries: Floats, rows: Floats) -> Line:
    """What 1-bit rows leave of a whitened choice, at 1,024 dimensions: sums of eights of the projection's."""
    from handpick.scorers.whitening import whiten

    queries, rows = (unit(each.reshape(len(each), 8, 1024).sum(axis=1)).astype(np.float32) for each in (queries, rows))
    signs = (np.sign(rows) / np.sqrt(1024)).astype(np.float32)
    first = []
    for each in (rows, signs):
        moment = each.T.astype(np.float64) @ each / len(each)
        first.append(np.argsort(-(whiten(queries, moment, 10.0) @ each.T), axis=1)[:, :20].tolist())
    shared = sum(len(set(one) & set(other)) for one, other in zip(*first, strict=True))
    plain = [np.argsort(-(queries @ each.T), axis=1)[:, :20].tolist() for each in (rows, signs)]
    without = sum(len(set(one) & set(other)) for one, other in zip(*plain, strict=True))
    what = "stores: 1bit, whitened at 1,024 dimensions: first 20 of 200 that stay, of 32 queries"
    why = f"the second moment is the sign rows' own; without whitening {without} stay"
    return Line(what, "float32", 640, shared, why)


def over(cosines: Floats) -> int:
    return int((cosines > 0.5).sum())


def slope(told: Floats, exact: Floats) -> float:
    """By which an estimate follows what it estimates, through 0."""
    return float((told * exact).sum() / (exact**2).sum())


COMPARISONS: dict[str, Callable[[], Iterator[Line]]] = {
    each.__name__: each
    for each in (ifeval, squad, mlqa, rouge, spearman, facility_location, transport, dsir, less, stores)
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help=f"some of the comparisons: {', '.join(COMPARISONS)}")
    names = parser.parse_args().names or list(COMPARISONS)
    path = RESULTS / "against_sources.json"
    kept: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    for name in names:
        made: dict[str, Any] = {"with": f"Python {platform.python_version()}, {need('numpy', 'torch', 'handpick')}"}
        try:
            made["lines"] = [asdict(line) for line in COMPARISONS[name]()]
        except (MissingError, ImportError) as error:
            made["left out"] = str(error).partition(" (/")[0]
        kept[name] = made
        print(json.dumps(made, indent=1, ensure_ascii=False), flush=True)
        path.write_text(json.dumps({each: kept[each] for each in COMPARISONS if each in kept}, indent=1) + "\n")
        path.with_suffix(".md").write_text(page(kept))


def page(kept: dict[str, Any]) -> str:
    rows = [
        f"| {line['what']} | {line['source']} | {line['compared']:,} | {line['equal']:,} | "
        f"{line['compared'] - line['equal']:,} | {line['why']} |"
        for name in COMPARISONS
        for line in kept.get(name, {}).get("lines", [])
    ]
    out = [f"Left out: {name}: {made['left out']}." for name, made in kept.items() if "left out" in made]
    head = "; ".join(dict.fromkeys(made["with"] for made in kept.values()))
    table = ["| what | against | compared | equal | different | why |", "|---|---|---|---|---|---|", *rows]
    return (
        "\n".join([f"`python benchmarks/against_sources.py`, {head}.", "", *table, *([""] if out else []), *out]) + "\n"
    )


if __name__ == "__main__":
    sys.path.remove(str(Path(__file__).parent))  # kernels.py is not the package that some libraries look for
    main()
