"""The page of a study: its numbers are the cells', means and differences computed here a second way."""

import csv
import json
import os
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from handpick.reporting.overlaps import jaccard, overlaps
from handpick.reporting.page import half, middle
from handpick.reporting.study import write_study_report
from handpick.selection import Selection
from handpick.studies.cells import Cell, Results
from handpick.studies.published import read_tis
from tests.reporting.browser import Tab, chromium, needs_browser
from tests.reporting.conftest import Page

Read = Callable[[Path], Page]
METHODS, TARGETS, BUDGETS, SEEDS = ("less-rr", "bm25", "rds+", "embed"), ("gsm8k", "boolq"), (100, 300), 3
PUBLISHED = Path(os.environ.get("HANDPICK_DATA", Path(__file__).parents[2] / "../shared/data")) / "published"


def cell(method: str, target: str, budget: int | None, seed: int, loss: float, **more: Any) -> Cell:
    metrics = {"exact-match:last-number": 1 - loss / 4, "loss": loss}
    return Cell(model="m", method=method, target=target, budget=budget, seed=seed, metrics=metrics, **more)


def grid() -> Results:
    """Four methods, ten random draws, zero-shot and full, quantiles, a failure and a cell that is missing."""
    noise = np.random.default_rng(0)
    cells = []
    for place, target in enumerate(TARGETS):
        cells.append(cell("zero-shot", target, None, 0, 1.5 + place))
        cells.append(cell("full", target, None, 0, 0.6 + place))
        for budget in BUDGETS:
            at = 1.4 - budget / 1000 + place
            for seed in range(10):
                cells.append(cell("random", target, budget, seed, at + 0.02 * noise.standard_normal()))
            for rank, method in enumerate(METHODS):
                for seed in range(SEEDS):
                    spread = 0.05 * (seed - 1) if method == "bm25" else 0.02 * noise.standard_normal()
                    loss = at - 0.3 + 0.3 * rank + spread
                    own = {"wasserstein": 1 + loss / 10, "mmd": float(noise.uniform())}
                    cells.append(cell(method, target, budget, seed, loss, distances={"less-rr": own}, seconds=30.0))
        for quantile in range(10):
            cells.append(cell("less-rr", target, 500, 0, 1 + quantile / 20 + place, quantile=quantile))
    failed = {"status": "failed", "reason": "<b>out of memory</b> & more"}
    cells.append(Cell(model="m", method="gist", target="gsm8k", budget=100, seed=0, **failed))  # type: ignore[arg-type]
    cells.append(Cell(model="m", method="uot", target="boolq", budget=300, seed=1, status="missing"))
    return Results(name="first <look>", settings={"budgets": [100, 300], "train": {"epochs": 2}}, cells=cells)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_study_report(grid(), tmp_path_factory.mktemp("study"))


@pytest.fixture(scope="module")
def report(written: Path) -> Page:
    return Page(written.read_text(encoding="utf-8"))


