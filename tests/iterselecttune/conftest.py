"""A small world in which some examples are hard for a reason that a classifier can learn, and a judge who knows it."""

import random
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from handpick.iterselecttune.settings import IterSelectSettings
from tests.conftest import write_jsonl
from tests.iterselecttune.test_classifier import WORDS, tiny_bert
from tests.judge.server import KEY, KEY_ENV, Response, Server, running, says

_ANSWER = re.compile(r"\[begin answer A (\w+)\]\n(.*?)\n\[end answer A \1\]", re.DOTALL)


def world(n: int, seed: int = 0) -> list[dict[str, Any]]:
    """Records of random words; every third has the word ``marker`` in its prompt, and is hard."""
    draw = random.Random(seed)
    found = []
    for i in range(n):
        words = draw.choices(WORDS, k=draw.randint(4, 8))
        if i % 3 == 0:
            words.insert(draw.randrange(len(words)), "marker")
        answer = " ".join(draw.choices(WORDS, k=3))
        messages = [{"role": "user", "content": " ".join(words)}, {"role": "assistant", "content": f"said {answer}"}]
        found.append({"id": f"r{i}", "source": "hard" if i % 3 == 0 else "easy", "messages": messages})
    return found


def verdict(prompt: str) -> str:
    """Of a judge who finds the reference better where there is the marker, and else that it is a tie."""
    found = _ANSWER.search(prompt)
    assert found is not None
    reference_is_a = found[2].startswith("said ")
    if "marker" not in prompt:
        return '{"verdict": "tie"}'
    return '{"verdict": "A"}' if reference_is_a else '{"verdict": "B"}'


@pytest.fixture(scope="session")
def tiny_classifier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_bert(tmp_path_factory.mktemp("bert"))


@pytest.fixture(scope="session")
def tiny_sentences(tmp_path_factory: pytest.TempPathFactory, tiny_classifier: Path) -> Path:
    """The same encoder as sentence-transformers saves one."""
    pytest.importorskip("sentence_transformers")
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Pooling, Transformer

    folder = tmp_path_factory.mktemp("sentences") / "encoder"
    torch.manual_seed(0)
    body = Transformer(str(tiny_classifier), max_seq_length=40)
    SentenceTransformer(modules=[body, Pooling(32, pooling_mode="mean")], device="cpu").save(str(folder))
    return folder


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv(KEY_ENV, KEY)
    with running() as server:
        server.respond = lambda prompt, before: judged(prompt)
        yield server


def judged(prompt: str) -> Response:
    return says(verdict(prompt))


Ask = Callable[..., IterSelectSettings]


@pytest.fixture
def ask(tmp_path: Path, tiny_model: Path, tiny_classifier: Path, tiny_sentences: Path, server: Server) -> Ask:
    """Settings of a run in the small world: 90 records, 3 rounds of 16, asked of the server."""

    def make(out: str = "out", n: int = 90, judging: dict[str, Any] | None = None, **values: Any) -> IterSelectSettings:
        pool = write_jsonl(tmp_path / f"pool-{n}.jsonl", world(n))
        classifier = {"model": str(tiny_classifier), "epochs": 12, "learning_rate": 5e-3, "batch": 8, "held_out": 0.25}
        asked: dict[str, Any] = {}
        if ":" not in values.get("judge", "m"):
            asked = {"url": server.url, "key_env": KEY_ENV, "backoff_s": 0.001, "retries": 2, "timeout_s": 5}
        given = {
            "pool": str(pool), "model": str(tiny_model), "judge": "m", "out": str(tmp_path / out), "rounds": 3,
            "batch": 16, "clusters": 5, "patience": 0, "max_new_tokens": 4, "encoder": str(tiny_sentences),
            "classifier": classifier, "judging": asked | (judging or {}),
        }  # fmt: skip
        return IterSelectSettings.from_values(given | values)

    return make
