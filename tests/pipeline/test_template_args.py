"""``--template-arg`` reaches the template in every command, and stands in what is kept."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

import handpick
from handpick import bundled
from handpick.cli import app
from handpick.data.examples import Message
from handpick.data.render import Renderer
from handpick.errors import FingerprintMismatch, SettingsError
from handpick.evaluation.run import open_settings_model
from handpick.evaluation.settings import EvaluateSettings
from handpick.finetuning.train import run_export, run_train
from handpick.iterselecttune.answering import Answering
from handpick.iterselecttune.settings import IterSelectSettings
from handpick.model import load_tokenizer, tokenizer_fingerprint
from handpick.pipeline import run_represent
from handpick.scorers.inputs import open_renderer
from handpick.settings import Settings
from handpick.studies.run import plan_steps, run_study
from handpick.studies.settings import StudySettings
from tests.conftest import make_model, records, write_jsonl

# writes what it is told at the head, where no loss stands
TEMPLATE = (
    "{{ '<|' + (mood | default('none')) ~ '|>' }}"
    "{% for m in messages %}{{ '<|' + m['role'] + '|>' + m['content'] }}"
    "{% if m['role'] == 'assistant' %}{{ eos_token }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)
TOLD = {"mood": "calm and very slow"}
FLAG = ("--template-arg", "mood=calm and very slow")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(make_model(tmp_path_factory.mktemp("model") / "told", template=TEMPLATE))


@pytest.fixture
def pool(tmp_path: Path, pool_records: list[dict[str, Any]]) -> Path:
    return write_jsonl(tmp_path / "pool.jsonl", pool_records[:6])


def handpick_says(*arguments: object) -> str:
    shown = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert shown.exit_code == 0, shown.output
    return shown.output


def test_the_template_is_told_and_the_fingerprint_says_so(model: str) -> None:
    settings = Settings(model=model, template_args=["mood=calm and very slow", "n=3"])
    renderer = open_renderer(settings)
    assert renderer.text([Message("user", "Hi")]).startswith("<|calm and very slow|><|user|>")
    plain = Renderer(load_tokenizer(model))
    assert tokenizer_fingerprint(renderer) == tokenizer_fingerprint(plain) | {"template_args": TOLD | {"n": 3}}


@pytest.mark.parametrize("representation", ["length", "rds+", "perplexity", "gradient"])
def test_a_store_made_without_is_refused_with(
    representation: str, model: str, pool: Path, query_records: list[dict[str, Any]], tmp_path: Path
) -> None:
    query = write_jsonl(tmp_path / "query.jsonl", query_records[:2])
    given: list[object] = ["select", "--pool", pool, "--query", query, "--model", model, "--budget", 2]
    given += ["--representation", representation]
    given += ["--warmup", "none", "--optimizer", "sgd", "--projection-dim", 16] if representation == "gradient" else []
    given += ["--out", tmp_path / "run"]
    handpick_says(*given)
    shown = CliRunner().invoke(app, [str(each) for each in (*given, *FLAG)])
    assert shown.exit_code == 2
    assert 'template_args is not set there and {"mood": "calm and very slow"} here' in shown.output.replace("\n", " ")
    handpick_says(*given[:-1], tmp_path / "told", *FLAG)
    found = handpick.Selection.open(tmp_path / "told").fingerprints["pool"]["space"]
    assert found["template_args"] == TOLD
    assert yaml.safe_load((tmp_path / "told" / "settings.yaml").read_text())["template_args"] == TOLD


def test_a_run_that_starts_from_a_store_tells_what_the_store_was_told(
    model: str, pool: Path, query_records: list[dict[str, Any]], tmp_path: Path
) -> None:
    kept = {"pool": [str(pool)], "model": model, "representation": "rds+", "out": str(tmp_path / "run")}
    store = run_represent(Settings(**kept, template_args=TOLD))
    plain = run_represent(Settings(**kept | {"out": str(tmp_path / "plain")}))
    assert "template_args" not in (plain.path / "represent.yaml").read_text()
    selection = handpick.select(query=query_records[:2], store=store.path, budget=2, out=tmp_path / "select")
    assert selection.settings["template_args"] == TOLD
    with pytest.raises(FingerprintMismatch, match="template_args"):
        handpick.select(query=query_records[:2], store=store.path, budget=2, template_args={"mood": "hasty"})


def test_training_tells_what_the_selection_was_made_with(model: str, pool: Path, tmp_path: Path) -> None:
    chosen = handpick.select(
        pool, model=model, representation="length", algorithm="mean-max", budget=4, out=tmp_path / "run",
        template_args=TOLD,
    )  # fmt: skip
    quick: dict[str, Any] = {"epochs": 1, "batch": 4, "lora": {"rank": 2}, "max_length": 256}
    tokens = {}
    for name, given in {"as chosen": None, "told": TOLD, "untold": {}}.items():
        config = run_export(tmp_path / "run", "axolotl", tmp_path / name, template_args=given, **quick)
        tokens[name] = (config.parent / "tokens.jsonl").read_text()
    assert tokens["as chosen"] == tokens["told"] != tokens["untold"]
    record = yaml.safe_load((run_train(tmp_path / "run", **quick) / "train.yaml").read_text())
    assert record["template_args"] == TOLD
    in_memory = yaml.safe_load((handpick.train(chosen, out=tmp_path / "memory", **quick) / "train.yaml").read_text())
    assert in_memory["made_from"]["tokens"] == record["made_from"]["tokens"]
    told = ["--selection", pool, "--model", model, "--epochs", 1, "--lora-rank", 2, "--max-length", 256]
    handpick_says("export", *told, "--to", "axolotl", "--out", tmp_path / "cli", *FLAG)
    handpick_says("export", *told, "--to", "axolotl", "--out", tmp_path / "cli untold")
    assert (tmp_path / "cli" / "tokens.jsonl").read_text() != (tmp_path / "cli untold" / "tokens.jsonl").read_text()
    with pytest.raises(SettingsError, match="cannot say tools"):
        run_export(tmp_path / "run", "axolotl", tmp_path / "no", template_args={"tools": []}, **quick)


def test_an_evaluation_tells_it_and_is_not_mixed_with_one_that_does_not(model: str, pool: Path, tmp_path: Path) -> None:
    given = ["evaluate", "--model", model, "--target", pool, "--max-length", 128, "--out", tmp_path / "run"]
    handpick_says(*given, *FLAG)
    found = json.loads((tmp_path / "run" / "evaluation.json").read_text())
    assert found["made_with"]["template_args"] == TOLD
    shown = CliRunner().invoke(app, [str(each) for each in given])
    assert shown.exit_code == 2
    assert "template_args is" in shown.output.replace("\n", " ")
    opened = open_settings_model(EvaluateSettings(model=model, template_args=TOLD), model)
    assert opened.renderer.text([Message("user", "Hi")]).startswith("<|calm")


def test_a_model_that_is_told_otherwise_than_it_was_trained_is_named(
    model: str, pool: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe: dict[str, Any] = {"epochs": 1, "batch": 4, "lora": {"rank": 2}, "max_length": 256, "template_args": TOLD}
    trained = str(run_train(pool, model, tmp_path / "model", **recipe))
    capsys.readouterr()
    open_settings_model(EvaluateSettings(model=trained, template_args=TOLD), trained)
    assert "was trained with" not in capsys.readouterr().err
    open_settings_model(EvaluateSettings(model=trained), trained)
    told = " ".join(capsys.readouterr().err.split())
    assert "was trained with the template's arguments {'mood': 'calm and very slow'}, and is read with {}" in told


def test_the_answers_that_are_judged_are_answers_to_it(model: str, pool: Path) -> None:
    given: dict[str, Any] = {"pool": [str(pool)], "model": model, "judge": "rule:rouge-l", "max_new_tokens": 8}
    told, untold = (Answering(IterSelectSettings.from_values(given | more)) for more in ({"template_args": TOLD}, {}))
    assert told.fingerprint == untold.fingerprint | {"template_args": TOLD}


def test_a_study_tells_it_in_every_step(model: str, pool: Path, tmp_path: Path) -> None:
    found = records(bundled.target_path("gsm8k"), 6)
    task = {"query": str(write_jsonl(tmp_path / "dev.jsonl", found[:2])),
            "test": str(write_jsonl(tmp_path / "test.jsonl", found[2:]))}  # fmt: skip
    given: dict[str, Any] = {
        "pool": str(pool), "models": {"tiny": model}, "targets": {"gsm8k": task}, "methods": ["longest"],
        "budgets": [2], "seeds": [0], "baselines": ["zero-shot"], "train": {"epochs": 1, "batch": 2}, "max_length": 384,
        "recipe": "small",
    }  # fmt: skip
    told = StudySettings(**given, out=str(tmp_path / "told"), template_args=TOLD)
    untold = StudySettings(**given, out=str(tmp_path / "untold"))
    losses = [
        [cell.metrics["loss"] for cell in run_study(each).cells if cell.status == "done"] for each in (told, untold)
    ]
    assert len(losses[0]) == len(losses[1]) == 2
    assert losses[0] != losses[1]
    names = [{step.name for step in plan_steps(each)[0]} for each in (told, untold)]
    assert not names[0] & names[1]
    with pytest.raises(SettingsError, match="template_args is the study's own"):
        StudySettings(**given | {"methods": {"longest": {"template_args": TOLD}}})


def test_doctor_and_plan_take_it(model: str, pool: Path, tmp_path: Path) -> None:
    given = ["--pool", pool, "--model", model, "--projection-dim", 512, *FLAG]
    shown = CliRunner().invoke(app, [str(each) for each in ("doctor", *given[:-1], "mood")])
    assert (shown.exit_code, "--template-arg should be NAME=VALUE" in shown.output) == (2, True)
    planned = ["plan", "represent", *given, "--method", "rds+", "--probe", 1, "--out", tmp_path / "run", "--json"]
    assert json.loads(handpick_says(*planned))["stages"]


def test_a_representation_that_renders_nothing_says_so() -> None:
    assert Settings(method="bm25", template_args=TOLD).unused_settings == ["template_args"]
    assert Settings(method="bm25", template_args=TOLD, budget="2M tokens").unused_settings == []
    assert Settings(method="rds+", template_args=TOLD).unused_settings == []
    shown = CliRunner().invoke(app, ["select", "--pool", "p", "--template-arg", "enable_thinking"])
    assert shown.exit_code == 2
    assert "--template-arg should be NAME=VALUE" in shown.output
    shown = CliRunner().invoke(app, ["evaluate", "--model", "m", "--lm-eval", "gsm8k", *FLAG])
    assert shown.exit_code == 2
    assert "--template-arg is for the chat template, which --lm-eval uses with --lm-eval-chat" in shown.output
