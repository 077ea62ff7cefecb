"""What the commands of the campaign are given, all of it tiny, and the commands."""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

# one thread a process, which can be forked, and adds up in one order; nothing is looked for on a hub
ENVIRONMENT = {
    "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "RAYON_NUM_THREADS": "1",
    "TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "NO_PROXY": "127.0.0.1",
    "COLUMNS": "120", "NO_COLOR": "1",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Command:
    """A command line, and the folder that it writes."""

    name: str
    arguments: str  #: With ``URL`` for the judge's address and ``OUT`` for the folder; no word has a space.
    judged: bool = False
    fails: tuple[int, ...] = (2,)  #: Exit statuses where something could not be done.

    @property
    def out(self) -> str:
        return f"runs/{self.name}"

    def words(self, url: str) -> list[str]:
        there = {"URL": url, "OUT": self.out}
        return [there.get(word, word) for word in self.arguments.split()]


_JUDGE = "--judge-url URL --judge-key-env CAMPAIGN_KEY --judge-workers 1"
COMMANDS = {
    command.name: command
    for command in (
        Command(
            "select",
            "select --out OUT --pool given/pool.jsonl --query given/query.jsonl --model given/model --method less-rr"
            " --budget 8 --warmup small --projection-dim 64 --shard-rows 8 --max-length 256 --dtype float32",
        ),
        Command(
            "represent",
            "represent --out OUT --pool given/pool.jsonl --model given/model --method gradient-rr --warmup none"
            " --projection-dim 64 --shard-rows 8 --max-length 256 --dtype float32",
        ),
        Command(
            "iterselect",
            "iterselect --out OUT --pool given/marked.jsonl --model given/model --judge m --rounds 2 --batch 12"
            f" --clusters 3 --max-new-tokens 4 --encoder given/encoder --classifier given/bert {_JUDGE}",
            judged=True,
        ),
        Command("study", "study given/study.yaml", fails=(1, 2)),  # 1: some cells failed
        Command(
            "train",
            "train --out OUT --selection given/pool.jsonl --model given/model --epochs 2 --batch 4 --lora-rank 2"
            " --max-length 256 --dtype float32",
        ),
        Command(
            "evaluate",
            "evaluate --out OUT --model given/model --target t=given/test.jsonl --metric loss --metric judge:m"
            f" --max-new-tokens 4 {_JUDGE}",
            judged=True,
        ),
        Command(
            "audition",
            "audition --out OUT --methods bm25,rds+ --draws 2 --repeats 1 --pool given/pool.jsonl"
            " --query given/query.jsonl --model given/model --budget 12 --max-length 256 --dtype float32",
        ),
    )
}

_STUDY = """
out: runs/study
pool: given/pool.jsonl
models: given/model
targets: {gsm8k: {query: given/query.jsonl, test: given/test.jsonl}}
methods: [bm25, rds+]
budgets: [4]
seeds: 1
draws: 1
baselines: [zero-shot, random]
max_length: 256
train: {epochs: 1, batch: 4, dtype: float32}
"""


def give(folder: Path) -> None:
    """Write all that the commands read."""
    from handpick import bundled
    from tests.conftest import make_model, records, write_jsonl
    from tests.iterselecttune.conftest import world
    from tests.iterselecttune.test_classifier import tiny_bert

    folder.mkdir(parents=True)
    make_model(folder / "model")
    short = [r for r in records(bundled.pool_paths()[0], 900) if sum(len(m["content"]) for m in r["messages"]) < 300]
    write_jsonl(folder / "pool.jsonl", short[:32])
    write_jsonl(folder / "query.jsonl", records(bundled.target_path("gsm8k"), 8))
    write_jsonl(folder / "test.jsonl", records(bundled.target_path("gsm8k"), 14)[8:])
    write_jsonl(folder / "marked.jsonl", world(36))
    (folder / "study.yaml").write_text(_STUDY)
    _save_encoder(tiny_bert(folder / "bert"), folder / "encoder")


def _save_encoder(body: Path, folder: Path) -> None:
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Pooling, Transformer

    modules = [Transformer(str(body), max_seq_length=40), Pooling(32, pooling_mode="mean")]
    SentenceTransformer(modules=modules, device="cpu").save(str(folder))


@contextmanager
def judge(log: Path) -> Iterator[str]:
    """A judge behind a server, in a process of its own; what it is asked is appended to a file, a digest a line."""
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        _serve(log, lambda url: os.write(writing, url.encode()))
    try:
        yield os.read(reading, 100).decode()
    finally:
        import signal

        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        os.close(reading)
        os.close(writing)


def _serve(log: Path, say: Callable[[str], object]) -> None:
    import hashlib
    import threading

    from tests.iterselecttune.conftest import judged
    from tests.judge.server import Response, Server, says

    lock = threading.Lock()

    def respond(prompt: str, before: int) -> Response:
        digest = hashlib.sha256(prompt.encode()).hexdigest()
        with lock, log.open("a") as lines:
            lines.write(f"{digest}\n")
        if "begin answer A" in prompt:
            return judged(prompt)
        return says(f'{{"score": {1 + int(digest[:8], 16) % 10}}}')

    try:
        server = Server()
        server.respond = respond
        threading.Thread(target=server.http.serve_forever, daemon=True).start()
        say(server.url)
        threading.Event().wait()
    finally:
        os._exit(1)


def run_command(words: list[str], here: Path, said: Path) -> int:
    """Run handpick's command line in this process, which is a forked one; return its exit status."""
    os.chdir(here)
    stream = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(stream, 1)
    os.dup2(stream, 2)
    sys.argv = ["handpick", *words]
    from handpick.cli import app

    try:
        app(words)
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else int(end.code is not None)
    sys.stdout.flush()
    sys.stderr.flush()
    return status
