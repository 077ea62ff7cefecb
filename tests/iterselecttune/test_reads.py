"""What the classifier and the embeddings read: the prompt alone, or the conversation with the answer."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import handpick
from handpick.data.examples import Example, Message
from handpick.errors import DataError, FingerprintMismatch, SettingsError
from handpick.iterselecttune.classifier import Classifier
from handpick.iterselecttune.reads import READ_AS
from handpick.iterselecttune.run import IterRun, PreparedIterSelect, run_iterselect
from handpick.iterselecttune.settings import IterSelectSettings
from handpick.layout import IterSelectLayout
from handpick.scorers.embedding import Embedding, PromptEmbedding
from tests.conftest import write_jsonl
from tests.iterselecttune.conftest import Ask, world

RULE = '''
def marked(prompts, completions, records):
    """Looks at the prompt alone."""
    return [0.0 if "marker" in str(prompt) else 1.0 for prompt in prompts]
'''


def example(*turns: tuple[str, str]) -> Example:
    messages = tuple(Message(role, content) for role, content in turns)
    return Example(id="x", messages=messages, source=None, category=None, raw=b"{}")


def record(name: str, *turns: tuple[str, str]) -> dict[str, Any]:
    return {"id": name, "messages": [{"role": role, "content": content} for role, content in turns]}


@pytest.fixture
def run_on(ask: Ask, tmp_path: Path, tiny_classifier: Path) -> Callable[..., IterRun]:
    """A run on records, by a rule that does not look at the answers."""
    (tmp_path / "rule.py").write_text(RULE)

    def run(out: str, records: list[dict[str, Any]], classifier: dict[str, Any] | None = None, **given: Any) -> IterRun:
        pool = str(write_jsonl(tmp_path / f"pool-{out}.jsonl", records))
        rule = f"rule:{tmp_path / 'rule.py'}:marked"
        quick = {"model": str(tiny_classifier), "epochs": 2, "learning_rate": 5e-3, "held_out": 0.25} | (
            classifier or {}
        )
        few = {"rounds": 1, "batch": 16, "max_new_tokens": 1, "budget": "24", "classifier": quick}
        return run_iterselect(ask(out=out, pool=pool, judge=rule, **(few | given)))

    return run


@pytest.mark.parametrize(
    ("turns", "prompt"),
    [
        ([("user", "ask"), ("assistant", "say")], "<|user|>\nask"),
        (
            [("system", "be"), ("user", "ask"), ("assistant", "say"), ("user", "more"), ("assistant", "last")],
            "<|system|>\nbe\n<|user|>\nask\n<|assistant|>\nsay\n<|user|>\nmore",
        ),
        ([("system", "be"), ("assistant", "say")], "<|system|>\nbe"),
        (
            [("user", "ask"), ("assistant", "say"), ("user", "more")],
            "<|user|>\nask\n<|assistant|>\nsay\n<|user|>\nmore",
        ),
    ],
)
def test_a_prompt_is_all_before_the_answer_that_a_record_ends_with(turns: list[tuple[str, str]], prompt: str) -> None:
    assert READ_AS["prompt"].text(example(*turns)) == prompt
    whole = "\n".join(f"<|{role}|>\n{content}" for role, content in turns)
    assert READ_AS["conversation"].text(example(*turns)) == whole


@pytest.mark.parametrize(
    ("turns", "why"),
    [
        ([("assistant", "say")], "no prompt: the record begins with its answer"),
        ([("user", " "), ("assistant", "say")], "no prompt: no turn before the answer has any text"),
    ],
)
def test_without_a_prompt_there_is_nothing_to_read_but_the_answer(turns: list[tuple[str, str]], why: str) -> None:
    with pytest.raises(DataError, match=why):
        READ_AS["prompt"].text(example(*turns))
    assert READ_AS["conversation"].text(example(*turns)).endswith("say")


def test_rows_of_prompts_are_those_of_conversations_that_end_there(tiny_sentences: Path) -> None:
    asked = [("system", "red"), ("user", "green river")]
    of_prompt, whole = PromptEmbedding(str(tiny_sentences)), Embedding(str(tiny_sentences))
    items = of_prompt.prepare([example(*asked, ("assistant", "tree")), example(*asked, ("assistant", "bread"))]).items
    rows_ND = of_prompt.encode(items)
    np.testing.assert_array_equal(rows_ND[0], rows_ND[1])
    np.testing.assert_array_equal(rows_ND[:1], whole.encode(whole.prepare([example(*asked)]).items))
    assert of_prompt.space() != whole.space()


def test_answers_decide_nothing_but_verdicts_where_the_prompt_is_read(run_on: Callable[..., IterRun]) -> None:
    records = world(36)
    others = [record(each["id"], ("user", each["messages"][0]["content"]), ("assistant", "road")) for each in records]
    found = {}
    for reads in ("prompt", "conversation"):
        first, second = (
            run_on(f"{reads}-{i}", pool, reads=reads, batch=30) for i, pool in enumerate((records, others))
        )
        assert all(pick.hardness is not None for pick in first.picks if pick.how == "inferred")
        found[reads] = [(run.selection.ids, run.selection.scores, run.selection.picked_for) for run in (first, second)]
    assert found["prompt"][0] == found["prompt"][1]
    assert found["conversation"][0][1] != found["conversation"][1][1]


def test_equal_prompts_stand_together_and_each_is_judged_by_its_own_answer(
    run_on: Callable[..., IterRun], capsys: pytest.CaptureFixture[str]
) -> None:
    run = run_on("twins", [*world(60), *twins_of(world(60))], batch=60, budget="100%")
    said = capsys.readouterr().err
    assert (
        "60 of the 120 examples of the diverse subset read as an earlier one does: they have the same M and R" in said
    )
    assert sorted(run.selection.ids) == sorted(each["id"] for each in [*world(60), *twins_of(world(60))])
    pick_of = dict(zip(run.selection.ids, run.picks, strict=True))
    pairs = [(pick_of[each["id"]], pick_of[f"t{each['id']}"]) for each in world(60)]
    unasked = [pair for pair in pairs if pair[0].how == pair[1].how == "inferred"]
    assert unasked
    assert all(one.hardness is not None for one, _ in unasked)
    for one, other in unasked:
        assert one.hardness == pytest.approx(other.hardness, abs=1e-6)
    # a prompt that is known to be hard is as like a hard one as can be
    either_way = [*pairs, *((other, one) for one, other in pairs)]
    alone = [other for one, other in either_way if one.how == "judged" and other.how == "inferred"]
    assert alone
    assert [each.cosine for each in alone] == pytest.approx([1] * len(alone), abs=1e-6)


def test_no_prompt_both_trains_the_classifier_and_tests_it(
    run_on: Callable[..., IterRun], monkeypatch: pytest.MonkeyPatch
) -> None:
    trained: list[str] = []
    train = Classifier.train

    def spy(texts: Sequence[str], *given: Any, **named: Any) -> Classifier:
        trained.extend(texts)
        return train(texts, *given, **named)

    monkeypatch.setattr(Classifier, "train", spy)
    run = run_on("split", [*world(24), *twins_of(world(24))], batch=40)
    text_of = {each["id"]: f"<|user|>\n{each['messages'][0]['content']}" for each in world(24)}
    verdicts = IterSelectLayout(Path(str(run.selection.settings["out"]))).round(1).verdicts
    judged = [text_of[json.loads(line)["id"].removeprefix("t")] for line in verdicts.read_bytes().splitlines()]
    assert len(set(judged)) < len(judged)
    assert sum(text in trained for text in judged) == len(trained) == run.figures[0]["train"]
    assert run.figures[0]["held_out"] == len(judged) - len(trained) > 0


def twins_of(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The same prompts with another answer."""
    return [
        record(f"t{each['id']}", ("user", each["messages"][0]["content"]), ("assistant", "road")) for each in records
    ]


