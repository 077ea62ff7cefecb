"""Commands with names, folders, files and models that nobody should have: one line each, and no file lost."""

import hashlib
import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from handpick import bundled
from handpick.cli import app
from handpick.cli.errors import OUR_FAULT
from handpick.layout import CheckpointLayout, RunLayout
from handpick.own_folder import hold_folder
from tests.conftest import write_jsonl

CHOOSE = ("--method", "random", "--budget", 4)


@pytest.fixture(autouse=True)
def _place(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("COLUMNS", "400")
    monkeypatch.chdir(tmp_path)


def handpick(*arguments: object) -> Result:
    return CliRunner().invoke(app, [os.fspath(a) if isinstance(a, os.PathLike) else str(a) for a in arguments])


def complaint(*arguments: object) -> str:
    """The one line that a command refuses with."""
    shown = handpick(*arguments)
    assert shown.exit_code == 2, shown.output
    last = shown.stderr.splitlines()[-1]
    assert last.startswith("handpick: ")
    assert "Traceback" not in shown.output
    return last.removeprefix("handpick: ")


def pool(path: Path | str, n: int = 8, first: int = 0) -> Path:
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    return write_jsonl(path, [{"id": f"r{first + i}", "prompt": f"p{i}", "completion": f"c{i}"} for i in range(n)])


def tree(folder: Path) -> dict[str, str]:
    """What is in a folder, by its bytes."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


# every command that writes → its arguments, with {out}, an input {own} of the user's, and another input {pool}
OWN_INPUTS = {
    "the pool": "select --pool {own} --method random --budget 2 --out {out}",
    "a pool's folder": "select --pool {out} --method random --budget 2 --out {out}",
    "a query": "select --pool {pool} --query {own} --method bm25 --budget 2 --out {out}",
    "a target": "select --pool {pool} --target a={own} --target b={pool} --method bm25 --budget 2 --out {out}",
    "ids to keep": "select --pool {pool} --method random --always {own} --budget 2 --out {out}",
    "a test set": "select --pool {pool} --method random --exclude-overlap {own} --budget 2 --out {out}",
    "scores": "select --pool {pool} --representation scores:{own} --algorithm mean-max --budget 2 --out {out}",
    "the pool of represent": "represent --pool {own} --method embed --out {out}",
    "the pool of overlap": "overlap --pool {own} --test {pool} --out {out}",
    "the test of overlap": "overlap --pool {pool} --test {own} --out {out}",
    "what is trained on": "train --selection {own} --model {model} --out {out}",
    "what is exported": "export --selection {own} --model {model} --to axolotl --out {out}",
    "the test of an evaluation": "evaluate --model {model} --target t={own} --out {out}",
    "prompts": "evaluate --model {model} --versus {model} --prompts {own} --judge exact-match --out {out}",
    "the pool of iterselect": "iterselect --pool {own} --model {model} --judge rule:exact-match --out {out}",
}


@pytest.mark.parametrize("command", OWN_INPUTS.values(), ids=OWN_INPUTS)
def test_an_input_in_the_place_of_an_output_stays(command: str, tmp_path: Path) -> None:
    out, other = tmp_path / "out", pool(tmp_path / "other.jsonl", first=100)
    own = pool(out / "quarantine.jsonl")
    before = tree(tmp_path)
    values = {"own": own, "out": out, "pool": other, "model": bundled.model_path()}
    said = complaint(*command.format(**values).split())
    assert "lies where this run writes its own quarantine.jsonl; move it, or give another --out" in said
    assert tree(tmp_path) == before


@pytest.mark.parametrize("name", ["selected.jsonl", "overlap.jsonl", "report.html", "features/pool/x.jsonl"])
def test_so_does_what_is_written_last(name: str, tmp_path: Path) -> None:
    own = pool(tmp_path / "out" / name)
    before = tree(tmp_path)
    assert "lies where this run writes" in complaint("select", "--pool", own, *CHOOSE, "--out", tmp_path / "out")
    assert tree(tmp_path) == before


def test_a_second_run_does_not_choose_from_what_the_first_chose() -> None:
    pool("data/pool.jsonl")
    assert handpick("select", "--pool", "data", *CHOOSE, "--out", "data").exit_code == 0
    said = complaint("select", "--pool", "data", *CHOOSE, "--out", "data")
    assert said.startswith("pool data: data/cost.json lies where this run writes its own cost.json")


def test_the_file_of_settings_that_is_run_stays_as_it_is_written(tmp_path: Path) -> None:
    pool("pool.jsonl")
    text = "# mine\npool: pool.jsonl   # all of it\nmethod: random\nbudget: 4\nout: out\n"
    RunLayout(tmp_path / "out").folder.mkdir()
    RunLayout(tmp_path / "out").settings.write_text(text)
    assert handpick("run", "out/settings.yaml").exit_code == 0
    assert RunLayout(tmp_path / "out").settings.read_text() == text
    (tmp_path / "out" / "cost.json").write_text(text)
    assert "lies where this run writes its own cost.json" in complaint("run", "out/cost.json")
    assert (tmp_path / "out" / "cost.json").read_text() == text


def test_look_does_not_write_its_page_over_the_pool() -> None:
    own = pool("pool.html")
    before = own.read_bytes()
    assert "would be written over" in complaint("look", "--pool", own, "--out", "pool.html")
    assert own.read_bytes() == before


@pytest.mark.parametrize(
    "arguments",
    ["select --pool p --method random --out", "represent --pool p --out", "overlap --pool p --test p --out",
     "train --selection p --model m --out", "export --selection p --model m --to axolotl --out",
     "evaluate --model m --target p --out", "iterselect --pool p --model m --judge rule:exact-match --out",
     "look --pool p --out", "similarity --pool p --query p --out", "demo --out", "store merge a b --out",
     "report p --published tis --out"],
)  # fmt: skip
@pytest.mark.parametrize("out", ["", "x\udcff"])
def test_no_folder_is_none(arguments: str, out: str, tmp_path: Path) -> None:
    said = complaint(*arguments.split(), out)
    assert "--out is empty" in said if out == "" else "is no UTF-8 text" in said
    assert not [*tmp_path.iterdir()]


@pytest.mark.parametrize("name", ["../x", "a/b", "..", "con", "x" * 101, "a\x1b[1m"])
def test_a_target_s_name_stays_in_the_folder(name: str, tmp_path: Path) -> None:
    for file in ("a", "b", "pool"):
        pool(f"w/{file}.jsonl", first={"a": 100, "b": 200, "pool": 0}[file])
    before = tree(tmp_path)
    os.chdir("w")
    said = complaint("select", "--pool", "pool.jsonl", "--target", f"{name}=a.jsonl", "--target", "b=b.jsonl", *CHOOSE)
    assert "cannot be named so" in said
    study = {
        "name": "s", "out": "o/p/run", "pool": "pool.jsonl", "models": {"m": str(bundled.model_path())}, "budgets": [4],
        "methods": ["random"], "targets": {name: {"query": "a.jsonl", "test": "a.jsonl"}},
    }  # fmt: skip
    Path("s.json").write_text(json.dumps(study))  # JSON is YAML
    assert "cannot be named so" in complaint("study", "s.json", "--dry-run")
    Path("s.json").unlink()
    assert tree(tmp_path) == before


def test_names_that_differ_by_capitals_and_a_study_s_name() -> None:
    pool("a.jsonl")
    study = {
        "name": "../../s", "pool": "a.jsonl", "models": {"m": "m"}, "budgets": [4], "methods": ["random"],
        "targets": {"t": {"query": "a.jsonl", "test": "a.jsonl"}},
    }  # fmt: skip
    Path("s.json").write_text(json.dumps(study))
    assert "name: '../../s' cannot be named so" in complaint("study", "s.json", "--dry-run")
    study |= {"name": "s", "targets": {name: {"query": "a.jsonl", "test": "a.jsonl"} for name in "tT"}}
    Path("s.json").write_text(json.dumps(study))
    assert "differ by capitals alone" in complaint("study", "s.json", "--dry-run")


def test_the_second_of_two_runs_is_told(tmp_path: Path) -> None:
    pool("pool.jsonl")
    with hold_folder(tmp_path / "out"):
        for command in ("select", "represent"):
            given = CHOOSE if command == "select" else ("--method", "embed")
            said = complaint(command, "--pool", "pool.jsonl", *given, "--out", "out")
            assert said == "another run is writing in out; wait for its end, or give another --out"
    assert handpick("select", "--pool", "pool.jsonl", *CHOOSE, "--out", "out").exit_code == 0


def test_a_pool_that_has_changed_since_is_said() -> None:
    pool("pool.jsonl")
    again = ("select", "--pool", "pool.jsonl", *CHOOSE, "--out", "out")
    assert "has changed" not in handpick(*again).stderr
    assert "has changed" not in handpick(*again).stderr
    pool("pool.jsonl", n=9)
    assert "the pool has changed since the selection that out had" in handpick(*again).stderr


@pytest.mark.parametrize(
    ("out", "typed"),
    [
        ("a[/b]", "a[/b]"), ("run[v2]", "run[v2]"), ("[bold]x", "[bold]x"), ("[/]", "[/]"), ("a:smile:b", "a:smile:b"),
        ("x\x1b[31m", "'x\\x1b[31m'"), ("-x", "-x"), ("é漢", "'é漢'"), ("a b", "'a b'"), ("a*", "'a*'"),
    ],
)  # fmt: skip
def test_a_folder_of_any_name(out: str, typed: str) -> None:
    pool("pool.jsonl")
    shown = handpick("select", "--pool", "pool.jsonl", *CHOOSE, f"--out={out}")
    assert shown.exit_code == 0
    assert f"handpick report {typed}\n" in shown.stdout
    assert (Path(out) / "selected.jsonl").exists()


def test_a_pool_whose_name_is_no_utf8_is_refused_first(tmp_path: Path) -> None:
    name = os.fsdecode(b"p\xff.jsonl")
    pool(tmp_path / name)
    said = complaint("select", "--pool", name, *CHOOSE, "--out", "out")
    assert r"'p\udcff.jsonl', which is no UTF-8 text" in said
    assert not Path("out").exists()
    Path("more").mkdir()
    pool(Path("more") / name)
    for source in ("more", "more/*.jsonl"):
        assert r"the name of the file more/p\xff.jsonl is not UTF-8; rename it" in complaint(
            "select", "--pool", source, *CHOOSE, "--out", "out"
        )


SETTINGS = [
    "null: 3", "3: 4", "true: x", f"budget: {'9' * 5000}", f"pool: {'[' * 3000}{']' * 3000}", "pool: &a [*a]",
    "pool: pool.jsonl\npool: x", "\tpool: x", "pool: 2024-01-01", "seed: .nan", "seed: 1e400", "pool: !!binary x",
    "max_share: {a: .inf}", "overlap_threshold: .nan\nexclude_overlap: [x]", "pool: {a: b}", "pool: [[]]", "- pool",
    "x", "pool: \"a\\0b\"", "out: ''\npool: pool.jsonl", "warmup: {lora: {rank: x}}", "warmup: []", "target: 3",
    "target: {a: 3}", "columns: {prompt: [1]}", "template_args: {a: .nan}", "query: [3]", "'': 3", "pool.x: 3",
    "max_length: 9999999999999999999999", "prefilter_share: [.nan]\nprefilter: bm25", "lora_targets: {}", "[/b]: 3",
    "workers: -1", "dtype: [bfloat16]", "method: \"[/b]\"", "method: [x]", "budget: .inf", "budget: nan",
    "budget: 1e9", "layers: '9-1'", f"out: x{'9' * 400}\npool: x", "seeds: 99999999999", "draws: 99999999999",
    "targets: {t: {query: [], test: []}}",
]  # fmt: skip


@pytest.mark.parametrize("text", SETTINGS)
@pytest.mark.parametrize("command", ["run", "study"])
def test_odd_settings_are_one_line(command: str, text: str) -> None:
    Path("c.yaml").write_text(text)
    assert complaint(command, "c.yaml")


TEMPLATES = [
    "{% for i in range(1000000) %}{% endfor %}", "{{ 1/0 }}", "{{ 10.0 ** 1000 }}", "{{ 'x'.encode('utf-99') }}",
    "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", "{{ raise_exception('[/b]\\nno') }}", "{{ messages[99].x.y }}",
    "{{ 'a' * 100000000000 }}", "{% include 'x' %}", "{{ x | nofilter }}", "{% if %}", "{{ {}[messages] }}",
    "{{ messages | tojson(indent=messages) }}", "{{ ''.__class__.__mro__ }}", "{{ '%d' | format('x') }}",
    "{{ messages.pop(0).nothing() }}", "{{ (1).real.to_bytes(0, 'big') }}",
]  # fmt: skip


@pytest.mark.parametrize("template", TEMPLATES)
def test_a_template_may_raise_anything(template: str, tiny_model: Path, tmp_path: Path) -> None:
    model = shutil.copytree(tiny_model, tmp_path / "m")
    (model / "chat_template.jinja").unlink(missing_ok=True)
    config = json.loads((model / "tokenizer_config.json").read_text()) | {"chat_template": template}
    (model / "tokenizer_config.json").write_text(json.dumps(config))
    pool("pool.jsonl"), pool("q.jsonl", 2, first=100)
    said = complaint(
        "select", "--pool", "pool.jsonl", "--query", "q.jsonl", "--model", "m", "--method", "response-length",
        "--algorithm", "mean-max", "--budget", 2, "--out", "out",
    )  # fmt: skip
    assert said


def test_a_fault_of_ours_is_one_line_and_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: Any) -> None:
        raise RuntimeError("line one\nline [/two]")

    pool("pool.jsonl")
    monkeypatch.setattr("handpick.pipeline.run_select", fail)
    shown = handpick("select", "--pool", "pool.jsonl", *CHOOSE, "--out", "out")
    assert shown.exit_code == OUR_FAULT
    (line,) = shown.stderr.splitlines()
    assert line.startswith("handpick: a fault of handpick's own, RuntimeError in ")
    assert "line one line [/two]; please report it" in line
    monkeypatch.setenv("HANDPICK_TRACEBACK", "1")
    assert "Traceback (most recent call last)" in handpick("select", "--pool", "pool.jsonl", *CHOOSE).stderr


def test_a_cell_of_a_report_is_no_formula(tmp_path: Path) -> None:
    import csv

    records = [
        {"id": f"r{i}", "source": "=1+1", "category": "@SUM(1)", "prompt": "p", "completion": f"c{i}"} for i in range(8)
    ]
    write_jsonl(tmp_path / "pool.jsonl", records)
    assert handpick("select", "--pool", "pool.jsonl", *CHOOSE, "--out", "out").exit_code == 0
    assert handpick("report", "out").exit_code == 0
    cells = {cell for file in Path("out/report").glob("*.csv") for row in csv.reader(file.open()) for cell in row}
    assert {"'=1+1", "'@SUM(1)"} <= cells
    assert not {cell for cell in cells if cell[:1] in ("=", "@")}


@pytest.fixture(scope="module")
def finished(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a run with a warmup, its pool and queries beside it."""
    folder = tmp_path_factory.mktemp("finished")
    pool(folder / "pool.jsonl", 24), pool(folder / "q.jsonl", 3, first=100)
    shown = handpick(*less(folder, tiny_model))
    assert shown.exit_code == 0, shown.output
    return folder


def less(folder: Path, model: Path) -> list[object]:
    return [
        "select", "--pool", folder / "pool.jsonl", "--query", folder / "q.jsonl", "--model", model,
        "--method", "less-rr", "--warmup", "small", "--max-length", 64, "--projection-dim", 64, "--dtype", "float32",
        "--budget", 4, "--out", folder / "run",
    ]  # fmt: skip


SOME = {
    "half": lambda text: text[: len(text) // 2],
    "names": lambda text: text.replace('": ', '_": ').replace("pool:", "poll:"),
    "values": lambda text: text.replace(": ", ': [{"a": null}], "x": ', 2),
}
MORE = {
    "empty": lambda text: "", "a list": lambda text: "[]", "null": lambda text: "null",
    "a letter": lambda text: text.replace("e", "é", 3), "nested": lambda text: "[" * 9999,
    "numbers": lambda text: text.replace("0", "x"),
}  # fmt: skip


@pytest.mark.parametrize(
    "how", [*SOME.values(), *(pytest.param(how, marks=pytest.mark.slow) for how in MORE.values())], ids=[*SOME, *MORE]
)
def test_damaged_records_of_a_run_are_one_line(how: Any, finished: Path, tiny_model: Path, tmp_path: Path) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(finished, folder)
    run = folder / "run"
    again = less(folder, tiny_model)
    from_store = [
        "select",
        "--store",
        run / "features/pool",
        "--query",
        folder / "q.jsonl",
        "--budget",
        2,
        "--out",
        "r2",
    ]
    checkpoint = next(path for path in (run / "warmup").iterdir() if path.is_dir())
    tried: list[tuple[Path, list[object]]] = [
        (RunLayout(run).warmup_record, again), (CheckpointLayout(checkpoint).record, again),
        (run / "features/pool/represent.yaml", from_store), (run / "features/pool/manifest.json", from_store),
        (RunLayout(run).selection, ["report", run]), (RunLayout(run).cost, ["report", run]),
        (RunLayout(run).distances, ["report", run]), (RunLayout(run).selection, ["diff", run, run]),
        (RunLayout(run).settings, ["run", RunLayout(run).settings]),
    ]  # fmt: skip
    for path, command in tried:
        if not path.exists():
            continue
        whole = path.read_bytes()
        path.write_text(how(whole.decode()))
        shown = handpick(*command)
        assert shown.exit_code in (0, 2), (path.name, shown.output[-600:])
        if shown.exit_code == 2:
            assert shown.stderr.splitlines()[-1].startswith("handpick: "), path
        path.write_bytes(whole)
