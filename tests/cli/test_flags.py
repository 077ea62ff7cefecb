"""Flags made from settings: their names, what they take, where what was given goes, and how help looks."""

from typing import Annotated, Any, Literal

import pytest
import typer
from pydantic import BaseModel, Field
from typer.testing import CliRunner

from handpick.cli.flags_from_settings import Style, flags_of, with_flags
from handpick.flag_names import NO_FLAG, Flag


class Inner(BaseModel):
    rate: Annotated[float, Flag("inner_rate")] = Field(0.5, description="of the inner")


class Outer(BaseModel):
    model: str = Field(description="base model")
    limit: int | None = Field(None, description="records, at most")
    seed: int = Field(0, description="of the draw")
    stop: list[str] = Field([], description="text that ends an answer; several")
    kind: Annotated[Literal["a", "b"], Flag(heading="Second")] = Field("a", description="pass@K: which one")
    inner: Annotated[Inner, Flag(heading="First")] = Inner()
    fast: bool = Field(False, description="be quick")
    hidden: Annotated[int, NO_FLAG] = 1


def run(*arguments: str, style: Style | None = None) -> Any:
    app = typer.Typer()
    seen: list[Any] = []

    @app.command()
    @with_flags(settings=flags_of(Outer, style=style), headings=("First", "Second"))
    def command(settings: dict[str, Any], dry_run: Annotated[bool, typer.Option("--dry-run")] = False) -> None:
        """Do it."""
        seen.append((settings, dry_run))

    result = CliRunner().invoke(app, list(arguments), env={"COLUMNS": "160", "TERM": "dumb"})
    return seen[0] if seen else result.output


def test_what_is_given_goes_back_nested_as_the_settings_are() -> None:
    given = ["--model", "m", "--stop", "x", "--stop", "y", "--inner-rate", "2", "--fast", "--dry-run", "--seed", "0"]
    assert run(*given) == (
        {"model": "m", "seed": "0", "stop": ["x", "y"], "inner": {"rate": "2"}, "fast": True}, True,
    )  # fmt: skip


def test_what_is_not_given_is_no_value() -> None:
    assert run("--model", "m") == ({"model": "m"}, False)


@pytest.mark.parametrize(
    ("sentences", "words"),
    [
        (
            False,
            ["base model [required]", "N records, at most", "of the draw (default: 0)", "a|b pass@K: which one (d"],
        ),
        (
            True,
            ["Base model.", "Records, at most.", "Of the draw (default: 0).", "a|b pass@K: which one (default: a)."],
        ),
    ],
)
def test_help(sentences: bool, words: list[str]) -> None:
    shown = " ".join(run("--help", style=Style(sentences=sentences)).split())
    for each in words:
        assert each in shown
    assert "hidden" not in shown
    assert shown.index("--seed") < shown.index("First") < shown.index("--inner-rate") < shown.index("Second")
    assert "False" not in shown


def test_defaults_may_be_left_unsaid_and_words_replaced() -> None:
    shown = run("--help", style=Style(defaults=False, descriptions={"seed": "of chance"}, heading="First"))
    assert "of chance" in shown
    assert "default" not in shown


def test_a_required_flag_is_asked_for() -> None:
    assert "Missing option '--model'" in run("--seed", "1")
