"""The file with the answers: killed runs, damage, two runs at once, a full disk."""

import fcntl
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from handpick.errors import JudgeError
from handpick.judge import Judge, JudgeAnswer, Usage
from handpick.judge.journal import HEADER, Journal
from tests.judge.server import Response, Server, says

MakeJudge = Callable[..., Judge]
PROMPTS = [f"prompt {i}" for i in range(40)]

ASK = """
import sys
from handpick.judge import Judge, JudgeSettings
Judge(JudgeSettings(model="m", url=sys.argv[1], workers=4), sys.argv[2]).ask([f"prompt {i}" for i in range(40)])
"""


def test_a_run_that_was_killed_goes_on_and_repeats_no_call(server: Server, judge: MakeJudge, cache: Path) -> None:
    """The server holds everything from the 18th request on; once all workers wait there, their process is killed."""

    def respond(prompt: str, before: int) -> Response:
        held = prompt not in [asked.prompt for asked in server.asked[:17]]
        return says(f"on {prompt}", delay=60 if held else 0)

    server.respond = respond
    process = subprocess.Popen([sys.executable, "-c", ASK, server.url, cache], stderr=subprocess.DEVNULL)
    with server.changed:
        assert server.changed.wait_for(lambda: len(server.asked) == 17 + 4, timeout=60)
        assert server.changed.wait_for(lambda: server.answered.total() == 17, timeout=10)
    process.kill()
    process.wait()
    held = {asked.prompt for asked in server.asked} - set(server.answered)

    server.released.set()
    one = judge()
    assert [answer.text for answer in one.ask(PROMPTS)] == [f"on {prompt}" for prompt in PROMPTS]
    assert server.prompts == {prompt: 2 if prompt in held else 1 for prompt in PROMPTS}
    assert one.used.calls == len(server.asked) == 40 + 4  # what was under way when it was killed is counted, too


def test_calls_under_way_when_a_run_was_killed_count_towards_the_cap(
    server: Server, judge: MakeJudge, cache: Path
) -> None:
    with (journal := Journal(cache)).open():
        for key in "abc":
            journal.record_request(key, Usage(1, 100, 10))
    with pytest.raises(JudgeError, match="the cap of 5 calls"):
        judge(max_calls=5, workers=1).ask(PROMPTS)
    assert len(server.asked) == 2


def test_a_file_cut_off_at_any_byte(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, answers = tmp_path / "whole.jsonl", {key: JudgeAnswer(f"tëxt {key}", cut=key == "b") for key in "abc"}
    with (journal := Journal(path)).open():
        for key, answer in answers.items():
            journal.record_request(key, Usage(1, 100, 10))
            journal.record_response(key, Usage(1, 50, 5), answer)
    whole = path.read_bytes()
    ends = [i + 1 for i, byte in enumerate(whole) if byte == ord("\n")]

    for length in range(len(whole) + 1):
        part = tmp_path / "part.jsonl"
        part.write_bytes(whole[:length])
        lines = sum(end <= length for end in ends)
        with (journal := Journal(part)).open():
            kept = max(lines - 1, 0) // 2
            assert journal.answers == dict(list(answers.items())[:kept])
            assert journal.used.calls == (max(lines - 1, 0) + 1) // 2
            journal.record_request("new", Usage(1, 1, 1))
            journal.record_response("new", Usage(1, 1, 1), JudgeAnswer("new"))
        said = "is half-written" in capsys.readouterr().err
        assert said == (length not in ends and length > len(HEADER))
        with (journal := Journal(part)).open():
            assert journal.answers["new"] == JudgeAnswer("new")
        part.unlink()


def test_answers_of_another_run_are_seen(server: Server, judge: MakeJudge) -> None:
    one, other = judge(), judge()
    one.ask(PROMPTS[:2])
    other.ask(PROMPTS[1:3])
    one.ask(PROMPTS[:3])
    assert server.prompts == dict.fromkeys(PROMPTS[:3], 1)
    assert one.used.calls == 3


def test_two_runs_at_once(judge: MakeJudge, cache: Path) -> None:
    cache.parent.mkdir()
    with cache.open("ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(JudgeError, match=r"another run has the judge's answers in .*judge.jsonl; wait until"):
            judge().ask(["p"])


@pytest.mark.parametrize("line", [b"{oh no}", b"[]", b'{"over": "k", "in": 1, "out": 1}', b'{"sent": "k"}', b"\xff"])
def test_a_damaged_line(judge: MakeJudge, cache: Path, line: bytes) -> None:
    judge().ask(["p"])
    cache.write_bytes(cache.read_bytes() + line + b"\n")
    before = cache.read_bytes()
    with pytest.raises(JudgeError, match=r"judge.jsonl: line 4 is damaged; take it away and run again"):
        judge().ask(["p"])
    assert cache.read_bytes() == before


def test_a_changed_letter_of_an_answer(judge: MakeJudge, cache: Path) -> None:
    judge().ask(["p"])
    *_, answered = cache.read_bytes().splitlines(keepends=True)
    text = json.loads(answered)["text"].encode()
    cache.write_bytes(cache.read_bytes().replace(answered, answered.replace(text, bytes([text[0] ^ 1]) + text[1:])))
    with pytest.raises(JudgeError, match=r"judge.jsonl: line 3 is damaged"):
        judge().ask(["p"])


@pytest.mark.parametrize("content", [b'{"messages": []}\n', b"a text without an end", b"\n"])
def test_another_kind_of_file_is_left_alone(judge: MakeJudge, cache: Path, content: bytes) -> None:
    cache.parent.mkdir()
    cache.write_bytes(content)
    with pytest.raises(JudgeError, match=r"judge.jsonl holds something else than a judge's answers; name another file"):
        judge().ask(["p"])
    assert cache.read_bytes() == content


def test_a_file_that_cannot_be_written(judge: MakeJudge, cache: Path) -> None:
    cache.mkdir(parents=True)
    with pytest.raises(JudgeError, match=r"cannot write the judge's answers to .*judge.jsonl: Is a directory; "):
        judge().ask(["p"])


def test_a_full_disk(server: Server, judge: MakeJudge, cache: Path) -> None:
    """Of the line that no longer fits, nothing stays."""
    code = "import openai, resource; resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n" + ASK
    run = subprocess.run([sys.executable, "-c", code, server.url, cache], capture_output=True, text=True, check=False)
    assert "JudgeError: cannot write the judge's answers to" in run.stderr
    assert "File too large; what stands there stays good" in run.stderr
    lines = cache.read_bytes().splitlines(keepends=True)
    assert len(b"".join(lines)) > 800
    assert all(json.loads(line) for line in lines)
    kept = sum(b"text" in line for line in lines)

    before = len(server.asked)
    judge(workers=4, key_env="OPENAI_API_KEY").ask(PROMPTS)
    assert len(server.asked) - before == 40 - kept
