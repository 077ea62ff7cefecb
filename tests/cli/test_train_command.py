"""`handpick train` and `handpick export` on the command line."""

import json
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner, Result

import handpick.cli.train  # noqa: F401 - the commands register themselves
from handpick.cli import app
from handpick.training.settings import FinetuneSettings, LoraSettings
from tests.conftest import write_jsonl

HEAVY = ("torch", "transformers", "datasets", "peft", "accelerate", "pyarrow", "trl")
QUICK = ["--epochs", 1, "--batch", 4, "--lora-rank", 2, "--lora-targets", "q_proj,v_proj"]


def handpick_(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments], env={"COLUMNS": "200"})


@pytest.fixture(scope="module")
def records(pool_records: list[dict[str, Any]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_jsonl(tmp_path_factory.mktemp("records") / "some.jsonl", pool_records[:6])


@pytest.fixture(scope="module")
def trained(records: Path, tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Result]:
    out = tmp_path_factory.mktemp("runs") / "model"
    return out, handpick_("train", "--selection", records, "--model", tiny_model, "--out", out, *QUICK)


def test_train_says_what_it_does_and_where_the_model_is(trained: tuple[Path, Result]) -> None:
    out, shown = trained
    assert shown.exit_code == 0, shown.output
    assert shown.stdout.splitlines() == [
        f"{out}: the model, its tokenizer, and train.yaml, which says what it was made from",
        f"next: handpick evaluate --model {out} --target TEST --metric loss",
    ]
    lines = [re.split(" ━", line)[0] for line in shown.stderr.splitlines() if "Loading weights" not in line]
    assert [line.split(" ")[0] for line in lines] == ["recipe:", "fine-tuning", "LoRA", "fine-tuning"], shown.stderr
    recipe = yaml.safe_load((out / "train.yaml").read_text())["made_from"]["recipe"]
    assert (recipe["epochs"], recipe["batch"], recipe["lora"]["rank"]) == (1, 4, 2)
    assert recipe["lora"]["targets"] == ["q_proj", "v_proj"]


def test_the_same_command_again_says_that_it_is_done(
    trained: tuple[Path, Result], records: Path, tiny_model: Path
) -> None:
    out, _ = trained
    shown = handpick_("train", "--selection", records, "--model", tiny_model, "--out", out, *QUICK)
    assert shown.exit_code == 0
    assert "is already trained on these 6 examples" in shown.stderr


def test_what_is_wrong_is_one_line(trained: tuple[Path, Result], records: Path, tiny_model: Path) -> None:
    out, _ = trained
    flags = ["train", "--selection", records, "--model", tiny_model, "--out", out]
    for wrong, said in {
        ("--seed", 1): "recipe.",
        ("--epochs", "none"): "epochs: should be a valid integer",
        ("--recipe", "smal"): "no recipe 'smal' (did you mean 'small'?)",
        ("--adapter", "none", "--quantization", "4bit"): "use --adapter lora",
        ("--max-length", 4): "no response token left",
    }.items():
        shown = handpick_(*flags, *wrong)
        assert shown.exit_code == 2, shown.output
        assert said in shown.stderr
        assert shown.stderr.splitlines()[-1].startswith("handpick: ")


def test_every_setting_of_a_recipe_is_a_flag() -> None:
    for command in ("train", "export"):
        shown = handpick_(command, "--help-all").stdout
        names = [name for name in FinetuneSettings.model_fields if name != "lora"]
        names += [f"lora_{name}" for name in LoraSettings.model_fields]
        assert [name for name in names if f"--{name.replace('_', '-')}" not in shown] == []
        assert f"handpick {command} --selection runs/gsm8k" in shown


def test_help_loads_nothing_heavy() -> None:
    code = f"""
import atexit, sys
atexit.register(lambda: print("LOADED", *[name for name in {HEAVY} if name in sys.modules]))
import handpick.cli.train
from handpick.cli import app
app(["train", "--help"])
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.splitlines()[-1] == "LOADED"


def test_of_several_processes_the_first_alone_speaks(
    records: Path, tiny_model: Path, trained: tuple[Path, Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    from handpick.progress import console

    monkeypatch.setenv("RANK", "1")
    monkeypatch.setattr(console, "quiet", False)
    shown = handpick_("train", "--selection", records, "--model", tiny_model, "--out", trained[0], *QUICK)
    assert (shown.exit_code, shown.stdout, shown.stderr) == (0, "", "")


def test_export(records: Path, tiny_model: Path, tmp_path: Path) -> None:
    flags = ["export", "--selection", records, "--model", tiny_model, "--out", tmp_path]
    shown = handpick_(*flags, "--to", "llama-factory", "--epochs", 5)
    assert shown.exit_code == 0, shown.output
    assert f"{tmp_path / 'llama_factory.yaml'}" in shown.stdout
    assert yaml.safe_load((tmp_path / "llama_factory.yaml").read_text())["num_train_epochs"] == 5
    assert "handpick" in json.loads((tmp_path / "dataset_info.json").read_text())
    shown = handpick_(*flags, "--to", "lama-factory")
    assert shown.exit_code == 2
    assert "no export to 'lama-factory' (did you mean 'llama-factory'?)" in shown.stderr


@pytest.mark.slow
def test_an_interrupt_is_one_line_and_the_same_command_goes_on(records: Path, tiny_model: Path, tmp_path: Path) -> None:
    code = "import handpick.cli.train; from handpick.cli import app; app()"
    command = [sys.executable, "-c", code, "train", "--selection", str(records), "--model", str(tiny_model)]
    command += ["--out", str(tmp_path), "--epochs", "100000"]
    run = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert run.stderr is not None
    for line in run.stderr:
        if line.startswith("fine-tuning on"):
            break
    while not (tmp_path / "train.yaml").exists():
        assert run.poll() is None
    run.send_signal(signal.SIGINT)
    rest = run.stderr.read()
    assert run.wait(60) == 130
    assert "handpick: stopped." in rest
    assert "Traceback" not in rest
