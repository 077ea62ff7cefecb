"""The commands beside ``select``: what they show and what they write."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from handpick.cli import app
from tests.conftest import write_jsonl

COMMANDS = ("similarity", "diff", "distance", "overlap", "methods")


def handpick(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture(autouse=True)
def _wide(monkeypatch: pytest.MonkeyPatch) -> None:
    """A terminal with room for paths."""
    monkeypatch.setattr("handpick.cli.show.console.width", 300, raising=False)


@pytest.fixture(scope="module")
def files(
    pool_records: list[dict[str, Any]], query_records: list[dict[str, Any]], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("data")
    sourced = [r | {"source": "left" if i % 2 else "right"} for i, r in enumerate(pool_records[:20])]
    return {
        "pool": write_jsonl(folder / "pool.jsonl", sourced),
        "query": write_jsonl(folder / "query.jsonl", query_records[:2]),
        "other": write_jsonl(folder / "other.jsonl", query_records[2:4]),
    }


@pytest.fixture(scope="module")
def flags(tiny_model: Path, files: dict[str, Path]) -> list[object]:
    """Of a run by plain gradients, but for the query and --out."""
    return [
        "--pool", files["pool"], "--model", tiny_model, "--method", "gradient-rr", "--warmup", "none",
        "--projection-dim", 256,
    ]  # fmt: skip


@pytest.fixture(scope="module")
def chosen(flags: list[object], files: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "chosen"
    shown = handpick("select", *flags, "--query", files["query"], "--budget", 5, "--out", out)
    assert shown.exit_code == 0, shown.stderr
    return out


@pytest.fixture(scope="module")
def drawn(files: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five of the same pool at random."""
    out = tmp_path_factory.mktemp("runs") / "drawn"
    shown = handpick("select", "--pool", files["pool"], "--method", "random", "--budget", 5, "--out", out)
    assert "5 of 20 examples chosen by random" in shown.stdout
    return out


def ids(folder: Path) -> list[str]:
    found: list[str] = json.loads((folder / "selection.json").read_text())["ids"]
    return found


def test_help_lists_them() -> None:
    shown = handpick("--help").stdout
    assert [name for name in COMMANDS if not re.search(rf"^│ {name} ", shown, re.MULTILINE)] == []


@pytest.mark.parametrize("command", COMMANDS)
def test_each_has_help(command: str) -> None:
    shown = handpick(command, "--help")
    assert shown.exit_code == 0
    assert re.match(rf"\s*Usage: handpick {command} ", shown.stdout)


def test_select_takes_constraints_targets_and_what_algorithms_read() -> None:
    shown = handpick("select", "--help-all").stdout
    names = (
        "representation encoder target split target-weight balanced max-share min-share always max-cosine "
        "exclude-overlap overlap-threshold knn-alpha knn-scale knn-neighbours kde-width kde-neighbours uot-epsilon "
        "uot-relaxation importance-temperature gist-dim whitening-damping dsir-smoothing"
    )
    assert [name for name in names.split() if f"--{name} " not in shown] == []


def test_select_says_which_field_names_a_subtask() -> None:
    assert "field `subtask`" in " ".join(handpick("select", "--help-all").stdout.split())


def test_similarity_takes_nothing_of_the_choice() -> None:
    shown = handpick("similarity", "--help-all").stdout
    assert "--store " in shown
    assert [name for name in ("budget", "algorithm", "always", "max-share") if f"--{name} " in shown] == []


# --- similarity ------------------------------------------------------------------------------------------------------


