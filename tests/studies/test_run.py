"""A study from settings to results: every step once, whatever is killed, changed or fails."""

import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from handpick.data.pool import Pool
from handpick.data.quarantine import Quarantine
from handpick.data.render import Renderer
from handpick.evaluation.evaluate import evaluate
from handpick.evaluation.settings import TaskSettings
from handpick.evaluation.task import open_task
from handpick.finetuning.finetune import finetune, load_finetuned
from handpick.finetuning.train import recipe_for
from handpick.model import load_base, load_tokenizer, padding_id
from handpick.objectives.next_token import NextToken
from handpick.selection import Selection
from handpick.settings import Settings
from handpick.studies import run as module
from handpick.studies import trained
from handpick.studies.cells import Results
from handpick.studies.choosing import _content as content
from handpick.studies.chosen import CellSelections
from handpick.studies.distances import StudyDistances
from handpick.studies.distances import _step_of as step_of
from handpick.studies.opened import StudyInputs
from handpick.studies.run import Study, plan_steps, run_study
from handpick.studies.settings import StudySettings
from handpick.studies.summary import show_results
from handpick.studies.trained import reason_of, single_thread
from tests.buckets import Bucket, objects_below
from tests.conftest import write_jsonl
from tests.studies.conftest import Ask, numbers, only


def steps_of(settings: StudySettings) -> dict[str, int]:
    """When each finished step was finished, by its name."""
    return {path.parent.name: path.stat().st_mtime_ns for path in (settings.folder / "steps").glob("*/step.json")}


@pytest.fixture
def in_one_thread() -> Iterator[None]:
    """As a study's workers have it: another number of threads adds up in another order."""
    with single_thread():
        yield


@pytest.mark.usefixtures("in_one_thread")
def test_a_cell_is_what_the_parts_say_by_hand(ask: Ask, tiny_model: Path, study_data: Path, tmp_path: Path) -> None:
    settings = ask(budgets=[8], seeds=[3], draws=1)
    results = run_study(settings)
    assert [cell.reason for cell in results.cells if cell.status != "done"] == []
    (cell,) = only(results, method="bm25", target="mbpp")
    pool = Pool.open([study_data / "pool.jsonl"], cache=tmp_path / "p", quarantine=Quarantine(tmp_path / "q"))
    row_of = {example_id: row for row, example_id in enumerate(pool.ids())}
    ids = Selection.open(settings.folder / "steps" / cell.steps["selection"]).ids[:8]
    renderer = Renderer(load_tokenizer(str(tiny_model)))
    sequences = NextToken(renderer, 384).prepare([pool[row_of[i]] for i in ids]).items
    recipe = recipe_for(str(tiny_model), "small", {"epochs": 2, "batch": 4, "max_length": 384, "seed": 3})
    pad_id = padding_id(renderer.tokenizer)
    folder = finetune(str(tiny_model), sequences, recipe, tmp_path / "m", pad_id=pad_id, quiet=True)
    task = open_task(TaskSettings(files=[str(study_data / "mbpp-test.jsonl")]), tmp_path, "t")
    tuned = load_finetuned(folder)
    assert cell.metrics["loss"] == evaluate(tuned, renderer, task, max_length=384, quiet=True).metrics["loss"].value
    dev = open_task(TaskSettings(files=[str(study_data / "mbpp-dev.jsonl")]), tmp_path, "d")
    assert cell.dev_loss == evaluate(tuned, renderer, dev, max_length=384, quiet=True).metrics["loss"].value
    base = load_base(str(tiny_model), next(tuned.parameters()).dtype).eval()
    (before,) = only(results, method="zero-shot", target="mbpp")
    want = evaluate(base, renderer, task, max_length=384, quiet=True).metrics["loss"].value
    assert before.metrics["loss"] == want != cell.metrics["loss"]
    assert cell.chosen == 8


