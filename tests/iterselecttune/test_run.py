"""From a pool and a judge to a selection: what is asked, what is kept, what a kill or a cap leaves."""

import json
import os
import signal
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from handpick.data.render import Renderer
from handpick.errors import DataError, FingerprintMismatch, JudgeError, SettingsError
from handpick.iterselecttune.held_out import is_held_out
from handpick.iterselecttune.round_files import read_round_seconds
from handpick.iterselecttune.run import PreparedIterSelect, run_iterselect
from handpick.selection import Selection
from tests.buckets import Bucket, objects_below
from tests.conftest import write_jsonl
from tests.iterselecttune.conftest import Ask, judged, verdict, world
from tests.judge.server import Server, refuses, says


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_bytes().splitlines()]


def is_hard(example_id: str) -> bool:
    return int(example_id[1:]) % 3 == 0


def test_the_hard_ones_are_chosen_and_every_pick_says_why(ask: Ask, server: Server) -> None:
    settings = ask(budget="30")
    run = run_iterselect(settings)
    selection = Selection.open(settings.folder)
    assert len(selection) == len(set(selection.ids)) == 30
    assert selection.ids == run.selection.ids
    # of 30 hard ones in 90; a random draw has 10, give or take 2; twelve seeds had 23 to 30, and a CPU is as a seed
    assert sum(map(is_hard, selection.ids)) >= 17
    asked = [lines(settings.folder / "rounds" / str(r) / "verdicts.jsonl") for r in (1, 2, 3)]
    assert [len(each) for each in asked] == [16, 16, 16]
    assert stat.S_IMODE((settings.folder / "rounds" / "1" / "verdicts.jsonl").stat().st_mode) == 0o600
    for line in (line for each in asked for line in each):
        assert line["hard"] == is_hard(line["id"])
        assert line["tie"] == (not is_hard(line["id"]))
    figures = json.loads((settings.folder / "rounds.json").read_bytes())
    assert [each["hard"] + each["easy"] for each in figures] == [16, 16, 16]
    assert len(server.asked) == 2 * 48  # both orders, nothing twice
    why = lines(settings.folder / "explained.jsonl")
    assert [each["id"] for each in why] == selection.ids
    judged_hard = [line["id"] for each in asked for line in each if line["hard"]]
    assert [each["id"] for each in why if each["how"] == "judged"] == judged_hard[:30]
    assert all(each["how"] in ("judged", "inferred") for each in why)
    inferred = [each for each in why if each["how"] == "inferred"]
    assert len(inferred) == max(0, 30 - len(judged_hard))  # some runs judge all 30
    for each, score, nearest in zip(why, selection.scores, selection.picked_for, strict=True):
        assert each["score"] == score
        assert each["nearest"] == nearest
        if each["how"] == "inferred":
            assert score == pytest.approx(0.6 * each["hardness"] + 0.4 * each["similarity"], abs=1e-6)
    assert all(is_hard(each["nearest"]) or each["nearest"] in selection.ids for each in inferred)
    used = json.loads((settings.folder / "judging.json").read_bytes())
    assert used["calls"] == 96
    assert used["tokens_in"] == 96 * 10
    assert used["whole_pool_calls"] == 180
    assert selection.settings["method"] == "iterselect"
    assert selection.settings["model"] == settings.model
    records = {each["id"]: each for each in world(90)}
    assert [json.loads(selection.record(i)) for i in range(30)] == [records[each] for each in selection.ids]


def test_a_smaller_budget_is_a_prefix_and_a_second_run_asks_nothing(ask: Ask, server: Server) -> None:
    first = run_iterselect(ask(budget="40", rounds=1))
    asked = len(server.asked)
    again = run_iterselect(ask(budget="25", rounds=1))
    assert again.selection.ids == first.selection.ids[:25]
    assert again.figures == first.figures
    assert len(server.asked) == asked
    whole = run_iterselect(ask(budget="100%", rounds=1))
    assert whole.selection.ids[:40] == first.selection.ids
    assert sorted(whole.selection.ids) == sorted(each["id"] for each in world(90))
    easy = [pick for pick in whole.picks if pick.how == "easy"]
    assert whole.picks[-len(easy) :] == easy
    assert easy


