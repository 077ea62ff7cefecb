"""Fine-tuning: what the trainer sees, what training it is, what it leaves behind, and what it refuses."""

import json
import math
import shutil
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
import torch
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from handpick.data.render import IGNORED, Rendered
from handpick.errors import DataError, FingerprintMismatch, ModelError, SettingsError, StoreError
from handpick.finetuning import finetune as module
from handpick.finetuning.finetune import finetune, load_finetuned
from handpick.finetuning.rows import Order, rows_of
from handpick.model import load_base
from handpick.training.settings import SMALL, SMALL_FINETUNE, FinetuneSettings, LoraSettings
from handpick.training.warmup import new_adapter, train
from tests.finetuning.finetunings import KILLS, PAD, SEQUENCES, SETTINGS, WITH_DROPOUT, Ended, broken, ended, run
from tests.gradients.tiny_models import ARCHITECTURES, COMMON, base_model

ROOT = Path(__file__).parents[2]
ADAPTER = ["adapter_config.json", "adapter_model.safetensors"]
TOKENIZER = ["chat_template.jinja", "tokenizer.json", "tokenizer_config.json"]

PACKED = SETTINGS.model_copy(update={"packing": True})


def weights(folder: Path) -> dict[str, Tensor]:
    return load_file(next(folder.glob("*model.safetensors")))


def difference(got: dict[str, Tensor], want: dict[str, Tensor]) -> float:
    """‖got − want‖ / ‖want‖ of the worst tensor."""
    assert got.keys() == want.keys()
    return max(float((got[name] - tensor).norm() / tensor.norm()) for name, tensor in want.items())


def same(got: dict[str, Tensor], want: dict[str, Tensor]) -> bool:
    return got.keys() == want.keys() and all(torch.equal(got[name], want[name]) for name in want)


