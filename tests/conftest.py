"""What several tests need: a tiny language model on disk, a pool of real records, a query set."""

import errno
import gc
import gzip
import json
import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest

from handpick import bundled

VOCAB = 512
_modules = 0  # at the last look


def _set_imports_aside() -> None:
    """Tell the garbage collector that what was imported stays.

    Whoever puts a model away asks for a full collection (so does every Trainer), and each walked through all modules
    and collected tests: a third of a second, in all a quarter of the processor time that the tests took.
    """
    global _modules
    if len(sys.modules) > _modules + 100:
        _modules = len(sys.modules)
        gc.collect()
        gc.freeze()


def pytest_configure() -> None:
    """Start with no model tried (``handpick.model.tried``), and leave nothing in the user's own folder."""
    os.environ["HANDPICK_CACHE"] = tempfile.mkdtemp(prefix="handpick-tried-")


def pytest_unconfigure() -> None:
    shutil.rmtree(os.environ["HANDPICK_CACHE"], ignore_errors=True)


def pytest_collection_finish() -> None:
    _set_imports_aside()


def pytest_runtest_logfinish() -> None:
    _set_imports_aside()  # much is imported where it is first needed


def records(path: Path, n: int) -> list[dict[str, Any]]:
    """The first ``n`` records of a gzip JSON Lines file."""
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        return [json.loads(line) for _, line in zip(range(n), lines, strict=False)]


def refuse_removal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no file be removed, as on a disk that has become read-only."""

    def refuse(path: Path, missing_ok: bool = False) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))

    monkeypatch.setattr(Path, "unlink", refuse)


def refuse_listing(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Let no folder of a name be listed; root, as whom tests may run, may list all."""
    scan = os.scandir

    def refuse(path: Any = ".") -> Any:
        if Path(path).name == name:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        return scan(path)

    monkeypatch.setattr("os.scandir", refuse)


def write_jsonl(path: Path, items: list[dict[str, Any]]) -> Path:
    """Write records as JSON Lines, gzip where the name ends so."""
    text = "".join(json.dumps(item) + "\n" for item in items)
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return path


def make_model(folder: Path, *, seed: int = 0, template: str | None = "tulu", pad: bool = True) -> Path:
    """A Llama of 60,000 random parameters with a byte-level BPE of 512 tokens, saved as people save theirs."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    from handpick.data.chat_template import TULU_TEMPLATE

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    texts = [m["content"] for r in records(bundled.pool_paths()[0], 200) for m in r["messages"]]
    special = ["<|end|>", "<|pad|>", "<|user|>", "<|assistant|>"]
    trainer = trainers.BpeTrainer(
        vocab_size=VOCAB, special_tokens=special, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )  # fmt: skip
    tokenizer.train_from_iterator(texts, trainer)
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token="<|end|>", **({"pad_token": "<|pad|>"} if pad else {})
    )
    if template is not None:
        fast.chat_template = TULU_TEMPLATE if template == "tulu" else template
    torch.manual_seed(seed)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(fast), hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
            max_position_embeddings=512, tie_word_embeddings=True, eos_token_id=0, bos_token_id=None, pad_token_id=1,
        )
    )  # fmt: skip
    model.save_pretrained(folder)
    fast.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder; read only."""
    return make_model(tmp_path_factory.mktemp("model") / "tiny")


@pytest.fixture(scope="session")
def pool_records() -> list[dict[str, Any]]:
    """120 records of the demo pool, none of them long."""
    short = [r for r in records(bundled.pool_paths()[0], 900) if sum(len(m["content"]) for m in r["messages"]) < 400]
    return short[:120]


@pytest.fixture(scope="session")
def query_records() -> list[dict[str, Any]]:
    """Eight of the GSM8K dev questions."""
    return records(bundled.target_path("gsm8k"), 8)
