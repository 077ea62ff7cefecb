"""Exports: what axolotl and LLaMA-Factory would read, read back as they read it."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from datasets import load_dataset, load_from_disk
from transformers import AutoTokenizer

from handpick.data.examples import Conversation, Example, Message
from handpick.data.formats import parse_record
from handpick.data.render import Rendered, Renderer
from handpick.errors import SettingsError, StoreError
from handpick.finetuning.export import Tool, _as_messages, write_export
from handpick.training.settings import FinetuneSettings, LoraSettings

TURNS = [
    ("user", "How many?\n"),
    ("assistant", "Seven – “7”."),
    ("user", "And\u2028then?"),
    ("assistant", "None."),
]
EXAMPLES = [
    Example("a", Conversation((Message("user", "2 + 2?"), Message("assistant", "4"))), b"{}"),
    Example("b", Conversation(Message(role, content) for role, content in TURNS), b"{}"),  # type: ignore[arg-type]
    Example(
        "c", Conversation((Message("system", "Be brief."), Message("user", "Hi"), Message("assistant", "Hello"))), b"{}"
    ),
]
SETTINGS = FinetuneSettings(batch=12, micro_batch=5, seed=3)


@pytest.fixture(scope="module")
def renderer(tiny_model: Path) -> Renderer:
    return Renderer(AutoTokenizer.from_pretrained(tiny_model))


@pytest.fixture(scope="module")
def sequences(renderer: Renderer) -> list[Rendered]:
    return [renderer(example.messages, 2048) for example in EXAMPLES]


@pytest.fixture
def exported(tiny_model: Path, renderer: Renderer, sequences: list[Rendered], tmp_path: Path) -> Any:
    def export(to: Tool, settings: FinetuneSettings = SETTINGS) -> tuple[Path, dict[str, Any]]:
        path = write_export(to, tmp_path / to, EXAMPLES, sequences, renderer, settings, str(tiny_model))
        return tmp_path / to, yaml.safe_load(path.read_text())

    return export


def tokens_of(rows: Any) -> list[tuple[list[int], list[int]]]:
    assert sorted(rows.column_names) == ["attention_mask", "input_ids", "labels"], "axolotl asks for exactly these"
    assert all(row["attention_mask"] == [1] * len(row["input_ids"]) for row in rows)
    return [(row["input_ids"], row["labels"]) for row in rows]


@pytest.mark.parametrize("to", ["axolotl", "llama-factory"])
def test_the_messages_come_back_as_they_were(to: Tool, exported: Any, renderer: Renderer) -> None:
    folder, _ = exported(to)
    lines = (folder / "messages.jsonl").read_text(encoding="utf-8").split("\n")[:-1]
    found = [[Message(**message) for message in json.loads(line)["messages"]] for line in lines]
    assert found == [list(example.messages) for example in EXAMPLES]
    assert (folder / "chat_template.jinja").read_text() == renderer.template
    rows = load_dataset("json", data_files=str(folder / "messages.jsonl"), split="train")
    assert [[(m["role"], m["content"]) for m in row["messages"]] for row in rows] == [
        [(m.role, m.content) for m in example.messages] for example in EXAMPLES
    ]


def test_axolotl_is_given_the_renderers_tokens_and_the_recipe(
    exported: Any, sequences: list[Rendered], tiny_model: Path
) -> None:
    folder, config = exported("axolotl")
    (source,) = config["datasets"]
    assert source["ds_type"] == "json"
    assert source["type"] is None, "what is tokens already has no type"
    rows = load_dataset("json", data_files=source["path"], split="train")
    assert tokens_of(rows) == [(s.input_ids, s.labels) for s in sequences]
    assert config["base_model"] == str(tiny_model)
    assert Path(config["chat_template_jinja"]).is_file()
    assert config["micro_batch_size"] * config["gradient_accumulation_steps"] == 12
    assert config["micro_batch_size"] == 4
    recipe = {"num_epochs": 2, "learning_rate": 2e-5, "lr_scheduler": "linear", "warmup_ratio": 0.03, "seed": 3}
    recipe |= {"adapter": "lora", "lora_r": 128, "lora_alpha": 512, "lora_dropout": 0.1, "sequence_len": 2048}
    recipe |= {"lora_target_modules": ["q_proj", "k_proj", "v_proj", "o_proj"], "sample_packing": False}
    assert {name: config.get(name) for name in recipe} == recipe
    assert isinstance(config["learning_rate"], float), "YAML reads 2e-05 as text where there is no point in it"
    assert config["output_dir"] == str(folder.resolve() / "model")


def test_llama_factory_is_given_the_renderers_tokens_and_the_recipe(
    exported: Any, sequences: list[Rendered], tiny_model: Path
) -> None:
    folder, config = exported("llama-factory")
    assert tokens_of(load_from_disk(config["tokenized_path"])["train"]) == [(s.input_ids, s.labels) for s in sequences]
    described = json.loads((Path(config["dataset_dir"]) / "dataset_info.json").read_text())[config["dataset"]]
    assert (Path(config["dataset_dir"]) / described["file_name"]).is_file()
    record = json.loads((folder / described["file_name"]).read_text().splitlines()[0])
    turn, tags = record[described["columns"]["messages"]][0], described["tags"]
    assert (turn[tags["role_tag"]], turn[tags["content_tag"]]) == (tags["user_tag"], "2 + 2?")
    assert config["model_name_or_path"] == str(tiny_model)
    recipe = {"stage": "sft", "finetuning_type": "lora", "lora_rank": 128, "lora_alpha": 512, "lora_dropout": 0.1}
    recipe |= {"lora_target": "q_proj,k_proj,v_proj,o_proj", "num_train_epochs": 2.0, "learning_rate": 2e-5, "seed": 3}
    recipe |= {"lr_scheduler_type": "linear", "warmup_ratio": 0.03, "cutoff_len": 2048}
    recipe |= {"per_device_train_batch_size": 4, "gradient_accumulation_steps": 3}
    assert {name: config.get(name) for name in recipe} == recipe
    assert isinstance(config["lora_alpha"], int), "its parser takes no float there"


def test_ms_swift_is_given_every_token_with_its_loss_and_the_recipe(
    exported: Any, sequences: list[Rendered], tiny_model: Path
) -> None:
    _, config = exported("ms-swift")
    (source,) = config["dataset"]
    found = []
    for line in Path(source).read_text().splitlines():
        (turn,) = json.loads(line)["messages"]
        assert turn["role"] == "assistant"
        ids, scale = turn["content"]["token_ids"], turn["content"]["loss_scale"]
        found.append((ids, [id if weight else -100 for id, weight in zip(ids, scale, strict=True)]))
    assert found == [(s.input_ids, s.labels) for s in sequences]
    (plugin,) = config["external_plugins"]
    compile(Path(plugin).read_text(), plugin, "exec")
    assert (config["template"], config["strict"], config["use_hf"]) == ("dummy", True, True)
    recipe = {"tuner_type": "lora", "lora_rank": 128, "lora_alpha": 512, "lora_dropout": 0.1, "adam_beta2": 0.999}
    recipe |= {"target_modules": ["q_proj", "k_proj", "v_proj", "o_proj"], "num_train_epochs": 2.0, "seed": 3}
    recipe |= {"learning_rate": 2e-5, "lr_scheduler_type": "linear", "warmup_ratio": 0.03, "weight_decay": 0.0}
    recipe |= {"max_length": 2048, "per_device_train_batch_size": 4, "gradient_accumulation_steps": 3}
    assert {name: config.get(name) for name in recipe} == recipe
    assert (config["model"], config["model_type"]) == (str(tiny_model), "llama"), "else it asks which kind of Llama"
    _, whole = exported("ms-swift", FinetuneSettings(adapter="none", dtype="bfloat16"))
    assert (whole["tuner_type"], whole["torch_dtype"], whole["bf16"]) == ("full", "float32", True)
    _, bits = exported("ms-swift", FinetuneSettings(quantization="4bit", packing=True))
    assert (bits["quant_bits"], bits["bnb_4bit_use_double_quant"], bits["packing"]) == (4, False, True)


def test_all_weights_and_few_bits(exported: Any) -> None:
    _, config = exported("axolotl", FinetuneSettings(adapter="none"))
    assert not [name for name in config if "lora" in name or name == "adapter"]
    _, config = exported("llama-factory", FinetuneSettings(adapter="none"))
    assert config["finetuning_type"] == "full"
    assert not [name for name in config if "lora" in name]
    everywhere = LoraSettings(targets="all-linear")
    _, config = exported("axolotl", FinetuneSettings(quantization="4bit", lora=everywhere))
    assert (config["adapter"], config["load_in_4bit"], config["lora_target_linear"]) == ("qlora", True, True)
    _, config = exported("llama-factory", FinetuneSettings(quantization="8bit", lora=everywhere, schedule="constant"))
    assert (config["quantization_bit"], config["lora_target"]) == (8, "all")
    assert config["lr_scheduler_type"] == "constant_with_warmup"


@pytest.mark.parametrize("tool", ["axolotl", "llama-factory", "ms-swift", "trl"])
@pytest.mark.parametrize(
    ("dtype", "has_bfloat16", "wanted", "said"),
    [
        ("float32", True, (False, False), ""),
        ("float16", True, (False, True), ""),
        ("bfloat16", False, (True, False), ""),
        ("auto", True, (True, False), "is told bfloat16, which this machine has instructions for"),
        ("auto", False, (False, False), "is told float32, as this machine has no instructions for bfloat16"),
    ],
)
def test_what_is_computed_in_is_what_handpick_would_compute_in_here(
    tool: Tool,
    dtype: Any,
    has_bfloat16: bool,
    wanted: tuple[bool, bool],
    said: str,
    exported: Any,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("handpick.model.has_bfloat16", lambda: has_bfloat16)
    folder, config = exported(tool, FinetuneSettings(dtype=dtype))
    assert (config["bf16"], config["fp16"]) == wanted
    (path,) = (path for path in folder.iterdir() if path.suffix == ".yaml")
    head = " ".join(line.removeprefix("# ") for line in path.read_text().splitlines() if line.startswith("#"))
    shown = " ".join(capsys.readouterr().err.split())
    assert said in head
    assert said in shown
    assert ("is told" in shown) == (dtype == "auto")
    if tool in ("ms-swift", "trl"):
        assert config.get("dtype", config.get("torch_dtype")) == {
            (True, False): "bfloat16",
            (False, True): "float16",
        }.get(wanted, "float32")


def test_where_llama_factory_has_no_word_for_float32_it_is_said(
    exported: Any, tiny_model: Path, renderer: Renderer, sequences: list[Rendered], tmp_path: Path, capsys: Any
) -> None:
    def said(model: Path, **settings: Any) -> str:
        capsys.readouterr()
        used = FinetuneSettings(**{"dtype": "float32"} | settings)
        write_export("llama-factory", tmp_path / "out", EXAMPLES, sequences, renderer, used, str(model))
        return " ".join(capsys.readouterr().err.split())

    assert said(tiny_model) == "", "weights that are stored in float32 stay so"
    half = tmp_path / "half"
    shutil.copytree(tiny_model, half)
    stored = json.loads((half / "config.json").read_text())
    (half / "config.json").write_text(json.dumps(stored | {"dtype": "bfloat16"}))
    assert f"leaves the frozen weights of {half} in bfloat16, as they are stored" in said(half)
    assert said(half, adapter="none") == "", "what is trained is cast to float32"
    assert said(half, dtype="bfloat16") == ""
    assert "computes in float16 under weights in 4 bits" in said(tiny_model, quantization="4bit")


def test_packing_is_axolotls_to_do_and_nothing_that_llama_factory_does_to_tokens(exported: Any) -> None:
    _, config = exported("axolotl", FinetuneSettings(packing=True))
    assert config["sample_packing"] is True
    with pytest.raises(SettingsError, match="leave --packing out"):
        exported("llama-factory", FinetuneSettings(packing=True))


def test_a_folder_that_cannot_be_written(
    renderer: Renderer, sequences: list[Rendered], tiny_model: Path, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="cannot write"):
        write_export("axolotl", tmp_path / "file", EXAMPLES, sequences, renderer, SETTINGS, str(tiny_model))


def test_messages_say_what_a_template_and_a_mask_read_besides_the_turns() -> None:
    call = {"type": "function", "function": {"name": "f", "arguments": {}}}
    turns = (Message("user", "Hi"), Message("assistant", "Made up.", loss=False), Message("assistant", "Hello"))
    said = Conversation(
        (*turns, Message("assistant", "", json.dumps({"tool_calls": [call]}))), '[{"name":"f"}]', '{"a":1}'
    )
    assert _as_messages(said) == {
        "messages": [
            {"role": "user", "content": "Hi"},
            {"role": "assistant", "content": "Made up.", "train": False},
            {"role": "assistant", "content": "Hello"},
            {"role": "assistant", "content": "", "tool_calls": [call]},
        ],
        "tools": [{"name": "f"}],
        "chat_template_kwargs": {"a": 1},
    }


@pytest.mark.parametrize(
    ("no_loss", "detail"),
    [
        (((0, 2),), [(0, 1, False), (2, 6, True)]),
        (((2, 4), (6, 7)), [(0, 1, True), (2, 3, False), (4, 5, True), (6, 6, False)]),
        (((3, 7),), [(0, 2, True), (3, 6, False)]),
    ],
)
def test_partly_learnt_turns_say_so_as_axolotl_reads_it(
    no_loss: tuple[tuple[int, int], ...], detail: list[tuple[int, int, bool]]
) -> None:
    (turn,) = _as_messages(Conversation([Message("assistant", "abcdefg", no_loss=no_loss)]))["messages"]
    names = ("begin_offset", "end_offset", "train")
    assert turn["train_detail"] == [dict(zip(names, each, strict=True)) for each in detail]
    assert parse_record({"messages": [turn]}).messages[0].no_loss == no_loss, "it comes back as it was"


def test_what_llama_factorys_form_cannot_say_is_counted(
    tiny_model: Path, renderer: Renderer, sequences: list[Rendered], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    unlearnt = [
        Message("user", "1"),
        Message("assistant", "2", loss=False),
        Message("user", "3"),
        Message("assistant", "4"),
    ]
    examples = [Example("a", Conversation(unlearnt), b"{}"), *EXAMPLES[:1]]
    write_export("llama-factory", tmp_path, examples, sequences[:2], renderer, SETTINGS, str(tiny_model))
    said = " ".join(capsys.readouterr().err.split())
    assert "1 record left out of sharegpt.jsonl" in said
    assert "1 turns or parts that are not learnt" in said
    assert len((tmp_path / "sharegpt.jsonl").read_text().splitlines()) == 1
    assert len((tmp_path / "messages.jsonl").read_text().splitlines()) == 2


def test_layers_that_only_a_loaded_model_tells_are_said_and_experts_are_the_tools_own(
    exported: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    exported("axolotl")
    assert "finds the linear layers" not in capsys.readouterr().err, "a Llama's are known"
    for tool, name in (("axolotl", "axolotl"), ("llama-factory", "LLaMA-Factory")):
        exported(tool, FinetuneSettings(lora=LoraSettings(targets="all-linear")))
        assert f"{name} finds the linear layers" in " ".join(capsys.readouterr().err.split())
        with pytest.raises(SettingsError, match=f"{name} has no such layers as experts"):
            exported(tool, FinetuneSettings(lora=LoraSettings(targets=["experts", "q_proj"])))
