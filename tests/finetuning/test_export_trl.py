"""The export for TRL's own command, read by that command: its parser, its loading, its preparation of the data."""

from pathlib import Path
from typing import Any

import pytest
import torch
import trl
import yaml
from trl.scripts import sft

from handpick.data.examples import Conversation, Example, Message
from handpick.data.render import Rendered, Renderer
from handpick.finetuning.export import write_export
from handpick.model import load_renderer
from handpick.objectives.next_token import NextToken
from handpick.training.settings import SMALL_FINETUNE, FinetuneSettings, LoraSettings

ASKED = [Message("system", "Be brief."), Message("user", "How many?\n"), Message("assistant", "Seven – “7”.")]
EXAMPLES = [
    Example("one turn", Conversation([Message("user", "2 + 2?"), Message("assistant", "4")]), b"{}"),
    Example("several", Conversation([*ASKED, Message("user", "And\u2028then?"), Message("assistant", "None.")]), b"{}"),
    Example(
        "a turn that is not learnt",
        Conversation(
            [
                Message("user", "1"),
                Message("assistant", "2", loss=False),
                Message("user", "3"),
                Message("assistant", "4"),
            ]
        ),
        b"{}",
    ),
    Example(
        "a part that is not learnt",
        Conversation([Message("user", "Spell it."), Message("assistant", "a b c d e f", no_loss=((0, 4), (9, 11)))]),
        b"{}",
    ),
    Example("long", Conversation([Message("user", "Why?"), Message("assistant", "so it is " * 60)]), b"{}"),
]


class Stop(Exception):
    """Nothing more is asked of the command."""


@pytest.fixture(scope="module")
def renderer(tiny_model: Path) -> Renderer:
    return load_renderer(str(tiny_model))