def test_the_clock_stands_apart_from_what_is_the_same_whenever_it_is_made(ask: Ask) -> None:
    first, second = (run_iterselect(ask(out=out, rounds=1)) for out in ("first", "second"))
    folders = [Path(ask(out=out).folder, "rounds", "1") for out in ("first", "second")]
    for name in ("batch.json", "verdicts.jsonl", "round.json", "hardness.npy"):
        assert len({(folder / name).read_bytes() for folder in folders}) == 1, name
    assert first.figures == second.figures
    took = read_round_seconds(ask(out="first").layout.round(1))
    assert sorted(took) == ["answers", "classifier", "judge"]


def test_more_rounds_go_on_where_fewer_ended(ask: Ask, server: Server) -> None:
    short = run_iterselect(ask(rounds=1))
    assert len(server.asked) == 32
    long = run_iterselect(ask(rounds=2))
    assert len(server.asked) == 64
    assert long.figures[0] == short.figures[0]
    straight = run_iterselect(ask(out="straight", rounds=2))
    assert straight.selection.ids == long.selection.ids
    assert straight.selection.scores == long.selection.scores


def test_it_stops_after_the_round_in_which_the_accuracy_did_not_rise(ask: Ask) -> None:
    """Both classifiers are asked about all that was judged and held out by then, whoever judged it when."""
    settings = ask(patience=1, rounds=4, batch=12)
    run = run_iterselect(settings)
    ids = [f"r{row}" for row in np.load(settings.folder / "diverse.npy")]
    text_of = {each["id"]: f"<|user|>\n{each['messages'][0]['content']}" for each in world(90)}
    hardness = [np.load(settings.folder / "rounds" / str(r + 1) / "hardness.npy") for r in range(len(run.figures))]
    judged: list[dict[str, Any]] = []
    rose = [True]
    for number, (before, after) in enumerate(zip([None, *hardness], hardness, strict=False), 1):
        judged += lines(settings.folder / "rounds" / str(number) / "verdicts.jsonl")
        held = [line for line in judged if is_held_out(text_of[line["id"]], 0.25, 0)]
        right = [(after[ids.index(line["id"])] >= 0.5) == line["hard"] for line in held]
        assert run.figures[number - 1]["accuracy"] == pytest.approx(np.mean(right))
        assert run.figures[number - 1]["held_out"] == len(held)
        if before is not None:
            rose.append(sum(right) > sum((before[ids.index(line["id"])] >= 0.5) == line["hard"] for line in held))
    assert all(rose[:-1])
    assert len(run.figures) == 4 or not rose[-1]


def test_a_run_whose_records_were_read_otherwise_is_refused(ask: Ask, tmp_path: Path) -> None:
    joined = {"id": "j", "instruction": "give marker", "input": "text", "output": "said so"}
    pool = str(write_jsonl(tmp_path / "joined.jsonl", [*world(24), joined]))
    settings = ask(rounds=1, batch=8, pool=pool, judge="rule:rouge-l", hard_below=0.9)
    run_iterselect(settings)
    plan = json.loads(settings.layout.plan.read_text())
    assert plan["inputs"]["pool"][0].pop("record_rule") == 2  # as the first rule's handpick left it
    del plan["digest"]
    settings.layout.plan.write_text(json.dumps(plan))
    with pytest.raises(FingerprintMismatch, match=r"the run in \S+ was made when handpick read records otherwise"):
        PreparedIterSelect(settings)


def test_what_decides_the_rounds_may_not_change_in_a_folder(ask: Ask) -> None:
    run_iterselect(ask(rounds=1))
    with pytest.raises(FingerprintMismatch, match=r"alpha is 0\.6 there and 0\.2 here"):
        run_iterselect(ask(rounds=1, alpha=0.2))


def test_it_says_first_what_it_will_take(ask: Ask, server: Server) -> None:
    settings = ask(judging={"price_in": 1.0, "price_out": 2.0, "max_answer_tokens": 100})
    said = "\n".join(PreparedIterSelect(settings).expected.lines())
    assert "3 rounds of up to 16 examples: 48 answers of the base model, of up to 4 tokens each" in said
    assert "at most 96 judge calls" in said
    assert "9,600 out" in said
    assert "at the prices given" in said
    assert "judging the whole pool would take 180 calls; this is 53% of them" in said
    assert not server.asked
    assert not (settings.folder / "rounds").exists()


