"""Checkpoints that others made: what their folders say is held against the run's model."""

import shutil
from pathlib import Path

import pytest

from handpick.bundled import model_path
from handpick.data.render import Renderer
from handpick.model import load_tokenizer
from handpick.progress import forward_lines
from handpick.scorers.checkpoints import compare_tokenizers
from handpick.settings import Settings


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """A folder with the shipped model's tokenizer, as a Trainer leaves it beside an adapter."""
    for path in model_path().glob("*token*"):
        shutil.copy(path, tmp_path)
    shutil.copy(model_path() / "chat_template.jinja", tmp_path)
    return tmp_path


def compared(checkpoint: Path) -> list[str]:
    said: list[str] = []
    settings = Settings(model=str(model_path()))
    with forward_lines(said.append):
        compare_tokenizers(checkpoint, settings, Renderer(load_tokenizer(str(model_path()))))
    return said


def test_the_same_tokenizer_and_template(checkpoint: Path) -> None:
    assert compared(checkpoint) == []


def test_another_template_is_named(checkpoint: Path) -> None:
    (checkpoint / "chat_template.jinja").write_text("{% for m in messages %}{{ m.content }}{% endfor %}")
    (said,) = compared(checkpoint)
    assert said.startswith(f"{checkpoint} was saved with another chat template than {model_path()} has")


def test_another_tokenizer_is_named(checkpoint: Path) -> None:
    tokenizer = load_tokenizer(str(checkpoint))
    tokenizer.add_tokens(["<note>"])
    tokenizer.save_pretrained(checkpoint)
    (said,) = compared(checkpoint)
    assert "another tokenizer than" in said


def test_a_checkpoint_without_a_tokenizer(tmp_path: Path) -> None:
    assert compared(tmp_path) == []
