"""An audition from settings to what is written: what it measures, that it goes on, and what it refuses."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import handpick
from handpick.auditions import plan as module_plan
from handpick.auditions import queries as module_queries
from handpick.auditions import run as module
from handpick.auditions.chosen import run_auto, take_turns
from handpick.auditions.decision import Decision
from handpick.auditions.rounds import plan_rounds
from handpick.auditions.run import Audition
from handpick.auditions.settings import AuditionSettings
from handpick.data.render import Renderer
from handpick.errors import AuditionError, DataError, FingerprintMismatch, HandpickError, SettingsError
from handpick.evaluation.evaluate import evaluate
from handpick.evaluation.settings import TaskSettings
from handpick.evaluation.task import open_task
from handpick.finetuning.finetune import finetune, load_finetuned
from handpick.layout import AuditionLayout
from handpick.model import load_tokenizer, padding_id
from handpick.objectives.next_token import NextToken
from handpick.selection import Selection
from handpick.studies import trained
from handpick.studies.choosing import Chooser, PlannedSelection
from handpick.studies.trained import single_thread
from tests.auditions.conftest import Ask
from tests.conftest import write_jsonl

PROBE = 0.5
THREE: dict[str, dict[str, Any]] = {"bm25": {}, "longest": {}, "bm25 again": {"method": "bm25"}}


def without_clock(found: Audition) -> dict[str, Any]:
    dropped = ("seconds", "planned_seconds", "choice_seconds")
    return {name: each for name, each in found.to_json().items() if name not in dropped}


def files_without_clock(folder: Path) -> dict[str, bytes]:
    """Return what stands in a folder by name, but for what says how long something took or how many workers did it."""
    timed = {"audition.json", "cost.json", "plan.json", "results.json"}
    files = (path for path in folder.rglob("*") if path.is_file() and path.name not in timed)
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def lines_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_what_the_run_has_parsed_is_not_parsed_again(tmp_path: Path) -> None:
    layout, there = AuditionLayout(tmp_path / "run" / "audition"), tmp_path / "run" / "features" / "parsed"
    layout.folder.mkdir(parents=True)
    for _ in range(2):
        module.share_parsed(layout, there)
        assert layout.parsed.resolve() == there.resolve()
    shutil.move(tmp_path / "run", tmp_path / "moved")  # the link is of one folder to another in it
    moved = AuditionLayout(tmp_path / "moved" / "audition")
    assert moved.parsed.resolve() == (tmp_path / "moved" / "features" / "parsed").resolve()
    module.share_parsed(moved, tmp_path / "elsewhere")
    assert moved.parsed.resolve() == (tmp_path / "moved" / "features" / "parsed").resolve()  # what is there stays
    shutil.rmtree(tmp_path / "moved" / "features")
    module.share_parsed(moved, tmp_path / "elsewhere")
    assert moved.parsed.resolve() == tmp_path / "elsewhere"


@pytest.fixture
def wins(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Let a candidate win, or nobody, whatever was measured."""

    def let(winner: str | None) -> None:
        monkeypatch.setattr(module, "decide", lambda *_: Decision(winner, f"{winner} it is"))

    return let


