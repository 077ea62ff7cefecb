"""A selection that was made elsewhere, as a method of a study."""

import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from handpick.errors import SettingsError
from handpick.selection import Selection
from handpick.studies.run import plan_steps, run_study
from handpick.studies.settings import StudySettings
from tests.studies.conftest import Ask, only
from tests.studies.test_settings import GOOD

Make = Callable[..., Path]


@pytest.fixture
def make(study_data: Path, tmp_path: Path) -> Make:
    """Save a selection of the pool's rows under a name."""
    lines = (study_data / "pool.jsonl").read_bytes().splitlines()

    def made(name: str, rows: Sequence[int], prefix: str = "") -> Path:
        ids = [prefix + json.loads(lines[row])["id"] for row in rows]
        n = len(ids)
        Selection(ids, [0.0] * n, [None] * n, {}, {}, lambda i: lines[rows[i]]).save(tmp_path / name)
        return tmp_path / name

    return made


def given(ask: Ask, path: object, **more: Any) -> StudySettings:
    return ask(**({"methods": {"mine": {"selection": str(path)}}, "baselines": [], "seeds": [0]} | more))


def test_budgets_are_its_prefixes_and_targets_that_share_a_path_share_a_training(ask: Ask, make: Make) -> None:
    folder = make("mine", [7, 3, 30, 12, 1, 0])
    settings = given(ask, folder, budgets=[4, 6, 7])
    results = run_study(settings)
    for cell in results.cells:
        if cell.budget == 7:
            assert cell.status == "failed"
            assert cell.reason == f"the budget is 7, and the selection in {folder} holds 6"
        else:
            assert (cell.status, cell.chosen) == ("done", cell.budget)
    for budget in (4, 6):
        assert len({cell.steps["training"] for cell in only(results, budget=budget)}) == 1
    names = {cell.steps["selection"] for cell in only(results, status="done")}
    assert len(names) == 1
    assert Selection.open(settings.folder / "steps" / names.pop()).ids == Selection.open(folder).ids


def test_what_is_trained_on_is_the_prefix(ask: Ask, make: Make) -> None:
    """The same four records in the same order, chosen by hand, have the same training."""
    (long, *_), (short, *_) = (
        run_study(given(ask, make(f"of-{len(rows)}", rows), budgets=[4])).cells
        for rows in ([7, 3, 30, 12, 1, 0], [7, 3, 30, 12])
    )
    assert long.steps["selection"] != short.steps["selection"]
    assert long.steps["training"] == short.steps["training"]


def test_its_step_is_named_by_its_ids_and_never_by_its_path(ask: Ask, make: Make, tmp_path: Path) -> None:
    folder = make("here", [5, 6, 7, 8])
    (first, _) = run_study(given(ask, folder, budgets=[4])).cells
    shutil.move(folder, tmp_path / "there")
    settings = given(ask, tmp_path / "there", budgets=[4])
    assert all(step.done for step in plan_steps(settings)[0])
    assert {cell.steps["selection"] for cell in run_study(settings).cells} == {first.steps["selection"]}


def test_target_and_model_are_filled_in(ask: Ask, make: Make, tiny_model: Path, tmp_path: Path) -> None:
    make("small-gsm8k", [1, 2, 3, 4])
    make("small-mbpp", [5, 6, 7, 8])
    settings = given(ask, tmp_path / "{model}-{target}", budgets=[4], models={"small": str(tiny_model)})
    results = run_study(settings)
    assert {cell.status for cell in results.cells} == {"done"}
    for cell in results.cells:
        own = Selection.open(tmp_path / f"small-{cell.target}").ids
        assert Selection.open(settings.folder / "steps" / cell.steps["selection"]).ids == own


def test_what_is_not_in_the_pool_is_said_and_the_rest_goes_on(ask: Ask, make: Make, tmp_path: Path) -> None:
    foreign = make("foreign", [1, 2, 3, 4], prefix="x")
    methods = {
        "foreign": {"selection": str(foreign)}, "none": {"selection": str(tmp_path / "none")}, "bm25": {},
    }  # fmt: skip
    results = run_study(ask(methods=methods, baselines=[], seeds=[0], budgets=[4]))
    assert {cell.status for cell in only(results, method="bm25")} == {"done"}
    first = Selection.open(foreign).ids[0]
    said = {cell.reason for cell in only(results, method="foreign")}
    assert said == {
        f"4 of the 4 examples of the selection in {foreign} are not in the study's pool, the first {first!r}: select "
        "from the same pool"
    }
    assert all("no selection in" in (cell.reason or "") for cell in only(results, method="none"))


def test_what_cannot_be_trained_on_takes_no_place(ask: Ask, study_data: Path, tmp_path: Path) -> None:
    own = [json.loads(line) for line in (study_data / "pool.jsonl").read_text().splitlines()[:6]]
    long = {"id": "long", "messages": [{"role": "user", "content": "why " * 2000}, own[0]["messages"][-1]]}
    lines = [json.dumps(each).encode() for each in (own[0], long, *own[1:])]
    (tmp_path / "pool.jsonl").write_bytes(b"".join(line + b"\n" for line in lines))
    ids = [json.loads(line)["id"] for line in lines]
    Selection(ids[:5], [0.0] * 5, [None] * 5, {}, {}, lambda i: lines[i]).save(tmp_path / "mine")
    results = run_study(given(ask, tmp_path / "mine", pool=str(tmp_path / "pool.jsonl"), budgets=[4, 5]))
    assert {cell.chosen for cell in only(results, budget=4)} == {4}
    assert {cell.reason for cell in only(results, budget=5)} == {
        f"the budget is 5, and the selection in {tmp_path / 'mine'} holds 4 that can be trained on, and 1 that cannot"
    }


def test_it_has_no_quantiles(ask: Ask, make: Make) -> None:
    methods = {"mine": {"selection": str(make("mine", range(8)))}, "bm25": {}}
    settings = ask(methods=methods, baselines=[], seeds=[0], budgets=[4], quantiles={"bins": 2, "each": 2})
    steps = [step for step in plan_steps(settings)[0] if any(place.quantile is not None for place in step.places)]
    assert {place.method for step in steps for place in step.places if place.quantile is not None} == {"bm25"}


@pytest.mark.parametrize(
    ("methods", "said"),
    [
        ({"mine": {"selection": "runs/a", "algorithm": "uot"}}, "has no setting algorithm"),
        ({"mine": {"selection": ["runs/a"]}}, "should be a folder"),
        ({"random": {"selection": "runs/a"}}, "random is a baseline"),
    ],
)
def test_a_mistake_is_one_sentence(methods: dict[str, Any], said: str, tmp_path: Path) -> None:
    path = tmp_path / "study.yaml"
    path.write_text(yaml.safe_dump(GOOD | {"methods": methods}))
    with pytest.raises(SettingsError, match=said):
        StudySettings.from_yaml(path)
