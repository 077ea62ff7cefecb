"""The words of the code: docstrings in the imperative, one meaning a class name, verbs for functions."""

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src" / "handpick"

# How a docstring that says what it gives, and not what it does, begins.
NOUN_PHRASE = re.compile(
    r"(?:an?|the|each|every|all|both|some|any|no|none|one|two|three|those|these|this|that|its?|"
    r"whether|what|which|who|whose|where|when|why|how|whatever|"
    r"of|as|for|from|in|at|by|with|without|under|over|between|about|while|so|not|"
    r"everything|nothing|settings|rows|features|tokens|bytes|seconds|examples|money|mean|ids)\b",
    re.IGNORECASE,
)
# What nobody searches for: a participle says that something was done, and not what is.
PARTICIPLES = {
    "answered", "asked", "checked", "chosen", "collated", "drawn", "embedded", "encoded", "estimated", "evaluated",
    "expanded", "expected", "explained", "extended", "filled", "filtered", "fitted", "found", "given", "graded",
    "held", "judged", "kept", "labelled", "listed", "loaded", "looked", "made", "measured", "merged", "moved",
    "named", "normalised", "opened", "packed", "padded", "parsed", "picked", "planned", "prepared", "quantised",
    "quantized", "quoted", "raised", "ranked", "recomputed", "renamed", "rendered", "sampled", "saved", "scaled",
    "scored", "seen", "selected", "sent", "shifted", "shortened", "shown", "spoken", "stored", "summarised",
    "summarized", "swapped", "taken", "timed", "tokenised", "told", "trained", "unescaped", "unread", "used",
    "weighed", "weighted", "whitened", "within", "without", "worked", "wrapped", "written",
}  # fmt: skip


def modules() -> list[Path]:
    return sorted(SOURCE.rglob("*.py"))


def functions(tree: ast.AST) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def is_property(function: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    return any("property" in ast.unparse(decorator) for decorator in function.decorator_list)


@pytest.mark.parametrize("path", modules(), ids=lambda path: path.relative_to(SOURCE).as_posix())
def test_docstrings_begin_with_a_verb(path: Path) -> None:
    found = [
        f"{path.relative_to(SOURCE)}:{function.lineno}: {function.name}: {docstring.splitlines()[0]}"
        for function in functions(ast.parse(path.read_text(encoding="utf-8")))
        if not is_property(function)
        and function.name != "__init__"
        and (docstring := ast.get_docstring(function))
        and (NOUN_PHRASE.match(docstring) or not docstring[0].isupper())
    ]
    assert not found, "begin with a verb, such as Return or Read:\n" + "\n".join(found)


def test_a_class_name_stands_in_one_module() -> None:
    places = defaultdict(set)
    for path in modules():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef):
                places[node.name].add(path.relative_to(SOURCE).as_posix())
    assert {name: sorted(where) for name, where in places.items() if len(where) > 1} == {}


def test_no_function_is_named_by_a_bare_participle() -> None:
    found = [
        f"{path.relative_to(SOURCE)}:{function.lineno}: {function.name}"
        for path in modules()
        for function in functions(ast.parse(path.read_text(encoding="utf-8")))
        if not is_property(function) and function.name.strip("_") in PARTICIPLES
    ]
    assert not found, "name them by what they do, verb and object:\n" + "\n".join(found)
