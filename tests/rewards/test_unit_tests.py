"""The share of a record's unit tests that a completion passes."""

import os
import time
from typing import Any

import pytest

from handpick import bundled
from handpick.errors import DataError, SettingsError
from handpick.rewards.unit_tests import UnitTests, code_of, read_tests
from handpick.sandbox.find import why_not
from tests.conftest import records

ADD = "def add(a, b):\n    return a + b"
MBPP = {"id": "m-1", "tests": ["assert add(1, 2) == 3", "assert add(0, 0) == 0"], "setup": ""}
HUMANEVAL = {
    "id": "h-1",
    "prompt": """from typing import List


def helper(x):
    return x + 1


def add(a: int, b: int) -> int:
    ''' Add. '''
""",
    "test": """

METADATA = {}


def check(candidate):
    assert candidate(1, 2) == helper(2)
    assert candidate(0, 1) == 1
""",
    "entry_point": "add",
}

needs_sandbox = pytest.mark.skipif(
    bool(why_not("bwrap") and why_not("namespaces")), reason=f"{why_not('bwrap')}; {why_not('namespaces')}"
)


def scores(completions: list[str], record: dict[str, Any], **settings: Any) -> list[float]:
    reward = UnitTests(allow_code_execution=True, **settings)
    return reward([[]] * len(completions), completions, [record] * len(completions))


# --- leave to run ---


def test_it_needs_leave_to_run_code() -> None:
    with pytest.raises(SettingsError, match=r"^the reward unit-tests runs code that a model wrote, on this machine; "
                                            r"if that is meant, give --allow-code-execution"):  # fmt: skip
        UnitTests(allow_code_execution=False)


