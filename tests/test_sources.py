"""docs/sources.md says what the code does, and the code names no source that is not there."""

import ast
import inspect
import re
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from handpick.algorithms import AlgorithmSettings
from handpick.iterselecttune.classifier_settings import ClassifierSettings
from handpick.iterselecttune.settings import IterSelectSettings
from handpick.objectives.settings import ObjectiveSettings
from handpick.settings.representation import RepresentationSettings
from handpick.studies.settings import QuantileSettings
from handpick.training.settings import FinetuneSettings, LoraSettings, WarmupSettings

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "sources.md").read_text(encoding="utf-8")
ROWS = re.findall(r"^\| ([^|]+) \| `([^`]+)` \| `(src/[\w/.]+\.py):([\w.-]+)` \| (.+) \|$", PAGE, re.MULTILINE)

# of the machine, of chance or of one's purse, and no method's
_NO_METHOD = {"seed", "micro_batch", "diverse"}


def value_of(file: str, name: str) -> Any:
    """The default that a name in a module stands for: of a setting, a constant, or an argument."""
    module = file.removeprefix("src/").removesuffix(".py").removesuffix("/__init__").replace("/", ".")
    found: Any = import_module(module)
    for part in name.split("."):
        if isinstance(found, type) and issubclass(found, BaseModel):
            found = found.model_fields[part].get_default(call_default_factory=True)
        elif isinstance(found, dict):
            found = found[part]
        elif inspect.isclass(found):
            found = inspect.signature(found).parameters[part].default
        else:
            found = getattr(found, part)
    return found


def read(text: str) -> Any:
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def test_there_are_rows() -> None:
    lines = re.findall(r"^\| [^|]+ \| `[^`]+` \| .*$", PAGE, re.MULTILINE)
    assert len(ROWS) == len(lines) > 80


@pytest.mark.parametrize(("what", "value", "file", "name", "source"), ROWS, ids=[f"{row[3]}" for row in ROWS])
def test_a_value_is_the_codes(what: str, value: str, file: str, name: str, source: str) -> None:
    assert value_of(file, name) == read(value)
    assert source.strip()


@pytest.mark.parametrize(
    "kind",
    [AlgorithmSettings, WarmupSettings, LoraSettings, FinetuneSettings, RepresentationSettings, QuantileSettings,
     IterSelectSettings, ClassifierSettings],
)  # fmt: skip
def test_every_number_of_a_method_has_a_row(kind: type[BaseModel]) -> None:
    named = {name for *_, name, _ in ROWS}
    numbers = {
        name for name, field in kind.model_fields.items() if type(field.default) in (int, float)
    } - _NO_METHOD  # fmt: skip
    assert numbers
    assert {f"{kind.__name__}.{name}" for name in numbers} <= named


def test_every_number_of_an_objective_has_a_row() -> None:
    named = {name for *_, name, _ in ROWS}
    numbers = {name for name, field in ObjectiveSettings.model_fields.items() if type(field.default) in (int, float)}
    of_judges = {name for name in numbers if name.startswith(("judge_", "max_judge_")) or name == "max_answer_tokens"}
    assert {f"ObjectiveSettings.{name}" for name in numbers - of_judges} <= named


def test_every_place_beside_the_tables_is_there() -> None:
    places = re.findall(r"\(?`(src/[\w/.]+\.py):([\w.-]+)`", PAGE)
    for file, name in places:
        assert value_of(file, name) is not None
    for file in re.findall(r"`((?:src|benchmarks)/[\w/.]+)`", PAGE):
        assert (ROOT / file).exists(), file
    for page in re.findall(r"\]\(([\w.]+\.md)\)", PAGE):
        assert (ROOT / "docs" / page).exists(), page


def test_no_docstring_cites_a_page_that_is_not_there() -> None:
    """Seven cited "methods.md, section N", which the project does not have: its methods.md is a generated list."""
    for path in sorted((ROOT / "src").rglob("*.py")):
        text = path.read_text(encoding="utf-8")
        assert not re.search(r"(?<!docs/)methods\.md|methods\.md, section", text), path
        for page in re.findall(r"docs/([\w-]+\.md)", text):
            assert (ROOT / "docs" / page).exists(), (path, page)
