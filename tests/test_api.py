"""The functions of ``import handpick``: the same from files and from memory, and callable whatever was imported."""

import gc
import json
import os
import pkgutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import datasets
import pandas as pd
import pyarrow as pa
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

import handpick
from handpick.data.read import FileInput
from handpick.errors import DataError, ModelError, SettingsError
from handpick.selection import Selection
from tests.conftest import write_jsonl
from tests.iterselecttune.conftest import tiny_classifier, tiny_sentences, world

__all__ = ["tiny_classifier", "tiny_sentences"]  # fixtures

GRADIENTS = {"method": "gradient-rr", "warmup": "none", "projection_dim": 256, "max_length": 256, "shard_rows": 16}
WARMUP = {"at_least": 8, "epochs": 1, "batch": 4, "learning_rate": 1e-3, "lora": {"rank": 2, "alpha": 4}}
# what extras bring along: no module needs one to be imported
EXTRAS = (
    "bitsandbytes",
    "bm25s",
    "lm_eval",
    "openai",
    "ot",
    "ray",
    "rouge_score",
    "sentence_transformers",
    "sklearn",
    "trl",
    "vllm",
)


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def pool(pool_records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return pool_records[:30]


@pytest.fixture
def query(query_records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return query_records[:3]


@pytest.fixture
def in_memory(tiny_model: Path) -> tuple[Any, Any]:
    return AutoModelForCausalLM.from_pretrained(tiny_model), AutoTokenizer.from_pretrained(tiny_model)


def run(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code], env=dict(os.environ), capture_output=True, text=True, check=False
    )


def test_public_names_stay_callable_whatever_is_imported() -> None:
    assert handpick.__all__ == sorted(handpick.__all__)
    code = (
        "import importlib, pkgutil, sys\n"
        f"sys.modules.update(dict.fromkeys({EXTRAS!r}))\n"
        "import handpick\n"
        "for module in pkgutil.walk_packages(handpick.__path__, 'handpick.'):\n"
        "    if module.name != 'handpick.__main__':\n"  # which runs the command line
        "        importlib.import_module(module.name)\n"
        "print([name for name in handpick.__all__ if not callable(getattr(handpick, name))])\n"
    )
    done = run(code)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[]"


def test_no_room_has_a_public_functions_name() -> None:
    rooms = {module.name for module in pkgutil.iter_modules(handpick.__path__)}
    assert not rooms & set(handpick.__all__)


def test_a_name_that_is_not_there() -> None:
    with pytest.raises(AttributeError, match="module 'handpick' has no attribute 'choose'"):
        _ = handpick.choose
    assert set(handpick.__all__) <= set(dir(handpick))


def same(one: Selection, other: Selection) -> bool:
    return (one.ids, one.scores, one.picked_for) == (other.ids, other.scores, other.picked_for)


def test_words_from_a_file_a_list_and_a_dataset(pool: list[dict[str, Any]], query: list[dict[str, Any]]) -> None:
    files = [str(write_jsonl(Path(f"{name}.jsonl"), rows)) for name, rows in (("pool", pool), ("query", query))]

    of_files = handpick.select(*files, method="bm25", budget=6, out="files")
    of_lists = handpick.select(pool, query, method="bm25", budget=6, out="lists")
    of_datasets = handpick.select(*map(datasets.Dataset.from_list, (pool, query)), method="bm25", budget=6, out="sets")

    assert same(of_files, of_lists)
    assert same(of_files, of_datasets)
    assert [row for _, row in of_lists.origins] == [line for _, line in of_files.origins]
    assert of_lists.origins[0][0] == of_lists.settings["pool"][0]
    by_id = {record["id"]: record for record in pool}
    assert of_lists.to_dataset().to_list() == of_files.to_dataset().to_list()
    assert [json.loads(of_lists.record(i)) for i in range(6)] == [by_id[i] for i in of_lists.ids]
    assert Selection.open("lists").ids == of_files.ids


def test_gradients_from_files_and_from_memory(
    pool: list[dict[str, Any]], query: list[dict[str, Any]], tiny_model: Path, in_memory: tuple[Any, Any]
) -> None:
    files = [str(write_jsonl(Path(f"{name}.jsonl"), rows)) for name, rows in (("pool", pool), ("query", query))]
    module, tokenizer = in_memory
    module.train()
    before = {name: weight.clone() for name, weight in module.state_dict().items()}
    said = tokenizer.backend_tokenizer.to_str()

    of_files = handpick.select(*files, str(tiny_model), **GRADIENTS, budget=6, out="files")
    of_memory = handpick.select(pool, query, in_memory, **GRADIENTS, budget=6, out="memory")

    assert same(of_files, of_memory)
    assert module.training
    assert all(weight.requires_grad and weight.grad is None for weight in module.parameters())
    assert not any("lora" in name for name, _ in module.named_modules())
    assert module.state_dict().keys() == before.keys()
    assert all(torch.equal(weight, before[name]) for name, weight in module.state_dict().items())
    assert tokenizer.backend_tokenizer.to_str() == said
    ours, theirs = (s.fingerprints["pool"]["space"]["model"] for s in (of_memory, of_files))
    assert ours["config"] == theirs["config"]


def test_a_warmup_on_a_model_in_memory_goes_on(
    pool: list[dict[str, Any]], query: list[dict[str, Any]], in_memory: tuple[Any, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    given: dict[str, Any] = GRADIENTS | {"method": "less-rr", "warmup": WARMUP, "out": "run"}
    first = handpick.select(pool, query, in_memory, budget=6, **given)
    for module in ("scorers.checkpoints", "training.warmup", "scorers.gradient_encoder"):
        monkeypatch.setattr(f"handpick.{module}.load_base", lambda *_: pytest.fail("a model was loaded"))
    again = handpick.select([dict(each) for each in pool], query, in_memory, budget=3, **given)
    assert again.ids == first.ids[:3]


def test_several_tasks_and_test_sets_in_memory(pool: list[dict[str, Any]], query: list[dict[str, Any]]) -> None:
    more = [each | {"id": f"{each['id']}-more"} for each in query]
    chosen = handpick.select(
        pool, target={"a": query, "b": datasets.Dataset.from_list(more)}, method="bm25", budget=6,
        exclude_overlap=[pool[0]], out="run",
    )  # fmt: skip
    assert pool[0]["id"] not in chosen.ids
    assert len(chosen) == 6


def test_pools_of_files_and_data_sets_side_by_side(pool: list[dict[str, Any]]) -> None:
    file, first = write_jsonl(Path("pool.jsonl"), pool[:10]), datasets.Dataset.from_list(pool[10:20])
    chosen = handpick.select([first, file], method="random", budget="100%", out="run")
    assert sorted(chosen.ids) == sorted(each["id"] for each in pool[:20])
    assert {origin for origin, _ in chosen.origins} == {str(file), chosen.settings["pool"][0]}


def test_where_a_run_in_memory_goes_unless_it_is_said(pool: list[dict[str, Any]], query: list[dict[str, Any]]) -> None:
    chosen = handpick.select(pool, query, method="bm25", budget=2)
    assert Path("runs", chosen.settings["query"][0].removeprefix("memory:"), "selection.json").exists()


def test_what_no_file_can_name_is_not_written_as_settings(pool: list[dict[str, Any]]) -> None:
    handpick.select(pool, method="random", budget=2, out="run")
    assert not Path("run/settings.yaml").exists()


def test_the_run_of_a_pool_in_memory_is_reported_by_another_process(
    pool: list[dict[str, Any]], query: list[dict[str, Any]]
) -> None:
    handpick.select(pool, query, method="bm25", budget=6, out="run")
    done = run("import handpick; print(handpick.report('run'))")
    assert done.returncode == 0, done.stderr
    assert "handed over" not in page_text(done.stdout.strip())

    for table in Path("run/features/parsed").glob("*.arrow"):
        table.unlink()
    handpick.report("run")
    page = page_text("run/report.html")
    assert "The pool could not be read: memory:pool-" in page
    assert "was handed over in Python, and run/features/parsed does not have it parsed: hand the records over" in page


def page_text(path: str) -> str:
    return " ".join(Path(path).read_text().split())


def test_a_store_of_a_pool_in_memory_is_started_from(
    pool: list[dict[str, Any]], query: list[dict[str, Any]], in_memory: tuple[Any, Any]
) -> None:
    given = {name: value for name, value in GRADIENTS.items() if name != "shard_rows"}
    store = handpick.represent_pool(pool, in_memory, **GRADIENTS, out="features")
    chosen = handpick.select(query=query, model=in_memory, store=store.path, budget=4, out="from-store")
    assert chosen.ids == handpick.select(pool, query, in_memory, **given, budget=4, out="whole").ids


def test_settings_and_what_is_given_beside_them(pool: list[dict[str, Any]]) -> None:
    settings = handpick.Settings(method="random", budget="3", seed=4, out="run")
    assert len(handpick.select(pool, settings=settings)) == 3
    more = handpick.select(pool, settings=settings, budget=5)
    assert len(more) == 5
    assert more.settings["seed"] == 4


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"pool": []}, r"^pool should be a file, a list of files, .* not an empty list$"),
        ({"pool": {"id": "x"}}, r"^pool should be .*, not dict$"),
        ({"pool": [1, 2]}, r"^pool should be .*, not list$"),
        ({"pool": iter([])}, r"^pool should be .*, not list_iterator; hand over a list of what it gives$"),
        ({"pool": pd.DataFrame({"a": [1]})}, r", not DataFrame; hand over its to_dict\('records'\)$"),
        ({"pool": pa.table({"a": [1]})}, r", not Table; hand over its to_pylist\(\)$"),
        ({"pool": 3.5}, r" or a datasets.Dataset, not float$"),
        ({"pool": "p", "model": torch.nn.Linear(1, 1)}, r"^model should be .* or \(module, tokenizer\), not Linear$"),
        ({"pool": "p", "budgets": 3}, r"^there is no setting 'budgets' \(did you mean 'budget'\?\)"),
    ],
)
def test_what_cannot_be_handed_over(given: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        handpick.select(method="random", **given)


def test_splits_and_what_can_only_be_iterated(pool: list[dict[str, Any]], capsys: pytest.CaptureFixture[str]) -> None:
    table = datasets.Dataset.from_list(pool)
    splits = datasets.DatasetDict({"train": table, "test": table.select([0])})
    wanted = handpick.select(table, method="random", budget=3, out="table").ids
    capsys.readouterr()
    assert handpick.select(splits, method="random", budget=3, out="splits").ids == wanted
    assert "the DatasetDict handed over: its split 'train' is read; left out: test\n" in capsys.readouterr().err
    assert handpick.select(table.to_iterable_dataset(), method="random", budget=3, out="iterated").ids == wanted
    assert "an IterableDataset is read to its end, once" in capsys.readouterr().err
    with pytest.raises(DataError, match=r"the DatasetDict handed over has no split to train on: it has test"):
        handpick.select(datasets.DatasetDict({"test": table}), method="random", budget=3, out="none")


def test_a_model_in_memory_that_cannot_be_used(pool: list[dict[str, Any]], in_memory: tuple[Any, Any]) -> None:
    with pytest.raises(ModelError, match="handed over in Python is not quantized"):
        handpick.represent_pool(pool, in_memory, **GRADIENTS, quantization="4bit", out="run")
    with pytest.raises(SettingsError, match="vLLM reads a model from its folder"):
        handpick.select(pool, pool, in_memory, method="nice", reward="squad-f1", sampler="vllm")
    chosen = handpick.select(pool, pool[:2], in_memory, **GRADIENTS, budget=2, out="run")
    del in_memory
    gc.collect()  # frames of what was refused before
    with pytest.raises(ModelError, match=r"^memory:model-\w+ was handed over in Python and is not here: hand over the"):
        handpick.train(chosen, out="trained")


@pytest.mark.parametrize("form", ["selection", "records", "dataset", "folder"])
def test_train_on_a_selection_or_records(
    pool: list[dict[str, Any]], in_memory: tuple[Any, Any], tiny_model: Path, form: str
) -> None:
    chosen = handpick.select(pool, method="random", budget=4, out="run")
    rows = [json.loads(chosen.record(i)) for i in range(len(chosen))]
    forms: dict[str, Any] = {
        "selection": chosen, "records": rows, "dataset": datasets.Dataset.from_list(rows), "folder": "run",
    }  # fmt: skip
    recipe: dict[str, Any] = {"epochs": 1, "batch": 4, "lora": {"rank": 2}, "max_length": 128}
    out = handpick.train(forms[form], in_memory, "trained", recipe="small", **recipe)
    ours = handpick.evaluate(out, {"task": rows}, base=in_memory)["task"].metrics["loss"].value
    handpick.train("run", tiny_model, "of-files", recipe="small", **recipe)
    theirs = handpick.evaluate("of-files", {"task": "run/selected.jsonl"})["task"].metrics["loss"].value
    assert ours == theirs


def test_train_wants_to_know_where_to_write(pool: list[dict[str, Any]], tiny_model: Path) -> None:
    with pytest.raises(SettingsError, match=r"^records in memory are written beside the model: give out"):
        handpick.train(pool, tiny_model)
    with pytest.raises(DataError, match=r"^record 2 cannot be trained on: not an object: the element is a int; "):
        handpick.train([pool[0], 3], tiny_model, "out")  # type: ignore[list-item]


def test_evaluate_models_and_tasks_of_every_form(
    query: list[dict[str, Any]], tiny_model: Path, in_memory: tuple[Any, Any]
) -> None:
    file = write_jsonl(Path("gsm8k.jsonl"), query)
    of_file = handpick.evaluate(tiny_model, file, out="files")
    of_memory = handpick.evaluate(in_memory, {"gsm8k": query}, metrics="loss")
    assert of_file.keys() == of_memory.keys() == {FileInput(file).stem}
    assert of_file["gsm8k"] == of_memory["gsm8k"]
    assert len(list(Path("runs").glob("evaluation-model-*/evaluation.json"))) == 1
    assert handpick.evaluate(tiny_model, datasets.Dataset.from_list(query), limit=2, out="set")["task"].records == 2
    with pytest.raises(SettingsError, match=r"^'a/b' is no name of a task"):
        handpick.evaluate(tiny_model, {"a/b": file})
    with pytest.raises(SettingsError, match=r"there is no setting|not permitted"):
        handpick.evaluate(tiny_model, file, metric="loss")


def test_plan_takes_what_the_function_takes(
    pool: list[dict[str, Any]], query: list[dict[str, Any]], in_memory: tuple[Any, Any]
) -> None:
    planned = handpick.plan(
        "select", pool=pool, query=query, model=in_memory, **GRADIENTS, budget=4, out="run", probe_seconds=0.1
    )
    assert planned.command == "select"
    assert planned.stages[0].examples == len(pool)
    assert not Path("run/features/pool").exists()
    built = handpick.plan("represent", pool=pool, model=in_memory, **GRADIENTS, out="run", probe_seconds=0.1)
    assert built.command == "represent"
    trained = handpick.plan("train", selection=pool, model=in_memory, probe_seconds=0.1, recipe="small", batch=4)
    assert trained.command == "train"
    measured = handpick.plan("evaluate", model=in_memory, target=query, probe_seconds=0.1)
    assert measured.stages[0].examples == len(query)


@pytest.mark.parametrize(
    ("command", "arguments", "message"),
    [
        (
            "selct",
            {},
            r"^no command to plan 'selct' \(did you mean 'select'\?\); choose one of select, compare, represent, ",
        ),
        ("train", {}, "^no selection given"),
        ("evaluate", {"model": "m"}, "^no target given"),
        ("study", {"pool": "p"}, "^a study is planned from its config alone"),
        ("select", {"reward": print}, "^a reward of your own cannot be planned for"),
        ("select", {"bugdet": 3}, "^there is no setting 'bugdet'"),
    ],
)
def test_a_plan_that_cannot_be_made(command: Any, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        handpick.plan(command, **arguments)


def test_a_study_from_a_mapping(pool: list[dict[str, Any]], query: list[dict[str, Any]], tiny_model: Path) -> None:
    config: dict[str, Any] = {
        "pool": str(write_jsonl(Path("pool.jsonl"), pool)), "models": [str(tiny_model)], "budgets": [4], "seeds": 1,
        "targets": {"gsm8k": {"query": str(write_jsonl(Path("query.jsonl"), query)), "test": "query.jsonl"}},
        "methods": ["bm25"], "baselines": ["zero-shot"], "max_length": 256, "out": "study",
        "train": {"epochs": 1, "batch": 4, "lora": {"rank": 2}, "max_length": 256},
    }  # fmt: skip
    with pytest.raises(SettingsError, match=r"^a study reads files, and its pool is a list of records"):
        handpick.study(config | {"pool": pool})
    with pytest.raises(SettingsError, match=r"^study: there is no setting 'budget' \(did you mean 'budgets'\?\)"):
        handpick.study(config | {"budget": 3})
    assert handpick.plan("study", config=config, probe_seconds=0.1).command == "study"
    results = handpick.study(config)
    assert {cell.status for cell in results.cells} == {"done"}
    assert handpick.report("study", tests=()).name == "report.html"


def test_iterselect_from_memory(
    in_memory: tuple[Any, Any], tiny_model: Path, tiny_classifier: Path, tiny_sentences: Path
) -> None:
    given: dict[str, Any] = {
        "judge": "rule:rouge-l", "rounds": 1, "batch": 12, "clusters": 3, "max_new_tokens": 4, "hard_below": 2,
        "encoder": tiny_sentences, "classifier": {"model": str(tiny_classifier)}, "seed": 3, "budget": 8,
    }  # fmt: skip
    file = write_jsonl(Path("world.jsonl"), world(60))
    of_files = handpick.iterselect(file, tiny_model, **given, out="files")
    of_memory = handpick.iterselect(world(60), in_memory, **given, out="memory")
    assert same(of_files, of_memory)
    assert len(of_memory) == 8
    assert Path("files/iterselect.yaml").exists()
    assert not Path("memory/iterselect.yaml").exists()  # no file can name what is in memory
    assert "handed over" not in page_text(str(handpick.report("memory")))