def test_a_weak_sandbox_needs_a_second_leave_and_says_what_is_open(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    reasons = {"bwrap": "no bwrap", "namespaces": "no namespaces", "weak": None}
    monkeypatch.setattr("handpick.sandbox.find.why_not", reasons.__getitem__)
    with pytest.raises(SettingsError, match=r"no bwrap; no namespaces; .* --allow-weak-sandbox"):
        UnitTests(allow_code_execution=True)
    capsys.readouterr()
    UnitTests(allow_code_execution=True, allow_weak_sandbox=True)
    said = " ".join(capsys.readouterr().err.split())
    assert said.startswith("code that a model wrote runs in a weak sandbox: it is limited, but can read your files, ")
    for word in ("files", "network", "sockets", "signal", "environment"):
        assert word in said


@needs_sandbox
@pytest.mark.parametrize(("name", "value"), [("timeout_s", 0), ("workers", 0)])
def test_settings_must_be_above_zero(name: str, value: int) -> None:
    with pytest.raises(SettingsError, match=rf"^{name} of the reward unit-tests is 0; give a number above zero$"):
        UnitTests(allow_code_execution=True, **{name: value})  # type: ignore[arg-type]


# --- records ---


@needs_sandbox
def test_a_record_like_mbpp_scores_the_share_of_its_tests() -> None:
    half = "def add(a, b):\n    return 3"
    assert scores([ADD, half, "no code at all", ""], MBPP) == [1.0, 0.5, 0.0, 0.0]


@needs_sandbox
def test_the_names_of_the_hub_do() -> None:
    record = {
        "task_id": 7, "test_imports": ["import math"], "test_setup_code": "two = 2",
        "test_list": ["assert math.isclose(add(1, two), 3.0)"],
    }  # fmt: skip
    assert scores([ADD], record) == [1.0]


@needs_sandbox
def test_a_record_like_humaneval_is_passed_whole_or_not_at_all() -> None:
    body = "    return a + b\n"
    whole = "```python\ndef add(a: int, b: List[int]) -> int:\n    return helper(a) - 1 + b\n```"
    wrong = "    return 3 if a else 2"
    forged = (
        "def helper(x):\n    return 5\n\ndef check(candidate):\n    pass\n\ndef add(a, b):\n    return 5 if a else 1\n"
    )
    assert scores([body, whole, wrong, forged], HUMANEVAL) == [1.0, 1.0, 0.0, 0.0]
    assert scores([body], {**HUMANEVAL, "tests": HUMANEVAL["test"], "test": None}) == [1.0]


@needs_sandbox
def test_the_code_cannot_read_what_humanevals_check_expects() -> None:
    """Every number that the check compares with stands behind the argument it goes with, in its constants."""
    record = {
        "id": "h-2", "prompt": "def secret(n):\n    # ?\n", "entry_point": "secret",
        "test": "def check(candidate):\n    assert candidate(3) == 917; assert candidate(5) == 4411\n",
    }  # fmt: skip
    peeking = (
        "def secret(n):\n    found = [k for k in check.__code__.co_consts if isinstance(k, int)]\n"
        "    return found[found.index(n) + 1]\n"
    )
    knowing = "def secret(n):\n    return {3: 917, 5: 4411}[n]\n"
    assert scores([peeking, knowing], record) == [0.0, 1.0]


@pytest.mark.parametrize("tests", [{}, {"tests": []}, {"tests": [3]}, {"test": "def check(candidate): pass"}])
def test_a_record_without_tests_is_named(tests: dict[str, Any]) -> None:
    with pytest.raises(
        DataError, match=r"^no unit tests: none in .*m-9.*; the reward unit-tests needs `tests`, a list"
    ):
        read_tests({"id": "m-9", **tests})


def test_tests_that_are_no_python_are_named() -> None:
    with pytest.raises(DataError, match=r"^tests that are no Python: in .*m-9.*; mend the record$"):
        read_tests({"id": "m-9", "tests": ["assert add(1, 2) = 3"]})


@needs_sandbox
def test_tests_that_cannot_be_run_are_named() -> None:
    record = {**MBPP, "setup": "import numpy"}
    with pytest.raises(DataError, match=r"^the tests of .*m-1.* cannot be run in a sandbox, .*No module named 'numpy'"):
        scores([ADD], record)


# --- code in completions ---


@pytest.mark.parametrize(
    ("completion", "code"),
    [
        (ADD, ADD),
        (f"Here:\n```python\n{ADD}\n```\nand\n```python\nother\n```", ADD + "\n"),
        (f"```\nfirst\n```\n```py\n{ADD}\n```", ADD + "\n"),
        (f"```bash\nls\n```\n```\n{ADD}\n```", "ls\n"),
        (f"Here:\n```Python\n{ADD}", ADD),
        (f"  ``` python title\n{ADD}\n  ```", ADD + "\n"),
        ("    return 1", "    return 1"),
    ],
)
def test_where_the_code_stands(completion: str, code: str) -> None:
    assert code_of(completion, MBPP) == code


@pytest.mark.parametrize(
    ("completion", "is_whole"),
    [
        ("    return a + b", False),
        ("```python\nreturn a + b\n```", False),
        ("\n    x = 1\n    return x", False),
        ("def add(a, b):\n    return a + b", True),
        ("async def add(a, b):\n    return a + b", True),
        ("add = sum", True),
        ("class add:\n    pass", True),
        ("    def add(a): return 1\n    return add(b)", False),
    ],
)
def test_a_body_alone_comes_behind_its_head(completion: str, is_whole: bool) -> None:
    code = code_of(completion, HUMANEVAL)
    assert code.startswith(HUMANEVAL["prompt"].rstrip()) != is_whole
    compile(code, "solution.py", "exec")


# --- many at a time ---


@needs_sandbox
def test_the_order_of_scores_is_that_of_completions() -> None:
    slow = "import time\ntime.sleep(0.5)\n" + ADD
    completions = [slow, ADD, "def add(a, b):\n    return 0", slow, "def add(a, b):\n    return 3", ADD]
    expected = [1.0, 1.0, 0.5, 1.0, 0.5, 1.0]
    assert scores(completions, MBPP, workers=4) == expected
    assert scores(completions, MBPP, workers=1) == expected


@needs_sandbox
def test_a_loop_costs_its_time_and_no_more() -> None:
    start = time.monotonic()
    assert scores(["def add(a, b):\n    while a: pass\n    return 0"], MBPP, timeout_s=1) == [0.5]
    assert time.monotonic() - start < 6


@needs_sandbox
def test_no_file_stays_open() -> None:
    reward = UnitTests(allow_code_execution=True, workers=2)
    reward([[]], [ADD], [MBPP])
    before = len(os.listdir("/proc/self/fd"))
    reward([[]] * 4, [ADD] * 4, [MBPP] * 4)
    assert len(os.listdir("/proc/self/fd")) == before


@needs_sandbox
def test_reference_answers_of_real_records_pass() -> None:
    some = records(bundled.target_path("mbpp"), 8)
    answers = [record["messages"][-1]["content"] for record in some]
    reward = UnitTests(allow_code_execution=True)
    assert reward([record["messages"][:-1] for record in some], answers, some) == [1.0] * 8