@pytest.mark.parametrize(("share", "why"), [(0, "all but 0 of the 8 judged are hard"), (0.9999, "is held out")])
def test_a_pool_of_one_prompt_is_taken_as_it_comes(
    run_on: Callable[..., IterRun], capsys: pytest.CaptureFixture[str], share: float, why: str
) -> None:
    pool = [record(f"r{i}", ("user", "marker red"), ("assistant", f"said {'tree ' * i}")) for i in range(30)]
    run = run_on("one", pool, budget="20", batch=8, clusters=4, classifier={"held_out": share})
    said = capsys.readouterr().err
    assert "29 of the 30 examples of the diverse subset read as an earlier one does" in said
    assert f"{why}: no classifier" in said
    assert len(set(run.selection.ids)) == 20
    assert {pick.how for pick in run.picks[:8]} == {"judged"}
    assert [pick.cosine for pick in run.picks[8:]] == pytest.approx([1] * 12, abs=1e-6)


def test_records_without_a_prompt_are_set_aside_and_no_budget_counts_them(run_on: Callable[..., IterRun]) -> None:
    aside = [record("first", ("assistant", "said red")), record("blank", ("user", " "), ("assistant", "said"))]
    several = record(
        "many", ("system", "red"), ("user", "stone"), ("assistant", "tree"), ("user", "marker"), ("assistant", "said")
    )
    run = run_on("aside", [*world(30), *aside, several], budget="100%")
    folder = Path(str(run.selection.settings["out"]))
    bad = [json.loads(line) for line in (folder / "quarantine.jsonl").read_bytes().splitlines()]
    assert [(each["id"], each["reason"]) for each in bad] == [
        ("first", "no prompt: the record begins with its answer"),
        ("blank", "no prompt: no turn before the answer has any text"),
    ]
    assert sorted(run.selection.ids) == sorted([*(each["id"] for each in world(30)), "many"])
    with pytest.raises(SettingsError, match="the budget is 32 examples and the pool has 31"):
        run_on("aside", [*world(30), *aside, several], budget="32")
    kept = run_on("kept", [*world(30), *aside, several], budget="33", reads="conversation")
    assert {"first", "blank"} <= set(kept.selection.ids)


