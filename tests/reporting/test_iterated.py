"""The page of what ``handpick iterselect`` chose: rounds, judge, classifier, and how each pick was taken."""

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from handpick.errors import StoreError
from handpick.reporting.checks import checks
from handpick.reporting.iterated import Iterated, read_iterated
from handpick.reporting.run_folder import open_run
from handpick.reporting.selection import write_selection_report
from handpick.reporting.thresholds import SelectionCheck
from tests.conftest import write_jsonl
from tests.reporting.conftest import Page
from tests.reporting.iterated import JUDGING, ROUNDS, SECONDS, explained_of, iterated_folder, pool_of

Read = Callable[[Path], Page]
Folder = Callable[..., Path]


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    """Twelve of forty chosen; what is said differs."""

    def made(**changed: Any) -> Path:
        return iterated_folder(tmp_path / "run", pool_of(40), explained_of(12), **changed)

    return made


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = iterated_folder(tmp_path_factory.mktemp("iter") / "run", pool_of(40), explained_of(12))
    write_selection_report(out)
    return out


@pytest.fixture(scope="module")
def report(written: Path) -> Page:
    return Page((written / "report.html").read_text(encoding="utf-8"))


def table(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def pairs(page: Page) -> dict[str, str]:
    """The settings and figures of the page by their names; the first of a name."""
    return dict(reversed(list(zip(page.all("dt"), page.all("dd"), strict=True))))


def test_it_says_how_many_were_judged_and_how_many_inferred(report: Page) -> None:
    assert report.all("p", class_="lead") == [
        "12 of 40 examples, chosen by iterselect as hard for the base model (8 judged, 4 inferred)."
    ]
    assert pairs(report)["chosen"] == "12 8 judged, 4 inferred"


def test_the_rounds_are_those_of_the_folder(written: Path, report: Page) -> None:
    rows = table(written / "report" / "rounds.csv")
    for row, found, seconds in zip(rows, ROUNDS, SECONDS, strict=True):
        for name in ("round", "judged", "hard", "easy", "ties", "flipped", "missing", "train", "held_out"):
            assert int(row[name]) == found[name]
        for name in ("accuracy", "precision", "recall", "auc", "ece"):
            assert row[name] == ("" if found[name] is None else str(found[name]))
        assert float(row["seconds"]) == sum(seconds.values())
    cells = report.all("td", class_="n")
    first = ["8", "3", "4", "1", "1", "1", "6", "1", "1.00", "–", "–", "–", "1 min 32 s"]
    assert cells[: 2 * len(first)] == [
        *first,
        *["8", "5", "3", "0", "1", "0", "12", "3", "0.667", "0.500", "1.00", "0.750", "3 min 23 s"],
    ]
    assert (written / "report" / "rounds.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"


def test_the_calibration_is_the_last_classifiers(written: Path, report: Page) -> None:
    rows = table(written / "report" / "calibration.csv")
    assert [float(row["from"]) for row in rows] == [place / 10 for place in range(10)]
    for row, (predicted, hard, n) in zip(rows, ROUNDS[-1]["reliability"], strict=True):
        assert int(row["n"]) == n
        assert (row["predicted"], row["hard"]) == (("", "") if n == 0 else (str(predicted), str(hard)))
    captions = " ".join(report.all("figcaption"))
    assert "The classifier after round 2, on 3 held-out examples in 10 bins" in captions
    assert "calibration error 0.125" in captions


def test_the_judges_calls_stand_beside_those_of_the_whole_pool(report: Page) -> None:
    found = pairs(report)
    assert found["asked of the judge"] == (
        "32 calls: 12,345 tokens in, 678 out, 0.0421 by the prices given. Judging the whole pool would have taken 80 "
        "calls, 2.50 times as many."
    )
    assert found["judge calls"] == "32 40.0% of the whole pool’s"


def test_a_rule_is_asked_by_no_call(folder: Folder, page: Read) -> None:
    none = {"calls": 0, "tokens_in": 0, "tokens_out": 0, "cost": None, "whole_pool_calls": 0}
    out = folder(settings={"judge": "rule:exact-match"}, judging=none | {"judge": "rule:exact-match"})
    found = pairs(page(write_selection_report(out)))
    assert found["asked of the judge"] == "nothing: a rule says what is hard"
    assert "judge calls" not in found


def test_settings_that_were_said_come_before_those_left_as_they_are(report: Page) -> None:
    text = "".join(report.all("section", id="asked"))
    said, rest = text.split("The other settings, left as they are")
    assert "judge-of-all" in said
    assert "batch" in said  # 8, and not the default
    assert "clusters" in rest
    assert "google-bert/bert-base-uncased" in rest
    assert "runs/iter" not in text


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"reads": "prompt"}, "It and the embeddings read the prompt alone."),
        ({"reads": "conversation"}, "It and the embeddings read the whole conversation, the answer included."),
        ({}, "It and the embeddings read the whole conversation, the answer included."),  # before it could be set
    ],
)
def test_it_says_what_the_classifier_read(folder: Folder, page: Read, given: dict[str, Any], said: str) -> None:
    found = page(write_selection_report(folder(settings=given)))
    assert said in "".join(found.all("section", id="judged"))
    assert pairs(found)["reads"] == given.get("reads", "conversation")


