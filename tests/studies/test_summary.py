"""What is printed at the end of a study says what the statistics say."""

import io
from typing import Any

import pytest
from rich.console import Console

from handpick.studies.cells import Cell, Results
from handpick.studies.statistics import against_random, by_seed, distance_correlation
from handpick.studies.summary import show_results

RANDOM, LESS, BM25 = (2.0, 2.1, 2.3), (1.0, 1.2, 1.1), (2.9, 3.2, 3.0)


def cell(method: str, value: float, seed: int = 0, budget: int | None = 1000, **more: Any) -> Cell:
    return Cell(model="m", method=method, target="gsm8k", budget=budget, seed=seed, metrics={"loss": value}, **more)


def grid(**more: Any) -> list[Cell]:
    of = {"random": RANDOM, "less": LESS, "bm25 [rr]": BM25}
    cells = [cell(method, value, seed, **more) for method, values in of.items() for seed, value in enumerate(values)]
    return [cell("zero-shot", 0.5, budget=None), *cells]


def printed(cells: list[Cell]) -> list[str]:
    console = Console(width=140, highlight=False, record=True, file=io.StringIO())
    show_results(Results(name="s", cells=cells), console)
    return console.export_text().splitlines()


def line(lines: list[str], start: str) -> str:
    (found,) = [each for each in lines if each.startswith(start)]
    return found


def test_a_line_a_method_with_its_mean_and_its_difference_from_random() -> None:
    lines = printed(grid())
    assert lines[0].startswith("loss on gsm8k: smaller is better")
    mean = next(row for row in by_seed(grid(), "loss") if row.method == "less")
    difference = next(row for row in against_random(grid(), "loss") if row.method == "less")
    assert mean.low is not None
    assert mean.high is not None
    found = line(lines, "1,000   less")
    assert f"{mean.mean:.4g} ± {(mean.high - mean.low) / 2:.2g}" in found
    assert f"{difference.mean:+.3g} ({difference.low:+.2g} to {difference.high:+.2g})" in found
    assert found.rstrip().endswith("best, better")
    assert line(lines, "1,000   bm25 [rr]").rstrip().endswith("worse")
    assert line(lines, "1,000   random").split() == ["1,000", "random", "2.133", "±", "0.38", "3"]


def test_the_model_as_it_is_stands_first_and_is_never_best() -> None:
    lines = printed(grid())
    assert lines[2].split() == ["–", "zero-shot", "0.5", "1"]
    assert sum("best" in each for each in lines if each.startswith(("–", "1,000"))) == 1


def test_wins_and_correlations_follow() -> None:
    cells = grid() + [
        cell(f"method {n}", 1 + n, distances={"less": {"query_to_subset": [0.3, 0.1, 0.2, 0.9][n]}}) for n in range(4)
    ]
    lines = printed(cells)
    (row,) = distance_correlation(cells, "loss")
    assert row.rho is not None
    assert row.low is not None
    assert row.high is not None
    star = "" if row.low <= 0 <= row.high else "*"
    at = lines.index(line(lines, "Spearman's rho of loss with"))
    assert lines[at + 1].split() == ["gsm8k"]
    assert lines[at + 2].split() == ["query", "to", "subset", "in", "less,", "1,000", f"{row.rho:+.2f}{star}"]
    assert line(lines, "loss  random").split() == ["loss", "random", "0", "1", "0", "0", "0"]
    assert line(lines, "loss  bm25 [rr]").split() == ["loss", "bm25", "[rr]", "0", "1", "0", "1", "1"]


def test_a_correlation_that_is_sure_has_a_star() -> None:
    cells = [
        cell(f"m{n}", n, distances={"less": {"mmd": float(n), "energy": float(n % 2)}}, dev_loss=float(n))
        for n in range(9)
    ]
    lines = printed(cells)
    assert line(lines, "mmd in less, 1,000").split()[-1] == "+1.00*"
    assert not line(lines, "energy in less, 1,000").rstrip().endswith("*")
    assert line(lines, "loss on the queries").split()[-1] == "+1.00*"
    assert not any("dev_loss" in each for each in lines)


def test_nothing_is_said_of_correlations_that_there_are_not() -> None:
    assert not any("Spearman" in each for each in printed(grid()))


def test_what_is_not_there_is_counted_with_the_first_reason() -> None:
    cells = [
        *grid(),
        cell("uot", 0, status="failed", reason="[no] memory left"),
        cell("uot", 0, 1, status="failed", reason="another"),
        cell("gist", 0, budget=None, status="missing"),
    ]
    lines = printed(cells)
    assert lines[-3:] == [
        "10 of 13 cells done",
        "2 failed; the first, uot on gsm8k, 1,000, seed 0: [no] memory left",
        "1 missing; the first, gist on gsm8k, seed 0: no reason given",
    ]


def test_a_study_of_which_nothing_is_done_says_so() -> None:
    assert printed([cell("less", 0, status="failed", reason="no model")]) == [
        "0 of 1 cells done", "1 failed; the first, less on gsm8k, 1,000, seed 0: no model"
    ]  # fmt: skip


def test_without_a_console_it_goes_to_standard_output(capsys: pytest.CaptureFixture[str]) -> None:
    show_results(Results(name="s", cells=grid()))
    assert "loss on gsm8k" in capsys.readouterr().out