def test_a_half_that_has_not_chosen_judges_what_was_learnt(
    ask: Ask, tiny_model: Path, audition_data: Path, tmp_path: Path
) -> None:
    prepared = ask(methods="bm25")
    found = prepared.run(PROBE)
    (result,) = found.rounds
    (target,) = prepared.targets
    renderer, pool = Renderer(load_tokenizer(str(tiny_model))), prepared.pool
    row_of = {example_id: row for row, example_id in enumerate(pool.ids())}
    task = open_task(TaskSettings(files=[str(audition_data / "gsm8k.jsonl")]), tmp_path, "t")
    study = prepared.candidates.study(["bm25"], result.round, prepared.targets)
    recipe = module.Study(study).opened.models[tiny_model.name].recipe.model_copy(update={"seed": 0})
    losses = np.full(10, np.nan)
    lines = (audition_data / "gsm8k.jsonl").read_text().splitlines()
    for side in range(2):
        judging = target.side_RQ[0] == side
        half = tmp_path / f"half-{side}.jsonl"
        half.write_text("".join(line + "\n" for line, judges in zip(lines, judging, strict=True) if not judges))
        picked = handpick.select(
            str(audition_data / "pool.jsonl"), str(half), str(tiny_model), method="bm25", budget=16, max_length=384,
            out=tmp_path / f"s{side}",
        )  # fmt: skip
        sequences = NextToken(renderer, 384).prepare([pool[row_of[i]] for i in picked.ids]).items
        with single_thread():
            folder = finetune(
                str(tiny_model),
                sequences,
                recipe,
                tmp_path / f"m{side}",
                pad_id=padding_id(renderer.tokenizer),
                quiet=True,
            )
            predictions = tmp_path / f"p{side}" / "predictions.jsonl"
            evaluate(load_finetuned(folder), renderer, task, max_length=384, predictions=predictions, quiet=True)
        own = [json.loads(line)["scores"]["loss"] for line in predictions.read_text().splitlines()]
        losses[judging] = np.array(own)[judging]
    assert result.lines[0].value == pytest.approx(losses.mean(), rel=1e-9)
    assert result.queries == 10


def test_random_draws_keep_to_what_the_candidates_must_keep_to(ask: Ask, tmp_path: Path, audition_data: Path) -> None:
    pool, asked = lines_of(audition_data / "pool.jsonl")[:20], lines_of(audition_data / "gsm8k.jsonl")
    copies = {f"copy {place}" for place in range(len(asked))}
    write_jsonl(tmp_path / "pool.jsonl", [*pool, *(a | {"id": i} for a, i in zip(asked, sorted(copies), strict=True))])
    given = {"pool": str(tmp_path / "pool.jsonl"), "exclude_overlap": str(audition_data / "gsm8k.jsonl")}
    prepared = ask(**given, methods="bm25", budget="16")
    study = module.Study(prepared.candidates.study(["bm25"], plan_rounds(1, 16, 1, 1, 4)[0], prepared.targets))
    study.chosen.choose_all()
    chosen = {place.method: set[str]() for place in study.opened.places}
    for place in study.opened.places:
        chosen[place.method] |= set(study.chosen.ids(place) or [])
    assert len(chosen["random"]) > 16  # four draws
    assert not copies & (chosen["bm25"] | chosen["random"])