def test_each_pick_says_how_it_was_taken_and_beside_which_hard_example(written: Path, report: Page) -> None:
    data = report.data()
    texts = {each["id"]: [[m["role"], m["content"]] for m in each["messages"]] + [0] for each in pool_of(40)}
    assert data["ways"] == ["judged hard", "inferred", "judged easy"]
    assert data["beside"] == {"kind": "hard example", "title": "The nearest hard example"}
    for row, taken in zip(data["rows"], explained_of(12), strict=True):
        assert (row["id"], row["score"]) == (taken["id"], taken["score"])
        assert (row["hardness"], row["similarity"]) == (taken["hardness"], taken["similarity"])
        way = {"judged": "judged hard", "inferred": "inferred"}[taken["how"]]
        assert row["way"] == way
        assert row["said"] == (way if taken["round"] is None else f"{way}, round {taken['round']}")
        if taken["nearest"] is None:
            assert row["query"] is None
        else:
            query = data["queries"][row["query"]]
            assert (query["id"], query["turns"]) == (taken["nearest"], texts[taken["nearest"]])
    assert {row["taken"] for row in table(written / "report" / "scores.csv")} == {"judged", "inferred"}


def test_easy_ones_are_told_apart(tmp_path: Path, page: Read) -> None:
    lines = explained_of(12)
    lines[-1] |= {"how": "easy", "round": 2}
    found = page(write_selection_report(iterated_folder(tmp_path / "run", pool_of(12), lines)))
    assert "(8 judged, 3 inferred, and 1 judged easy, since nothing else was left)." in found.all("p", class_="lead")[0]
    assert found.data()["rows"][-1]["said"] == "judged easy, round 2"


def test_what_there_cannot_be_is_left_out_with_a_reason(report: Page) -> None:
    notes = " ".join(report.all("p", class_="note"))
    assert "is not shown: iterselect has no queries, and so neither a similarity nor a distance to them." in notes
    ids = {attributes.get("id") for _, attributes, _ in report.elements}
    assert {"judged", "rounds", "calibration", "mixture", "lengths", "picks"} <= ids
    assert not {"queries", "distances", "similarity"} & ids
    links = {attributes.get("href") or "" for tag, attributes, _ in report.elements if tag in ("a", "use")}
    assert {link[1:] for link in links if link.startswith("#")} <= ids


def test_a_pool_that_is_gone_costs_the_texts_alone(folder: Folder, page: Read) -> None:
    out = folder()
    (out.parent / "pool.jsonl").unlink()
    found = page(write_selection_report(out))
    assert "The pool could not be read" in " ".join(found.all("p", class_="note"))
    assert [each["turns"] for each in found.data()["queries"]] == [None] * 3
    assert len(found.data()["rows"]) == 12


@pytest.mark.parametrize(
    ("name", "gone"),
    [("rounds.json", "judged"), ("judging.json", "asked of the judge"), ("explained.jsonl", "12 8 judged, 4 inferred")],
)
def test_a_file_that_is_gone_is_said_and_what_needs_it_left_out(
    folder: Folder, page: Read, name: str, gone: str
) -> None:
    out = folder()
    (out / name).unlink()
    found = page(write_selection_report(out))
    assert f"{name} is not in the folder. What needs it is left out." in found.all("p", class_="note")
    ids = [attributes.get("id") for _, attributes, _ in found.elements]
    assert gone not in [*found.all("dt"), *found.all("dd"), *ids]
    assert ("judged" in found.all("p", class_="lead")[0]) == (name != "explained.jsonl")


@pytest.mark.parametrize(
    ("name", "text"),
    [("rounds.json", "{"), ("rounds.json", '[{"round": 1}]'), ("judging.json", "[]"), ("explained.jsonl", "{}\n")],
)
def test_a_damaged_file_is_one_sentence(folder: Folder, name: str, text: str) -> None:
    out = folder()
    (out / name).write_text(text)
    with pytest.raises(StoreError, match=rf"{name} cannot be read \(.*run `handpick iterselect` again"):
        write_selection_report(out)


def test_rounds_without_a_classifier(folder: Folder, page: Read) -> None:
    none = dict.fromkeys(("accuracy", "precision", "recall", "auc", "ece", "reliability")) | {"held_out": 0}
    out = folder(rounds=[ROUNDS[0] | none])
    found = page(write_selection_report(out))
    assert "none was measured on held-out examples" in " ".join(found.all("p", class_="note"))
    assert not (out / "report" / "calibration.csv").exists()
    assert (out / "report" / "rounds.png").exists()


