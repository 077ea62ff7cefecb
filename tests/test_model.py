"""What a model is: its bytes or its commit, and neither where it lies nor what reads it."""

import json
from pathlib import Path

import pytest
import torch
from huggingface_hub import constants
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM, configuration_utils

from handpick.data import hub
from handpick.errors import ModelError
from handpick.model import load_tokenizer, model_fingerprint


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    sizes = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1}
    LlamaForCausalLM(LlamaConfig(vocab_size=8, **sizes)).save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def cached(commit: str, folder: Path, cache: Path) -> None:
    """``folder`` as the Hub's client keeps the model someone/tiny at a commit that is now the newest."""
    of_model = cache / "models--someone--tiny"
    (of_model / "refs").mkdir(parents=True, exist_ok=True)
    (of_model / "refs" / "main").write_text(commit)
    snapshot = of_model / "snapshots" / commit
    snapshot.mkdir(parents=True)
    (snapshot / "config.json").write_bytes((folder / "config.json").read_bytes())


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(hub, "hub_answers", lambda: False)
    return tmp_path / "cache"


def test_a_model_of_the_hub_is_known_by_its_commit(folder: Path, cache: Path) -> None:
    cached("a" * 40, folder, cache)
    before = model_fingerprint("someone/tiny")
    cached("b" * 40, folder, cache)
    assert before == {"hub": "someone/tiny", "commit": "a" * 40}
    assert model_fingerprint("someone/tiny") == {"hub": "someone/tiny", "commit": "b" * 40}


def test_a_model_that_is_nowhere_has_no_fingerprint(cache: Path) -> None:
    with pytest.raises(ModelError, match="no folder someone/none, and no model of that name in the local cache"):
        model_fingerprint("someone/none")


def test_another_version_of_the_library_makes_no_other_model(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = model_fingerprint(str(folder))
    monkeypatch.setattr(configuration_utils, "__version__", "5.99.0")
    assert model_fingerprint(str(folder.rename(tmp_path / "moved"))) == before


def test_another_setting_makes_another_model(folder: Path) -> None:
    before = model_fingerprint(str(folder))
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"rms_norm_eps": 1e-3}))
    assert model_fingerprint(str(folder)) != before


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({"tekken.json": "{}"}, "tekken.json (mistral-common)"),
        ({"tekken.json": "{}", "tokenizer_config.json": "{}"}, "tekken.json (mistral-common)"),
        ({"tokenizer.model": "x", "tokenizer_config.json": "{}"}, "tokenizer.model (SentencePiece or tiktoken)"),
        ({"spiece.model": "x"}, "spiece.model (SentencePiece)"),
    ],
)
def test_a_tokenizer_that_is_no_fast_one_is_named(folder: Path, files: dict[str, str], said: str) -> None:
    for name, content in files.items():
        (folder / name).write_text(content)
    with pytest.raises(ModelError) as told:
        load_tokenizer(str(folder))
    assert str(told.value) == (
        f"the tokenizer of {folder} is {said}, which says of no token where it stands in the text: put the model's "
        "fast tokenizer (tokenizer.json) into the folder, as its copies for transformers have it"
    )


def test_a_tokenizer_that_another_library_reads_is_named_by_its_class(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As transformers gives one where mistral-common is installed: it has no word on being fast."""

    class MistralCommonBackend:
        pass

    (folder / "tokenizer_config.json").write_text("{}")
    monkeypatch.setattr(AutoTokenizer, "from_pretrained", lambda *args, **kwargs: MistralCommonBackend())
    with pytest.raises(ModelError, match=r"^the tokenizer of .* is MistralCommonBackend, which says of no token where"):
        load_tokenizer(str(folder))


@pytest.mark.parametrize(
    "content", ["{", "{}", '{"version": "1.0", "added_tokens": [], "model": {"type": "Unheard of"}}']
)
def test_a_damaged_tokenizer_is_one_sentence(folder: Path, content: str) -> None:
    (folder / "tokenizer.json").write_text(content)
    with pytest.raises(ModelError, match=f"^the tokenizer of {folder} cannot be loaded: .+$"):
        load_tokenizer(str(folder))
    (folder / "tokenizer.json").unlink()
    with pytest.raises(ModelError, match="the folder has no tokenizer"):
        load_tokenizer(str(folder))
