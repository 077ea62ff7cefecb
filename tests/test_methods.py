"""The tables of what there is to choose from, and the page that shows them."""

import re
from pathlib import Path
from typing import get_args

import pytest
from typer.testing import CliRunner

from handpick.algorithms import ALGORITHMS
from handpick.choices import ObjectiveName
from handpick.cli import app
from handpick.errors import SettingsError
from handpick.methods import METHODS, OWN_COMMANDS, find_method
from handpick.objectives import OBJECTIVES
from handpick.representations import SCORERS
from handpick.rewards import REWARDS
from handpick.settings import parse_settings

ROOT = Path(__file__).parent.parent

# a preset, its parts, as its paper has it: representation, pool side, query side, algorithm
PAPERS = {
    "less": ("gradient", "adam", "next-token", "mean-max"),
    "rose": ("gradient", "adam", "preference", "mean-max"),
    "nice": ("gradient", "adam", "reward", "mean-max"),
    "less-rr": ("gradient", "adam", "next-token", "round-robin"),
    "less-uot": ("gradient", "adam", "next-token", "uot"),
    "landmarks": ("landmarks", "adam", "next-token", "round-robin"),
    "rds+": ("rds+", None, None, "round-robin"),
    "whitened-rds-rr": ("whitened-rds+", None, None, "round-robin"),
    "embed": ("embed", None, None, "round-robin"),
    "tsds": ("embed", None, None, "knn-kde"),
    "tsds-uniform": ("embed", None, None, "knn-uniform"),
    "gradient-rr": ("gradient", "sgd", "next-token", "round-robin"),
    "whitened-rr": ("whitened", "adam", "next-token", "round-robin"),
    "bm25": ("bm25", None, None, "round-robin"),
    "dsir": ("dsir", None, None, "importance"),
    "random": ("none", None, None, "random"),
}


def markdown() -> str:
    return CliRunner().invoke(app, ["methods", "--markdown"]).stdout


def test_the_page_is_what_the_command_writes() -> None:
    assert (ROOT / "docs" / "methods.md").read_text(encoding="utf-8") == markdown()


@pytest.mark.parametrize("name", [*METHODS, *SCORERS, *OBJECTIVES, *ALGORITHMS, *REWARDS])
def test_the_page_and_the_screen_have_everything(name: str) -> None:
    assert f"\n| {name}" in markdown()
    assert name in CliRunner().invoke(app, ["methods"], env={"COLUMNS": "200"}).stdout


@pytest.mark.parametrize("name", PAPERS)
def test_presets_are_what_their_papers_say(name: str) -> None:
    method = METHODS[name]
    representation, optimizer, objective, algorithm = PAPERS[name]
    assert (method.representation, method.algorithm) == (representation, algorithm)
    if optimizer is not None:
        assert (method.optimizer, method.objective) == (optimizer, objective)


@pytest.mark.parametrize("name", METHODS)
def test_every_preset_is_made_of_what_there_is_and_can_be_set(name: str) -> None:
    method = METHODS[name]
    assert method.representation in SCORERS
    assert method.objective in OBJECTIVES
    assert method.algorithm in ALGORITHMS
    settings = parse_settings({"method": name})
    assert (settings.used_representation, settings.used_algorithm) == (method.representation, method.algorithm)


def test_the_words_that_settings_take_are_the_tables() -> None:
    with pytest.raises(SettingsError, match=", ".join(rf"{re.escape(name)}(:[A-Z]+)?" for name in SCORERS)):
        parse_settings({"representation": "tfidf"})
    assert list(get_args(ObjectiveName)) == list(OBJECTIVES)


def test_a_name_overrules_the_methods_own() -> None:
    settings = parse_settings({"method": "less", "representation": "embed", "algorithm": "knn-uniform"})
    assert (settings.used_representation, settings.used_algorithm) == ("embed", "knn-uniform")


def test_an_unknown_method_is_named_with_those_there_are() -> None:
    with pytest.raises(
        SettingsError, match=r"no method 'lesss' \(did you mean 'less'\?\); choose one of less-rr, less,"
    ):
        find_method("lesss")


@pytest.mark.parametrize("name", OWN_COMMANDS)
def test_methods_with_a_command_of_their_own_are_listed_by_it_and_not_among_the_presets(name: str) -> None:
    assert f"\n| handpick {name} |" in markdown()
    assert f"\n| {name} |" not in markdown()
    assert f"handpick {name}" in CliRunner().invoke(app, ["methods"], env={"COLUMNS": "200"}).stdout


@pytest.mark.parametrize("name", ["iterselect", "IterSelectTune"])
def test_a_method_with_a_command_of_its_own_is_answered_with_the_command(name: str) -> None:
    shown = CliRunner().invoke(app, ["select", "--method", name, "--pool", "nowhere.jsonl"])
    assert shown.exit_code == 2
    assert shown.stderr == (
        "handpick: iterselect is no method for --method but a command of its own: run `handpick iterselect`\n"
    )