def test_a_cap_makes_the_rounds_smaller_and_is_kept_to_the_call(ask: Ask, server: Server) -> None:
    """With every eighth verdict malformed, reminders use up what was planned for the last pairs."""
    n = 0

    def sometimes(prompt: str, before: int) -> Any:
        nonlocal n
        n += 1
        return says("I like both.") if n % 8 == 0 else judged(prompt)

    server.respond = sometimes
    settings = ask(budget="10", judging={"max_calls": 50, "workers": 1})
    prepared = PreparedIterSelect(settings)
    assert prepared.expected.batch == 8  # 50 // (2 · 3)
    assert "(the cap on the judge's calls makes it 8 a round)" in prepared.expected.lines()
    run = prepared.run()
    assert 45 <= len(server.asked) <= 50
    assert run.judging["calls"] == len(server.asked)
    assert sum(each["judged"] for each in run.figures) <= 24
    higher = ask(budget="10", judging={"max_calls": 80, "workers": 1}, rounds=4)
    assert run_iterselect(higher).figures[: len(run.figures)] == run.figures
    assert 50 < len(server.asked) <= 80


def test_a_cap_on_tokens_ends_the_rounds_and_not_the_run(ask: Ask, server: Server) -> None:
    """Round two finds nothing left to spend: its answers are kept for a higher cap, and the budget is filled."""
    first = run_iterselect(ask(rounds=1, budget="10"))
    used = first.judging["tokens_in"] + first.judging["tokens_out"]
    capped = ask(budget="10", judging={"max_tokens_total": used + 100})
    run = run_iterselect(capped)
    assert [each["round"] for each in run.figures] == [1]
    assert run.selection.ids == first.selection.ids
    assert len(server.asked) == 32
    more = run_iterselect(ask(budget="10", rounds=2))
    assert [each["judged"] for each in more.figures] == [16, 16]
    assert len(server.asked) == 64


def test_a_score_of_either_answer_is_cut_between_examples(ask: Ask, server: Server) -> None:
    server.respond = lambda prompt, before: says('{"score": 5}') if before or len(server.asked) > 1 else says("?")
    settings = ask(rounds=1, verdict="pointwise", budget="10", judging={"max_calls": 33, "workers": 1})
    with pytest.raises(DataError, match="is hard"):  # all are ties
        run_iterselect(settings)
    lines_of = lines(settings.folder / "rounds" / "1" / "verdicts.jsonl")
    assert sum(line["hard"] is None for line in lines_of) <= 1


def test_a_small_subset_is_all_that_is_judged(ask: Ask, server: Server) -> None:
    settings = ask(diverse=20)
    assert PreparedIterSelect(settings).expected.answers == 20
    run = run_iterselect(settings)
    assert [each["judged"] for each in run.figures] == [16, 4]
    assert len(server.asked) == 40


def test_a_budget_beyond_what_can_be_used_is_refused_before_anything_is_judged(ask: Ask, tmp_path: Path) -> None:
    records = world(40)
    for record in records[:5]:
        record["messages"] = record["messages"][:1]
    pool = write_jsonl(tmp_path / "some.jsonl", records)
    settings = ask(pool=str(pool), budget="38")
    with pytest.raises(SettingsError, match="the budget is 38 examples and the pool has 35"):
        run_iterselect(settings)
    assert not (settings.folder / "rounds").exists()
    whole = run_iterselect(ask(out="whole", pool=str(pool), budget="100%", rounds=1))
    assert sorted(whole.selection.ids) == sorted(record["id"] for record in records[5:])
    for i, example_id in enumerate(whole.selection.ids):
        assert json.loads(whole.selection.record(i))["id"] == example_id


def test_nothing_written_names_the_judges_address(ask: Ask, server: Server) -> None:
    settings = ask(rounds=1)
    run_iterselect(settings)
    for path in settings.folder.rglob("*.*"):
        if path.suffix in (".json", ".jsonl", ".yaml"):
            assert server.url not in path.read_text(encoding="utf-8"), path


