"""Asking, against a server that answers well, slowly, wrongly or not at all."""

import json
import subprocess
import sys
import time
from collections.abc import Callable
from threading import Barrier, Lock

import pytest

from handpick.errors import JudgeError
from handpick.judge import Judge, JudgeAnswer
from tests.judge.server import KEY, Response, Server, refuses, says

MakeJudge = Callable[..., Judge]
PROMPTS = [f"prompt {i}" for i in range(12)]
ANSWERS = [f"on {prompt}" for prompt in PROMPTS]


def texts(answers: list[JudgeAnswer]) -> list[str | None]:
    return [answer.text for answer in answers]


def test_answers_come_in_the_order_of_the_prompts(server: Server, judge: MakeJudge) -> None:
    server.respond = lambda prompt, _: says(f"on {prompt}", delay=0.02 * (int(prompt.split()[1]) % 3))
    assert texts(judge().ask(PROMPTS)) == ANSWERS
    assert len(server.asked) == len(PROMPTS)


def test_the_same_is_never_asked_twice(server: Server, judge: MakeJudge) -> None:
    one = judge()
    assert texts(one.ask(["same", "other", "same"])) == ["on same", "on other", "on same"]
    assert one.ask(["same"]) == judge().ask(["same"]) == [JudgeAnswer("on same")]
    assert server.prompts == {"same": 1, "other": 1}
    assert one.used == judge_used(judge)


def judge_used(judge: MakeJudge) -> object:
    again = judge()
    again.ask([])
    return again.used


def test_another_model_or_parameter_is_another_request(server: Server, judge: MakeJudge) -> None:
    for values in ({}, {"model": "other"}, {"temperature": 1}, {"seed": 1}, {"max_answer_tokens": 7}, {"workers": 1}):
        judge(**values).ask(["same"])
    assert server.prompts == {"same": 5}


def test_what_is_sent(server: Server, judge: MakeJudge) -> None:
    turns = [{"role": "system", "content": "be just"}, {"role": "user", "content": "ünd {braces}"}]
    judge(max_answer_tokens=77).ask([turns])
    (asked,) = server.asked
    assert asked.path == "/v1/chat/completions"
    assert asked.headers["authorization"] == f"Bearer {KEY}"
    assert asked.body == {"model": "m", "messages": turns, "temperature": 0, "seed": 0, "max_tokens": 77}


def test_parameters_can_be_left_out(server: Server, judge: MakeJudge) -> None:
    judge(temperature=None, seed=None).ask(["p"])
    assert set(server.asked[0].body) == {"model", "messages", "max_tokens"}


def test_a_local_server_needs_no_key(server: Server, judge: MakeJudge) -> None:
    assert texts(judge(key_env="NOT_SET_ANYWHERE").ask(["p"])) == ["on p"]
    assert KEY not in server.asked[0].headers["authorization"]


def test_openai_itself_needs_a_key(judge: MakeJudge) -> None:
    with pytest.raises(
        JudgeError, match="set the environment variable NOT_SET_ANYWHERE, name another with --judge-key-env"
    ):
        judge(key_env="NOT_SET_ANYWHERE", url=None)


