"""What a person sees on the command line: help at once, a table, one line for what is wrong, and no noise."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner, Result

from handpick.cli import app
from tests.conftest import write_jsonl

HEAVY = ("torch", "transformers", "datasets", "peft", "accelerate", "pyarrow")


def handpick(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def flags(
    tiny_model: Path,
    pool_records: list[dict[str, Any]],
    query_records: list[dict[str, Any]],
    tmp_path_factory: pytest.TempPathFactory,
) -> list[object]:
    """A selection without a warmup, but for --out."""
    folder = tmp_path_factory.mktemp("data")
    pool = write_jsonl(folder / "pool.jsonl", pool_records[:20])
    query = write_jsonl(folder / "query.jsonl", query_records[:2])
    return [
        "--pool", pool, "--query", query, "--model", tiny_model, "--budget", 5,
        "--method", "gradient-rr", "--warmup", "none", "--projection-dim", 256,
    ]  # fmt: skip


@pytest.fixture(scope="module")
def chosen(flags: list[object], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Result]:
    """One run of ``select``: its folder, and what was said."""
    out = tmp_path_factory.mktemp("runs") / "out"
    return out, handpick("select", *flags, "--out", out)


@pytest.mark.parametrize(
    "command",
    ["", "select", "represent", "run", "demo", "methods", "doctor", "store", "store verify", "store merge"],
)
def test_help(command: str) -> None:
    shown = handpick(*command.split(), "--help")
    assert shown.exit_code == 0
    assert shown.stdout.strip().startswith("Usage: ")


@pytest.mark.parametrize("command", ["select", "represent", "doctor", "plan select", "plan represent", "train"])
def test_the_layers_of_the_adapter_are_a_flag(command: str) -> None:
    shown = " ".join(handpick(*command.split(), "--help-all").stdout.split())
    assert "--lora-targets" in shown
    assert "auto|all-linear|NAMES" in shown


def test_select_takes_the_flags_that_scripts_use() -> None:
    shown = handpick("select", "--help-all").stdout
    fixed = (
        "pool query model checkpoints method budget out seed max-length optimizer eps-mode projection projection-dim "
        "store algorithm"
    )
    assert [name for name in fixed.split() if f"--{name} " not in shown] == []


@pytest.mark.parametrize("arguments", [["--help"], ["select", "--help"], ["methods"]])
def test_help_loads_nothing_heavy(arguments: list[str]) -> None:
    code = f"""
import atexit, sys
atexit.register(lambda: print("LOADED", *[name for name in {HEAVY} if name in sys.modules]))
from handpick.cli import app
app({arguments})
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.splitlines()[-1] == "LOADED"


def test_methods_lists_methods_and_algorithms() -> None:
    shown = handpick("methods").stdout
    assert re.search(r"less-rr .*adam .*round-robin", shown)
    assert "doubly-greedy" in shown


def test_select_shows_what_was_chosen_and_where_it_is(chosen: tuple[Path, Result]) -> None:
    out, shown = chosen
    assert shown.exit_code == 0
    assert "5 of 20 examples chosen by gradient-rr" in shown.stdout
    assert_first_picks(out, shown.stdout.partition("The first picks, each beside the query it was picked for")[2])
    assert "source / category" in shown.stdout
    assert str(out / "selected.jsonl") in shown.stdout
    assert len((out / "selected.jsonl").read_text().splitlines()) == 5


def test_progress_is_a_line_a_step_and_nothing_of_other_libraries(chosen: tuple[Path, Result]) -> None:
    steps = [line.split("  ")[0].rstrip(" ━") for line in chosen[1].stderr.splitlines()]
    assert steps[0].startswith("gradients in ")
    assert [re.split(r" ━", step)[0] for step in steps[1:]] == ["query features", "pool features"]


def test_bad_records_are_counted_in_one_line(flags: list[object], tmp_path: Path) -> None:
    pool = tmp_path / "pool.jsonl"
    pool.write_text("{\n[1]\n" + Path(str(flags[1])).read_text())
    shown = handpick("select", "--pool", pool, *flags[2:], "--out", tmp_path / "out")
    assert shown.exit_code == 0
    quarantine = tmp_path / "out" / "quarantine.jsonl"
    assert f"2 records set aside (1 malformed JSON, 1 not an object): {quarantine}" in shown.stderr.splitlines()


def test_brackets_in_a_category_are_no_markup(
    flags: list[object], pool_records: list[dict[str, Any]], tmp_path: Path
) -> None:
    records = [record | {"source": "[red]", "category": "[/x]"} for record in pool_records[:10]]
    pool = write_jsonl(tmp_path / "pool.jsonl", records)
    shown = handpick("select", "--pool", pool, *flags[2:], "--out", tmp_path / "out")
    assert "[red] / [/x]" in shown.stdout