def test_a_cap_that_allows_nothing_is_said_before_any_work(ask: Ask, server: Server) -> None:
    with pytest.raises(SettingsError, match="5 judge calls are less than 3 rounds of one example take"):
        PreparedIterSelect(ask(judging={"max_calls": 5}))
    assert not server.asked


def test_a_server_with_faults_changes_nothing_but_the_count(ask: Ask, server: Server) -> None:
    """429s, time-outs and verdicts that are none at first: asked again, and the same in the end."""
    want = run_iterselect(ask(out="calm", rounds=1)).selection.ids
    calm, server.asked = len(server.asked), []

    def faulty(prompt: str, before: int) -> Any:
        kind = sum(prompt.encode()) % 7
        if before == 0 and kind == 0:
            return refuses(429, "slow down", retry_after="0")
        if before == 0 and kind == 1:
            return says(verdict(prompt), delay=10)  # longer than the client waits
        if kind == 2 and "Reply with the JSON object alone" not in prompt:
            return says("Both have their merits.")
        return judged(prompt)

    server.respond = faulty
    run = run_iterselect(ask(rounds=1, judging={"timeout_s": 0.5}))
    assert run.selection.ids == want
    assert run.figures[0]["missing"] == 0
    assert len(server.asked) > calm


def test_a_judge_that_talks_nonsense_is_no_verdict(ask: Ask, server: Server) -> None:
    server.respond = lambda prompt, before: says("Lovely weather.")
    with pytest.raises(JudgeError, match="the judge has no verdict on any of the 16 examples"):
        run_iterselect(ask(rounds=1))


def test_what_was_asked_before_the_cap_counts_after_a_kill(ask: Ask, server: Server) -> None:
    """All of round one is asked, and the cap reached, when the run dies: the answers are in the judge's file."""
    settings = ask(rounds=1, judging={"max_calls": 32})
    want = run_iterselect(settings)
    assert len(server.asked) == 32
    for name in ("verdicts.jsonl", "round.json", "hardness.npy"):
        (settings.folder / "rounds" / "1" / name).unlink()
    assert run_iterselect(settings).selection.ids == want.selection.ids
    assert len(server.asked) == 32


def test_an_order_that_decides_is_a_tie_and_counted(ask: Ask, server: Server) -> None:
    def first_wins(prompt: str, before: int) -> Any:
        return judged(prompt) if "marker" in prompt else says('{"verdict": "A"}')

    server.respond = first_wins
    figures = run_iterselect(ask(rounds=1)).figures[0]
    assert figures["flipped"] == figures["ties"] == figures["easy"] > 0


def test_scores_of_either_answer(ask: Ask, server: Server) -> None:
    def score(prompt: str, before: int) -> Any:
        good = "said " in prompt.split("[begin answer")[1] or "marker" not in prompt
        return says(json.dumps({"score": 8 if good else 2}))

    server.respond = score
    settings = ask(rounds=1, verdict="pointwise")
    run = run_iterselect(settings)
    for line in lines(settings.folder / "rounds" / "1" / "verdicts.jsonl"):
        assert line["hard"] == is_hard(line["id"])
        assert line["reference"] == 8
    assert run.judging["calls"] == len(server.asked) == 32


def test_a_rule_asks_nobody(ask: Ask, server: Server) -> None:
    settings = ask(rounds=1, judge="rule:rouge-l", hard_below=2.0)
    run = run_iterselect(settings)
    assert run.figures[0]["hard"] == 16  # all are below 2
    assert run.judging == {
        "judge": "rule:rouge-l", "calls": 0, "tokens_in": 0, "tokens_out": 0, "cost": None, "whole_pool_calls": 0,
    }  # fmt: skip
    assert not server.asked
    assert {pick.hardness for pick in run.picks} == {None}  # of one kind alone nothing can be learned


def test_a_rule_that_finds_nothing_hard(ask: Ask) -> None:
    settings = ask(rounds=1, judge="rule:rouge-l", hard_below=-1.0)
    with pytest.raises(DataError, match="none of the 16 judged examples is hard"):
        run_iterselect(settings)