def test_a_key_that_no_header_can_hold(judge: MakeJudge, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BAD_KEY", "sk-first-line\nsk-second-line")
    with pytest.raises(JudgeError, match="the key in BAD_KEY has characters that no key has; set it anew"):
        judge(key_env="BAD_KEY")


def test_the_openai_package_is_loaded_when_a_judge_is_made() -> None:
    code = "import sys, handpick.judge; print('openai' in sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout == "False\n"


def test_without_the_openai_package(judge: MakeJudge, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openai", None)
    with pytest.raises(JudgeError, match=r"a judge needs the openai package; install handpick\[judge\]"):
        judge()


def test_as_many_requests_at_a_time_as_there_are_workers(server: Server, judge: MakeJudge) -> None:
    together = Barrier(5, timeout=10)

    def respond(prompt: str, before: int) -> Response:
        together.wait()
        return says("x")

    server.respond = respond
    judge(workers=5).ask(PROMPTS[:10])
    assert server.most_at_once == 5


@pytest.mark.parametrize(
    "failure",
    [
        refuses(500, "oh"),
        refuses(503),
        refuses(429, "slow down"),
        refuses(408),
        Response(b"<html>busy</html>", 502, {"Content-Type": "text/html"}),
        Response(says("cut").body[:-20]),
        Response(says("cut").body[:-20], claimed=len(says("cut").body)),
        Response(b"<html>welcome</html>", headers={"Content-Type": "text/html"}),
        Response(b""),
        Response(b"\xff\xfe\x00"),
        Response(b"[1, 2]"),
        Response(json.dumps({"choices": []}).encode()),
        Response(json.dumps({"choices": [{"message": {"content": 5}}]}).encode()),
        Response(drop=True),
    ],
    ids=[
        "500", "503", "429", "408", "502 in HTML", "truncated JSON", "cut off", "HTML", "nothing", "bytes", "list",
        "no choices", "number", "hang-up",
    ],
)  # fmt: skip
def test_what_may_pass_is_asked_again(server: Server, judge: MakeJudge, failure: Response) -> None:
    server.respond = lambda prompt, before: failure if before < 2 else says(f"on {prompt}")
    one = judge()
    assert texts(one.ask(PROMPTS[:3])) == ANSWERS[:3]
    assert len(server.asked) == one.used.calls == 9


def test_no_answer_in_time(server: Server, judge: MakeJudge) -> None:
    server.respond = lambda prompt, before: says("late", delay=0 if before else 3)
    start = time.monotonic()
    assert texts(judge(timeout_s=0.5).ask(["p"])) == ["late"]
    assert time.monotonic() - start < 2.5
    assert len(server.asked) >= 2


def test_retry_after_is_kept_by_all_workers(server: Server, judge: MakeJudge) -> None:
    times: list[float] = []
    lock = Lock()

    def respond(prompt: str, before: int) -> Response:
        with lock:
            times.append(time.monotonic())
            return refuses(429, "slow down", Retry_After="0.5") if len(times) == 1 else says("x", delay=0.05)

    server.respond = respond
    judge(workers=2).ask(PROMPTS[:6])
    # The other worker may have sent one before it knew; all else waits.
    assert sum(at - times[0] < 0.49 for at in times) <= 2
    assert len(times) == 7


def test_a_server_that_asks_to_wait_for_hours_ends_the_run(server: Server, judge: MakeJudge) -> None:
    server.respond = lambda prompt, _: refuses(429, "daily limit", Retry_After="7200")
    with pytest.raises(JudgeError, match=r"status 429: daily limit\).*wait 120 minutes, as it asks, and run again"):
        judge(workers=1).ask(PROMPTS)
    assert len(server.asked) == 1


def test_what_stays_without_an_answer_does_not_end_a_run(server: Server, judge: MakeJudge) -> None:
    server.respond = lambda prompt, _: refuses(500, "oh no") if prompt == PROMPTS[3] else says(f"on {prompt}")
    answers = judge().ask(PROMPTS)
    assert answers[3] == JudgeAnswer(None, failure="status 500: oh no")
    assert texts(answers) == [None if i == 3 else text for i, text in enumerate(ANSWERS)]
    assert server.prompts[PROMPTS[3]] == 3

    server.respond = lambda prompt, _: says("better now")
    assert judge().ask(PROMPTS)[3] == JudgeAnswer("better now")  # a failure is not kept
    assert len(server.asked) == 12 + 2 + 1


def test_a_prompt_that_the_server_will_not_have_is_not_asked_again(server: Server, judge: MakeJudge) -> None:
    server.respond = lambda prompt, _: refuses(400, "too long") if prompt == "long" else says("x")
    assert judge().ask(["long", "short"])[0].failure == "status 400: too long"
    assert server.prompts["long"] == 1


def test_a_forbidden_prompt_is_told_from_a_forbidden_key(server: Server, judge: MakeJudge) -> None:
    server.respond = lambda prompt, _: refuses(403, "flagged") if prompt == "rude" else says("x")
    answers = judge(workers=1).ask(["kind", "rude", "kind too"])
    assert [answer.failure for answer in answers] == [None, "status 403: flagged", None]


def test_half_of_a_surrogate_pair(server: Server, judge: MakeJudge) -> None:
    answers = judge().ask(["good", "bad \ud83d"])
    assert answers[0].text == "on good"
    assert answers[1].failure == "the prompt holds half of a surrogate pair, which cannot be sent"


@pytest.mark.parametrize(
    ("refusal", "message"),
    [
        (refuses(401, "bad key"), r"refuses \(status 401: bad key\).*check the key in DECOY_KEY and run"),
        (refuses(402), r"refuses \(status 402\).*top up the account"),
        (refuses(403, "no"), r"status 403: no\).*check the key in DECOY_KEY and what it may use"),
        (refuses(404, "no model m"), r"status 404: no model m\).*check the model's name and the URL"),
        (Response(b"gone", 404, {"Content-Type": "text/plain"}), r"status 404: gone\)"),
        (refuses(429, "pay", code="insufficient_quota"), r"status 429: pay\).*top up the account"),
    ],
)
def test_what_no_retry_helps_ends_the_run_at_once(
    server: Server, judge: MakeJudge, refusal: Response, message: str
) -> None:
    server.respond = lambda prompt, _: refusal
    with pytest.raises(JudgeError, match=message) as caught:
        judge(workers=1).ask(PROMPTS)
    assert "0 of 12 prompts answered and kept in" in str(caught.value)
    assert len(server.asked) == 1


def test_a_refused_connection_ends_the_run_at_once(server: Server, judge: MakeJudge) -> None:
    server.stop()
    with pytest.raises(JudgeError, match=r"no connection: Connection refused\).*check that the server runs"):
        judge(backoff_s=60).ask(PROMPTS)


def test_a_server_that_goes_away_is_waited_for_and_then_ends_the_run(server: Server, judge: MakeJudge) -> None:
    def respond(prompt: str, before: int) -> Response:
        if prompt == PROMPTS[2]:
            server.http.shutdown()
            server.http.server_close()
            return Response(drop=True)
        return says("x")

    server.respond = respond
    one = judge(workers=1)
    with pytest.raises(JudgeError, match=r"no connection: .* 2 of 12 prompts answered"):
        one.ask(PROMPTS)
    assert one.used.calls == 2 + 3


def test_a_run_in_which_most_prompts_fail_is_ended(server: Server, judge: MakeJudge) -> None:
    server.respond = lambda prompt, _: refuses(400, "unknown parameter seed") if "bad" in prompt else says("x")
    prompts = [f"good {i}" for i in range(9)] + [f"bad {i}" for i in range(30)]
    with pytest.raises(JudgeError, match=r"11 of the last 20 prompts got no answer .*unknown parameter seed.* 9 of 39"):
        judge(workers=1).ask(prompts)
    assert len(server.asked) == 20


def test_few_prompts_may_all_fail(server: Server, judge: MakeJudge) -> None:
    server.respond = lambda prompt, _: refuses(400)
    assert {answer.failure for answer in judge().ask(PROMPTS)} == {"status 400"}


def test_an_answer_without_text_and_one_that_was_cut(server: Server, judge: MakeJudge) -> None:
    server.respond = lambda prompt, _: says(None if prompt == "a" else "half of", finish="length")
    assert judge().ask(["a", "b"]) == [JudgeAnswer("", cut=True), JudgeAnswer("half of", cut=True)]


def test_estimate_counts_what_is_left(server: Server, judge: MakeJudge) -> None:
    judge().ask(["x" * 400])
    estimate = judge(max_answer_tokens=50, price_in=1, price_out=2).estimate(["x" * 400, "y" * 4000, "y" * 4000])
    assert (estimate.calls, estimate.tokens_in, estimate.tokens_out) == (2, 1100, 100)
    estimate = judge(price_in=1, price_out=2).estimate(["x" * 400, "y" * 4000, "y" * 4000])
    assert str(estimate) == (
        "1 calls, about 1,000 tokens in (characters / 4), at most 1,024 out, at most about 0.00 at the prices given"
    )
    assert str(judge().estimate([])).endswith("at most 0 out")