@pytest.mark.slow
def test_a_run_that_was_killed_goes_on_to_the_same_end_on_two_workers(
    ask: Ask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = ask(methods=THREE).run(PROBE)
    assert len(whole.rounds) == 2
    (tmp_path / "run").rename(tmp_path / "whole")  # the same place, which files name
    finetuned, real = [0], trained.finetune

    def killed(*args: Any, **given: Any) -> Path:
        finetuned[0] += 1
        if finetuned[0] == 4:
            raise KeyboardInterrupt
        return real(*args, **given)

    monkeypatch.setattr(trained, "finetune", killed)
    with pytest.raises(KeyboardInterrupt):
        ask(methods=THREE).run(PROBE)
    assert without_clock(ask(methods=THREE, workers=2).run(PROBE)) == without_clock(whole)
    assert files_without_clock(tmp_path / "run") == files_without_clock(tmp_path / "whole")
    assert without_clock(ask(methods=THREE).run(PROBE)) == without_clock(whole)
    assert finetuned[0] == 4  # nothing is trained again
    with pytest.raises(FingerprintMismatch, match="draws is 2 there and 3 here"):
        ask(methods=THREE, draws=3).run(PROBE)


def test_the_winner_chooses_with_all_queries_and_the_whole_budget(
    values: dict[str, Any], own: dict[str, Any], wins: Any, tmp_path: Path
) -> None:
    wins("rds+")
    run = run_auto(values, AuditionSettings.from_values(own | {"methods": "bm25,rds+"}), PROBE)
    alone = handpick.select(**values | {"out": str(tmp_path / "alone"), "method": "rds+"})
    assert run.selection.ids == alone.ids
    assert Selection.open(tmp_path / "run").ids == alone.ids
    (remark,) = run.remarks
    assert remark.said.startswith("rds+ it is")
    assert json.loads((tmp_path / "run" / "remarks.json").read_text())["remarks"][0]["detail"]["audition"]["rounds"]
    # the pool's features of the audition are the run's
    assert not list((tmp_path / "run" / "audition" / "steps").glob("features-*/features/pool-rds*"))
    page = handpick.report(tmp_path / "run")
    assert "rds+ it is" in page.read_text()


@pytest.mark.parametrize("then", [pytest.param("random", marks=pytest.mark.slow), "union", "stop"])
def test_where_nobody_wins_it_is_done_what_was_asked(
    then: str, values: dict[str, Any], own: dict[str, Any], wins: Any, tmp_path: Path
) -> None:
    wins(None)
    methods = "bm25,rds+" if then == "union" else "bm25"
    settings = AuditionSettings.from_values(own | {"methods": methods, "if_none": then})
    if then == "stop":
        with pytest.raises(AuditionError, match="nothing is chosen: None it is"):
            run_auto(values, settings, PROBE)
        assert not (tmp_path / "run" / "selection.json").exists()
        return
    run = run_auto(values, settings, PROBE)
    drawn = handpick.select(
        **{k: v for k, v in values.items() if k not in ("model", "query", "max_length")}
        | {"out": str(tmp_path / "r"), "method": "random"}
    )
    (remark,) = run.remarks
    assert remark.warns
    assert f"--if-none {then}" in remark.said
    if then == "random":
        assert run.selection.ids == drawn.ids
    else:
        by_words = handpick.select(**values | {"out": str(tmp_path / "b"), "method": "bm25"})
        assert len(run.selection) == len(set(run.selection.ids)) == 20
        assert run.selection.ids[0] == by_words.ids[0]
        by_states = handpick.select(**values | {"out": str(tmp_path / "s"), "method": "rds+"})
        assert by_states.ids[0] in run.selection.ids[:2]
        assert set(run.selection.ids) <= {*by_words.ids, *by_states.ids, *drawn.ids}
        assert not list((tmp_path / "run" / "audition" / "steps").glob("features-*/features/pool-rds*"))
        assert Selection.open(tmp_path / "run").record(0) == by_words.record(0)


def test_who_finds_its_choice_taken_takes_its_next() -> None:
    found = take_turns([["a", "b", "c", "d"], ["a", "b", "c", "e"], ["x", "b", "y", "z"]], 6)
    assert found == [(0, 0), (1, 1), (2, 0), (0, 2), (1, 3), (2, 2)]  # a, b, x, c, e, y
    assert take_turns([["a"], ["a", "b", "c"]], 3) == [(0, 0), (1, 1), (1, 2)]


def test_a_limit_leaves_out_the_dearest_by_name(ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    costs = {"bm25": 1.0, "longest": 5.0, "rds+": 900.0}
    monkeypatch.setattr(
        "handpick.auditions.plan._candidate_cost", lambda _, name, __: module_plan.CandidateCost(costs[name], 0.0)
    )
    plan = ask(repeats=2, time_limit="10m").plan(PROBE)
    assert list(plan.candidates) == ["bm25", "longest"]
    assert re.fullmatch(r"with it, all would take \d+ min( \d+ s)? of the 10 min there are", plan.left_out["rds+"])
    assert plan.seconds <= 600
    # it is written down, and another limit does not change it
    assert list(ask(repeats=2, time_limit="10h").plan(PROBE).candidates) == ["bm25", "longest"]


def test_a_limit_that_holds_nothing_is_refused(ask: Ask) -> None:
    with pytest.raises(SettingsError, match=r"the limit of 0.1 s holds no audition: with \S+ alone it takes about"):
        ask(time_limit="0.1s").plan(PROBE)


def test_time_that_is_over_stops_it_and_what_is_done_is_kept(ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([0.0, 1.0, *[1e6] * 1000])
    prepared = ask(methods="bm25", time_limit="1h")
    prepared.plan(PROBE)
    with monkeypatch.context() as patch:
        patch.setattr(module, "time", type("Clock", (), {"monotonic": staticmethod(lambda: next(clock))}))
        found = prepared.run(PROBE)
    assert found.decision == Decision(None, "nothing is decided: the time was over in round 1")
    assert not found.is_over
    monkeypatch.setattr(prepared, "_spent", lambda: 0.0)
    assert prepared.run(PROBE).is_over


def test_a_candidate_that_failed_is_named_in_the_end(
    values: dict[str, Any], own: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Chooser.choose

    def choose(self: Chooser, choice: PlannedSelection) -> list[str]:
        if choice.settings is not None and choice.settings.method == "longest":
            raise MemoryError
        return real(self, choice)

    monkeypatch.setattr(Chooser, "choose", choose)
    (remark,) = run_auto(values, AuditionSettings.from_values(own | {"methods": "bm25,longest"}), PROBE).remarks
    assert "; longest failed and was not judged: out of memory" in remark.said
    assert remark.warns


def test_a_choice_that_takes_more_than_the_limit_leaves_says_so(
    values: dict[str, Any], own: dict[str, Any], wins: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    wins("bm25")
    settings = AuditionSettings.from_values(own | {"methods": "bm25", "time_limit": "1h"})
    assert "more than the limit" not in run_auto(values, settings, PROBE).remarks[0].said
    clock = iter([0.0, 7200.0])
    monkeypatch.setattr(
        "handpick.auditions.chosen.time", type("Clock", (), {"monotonic": staticmethod(lambda: next(clock))})
    )
    (remark,) = run_auto(values, settings, PROBE).remarks
    assert re.search(r"; all took 2 h\b.*, more than the limit of 1 h$", remark.said)
    assert remark.warns


@pytest.mark.slow
def test_a_metric_that_moves_in_no_round_is_said_once(ask: Ask) -> None:
    found = ask(methods=THREE, metric="exact-match", test={"max_new_tokens": 1}).run(PROBE)
    assert [each.metric for each in found.rounds] == ["loss", "loss"]
    assert len(found.hazards) == len(set(found.hazards))
    assert any("the loss judges" in each for each in found.hazards)


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"methods": "bm52"}, "there is no method 'bm52'"),
        ({"methods": "random"}, "there is no candidate beside random draws"),
        ({"methods": "auto,bm25"}, "auto is no candidate of its own audition"),
        ({"methods": {"bm25": {"whitening_damping": -1}}}, "the candidate bm25: "),
        ({"representation": "rds+"}, "every candidate has its own representation"),
        ({"model": None}, "no model given"),
        ({"query": None}, "no query given"),
        ({"budget": "2k tokens"}, "give a budget in examples or percent"),
        ({"metric": "no-such"}, "no metric 'no-such'"),
        ({"metric": "judge:x"}, "an audition cannot judge by judge:x"),
        ({"time_limit": "soon"}, "should be a time such as 30m or 2h"),
        ({"cost_limit": 3}, "--cost-limit is in money, which takes --price-per-hour"),
        ({"store": "x"}, "every candidate has its own store"),
        ({"if_none": "union", "max_share": {"a": "20%"}}, "--if-none union. do not keep to max_share together"),
        ({"test": {"files": "other.jsonl"}}, "test: files is the audition's own, which judges by one metric on all"),
        ({"test": {"limit": 5}}, "test: limit is the audition's own"),
        ({"test": {"metrics": ["loss"]}}, "test: metrics is the audition's own"),
    ],
)
def test_what_cannot_be_held_is_refused_before_any_work(
    given: dict[str, Any], sentence: str, values: dict[str, Any], own: dict[str, Any], tmp_path: Path
) -> None:
    of_own = {name: each for name, each in given.items() if name in AuditionSettings.model_fields}
    of_run = {name: each for name, each in given.items() if name not in of_own}
    merged = {name: each for name, each in (values | of_run).items() if each is not None}
    with pytest.raises(HandpickError, match=sentence):
        module.PreparedAudition(merged, AuditionSettings.from_values(own | of_own))


def test_a_metric_that_grades_no_query_is_one_sentence(ask: Ask) -> None:
    with pytest.raises(DataError, match="nothing can be judged by queries-1a: no unit tests: none in the record"):
        ask(methods="bm25", metric="unit-tests", allow_code_execution=True).run(PROBE)


def test_queries_without_answers_are_judged_by_what_grades_the_models_own(
    ask: Ask, tmp_path: Path, audition_data: Path
) -> None:
    asked = [{"messages": each["messages"][:-1]} for each in lines_of(audition_data / "gsm8k.jsonl")]
    write_jsonl(tmp_path / "asked.jsonl", asked)
    with pytest.raises(DataError, match="have no answers, so there is no loss to judge by: say with --metric"):
        ask(query=str(tmp_path / "asked.jsonl"))
    (tmp_path / "graded.py").write_text(
        "def letters(prompts, completions, records):\n    return [float(sum(map(ord, each))) for each in completions]\n"
    )
    given = {"query": str(tmp_path / "asked.jsonl"), "methods": "bm25", "test": {"max_new_tokens": 8}}
    metric = f"{tmp_path}/graded.py:letters"
    with pytest.raises(DataError, match=r"^the candidate gradient-rr: no query can be used .* leave it out of"):
        ask(**given | {"methods": "bm25,gradient-rr"}, metric=metric).run(PROBE)
    found = ask(**given, metric=metric).run(PROBE)
    (result,) = found.rounds
    assert result.metric.endswith("letters")
    assert result.queries == 10
    assert [line.loss_gain for line in result.lines] == [None]
    assert found.to_json()["rounds"][0]["lines"][0]["loss_gain"] is None


def test_what_would_fool_it_is_said(ask: Ask, tmp_path: Path, audition_data: Path) -> None:
    pool = lines_of(audition_data / "pool.jsonl")
    asked = [_asking(f"Is {n} odd?") for n in range(9)]
    write_jsonl(tmp_path / "q.jsonl", [*asked, _asking("is 0 ODD")])
    write_jsonl(tmp_path / "pool.jsonl", [*pool, asked[3] | {"id": "copy"}])
    prepared = ask(query=str(tmp_path / "q.jsonl"), pool=str(tmp_path / "pool.jsonl"))
    found = module.find_hazards(prepared.targets, prepared.pool, "loss")
    assert [each.partition(":")[2].strip()[:44] for each in found] == [
        "9 different queries are few to judge by",
        "1 of 10 queries ask what another asks; they ",
        "all 10 queries have the answer 'Yes.': whate",
        "1 of 10 queries stand in the pool too: who f",
    ]


def test_repetitions_of_an_example_in_other_words_stay_on_one_side(
    ask: Ask, tmp_path: Path, audition_data: Path
) -> None:
    asked = lines_of(audition_data / "gsm8k.jsonl")
    twice = [
        {**_asking(f"Number {place}, in words {way}?"), "example": place} for place in range(len(asked)) for way in "ab"
    ]
    write_jsonl(tmp_path / "twice.jsonl", twice)
    (target,) = ask(query=str(tmp_path / "twice.jsonl"), repeats=3, test={"example_field": "example"}).targets
    assert target.side_RQ[:, ::2].tolist() == target.side_RQ[:, 1::2].tolist()
    assert int(target.group_Q.max()) + 1 == len(asked)


def test_queries_in_the_pool_that_nobody_may_choose_fool_nobody(ask: Ask, tmp_path: Path, audition_data: Path) -> None:
    queries = audition_data / "gsm8k.jsonl"
    write_jsonl(tmp_path / "pool.jsonl", [*lines_of(audition_data / "pool.jsonl"), *lines_of(queries)])
    in_pool = [
        any("stand in the pool too" in each for each in ask(**given, methods="bm25").run(PROBE).hazards)
        for given in (
            {"pool": str(tmp_path / "pool.jsonl"), "out": str(tmp_path / "as it is")},
            {"pool": str(tmp_path / "pool.jsonl"), "out": str(tmp_path / "without"), "exclude_overlap": str(queries)},
        )
    ]
    assert in_pool == [True, False]


def test_a_target_that_the_metric_says_nothing_of_is_named(ask: Ask, tmp_path: Path, audition_data: Path) -> None:
    asked = [{"messages": each["messages"][:-1]} for each in lines_of(audition_data / "mbpp.jsonl")]
    write_jsonl(tmp_path / "asked.jsonl", asked)
    (tmp_path / "still.py").write_text(
        "def same(prompts, completions, records):\n    return [1.0 for _ in completions]\n"
    )
    target = {"told": str(audition_data / "gsm8k.jsonl"), "asked": str(tmp_path / "asked.jsonl")}
    metric = f"{tmp_path}/still.py:same"
    found = ask(query=None, target=target, methods="bm25", metric=metric, test={"max_new_tokens": 1}).run(PROBE)
    assert (found.rounds[0].metric, found.rounds[0].queries) == ("loss", 10)
    assert "asked: no query has a value in loss: the other targets decide" in found.hazards


def test_queries_with_one_answer_do_not_judge(ask: Ask, tmp_path: Path, audition_data: Path) -> None:
    write_jsonl(tmp_path / "same.jsonl", [_asking(f"Is {n} odd?") for n in range(10)])
    found = ask(query=str(tmp_path / "same.jsonl")).run(PROBE)
    assert found.is_over
    assert found.rounds == []
    assert found.decision.winner is None
    assert found.decision.why.startswith("nothing is shown to beat random here: the queries all have one answer")
    target = {"same": str(tmp_path / "same.jsonl"), "gsm8k": str(audition_data / "gsm8k.jsonl")}
    both = ask(query=None, target=target, methods="bm25", out=str(tmp_path / "both")).run(PROBE)
    alone = ask(methods="bm25", out=str(tmp_path / "alone")).run(PROBE)
    assert both.rounds[0].queries == alone.rounds[0].queries == 10


@pytest.mark.parametrize(
    ("metric", "judges"),
    [("loss", False), ("exact-match:last-number", False), ("choice", False), ("pass@1", True), ("mine.py:f", True)],
)
def test_one_answer_fools_the_metrics_that_look_at_it(ask: Ask, tmp_path: Path, metric: str, judges: bool) -> None:
    write_jsonl(tmp_path / "same.jsonl", [_asking(f"Is {n} odd?") for n in range(10)])
    assert module_queries.can_judge(ask(query=str(tmp_path / "same.jsonl")).targets, metric) == [judges]


def test_a_metric_that_never_moves_does_not_give_way_to_a_loss_that_one_answer_fools(ask: Ask, tmp_path: Path) -> None:
    write_jsonl(tmp_path / "same.jsonl", [_asking(f"Is {n} odd?") for n in range(10)])
    (tmp_path / "graded.py").write_text(
        "def still(prompts, completions, records):\n    return [0.0 for each in completions]\n"
    )
    given = {"query": str(tmp_path / "same.jsonl"), "methods": "bm25", "test": {"max_new_tokens": 4}}
    found = ask(**given, metric=f"{tmp_path}/graded.py:still").run(PROBE)
    assert found.rounds[-1].metric.endswith("still")
    assert found.decision.winner is None
    assert "and there is nothing else to judge by" in found.decision.why


@pytest.mark.parametrize("if_none", ["random", "union"])
def test_if_no_query_can_judge_a_choice_is_made_and_its_report_says_why(
    values: dict[str, Any], own: dict[str, Any], tmp_path: Path, if_none: str
) -> None:
    write_jsonl(tmp_path / "same.jsonl", [_asking(f"Is {n} odd?") for n in range(10)])
    settings = AuditionSettings.from_values(own | {"if_none": if_none})
    made = run_auto(values | {"query": str(tmp_path / "same.jsonl")}, settings, PROBE)
    assert len(made.selection) == 20
    page = handpick.report(values["out"]).read_text(encoding="utf-8")
    assert "the queries all have one answer" in page


def _asking(what: str) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": what}, {"role": "assistant", "content": "Yes."}]}


def test_several_targets_are_judged_together(ask: Ask, audition_data: Path) -> None:
    target = {name: str(audition_data / f"{name}.jsonl") for name in ("gsm8k", "mbpp")}
    prepared = ask(query=None, target=target, methods="bm25")
    found = prepared.run(PROBE)
    assert found.rounds[0].queries == 20
    assert prepared.plan().targets == 2
    assert {path.name for path in (prepared.layout.folder / "queries").iterdir()} == {
        f"{name}{half}.jsonl" for name in target for half in ("", "-1a", "-1b")
    }