def table(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize(("place", "metric"), [(1, "loss"), (2, "exact-match:last-number")])
def test_means_and_differences(written: Path, place: int, metric: str) -> None:
    values: dict[tuple[str, ...], list[float]] = defaultdict(list)
    for each in grid().cells:
        if each.status == "done":
            names = (each.budget, each.quantile)
            key = (each.target, each.method, *("" if name is None else str(name) for name in names))
            values[key].append(each.metrics[metric])
    rows = table(written.parent / "report" / f"summary-{place}.csv")
    found = {(row["target"], row["method"], row["budget"], row["quantile"]): row for row in rows}
    assert found.keys() == values.keys()
    compared = 0
    for key, row in found.items():
        assert row["metric"] == metric
        assert float(row["mean"]) == pytest.approx(np.mean(values[key]))
        assert int(row["n"]) == len(values[key])
        random = values.get((key[0], "random", key[2], key[3]))
        if key[1] in METHODS and random is not None:
            compared += 1
            assert float(row["against random"]) == pytest.approx(np.mean(values[key]) - np.mean(random))
            assert float(row["against random low"]) < float(row["against random"]) < float(row["against random high"])
    assert compared == len(METHODS) * len(TARGETS) * len(BUDGETS)


def test_losses_come_first_and_the_best_is_marked(report: Page) -> None:
    heads = report.all("h2")
    assert heads[:2] == ["loss on the tests", "exact-match:last-number"]
    best = [said for tag, attributes, said in report.elements if tag == "span" and attributes.get("class") == "win"]
    assert len(best) == 2 * len(TARGETS) * len(BUDGETS)
    rows = [row for row in report.all("tr") if row.strip().startswith("less-rr") and "±" in row]
    assert len(rows) >= 4
    assert "zero-shot): 1.500" in " ".join(report.all("p", class_="note"))
    assert "full pool: 0.6000" in " ".join(report.all("p", class_="note"))


def test_of_one_budget_every_target_is_a_column(tmp_path: Path, page: Read) -> None:
    one = [each for each in grid().cells if each.budget in (None, BUDGETS[0]) and each.quantile is None]
    found = page(write_study_report(grid().model_copy(update={"cells": one}), tmp_path))
    assert f"{BUDGETS[0]:,} examples" in found.all("h3")
    head = found.all("thead")[0]
    assert [head.index(target) for target in TARGETS] == sorted(head.index(target) for target in TARGETS)
    best = [said for tag, attributes, said in found.elements if tag == "span" and attributes.get("class") == "win"]
    assert len(best) == 2 * len(TARGETS)
    assert any(row.strip().startswith("zero-shot") for row in found.all("tr"))
    assert any(row.strip().startswith("full") for row in found.all("tr"))


def test_what_is_beyond_random_is_in_colour(report: Page) -> None:
    better = [said for tag, a, said in report.elements if tag == "small" and a.get("class") == "better"]
    worse = [said for tag, a, said in report.elements if tag == "small" and a.get("class") == "worse"]
    # less-rr is 0.3 below random, rds+ and embed 0.3 and 0.6 above, fifteen times the noise; bm25 is as random
    assert len(better) == 2 * len(TARGETS) * len(BUDGETS)
    assert len(worse) == 2 * 2 * len(TARGETS) * len(BUDGETS)


def test_correlations_and_wins(report: Page) -> None:
    text = "\n".join(" ".join(row.split()) for row in report.all("tr"))
    assert "wasserstein" in text
    assert "less-rr" in text
    assert "How often each is best" in report.all("h3")
    assert "Do nearer quantiles do better?" in report.all("h3")
    assert "Does nearer mean better?" in report.all("h3")


def test_failures_have_their_reason(report: Page) -> None:
    (section,) = report.all("section", id="not-done")
    assert "<b>out of memory</b> & more" in section
    assert "gist" in section
    assert "uot" in section
    assert "missing" in section
    assert not any(tag == "b" and not attributes for tag, attributes, _ in report.elements)


def test_the_name_and_the_settings(report: Page) -> None:
    assert report.all("h1") == ["first <look>"]
    (asked,) = report.all("section", id="asked")
    assert "train · epochs" in asked
    assert "100, 300" in asked
    assert "24 min" in " ".join(report.all("dd"))  # 48 cells of half a minute


def test_every_plot_stands_beside_it(written: Path, report: Page) -> None:
    names = {path.name for path in (written.parent / "report").iterdir()}
    plots = {"budget-1", "budget-2", "quantile-1", "quantile-2"}
    assert names == {f"{each}.{kind}" for each in plots for kind in ("png", "csv")} | {"summary-1.csv", "summary-2.csv"}
    links = {attributes["href"] for tag, attributes, _ in report.elements if tag == "a" and attributes.get("href")}
    assert {f"report/{name}" for name in names} <= links
    ids = [attributes["id"] for _, attributes, _ in report.elements if "id" in attributes]
    assert len(ids) == len(set(ids))


def test_curves_have_the_numbers_they_show(written: Path) -> None:
    rows = table(written.parent / "report" / "quantile-1.csv")
    assert {row["quantile"] for row in rows} == {str(each) for each in range(10)}
    for row in rows:
        assert float(row["mean"]) == pytest.approx(1 + int(row["quantile"]) / 20 + TARGETS.index(row["target"]))
    budgets = table(written.parent / "report" / "budget-1.csv")
    assert all(row["quantile"] == "" for row in budgets)
    assert {row["method"] for row in budgets} == {*METHODS, "random", "zero-shot", "full"}


def test_equal_results_give_equal_bytes(written: Path, tmp_path: Path) -> None:
    again = write_study_report(grid(), tmp_path)
    there = {path.relative_to(written.parent): path.read_bytes() for path in written.parent.rglob("*.*")}
    here = {path.relative_to(tmp_path): path.read_bytes() for path in again.parent.rglob("*.*")}
    assert here == there


def test_nothing_done_is_a_page_too(tmp_path: Path, page: Read) -> None:
    only = [each for each in grid().cells if each.status != "done"]
    found = page(write_study_report(Results(name="none", cells=only), tmp_path))
    assert "gist" in found.all("section", id="not-done")[0]
    assert found.all("figure") == []


def test_one_seed_has_no_interval(tmp_path: Path, page: Read) -> None:
    cells = [cell("bm25", "gsm8k", 100, 0, 1.25), cell("random", "gsm8k", 100, 0, 1.5)]
    found = page(write_study_report(Results(name="one", cells=cells), tmp_path))
    cells = [" ".join(each.split()) for each in found.all("td")]
    assert cells[cells.index("bm25") + 1] == "1.250 −0.2500"


def saved(folder: Path, ids: list[str]) -> None:
    n = len(ids)
    Selection(ids, [0.0] * n, [None] * n, {}, {}, lambda choice: b"{}").save(folder)


def test_overlap_is_the_jaccard_index_of_the_prefixes(tmp_path: Path, page: Read) -> None:
    order = {"bm25": [f"p{n}" for n in range(8)], "less-rr": ["p1", "p9", "p0", "p8", "p2", "p3"]}
    cells = []
    for method, ids in order.items():
        saved(tmp_path / "steps" / f"selection-{method}", ids)
        for budget in (2, 4):
            cells.append(cell(method, "gsm8k", budget, 0, 1.0, steps={"selection": f"selection-{method}"}))
    cells.append(cell("rds+", "gsm8k", 4, 0, 1.0, steps={"selection": "selection-gone"}))
    results = Results(name="overlap", cells=cells)
    (found,) = overlaps(results, tmp_path)
    both = {"p0", "p1"}  # of p0 to p3 and p1, p9, p0, p8
    assert found.methods == ["bm25", "less-rr"]
    assert found.values == [[1, len(both) / 6], [len(both) / 6, 1]]
    shown = page(write_study_report(results, tmp_path, study=tmp_path))
    assert [each.strip() for each in shown.all("td", class_="heat")] == ["1.00", "0.33", "0.33", "1.00"]
    rows = table(tmp_path / "report" / "overlap-1.csv")
    assert [float(row["jaccard"]) for row in rows] == [1, 2 / 6, 2 / 6, 1]


def test_jaccard_at_its_ends() -> None:
    assert jaccard(["a", "b"], ["b", "a"]) == 1
    assert jaccard(["a"], ["b"]) == 0


@pytest.mark.data
@pytest.mark.skipif(not PUBLISHED.is_dir(), reason="needs the published numbers of HANDPICK_DATA")
def test_published_numbers(tmp_path: Path, page: Read) -> None:
    folder = PUBLISHED / "tis_llama2_7b"
    found = page(write_study_report(read_tis(folder), tmp_path))
    assert len(found.all("figure")) >= 3
    losses: dict[tuple[str, ...], list[float]] = defaultdict(list)
    for row in table(folder / "budget_ce_loss_budget.csv"):
        losses[row["dataset"], row["method"].lower(), row["num_samples"]].append(float(row["test"]))
    rows = table(tmp_path / "report" / "summary-1.csv")  # before the loss on the queries
    assert {row["metric"] for row in rows} == {"loss"}
    means = {(row["target"], row["method"].lower(), row["budget"]): float(row["mean"]) for row in rows}
    assert len(losses) > 50
    for key, values in losses.items():
        assert means[key] == pytest.approx(np.mean(values)), key


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as found:
        yield found


@pytest.mark.browser
@needs_browser
@pytest.mark.parametrize("width", [1280, 400])
def test_in_a_browser(browser: Any, written: Path, width: int) -> None:
    page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme="dark")
    tab = Tab(page).open(written)
    assert tab.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
    rows = "#summary-1 table >> nth=0 >> tbody td:first-child"
    assert tab.texts(rows) == ["random", *METHODS]
    tab.page.locator("#summary-1 table").first.locator("th button").nth(1).click()
    assert tab.texts(rows)[0] == "less-rr"
    assert tab.texts(rows)[-1] == "embed"
    assert tab.said == []
    assert tab.asked == [written.resolve().as_uri()]
    page.close()