def check(folder: Path, name: str, tests: list[str] | None = None) -> SelectionCheck:
    (found,) = (each for each in checks(open_run(folder), tests or []) if each.name == name)
    return found


def last(**changed: Any) -> list[dict[str, Any]]:
    """One round of a hundred examples with these figures."""
    whole = {"judged": 100, "hard": 40, "easy": 60, "missing": 0, "flipped": 0, "held_out": 20, "auc": 0.8}
    return [ROUNDS[1] | whole | changed]


@pytest.mark.parametrize(
    ("name", "figures", "state", "said"),
    [
        ("Examples without a verdict", {"easy": 50, "missing": 10}, "warn", "10 of 100 examples (10.0%)"),
        ("Examples without a verdict", {"easy": 51, "missing": 9}, "fine", "9 of 100 examples (9.0%)"),
        ("Verdicts that turn with the order", {"flipped": 20}, "warn", "20 of 100 verdicts (20.0%)"),
        ("Verdicts that turn with the order", {"flipped": 19}, "fine", "19 of 100 verdicts (19.0%)"),
        ("Hard and easy", {"hard": 95, "easy": 5}, "warn", "95.0% of the 100 examples"),
        ("Hard and easy", {"hard": 5, "easy": 95}, "warn", "5.0% of the 100 examples"),
        ("Hard and easy", {"hard": 6, "easy": 94}, "fine", "6.0% of the 100 examples"),
        ("The last classifier", {"auc": 0.59}, "warn", "AUC of 0.590"),
        ("The last classifier", {"auc": 0.6}, "fine", "AUC of 0.600"),
        ("The last classifier", {"auc": None}, "open", "Not measured"),
    ],
)
def test_checks_of_the_rounds(folder: Folder, name: str, figures: dict[str, Any], state: str, said: str) -> None:
    found = check(folder(rounds=last(**figures)), name)
    assert (found.state, said in found.said) == (state, True), found.said


@pytest.mark.parametrize("settings", [{"judge": "rule:exact-match"}, {"verdict": "pointwise"}])
def test_no_order_to_turn_with(folder: Folder, settings: dict[str, Any]) -> None:
    assert check(folder(settings=settings), "Verdicts that turn with the order").state == "open"


def test_there_is_no_check_of_queries_and_no_advice_that_the_command_cannot_take(
    folder: Folder, tmp_path: Path
) -> None:
    out = folder()
    names = [each.name for each in checks(open_run(out))]
    assert len(names) == 10
    assert "Queries served" not in names
    overlap = check(out, "Overlap with a test set")
    assert (overlap.state, "--exclude-overlap" in overlap.said) == ("open", False)
    long = "how many green apples does the old gardener carry home in the evening"
    pool = pool_of(12)
    pool[0]["messages"][0]["content"] = long
    leaky = iterated_folder(tmp_path / "leaky", pool, explained_of(12))
    leak = write_jsonl(tmp_path / "leak.jsonl", [pool[0] | {"id": "t"}])
    overlap = check(leaky, "Overlap with a test set", [str(leak)])
    assert overlap.state == "warn"
    assert "choose from the clean.jsonl of `handpick overlap`" in overlap.said
    for each in pool[:10]:
        each["source"] = "flan"
    pool[11]["source"] = "oasst"
    one_sided = check(iterated_folder(tmp_path / "one", pool, explained_of(12)), "Sources")
    assert one_sided.state == "warn"
    assert "--max-share" not in one_sided.said


def test_nothing_is_judged_where_no_round_is_told_of(folder: Folder) -> None:
    found = {each.name: each.state for each in checks(open_run(folder(rounds=[])))}
    assert {found[name] for name in ("Examples without a verdict", "Hard and easy", "The last classifier")} == {"open"}


def test_later_fields_do_no_harm(folder: Folder) -> None:
    out = folder(rounds=[each | {"later": 1} for each in ROUNDS], judging=JUDGING | {"later": 1})
    found = open_run(out).made_by
    assert isinstance(found, Iterated)
    assert [each.round for each in found.rounds] == [1, 2]
    assert found.judging is not None
    assert found.judging.calls == 32


def test_the_seconds_of_rounds_of_before_and_of_none(tmp_path: Path) -> None:
    """An earlier handpick wrote them among the figures; where nobody wrote them they are none."""
    pool = pool_of(40)
    rounds = [dict(ROUNDS[0]), {**ROUNDS[1], "seconds": {"answers": 1.5, "judge": 2.0}}]
    folder = iterated_folder(tmp_path / "iter", pool, explained_of(12), rounds=rounds)
    (folder / "rounds" / "1" / "cost.json").unlink()
    assert [each.seconds for each in read_iterated(folder, {}, []).rounds] == [0, 3.5]
    (folder / "rounds" / "1" / "cost.json").write_text('{"seconds": 3}')
    with pytest.raises(StoreError, match=r"rounds/1/cost\.json holds no seconds; remove it"):
        read_iterated(folder, {}, [])
