"""What is counted of the house: ``python scripts/house_counts.py [TREE] [--against COMMIT] [--verbose]``.

Prints a markdown table of figures that say how often knowledge that has one place stands in another, beside what they
should come to. Only what the syntax tree and the tokens say is looked at, so every figure has a rule, which its
function's docstring tells. ``--verbose`` lists the places.
"""

import argparse
import ast
import io
import sys
import tokenize
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple, TypeGuard

from worktree import REPOSITORY, worktree

PACKAGE = Path("src") / "handpick"

# names that are no word of anything else here, and those that are
REPRESENTATIONS = {"gradient", "whitened", "gist", "rds+", "embed", "bm25", "dsir", "perplexity", "ifd"}
AMBIGUOUS = {"length", "none"}
OWN_ROOMS = ("represent", "scorers")  # where a representation may know its own name
TABLES = ("methods.py", "representations.py", "choices.py")  # whose tables list every name

SUFFIXES = (".json", ".jsonl", ".yaml", ".npy", ".npz", ".html", ".csv", ".png", ".svg", ".arrow", ".safetensors")
FOLDERS = {
    "features", "warmup", "samples", "parsed", "shards", "steps", "rounds", "answers", "verdicts", "report",
    "unfinished",
}  # fmt: skip
LAYOUT = "layout.py"  # the module that knows the names of files and folders
FOREIGN = {  # names that others gave: of a model's files, of what `datasets` saves, of Arrow's type of JSON
    "config.json", "tokenizer.json", "tokenizer_config.json", "model.safetensors", "modules.json", "trainer_state.json",
    "adapter_config.json", "adapter_model.safetensors", "tekken.json", "dataset_dict.json", "dataset_info.json",
    "dataset_infos.json", "state.json", "arrow.json",
}  # fmt: skip
PUBLISHED = "published.py"  # reads a paper's files, by the paper's names
NAMING = {"glob", "rglob", "with_name", "joinpath", "Path", "fnmatch"}  # calls whose text names files


class Place(NamedTuple):
    """Where something was found: a file below the package, and a line."""

    file: str
    line: int


@dataclass(frozen=True)
class Module:
    """A file of the package."""

    name: str
    text: str

    @cached_property
    def tree(self) -> ast.Module:
        """Its syntax tree."""
        return ast.parse(self.text)

    @cached_property
    def nodes(self) -> list[ast.AST]:
        """All nodes of the tree."""
        return list(ast.walk(self.tree))

    @cached_property
    def parents(self) -> dict[ast.AST, ast.AST]:
        """The node above each node."""
        return {child: node for node in self.nodes for child in ast.iter_child_nodes(node)}

    @cached_property
    def tokens(self) -> list[tokenize.TokenInfo]:
        """Its tokens."""
        return list(tokenize.generate_tokens(io.StringIO(self.text).readline))

    @property
    def room(self) -> str:
        """The package or module directly under the house that it belongs to."""
        return self.name.split("/")[0].removesuffix(".py")

    def above(self, node: ast.AST) -> Iterator[ast.AST]:
        """The nodes above a node, the nearest first."""
        while (parent := self.parents.get(node)) is not None:
            yield parent
            node = parent


def modules(tree: Path) -> list[Module]:
    """All modules of a tree's package."""
    package = tree / PACKAGE
    paths = sorted(package.rglob("*.py"))
    if not paths:
        raise SystemExit(f"{package} holds no modules")
    return [Module(path.relative_to(package).as_posix(), path.read_text(encoding="utf-8")) for path in paths]


# --------------------------------------------------------------------------------- names of representations


def representation_names(house: Sequence[Module]) -> list[Place]:
    """Lines outside a representation's own room that compare its name or list it.

    That is a text which is the whole name and which is compared (``==``, ``in`` and the like, and the members of what
    is compared with), a ``case``, a member of a set or of a tuple or list of several names, or a key of a dict.
    ``length`` and ``none``, which other things are called too, count only beside another name, or compared with what is
    called ``name`` or ``representation``. Where the names
    belong (``TABLES``) does not count.
    """
    places = set()
    for module in house:
        if module.room in OWN_ROOMS:
            continue
        for node in module.nodes:
            if _is_text(node) and node.value in REPRESENTATIONS | AMBIGUOUS and _decides(module, node):
                places.add(Place(module.name, node.lineno))
    return sorted(places)


def _is_text(node: ast.AST) -> TypeGuard[ast.Constant]:
    return isinstance(node, ast.Constant) and isinstance(node.value, str)


def _decides(module: Module, text: ast.Constant) -> bool:
    """Whether something depends on this name: it is compared, matched, or a member or key of something."""
    group = _group(module, text)
    if group is None or (module.name in TABLES and _is_module_table(module, group)):
        return False
    return text.value in REPRESENTATIONS or _is_of_representations(group)


