"""A score of a batch is that of the conversation alone, through transformers itself, wherever padding would stand."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    BertConfig,
    BertForSequenceClassification,
    LlamaConfig,
    LlamaForSequenceClassification,
    PreTrainedTokenizerFast,
)

from handpick.errors import DataError, ModelError
from handpick.rewards import find_reward, reward_fingerprint, score
from handpick.rewards import reward_model as module
from handpick.rewards.protocol import Prompt
from handpick.rewards.reward_model import RewardModel

ANSWERS = ["Yes.", "No, it is not so, and that for three reasons.", "", "Perhaps it is so, perhaps it is not.", "No."]
PROMPTS: list[Prompt] = [[{"role": "user", "content": text}] for text in ("Is it so?", "Why?", "Is it?", "So?", "It?")]
RECORDS = [{"id": f"r{i}"} for i in range(5)]


def edit(path: Path, **changes: Any) -> None:
    """Set, or with None take out, entries of a JSON file."""
    entries = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({key: value for key, value in entries.items() if value is not None}))


@pytest.fixture(scope="module")
def llama(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A decoder with a chat template and a padding token."""
    folder = tmp_path_factory.mktemp("reward") / "llama"
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=512, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
        max_position_embeddings=256, num_labels=1, pad_token_id=1, eos_token_id=0, bos_token_id=None,
    )  # fmt: skip
    LlamaForSequenceClassification(config).save_pretrained(folder)
    AutoTokenizer.from_pretrained(tiny_model).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An encoder whose tokenizer has no chat template, but a form for pairs of texts."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    folder = tmp_path_factory.mktemp("reward") / "bert"
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *sorted(set(" ".join(ANSWERS).replace(".", " .").split())), "it", "?"]
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(dict.fromkeys(words))}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]",
        model_max_length=40,
    ).save_pretrained(folder)  # fmt: skip
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(words), hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
        max_position_embeddings=64, num_labels=1, initializer_range=0.5,
    )  # fmt: skip
    BertForSequenceClassification(config).save_pretrained(folder)
    return folder


def alone(folder: Path) -> list[float]:
    """The oracle: each conversation by itself, without any padding."""
    model = AutoModelForSequenceClassification.from_pretrained(folder, dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    scores = []
    for prompt, answer in zip(PROMPTS, ANSWERS, strict=True):
        if tokenizer.chat_template:
            text = tokenizer.apply_chat_template([*prompt, {"role": "assistant", "content": answer}], tokenize=False)
            inputs = {"input_ids": tokenizer(text, add_special_tokens=False, return_tensors="pt")["input_ids"]}
        else:
            inputs = dict(tokenizer(prompt[0]["content"], answer, return_tensors="pt"))
        with torch.no_grad():
            scores.append(float(model(**inputs).logits))
    return scores


def scores_of(folder: Path) -> list[float]:
    return score(RewardModel(str(folder), dtype="float32"), PROMPTS, ANSWERS, RECORDS, [r["id"] for r in RECORDS])


def with_padding(folder: Path, copy: Path, side: str) -> Path:
    shutil.copytree(folder, copy)
    edit(copy / "tokenizer_config.json", padding_side=side)
    return copy


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("kind", ["llama", "bert"])
def test_a_batch_scores_as_each_alone(
    kind: str, side: str, request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = with_padding(request.getfixturevalue(kind), tmp_path / kind, side)
    expected = alone(folder)
    assert max(expected) - min(expected) > 1e-3
    assert scores_of(folder) == pytest.approx(expected, abs=1e-5)
    monkeypatch.setattr(module, "_BATCH_TOKENS", 40)  # several batches, and so another padding
    assert scores_of(folder) == pytest.approx(expected, abs=1e-5)


def test_a_decoder_without_a_padding_token_reads_the_last_token(llama: Path, tmp_path: Path) -> None:
    folder = tmp_path / "padless"
    shutil.copytree(llama, folder)
    edit(folder / "config.json", pad_token_id=None)
    assert AutoModelForSequenceClassification.from_pretrained(folder).config.pad_token_id is None
    assert scores_of(folder) == pytest.approx(alone(folder), abs=1e-5)


def test_it_is_found_by_its_name(llama: Path) -> None:
    reward = find_reward(f"model:{llama}")
    assert isinstance(reward, RewardModel)
    mark = reward_fingerprint(f"model:{llama}")
    assert mark["reward"] == "model"
    assert str(llama) not in json.dumps(mark)


def test_more_than_one_label_is_an_error(llama: Path, tmp_path: Path) -> None:
    shutil.copytree(llama, tmp_path / "two")
    edit(tmp_path / "two" / "config.json", id2label={"0": "bad", "1": "good"}, label2id={"bad": 0, "good": 1})
    with pytest.raises(ModelError, match="two is no reward model: it has 2 labels, which give no single score"):
        find_reward(f"model:{tmp_path / 'two'}")


def test_a_language_model_is_an_error(tiny_model: Path) -> None:
    with pytest.raises(ModelError, match="tiny is no reward model but LlamaForCausalLM; a reward model is a sequence"):
        find_reward(f"model:{tiny_model}")


def test_no_model_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"there is no model folder .*nowhere"):
        find_reward(f"model:{tmp_path / 'nowhere'}")


def test_weights_that_are_not_all_there_are_an_error(llama: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    shutil.copytree(llama, tmp_path / "headless")
    weights = load_file(llama / "model.safetensors")
    del weights["score.weight"]
    save_file(weights, tmp_path / "headless" / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match=r"the weights of .*headless lack 1 of the model's, among them score.weight"):
        scores_of(tmp_path / "headless")


def test_weights_that_are_no_safetensors_are_an_error(llama: Path, tmp_path: Path) -> None:
    shutil.copytree(llama, tmp_path / "pickled")
    (tmp_path / "pickled" / "model.safetensors").rename(tmp_path / "pickled" / "pytorch_model.bin")
    with pytest.raises(ModelError, match=r"the reward model .*pickled cannot be loaded: "):
        scores_of(tmp_path / "pickled")


def test_a_conversation_that_is_too_long_is_an_error(bert: Path) -> None:
    with pytest.raises(DataError, match=r"cannot score the record r1: with its answer it has \d+ tokens, and the mod"):
        RewardModel(str(bert))(PROMPTS[:2], ["No.", "No. " * 30], RECORDS[:2])


def test_a_conversation_that_the_template_refuses_is_an_error(llama: Path, tmp_path: Path) -> None:
    shutil.copytree(llama, tmp_path / "strict")
    (tmp_path / "strict" / "chat_template.jinja").write_text("{{ raise_exception('no system turn') }}")
    with pytest.raises(DataError, match="cannot score the record r0: refused by the chat template: no system turn"):
        scores_of(tmp_path / "strict")
