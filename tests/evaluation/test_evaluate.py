"""A task's metrics against plain loops, one record at a time; what is kept, left out and refused."""

import json
from collections.abc import Callable, Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

import handpick.evaluation.answers as answers_module
from handpick.data.render import IGNORED, Renderer
from handpick.errors import DataError, ModelError, SettingsError
from handpick.evaluation.estimate import Estimate
from handpick.evaluation.evaluate import Evaluation, evaluate
from handpick.evaluation.task import Task, prompt_of
from handpick.rewards.ifeval import ACCURACIES
from handpick.sampling.generate import Sampling
from handpick.sandbox.find import why_not
from tests.judge.server import KEY, KEY_ENV, running, says

Make = Callable[..., Task]


def qa(i: int, **more: Any) -> dict[str, Any]:
    user = {"role": "user", "content": f"What colour has thing {i}? " + "Think. " * (i % 4)}
    said = {"role": "assistant", "content": ["red", "light green"][i % 2]}
    return {"id": f"q{i}", "messages": [user, said], **more}


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@torch.no_grad()
def mean_log(model: Any, renderer: Renderer, record: dict[str, Any], answer: str | None = None) -> tuple[float, int]:
    """Log-probability of a record's answer, its end with it, summed over whole logits, and its tokens."""
    from handpick.data.formats import parse_record

    turns = [*record["messages"][:-1], {"role": "assistant", "content": answer}] if answer else record["messages"]
    rendered = renderer(parse_record({"messages": turns}).messages, 512)
    logits_TV = model(input_ids=torch.tensor([rendered.input_ids])).logits[0]
    target_T = torch.tensor(rendered.labels[1:])
    kept_T = target_T != IGNORED
    return -float(cross_entropy(logits_TV[:-1][kept_T].double(), target_T[kept_T], reduction="sum")), int(kept_T.sum())


def greedy(model: Any, renderer: Renderer, record: dict[str, Any], tokens: int) -> str:
    from handpick.data.formats import parse_record

    ids = renderer.prompt(parse_record(record).messages[:-1])
    drawn: list[int] = []
    for _ in range(tokens):
        with torch.no_grad():
            token = int(model(input_ids=torch.tensor([ids + drawn])).logits[0, -1].argmax())
        if token in renderer.end_ids:
            break
        drawn.append(token)
    return str(renderer.tokenizer.decode(drawn, skip_special_tokens=True))