def _group(module: Module, text: ast.Constant) -> ast.AST | None:
    """The comparison, case, set or dict that a name stands in, if it does."""
    child: ast.AST = text
    for node in module.above(text):
        if isinstance(node, ast.Compare | ast.Set | ast.MatchValue):
            return node
        if isinstance(node, ast.Dict):
            return node if child in node.keys else None
        if not isinstance(node, ast.Tuple | ast.List):
            is_list = isinstance(child, ast.Tuple | ast.List) and not isinstance(node, ast.Subscript)  # no Literal[…]
            return child if is_list and _n_names(child) > 1 else None
        child = node
    return None


def _n_names(group: ast.AST) -> int:
    """How many names of representations stand in something."""
    return sum(_is_text(node) and node.value in REPRESENTATIONS for node in ast.walk(group))


def _is_module_table(module: Module, group: ast.AST) -> bool:
    """Whether it is what a name of the module stands for, and so a table."""
    parent = module.parents[group]
    return isinstance(parent, ast.Assign | ast.AnnAssign) and module.parents[parent] is module.tree


def _is_of_representations(group: ast.AST) -> bool:
    """Whether a comparison, set or dict speaks of representations besides the name in question."""
    if isinstance(group, ast.Compare):
        called = {getattr(node, "id", "") or getattr(node, "attr", "") for node in ast.walk(group)}
        if any("representation" in word or word.strip("_") == "name" for word in called):
            return True
    parts = [key for key in group.keys if key is not None] if isinstance(group, ast.Dict) else [group]
    return any(map(_n_names, parts))


# ------------------------------------------------------------------------------------------- names of files


def file_names(house: Sequence[Module]) -> list[Place]:
    """Lines that quote names of files and folders of a run, outside the module that knows the layout.

    That is a text without spaces that ends as such a file does (``selection.json``, or an f-string such as
    ``predictions-{name}.jsonl``), or the name of a folder of a run in a path: beside ``/``, or in a call such as
    ``glob`` or ``with_name``. A text with spaces is a message, and docstrings are not looked at. An ending alone
    (``.json``, ``*.json``) names no file, and names that other tools gave are theirs.
    """
    places = set()
    for module in house:
        if module.name.split("/")[-1] in (LAYOUT, PUBLISHED):
            continue
        for node in module.nodes:
            text = _whole_text(module, node)
            if text is None or any(character.isspace() for character in text):
                continue
            if _names_file(text) or (_names_folder(text) and _is_in_path(module, node)):
                places.add(Place(module.name, node.lineno))
    return sorted(places)


def _whole_text(module: Module, node: ast.AST) -> str | None:
    """A text, or that of an f-string with ``{}`` for what is put in; not the pieces of an f-string."""
    if isinstance(node, ast.JoinedStr):
        return "".join(part.value if isinstance(part, ast.Constant) else "{}" for part in node.values)
    if not _is_text(node) or isinstance(module.parents[node], ast.JoinedStr | ast.Expr):
        return None
    return str(node.value)


def _names_file(text: str) -> bool:
    return text.endswith(SUFFIXES) and not text.startswith((".", "*.")) and text not in FOREIGN


def _names_folder(text: str) -> bool:
    return any(part in FOLDERS or part.startswith("predictions-") for part in text.split("/"))


