"""The table of layers in docs/architecture.md holds for the code."""

import ast
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "handpick"
FRONT = "handpick"  # the room of the package's own __init__.py


@dataclass(frozen=True)
class Room:
    layer: int
    at_most: frozenset[str]
    planned: bool

    def may_import(self, name: str, other: "Room") -> bool:
        return other.layer < self.layer and (not self.at_most or name in self.at_most)


def read_table(text: str) -> dict[str, Room]:
    table = re.search(r"<!-- layers -->\n(.*?)<!-- /layers -->", text, re.DOTALL)
    assert table, "docs/architecture.md has lost its table of layers"
    rooms: dict[str, Room] = {}
    for line in table[1].splitlines()[2:]:
        layer, room, at_most, what = (cell.strip() for cell in line.strip("|").split("|"))
        name = room.strip("`")
        assert name not in rooms, f"two rows for {name}"
        rooms[name] = Room(int(layer), frozenset(re.findall(r"`(\w+)`", at_most)), what.endswith("(planned)"))
    return rooms


def modules(source: Path) -> dict[str, Path]:
    """Every module by its dotted name."""
    found = {}
    for path in sorted(source.rglob("*.py")):
        parts = path.relative_to(source.parent).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def room_of(module: str) -> str:
    return module.split(".")[1] if "." in module else FRONT


def imports(tree: ast.AST, module: str, is_package: bool) -> Iterator[tuple[int, str]]:
    """(line, module or name) for each import of handpick, wherever it stands in the file."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.split(".")[0] == "handpick":
                    yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parents = module.split(".") if is_package else module.split(".")[:-1]
                base = ".".join([*parents[: len(parents) - node.level + 1], *([base] if base else [])])
            if base.split(".")[0] == "handpick":
                for alias in node.names:
                    yield node.lineno, f"{base}.{alias.name}"


def violations(source: Path, rooms: dict[str, Room]) -> list[str]:
    found = modules(source)
    names = {room_of(module) for module in found}
    wrong = []
    for module, path in found.items():
        here = room_of(module)
        lines = path.read_text(encoding="utf-8").splitlines()
        for number, target in imports(ast.parse("\n".join(lines)), module, path.name == "__init__.py"):
            there = room_of(target)
            if there not in names:  # `from handpick import select`: a name of the front
                there = FRONT
            if there != here and there in rooms and here in rooms and not rooms[here].may_import(there, rooms[there]):
                where = f"{path.relative_to(source.parent)}:{number}"
                wrong.append(f"{where}: {lines[number - 1].strip()}  ({here} may not import {there})")
    return wrong


@pytest.fixture(scope="module")
def rooms() -> dict[str, Room]:
    return read_table((ROOT / "docs" / "architecture.md").read_text(encoding="utf-8"))


def test_no_import_runs_against_the_flow(rooms: dict[str, Room]) -> None:
    wrong = violations(SOURCE, rooms)
    assert not wrong, "\n".join(["imports against docs/architecture.md:", *wrong])


def test_every_module_has_a_row(rooms: dict[str, Room]) -> None:
    missing = sorted({room_of(module) for module in modules(SOURCE)} - set(rooms))
    assert not missing, f"not in the table of docs/architecture.md: {missing}"


def test_every_row_names_something(rooms: dict[str, Room]) -> None:
    there = {room_of(module) for module in modules(SOURCE)}
    gone = sorted(name for name, room in rooms.items() if name not in there and not room.planned)
    assert not gone, f"rows of docs/architecture.md without a module: {gone}"
    unknown = sorted({name for room in rooms.values() for name in room.at_most} - set(rooms))
    assert not unknown, f"'imports at most' names rooms without a row: {unknown}"


@pytest.mark.parametrize(
    ("statement", "is_wrong"),
    [
        ("from handpick.low import thing", False),
        ("from ..low import thing", False),
        ("from handpick.high import thing", True),
        ("from handpick import high", True),
        ("import handpick.high.deep", True),
        ("from ..high import thing", True),
        ("from .. import high", True),
        ("from handpick import select", True),
        ("def f():\n    from handpick.high import thing", True),
        ("from handpick.beside import thing", True),
        ("from handpick.middle.inner import thing", False),
        ("from .inner import thing", False),
        ("import numpy", False),
    ],
)
def test_the_check_itself_sees_each_form_of_import(tmp_path: Path, statement: str, is_wrong: bool) -> None:
    source = tmp_path / "handpick"
    for room in ("low", "beside", "high", "middle"):
        (source / room).mkdir(parents=True)
        (source / room / "__init__.py").touch()
    (source / "__init__.py").touch()
    (source / "middle" / "inner.py").touch()
    (source / "middle" / "outer.py").write_text(statement)
    layers = {"low": 1, "middle": 2, "beside": 2, "high": 3, FRONT: 4}
    rooms = {name: Room(layer, frozenset(), planned=False) for name, layer in layers.items()}

    wrong = violations(source, rooms)

    assert bool(wrong) == is_wrong
    assert all(statement.splitlines()[-1].strip() in line for line in wrong)


def test_a_room_with_a_list_may_import_nothing_else() -> None:
    room = Room(5, frozenset({"errors"}), planned=False)
    assert room.may_import("errors", Room(1, frozenset(), planned=False))
    assert not room.may_import("data", Room(3, frozenset(), planned=False))


def test_import_handpick_is_light() -> None:
    heavy = ("torch", "transformers", "datasets", "peft", "accelerate", "pandas", "pyarrow")
    code = f"import sys, handpick; print(*[name for name in {heavy!r} if name in sys.modules])"
    environment = {**os.environ, "PYTHONPATH": str(SOURCE.parent)}
    run = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert run.stdout.split() == []