@pytest.fixture
def command(tiny_model: Path, renderer: Renderer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """What `trl sft` makes of an export, up to the first step, and the sequences that were exported."""

    def read(settings: FinetuneSettings) -> tuple[trl.SFTTrainer, list[Rendered]]:
        _, sequences, refused = NextToken(renderer, settings.max_length).prepare(EXAMPLES)
        assert not refused
        config = write_export("trl", tmp_path, EXAMPLES, sequences, renderer, settings, str(tiny_model))
        stood: list[trl.SFTTrainer] = []

        class Untrained(trl.SFTTrainer):
            def train(self, *args: Any, **kwargs: Any) -> Any:
                stood.append(self)
                raise Stop

            def _send_telemetry(self) -> None:
                """Send nothing."""

        with monkeypatch.context() as patch:
            patch.setattr(trl, "SFTTrainer", Untrained)
            given = ["--config", str(config), *([] if torch.cuda.is_available() else ["--use_cpu", "true"])]
            parsed = sft.make_parser().parse_args_and_config(given, fail_with_unknown_args=True)
            with pytest.raises(Stop):
                sft.main(*parsed)
        return stood[0], sequences

    return read


def test_the_command_trains_on_the_renderers_tokens_and_labels(command: Any) -> None:
    trainer, sequences = command(FinetuneSettings(max_length=200, batch=4, micro_batch=2, dtype="float32"))
    rows = trainer.train_dataset
    assert [row["input_ids"] for row in rows] == [s.input_ids for s in sequences]
    assert [row["labels"] for row in rows] == [s.labels for s in sequences]
    assert len(sequences[-1].input_ids) == 200 < sequences[-1].full_length, "one is cut"
    # and what a step is given of them, padded
    batch = next(iter(trainer.get_train_dataloader()))
    seen = {
        (tuple(ids[mask == 1].tolist()), tuple(labels[mask == 1].tolist()))
        for ids, labels, mask in zip(batch["input_ids"], batch["labels"], batch["attention_mask"], strict=True)
    }
    assert len(seen) == 2
    assert seen <= {(tuple(s.input_ids), tuple(s.labels)) for s in sequences}
    assert bool((batch["labels"][batch["attention_mask"] == 0] == -100).all())


@pytest.mark.filterwarnings("error:`(gradient|activation)_checkpointing")
@pytest.mark.parametrize("again", [False, True])
def test_activations_are_made_again_by_the_name_that_is_not_warned_of(again: bool, command: Any) -> None:
    trainer, _ = command(FinetuneSettings(dtype="float32", gradient_checkpointing=again))
    assert trainer.args.gradient_checkpointing is again


def test_the_command_has_the_recipe(command: Any, renderer: Renderer, tmp_path: Path) -> None:
    own = {"batch": 12, "micro_batch": 5, "seed": 3, "schedule": "cosine", "weight_decay": 0.5, "dtype": "float32"}
    trainer, _ = command(FinetuneSettings(**own))
    args = trainer.args
    assert (args.per_device_train_batch_size, args.gradient_accumulation_steps) == (4, 3)
    assert (args.num_train_epochs, args.learning_rate, args.lr_scheduler_type) == (2, 2e-5, "cosine")
    assert (args.weight_decay, args.max_grad_norm, args.seed, args.optim) == (0.5, 1.0, 3, "adamw_torch")
    assert args.get_warmup_steps(1000) == 30
    assert (args.max_length, args.packing, args.gradient_checkpointing) == (2048, False, False)
    assert args.output_dir == str(tmp_path / "model")
    config = trainer.model.peft_config["default"]
    assert (config.r, config.lora_alpha, config.lora_dropout) == (128, 512, 0.1)
    assert config.target_modules == {"q_proj", "k_proj", "v_proj", "o_proj"}
    assert trainer.processing_class.chat_template == renderer.template


@pytest.mark.parametrize("name", ["q_proj", "self_attn.q_proj"])
def test_a_layer_alone_is_found_by_the_end_of_its_path(name: str, command: Any) -> None:
    trainer, _ = command(FinetuneSettings(dtype="float32", lora=LoraSettings(targets=[name])))
    carried = {path.split(".lora_A")[0] for path, _ in trainer.model.named_parameters() if "lora_A" in path}
    linear = {path for path, _ in trainer.model.named_modules() if path.endswith("self_attn.q_proj")}
    assert carried == linear != set()


@pytest.mark.parametrize(
    ("settings", "frozen", "trained", "autocast"),
    [
        (SMALL_FINETUNE, torch.float32, torch.float32, (False, False)),
        (FinetuneSettings(dtype="bfloat16"), torch.bfloat16, torch.float32, (True, False)),
        (FinetuneSettings(dtype="bfloat16", adapter="none"), None, torch.float32, (True, False)),
    ],
    ids=["small", "bfloat16", "all weights"],
)
def test_the_command_computes_in_what_handpick_would(
    settings: FinetuneSettings, frozen: Any, trained: Any, autocast: tuple[bool, bool], command: Any
) -> None:
    trainer, _ = command(settings)
    weights = list(trainer.model.parameters())
    assert {w.dtype for w in weights if not w.requires_grad} == ({frozen} if frozen else set())
    assert {w.dtype for w in weights if w.requires_grad} == {trained}
    assert (trainer.args.bf16, trainer.args.fp16) == autocast


def test_packing_and_few_bits(tiny_model: Path, renderer: Renderer, tmp_path: Path, capsys: Any) -> None:
    def config(settings: FinetuneSettings) -> dict[str, Any]:
        sequences = [renderer(example.messages, 2048) for example in EXAMPLES]
        path = write_export("trl", tmp_path, EXAMPLES, sequences, renderer, settings, str(tiny_model))
        found: dict[str, Any] = yaml.safe_load(path.read_text())
        return found

    assert config(FinetuneSettings(packing=True))["packing"] is True
    everywhere = LoraSettings(targets="all-linear")
    found = config(FinetuneSettings(quantization="4bit", dtype="bfloat16", lora=everywhere))
    assert (found["load_in_4bit"], found["dtype"], found["lora_target_modules"]) == (True, "bfloat16", ["all-linear"])
    said = " ".join(capsys.readouterr().err.split())
    assert "TRL rounds an adapter over weights in few bits to bfloat16" in said
    assert config(FinetuneSettings(batch=8, epochs=1))["warmup_steps"] == 0, "the only step would teach nothing"