def test_similarity_from_a_store(
    chosen: Path, files: dict[str, Path], query_records: list[dict[str, Any]], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    store = chosen / "features" / "pool"
    shown = handpick("similarity", "--store", store, "--query", files["other"], "--method", "gradient-rr", "--out", out)
    assert shown.exit_code == 0, shown.stderr
    similarity_QN = np.load(out / "similarity.npy")
    names = json.loads((out / "similarity.json").read_text())
    assert similarity_QN.shape == (2, 20)
    assert names["queries"] == [record["id"] for record in query_records[2:4]]
    assert f"2 × 20: {out / 'similarity.npy'}, with the ids in similarity.json" in shown.stdout
    for query, row_N in zip(names["queries"], similarity_QN, strict=True):
        (line,) = [line for line in shown.stdout.splitlines() if query in line]
        assert f"{np.median(row_N):.3f}" in line
        assert f"{row_N.max():.3f}" in line
        assert names["examples"][int(row_N.argmax())] in line


def test_similarity_of_what_has_no_query(files: dict[str, Path], tiny_model: Path, tmp_path: Path) -> None:
    shown = handpick(
        "similarity", "--pool", files["pool"], "--model", tiny_model, "--method", "longest", "--out", tmp_path / "out"
    )
    assert "every query" in shown.stdout
    assert "1 × 20: " in shown.stdout


# --- diff ------------------------------------------------------------------------------------------------------------


def test_diff_counts_what_two_selections_share(chosen: Path, drawn: Path) -> None:
    shown = handpick("diff", chosen, drawn)
    assert shown.exit_code == 0
    common = set(ids(chosen)) & set(ids(drawn))
    jaccard = len(common) / (10 - len(common))
    assert f"{len(common)} examples in both, of 5 and 5: Jaccard {jaccard:.3f}" in shown.stdout
    assert "Only in one, by source" in shown.stdout
    assert "different pools" not in shown.stdout
    only = [len([i for i in ids(a) if i not in common]) for a in (chosen, drawn)]
    counts = [
        [int(n) for n in re.findall(r"\d+", line)]
        for line in shown.stdout.splitlines() if re.match(r"│ (left|right) ", line)
    ]  # fmt: skip
    assert np.sum(counts, axis=0).tolist() == only


def test_diff_with_itself_and_with_another_pool(
    chosen: Path, pool_records: list[dict[str, Any]], tmp_path: Path
) -> None:
    shown = handpick("diff", chosen, chosen)
    assert "5 examples in both, of 5 and 5: Jaccard 1.000, rank correlation of the common 1.000" in shown.stdout
    assert "Only in one" not in shown.stdout
    other = write_jsonl(tmp_path / "pool.jsonl", pool_records[:10])
    handpick("select", "--pool", other, "--method", "random", "--budget", 5, "--out", tmp_path / "out")
    assert "The two were chosen from different pools" in handpick("diff", chosen, tmp_path / "out").stdout


def test_diff_without_a_selection(chosen: Path, tmp_path: Path) -> None:
    shown = handpick("diff", chosen, tmp_path)
    assert shown.exit_code == 2
    assert shown.stderr.startswith(f"handpick: no selection in {tmp_path}")


# --- distance --------------------------------------------------------------------------------------------------------


def test_distance_shows_a_line_a_subset(chosen: Path, drawn: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("\n".join(ids(chosen)[:2]) + "\n")
    shown = handpick("distance", chosen, "--subset", drawn, "--subset", tmp_path / "mine.txt", "--seed", 1)
    assert shown.exit_code == 0, shown.stderr
    rows = [line for line in shown.stdout.splitlines() if re.search(r"\d\.\d{4}", line)]
    names = [str(chosen), str(drawn), str(tmp_path / "mine.txt"), "random 5"]
    assert [name in row for name, row in zip(names, rows, strict=True)] == [True] * 4
    assert all(len(re.findall(r"\d\.\d{4}", row)) == 5 for row in rows)
    again = handpick("distance", chosen, "--subset", chosen)
    assert len([line for line in again.stdout.splitlines() if re.search(r"\d\.\d{4}", line)]) == 2  # the same name


def test_distance_of_ids_that_are_not_there(chosen: Path, tmp_path: Path) -> None:
    (tmp_path / "ids.txt").write_text("nobody\n")
    shown = handpick("distance", chosen, "--subset", tmp_path / "ids.txt")
    assert (shown.exit_code, len(shown.stderr.splitlines())) == (2, 1)
    assert "were left out or set aside in this run, or are not in its pool, the first 'nobody'" in shown.stderr
    assert "cannot be read" in handpick("distance", chosen, "--subset", tmp_path / "gone.txt").stderr


def test_distance_of_a_draw_has_no_features(drawn: Path) -> None:
    shown = handpick("distance", drawn)
    assert (shown.exit_code, len(shown.stderr.splitlines())) == (2, 1)
    assert "none has no features to measure distances by" in shown.stderr


# --- overlap ---------------------------------------------------------------------------------------------------------


def test_overlap_counts_by_source(files: dict[str, Path], tmp_path: Path) -> None:
    records = [json.loads(line) for line in files["pool"].read_text().splitlines()]
    long = [r for r in records if r["source"] == "left" and len(r["messages"][0]["content"].split()) > 12][:2]
    tests = write_jsonl(tmp_path / "t.jsonl", [{"id": f"t{i}", "prompt": r["messages"][0]["content"]}
                                               for i, r in enumerate(long)])  # fmt: skip
    out = tmp_path / "out"
    shown = handpick("overlap", "--pool", files["pool"], "--test", tests, "--out", out)
    assert shown.exit_code == 0, shown.stderr
    assert re.search(r"│ left +│ +2 │ +10 │", shown.stdout)
    assert f"2 of 20 examples repeat a test item: {out / 'overlap.jsonl'}" in shown.stdout
    assert f"the others, as they came: {out / 'clean.jsonl'}" in shown.stdout
    clean = (out / "clean.jsonl").read_bytes().splitlines()
    gone = [r["id"] for r in long]
    assert clean == [line for line in files["pool"].read_bytes().splitlines() if json.loads(line)["id"] not in gone]


def test_overlap_of_strangers(files: dict[str, Path], tmp_path: Path) -> None:
    tests = write_jsonl(tmp_path / "t.jsonl", [{"prompt": "Which of seven purple walruses paid the violin baker?"}])
    shown = handpick("overlap", "--pool", files["pool"], "--test", tests, "--out", tmp_path / "out")
    assert "0 of 20 examples repeat a test item" in shown.stdout
    assert "Examples that repeat a test item" not in shown.stdout


# --- select ----------------------------------------------------------------------------------------------------------


def test_select_says_what_stood_in_for_the_methods_own(
    flags: list[object], files: dict[str, Path], tmp_path: Path
) -> None:
    """A store of rows too brings its representation along."""
    out = tmp_path / "out"
    by_words = ["--representation", "bm25", "--algorithm", "mean-max"]
    shown = handpick("select", *flags, "--query", files["query"], *by_words, "--budget", 5, "--out", out)
    assert "5 of 20 examples chosen by mean-max over bm25" in shown.stdout
    made = handpick("represent", *flags[:4], "--method", "rds+", "--out", tmp_path / "made")
    store = tmp_path / "made" / "features" / "pool-rds+"
    assert made.stdout.splitlines() == [
        f"20 examples, 32 features, 1 checkpoint: {store}",
        f"next: handpick select --store {store} --query QUERY --budget 1000",
    ]
    shown = handpick("select", "--store", store, "--query", files["query"], "--budget", 5, "--out", tmp_path / "from")
    assert "5 of 20 examples chosen by round-robin over rds+" in shown.stdout


def test_constraints_and_targets_as_flags(flags: list[object], files: dict[str, Path], tmp_path: Path) -> None:
    first = json.loads(files["pool"].read_text().splitlines()[7])["id"]
    (tmp_path / "always.txt").write_text(first)
    out = tmp_path / "out"
    shown = handpick(
        "select", *flags, "--target", f"x={files['query']}", "--target", f"y={files['other']}", "--split", "weight",
        "--target-weight", "x=2", "--target-weight", "y=1", "--max-share", "left=0.5", "--max-share", "*=0.7",
        "--always", tmp_path / "always.txt", "--budget", 6, "--out", out,
    )  # fmt: skip
    assert shown.exit_code == 0, shown.stderr
    assert ids(out)[0] == first
    sources = [json.loads(line)["source"] for line in (out / "selected.jsonl").read_text().splitlines()]
    assert sources.count("left") <= 3
    assert len(sources) == 6


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["--knn-alpha", 0.2], "the algorithm round-robin does not look at knn_alpha: leave it out"),
        (["--uot-epsilon", 0.2, "--algorithm", "knn-kde"], "the algorithm knn-kde does not look at uot_epsilon"),
        (["--importance-temperature", 2, "--algorithm", "mean-max"], "the algorithm mean-max does not look at import"),
        (["--knn-alpha", 2, "--algorithm", "knn-kde"], "--knn-alpha should be less than 1, not '2'"),
        (["--balanced", "--algorithm", "mean-max"], "the algorithm mean-max does not look at balanced"),
        (["--max-share", "left"], "--max-share should be NAME=NUMBER"),
        (
            ["--max-share", "left=much"],
            "--max-share should be a share (0.3 or 30%) or a whole number of examples (3) of 'left'",
        ),
        (["--max-share", "left=1"], "--max-share should not be a bare 1, which may be one example or all: write"),
        (["--max-share", "left=0.5", "--budget", "9k tokens"], "shares of sources are of a budget in examples"),
        (["--max-cosine", 3], "--max-cosine should be less than or equal to 1"),
        (["--representation", "bert"], "no representation 'bert'; choose one of gradient, whitened, gist, "),
        (["--method", "bm25", "--algorithm", "knn-kde"], "the algorithm knn-kde compares candidates with each other"),
        (["--method", "bm25", "--max-cosine", 0.9], "bm25 has no features to find near-duplicates by"),
        (["--representation", "none"], "the representation none looks at nothing that the algorithm round-robin"),
        (["--target", "x=a.jsonl"], "give either --query, for one task, or --target"),
        (["--split", "weight"], "split is for --target NAME=FILE, several"),
        (["--method", "rds+", "--score-only"], "score_only is for gradients, not for rds+: leave it out"),
        (["--score-only", "--algorithm", "knn-kde"], "the algorithm knn-kde compares candidates with each other"),
        (["--encoder", "nowhere/at/all", "--method", "embed"], "there is no encoder's folder nowhere/at/all"),
    ],
)
def test_a_wrong_value_is_one_line_and_exit_code_2(
    given: list[object], message: str, flags: list[object], files: dict[str, Path], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    shown = handpick("select", *flags, "--query", files["query"], "--budget", 5, "--out", out, *given)
    assert (shown.exit_code, len(shown.stderr.splitlines())) == (2, 1)
    assert shown.stderr.startswith(f"handpick: {message}")
    assert not (out / "selection.json").exists()
