"""The recipes of CONTRIBUTING.md: their code works where they say it goes, and what they name is there."""

import ast
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import pytest

import handpick
from tests.conftest import write_jsonl

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")


class Block(NamedTuple):
    """A block of code: its file, how it gets there, the name that says where in the file, and the code."""

    file: str
    how: str
    name: str
    code: str


def blocks() -> Iterator[Block]:
    for block in re.findall(r"^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL):
        head, _, code = block.partition("\n")
        found = re.fullmatch(r"# (\S+?\.py)(?:, (in|above|in place of|at the end of|among) (\w+)(?: imports)?)?", head)
        assert found, f"the first line says no file: {head}"
        yield Block(found[1], found[2] or "new", found[3] or "", code)


def definition(tree: ast.AST, name: str) -> ast.stmt:
    """The statement of a body that defines a name: a class, a function, or a value that is given to it."""
    for node in getattr(tree, "body", []):
        if isinstance(node, ast.ClassDef | ast.FunctionDef) and node.name == name:
            return node
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        if any(isinstance(target, ast.Name) and target.id == name for target in targets):
            return node
    raise AssertionError(f"there is no {name}")


def put(folder: Path, block: Block) -> None:
    """Do with a block what its first line says."""
    path = folder / block.file
    if block.how == "new":
        assert not path.exists(), f"{block.file} is there already"
        path.write_text(block.code, encoding="utf-8")
        return
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    tree = ast.parse("".join(lines))
    if block.how == "among":  # in the order of the alphabet, as ruff wants them
        own = [node.lineno - 1 for node in tree.body if lines[node.lineno - 1].startswith("from handpick.")]
        lines.insert(next(place for place in own if lines[place] > block.code), block.code)
        path.write_text("".join(lines), encoding="utf-8")
        return
    found = definition(tree, block.name)
    assert found.end_lineno is not None
    first, last = found.lineno - 1, found.end_lineno
    if block.how == "in place of":
        lines[first:last] = [block.code]
    elif block.how == "above":
        lines.insert(first, f"{block.code}\n\n")
    elif block.how == "at the end of":  # before what it returns where nothing else holds
        assert isinstance(found, ast.FunctionDef)
        lines.insert(found.body[-1].lineno - 1, block.code)
    else:  # a table ends with its bracket, a class with its last line
        lines.insert(last if isinstance(found, ast.ClassDef) else last - 1, block.code)
    path.write_text("".join(lines), encoding="utf-8")


@pytest.fixture(scope="module")
def extended(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the package with all that the recipes add."""
    folder = tmp_path_factory.mktemp("extended")
    shutil.copytree(
        ROOT / "src", folder / "src", ignore=lambda _, names: {"__pycache__", "bundled"} & set(names)
    )  # fmt: skip
    (folder / "src" / "handpick" / "bundled").symlink_to(ROOT / "src" / "handpick" / "bundled")
    for block in blocks():
        put(folder, block)
    return folder


RUN_ALL = """
import json, sys
import numpy as np
import handpick
from handpick import bundled
from handpick.choices import ObjectiveName
from handpick.cli import app
from handpick.settings import parse_settings
from handpick.planning import plan_select
from typer.testing import CliRunner

found = {}
given = {"pool": "pool.jsonl", "query": "query.jsonl", "budget": 3}
for name in ("letters", "turns"):
    own = given | {"representation": name, "algorithm": "doubly-greedy"}
    selection = handpick.select(**own, out=f"out-{name}")
    plan = plan_select(parse_settings({**own, "out": "planned"}), 0.01)
    found[name] = [selection.ids, selection.scores, len(plan.stages)]
similarity_QN = np.load("similarity.npy")
found["median"] = handpick.rank(similarity_QN, budget=4, algorithm="median").tolist()
found["format"] = handpick.select(**given | {"pool": "questions.jsonl"}, method="bm25", out="out-format").ids

shown = CliRunner().invoke(app, ["select", "--help-all"], env={"COLUMNS": "200"})
found["flag"] = "--turns-most" in shown.stdout
arguments = (
    "--pool pool.jsonl --budget 3 --representation turns --algorithm doubly-greedy --turns-most 2 --out out-flag"
)
ran = CliRunner().invoke(app, ["select", *arguments.split()])
assert ran.exit_code == 0, ran.output
found["flag used"] = handpick.Selection.open("out-flag").scores
ran = CliRunner().invoke(app, ["select", *arguments.replace("--turns-most 2", "--turns-most 0").split()])
found["flag refused"] = [ran.exit_code, ran.stderr]
found["unread"] = parse_settings(given | {"method": "bm25", "turns_most": 2}).unused_settings
found["page"] = CliRunner().invoke(app, ["methods", "--markdown"]).stdout

model = str(bundled.model_path())
evaluated = handpick.evaluate(
    model, "query.jsonl", metrics=["brevity", "my_metrics.py:brevity"], limit=2, max_new_tokens=4, max_length=128,
    out="measured",
)["query"]
found["metrics"] = {name: metric.value for name, metric in evaluated.metrics.items()}
of_gradients = given | {
    "model": model, "method": "gradient-rr", "warmup": "none", "projection_dim": 64, "max_length": 128,
    "dtype": "float32", "out": "out-gradient",
}
found["next-token"] = handpick.select(**of_gradients).ids
found["summed"] = handpick.select(**of_gradients, objective="summed").ids
json.dump(found, open("found.json", "w"))
"""


@pytest.fixture(scope="module")
def found(extended: Path, pool_records: list[dict[str, Any]], query_records: list[dict[str, Any]]) -> dict[str, Any]:
    """What one process finds that imports the copy."""
    import numpy as np

    write_jsonl(extended / "pool.jsonl", pool_records[:10])
    write_jsonl(extended / "query.jsonl", query_records[:2])
    questions = [{"id": f"n{i}", "text": f"What is {i}?", "code": "A number."} for i in range(4)]
    write_jsonl(extended / "questions.jsonl", questions)
    np.save(extended / "similarity.npy", similarity_QN())
    environment = os.environ | {"PYTHONPATH": str(extended / "src")}
    command = [sys.executable, "-c", RUN_ALL]
    done = subprocess.run(
        command, cwd=extended, env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    return json.loads((extended / "found.json").read_text())  # type: ignore[no-any-return]


def similarity_QN() -> Any:
    import numpy as np

    return np.random.default_rng(0).standard_normal((3, 12)).astype(np.float32)


def test_representations(found: dict[str, Any], extended: Path) -> None:
    ids, scores, n_stages = found["letters"]
    assert len(set(ids)) == 3
    assert all(0 < score <= 1 + 1e-6 for score in scores)
    assert n_stages == 4  # reading, queries, pool, choice
    store = handpick.FeatureStore.open(extended / "out-letters" / "features" / "pool-letters")
    assert (len(store), store.dim) == (10, 26)

    records = [json.loads(line) for line in (extended / "pool.jsonl").read_text().splitlines()]
    turns = {record["id"]: len(record["messages"]) for record in records}
    ids, scores, n_stages = found["turns"]
    assert scores == [turns[example_id] for example_id in ids] == sorted(turns.values(), reverse=True)[:3]
    assert n_stages == 2


def test_an_algorithm(found: dict[str, Any]) -> None:
    import numpy as np

    assert found["median"] == np.argsort(-np.median(similarity_QN(), axis=0))[:4].tolist()


def test_a_format(found: dict[str, Any]) -> None:
    assert len(set(found["format"])) == 3
    assert set(found["format"]) <= {"n0", "n1", "n2", "n3"}


def test_a_flag(found: dict[str, Any]) -> None:
    assert found["flag"]
    assert found["flag used"] == [2, 2, 2]
    assert found["flag refused"][0] == 2
    assert "--turns-most should be greater than or equal to 1, not '0'" in found["flag refused"][1]
    assert found["unread"] == ["turns_most"]


def test_a_metric(found: dict[str, Any]) -> None:
    assert found["metrics"]["brevity"] == found["metrics"]["my_metrics.py:brevity"]
    assert 0 < found["metrics"]["brevity"] <= 1


def test_an_objective(found: dict[str, Any], extended: Path) -> None:
    """A factor leaves the cosine as it is, so the choice is the same; the queries' features are others."""
    assert found["summed"] == found["next-token"]
    assert len(list((extended / "out-gradient" / "features").glob("query-*"))) == 2


def test_the_tables_show_what_was_added(found: dict[str, Any]) -> None:
    for name in ("letters", "turns", "median", "brevity", "summed"):
        assert f"\n| {name}" in found["page"]


@cache
def parsed(file: str) -> ast.Module:
    return ast.parse((ROOT / file).read_text(encoding="utf-8"))


@pytest.mark.parametrize("place", sorted(set(re.findall(r"`([\w/.]+\.py:[\w.]+)`", PAGE))))
def test_what_is_named_is_there(place: str) -> None:
    file, _, name = place.partition(":")
    if not file.startswith(("src/", "tests/")):
        assert file in {block.file for block in blocks()}
        return
    found: ast.AST = parsed(file)
    for part in name.split("."):
        found = definition(found, part)


def test_every_file_that_is_named_is_there() -> None:
    named = set(re.findall(r"`((?:src|tests|docs|benchmarks)/[\w/.+-]*)`", PAGE))
    added = {block.file for block in blocks() if block.how == "new"}
    assert not [path for path in named - added if not (ROOT / path).exists()]


QUESTIONS = ["representation", "record format", "selection algorithm", "metric", "objective", "flag"]
CHANGES = ["a checkpoint's weight", "round-robin's tie rule", "where a store lies", "the default projection"]


def test_ten_questions_have_one_answer_each() -> None:
    for thing in QUESTIONS:
        assert len(re.findall(rf"^### Add an? {thing}$", PAGE, re.MULTILINE)) == 1
    for thing in CHANGES:
        assert PAGE.count(f"\n| {thing} | `src/handpick/") == 1