@pytest.mark.parametrize("batch_tokens", [1, None])
def test_loss_is_the_mean_over_examples_of_the_mean_over_tokens(
    model: nn.Module, renderer: Renderer, task_of: Make, batch_tokens: int | None
) -> None:
    items = [qa(i, example=i // 3, subtask="ab"[i % 2]) for i in range(9)]
    task = task_of(items, "loss", example_field="example")
    found = evaluate(model, renderer, task, max_length=512, batch_tokens=batch_tokens, quiet=True)
    loss = np.array([-s / n for s, n in (mean_log(model, renderer, item) for item in items)])
    assert found.metrics["loss"].value == pytest.approx(loss.reshape(3, 3).mean(1).mean(), rel=1e-5)
    assert found.metrics["loss"].n == 3
    assert found.metrics["loss"].low < found.metrics["loss"].value < found.metrics["loss"].high

    def of_subtask(which: int) -> float:
        rows = [i for i in range(9) if i % 2 == which]
        return float(np.mean([np.mean([loss[i] for i in rows if i // 3 == e]) for e in range(3)]))

    assert found.subtasks["a"]["loss"].value == pytest.approx(of_subtask(0), rel=1e-5)
    assert found.macro["loss"].value == pytest.approx((of_subtask(0) + of_subtask(1)) / 2, rel=1e-5)
    assert (found.records, found.left_out) == (9, 0)
    assert Evaluation.from_json(json.loads(json.dumps(found.to_json()))) == found


def test_choosing_by_likelihood(model: nn.Module, renderer: Renderer, task_of: Make, tmp_path: Path) -> None:
    """Summed and length-normalised against whole logits; they do not always agree here."""
    choices = ["red", "light green", "a very dark blue indeed"]
    items = [qa(i) for i in range(6)] + [qa(6, choices=["light green", "red"])]
    task = task_of(items, "choice-likelihood", "choice-likelihood:mean", choices=choices)
    path = tmp_path / "predictions.jsonl"
    found = evaluate(model, renderer, task, max_length=512, predictions=path, quiet=True)
    picked = {"choice-likelihood": [], "choice-likelihood:mean": []}  # type: ignore[var-annotated]
    for item in items:
        own = item.get("choices", choices)
        each = [mean_log(model, renderer, item, choice) for choice in own]
        picked["choice-likelihood"].append(own[int(np.argmax([s for s, _ in each]))])
        picked["choice-likelihood:mean"].append(own[int(np.argmax([s / n for s, n in each]))])
    right = [item["messages"][-1]["content"] for item in items]
    for metric, want in picked.items():
        assert [line["picked"][metric] for line in lines(path)] == want
        assert found.metrics[metric].value == np.mean([a == b for a, b in zip(want, right, strict=True)])
    assert picked["choice-likelihood"] != picked["choice-likelihood:mean"]


def test_choices_may_be_letters_and_whole_sentences(model: nn.Module, renderer: Renderer, task_of: Make) -> None:
    said = [{"role": "user", "content": "Is it?"}, {"role": "assistant", "content": "the correct answer is true"}]
    items = [
        {"id": "sentence", "messages": said, "answer": "true", "choices": ["The correct answer is true.", "it is not"]},
        {"id": "letter", "messages": said, "answer": "B", "choices": ["one", "two"]},
    ]
    found = evaluate(model, renderer, task_of(items, "choice-likelihood"), max_length=512, quiet=True)
    assert found.records == 2


@pytest.mark.parametrize(
    ("record", "settings", "complaint"),
    [
        (qa(0), {}, r"^no choices: the record q0 has 0 different ones"),
        (qa(0), {"choices": ["x", "x"]}, r"^no choices: the record q0 has 1 different ones"),
        (qa(0), {"choices": ["blue", "pink"]}, r"^the reference is none of the choices: in the record q0 \('red'"),
        (qa(0, choices="red"), {}, r"^`choices` is no list of texts: in the record q0;"),
    ],
)  # fmt: skip
def test_choices_that_cannot_be_chosen_from(
    model: nn.Module, renderer: Renderer, task_of: Make, record: dict[str, Any], settings: dict[str, Any],
    complaint: str,
) -> None:  # fmt: skip
    with pytest.raises(DataError, match=complaint):
        evaluate(model, renderer, task_of([record], "choice-likelihood", **settings), max_length=512, quiet=True)


def test_rewards_score_the_greedy_answer(model: nn.Module, renderer: Renderer, task_of: Make, tmp_path: Path) -> None:
    """Half of the references are what the model says, found by a loop without batches."""
    items = [qa(i, subtask="s") for i in range(6)]
    said = [greedy(model, renderer, item, 4) for item in items]
    for i, item in enumerate(items):
        item["answer"] = said[i] if i % 2 else "something else"
    path = tmp_path / "predictions.jsonl"
    task = task_of(items, "exact-match", "squad-f1", "loss")
    found = evaluate(model, renderer, task, max_length=512, predictions=path, quiet=True)
    assert found.metrics["exact-match"].value == 0.5
    assert found.metrics["exact-match"].low < 0.5 < found.metrics["exact-match"].high
    kept = lines(path)
    assert [line["answer"] for line in kept] == said
    assert [line["scores"]["exact-match"] for line in kept] == [0, 1] * 3
    assert set(kept[0]) == {"id", "example", "subtask", "prompt", "answer", "scores"}
    assert kept[1]["prompt"] == items[1]["messages"][:1]
    assert found.metrics["squad-f1"].value == np.mean([line["scores"]["squad-f1"] for line in kept])


def test_a_metric_of_ones_own_and_a_task_of_ones_own(
    model: nn.Module, renderer: Renderer, tmp_path: Path, task_of: Make
) -> None:
    """As docs/evaluation.md has them."""
    mine = tmp_path / "mine.py"
    mine.write_text(
        "def short(prompts, completions, records):\n"
        "    return [len(text) < record['at_most'] for text, record in zip(completions, records)]\n"
    )
    items = [{"id": str(i), "prompt": f"Say {i}", "at_most": 1000 * (i % 2)} for i in range(4)]
    found = evaluate(model, renderer, task_of(items, f"{mine}:short"), max_length=512, quiet=True)
    assert found.metrics[f"{mine}:short"].value == 0.5
    assert len(mine.read_text().splitlines()) < 10


def test_ifeval_gives_four_accuracies(model: nn.Module, renderer: Renderer, task_of: Make) -> None:
    """Every answer ends, so "no comma" and "no word 'zebra'" hold, and a title never does."""
    zebra = {"forbidden_words": ["zebra"]}
    title = ["keywords:forbidden_words", "detectable_format:title"]
    items = [
        {"id": "a", "prompt": "Go", "instruction_id_list": title, "kwargs": [zebra, {}]},
        {"id": "b", "prompt": "Now go", "instruction_id_list": ["keywords:forbidden_words"], "kwargs": [zebra]},
    ]
    found = evaluate(model, renderer, task_of(items, "ifeval", max_new_tokens=16), max_length=512, quiet=True)
    assert list(found.metrics) == [f"ifeval:{each}" for each in ACCURACIES]
    for how in ("strict", "loose"):
        assert found.metrics[f"ifeval:prompt-{how}"].value == 0.5
        assert found.metrics[f"ifeval:instruction-{how}"].value == pytest.approx(2 / 3)


needs_sandbox = pytest.mark.skipif(
    bool(why_not("bwrap") and why_not("namespaces")), reason=f"{why_not('bwrap')}; {why_not('namespaces')}"
)


@needs_sandbox
def test_pass_at_k_counts_the_samples_that_pass_all_tests(
    model: nn.Module, renderer: Renderer, task_of: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The model cannot write code, so its samples are replaced: 1 of 4 right for one record, 0 of 4 for the other."""
    right, wrong, half = "def f(x):\n    return x + 1", "def f(x):\n    return x", "def f(x):\n    return 2"
    written = {"a": [wrong, half, right, "no code"], "b": [wrong, wrong, half, half]}
    monkeypatch.setattr(
        "handpick.evaluation.evaluate.generate_answers", lambda *given, **more: [written["a"], written["b"]]
    )
    items = [{"id": i, "prompt": f"{i}: add one", "tests": ["assert f(1) == 2", "assert f(2) == 3"]} for i in "ab"]
    task = task_of(items, "pass@1", "pass@2", samples=4)
    path = tmp_path / "predictions.jsonl"
    found = evaluate(
        model, renderer, task, max_length=512, predictions=path, allow_code_execution=True, quiet=True
    )  # fmt: skip
    assert found.metrics["pass@1"].value == pytest.approx((1 / 4 + 0) / 2)
    assert found.metrics["pass@2"].value == pytest.approx((1 / 2 + 0) / 2)
    assert [line["samples"] for line in lines(path)] == list(written.values())


def test_code_is_not_run_without_leave(model: nn.Module, renderer: Renderer, task_of: Make) -> None:
    items = [{"id": "a", "prompt": "add one", "tests": ["assert f(1) == 2"]}]
    for metric in ("pass@1", "unit-tests"):
        with pytest.raises(SettingsError, match=r"give --allow-code-execution"):
            evaluate(model, renderer, task_of(items, metric), max_length=512, quiet=True)


# --- what is kept ---


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[list[int]]]:
    """Every prompt that is given to the model."""
    prompts: list[list[int]] = []
    own = answers_module.sample

    def counting(model: Any, tokenizer: Any, given: Any, *rest: Any, skip: Any, **more: Any) -> Any:
        for group in own(model, tokenizer, given, *rest, rows=2, skip=skip, **more):
            prompts.extend(given[i] for i in group.prompts)
            yield group

    monkeypatch.setattr(answers_module, "sample", counting)
    return prompts


def test_answers_are_generated_once(
    model: nn.Module, renderer: Renderer, task_of: Make, tmp_path: Path, asked: list[list[int]]
) -> None:
    items, path = [qa(i) for i in range(6)], tmp_path / "predictions.jsonl"
    first = evaluate(model, renderer, task_of(items, "exact-match"), max_length=512, predictions=path, quiet=True)
    assert len(asked) == 6
    again = evaluate(
        model, renderer, task_of(items, "exact-match", "rouge-l"), max_length=512, predictions=path, quiet=True
    )
    assert len(asked) == 6
    assert again.metrics["exact-match"] == first.metrics["exact-match"]
    evaluate(model, renderer, task_of([*items, qa(7)], "exact-match"), max_length=512, predictions=path, quiet=True)
    assert len(asked) < 6 + 7  # the others of the new one's group at most
    n = len(asked)
    task = task_of(items, "exact-match", max_new_tokens=9)
    evaluate(model, renderer, task, max_length=512, predictions=path, quiet=True)
    assert len(asked) == n + 6  # longer answers are other answers


def test_answers_that_had_no_room_to_end_are_counted(
    model: nn.Module, renderer: Renderer, task_of: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is said again where they were kept and none is generated."""
    items = [qa(i) for i in range(6)]
    task, path = task_of(items, "exact-match", max_new_tokens=3), tmp_path / "predictions.jsonl"
    for _ in range(2):
        evaluate(model, renderer, task, max_length=512, predictions=path)
        said = " ".join(capsys.readouterr().err.split())
        assert "6 of 6 answers were cut off at 3 tokens, the most that an answer may have" in said
    evaluate(model, renderer, task, max_length=512, predictions=path, quiet=True)
    assert "cut off" not in capsys.readouterr().err


def test_drawn_answers_do_not_depend_on_what_was_run_before(
    model: nn.Module, renderer: Renderer, task_of: Make, tmp_path: Path
) -> None:
    """A limit first and then the whole draws what the whole alone draws, and the other way round.

    Two prompts are answered together: by length (q0, q4), (q1, q5), (q2, q6), (q3), but (q2, q3) among the first four.
    """
    prompts = [renderer.prompt(prompt_of(example)) for example in task_of([qa(i) for i in range(7)]).examples]
    sampling = Sampling(samples=64, temperature=0.8, max_new_tokens=2)

    def drawn(some: list[list[int]], folder: str) -> list[list[str]]:
        return answers_module.generate_answers(
            model, renderer, some, sampling, seed=0, folder=tmp_path / folder, identity={"model": "m"}, quiet=True
        )  # fmt: skip

    alone = drawn(prompts, "alone")
    few = drawn(prompts[:4], "both")
    assert few[3] != alone[3]
    assert drawn(prompts, "both") == alone
    assert drawn(prompts[:4], "both") == few


def test_another_models_answers_are_not_taken(
    model: nn.Module, renderer: Renderer, task_of: Make, tmp_path: Path, asked: list[list[int]]
) -> None:
    import copy

    other = copy.deepcopy(model)
    next(other.parameters()).data[3] += 1
    items, path = [qa(i) for i in range(2)], tmp_path / "predictions.jsonl"
    for each in (model, other):
        evaluate(each, renderer, task_of(items, "exact-match"), max_length=512, predictions=path, quiet=True)
    assert len(asked) == 4


def test_what_was_answered_before_a_kill_is_kept(
    model: nn.Module, renderer: Renderer, task_of: Make, tmp_path: Path, asked: list[list[int]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    items, path = [qa(i) for i in range(6)], tmp_path / "predictions.jsonl"
    whole = evaluate(model, renderer, task_of(items, "rouge-l"), max_length=512, predictions=path, quiet=True)
    files = {each.relative_to(tmp_path): each.read_bytes() for each in tmp_path.rglob("*.jsonl")}
    for each in files:
        (tmp_path / each).unlink()
    asked.clear()
    counting = answers_module.sample

    def killed(*given: Any, **more: Any) -> Any:
        for n, group in enumerate(counting(*given, **more)):
            if n == 2:
                raise KeyboardInterrupt
            yield group

    monkeypatch.setattr(answers_module, "sample", killed)
    task = task_of(items, "rouge-l")
    with pytest.raises(KeyboardInterrupt):
        evaluate(model, renderer, task, max_length=512, predictions=path, quiet=True)
    before = len(asked)
    assert 0 < before < 12
    monkeypatch.setattr(answers_module, "sample", counting)
    asked.clear()
    assert evaluate(model, renderer, task, max_length=512, predictions=path, quiet=True) == whole
    assert len(asked) == 2  # two groups of two were kept
    assert {each.relative_to(tmp_path): each.read_bytes() for each in tmp_path.rglob("*.jsonl")} == files


# --- what is left out ---


def test_a_record_that_cannot_be_measured_is_left_out_and_counted(
    model: nn.Module, renderer: Renderer, task_of: Make, tmp_path: Path
) -> None:
    long = qa(1)
    long["messages"][0]["content"] = "so " * 300
    path = tmp_path / "predictions.jsonl"
    task = task_of([qa(0), long, qa(2)], "loss", "exact-match")
    found = evaluate(model, renderer, task, max_length=100, predictions=path, quiet=True)
    assert (found.records, found.left_out, found.metrics["exact-match"].n) == (2, 1, 2)
    assert [line.get("left_out", "")[:17] for line in lines(path)] == ["", "too long a prompt", ""]


def test_a_metric_without_any_record_is_an_error(model: nn.Module, renderer: Renderer, task_of: Make) -> None:
    items = [{"id": "p", "prompt": "Only a prompt"}]
    with pytest.raises(DataError, match=r"^loss has no record left of the 1 of test: no assistant turn with any text"):
        evaluate(model, renderer, task_of(items, "loss"), max_length=100, quiet=True)
    task = task_of([qa(0)], "exact-match", max_new_tokens=200)
    with pytest.raises(SettingsError, match=r"^answers of up to 200 tokens leave no room for a prompt in 100"):
        evaluate(model, renderer, task, max_length=100, quiet=True)


@pytest.mark.parametrize("metric", ["loss", "choice-likelihood"])
def test_a_loss_that_is_no_number_is_an_error(metric: str, model: nn.Module, renderer: Renderer, task_of: Make) -> None:
    broken = deepcopy(model)
    with torch.no_grad():
        next(broken.parameters()).fill_(torch.nan)
    task = task_of([qa(0, choices=["red", "blue"], answer="red")], metric)
    with pytest.raises(ModelError, match=r"no number for \d of \d answers"):
        evaluate(broken, renderer, task, max_length=512, quiet=True)


def test_a_record_that_the_judge_does_not_grade_is_left_out(
    model: nn.Module, renderer: Renderer, task_of: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv(KEY_ENV, KEY)
    items = [qa(i) for i in range(5)]
    task = task_of(items, "judge:m")
    with running() as server:
        server.respond = lambda prompt, before: says("no idea" if "thing 3" in prompt else '{"score": 10}')
        judge = {"url": server.url, "key_env": KEY_ENV, "backoff_s": 0.001}
        found = evaluate(
            model, renderer, task, max_length=512, quiet=True, judge=judge, predictions=tmp_path / "p.jsonl"
        )
    assert found.metrics["judge:m"].n == 4
    assert found.left_out == 1
    told = {line["id"]: line.get("left_out") for line in lines(tmp_path / "p.jsonl")}
    assert told == {"q0": None, "q1": None, "q2": None, "q3": "judge:m gave no grade", "q4": None}


def test_estimates_of_one_record_have_no_interval(model: nn.Module, renderer: Renderer, task_of: Make) -> None:
    found = evaluate(model, renderer, task_of([qa(0)], "loss"), max_length=100, quiet=True)
    assert found.metrics["loss"].n == 1
    assert np.isnan(found.metrics["loss"].low)
    again = Evaluation.from_json(json.loads(json.dumps(found.to_json(), allow_nan=False))).metrics["loss"]
    assert isinstance(again, Estimate)
    assert np.isnan(again.high)
