"""Models that are not kept: removed once they are measured, and made again when something else is to be measured."""

from pathlib import Path
from typing import Any

import pytest

from handpick.studies import trained
from handpick.studies.run import plan_steps, run_study
from handpick.studies.settings import StudySettings
from handpick.studies.trained import drop_model, has_model
from tests.studies.conftest import Ask, numbers

SMALL: dict[str, Any] = {"budgets": [4], "seeds": [0], "draws": 1}


def trainings(settings: StudySettings) -> list[Path]:
    return sorted((settings.folder / "steps").glob("training-*"))


def test_a_measured_model_is_removed_and_not_trained_again(ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = ask(keep="results", **SMALL)
    results = run_study(settings)
    assert {cell.status for cell in results.cells} == {"done"}
    assert len(trainings(settings)) == 3
    for folder in trainings(settings):
        assert sorted(path.name for path in folder.iterdir()) == ["cost.json", "step.json"]
    assert all(step.done for step in plan_steps(settings)[0])
    monkeypatch.setattr(trained, "finetune", lambda *_, **__: pytest.fail("trained again"))
    assert run_study(settings) == results


def test_another_target_trains_again_to_the_same_model(ask: Ask) -> None:
    both = ask().targets
    one = {"gsm8k": both["gsm8k"]}
    run_study(ask(keep="results", targets=one, methods=[], baselines=["random"], **SMALL))
    settings = ask(keep="results", methods=[], baselines=["random"], **SMALL)
    (step,) = [step for step in plan_steps(settings)[0] if step.kind == "training"]
    assert not step.done
    assert step.what.endswith("; again, since its model was not kept")
    results = run_study(settings)
    kept = run_study(ask(out=f"{settings.folder}-kept", methods=[], baselines=["random"], **SMALL))
    assert numbers(results) == numbers(kept)
    assert not has_model(trainings(settings)[0])
    assert has_model(next(Path(f"{settings.folder}-kept").glob("steps/training-*")))


def test_what_was_kept_before_is_removed_and_half_a_removal_is_mended(ask: Ask) -> None:
    kept = ask(methods=[], baselines=["random"], **SMALL)
    results = run_study(kept)
    (folder,) = trainings(kept)
    assert has_model(folder)
    (folder / "train.yaml").unlink()  # as a removal that was killed leaves it
    assert not has_model(folder)
    assert (folder / "adapter_config.json").exists()
    (folder.parent / results.cells[0].steps["evaluation"] / "step.json").unlink()
    assert numbers(run_study(kept)) == numbers(results)
    assert has_model(folder)
    assert numbers(run_study(kept.model_copy(update={"keep": "results"}))) == numbers(results)
    assert sorted(path.name for path in folder.iterdir()) == ["cost.json", "step.json"]


def test_a_model_that_could_not_be_measured_is_kept(ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = ask(keep="results", methods=[], baselines=["random"], **SMALL)
    with monkeypatch.context() as patched:
        patched.setattr(trained, "evaluate", lambda *_, **__: (_ for _ in ()).throw(RuntimeError("no")))
        failed = run_study(settings)
    assert {cell.reason for cell in failed.cells} == {"RuntimeError: no"}
    (folder,) = trainings(settings)
    assert has_model(folder)
    monkeypatch.setattr(trained, "finetune", lambda *_, **__: pytest.fail("trained again"))
    assert {cell.status for cell in run_study(settings).cells} == {"done"}
    assert not has_model(folder)


def test_dropping_what_is_not_there_does_nothing(tmp_path: Path) -> None:
    drop_model(tmp_path / "none")
    assert not (tmp_path / "none").exists()