def test_a_long_category_is_cut_and_not_folded(
    flags: list[object], pool_records: list[dict[str, Any]], tmp_path: Path
) -> None:
    pool = write_jsonl(tmp_path / "pool.jsonl", [r | {"category": "long " * 30} for r in pool_records[:10]])
    shown = handpick("select", "--pool", pool, *flags[2:], "--out", tmp_path / "out").stdout
    rows = [line for line in shown.split("└")[0].splitlines() if line.startswith("│")]
    assert all("long long" in row and "… │" in row for row in rows)


@pytest.mark.parametrize(
    ("flag", "value", "message"),
    [
        ("budget", "0", "the budget 0 is not above zero"),
        ("budget", "21", "the budget is 21 examples and the pool has 20"),
        ("budget", "plenty", "the budget 'plenty' cannot be read"),
        ("budget", "", "the budget '' cannot be read"),
        ("method", "les-rr", "no method 'les-rr' (did you mean 'less-rr'?); choose one of less-rr, less, "),
        ("algorithm", "robin", "no algorithm 'robin' (did you mean 'round-robin'?)"),
        ("optimizer", "adamw", "--optimizer should be 'adam' or 'sgd', not 'adamw'"),
        ("optimizer", "adam", "without a warmup there is no Adam state: choose --method gradient-rr"),
        ("eps-mode", "new", "--eps-mode should be 'less' or 'adam', not 'new'"),
        ("projection", "dense", "--projection should be 'sparse', 'rademacher' or 'none', not 'dense'"),
        ("projection-dim", "0", "--projection-dim should be greater than 0, not '0'"),
        ("projection-nonzeros", "3", "projection_dim 256 is no multiple of projection_nonzeros 3"),
        ("warmup", "large", "--warmup should be 'auto', 'less', 'small' or 'none', not 'large'"),
        ("seed", "-1", "--seed should be greater than or equal to 0"),
        ("max-length", "1", "--max-length should be greater than or equal to 2"),
        ("max-length", "many", "--max-length should be a valid integer"),
        ("dtype", "int8", "--dtype should be 'auto', 'float32', 'bfloat16' or 'float16'"),
        ("storage", "int3", "--storage should be "),
        ("batch-tokens", "0", "--batch-tokens should be greater than or equal to 1"),
        ("shard-rows", "0", "--shard-rows should be greater than or equal to 1"),
        ("max-quarantined", "-1", "--max-quarantined should be greater than or equal to 0"),
        ("model", "./none", "there is no model folder ./none"),
        ("store", "none", "there is no feature store at none"),
        ("checkpoints", "none", "there is no checkpoint folder none"),
        ("query", "none.jsonl", "there is no file none.jsonl"),
        ("out", "/dev/null", "cannot write in /dev/null: it is no folder"),
    ],
)
def test_a_wrong_value_is_one_line_and_exit_code_2(
    flag: str, value: str, message: str, flags: list[object], tmp_path: Path
) -> None:
    given = [*flags, "--out", tmp_path / "out"]
    if flag == "checkpoints":
        given += ["--warmup", "auto"]
    shown = handpick("select", *given, f"--{flag}", value)
    assert shown.exit_code == 2
    assert shown.stderr.startswith(f"handpick: {message}")
    assert len(shown.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("poool: a.jsonl", "there is no setting 'poool' (did you mean 'pool'?)"),
        ("pool: [", "is no YAML: "),
        ("- pool", "holds no settings"),
        ("pool: 3", "pool should be a path or a list of paths, not 3"),
        ("budget: 5", "no query given"),
        ("warmup: {epochs: 0}", "warmup.epochs should be greater than 0, not 0"),
        ("warmup: {lora: {rank: big}}", "warmup.lora.rank should be a valid integer"),
    ],
)
def test_a_wrong_file_of_settings_is_one_line_and_exit_code_2(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "run.yaml").write_text(text)
    shown = handpick("run", tmp_path / "run.yaml")
    assert shown.exit_code == 2
    assert message in shown.stderr
    assert len(shown.stderr.splitlines()) == 1


def test_run_without_its_file_says_so(tmp_path: Path) -> None:
    shown = handpick("run", tmp_path / "none.yaml")
    assert (shown.exit_code, shown.stderr) == (
        2,
        f"handpick: {tmp_path}/none.yaml cannot be read: No such file or directory\n",
    )


def test_run_repeats_what_select_wrote(chosen: tuple[Path, Result], tmp_path: Path) -> None:
    settings = yaml.safe_load((chosen[0] / "settings.yaml").read_text())
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(settings | {"out": str(tmp_path / "again")}))
    assert handpick("run", tmp_path / "run.yaml").exit_code == 0
    assert (tmp_path / "again" / "selected.jsonl").read_bytes() == (chosen[0] / "selected.jsonl").read_bytes()