def _is_in_path(module: Module, node: ast.AST) -> bool:
    """Whether a text is a part of a path."""
    parent = module.parents[node]
    if isinstance(parent, ast.BinOp):
        return isinstance(parent.op, ast.Div)
    if isinstance(parent, ast.Call):
        function = parent.func
        return (function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")) in NAMING
    return False


# ---------------------------------------------------------------------------------------------- the others


def asserted_not_none(house: Sequence[Module]) -> list[Place]:
    """``assert … is not None``, alone or as a part of what is asserted."""
    return [
        Place(module.name, node.lineno)
        for module in house
        for node in module.nodes
        if isinstance(node, ast.Assert) and any(_is_not_none(part) for part in ast.walk(node.test))
    ]


def _is_not_none(node: ast.AST) -> bool:
    return (
        isinstance(node, ast.Compare)
        and isinstance(node.ops[0], ast.IsNot)
        and isinstance(node.comparators[0], ast.Constant)
        and node.comparators[0].value is None
    )


def doubled_classes(house: Sequence[Module]) -> dict[str, list[Place]]:
    """Names of classes that stand in more than one file."""
    found: dict[str, list[Place]] = defaultdict(list)
    for module in house:
        for node in module.nodes:
            if isinstance(node, ast.ClassDef):
                found[node.name].append(Place(module.name, node.lineno))
    return {name: places for name, places in sorted(found.items()) if len({place.file for place in places}) > 1}


def logical_lines(house: Iterable[Module]) -> int:
    """Statements' lines, as Python's tokenizer ends them: no comments, no blank lines, no broken lines."""
    return sum(token.type == tokenize.NEWLINE for module in house for token in module.tokens)


class Function(NamedTuple):
    """A function's length in lines, from its ``def`` to its end, and where it is."""

    lines: int
    name: str
    place: Place


def functions(house: Sequence[Module]) -> list[Function]:
    """All functions, methods and inner functions, the longest first; decorators are not counted."""
    found = [
        Function((node.end_lineno or node.lineno) - node.lineno + 1, node.name, Place(module.name, node.lineno))
        for module in house
        for node in module.nodes
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    ]
    return sorted(found, reverse=True)


def unformatted(house: Sequence[Module]) -> list[Place]:
    """Comments ``# fmt: skip``."""
    return [
        Place(module.name, token.start[0])
        for module in house
        for token in module.tokens
        if token.type == tokenize.COMMENT and "fmt: skip" in token.string
    ]


# --------------------------------------------------------------------------------------------- the table


class Figure(NamedTuple):
    """A number, how it is shown, and the places behind it."""

    number: int
    shown: str
    places: Sequence[str] = ()


class Row(NamedTuple):
    """A line of the table: what is counted, the figure of a house, its target, and whether that is met."""

    what: str
    figure: Callable[[Sequence[Module]], Figure]
    target: str
    is_met: Callable[[int, int | None], bool | None]


def _in_files(places: Sequence[Place]) -> Figure:
    files = len({place.file for place in places})
    shown = f"{len(places)} in {files} files" if places else "0"
    return Figure(len(places), shown, [f"{place.file}:{place.line}" for place in places])


def _doubled(house: Sequence[Module]) -> Figure:
    found = doubled_classes(house)
    places = [f"{name}: {', '.join(place.file for place in places)}" for name, places in found.items()]
    return Figure(len(found), str(len(found)), places)


def _longest(house: Sequence[Module]) -> Figure:
    found = functions(house)
    places = [f"{f.place.file}:{f.place.line} {f.name}: {f.lines}" for f in found[:10]]
    return Figure(found[0].lines, f"{found[0].lines} (`{found[0].name}` in `{found[0].place.file}`)", places)


def _is_below(limit: int) -> Callable[[int, int | None], bool]:
    return lambda now, before: now < limit


def _is_fewer(now: int, before: int | None) -> bool | None:
    return None if before is None else now <= 0.95 * before


def rows(apart: Sequence[str]) -> list[Row]:
    """The table's lines; the modules at ``apart`` are counted in lines of their own."""

    def lines(of: Callable[[Module], bool]) -> Callable[[Sequence[Module]], Figure]:
        def count(house: Sequence[Module]) -> Figure:
            number = logical_lines(filter(of, house))
            return Figure(number, f"{number:,}")

        return count

    def is_at(path: str) -> Callable[[Module], bool]:
        return lambda module: module.name == path or module.name.startswith(path.rstrip("/") + "/")

    rest = ", the rest" if apart else ""
    return [
        Row(
            "lines that compare or list a representation's name",
            lambda h: _in_files(representation_names(h)),
            "≤ 3",
            _is_below(4),
        ),
        Row("lines that quote a file name of a run", lambda h: _in_files(file_names(h)), "0", _is_below(1)),
        Row("`assert … is not None`", lambda h: _in_files(asserted_not_none(h)), "< 8", _is_below(8)),
        Row("class names in more than one file", _doubled, "0", _is_below(1)),
        Row(f"logical lines{rest}", lines(lambda m: not any(is_at(p)(m) for p in apart)), "5% fewer", _is_fewer),
        *(Row(f"logical lines, `{path}`", lines(is_at(path)), "", lambda now, before: None) for path in apart),
        Row("lines of the longest function", _longest, "< 80", _is_below(80)),
        Row("`# fmt: skip`", lambda h: _in_files(unformatted(h)), "< 60", _is_below(60)),
    ]


def markdown(table: Sequence[Row], house: Sequence[Module], before: Sequence[Module] | None) -> str:
    """The table, with a column of the figures before where there are any."""
    heads = ["", "now", "target", "met"] if before is None else ["", "before", "now", "target", "met"]
    lines = [f"| {' | '.join(heads)} |", f"|{'---|' * len(heads)}"]
    for row in table:
        now, old = row.figure(house), None if before is None else row.figure(before)
        met = row.is_met(now.number, None if old is None else old.number)
        cells = [row.what, *([] if old is None else [old.shown]), now.shown, row.target]
        cells.append("" if met is None else "yes" if met else "no")
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    """Count and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tree", nargs="?", type=Path, default=REPOSITORY, help="a checkout; default: this one")
    parser.add_argument("--against", metavar="COMMIT", help="a column of the figures before")
    parser.add_argument("--apart", default="", metavar="PATH[,PATH]", help="rooms or modules whose lines count apart")
    parser.add_argument("--verbose", action="store_true", help="list the places")
    arguments = parser.parse_args()
    house = modules(arguments.tree)
    table = rows([path for path in arguments.apart.split(",") if path])
    before = None
    if arguments.against:
        with worktree(arguments.against) as folder:
            before = modules(folder)
    print(markdown(table, house, before))
    if arguments.verbose:
        for row in table:
            if places := row.figure(house).places:
                print("\n".join([f"\n{row.what}:", *(f"  {place}" for place in places)]))


if __name__ == "__main__":
    sys.exit(main())