def test_shared_work_is_done_once_and_a_finished_study_does_nothing(ask: Ask) -> None:
    settings = ask()
    results = run_study(settings)
    made = steps_of(settings)
    kinds = {
        kind: sum(name.startswith(f"{kind}-") for name in made) for kind in ("selection", "training", "evaluation")
    }
    # bm25 for two targets and two draws; those at two budgets, bm25 with two seeds; each on its target, draws on both
    assert kinds == {"selection": 2 + 2, "training": 2 * 2 * 2 + 2 * 2, "evaluation": 2 * (2 + 8 + 2 * 4)}
    assert len(results.cells) == 2 + 8 + 8
    for draw in (0, 1):
        cells = only(results, method="random", seed=draw, budget=8)
        assert len({cell.steps["training"] for cell in cells}) == 1
    assert all(step.done for step in plan_steps(settings)[0])
    assert numbers(run_study(settings)) == numbers(results)
    assert steps_of(settings) == made
    assert Results.open(settings.folder / "results.json") == results


def test_a_changed_cell_redoes_only_itself(ask: Ask) -> None:
    first = run_study(ask(budgets=[4], seeds=[0], draws=1))
    before = steps_of(ask())
    second = run_study(ask(budgets=[4, 6], seeds=[0], draws=1))
    after = steps_of(ask())
    assert before.items() <= after.items()
    new = [name.partition("-")[0] for name in after.keys() - before.keys()]
    # selections of 6 for two targets and one draw; three fine-tunings on them, the draw measured on both targets
    assert sorted(new) == ["evaluation"] * 8 + ["selection"] * 3 + ["training"] * 3
    kept = [cell.model_copy(update={"steps": {}}) for cell in second.cells if cell.budget != 6]
    assert kept == [cell.model_copy(update={"steps": {}}) for cell in first.cells]