@pytest.fixture(scope="module")
def adapter(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run(tiny_model, tmp_path_factory.mktemp("tuned") / "adapter")


# What the trainer sees


def batches(model: Path, out: Path, settings: FinetuneSettings) -> list[dict[str, Tensor]]:
    """Every forward pass's inputs, in order."""
    from trl.trainer.sft_trainer import SFTTrainer

    seen: list[dict[str, Tensor]] = []
    step = SFTTrainer.training_step

    def spied(self: Any, model: Any, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> Tensor:
        seen.append({name: value for name, value in inputs.items() if isinstance(value, Tensor)})
        return step(self, model, inputs, *args, **kwargs)

    with mock.patch.object(SFTTrainer, "training_step", spied):
        run(model, out, settings)
    return seen


def example(ids: Sequence[int], labels: Sequence[int]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """As something to count. The first token is predicted from nothing: TRL blanks its label in a packed row."""
    return tuple(ids), (IGNORED, *labels[1:])


WANT = Counter(example(s.input_ids, s.labels) for s in SEQUENCES)


def test_the_trainer_sees_the_renderers_tokens_and_labels(tiny_model: Path, tmp_path: Path) -> None:
    seen = batches(tiny_model, tmp_path, SETTINGS)
    assert [len(batch["input_ids"]) for batch in seen] == [2, 2, 2, 2, 2] * 2
    for epoch in (seen[:5], seen[5:]):
        found = Counter(
            example(ids[mask.bool()].tolist(), labels[mask.bool()].tolist())
            for batch in epoch
            for ids, labels, mask in zip(batch["input_ids"], batch["labels"], batch["attention_mask"], strict=True)
        )
        assert found == WANT
        for batch in epoch:
            assert (batch["labels"][batch["attention_mask"] == 0] == IGNORED).all(), "padding has no loss"


def test_packed_rows_hold_whole_examples_with_positions_of_their_own(tiny_model: Path, tmp_path: Path) -> None:
    seen = batches(tiny_model, tmp_path, PACKED)
    assert any(int((batch["position_ids"] == 0).sum()) > 2 for batch in seen), "else nothing was packed"
    found: Counter[Any] = Counter()
    for batch in seen:
        assert "attention_mask" not in batch, "one would switch off what keeps examples apart"
        (ids_T,), (labels_T,), (positions_T,) = batch["input_ids"], batch["labels"], batch["position_ids"]
        starts = (positions_T == 0).nonzero().flatten().tolist()
        for start, end in zip(starts, [*starts[1:], len(ids_T)], strict=True):
            assert positions_T[start:end].tolist() == list(range(end - start))
            found[example(ids_T[start:end].tolist(), labels_T[start:end].tolist())] += 1
    assert found == Counter({one: 2 * count for one, count in WANT.items()}), "each once an epoch"


# What training it is


def by_hand(
    base: Path, settings: FinetuneSettings, rows: Sequence[Sequence[Rendered]]
) -> tuple[list[float], dict[str, Tensor]]:
    """Plain torch, one unpadded sequence at a time: the loss of every step, and the weights after the last.

    ``rows`` are what a batch counts: examples, or packs of them.
    """
    model = load_base(str(base), torch.float32)
    if settings.adapter == "lora":
        model = new_adapter(model, settings.lora, settings.seed, in_float32=True)
    else:
        model.requires_grad_(True)
    trained = {name: weight for name, weight in model.named_parameters() if weight.requires_grad}
    optimizer = torch.optim.AdamW(trained.values(), betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0)
    n_steps = math.ceil(len(rows) / settings.batch) * settings.epochs
    n_rising = math.ceil(settings.warmup_ratio * n_steps)
    losses: list[float] = []
    for epoch in range(settings.epochs):
        order = np.random.default_rng([settings.seed, epoch]).permutation(len(rows))
        for start in range(0, len(order), settings.batch):
            batch = [sequence for i in order[start : start + settings.batch] for sequence in rows[i]]
            nats = torch.zeros(())
            for sequence in batch:
                logits_TV = model(input_ids=torch.tensor([sequence.input_ids])).logits[0]
                targets_T = torch.tensor(sequence.labels[1:])
                nats = nats + torch.nn.functional.cross_entropy(logits_TV[:-1], targets_T, reduction="sum")
            loss = nats / sum(sequence.n_labels for sequence in batch)
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(trained.values(), 1.0)
            step = len(losses)
            share = step / n_rising if step < n_rising else (n_steps - step) / (n_steps - n_rising)
            optimizer.param_groups[0]["lr"] = settings.learning_rate * share
            optimizer.step()
            losses.append(loss.item())
    return losses, {name.replace(".default", ""): weight.detach() for name, weight in trained.items()}


def trained_with_losses(
    model: Path, out: Path, settings: FinetuneSettings, **given: Any
) -> tuple[list[float], dict[str, Tensor]]:
    """What ``by_hand`` gives, by ``finetune``."""
    from trl.trainer.sft_trainer import SFTTrainer

    losses: dict[int, float] = {}
    step = SFTTrainer.training_step

    def spied(self: Any, *args: Any, **kwargs: Any) -> Tensor:
        loss = step(self, *args, **kwargs)
        losses[self.state.global_step] = losses.get(self.state.global_step, 0.0) + float(loss)
        return loss

    with mock.patch.object(SFTTrainer, "training_step", spied):
        run(model, out, settings, **given)
    return [losses[n] for n in sorted(losses)], weights(out)


@pytest.mark.parametrize("adapter_kind", ["lora", "none"])
@pytest.mark.parametrize("packing", [False, True])
def test_every_step_is_the_one_of_plain_torch(
    adapter_kind: Any, packing: bool, tiny_model: Path, tmp_path: Path
) -> None:
    recipe = SETTINGS.model_copy(update={"adapter": adapter_kind, "packing": packing, "max_length": 32})
    if packing:
        recipe = recipe.model_copy(update={"batch": 2})
    rows = [[sequence] for sequence in SEQUENCES]
    if packing:
        of_ids = {tuple(s.input_ids): s for s in SEQUENCES}
        assert len(of_ids) == len(SEQUENCES)
        packed = rows_of(SEQUENCES, PAD, 32)[:-1]
        rows = []
        for ids, lengths in zip(packed["input_ids"], packed["seq_lengths"], strict=True):
            ends = np.cumsum(lengths)
            rows.append([of_ids[tuple(ids[end - n : end])] for n, end in zip(lengths, ends, strict=True)])
        assert len(rows) < len(SEQUENCES)

    losses, got = trained_with_losses(tiny_model, tmp_path, recipe)
    want_losses, want = by_hand(tiny_model, recipe, rows)

    np.testing.assert_allclose(losses, want_losses, rtol=2e-6)
    if adapter_kind == "none":
        want = {name: weight for name, weight in want.items() if name in got}  # the head is tied to the embedding
        assert len(want) == len(got)
    assert difference(got, want) < 2e-5


def test_the_schedules(tiny_model: Path, tmp_path: Path) -> None:
    """Seven steps, two of them rising: line, cosine, constant."""
    from transformers import Trainer

    def rates(schedule: Any) -> list[float]:
        found: list[float] = []
        step = Trainer.training_step

        def spied(self: Any, *args: Any, **kwargs: Any) -> Tensor:
            found.append(self.optimizer.param_groups[0]["lr"])
            return step(self, *args, **kwargs)

        recipe = SETTINGS.model_copy(update={"schedule": schedule, "batch": 10, "micro_batch": 10, "epochs": 7})
        with mock.patch.object(Trainer, "training_step", spied):
            run(tiny_model, tmp_path / schedule, recipe.model_copy(update={"warmup_ratio": 0.2}))
        return [rate / SETTINGS.learning_rate for rate in found]

    np.testing.assert_allclose(rates("linear"), [0, 0.5, 1, 0.8, 0.6, 0.4, 0.2])
    np.testing.assert_allclose(rates("cosine"), [0, 0.5, *((1 + np.cos(np.pi * np.arange(5) / 5)) / 2)])
    np.testing.assert_allclose(rates("constant"), [0, 0.5, 1, 1, 1, 1, 1])


def test_it_is_the_fine_tuning_of_the_benchmarks(tiny_model: Path, tmp_path: Path) -> None:
    """The recipe for small models, and the warmup's own loop that benchmarks/finetune.py measures with."""
    finetune(str(tiny_model), SEQUENCES, SMALL_FINETUNE, tmp_path / "new", pad_id=PAD, quiet=True)
    recipe = SMALL.model_copy(update={"epochs": 4})
    old = train(str(tiny_model), SEQUENCES, recipe, out=tmp_path / "old", seed=0, pad_id=PAD, dtype="float32")
    assert difference(weights(tmp_path / "new"), weights(old[-1])) < 1e-5


def test_an_only_step_teaches(tiny_model: Path, tmp_path: Path) -> None:
    """A learning rate that rises would be at zero in it."""
    one_epoch = SETTINGS.model_copy(update={"epochs": 1})
    folder = run(tiny_model, tmp_path / "one", one_epoch, sequences=SEQUENCES[:4])
    trained = load_file(folder / "adapter_model.safetensors")
    assert all(weight.any() for name, weight in trained.items() if "lora_B" in name)


@pytest.mark.parametrize(
    "changed",
    [{"micro_batch": 1}, {"micro_batch": 3}, {"gradient_checkpointing": True}],
    ids=str,
)
def test_what_saves_memory_changes_nothing(
    changed: dict[str, Any], tiny_model: Path, adapter: Path, tmp_path: Path
) -> None:
    again = run(tiny_model, tmp_path, SETTINGS.model_copy(update=changed))
    assert difference(weights(again), weights(adapter)) < 1e-5


def test_the_same_seed_gives_the_same_bits_and_another_others(tiny_model: Path, adapter: Path, tmp_path: Path) -> None:
    assert same(weights(run(tiny_model, tmp_path / "again")), weights(adapter))
    other = run(tiny_model, tmp_path / "other", SETTINGS.model_copy(update={"seed": 6}))
    assert not same(weights(other), weights(adapter))


def test_bfloat16_computes_otherwise_and_trains_float32(tiny_model: Path, adapter: Path, tmp_path: Path) -> None:
    """After a run in float32 in the same process, whose choice must not stick."""
    halved = weights(run(tiny_model, tmp_path, SETTINGS.model_copy(update={"dtype": "bfloat16"})))
    assert {weight.dtype for weight in halved.values()} == {torch.float32}
    assert any(not torch.equal(w, w.bfloat16().float()) for w in halved.values()), "finer than bfloat16"
    assert 1e-4 < difference(halved, weights(adapter)) < 0.5


def test_an_adapter_over_four_bits_stays_float32(tiny_model: Path, tmp_path: Path) -> None:
    """TRL makes it bfloat16, in which steps of 2e-5 get lost."""
    pytest.importorskip("bitsandbytes")
    tuned = weights(run(tiny_model, tmp_path, SETTINGS.model_copy(update={"quantization": "4bit"})))
    assert {weight.dtype for weight in tuned.values()} == {torch.float32}
    assert any(not torch.equal(w, w.bfloat16().float()) for w in tuned.values())


# Models that need care


def saved(model: torch.nn.Module, tokenizer_of: Path, folder: Path) -> Path:
    model.save_pretrained(folder)  # type: ignore[operator]
    for name in TOKENIZER:
        shutil.copy(tokenizer_of / name, folder / name)
    return folder


SMALL_IDS = [
    Rendered([i % 97 for i in s.input_ids], [i if i == IGNORED else i % 97 for i in s.labels], s.full_length)
    for s in SEQUENCES
]


@pytest.mark.parametrize("name", ["gemma2", "granite", "mixtral"])
def test_the_loss_is_the_models_own_whatever_its_head_does(name: str, tiny_model: Path, tmp_path: Path) -> None:
    """Soft-capped and divided logits, which TRL computes by itself; of experts, without the router's loss."""
    model = saved(base_model(name), tiny_model, tmp_path / "model")
    lora = SETTINGS.lora.model_copy(update={"targets": ARCHITECTURES[name][2]})
    recipe = SETTINGS.model_copy(update={"epochs": 1, "lora": lora})
    losses, _ = trained_with_losses(model, tmp_path / "out", recipe, sequences=SMALL_IDS)
    want, _ = by_hand(model, recipe, [[s] for s in SMALL_IDS])
    np.testing.assert_allclose(losses, want, rtol=1e-5)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_model_that_cannot_keep_packed_examples_apart_is_refused(
    dtype: Any, tiny_model: Path, tmp_path: Path
) -> None:
    """BLOOM knows places by their distance alone, so that positions which begin anew tell it nothing."""
    torch.manual_seed(0)
    bloom = AutoModelForCausalLM.from_config(
        AutoConfig.for_model("bloom", **COMMON, hidden_size=32, n_layer=2, n_head=4)
    )
    folder = saved(bloom, tiny_model, tmp_path / "bloom")
    recipe = PACKED.model_copy(update={"dtype": dtype})
    with pytest.raises(ModelError, match=r"type bloom cannot .* packed see each other; leave --packing out"):
        finetune(str(folder), SMALL_IDS, recipe, tmp_path / "out", pad_id=0, quiet=True)
    finetune(str(folder), SMALL_IDS, SETTINGS, tmp_path / "unpacked", pad_id=0, quiet=True)


def test_a_loss_that_is_not_the_models_own_is_refused(tiny_model: Path, tmp_path: Path) -> None:
    from trl.trainer.sft_trainer import SFTTrainer

    right = SFTTrainer.compute_loss
    wrong = lambda self, *args, **kwargs: right(self, *args, **kwargs) * 1.01  # noqa: E731
    with (
        mock.patch.object(SFTTrainer, "compute_loss", wrong),
        pytest.raises(ModelError, match=r"type llama cannot be trained so: the loss is [0-9.]+, the model's [0-9.]+$"),
    ):
        run(tiny_model, tmp_path)


def test_training_that_diverges_leaves_no_model(tiny_model: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"diverged.*lower --learning-rate"):
        run(tiny_model, tmp_path, SETTINGS.model_copy(update={"learning_rate": 1e30, "adapter": "none"}))
    assert not list(tmp_path.glob("*.safetensors"))


# What it leaves, and how it goes on


def test_it_leaves_the_weights_the_tokenizer_and_where_they_come_from(tiny_model: Path, adapter: Path) -> None:
    assert sorted(path.name for path in adapter.iterdir()) == sorted([*ADAPTER, *TOKENIZER, "train.yaml"])
    record = yaml.safe_load((adapter / "train.yaml").read_text())
    assert record["finished"] is True
    assert record["made_from"]["examples"] == 10
    assert record["made_from"]["recipe"]["learning_rate"] == 1e-2
    config = json.loads((adapter / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == str(tiny_model.resolve())


def test_the_tokenizer_has_the_template_that_was_trained_with(tmp_path: Path) -> None:
    from handpick.data.chat_template import TULU_TEMPLATE
    from tests.conftest import make_model

    plain = make_model(tmp_path / "plain", template=None)
    assert AutoTokenizer.from_pretrained(plain).chat_template is None
    tuned = run(plain, tmp_path / "out", SETTINGS.model_copy(update={"epochs": 1}))
    assert AutoTokenizer.from_pretrained(tuned).chat_template == TULU_TEMPLATE


def test_a_whole_model_is_one_that_transformers_loads(tiny_model: Path, tmp_path: Path) -> None:
    tuned = run(tiny_model, tmp_path, SETTINGS.model_copy(update={"adapter": "none"}))
    assert {"config.json", "model.safetensors", "train.yaml"} < {path.name for path in tuned.iterdir()}
    there = AutoModelForCausalLM.from_pretrained(tuned).state_dict()
    assert same(dict(load_finetuned(tuned).state_dict()), dict(there))
    before = AutoConfig.from_pretrained(tiny_model).to_dict()
    after = AutoConfig.from_pretrained(tuned).to_dict()
    changed = {name for name in before if before[name] != after.get(name)}
    assert changed <= {"_name_or_path", "use_cache", "dtype"}


@pytest.fixture(scope="module")
def unbroken(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run(tiny_model, tmp_path_factory.mktemp("unbroken"), WITH_DROPOUT)


WHOLE = {
    "before any checkpoint": [],
    "in the second epoch": ["checkpoint-4"],
    "while a checkpoint is written": ["checkpoint-3"],
    "while the model is written": ["checkpoint-5"],
    "before it is marked as finished": ["checkpoint-5"],
}


def went_on_from(out: Path, when: str, tiny_model: Path, unbroken: Path) -> None:
    """The same command again, after a run that was ended: from the last whole checkpoint to the same bits."""
    from transformers import Trainer

    whole = sorted(path.parent.name for path in (out / "unfinished").glob("checkpoint-*/whole"))
    assert whole == WHOLE[when]
    with pytest.raises(ModelError, match="was not finished"):
        load_finetuned(out)
    resumed = []
    train_on = Trainer.train

    def spied(self: Any, resume_from_checkpoint: Any = None, **kwargs: Any) -> Any:
        resumed.append(resume_from_checkpoint and Path(resume_from_checkpoint).name)
        return train_on(self, resume_from_checkpoint=resume_from_checkpoint, **kwargs)

    with mock.patch.object(Trainer, "train", spied):
        run(tiny_model, out, WITH_DROPOUT)
    assert resumed == [whole[0] if whole else None]
    assert sorted(path.name for path in out.iterdir()) == sorted([*ADAPTER, *TOKENIZER, "train.yaml"])
    for name in ("adapter_model.safetensors", "train.yaml"):
        assert (out / name).read_bytes() == (unbroken / name).read_bytes(), name


def test_a_killed_run_goes_on_to_the_same_bits(tiny_model: Path, unbroken: Path, tmp_path: Path) -> None:
    """With dropout on, so that the random state must come back too."""
    when = "in the second epoch"
    command = [sys.executable, "-m", "tests.finetuning.finetunings", str(tiny_model), str(tmp_path), when]
    killed = subprocess.run(command, cwd=ROOT, capture_output=True, check=False)
    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()
    went_on_from(tmp_path, when, tiny_model, unbroken)


@pytest.mark.parametrize("when", [when for when in KILLS if when != "in the second epoch"])
def test_so_does_one_that_ended_at_any_other_place(when: str, tiny_model: Path, unbroken: Path, tmp_path: Path) -> None:
    """Ended from within, which is quicker than a process of its own, and as sudden: nothing here cleans up."""
    with pytest.raises(Ended), broken(when, ended):
        run(tiny_model, tmp_path, WITH_DROPOUT)
    went_on_from(tmp_path, when, tiny_model, unbroken)


def test_dropout_is_on_while_training(adapter: Path, unbroken: Path) -> None:
    """Else the test above would show less than it says."""
    assert not any(torch.equal(weights(unbroken)[name], weight) for name, weight in weights(adapter).items())


def test_a_finished_folder_is_left_alone(tiny_model: Path, adapter: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = {path.name: path.stat().st_mtime_ns for path in adapter.iterdir()}
    (adapter / "unfinished").mkdir()  # as of a run that was killed right after its last word
    finetune(str(tiny_model), SEQUENCES, SETTINGS.model_copy(update={"micro_batch": 1}), adapter, pad_id=PAD)
    assert {path.name: path.stat().st_mtime_ns for path in adapter.iterdir()} == before
    assert capsys.readouterr().err == f"{adapter} is already trained on these 10 examples with these settings\n"


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"settings": SETTINGS.model_copy(update={"epochs": 3})}, "recipe.epochs is 2 there and 3 here"),
        ({"sequences": SEQUENCES[:9]}, "examples is 10 there and 9 here"),
        ({"sequences": SEQUENCES[::-1]}, "tokens is "),
        ({"settings": SETTINGS.model_copy(update={"dtype": "bfloat16"})}, "recipe.dtype is "),
    ],
    ids=["recipe", "fewer", "order", "type"],
)
def test_other_inputs_into_the_same_folder_are_refused(
    changed: dict[str, Any], named: str, tiny_model: Path, adapter: Path
) -> None:
    with pytest.raises(FingerprintMismatch, match=named):
        run(tiny_model, adapter, **changed)


def test_a_number_is_the_same_however_it_came_to_be(tiny_model: Path) -> None:
    """pydantic leaves a default as it is written, 512, and makes a given value a float."""
    given, default = LoraSettings(alpha=512), LoraSettings()
    one, other = (
        module._inputs_fingerprint(str(tiny_model), SEQUENCES, SETTINGS.model_copy(update={"lora": lora}))
        for lora in (given, default)
    )
    assert json.dumps(one) == json.dumps(other)


def test_another_model_into_the_same_folder_is_refused(adapter: Path, tmp_path: Path) -> None:
    from tests.conftest import make_model

    with pytest.raises(FingerprintMismatch, match=r"model.weights is "):
        run(make_model(tmp_path / "other", seed=1), adapter)


def test_somebody_elses_model_is_not_written_over(tiny_model: Path, tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_text("{}")
    with pytest.raises(ModelError, match=r"holds another model .*give another --out"):
        run(tiny_model, tmp_path)


def test_a_full_disk_is_one_sentence_and_the_run_goes_on_after_it(
    tiny_model: Path, unbroken: Path, tmp_path: Path
) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    with (
        mock.patch.object(module, "CHECKPOINT_SECONDS", 0.0),
        mock.patch("transformers.Trainer._save_rng_state", full),
        pytest.raises(StoreError, match=r"is the disk full\? The same command goes on"),
    ):
        run(tiny_model, tmp_path, WITH_DROPOUT)
    assert same(weights(run(tiny_model, tmp_path, WITH_DROPOUT)), weights(unbroken))


def test_nothing_to_train_on(tiny_model: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no example"):
        run(tiny_model, tmp_path, sequences=[])
    with pytest.raises(SettingsError, match="max_length is 8"):
        run(tiny_model, tmp_path, SETTINGS.model_copy(update={"max_length": 8}))
    assert not list(tmp_path.iterdir())


def test_without_trl_the_message_says_what_to_install(tmp_path: Path) -> None:
    with mock.patch.object(module, "find_spec", return_value=None), pytest.raises(ModelError, match="pip install"):
        run(tmp_path / "no model yet", tmp_path / "out")


def test_weights_in_few_bits_are_not_trained_themselves() -> None:
    with pytest.raises(SettingsError, match="use --adapter lora"):
        FinetuneSettings(adapter="none", quantization="4bit")


# Loading


def test_a_loaded_adapter_says_what_the_trained_model_said(tiny_model: Path, adapter: Path) -> None:
    model = load_finetuned(adapter)
    assert not model.training
    assert not any(weight.requires_grad for weight in model.parameters())
    assert same(weights(adapter), {n.replace(".default", ""): w for n, w in model.named_parameters() if ".lora_" in n})
    ids_1T = torch.tensor([SEQUENCES[0].input_ids])
    base = load_base(str(tiny_model), torch.float32)
    assert not torch.allclose(model(input_ids=ids_1T).logits, base(input_ids=ids_1T).logits, atol=1e-2)
    moved = load_finetuned(adapter, base=str(tiny_model), dtype="bfloat16")
    assert moved.get_input_embeddings().weight.dtype == torch.bfloat16  # type: ignore[operator]


def test_an_adapter_on_another_base_is_refused(adapter: Path, tmp_path: Path) -> None:
    from tests.conftest import make_model

    with pytest.raises(FingerprintMismatch, match=r"the base model of .* does not match: weights is "):
        load_finetuned(adapter, base=str(make_model(tmp_path / "other", seed=1)))


def test_a_folder_without_a_model_is_said_so(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"no config\.json"):
        load_finetuned(tmp_path)


# Several processes


@given(n=st.integers(1, 60), per_process=st.integers(1, 5), accumulation=st.integers(1, 4), processes=st.integers(1, 4))
@settings(max_examples=60, deadline=None)
def test_every_process_has_as_many_passes_and_every_step_its_own_examples(
    n: int, per_process: int, accumulation: int, processes: int
) -> None:
    """Dealt out as accelerate does: the first pass's rows to the first process, the next to the second, and again."""
    batch, round_ = per_process * accumulation * processes, per_process * processes
    order = list(Order([1] * n, batch, seed=3, fill_to=round_))
    assert len(order) == len(Order([1] * n, batch, seed=3, fill_to=round_)) == math.ceil(n / round_) * round_
    alone = list(Order([1] * n, batch, seed=3, fill_to=1))
    for start in range(0, len(order), batch):
        real = [row for row in order[start : start + batch] if row != n]
        assert real == alone[start : start + batch]


@pytest.mark.slow
def test_two_processes_train_the_same_model_as_one(tiny_model: Path, adapter: Path, tmp_path: Path) -> None:
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    command = [*launcher, "-m", "tests.finetuning.finetunings", str(tiny_model), str(tmp_path), "together"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([*ADAPTER, *TOKENIZER, "train.yaml"])
    assert difference(weights(tmp_path), weights(adapter)) < 1e-5
    assert (tmp_path / "train.yaml").read_bytes() == (adapter / "train.yaml").read_bytes()


def test_a_batch_that_does_not_divide_among_processes_is_refused(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "3")
    with pytest.raises(SettingsError, match="a batch of 4 does not divide among 3 processes"):
        run(tiny_model, tmp_path)
