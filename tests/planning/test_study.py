"""The plan of a study: what is left of it, counted; no clock is looked at."""

from pathlib import Path
from typing import Any

import pytest
import torch

from handpick.data.render import Renderer
from handpick.errors import SettingsError
from handpick.model import load_tokenizer
from handpick.objectives.next_token import NextToken
from handpick.planning import Plan, StageCost, plan_study
from handpick.studies.run import Study, run_study
from handpick.studies.settings import StudySettings
from tests.studies.conftest import Ask, ask, study_data  # noqa: F401

QUICK = 0.1  # seconds of probing
SMALL: dict[str, Any] = {"budgets": [4], "seeds": [0], "draws": 1}


def stages(plan: Plan) -> dict[str, StageCost]:
    return {stage.name: stage for stage in plan.stages}


def tokens_of(stage: StageCost) -> float:
    assert stage.tokens is not None
    return stage.tokens.value


def counted(settings: StudySettings, model: Path) -> float:
    """Tokens of all fine-tunings that are listed, by tokenising what each is trained on."""
    study = Study(settings)
    prepare = NextToken(Renderer(load_tokenizer(str(model))), 384).prepare
    total = 0
    for step in study.list_steps():
        if step.kind == "training":
            ids = study.chosen.ids(step.places[0]) or []
            rows = [study.opened.pool[study.opened.row_of[each]] for each in ids]
            total += sum(len(item.input_ids) for item in prepare(rows).items)
    return float(total)


def test_what_is_left_is_counted_and_what_is_there_is_left_out(ask: Ask, tiny_model: Path) -> None:  # noqa: F811
    settings = ask(**SMALL)
    threads = torch.get_num_threads()
    whole = stages(plan_study(settings, QUICK))
    assert torch.get_num_threads() == threads
    assert list(whole) == [
        "read and parse", "selections by bm25", "selections by random", "fine-tuning on 4", "loss, gsm8k",
        "loss, gsm8k, queries", "loss, mbpp", "loss, mbpp, queries",
    ]  # fmt: skip
    # bm25 for each of two targets, a draw for both; measured on the own target, the draw and the model itself on both
    assert whole["fine-tuning on 4"].examples == 4 * (2 + 1)
    assert whole["loss, mbpp"].examples == 6 * (1 + 1 + 1)
    assert whole["loss, mbpp, queries"].examples == 4 * (1 + 1 + 1)
    assert whole["selections by bm25"].note.startswith("2 to make")
    assert not (settings.folder / "results.json").exists()

    run_study(settings)
    done = plan_study(settings, QUICK)
    assert [stage.name for stage in done.stages] == ["read and parse"]
    assert "3 × training" in done.notes[0]

    more = stages(plan_study(ask(**SMALL | {"seeds": [0, 1]}), QUICK))
    assert list(more) == [name for name in whole if not name.startswith("selections")]
    assert more["fine-tuning on 4"].examples == 4 * 2
    assert more["loss, mbpp"].examples == 6


def test_tokens_are_those_of_what_is_chosen(ask: Ask, tiny_model: Path) -> None:  # noqa: F811
    settings = ask(**SMALL)
    study = Study(settings)
    study.chosen.choose_all()
    plan = stages(plan_study(settings, QUICK))
    assert "selections by bm25" not in plan
    assert tokens_of(plan["fine-tuning on 4"]) == 2 * counted(settings, tiny_model)  # two epochs


def test_workers_share_the_time_and_models_that_are_not_kept_take_no_disk(ask: Ask) -> None:  # noqa: F811
    kept = stages(plan_study(ask(**SMALL, baselines=[]), QUICK))["fine-tuning on 4"]
    dropped = stages(plan_study(ask(**SMALL, baselines=[], keep="results", workers=3), QUICK))["fine-tuning on 4"]
    assert (kept.disk > 0, dropped.disk) == (True, 0)
    assert kept.note.startswith("2 × ")
    assert "2 at a time" in dropped.note
    assert kept.tokens == dropped.tokens


def test_what_cannot_be_planned_is_said(ask: Ask, study_data: Path) -> None:  # noqa: F811
    with pytest.raises(SettingsError, match="training all weights cannot be planned"):
        plan_study(ask(**SMALL, train={"adapter": "none"}), QUICK)
    methods = {"bm25": {}, "less": {"store": str(study_data / "none")}}
    plan = plan_study(ask(**SMALL, methods=methods, baselines=["random"]), QUICK)
    assert any("2 cells cannot be done" in note for note in plan.notes)
    assert "selections by less" not in stages(plan)


def test_features_and_warmups_are_planned_once(ask: Ask) -> None:  # noqa: F811
    methods = {name: {"projection_dim": 64, "dtype": "float32"} for name in ("less", "less-rr")}
    plan = stages(plan_study(ask(methods=methods, budgets=[4], seeds=[0], baselines=[]), QUICK))
    first, second = plan["selections by less"], plan["selections by less-rr"]
    assert "warmup" in first.note
    assert "pool features" in first.note
    assert "warmup" not in second.note
    assert "pool features" not in second.note


def test_every_target_has_a_pass_of_its_own_where_features_are_made_for_queries(ask: Ask) -> None:  # noqa: F811
    def pass_of(method: str, targets: list[str]) -> float:
        own = {name: ask().targets[name].model_dump(exclude_defaults=True) for name in targets}
        methods = {method: {"projection_dim": 64, "dtype": "float32"}}
        plan = plan_study(ask(methods=methods, targets=own, budgets=[4], seeds=[0], baselines=[]), QUICK)
        flops = stages(plan)[f"selections by {method}"].flops
        assert flops is not None
        return flops

    assert pass_of("gist", ["gsm8k", "mbpp"]) > 1.5 * pass_of("gist", ["gsm8k"])
    assert pass_of("less", ["gsm8k", "mbpp"]) < 1.5 * pass_of("less", ["gsm8k"])
