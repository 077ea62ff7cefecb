"""What a study's YAML may say, and what is said of its mistakes."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from handpick.errors import SettingsError
from handpick.studies.settings import StudySettings

GOOD: dict[str, Any] = {
    "pool": "pool.jsonl", "models": "models/small", "targets": {"t": {"query": "dev.jsonl", "test": "test.jsonl"}},
    "methods": ["bm25"], "budgets": [10],
}  # fmt: skip


def test_what_is_left_out_has_defaults() -> None:
    study = StudySettings(**GOOD)
    assert study.models == {"small": "models/small"}
    assert study.methods == {"bm25": {}}
    assert study.seeds == [0, 1, 2]
    assert study.draws == 10
    assert study.baselines == ["zero-shot", "random", "full", "longest"]
    assert study.chosen_by == ["bm25", "random", "longest"]
    assert study.targets["t"].test.metrics == ["loss"]
    assert study.folder == Path("runs/study")


def test_a_test_may_be_a_file_with_metrics_beside_it_or_a_mapping() -> None:
    beside = {"query": "d", "test": "f", "metrics": ["loss", "choice-likelihood"], "choices": ["a", "b"]}
    within = {"query": "d", "test": {"files": "f", "metrics": ["loss", "choice-likelihood"], "choices": ["a", "b"]}}
    one, other = (StudySettings(**GOOD | {"targets": {"t": target}}) for target in (beside, within))
    assert one.targets == other.targets
    assert one.targets["t"].test.choices == ["a", "b"]


def test_settings_of_all_tests_give_way_to_a_targets_own() -> None:
    targets = {"a": {"query": "d", "test": "f"}, "b": {"query": "d", "test": "f", "limit": 5}}
    study = StudySettings(**GOOD | {"targets": targets, "tests": {"limit": 300}})
    assert [study.targets[name].test.limit for name in "ab"] == [300, 5]


def test_a_method_has_its_name_unless_it_says_another() -> None:
    methods = {"bm25": None, "mine": {"method": "less-rr", "algorithm": "uot"}}
    study = StudySettings(**GOOD | {"methods": methods, "max_length": 99, "template_args": {"think": False}})
    words = study.method("bm25", {})
    assert (words.method, words.unused_settings) == ("bm25", [])  # it looks at neither, and is not told
    mine = study.method("mine", {"model": "m"})
    assert (mine.method, mine.used_algorithm, mine.max_length, mine.model) == ("less-rr", "uot", 99, "m")
    assert mine.template_args == {"think": False}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"budget": [3]}, "no setting 'budget' (did you mean 'budgets'?)"),
        ({"pool": None}, "pool"),
        ({"budgets": []}, "budgets"),
        ({"budgets": ["2M tokens"]}, "give examples"),
        ({"budgets": ["many"]}, "many"),
        ({"budgets": [5, 5]}, "budgets has an entry twice"),
        ({"methods": ["bm52"]}, "no method 'bm52'"),
        ({"methods": {"bm25": {"algorithmus": "uot"}}}, "algorithmus"),
        ({"methods": {"bm25": {"query": "x"}}}, "the study's own"),
        ({"methods": ["zero-shot"]}, "baseline"),
        ({"baselines": ["best"]}, "baselines"),
        ({"methods": [], "baselines": []}, "nothing to study"),
        ({"models": ["a/m", "b/m"]}, "two models of one name"),
        ({"targets": {"t": {"query": "d"}}}, "targets.t.test is missing"),
        ({"targets": {"t": {"query": "d", "test": "f", "metric": "loss"}}}, "metric"),
        ({"targets": {"t": {"query": "d", "test": "f", "metrics": ["accuracy"]}}}, "accuracy"),
        ({"workers": 0}, "workers"),
        ({"train": {"epoch": 3}}, "train: epoch"),
        ({"train": {"lora": 16}}, "train: lora"),
        ({"train": {"seed": 7}}, "give seeds"),
        ({"methods": {"random": {"seed": 7}}}, "give draws"),
        ({"targets": {"t": {"query": "d", "test": "f", "metrics": ["judge:m"]}}}, "handpick evaluate"),
        ({"keep": "nothing"}, "keep should be 'models' or 'results', not 'nothing'"),
    ],
)
def test_a_mistake_is_one_sentence_with_the_file(tmp_path: Path, change: dict[str, Any], said: str) -> None:
    path = tmp_path / "study.yaml"
    path.write_text(yaml.safe_dump(GOOD | change))
    with pytest.raises(SettingsError) as caught:
        StudySettings.from_yaml(path)
    assert said in str(caught.value)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["", "- a\n", "a: [", "1: 2\n"])
def test_what_is_no_study_is_called_that(tmp_path: Path, text: str) -> None:
    path = tmp_path / "study.yaml"
    path.write_text(text)
    with pytest.raises(SettingsError, match=r"study\.yaml"):
        StudySettings.from_yaml(path)
    with pytest.raises(SettingsError, match="cannot be read"):
        StudySettings.from_yaml(tmp_path / "none.yaml")


def test_how_records_are_read_is_said_once_for_all() -> None:
    target = {"query": "q.jsonl", "test": "t.jsonl"}
    given = {"pool": "p.jsonl", "models": ["m"], "targets": {"a": target}, "methods": ["bm25"], "budgets": [1]}
    columns = {"prompt": "q", "response": "a"}
    settings = StudySettings(**given, columns=columns, turn_weights="round")
    assert settings.method("bm25", {"query": ["q"]}).reading == settings.reading
    assert settings.targets["a"].test.reading == settings.reading
    with pytest.raises(SettingsError, match="columns is the study's own"):
        StudySettings(**given | {"methods": {"bm25": {"columns": columns}}})