def test_represent_then_select_from_its_store(flags: list[object], chosen: tuple[Path, Result], tmp_path: Path) -> None:
    made = handpick("represent", *flags[:2], *flags[4:6], *flags[8:], "--out", tmp_path / "made")
    store = tmp_path / "made" / "features" / "pool"
    assert made.stdout.splitlines() == [
        f"20 examples, 256 features, 1 checkpoint: {store}",
        f"next: handpick select --store {store} --query QUERY --budget 1000",
    ]
    out = tmp_path / "out"
    again = handpick("select", "--store", store, *flags[2:4], *flags[6:10], "--out", out)
    assert again.exit_code == 0
    ids = [json.loads((folder / "selection.json").read_text())["ids"] for folder in (out, chosen[0])]
    assert ids[0] == ids[1]


def test_verify_counts_and_names_what_is_wrong(flags: list[object], tmp_path: Path) -> None:
    handpick("select", *flags, "--out", tmp_path / "out")
    store = tmp_path / "out" / "features" / "pool"
    assert handpick("store", "verify", store).stdout == "20 examples, all as they were written\n"
    (shard,) = store.rglob("*.safetensors")
    content = shard.read_bytes()
    shard.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    shown = handpick("store", "verify", store)
    assert shown.exit_code == 1
    assert str(shard) in shown.stdout


@pytest.mark.parametrize("command", [["verify"], ["merge", "--out", "merged"]])
def test_what_is_no_store_is_said_in_one_line(command: list[str], tmp_path: Path) -> None:
    shown = handpick("store", *command, tmp_path)
    assert shown.exit_code == 2
    assert shown.stderr.startswith(f"handpick: there is no feature store at {tmp_path}")
    assert len(shown.stderr.splitlines()) == 1


def test_merge_makes_a_store_to_select_from(flags: list[object], chosen: tuple[Path, Result], tmp_path: Path) -> None:
    merged = tmp_path / "merged"
    shown = handpick("store", "merge", chosen[0] / "features" / "pool", "--out", merged)
    assert shown.stdout == f"20 examples: {merged}\n"
    selected = handpick("select", "--store", merged, *flags[2:4], *flags[6:10], "--out", tmp_path / "out")
    assert selected.exit_code == 0
    assert (tmp_path / "out" / "selected.jsonl").read_bytes() == (chosen[0] / "selected.jsonl").read_bytes()


def test_demo_shows_the_first_picks_beside_their_queries(
    tiny_model: Path, pool_records: list[dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool = write_jsonl(tmp_path / "pool.jsonl", pool_records)
    monkeypatch.setattr("handpick.bundled.model_path", lambda: tiny_model)
    monkeypatch.setattr("handpick.bundled.pool_paths", lambda: [pool])
    shown = handpick("demo", "--target", "boolq", "--out", tmp_path / "out")
    assert shown.exit_code == 0
    assert "100 of 120 examples chosen by less-rr" in shown.stdout
    table = shown.stdout.partition("The first picks, each beside the query it was picked for")[2]
    assert_first_picks(tmp_path / "out", table)


def assert_first_picks(out: Path, table: str) -> None:
    """A line a pick, as wide as the terminal at most: its source, and the beginning of its last question."""
    rows = re.findall(r"^│ (.+?) +│ (.+?)…? +│ (.+?)…? +│$", table, re.MULTILINE)[:5]
    records = [json.loads(line) for line in (out / "selected.jsonl").read_text().splitlines()[:5]]
    assert len(rows) == len(records)
    for (source, picked, asked), record in zip(rows, records, strict=True):
        question = [turn["content"] for turn in record["messages"] if turn["role"] == "user"][-1]
        assert (source, bool(asked)) == (record["source"], True)
        assert " ".join(question.split()).startswith(picked)
    assert max(map(len, table.partition("└")[0].splitlines())) <= 100


def test_demo_knows_its_targets(tmp_path: Path) -> None:
    shown = handpick("demo", "--target", "gsm9k", "--out", tmp_path)
    assert shown.exit_code == 2
    assert "choose one of gsm8k, boolq, mbpp" in shown.stderr


def test_a_new_process_says_nothing_but_progress(flags: list[object], tmp_path: Path) -> None:
    """Libraries warn when they are imported, which only a process of its own shows."""
    script = [sys.executable, "-c", "from handpick.cli import app; app()", "select"]
    run = subprocess.run(
        [*script, *map(str, flags), "--out", str(tmp_path / "out")], capture_output=True, text=True, check=True,
        env=os.environ | {"COLUMNS": "100"},
    )  # fmt: skip
    first, *steps = run.stderr.splitlines()
    assert first.startswith("gradients in ")
    assert [line.split(" ━")[0] for line in steps] == ["query features", "pool features"]