def test_json_settings_of_any_shape(tmp_path: Path, page: Read) -> None:
    settings = {"a": {"b": [{"c": 1}], "d": None, "e": {}}, "f": False}
    found = page(write_study_report(Results(name="s", settings=json.loads(json.dumps(settings)), cells=[]), tmp_path))
    assert [each.strip() for each in found.all("dt") if "·" in each] == ["a · b"]


@pytest.mark.parametrize(
    ("mean", "low", "high", "shown"),
    [
        (4.7871, 4.7341, 4.8401, ("4.787", "± 0.053", "+4.787")),
        (0.00026, 0.00017, 0.00035, ("0.000260", "± 0.000090", "+0.000260")),
        (-5.5352, -5.674, -5.396, ("−5.54", "± 0.14", "−5.54")),
        (1234.5, 1000.0, 1469.0, ("1,234", "± 234", "+1,234")),
        (0.5967, None, None, ("0.5967", "", "+0.5967")),
        (1.0, 1.0, 1.0, ("1.000", "", "+1.000")),
    ],
)
def test_a_mean_has_the_digits_that_its_interval_leaves(
    mean: float, low: float | None, high: float | None, shown: tuple[str, str, str]
) -> None:
    row = SimpleNamespace(mean=mean, low=low, high=high)
    assert (middle(row), half(row), middle(row, sign=True)) == shown
