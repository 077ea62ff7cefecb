"""What a model is: its bytes or its commit, and neither where it lies nor what reads it."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from huggingface_hub import constants
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM, configuration_utils

from handpick import model as model_module
from handpick.bundled import model_path
from handpick.data import hub
from handpick.data.examples import Message
from handpick.errors import DataError, ModelError
from handpick.model import device, load_renderer, load_tokenizer, model_fingerprint
from handpick.progress import forward_lines


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


@pytest.fixture
def widened(tmp_path: Path) -> Path:
    """The shipped model, whose tokenizer has a token that its embedding has no row for."""
    folder = tmp_path / "widened"
    shutil.copytree(model_path(), folder)
    tokenizer = load_tokenizer(str(folder))
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|note|>"]})
    tokenizer.save_pretrained(folder)
    return folder


def test_a_token_beyond_the_embedding_is_said_and_its_records_are_refused(widened: Path) -> None:
    said: list[str] = []
    with forward_lines(said.append):
        renderer = load_renderer(str(widened))
    assert len(said) == 1
    assert "1 of the tokenizer's tokens, among them '<|note|>', are beyond the" in said[0]
    plain, marked = ([Message("user", "Hi"), Message("assistant", text)] for text in ("Hello", "<|note|> Hello"))
    assert renderer(plain, 100).input_ids
    with pytest.raises(DataError, match=r"token without an embedding: '<\|note\|>' is number \d+, and the model"):
        renderer(marked, 100)
    with pytest.raises(DataError, match="token without an embedding"):
        renderer.prompt(marked)
    with pytest.raises(DataError, match="token without an embedding"):
        renderer.token_ids(renderer.text(marked))


def test_nothing_is_said_of_a_tokenizer_that_fits() -> None:
    said: list[str] = []
    with forward_lines(said.append):
        load_renderer(str(model_path()), {"enable_thinking": False})
    assert not said


def test_a_gpu_of_apples_is_passed_over_aloud_and_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    model_module._say_that_mps_is_not_used.cache_clear()
    said: list[str] = []
    with forward_lines(said.append):
        assert [device(), device()] == [torch.device("cpu")] * 2
    assert said == ["this machine's GPU is Apple's (MPS), which handpick does not use: all is computed on the CPU"]
