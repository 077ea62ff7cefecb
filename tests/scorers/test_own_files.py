"""Representations that somebody else computed: vectors and scores in files, rewards and grades of a record's answer."""

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import typer

import handpick
from handpick.cli.app import SELECT_FLAGS, app
from handpick.errors import DataError, HandpickError, JudgeError, SettingsError
from handpick.pipeline import run_represent, run_select, run_similarity
from handpick.planning import plan_represent, plan_select
from handpick.reporting.nearest import NearestSimilarities, nearest_similarities
from handpick.reporting.run_folder import open_run
from handpick.reporting.selection import write_selection_report
from handpick.representations import SCORERS
from handpick.rewards import check_record, find_reward
from handpick.settings import parse_settings
from tests.conftest import write_jsonl
from tests.judge.server import KEY, KEY_ENV, Response, Server, running, says

Given = dict[str, Any]

N_POOL, N_QUERY, DIM = 24, 3, 5


@pytest.fixture
def records() -> list[dict[str, Any]]:
    """Records whose answers get longer, from one word on; the last is a prompt alone."""
    answered = [
        {"id": f"r{i:02}", "prompt": f"Write the word {i} times.", "completion": " ".join(["word"] * (i + 1))}
        for i in range(N_POOL - 1)
    ]
    return [*answered, {"id": f"r{N_POOL - 1}", "prompt": "Say nothing."}]


