import sys
from pathlib import Path

import pytest

from handpick.errors import SettingsError
from handpick.rewards import find_reward, reward_fingerprint, score
from handpick.rewards.callable import load_callable

POLITE = """
import dataclasses

@dataclasses.dataclass
class Word:
    text: "str"

WORD = Word("please")
number = 3

def politeness(prompts, completions, records):
    return [WORD.text in completion for completion in completions]

def strict(prompts, completions, records):
    return [record["tone"] for record in records]

def short(prompts, completions):
    return []

def keywords(*, prompts, completions, records):
    return []

class Counts:
    def __call__(self, prompts, completions, records):
        return map(len, completions)

counts = Counts()
"""


@pytest.fixture
def rewards_file(tmp_path: Path) -> Path:
    path = tmp_path / "my_rewards.py"
    path.write_text(POLITE)
    return path


def test_a_function_of_a_file(rewards_file: Path) -> None:
    reward = find_reward(f"{rewards_file}:politeness")
    assert score(reward, [[]] * 2, ["yes please", "no"], [{}] * 2, ["a", "b"]) == [1.0, 0.0]


def test_a_path_may_start_from_here(rewards_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(rewards_file.parent)
    assert score(find_reward("my_rewards.py:counts"), [[]], ["four"], [{}], ["a"]) == [4.0]
    assert "my_rewards" not in sys.modules


def test_a_function_of_a_module(rewards_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(rewards_file.parent))
    try:
        reward = find_reward("my_rewards:politeness")
        assert score(reward, [[]], ["please"], [{}], ["a"]) == [1.0]
        assert reward_fingerprint("my_rewards:politeness") == reward_fingerprint(f"{rewards_file}:politeness")
    finally:
        sys.modules.pop("my_rewards", None)


def test_what_it_raises_is_told_with_its_line(rewards_file: Path) -> None:
    reward = find_reward(f"{rewards_file}:strict")
    line = POLITE[: POLITE.index('record["tone"]')].count("\n") + 1
    message = rf"my_rewards.py:strict raised KeyError: 'tone' \(my_rewards.py, line {line}\) on the record b; mend it"
    with pytest.raises(SettingsError, match=message):
        score(reward, [[]] * 2, ["", ""], [{"tone": 1}, {}], ["a", "b"])


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("politness", r"no function 'politness' in .*my_rewards.py .did you mean 'politeness'..; it has .*politeness"),
        ("number", "my_rewards.py:number is no function but int; a reward is a function .prompts, completions, rec"),
        ("short", r"my_rewards.py:short takes \(prompts, completions\), not three arguments; a reward is a function"),
        ("keywords", r"my_rewards.py:keywords takes \(\*, prompts, completions, records\), not three arguments"),
    ],
)
def test_a_function_that_will_not_do(rewards_file: Path, name: str, message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        load_callable(f"{rewards_file}:{name}")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x = 1\n1 / 0\n", r"broken.py cannot be imported: it raised ZeroDivisionError: .* \(broken.py, line 2\)"),
        ("def f(:\n", r"broken.py cannot be imported: it raised SyntaxError: .*\(broken.py, line 1\)"),
        ("import no_such_thing\n", "it raised ModuleNotFoundError: No module named 'no_such_thing'"),
        ("raise SystemExit(3)\n", "it raised SystemExit: 3"),
        ("", "there is no function 'f' in .*broken.py; it has no function at all"),
    ],
)
def test_a_file_that_cannot_be_imported(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "broken.py"
    path.write_text(text)
    with pytest.raises(SettingsError, match=message) as error:
        load_callable(f"{path}:f")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("no_such.py:f", "the file no_such.py of the reward does not exist; check the path, which starts from /"),
        ("no_such.py", "no_such.py names no function: write no_such.py:FUNCTION"),
        ("no_such.py:", "names no function: write no_such.py:FUNCTION"),
        ("no.such.module:f", "there is no module no to import; for a file write its path, such as my_rewards.py:pol"),
        ("json.no_such:f", "there is no module json.no_such to import"),
        ("json.decoder:dumps", "no function 'dumps' in json.decoder; it has "),
    ],
)
def test_what_is_not_there(spec: str, message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        find_reward(spec)


def test_a_function_without_a_file_or_a_signature_is_taken_at_its_word() -> None:
    assert find_reward("builtins:max")([], [], [1]) == [1]  # type: ignore[list-item]
    assert reward_fingerprint("builtins:max") == {"reward": "builtins:max"}


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    (tmp_path / "odd.py").mkdir()
    with pytest.raises(SettingsError, match=r"odd.py of the reward is a folder"):
        load_callable(f"{tmp_path / 'odd.py'}:f")


def test_a_module_that_raises(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "broken_module.py").write_text("import no_such_thing")
    (tmp_path / "raising_module.py").write_text("raise ValueError('no')")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(SettingsError, match="module broken_module cannot be imported: it raised ModuleNotFoundError"):
        find_reward("broken_module:f")
    with pytest.raises(SettingsError, match="module raising_module cannot be imported: it raised ValueError: no"):
        find_reward("raising_module:f")


def test_the_fingerprint_is_the_files_and_not_its_paths(rewards_file: Path, tmp_path: Path) -> None:
    copy = tmp_path / "elsewhere.py"
    copy.write_text(POLITE)
    mark = reward_fingerprint(f"{rewards_file}:politeness")
    assert mark == reward_fingerprint(f"{copy}:politeness")
    assert mark != reward_fingerprint(f"{rewards_file}:strict")
    copy.write_text(POLITE + "\n# other")
    assert mark != reward_fingerprint(f"{copy}:politeness")