def test_a_folder_begun_with_the_other_is_refused(ask: Ask) -> None:
    for begun, other in (("prompt", "conversation"), ("conversation", "prompt")):
        settings = ask(out=begun, judge="rule:rouge-l", hard_below=2, rounds=1, batch=4, budget="4", reads=begun)
        run_iterselect(settings)
        plan = json.loads(settings.layout.plan.read_bytes())["inputs"]
        assert plan.get("reads") == (None if begun == "conversation" else begun)  # as before it could be set
        with pytest.raises(
            FingerprintMismatch,
            match=f"the run in {settings.folder} was begun with --reads {begun}, and this one has --reads {other}: "
            f"give --reads {begun} to go on with it, or another --out",
        ):
            PreparedIterSelect(settings.model_copy(update={"reads": other}))
        assert [path.name for path in settings.layout.pool_stores()] == [
            f"pool-{READ_AS[settings.reads].representation}"
        ]


def test_a_store_serves_what_it_holds_and_is_refused_for_the_other(
    ask: Ask, tiny_sentences: Path, tmp_path: Path
) -> None:
    def settings(reads: str, **given: Any) -> IterSelectSettings:
        few = {"judge": "rule:rouge-l", "hard_below": 2, "rounds": 1, "batch": 4, "budget": "12"}
        return ask(out=f"{reads}-{len(given)}", reads=reads, **few, **given)

    stores = {}
    for reads, representation in (("prompt", "embed-prompt"), ("conversation", "embed")):
        stores[reads] = str(handpick.represent_pool(
            settings(reads).pool, method="embed", representation=representation, encoder=str(tiny_sentences),
            out=str(tmp_path / representation),
        ).path)  # fmt: skip
        given = run_iterselect(settings(reads, store=stores[reads]))
        assert given.selection.scores == run_iterselect(settings(reads)).selection.scores
        assert not settings(reads, store="").layout.pool_stores()
    with pytest.raises(
        SettingsError,
        match=f"the store {stores['conversation']} holds embed features, and --reads prompt takes embed-prompt: give "
        "--reads conversation, or name one that `handpick represent --representation embed-prompt` made",
    ):
        PreparedIterSelect(settings("prompt", store=stores["conversation"]))
    with pytest.raises(SettingsError, match="holds embed-prompt features, and --reads conversation takes embed: give"):
        PreparedIterSelect(settings("conversation", store=stores["prompt"]))


def test_what_is_read_is_said_before_any_work(ask: Ask) -> None:
    assert PreparedIterSelect(ask()).expected.lines()[-1] == (
        "the classifier and the embeddings read prompts alone (--reads prompt)"
    )
    assert PreparedIterSelect(ask(reads="conversation")).expected.lines()[-1] == (
        "the classifier and the embeddings read whole conversations, answers included (--reads conversation)"
    )


def test_the_setting_takes_two_words(ask: Ask) -> None:
    with pytest.raises(SettingsError, match="--reads should be 'prompt' or 'conversation', not 'answers'"):
        ask(reads="answers")