@pytest.fixture
def given(records: list[dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Given:
    """A pool, queries and a folder of their own, in which relative names are."""
    monkeypatch.chdir(tmp_path)
    write_jsonl(tmp_path / "pool.jsonl", records)
    queries = [{"id": f"q{i}", "prompt": f"Question {i}?", "completion": "word"} for i in range(N_QUERY)]
    write_jsonl(tmp_path / "query.jsonl", queries)
    return {"pool": "pool.jsonl", "budget": 6, "out": "out", "shard_rows": 7}


@pytest.fixture
def vectors() -> dict[str, np.ndarray]:
    """A vector by the id of every record and query, and of one that is in neither."""
    rng = np.random.default_rng(0)
    ids = [*(f"r{i:02}" for i in range(N_POOL)), *(f"q{i}" for i in range(N_QUERY)), "elsewhere"]
    return {example_id: rng.standard_normal(DIM).astype(np.float32) for example_id in rng.permutation(ids)}


def write_npy(path: Path, rows: dict[str, Any]) -> Path:
    np.save(path, np.stack([np.asarray(row) for row in rows.values()]))
    path.with_suffix(".ids").write_text("".join(f"{example_id}\n" for example_id in rows))
    return path


def write_parquet(path: Path, column: str, rows: dict[str, Any]) -> Path:
    values = [row.tolist() if isinstance(row, np.ndarray) else row for row in rows.values()]
    pq.write_table(pa.table({"id": list(rows), column: values}), path)
    return path


def check_plan_and_report(given: Given, selection: handpick.Selection) -> NearestSimilarities | str:
    """A plan and a report can be made of a run; what the report says of nearness is returned."""
    assert plan_select(parse_settings(given | {"out": "planned"}), 0.05).stages
    assert not Path("planned", "selection.json").exists()
    page = write_selection_report(Path(given["out"])).read_text(encoding="utf-8")
    assert selection.ids[0] in page
    return nearest_similarities(open_run(Path(given["out"])))


def reasons(folder: str = "out", name: str = "quarantine.jsonl") -> dict[str, str]:
    """Why records were set aside, by id."""
    lines = Path(folder, name).read_text(encoding="utf-8").splitlines()
    return {line["id"]: line["reason"] for line in map(json.loads, lines)}


def test_vectors_are_compared_by_their_cosine_whatever_file_they_are_in(
    given: Given, vectors: dict[str, np.ndarray]
) -> None:
    write_npy(Path("v.npy"), vectors)
    write_parquet(Path("v.parquet"), "vector", vectors)
    fixed = pa.array([row.tolist() for row in vectors.values()], type=pa.list_(pa.float32(), DIM))
    pq.write_table(pa.table({"id": list(vectors), "vector": fixed}), "fixed.parquet")

    given |= {"query": "query.jsonl", "algorithm": "doubly-greedy"}
    chosen = {}
    for file in ("v.npy", "v.parquet", "fixed.parquet"):
        own = given | {"representation": f"vectors:{file}", "out": f"out-{file}"}
        chosen[file] = handpick.select(**own)
        nearest = check_plan_and_report(own, chosen[file])
        assert isinstance(nearest, NearestSimilarities)
        assert nearest.candidates == N_POOL - 1
        assert reasons(own["out"]) == {"r23": "no response to learn from"}

    unit = {example_id: row.astype(np.float64) / np.linalg.norm(row) for example_id, row in vectors.items()}
    want = {f"r{i:02}": max(float(unit[f"q{q}"] @ unit[f"r{i:02}"]) for q in range(N_QUERY)) for i in range(N_POOL - 1)}
    order = sorted(want, key=lambda example_id: -want[example_id])[:6]
    for selection in chosen.values():
        assert selection.ids == order
        assert selection.scores == pytest.approx([want[example_id] for example_id in order], abs=1e-6)


def test_a_store_of_vectors_is_started_from_in_another_folder(
    given: Given, vectors: dict[str, np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The store kept the file's relative name, which another folder does not know."""
    write_npy(Path("v.npy"), vectors)
    store = run_represent(parse_settings({**given, "representation": "vectors:v.npy"}))
    assert (len(store), store.dim) == (N_POOL - 1, DIM)
    assert plan_represent(parse_settings({**given, "representation": "vectors:v.npy"}), 0.05).stages
    here = Path.cwd()
    Path("elsewhere").mkdir()
    monkeypatch.chdir("elsewhere")
    query = str(here / "query.jsonl")
    values = {"store": str(here / store.path), "query": query, "budget": 4, "out": "out"}
    first = handpick.select(**values)
    again = handpick.select(**values, representation="vectors:../v.npy")
    assert first.ids == again.ids


def test_records_and_queries_without_a_vector_are_set_aside(given: Given, vectors: dict[str, np.ndarray]) -> None:
    for example_id in ("r03", "r11", "q1"):
        del vectors[example_id]
    write_npy(Path("v.npy"), vectors)
    selection = handpick.select(**given, query="query.jsonl", representation="vectors:v.npy")
    assert reasons() == {
        "r03": "no vector: v.npy has none of the id 'r03'",
        "r11": "no vector: v.npy has none of the id 'r11'",
        "r23": "no response to learn from",
    }
    assert reasons(name="quarantine-query.jsonl") == {"q1": "no vector: v.npy has none of the id 'q1'"}
    assert set(selection.picked_for) == {"q0", "q2"}
    with pytest.raises(
        DataError, match=r"more bad records than the limit of 2: 3 records set aside \(2 no vector, 1 no response"
    ):
        handpick.select(**{**given, "out": "limited"}, query="query.jsonl", representation="vectors:v.npy",
                        max_quarantined=2)  # fmt: skip


@pytest.mark.parametrize("value", [np.nan, -np.inf])
def test_vectors_that_are_not_finite_are_set_aside_and_such_a_query_is_refused(
    value: float, given: Given, vectors: dict[str, np.ndarray]
) -> None:
    for example_id in ("r03", "r11", "q1"):
        vectors[example_id][2] = value
    write_npy(Path("v.npy"), vectors)
    asked = given | {"representation": "vectors:v.npy", "query": "query.jsonl", "budget": "100%"}
    with pytest.raises(DataError, match="the query 'q1' has a vectors row that is not finite, and no choice would be"):
        handpick.select(**asked)
    write_jsonl(Path("query.jsonl"), [{"id": f"q{i}", "prompt": "Why?", "completion": "word"} for i in (0, 2)])
    selection = handpick.select(**asked | {"out": "again"})
    check_plan_and_report(asked | {"out": "again"}, selection)
    not_finite = dict.fromkeys(("r03", "r11"), "vectors row not finite")
    assert reasons("again") == not_finite | {"r23": "no response to learn from"}
    kept = [record for record in read_pool() if record["id"] not in not_finite]
    write_jsonl(Path("kept.jsonl"), kept)
    without = handpick.select(**asked | {"out": "without", "pool": "kept.jsonl"})
    assert (selection.ids, selection.scores) == (without.ids, without.scores)


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e300])
def test_scores_that_are_not_finite_are_set_aside(value: float, given: Given) -> None:
    scores = {f"r{i:02}": float(-i) for i in range(N_POOL)} | {"r02": value}
    write_parquet(Path("s.parquet"), "score", scores)
    asked = given | {"representation": "scores:s.parquet", "algorithm": "doubly-greedy"}
    selection = handpick.select(**asked)
    assert selection.ids == ["r00", "r01", "r03", "r04", "r05", "r06"]
    assert reasons() == {"r02": "its score in s.parquet is not finite", "r23": "no response to learn from"}
    found = check_plan_and_report(asked, selection)
    assert isinstance(found, NearestSimilarities)
    assert np.isfinite(found.chosen).all()


def read_pool() -> list[dict[str, Any]]:
    return [json.loads(line) for line in Path("pool.jsonl").read_text(encoding="utf-8").splitlines()]


@pytest.mark.slow
def test_several_workers_write_the_bytes_of_one_process(given: Given, vectors: dict[str, np.ndarray]) -> None:
    write_npy(Path("v.npy"), vectors)
    found = []
    for workers in (None, 2):
        values = {**given, "out": f"out-{workers}", "representation": "vectors:v.npy", "workers": workers}
        store = run_represent(parse_settings(values))
        shards = [path for path in sorted(store.path.rglob("*")) if path.is_file()]
        found.append({path.relative_to(store.path): path.read_bytes() for path in shards})
    assert len(found[0]) > N_POOL // 7
    assert found[0] == found[1]


def test_scores_choose_the_largest_first_and_what_has_none_is_set_aside(given: Given) -> None:
    rng = np.random.default_rng(1)
    scores = {f"r{i:02}": float(score) for i, score in enumerate(rng.permutation(N_POOL)) if i != 5}
    scores["elsewhere"] = 1000.0
    write_parquet(Path("s.parquet"), "score", scores)
    write_npy(Path("s.npy"), scores)
    want = sorted((i for i in scores if i not in ("elsewhere", "r23")), key=lambda i: -scores[i])
    for file in ("s.parquet", "s.npy"):
        own = given | {"representation": f"scores:{file}", "algorithm": "doubly-greedy", "out": f"out-{file}"}
        selection = handpick.select(**own)
        assert selection.ids == want[:6]
        assert selection.scores == [scores[i] for i in want[:6]]
        assert set(selection.picked_for) == {None}
        assert reasons(own["out"]) == {
            "r05": f"no score: {file} has none of the id 'r05'", "r23": "no response to learn from"
        }  # fmt: skip
        nearest = check_plan_and_report(own, selection)
        assert isinstance(nearest, NearestSimilarities)
        assert nearest.what == f"score in {file}"
        assert nearest.pool.max() < 1000  # of another pool's record, whose score is in the file too
        assert nearest.chosen.tolist() == selection.scores
        Path(file).write_bytes(b"changed")
        assert "has changed" in str(nearest_similarities(open_run(Path(own["out"]))))
        Path(file).unlink()
        assert "not there any more" in str(nearest_similarities(open_run(Path(own["out"]))))


def test_a_whole_pool_of_scores_is_a_similarity(given: Given) -> None:
    write_npy(Path("s.npy"), {f"r{i:02}": float(i) for i in range(N_POOL)})
    folder = run_similarity(parse_settings({**given, "representation": "scores:s.npy", "algorithm": "doubly-greedy"}))
    assert np.load(folder / "similarity.npy").tolist() == [[float(i) for i in range(N_POOL - 1)]]


def _npy(array: Any, ids: str) -> Callable[[], str]:
    def write() -> str:
        np.save("bad.npy", array)
        Path("bad.ids").write_text(ids)
        return "bad.npy"

    return write


def _parquet(**columns: Any) -> Callable[[], str]:
    def write() -> str:
        pq.write_table(pa.table(columns), "bad.parquet")
        return "bad.parquet"

    return write


def _bytes(name: str, content: bytes, ids: bytes | None = None) -> Callable[[], str]:
    def write() -> str:
        Path(name).write_bytes(content)
        if ids is not None:
            Path(name).with_suffix(".ids").write_bytes(ids)
        return name

    return write


FLOATS = np.zeros((2, 3), dtype=np.float32)

REFUSED: dict[str, tuple[str, Callable[[], str], str]] = {
    "no file": ("vectors", lambda: "none.parquet", "there is no file none.parquet; give Parquet with the columns"),
    "no scores": ("scores", lambda: "none.npy", "there is no file none.npy; give Parquet with the columns"),
    "no ids": ("vectors", _bytes("bad.npy", b""), "there is no file bad.ids"),
    "no NumPy": ("vectors", _bytes("bad.npy", b"a,b\n", b"a\n"), "bad.npy cannot be read as NumPy writes arrays"),
    "pickled": ("scores", _npy(np.array([{}, {}], dtype=object), "a\nb\n"), "cannot be read as NumPy writes arrays"),
    "no Parquet": ("scores", _bytes("bad.csv", b"id,score\n"), "bad.csv cannot be read as Parquet"),
    "no column": ("vectors", _parquet(id=["a"], embedding=[[1.0]]), "bad.parquet has no column 'vector'"),
    "no id": ("scores", _parquet(score=[1.0]), "bad.parquet has no column 'id'"),
    "no number": ("scores", _parquet(id=["a", "b"], score=[np.inf, np.nan]), "none of 2 rows is finite in float32"),
    "no vector": ("vectors", _npy(np.array([[0, np.nan], [np.inf, 0]]), "a\nb\n"), "none of 2 rows is finite"),
    "beyond float32": ("scores", _npy(np.array([-1e300, 1e300]), "a\nb\n"), "none of 2 rows is finite in float32"),
    "nothing": ("scores", _parquet(id=["a", "b"], score=[1.0, None]), "1 rows have no score; fill them in"),
    "twice": ("vectors", _npy(FLOATS, "a\na\n"), "bad.npy has the id 'a' twice"),
    "twice in Parquet": ("scores", _parquet(id=["a", "a"], score=[1.0, 2.0]), "bad.parquet has the id 'a' twice"),
    "too few ids": ("vectors", _npy(FLOATS, "a\n"), "bad.npy has 2 rows and 1 ids"),
    "ids in Latin-1": ("vectors", _bytes("bad.npy", b"", b"\xe4\n"), "bad.npy cannot be read|bad.ids is no UTF-8"),
    "vectors as scores": ("scores", _npy(FLOATS, "a\nb\n"), r"float32 of shape \(2, 3\): expected a number a record"),
    "scores as vectors": ("vectors", _npy(FLOATS[:, 0], "a\nb\n"), r"of shape \(2,\): expected a vector a record"),
    "scores as vectors, Parquet": ("vectors", _parquet(id=["a"], vector=[1.0]), "holds double: expected a vector"),
    "vectors as scores, Parquet": ("scores", _parquet(id=["a"], score=[[1.0]]), "expected a number a record"),
    "texts": ("scores", _parquet(id=["a"], score=["x"]), "expected a number a record, as floats"),
    "whole numbers": ("scores", _parquet(id=["a"], score=[1]), "bad.parquet holds int64 of shape .* as floats"),
    "several lengths": ("vectors", _parquet(id=["a", "b"], vector=[[1.0], [1.0, 2.0]]), "the vectors have 1 to 2"),
    "no row": ("vectors", _parquet(id=pa.array([], pa.string()), vector=pa.array([], pa.list_(pa.float32()))),
               r"of shape \(0, 0\): expected a vector a record"),
    "no width": ("vectors", _npy(FLOATS[:, :0], "a\nb\n"), r"of shape \(2, 0\): expected a vector a record"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_a_file_that_is_none_is_refused_by_run_and_plan_before_any_work(name: str, given: Given) -> None:
    kind, write, sentence = REFUSED[name]
    values = given | {"representation": f"{kind}:{write()}", "algorithm": "doubly-greedy", "query": "query.jsonl"}
    said = []
    for act in (run_select, lambda settings: plan_select(settings, 0.05)):
        with pytest.raises(HandpickError, match=sentence) as refused:
            act(parse_settings(values))
        said.append(str(refused.value))
    assert said[0] == said[1]
    assert "\n" not in said[0]
    assert not Path("out", "features", "pool-vectors").exists()


def test_ids_may_hold_what_other_readers_end_lines_at(given: Given, records: list[dict[str, Any]]) -> None:
    """``str.splitlines`` ended an id at a line separator, and the ids no longer fitted the rows."""
    records[0]["id"] = "one\u2028two\x0bthree"
    write_jsonl(Path("pool.jsonl"), records)
    write_npy(Path("s.npy"), {record["id"]: float(-i) for i, record in enumerate(records)})
    selection = handpick.select(**given, representation="scores:s.npy", algorithm="doubly-greedy")
    assert selection.ids[0] == records[0]["id"]


@pytest.mark.parametrize("name", ["vectors", "scores", "reward", "judge"])
def test_what_stands_behind_the_colon_is_needed(name: str) -> None:
    with pytest.raises(SettingsError, match=f"write {name}:{SCORERS[name].argument}"):
        parse_settings({"representation": name, "algorithm": "doubly-greedy"})


PAGE = (Path(__file__).parents[2] / "docs" / "representations.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "command", re.findall(r"^handpick select (--pool .*)$", PAGE.replace("\\\n", ""), re.MULTILINE)
)
def test_the_commands_of_the_page_are_understood(command: str) -> None:
    select = typer.main.get_command(app).commands["select"]  # type: ignore[attr-defined]
    given = SELECT_FLAGS.gather(
        select.make_context("select", command.replace(" URL ", " http://127.0.0.1:1/v1 ").split()).params
    )
    settings = parse_settings(given, where="--")
    assert settings.used_representation.partition(":")[0] in ("vectors", "scores", "reward", "judge")
    assert not settings.unused_settings


SHORTNESS = '''
def shortness(prompts, completions, records):
    """The fewer characters, the better."""
    assert all(prompt[-1]["role"] == "user" for prompt in prompts)
    return [-len(completion) for completion in completions]


def one_too_few(prompts, completions, records):
    return [0.0] * (len(completions) - 1)
'''


def test_a_function_of_ones_own_scores_every_records_answer(given: Given, records: list[dict[str, Any]]) -> None:
    Path("my_rewards.py").write_text(SHORTNESS)
    records[4] = {"id": "r04", "messages": [{"role": "assistant", "content": "Hello."}]}
    write_jsonl(Path("pool.jsonl"), records)
    given |= {"representation": "reward:my_rewards.py:shortness", "algorithm": "doubly-greedy"}
    selection = handpick.select(**given)
    assert selection.ids == ["r00", "r01", "r02", "r03", "r05", "r06"]
    assert selection.scores == [-4, -9, -14, -19, -29, -34]
    assert reasons() == {
        "r04": "no prompt: the record begins with its answer", "r23": "no response to learn from"
    }  # fmt: skip
    nearest = check_plan_and_report(given, selection)
    assert isinstance(nearest, NearestSimilarities)
    assert nearest.candidates == N_POOL - 2
    assert nearest.chosen.tolist() == selection.scores

    Path("my_rewards.py").write_text(SHORTNESS.replace("-len", "len"))
    with pytest.raises(HandpickError, match="file"):  # the scores in the folder are another function's
        handpick.select(**given)
    with pytest.raises(SettingsError, match=r"one_too_few returned \d+ scores for \d+ completions"):
        handpick.select(**given | {"representation": "reward:my_rewards.py:one_too_few", "out": "few"})


def test_a_reward_of_handpicks_own_compares_with_the_records_references(
    given: Given, records: list[dict[str, Any]]
) -> None:
    for i, record in enumerate(records):
        record["answers"] = ["word word word word"] if i != 2 else ["nothing"]
    write_jsonl(Path("pool.jsonl"), records)
    given |= {"representation": "reward:squad-f1", "algorithm": "doubly-greedy", "budget": 3}
    selection = handpick.select(**given)
    assert selection.ids == ["r03", "r04", "r05"]
    assert selection.scores == pytest.approx([1, 8 / 9, 0.8])
    assert isinstance(check_plan_and_report(given, selection), NearestSimilarities)


def test_records_that_a_reward_cannot_score_are_set_aside(given: Given, records: list[dict[str, Any]]) -> None:
    """The first record without a number in its reference stopped the whole run."""
    for i, record in enumerate(records):
        record["answers"] = ["none"] if i in (2, 7) else [f"It is {i}."]
    records[4]["completion"] = "It is 4."
    write_jsonl(Path("pool.jsonl"), records)
    given |= {"representation": "reward:exact-match:last-number", "algorithm": "doubly-greedy", "budget": 3}
    selection = handpick.select(**given)
    assert selection.ids[0] == "r04"
    assert selection.scores == [1, 0, 0]
    found = reasons()
    assert set(found) == {"r02", "r07", "r23"}
    assert found["r02"].startswith("no reference answer: exact-match:last-number finds none in 'none'")
    assert isinstance(check_plan_and_report(given, selection), NearestSimilarities)


@pytest.mark.parametrize(
    ("name", "record", "reason"),
    [
        ("choice", {"answers": ["perhaps"]}, "is no choice"),
        ("choice", {"choices": "red"}, "no list of texts"),
        ("choice", {"completion": None}, "no reference answer"),
        ("rouge-l", {"answers": [["a"]]}, "no reference answer"),
        ("squad-em", {"answers": [["a"]]}, "no reference answer"),
        ("ifeval", {}, "no instructions to check"),
        ("ifeval", {"instruction_id_list": ["a:b"], "kwargs": [{}]}, "no such instruction"),
        ("ifeval", {"instruction_id_list": ["keywords:existence"], "kwargs": [{}]}, "cannot be checked"),
        ("unit-tests", {}, "no unit tests"),
        ("unit-tests", {"tests": ["("]}, "no Python"),
    ],
)
def test_every_reward_says_what_it_cannot_score(name: str, record: dict[str, Any], reason: str) -> None:
    reward = find_reward(name, allow_code_execution=True)
    with pytest.raises(DataError, match=reason) as refused:
        check_record(reward, {"id": "r77", "prompt": "?", "completion": "x"} | record)
    kind, _, rest = str(refused.value).partition(":")
    assert re.search(reason, kind)
    assert ("r77" in kind, "r77" in rest) == (False, True), "what differs by record would be a kind for each"
    fine = {"answers": ["B"], "instruction_id_list": ["punctuation:no_comma"], "kwargs": [{}], "tests": ["assert 1"]}
    check_record(reward, {"prompt": "?", "completion": "x"} | fine)


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("reward:squad-f2", "no reward 'squad-f2'"),
        ("reward:none.py:f", "the file none.py of the reward does not exist"),
        ("reward:judge:m", "write --representation judge:m"),
        ("reward:unit-tests", "allow.code.execution"),
    ],
)
def test_a_reward_that_is_none_is_refused_by_run_and_plan(name: str, sentence: str, given: Given) -> None:
    settings = parse_settings(given | {"representation": name, "algorithm": "doubly-greedy"})
    for act in (run_select, lambda settings: plan_select(settings, 0.05)):
        with pytest.raises(SettingsError, match=sentence):
            act(settings)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv(KEY_ENV, KEY)
    with running() as server:
        yield server


@pytest.fixture
def judged(given: Given, server: Server) -> Given:
    return given | {
        "representation": "judge:m", "algorithm": "doubly-greedy", "judge_url": server.url, "judge_key_env": KEY_ENV,
        "judge_prompt": "prompt.txt",
    }  # fmt: skip


def grade(prompt: str, before: int) -> Response:
    """A judge that likes few words, up to ten, and does not judge the record of four."""
    words = prompt.count("word") - 1  # one stands in the question
    return says("I cannot say." if words == 4 else json.dumps({"score": max(1, 11 - words)}))


def test_grades_of_a_judge_order_the_pool_and_nothing_is_asked_twice(judged: Given, server: Server) -> None:
    Path("prompt.txt").write_text("{prompt}\n{answer}\nGrade from {low} to {high}.")
    server.respond = grade
    selection = handpick.select(**judged)
    assert selection.ids == ["r00", "r01", "r02", "r04", "r05", "r06"]
    assert selection.scores == pytest.approx([(9 - i) / 9 for i in (0, 1, 2, 4, 5, 6)])
    assert reasons() == {"r03": "the judge m gave no grade", "r23": "no response to learn from"}
    assert len(server.asked) == N_POOL - 1 + 1  # what was not understood is asked again, with a reminder
    assert set(server.prompts.values()) == {1}

    again = handpick.select(**judged | {"budget": 8})
    assert again.ids[:6] == selection.ids
    assert len(server.asked) == N_POOL
    assert check_plan_and_report(judged, again) == "the scores by judge:m are not kept"
    assert len(server.asked) == N_POOL  # neither asks


def test_a_judge_is_not_asked_for_what_has_no_prompt(
    judged: Given, server: Server, records: list[dict[str, Any]]
) -> None:
    """It was said that the judge gave no grade."""
    Path("prompt.txt").write_text("{prompt}\n{answer}\nGrade from {low} to {high}.")
    server.respond = lambda prompt, before: says('{"score": 5}')
    records[4] = {"id": "r04", "messages": [{"role": "assistant", "content": "Hello."}]}
    write_jsonl(Path("pool.jsonl"), records)
    handpick.select(**judged)
    assert reasons()["r04"] == "no prompt: the record begins with its answer"
    assert len(server.asked) == N_POOL - 2


def test_a_judge_without_any_grade_is_one_error(judged: Given, server: Server) -> None:
    """It was said that no record has a response."""
    server.respond = lambda prompt, before: says("7/10")
    Path("prompt.txt").write_text("{prompt} {answer} {low} {high}")
    short = write_jsonl(Path("short.jsonl"), [{"id": f"r{i}", "prompt": "Hm?", "completion": "Yes."} for i in range(3)])
    with pytest.raises(
        JudgeError, match=r"^the judge m gave no score to 3 of 3 completions, so there is nothing to ch"
    ):
        handpick.select(**judged | {"pool": str(short), "budget": 2})


def test_a_judge_that_reaches_its_cap_goes_on_where_it_stopped(judged: Given, server: Server) -> None:
    Path("prompt.txt").write_text("{prompt}\n{answer}\nGrade from {low} to {high}.")
    server.respond = lambda prompt, before: says('{"score": 5}')
    with pytest.raises(JudgeError, match="calls"):
        handpick.select(**judged, max_judge_calls=5)
    assert len(server.asked) == 5
    assert len(handpick.select(**judged)) == 6
    assert len(server.asked) == N_POOL - 1


def test_a_judge_that_cannot_be_asked_is_refused_by_run_and_plan(judged: Given) -> None:
    Path("prompt.txt").write_text("{prompt}")
    for act in (run_select, lambda settings: plan_select(settings, 0.05)):
        with pytest.raises(SettingsError, match=r"lacks \{answer\}"):
            act(parse_settings(judged))
    Path("prompt.txt").write_text("{prompt} {answer} {low} {high}")
    of_openai = {name: value for name, value in judged.items() if name not in ("judge_url", "judge_key_env")}
    for act in (run_select, lambda settings: plan_select(settings, 0.05)):
        with pytest.raises(JudgeError, match="OPENAI_API_KEY"):
            act(parse_settings(of_openai))
