"""TIS's numbers: against pandas on the raw files, and every way in which a file can be wrong."""

import os
from pathlib import Path

import pandas as pd
import pytest

from handpick.errors import DataError
from handpick.studies.cells import Results
from handpick.studies.published import MODEL, NEAREST, read_tis
from handpick.studies.statistics import DEV_LOSS, by_seed, loss_correlation, quantile_correlation

DATA = Path(os.environ.get("HANDPICK_DATA") or Path(__file__).parents[3] / "shared" / "data")
COLUMNS = {DEV_LOSS: ("ce_loss", "dev"), "loss": ("ce_loss", "test"), "metric": ("true_metric", "true_metric")}

QUANTILES = "dataset,method,bin,dev,test\nbbh,LESS (RR),0,0.5,1.5\nbbh,LESS (RR),1,0.25,1.25\n"
BUDGETS = "dataset,method,num_samples,seed,true_metric\nbbh,Random,500,0,38.5\nbbh,LESS (RR),500,2,40\n"
LOSSES = "dataset,method,num_samples,dev,test,seed\nbbh,Random,500,0.75,2.5,0\n"
ZERO_SHOT = "dataset,true_metric\nbbh,37.5\n"


def write(folder: Path, **files: str) -> Path:
    for name, text in files.items():
        (folder / f"{name}.csv").write_text(text, encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def folder() -> Path:
    path = DATA / "published" / "tis_llama2_7b"
    if not path.exists():
        pytest.skip(f"no {path}; set HANDPICK_DATA to the folder of the full data set")
    return path


@pytest.fixture(scope="module")
def published(folder: Path) -> Results:
    return read_tis(folder)


@pytest.mark.data
def test_every_line_is_in_a_cell(published: Results) -> None:
    assert published.settings["missing"] == []
    budgets = [cell for cell in published.cells if cell.budget is not None and cell.quantile is None]
    quantiles = [cell for cell in published.cells if cell.quantile is not None]
    zero_shot = [cell for cell in published.cells if cell.method == "zero-shot"]
    assert (len(budgets), len(quantiles), len(zero_shot)) == (600, 300, 5)
    assert len(published.cells) == 905
    assert all(set(cell.metrics) == {"loss", "metric"} and cell.dev_loss is not None for cell in published.cells)
    assert {cell.model for cell in budgets} == {MODEL}
    assert {cell.seed for cell in budgets} == {0, 1, 2}
    assert {cell.method for cell in budgets if "(" not in cell.method} == {"random"}


@pytest.mark.data
@pytest.mark.parametrize("metric", COLUMNS)
def test_means_over_seeds_are_those_of_pandas(folder: Path, published: Results, metric: str) -> None:
    kind, column = COLUMNS[metric]
    raw = pd.read_csv(folder / f"budget_{kind}_budget.csv").replace({"method": {"Random": "random"}})
    expected = raw.groupby(["method", "dataset", "num_samples"])[column].agg(["mean", "std", "count"])
    rows = [row for row in by_seed(published.cells, metric) if row.budget is not None and row.quantile is None]
    assert len(rows) == len(expected) == 200
    for row in rows:
        mean, std, count = expected.loc[(row.method, row.target, row.budget)]
        assert (row.mean, row.sd, row.n) == (pytest.approx(mean), pytest.approx(std), count)


@pytest.mark.data
@pytest.mark.parametrize("metric", COLUMNS)
def test_zero_shot_lines_are_those_of_the_files(folder: Path, published: Results, metric: str) -> None:
    kind, column = COLUMNS[metric]
    expected = pd.read_csv(folder / f"budget_{kind}_zero_shot.csv").set_index("dataset")[column].to_dict()
    assert {row.target: row.mean for row in by_seed(published.cells, metric) if row.method == "zero-shot"} == expected


@pytest.mark.data
@pytest.mark.parametrize("metric", COLUMNS)
@pytest.mark.parametrize(("prefix", "model"), [("binning", MODEL), ("sub_bin0_focus", NEAREST)])
def test_quantile_correlations_are_those_of_pandas(
    folder: Path, published: Results, metric: str, prefix: str, model: str
) -> None:
    kind, column = COLUMNS[metric]
    raw = pd.read_csv(folder / f"{prefix}_{kind}_quantile.csv")
    expected = {key: own["bin"].corr(own[column], method="spearman") for key, own in raw.groupby(["method", "dataset"])}
    found = {
        (row.method, row.target): row.rho for row in quantile_correlation(published.cells, metric) if row.model == model
    }
    assert found == pytest.approx(expected)
    assert len(found) == 15


@pytest.mark.data
def test_query_loss_against_the_metric_is_that_of_pandas(folder: Path, published: Results) -> None:
    tables = [
        pd.read_csv(folder / f"sub_bin0_focus_{kind}_quantile.csv").set_index(["dataset", "method", "bin"])
        for kind in ("ce_loss", "true_metric")
    ]
    expected = {
        target: own["dev"].corr(own["true_metric"], method="spearman")
        for target, own in tables[0].join(tables[1]).groupby("dataset")
    }
    rows = [row for row in loss_correlation(published.cells, "metric") if row.model == NEAREST]
    assert {row.target: row.rho for row in rows} == pytest.approx(expected)
    assert {row.n for row in rows} == {30}


@pytest.mark.data
def test_gradients_order_the_query_loss_as_the_paper_says(published: Results) -> None:
    """Its first finding: of LESS nearer quantiles have the smaller query loss on every target, of others not."""
    rows = [row for row in quantile_correlation(published.cells, DEV_LOSS) if row.model == MODEL]
    of_less = [row for row in rows if row.method == "LESS (RR)"]
    assert len(of_less) == 5
    assert all(row.low is not None and row.low > 0.5 for row in of_less)
    assert any(row.low is not None and row.low < 0 for row in rows if row.method == "RDS+ (RR)")


def test_loss_and_metric_of_a_cell_are_merged(tmp_path: Path) -> None:
    found = read_tis(write(tmp_path, budget_ce_loss_budget=LOSSES, budget_true_metric_budget=BUDGETS))
    random, less = found.cells
    assert (random.method, random.target, random.budget, random.seed) == ("random", "bbh", 500, 0)
    assert (random.metrics, random.dev_loss) == ({"loss": 2.5, "metric": 38.5}, 0.75)
    assert (less.method, less.seed, less.metrics, less.dev_loss) == ("LESS (RR)", 2, {"metric": 40.0}, None)


def test_quantiles_of_the_nearest_quantile_are_kept_apart(tmp_path: Path) -> None:
    cells = read_tis(
        write(tmp_path, binning_ce_loss_quantile=QUANTILES, sub_bin0_focus_ce_loss_quantile=QUANTILES)
    ).cells
    assert [(cell.model, cell.quantile, cell.budget) for cell in cells] == [
        (MODEL, 0, 500), (MODEL, 1, 500), (NEAREST, 0, 500), (NEAREST, 1, 500)
    ]  # fmt: skip


def test_a_missing_file_is_said(tmp_path: Path) -> None:
    found = read_tis(write(tmp_path, budget_true_metric_zero_shot=ZERO_SHOT))
    assert [(cell.method, cell.budget, cell.metrics) for cell in found.cells] == [("zero-shot", None, {"metric": 37.5})]
    assert len(found.settings["missing"]) == 7
    assert "budget_true_metric_zero_shot.csv" not in found.settings["missing"]


def test_results_are_kept_and_read_again(tmp_path: Path) -> None:
    found = read_tis(write(tmp_path, binning_ce_loss_quantile=QUANTILES))
    found.save(tmp_path / "results.json")
    assert Results.open(tmp_path / "results.json") == found


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("dataset,method,bin,dev\nbbh,LESS (RR),0,0.5\n", "has no column 'test'"),
        (QUANTILES.replace("1.25", "much"), "line 3: could not convert string to float: 'much'"),
        (QUANTILES.replace(",1,", ",1.5,"), "line 3: invalid literal for int"),
        (QUANTILES.replace("1.25", "nan"), "line 3, has a number that is not finite"),
        (QUANTILES.replace(",1,", ",0,"), "line 3, says dev of a cell a second time"),
        (QUANTILES[:-9], "line 3, has 4 fields of 5"),
        ("dataset,method,bin,dev,test\n", "has no line below its header"),
        ("", "has no column 'dataset'"),
    ],
)
def test_what_is_wrong_with_a_file_is_said_with_its_line(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(DataError) as error:
        read_tis(write(tmp_path, binning_ce_loss_quantile=text))
    assert "binning_ce_loss_quantile.csv" in str(error.value)
    assert said in str(error.value)


@pytest.mark.parametrize("name", ["empty", "not there"])
def test_a_folder_without_numbers_is_an_error(tmp_path: Path, name: str) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="no CSV file in"):
        read_tis(tmp_path / name)


def test_a_file_of_another_name_is_not_passed_over(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"binning_ce_loss\.csv is none of TIS's files"):
        read_tis(write(tmp_path, binning_ce_loss=QUANTILES))