def test_a_model_of_ones_own_as_the_judge(ask: Ask, server: Server, tiny_model: Path) -> None:
    """It has learned nothing, so that no verdict can be read; but it is asked, kept, and capped."""
    settings = ask(rounds=1, judge=f"local:{tiny_model}", judging={"max_answer_tokens": 4, "max_calls": 7})
    with pytest.raises(JudgeError, match="no verdict on any"):
        run_iterselect(settings)
    assert not server.asked
    kept = lines(settings.folder / "verdicts" / "judge-local.jsonl")
    assert len(kept) == 7  # three pairs, and one reminder of the six that there was no room for


def test_killed_in_the_middle_of_round_two_it_goes_on_and_asks_nothing_twice(
    ask: Ask, server: Server, tmp_path: Path
) -> None:
    want = run_iterselect(ask(out="unbroken", rounds=2))
    server.asked = []
    server.answered.clear()
    settings = ask(rounds=2, judging={"workers": 2})
    (tmp_path / "settings.json").write_text(settings.model_dump_json())
    code = (
        "import sys; from handpick.iterselecttune.run import run_iterselect; "
        "from handpick.iterselecttune.settings import IterSelectSettings; "
        "run_iterselect(IterSelectSettings.model_validate_json(open(sys.argv[1]).read()))"
    )
    hold = threading.Event()

    def slow(prompt: str, before: int) -> Any:
        if len(server.asked) > 44 and not hold.is_set():  # 32 of round one, 12 of round two
            return says(verdict(prompt), delay=60)
        return judged(prompt)

    server.respond = slow
    child = subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "settings.json")], stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while len(server.asked) < 46 and time.monotonic() < deadline and child.poll() is None:
        time.sleep(0.05)
    os.kill(child.pid, signal.SIGKILL)
    child.wait()
    assert (settings.folder / "rounds" / "1" / "round.json").exists()
    assert not (settings.folder / "rounds" / "2" / "verdicts.jsonl").exists()
    hold.set()
    server.released.set()
    answered = {prompt for prompt, n in server.answered.items() if n} - {a.prompt for a in server.asked[-2:]}
    before = len(server.asked)
    run = run_iterselect(settings)
    assert run.selection.ids == want.selection.ids
    assert run.selection.scores == want.selection.scores
    assert not answered & {asked.prompt for asked in server.asked[before:]}


def test_what_the_template_does_not_write_is_said_before_any_work(
    ask: Ask, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        Renderer, "unwritten", lambda self, turns: ("system",) if turns[0].role == "system" else (), raising=False
    )
    settings = ask()
    turns = [{"role": role, "content": role} for role in ("system", "user", "assistant")]
    with Path(settings.pool[0]).open("a") as lines:
        lines.write(json.dumps({"id": "told", "messages": turns}) + "\n")
    PreparedIterSelect(settings)
    said = "1 record of the pool carries system; this template does not write it (first: told)"
    assert capsys.readouterr().err.count(said) == 1
    assert settings.layout.unwritten.exists()


def test_a_run_in_a_bucket_goes_on_elsewhere_and_asks_nothing_again(
    ask: Ask, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Bucket.empty()
    made = []
    for machine in ("one", "other"):
        monkeypatch.setenv("HANDPICK_CACHE", str(tmp_path / machine))
        settings = ask(budget="20").model_copy(update={"out": "bucket://bucket/runs/iter"})
        made.append(run_iterselect(settings).selection.ids)
        assert settings.folder.is_relative_to(tmp_path / machine)
        if machine == "one":
            asked = len(server.asked)
    assert made[0] == made[1]
    assert len(server.asked) == asked
    objects = objects_below("bucket://bucket/runs/iter")
    assert {"selected.jsonl", "cost.json", "rounds/1/verdicts.jsonl", "objects.json"} <= set(objects)
    assert objects["selected.jsonl"] == (settings.folder / "selected.jsonl").read_bytes()
    fetched = settings.folder / "rounds" / "1" / "verdicts.jsonl"
    assert stat.S_IMODE(fetched.stat().st_mode) == 0o600