def take_away(folder: Path) -> dict[str, bytes]:
    """Every file of a folder but what the clock says, which is removed with it."""
    files = {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    shutil.rmtree(folder)
    return {name: content for name, content in files.items() if Path(name).name != "cost.json"}


def test_a_study_that_stops_anywhere_ends_with_the_same_results(ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    small = {"budgets": [4], "draws": 1}
    whole, files = run_study(ask(**small)), take_away(ask().folder)
    real = module.run_jobs

    def stopping(jobs: Any, calls: Any) -> Any:
        for number, result in enumerate(real(jobs, calls)):
            yield result
            if number == 1:
                raise KeyboardInterrupt

    monkeypatch.setattr(module, "run_jobs", stopping)
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            run_study(ask(**small))
    half = Results.open(ask().folder / "results.json")
    assert {"done", "missing"} == {cell.status for cell in half.cells}
    monkeypatch.undo()
    assert numbers(run_study(ask(**small))) == numbers(whole)
    assert take_away(ask().folder) == files


@pytest.mark.slow
def test_a_study_that_is_killed_ends_with_the_same_results(ask: Ask, tmp_path: Path) -> None:
    whole = run_study(ask())
    n_steps, files = len(steps_of(ask())), take_away(ask().folder)
    path = tmp_path / "study.yaml"
    path.write_text(ask().model_dump_json(exclude_none=True))
    program = "import sys; from handpick.studies.run import *; run_study(StudySettings.from_yaml(sys.argv[1]))"
    process = subprocess.Popen([sys.executable, "-c", program, str(path)])
    while sum(name.startswith("training") for name in steps_of(ask())) < 3:
        assert process.poll() is None
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert len(steps_of(ask())) < n_steps
    assert numbers(run_study(ask())) == numbers(whole)
    assert take_away(ask().folder) == files


@pytest.mark.slow
def test_the_number_of_workers_changes_no_file(ask: Ask) -> None:
    one = run_study(ask(budgets=[4]))
    files = take_away(ask().folder)
    two = run_study(ask(budgets=[4], workers=2))
    assert numbers(one) == numbers(two)
    assert take_away(ask().folder) == files


def test_what_cannot_run_fails_with_its_reason_and_the_rest_goes_on(ask: Ask, study_data: Path) -> None:
    targets = {
        "gsm8k": {"query": str(study_data / "gsm8k-dev.jsonl"), "test": str(study_data / "gsm8k-test.jsonl")},
        "gone": {"query": str(study_data / "gone.jsonl"), "test": str(study_data / "gsm8k-test.jsonl")},
    }
    methods = {"bm25": {}, "mine": {"method": "less", "store": str(study_data / "no-store")}}
    results = run_study(ask(targets=targets, methods=methods, budgets=[4, 400], seeds=[0], draws=1))
    for cell in results.cells:
        if cell.target == "gone":
            assert "gone.jsonl" in (cell.reason or "")
        elif cell.budget == 400:
            assert cell.reason == "the budget is 400, and 40 of the pool can be trained on"
        elif cell.method == "mine":
            assert "no-store" in (cell.reason or "")
        else:
            assert cell.status == "done"
            continue
        assert cell.status == "failed"
    assert sum(cell.status == "done" for cell in results.cells) == 3


def test_a_target_that_no_metric_can_grade_is_found_out_before_any_work(
    ask: Ask, study_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = {"query": str(study_data / "gsm8k-dev.jsonl")}
    asked = [{"id": f"r{i}", "prompt": "Which?", "answer": f"answer{i}"} for i in range(4)]
    for name, records in {"none": asked, "some": [*asked, {"id": "ok", "prompt": "Which?", "answer": "B"}]}.items():
        write_jsonl(tmp_path / f"{name}.jsonl", records)
    targets = {
        name: target | {"test": {"files": str(tmp_path / f"{name}.jsonl"), "metrics": "choice"}}
        for name in ("none", "some")
    }
    inputs = StudyInputs(ask(targets=targets))
    assert set(inputs.targets) == {"some"}
    assert not any(inputs.is_open(place) for place in inputs.places if place.target == "none")
    (reason,) = set(inputs.reasons.values())
    assert "is no choice: in the record r0" in reason
    assert "(choice can grade none of the 4 records of test-none)" in reason
    said = " ".join(capsys.readouterr().err.split())
    assert "choice cannot grade 4 of the 5 records of test-some, which are left out of it; r0: the reference" in said


@pytest.mark.parametrize("fails", [0, 1])
def test_a_choice_that_fails_and_is_made_later_leaves_the_files_of_an_unbroken_study(
    fails: int, ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    from handpick.studies import choosing

    settings = ask(budgets=[4], seeds=[0], draws=1)  # bm25 and a random draw, whose rows are the pool alone

    def choose() -> dict[str, bytes]:
        CellSelections(StudyInputs(settings)).choose_all()
        found = (settings.folder / "steps").rglob("*")
        return {str(path): path.read_bytes() for path in found if path.is_file() and path.name != "cost.json"}

    whole = choose()
    shutil.rmtree(settings.folder)
    select, calls = choosing.run_select, iter(range(99))

    def fail_once(*args: Any, **kwargs: Any) -> Any:
        if next(calls) == fails:
            raise MemoryError
        return select(*args, **kwargs)

    monkeypatch.setattr(choosing, "run_select", fail_once)
    assert choose().keys() < whole.keys()
    assert choose() == whole


def test_distances_stand_in_one_order_whatever_was_measured_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from handpick.distance import Distances
    from handpick.studies import distances

    monkeypatch.setattr(distances, "run_to_features", lambda settings: (None, None, {"x": 0}))
    monkeypatch.setattr(
        distances,
        "distances_of",
        lambda features, columns: dict.fromkeys(columns, Distances(0.5, 0.5, 0.5, "exact", 0.5, 0.5)),
    )
    for folder, parts in (("whole", ["abc"]), ("broken", ["b", "abc"])):
        for names in parts:
            distances.measure(Settings(pool=["p"], method="random"), {name: ["x"] for name in names}, tmp_path / folder)
    whole, broken = ((tmp_path / folder / "distances.json").read_bytes() for folder in ("whole", "broken"))
    assert whole == broken


def test_a_training_that_fails_is_a_failed_cell_and_is_tried_again(ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:

    def full(*args: Any, **kwargs: Any) -> Path:
        raise MemoryError("no room for 3 GB")

    with monkeypatch.context() as patched:
        patched.setattr(trained, "finetune", full)
        failed = run_study(ask(budgets=[4], seeds=[0], draws=1))
    assert {cell.method for cell in failed.cells if cell.status == "done"} == {"zero-shot"}
    assert {cell.reason for cell in failed.cells if cell.status == "failed"} == {"out of memory: no room for 3 GB"}
    again = run_study(ask(budgets=[4], seeds=[0], draws=1))
    assert {cell.status for cell in again.cells} == {"done"}


def test_progress_counts_what_is_done_and_the_failed_are_said(
    ask: Ask, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:

    told: list[float] = []

    @contextmanager
    def bar(what: str, total: int, done: int = 0) -> Iterator[Callable[[float], None]]:
        told.extend((total, done))
        yield told.append

    def failing(*args: Any, **kwargs: Any) -> Path:
        if len(args[1]) == 8:
            raise MemoryError("no room")
        return finetune(*args, **kwargs)

    run_study(ask(budgets=[4], baselines=["zero-shot"], seeds=[0]))
    capsys.readouterr()
    monkeypatch.setattr(module, "progress", bar)
    monkeypatch.setattr(trained, "finetune", failing)
    settings = ask(budgets=[4, 6, 8, 400], baselines=["zero-shot"], seeds=[0])
    results = run_study(settings)
    done = sum(cell.status == "done" for cell in results.cells)
    assert told[:2] == [10, 4]  # two targets: zero-shot and 4 are there
    assert sum(told[1:]) == done == 6
    assert "4 of 10 cells failed" in capsys.readouterr().err


def test_a_metric_of_ones_own_is_measured(ask: Ask, study_data: Path, tmp_path: Path) -> None:
    (tmp_path / "my_metrics.py").write_text(
        "def politeness(prompts, completions, records):\n    return [len(text) % 7 for text in completions]\n"
    )
    metric = f"{tmp_path / 'my_metrics.py'}:politeness"
    target = {
        "query": str(study_data / "mbpp-dev.jsonl"), "test": str(study_data / "mbpp-test.jsonl"),
        "metrics": ["loss", metric], "max_new_tokens": 8,
    }  # fmt: skip
    settings = ask(targets={"mbpp": target}, budgets=[4], seeds=[0], draws=1, max_length=448)
    results = run_study(settings)
    assert {cell.status for cell in results.cells} == {"done"}
    for cell in results.cells:
        path = settings.folder / "steps" / cell.steps["evaluation"] / "predictions.jsonl"
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        answers = [json.loads(line).get("answer") for line in path.read_text().splitlines()]
        scores = [len(answer) % 7 for answer in answers if answer is not None]
        assert scores
        assert cell.metrics[metric] == pytest.approx(np.mean(scores))


def test_a_reason_is_one_line() -> None:
    assert reason_of(RuntimeError("a\n  b")) == "RuntimeError: a b"


def test_a_smaller_budget_is_a_prefix_but_where_shares_break_it(ask: Ask) -> None:
    shared = run_study(ask(seeds=[0], draws=1, baselines=[]))
    assert len({cell.steps["selection"] for cell in only(shared, target="mbpp")}) == 1
    split = run_study(ask(methods={"bm25": {"max_share": {"*": 1.0}}}, seeds=[0], draws=1, baselines=[]))
    assert len({cell.steps["selection"] for cell in only(split, target="mbpp")}) == 2


def test_the_warmup_and_the_features_are_shared(ask: Ask) -> None:
    settings = ask(
        methods={name: {"projection_dim": 64, "dtype": "float32"} for name in ("less", "less-rr")}, budgets=[4],
        seeds=[0], baselines=["random"], draws=1,
    )  # fmt: skip
    results = run_study(settings)
    assert [cell.reason for cell in results.cells if cell.status != "done"] == []
    names = [path.name.partition("-")[0] for path in (settings.folder / "steps").iterdir()]
    assert names.count("warmup") == 1
    assert names.count("selection") == 2 * 2 + 1
    stores = list((settings.folder / "steps").glob("features-*/features/pool"))
    assert len(stores) == 1
    for cell in results.cells:
        assert set(cell.distances) == {"less"}
        assert all(np.isfinite(list(cell.distances["less"].values())))
    reused = run_study(
        ask(methods={"less": {"store": str(stores[0])}}, budgets=[4], seeds=[0], baselines=[], draws=1)
    )  # fmt: skip
    for target in ("gsm8k", "mbpp"):
        (by_store,), (made,) = only(reused, target=target), only(results, target=target, method="less")
        assert by_store.metrics == made.metrics


def test_a_prefilter_makes_another_choice_in_a_folder_that_targets_share(ask: Ask) -> None:
    methods = {"rds+": {}} | {
        name: {"method": "rds+", "prefilter": "bm25", "prefilter_share": share, "prefilter_check": 4}
        for name, share in (("half", "50%"), ("more", "75%"))
    }
    study = module.Study(ask(methods=methods, budgets=[4], seeds=[0], baselines=[], draws=1))
    study.chosen.choose_all()
    assert study.opened.reasons == {}
    made = {choice.name: choice for choice, _ in study.chosen.by_choice().values()}
    assert len(made) == 6
    assert all(len(study.chosen.chooser.read_ids(choice) or []) == 4 for choice in made.values())
    folders = {choice.settings.folder for choice in made.values() if choice.settings and choice.settings.prefilter}
    assert len(folders) == 2
    assert [len(list((folder / "prefilter").iterdir())) for folder in folders] == [2, 2]


def test_quantiles_and_the_full_pool_are_trained_on(ask: Ask) -> None:
    settings = ask(
        quantiles={"bins": 2, "each": 4}, budgets=[4], seeds=[0], baselines=["full"],
        targets={"mbpp": ask().targets["mbpp"].model_dump(exclude_defaults=True)},
    )  # fmt: skip
    results = run_study(settings)
    assert [cell.reason for cell in results.cells if cell.status != "done"] == []
    at_budget, nearest, farther, full = results.cells
    assert (nearest.quantile, farther.quantile, full.method, full.chosen) == (0, 1, "full", 40)
    assert nearest.metrics == at_budget.metrics  # bm25 takes turns too
    assert nearest.steps["training"] == at_budget.steps["training"]
    assert farther.metrics != nearest.metrics


def test_what_cannot_be_trained_on_takes_no_place(ask: Ask, study_data: Path, tmp_path: Path) -> None:
    long = {"messages": [{"role": "user", "content": "why " * 2000}, {"role": "assistant", "content": "so"}]}
    pool = [json.loads(line) for line in (study_data / "pool.jsonl").read_text().splitlines()[:16]]
    file = write_jsonl(tmp_path / "pool.jsonl", [record for each in pool for record in (each, long)])
    results = run_study(
        ask(pool=str(file), methods=[], baselines=["random", "full"], budgets=[12], seeds=[0], draws=2)
    )  # fmt: skip
    assert [cell.chosen for cell in only(results, method="random")] == [12] * 4
    assert [cell.chosen for cell in only(results, method="full")] == [16] * 2


def test_a_method_that_reads_further_than_the_training_fills_its_budget_too(
    ask: Ask, study_data: Path, tmp_path: Path
) -> None:
    """Its features have records that leave nothing to train on."""
    long = {"messages": [{"role": "user", "content": "why " * 450}, {"role": "assistant", "content": "so"}]}
    pool = [json.loads(line) for line in (study_data / "pool.jsonl").read_text().splitlines()[:8]]
    file = write_jsonl(tmp_path / "pool.jsonl", [record for each in pool for record in (each, long)])
    methods = {"less-rr": {"projection_dim": 64, "dtype": "float32", "max_length": 512}, "bm25": {"max_length": 512}}
    results = run_study(
        ask(pool=str(file), methods=methods, baselines=["longest"], budgets=[8], seeds=[0], max_length=None,
            train={"epochs": 1, "batch": 4, "max_length": 384})
    )  # fmt: skip
    assert [(cell.chosen, cell.reason) for cell in results.cells] == [(8, None)] * 6


def test_all_but_a_record_without_an_answer_can_be_asked_for(ask: Ask, study_data: Path, tmp_path: Path) -> None:
    pool = [json.loads(line) for line in (study_data / "pool.jsonl").read_text().splitlines()[:8]]
    prompt = {"messages": [{"role": "user", "content": "and now?"}]}
    file = write_jsonl(tmp_path / "pool.jsonl", [*pool, prompt])
    results = run_study(ask(pool=str(file), baselines=["random", "longest"], budgets=[4, 8], seeds=[0], draws=1))
    assert [cell.reason for cell in results.cells if cell.chosen != cell.budget] == []


def test_another_chat_template_is_another_warmup_and_another_choice(ask: Ask, tiny_model: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny_model, tmp_path / "model")

    def names() -> set[str]:
        steps, _ = plan_steps(ask(models=str(tmp_path / "model"), methods=["less"], baselines=[]))
        return {step.name for step in steps if step.kind in ("warmup", "selection")}

    before = names()
    assert before == names()
    template = (tmp_path / "model" / "chat_template.jinja").read_text()
    (tmp_path / "model" / "chat_template.jinja").write_text(template + " ")
    assert before.isdisjoint(names())


def test_a_choice_that_half_is_gone_fails_its_cells_alone(ask: Ask) -> None:
    settings = ask(budgets=[4], seeds=[0], draws=1)
    results = run_study(settings)
    (broken,) = only(results, method="bm25", target="mbpp")
    folder = settings.folder / "steps" / broken.steps["selection"]
    (folder / "selected.jsonl").unlink()
    again = run_study(settings)
    (failed,) = only(again, status="failed")
    assert (failed.method, failed.target) == ("bm25", "mbpp")
    assert str(folder) in str(failed.reason)
    assert len(only(again, status="done")) == len(results.cells) - 1
    shutil.rmtree(folder)
    assert numbers(run_study(settings)) == numbers(results)


def test_test_records_that_are_left_out_are_counted(
    ask: Ask, study_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tests = [json.loads(line) for line in (study_data / "mbpp-test.jsonl").read_text().splitlines()]
    tests[0]["messages"][0]["content"] = "why " * 2000
    target = {"query": str(study_data / "mbpp-dev.jsonl"), "test": str(write_jsonl(tmp_path / "test.jsonl", tests))}
    results = run_study(ask(targets={"mbpp": target}, budgets=[4], seeds=[0], draws=1))
    assert {cell.left_out for cell in results.cells} == {1}
    show_results(results, Console(file=(shown := StringIO()), width=200))
    assert "1 test records of mbpp are not in every metric" in shown.getvalue()


def test_choices_that_are_too_large_for_distances_are_counted(
    ask: Ask, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("ot")
    monkeypatch.setattr("handpick.studies.distances.LARGEST", 5)
    study = Study(ask(baselines=["random"], draws=2))
    study.chosen.choose_all()
    StudyDistances(study.opened, study.chosen).measure_all()
    said = " ".join(capsys.readouterr().err.split())
    # of 8 examples: bm25's for each target, and two draws for both
    assert "no distances of 4 choices of more than 5 examples, which take too long" in said


def test_distances_are_named_by_all_that_is_measured(ask: Ask, study_data: Path) -> None:
    def names(**own: Any) -> list[str]:
        settings = ask(methods={"nice": {"reward": "rouge-l", **own}}, baselines=[], budgets=[4], seeds=[0])
        study = module.Study(settings)
        return [step_of(choice) for choice, _ in study.chosen.by_choice().values()]

    assert names() == names(algorithm="round-robin")
    different = [names(), names(reward="squad-f1"), names(advantage="rloo"), names(samples=4)]
    assert len({name for each in different for name in each}) == 2 * 4


def test_a_folder_of_folders_is_told_by_all_that_it_holds(tmp_path: Path) -> None:
    (tmp_path / "encoder" / "1_Pooling").mkdir(parents=True)
    (tmp_path / "encoder" / "1_Pooling" / "config.json").write_text("{}")
    before = content(str(tmp_path / "encoder"))
    assert content(str(tmp_path / "encoder")) == before
    (tmp_path / "encoder" / "1_Pooling" / "config.json").write_text("[]")
    assert content(str(tmp_path / "encoder")) != before


def test_a_study_in_a_bucket_has_the_cells_of_one_in_a_folder_and_goes_on_elsewhere(
    ask: Ask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Bucket.empty()
    small = {"budgets": [4], "seeds": [0], "draws": 1, "baselines": ["random"], "keep": "results"}
    place = "bucket://bucket/runs/study"
    monkeypatch.setenv("HANDPICK_CACHE", str(tmp_path / "one"))
    made = run_study(ask(**small, out=place))
    assert numbers(made) == numbers(run_study(ask(**small)))
    before = objects_below(place)
    monkeypatch.setenv("HANDPICK_CACHE", str(tmp_path / "other"))
    monkeypatch.setattr(module, "run_jobs", lambda jobs, calls: iter([] if not list(jobs) else [1 / 0]))
    assert numbers(run_study(ask(**small, out=place))) == numbers(made)
    after = objects_below(place)
    assert {name for name in after if after[name] != before.get(name)} == {"objects.json"}
