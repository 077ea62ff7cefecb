"""Pages of the site that are made of the code: every public name, setting, flag and file, findings and benchmarks."""

import ast
import html
import inspect
import re
import types
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import typer
from pydantic import BaseModel
from pydantic.fields import FieldInfo

import handpick
from handpick import errors, layout
from handpick.algorithms import AlgorithmSettings
from handpick.auditions.settings import AuditionSettings
from handpick.cli import app
from handpick.data.reading import ReadingSettings
from handpick.evaluation.settings import EvaluateSettings, TaskSettings
from handpick.flag_names import as_flag, nested_settings, option_name
from handpick.iterselecttune.classifier_settings import ClassifierSettings
from handpick.iterselecttune.settings import IterSelectSettings
from handpick.layout import InFolder, Layout
from handpick.objectives.settings import ObjectiveSettings
from handpick.overview.settings import LookSettings
from handpick.settings import Constraints, Settings
from handpick.settings.prefilter import PrefilterSettings
from handpick.settings.representation import GradientSettings, RepresentationSettings
from handpick.studies.settings import QuantileSettings, StudySettings, TargetSettings
from handpick.training.settings import FinetuneSettings, LoraSettings, WarmupSettings

ROOT = Path(__file__).parents[2]
_SOURCE = re.compile(r"^\| [^|]+ \| `[^`]+` \| `src/[\w/.]+\.py:([\w.-]+)` \| (.+) \|$", re.MULTILINE)

# the tables of settings: a heading, what it is of, and the class; a class shows the fields that no earlier one has
SETTINGS: tuple[tuple[str, str, type[BaseModel]], ...] = (
    ("A gradient", "`select`, `represent`, `similarity`, `doctor`", GradientSettings),
    ("Other representations", "the same", RepresentationSettings),
    ("A prefilter", "`select`", PrefilterSettings),
    ("Objectives: preferences, rewards, judges", "`select`", ObjectiveSettings),
    ("Selection algorithms", "`select`", AlgorithmSettings),
    ("What a selection must keep to", "`select`", Constraints),
    ("How records are read", "every command that reads records", ReadingSettings),
    ("A run", "`select`, `represent`, `run`; `handpick.Settings` is this and all above", Settings),
    ("A warmup", "`warmup:` in YAML, `warmup=` in Python", WarmupSettings),
    ("An adapter", "`lora:` of a warmup, and of a training", LoraSettings),
    ("A training", "`train`, `export`; `train:` of a study", FinetuneSettings),
    ("A model that is measured", "`evaluate`", EvaluateSettings),
    ("A task that it is measured on", "`evaluate`; `tests:` of a study", TaskSettings),
    ("A study", "`study`", StudySettings),
    ("A study's target", "`targets:` of a study", TargetSettings),
    ("A study's quantiles", "`quantiles:` of a study", QuantileSettings),
    ("An audition", "`audition`, `select --method auto`", AuditionSettings),
    ("What is hard for a model", "`iterselect`", IterSelectSettings),
    ("Its classifier", "`classifier:` of `iterselect`", ClassifierSettings),
    ("A look at a pool", "`look`", LookSettings),
)


def make_pages() -> dict[str, str]:
    """Return the text of every made page, by its name."""
    return {
        "reference/python.md": python_page(),
        "reference/settings.md": settings_page(),
        "reference/commands.md": commands_page(),
        "reference/files.md": files_page(),
        "findings.md": findings_page(),
        "evidence.md": evidence_page(),
    }


def _cell(text: str) -> str:
    """Return a text as a cell of a table holds it."""
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;").replace("*", "\\*")


def _table(headings: list[str], rows: list[list[str]]) -> list[str]:
    lines = ["| " + " | ".join(row) + " |" for row in (headings, *rows)]
    return [lines[0], "|" + "---|" * len(headings), *lines[1:], ""]


def python_page() -> str:
    """Return the page of every public name; mkdocstrings fills it from the docstrings."""
    functions = [name for name in handpick.__all__ if inspect.isfunction(getattr(handpick, name))]
    kinds = [name for name in handpick.__all__ if name not in {*functions, "HandpickError", "Settings"}]
    raised = [each.name for each in ast.parse(inspect.getsource(errors)).body if isinstance(each, ast.ClassDef)]
    lines = [
        "# Every public name",
        "",
        "What `import handpick` offers, from its docstrings. [In Python](../python.md) has an example of each "
        "function; the fields of `handpick.Settings` are on [a page of their own](settings.md).",
        "",
    ]
    for title, names in (("Functions", functions), ("What they give", kinds)):
        lines += [
            f"## {title}",
            "",
            *(f"::: handpick.{name}\n    options:\n      heading_level: 3\n" for name in names),
        ]
    lines += [
        "## What they raise",
        "",
        *(f"::: handpick.errors.{name}\n    options:\n      heading_level: 3\n" for name in raised),
    ]
    return "\n".join(lines)


def settings_page() -> str:
    """Return the page of every setting: its flag, its type, its default, what it is, and where that comes from."""
    sources = _sources()
    lines = [
        "# Every setting",
        "",
        "Made of the classes that check them. Each can be set by its flag, by its name in YAML (`handpick run`, "
        "`handpick study`) and by its name in Python; where no flag stands below the name, in the last two alone. "
        "Where a method depends on a default, it is said which paper or code it was taken from, or that it is ours; "
        "[where the defaults come from](../sources.md) has the whole list, with constants that cannot be set.",
        "",
    ]
    shown: set[tuple[type, str]] = set()
    for title, of, kind in SETTINGS:
        rows = []
        for name, setting in kind.model_fields.items():
            owner = _owner(kind, name)
            if (owner, name) in shown:
                continue
            shown.add((owner, name))
            option = option_name(name, setting)
            has_flag = option and nested_settings(setting) is None and kind not in _NO_FLAGS
            names = f"`{name}`" + (f"<br>`{as_flag(option)}`" if has_flag else "")
            source = sources.get(f"{owner.__name__}.{name}")
            said = _cell(setting.description or "") + (f"<br>*Default: {source}*" if source else "")
            rows.append([names, _type(setting.annotation), _default(setting), said])
        lines += [f"## {title}", "", f"Of {of}: `{kind.__module__}.{kind.__name__}`.", ""]
        lines += _table(["setting", "takes", "default", "what it is"], rows)
    return "\n".join(lines)


def _sources() -> dict[str, str]:
    """Return where each default comes from, by the place of the setting; "the same" is followed to what it names."""
    found: dict[str, str] = {}
    named = ""
    for place, source in _SOURCE.findall((ROOT / "docs" / "sources.md").read_text(encoding="utf-8")):
        source = re.sub(r"\]\((\w+\.md)", r"](../\1", source)
        if re.search(r"\bthe same\b", source) and named:
            source = f"{source} ({named})"
        else:
            named = source.partition(":")[0].partition(";")[0]
        found[place] = source
    return found


# of YAML and Python alone
_NO_FLAGS = {WarmupSettings, StudySettings, TargetSettings, QuantileSettings}


def _owner(kind: type[BaseModel], name: str) -> type[BaseModel]:
    """Return the class that declares a field."""
    return next(each for each in reversed(kind.__mro__) if name in getattr(each, "model_fields", {}))


def _cell_code(text: str) -> str:
    return f"`{text}`" if "|" not in text else f"<code>{html.escape(text).replace('|', '&#124;')}</code>"


def _type(annotation: Any) -> str:
    origin = get_origin(annotation)
    if origin is Annotated:
        return _type(get_args(annotation)[0])
    if origin is Literal:
        return ", ".join(f"`{word}`" for word in get_args(annotation))
    if origin in (Union, types.UnionType):
        return " or ".join(_type(each) for each in get_args(annotation) if each is not type(None))
    if origin in (list, dict, tuple):
        inner = [_type(each) for each in get_args(annotation)]
        return f"{' to '.join(inner)}, several" if origin is dict else f"{inner[0]}, several"
    return {str: "text", int: "a number", float: "a number", bool: "yes or no"}.get(annotation) or str(
        getattr(annotation, "__name__", "any")
    )


def _default(setting: FieldInfo) -> str:
    if setting.is_required():
        return "must be given"
    value = setting.get_default(call_default_factory=True)  # type: ignore[call-arg]
    if value is None or value in ("", [], {}):
        return "–"
    if isinstance(value, BaseModel):
        return "see there"
    return _cell_code(str(value).lower() if isinstance(value, bool) else str(value))


def commands_page() -> str:
    """Return the page of every command with all its flags."""
    lines = [
        "# Every command",
        "",
        "Made of the command line itself. `handpick COMMAND --help` shows what most runs name, `--help-all` the rest.",
        "",
    ]
    for name, command in sorted(_commands(typer.main.get_command(app))):
        paragraphs = inspect.cleandoc(command.help or "").split("\n\n")
        lines += [f"## handpick {name}", ""]
        for paragraph in paragraphs:
            example = paragraph.startswith(("handpick ", "accelerate "))
            lines += [f"```\n{paragraph}\n```" if example else _cell(paragraph).replace("\\|", "|"), ""]
        rows = []
        for each in command.params:
            if each.name in ("help_all", "help"):
                continue
            is_flag = each.param_type_name == "option"
            takes = getattr(each, "metavar", None) or (
                "" if getattr(each, "is_flag", False) else "TEXT" if is_flag else ""
            )
            shown = each.opts[0] if is_flag else (each.name or "").upper()
            rows.append([f"`{shown}`", _cell_code(takes) if takes else "", _cell(getattr(each, "help", None) or "")])
        lines += _table(["flag or argument", "takes", "what it is"], rows) if rows else []
    return "\n".join(lines)


def _commands(group: Any, before: str = "") -> Iterator[tuple[str, Any]]:
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from _commands(command, f"{before}{name} ")
        else:
            yield f"{before}{name}", command


# they stand first on the page; what is in their folders follows
_FOLDERS_OF_COMMANDS = {
    "RunLayout", "StudyLayout", "AuditionLayout", "FinetuneLayout", "ExportLayout", "EvaluationLayout",
    "IterSelectLayout",
}  # fmt: skip


def files_page() -> str:
    """Return the page of every file that is written, folder by folder, from the module that names them."""
    lines = [
        "# Every file that is written",
        "",
        "Made of `handpick.layout`, the one module that names files. A name in capitals stands for what differs: a "
        "digest of all that the file depends on, a number, a target's name. [What survives](../reliability.md) says "
        "what of it outlives a kill or a damaged disk.",
        "",
    ]
    comments = _comments_of_names()
    kinds = [each for each in vars(layout).values() if isinstance(each, type) and issubclass(each, Layout)]
    for kind in sorted(kinds, key=lambda each: each.__name__ not in _FOLDERS_OF_COMMANDS):
        if kind is Layout:
            continue
        said, _, more = inspect.getdoc(kind).partition("\n\n")
        lines += [
            f"## {kind.__name__.removesuffix('Layout')} {{ #{kind.__name__.lower()} }}",
            "",
            _prose(f"{said} {more}"),
            "",
        ]
        if bases := [base for base in kind.__bases__ if base is not Layout]:
            links = [f"[{base.__name__.removesuffix('Layout')}](#{base.__name__.lower()})" for base in bases]
            lines += [f"It holds what {' and '.join(links)} {'has' if len(links) == 1 else 'have'} too.", ""]
        if rows := list(_file_rows(kind, comments)):
            lines += _table(["name", "what it is"], rows)
    return "\n".join(lines)


class _Stand(str):
    """An argument's name in capitals, in place of a text or a number."""

    def __add__(self, other: object) -> "_Stand":
        return self

    def __format__(self, how: str) -> str:
        return str(self)


def _file_rows(kind: type[Layout], comments: Mapping[tuple[str, str], str]) -> Iterator[list[str]]:
    """Yield the names that a layout itself gives, and what is said of them."""
    example = kind(Path("folder"))
    for name, each in vars(kind).items():
        if isinstance(each, InFolder):
            yield [f"`{each.name}`", _prose(comments[kind.__name__, name])]
        elif isinstance(each, property):
            yield [f"`{_below(each.fget(example))}`", _prose(inspect.getdoc(each))]
        elif inspect.isfunction(each) and not name.startswith("_"):
            _, *asked = inspect.signature(each).parameters.values()
            required = [_Stand(one.name.upper()) for one in asked if one.default is one.empty]
            ways = [required, [_Stand(one.name.upper()) for one in asked]]
            found = [
                _below(path) for path in (each(example, *given) for given in ways) if isinstance(path, Path | Layout)
            ]
            if found:
                said = (inspect.getdoc(each) or "").partition("\n")[0]
                said = (
                    re.sub(r"^Return (?:where (.*) (?:is|are)\.|(.*))$", lambda m: m[1] or m[2], said).rstrip(".,")
                    + "."
                )
                yield [" or ".join(f"`{path}`" for path in dict.fromkeys(found)), _prose(said[:1].upper() + said[1:])]


def _below(path: Path | Layout) -> str:
    """Return where a path is, seen from the folder."""
    whole = path.folder if isinstance(path, Layout) else path
    return str(whole.relative_to("folder")) if whole.is_relative_to("folder") else f"../{whole}"


def _comments_of_names() -> dict[tuple[str, str], str]:
    """Return the ``#:`` comment of every name, behind it or above it, by class and name."""
    source = inspect.getsource(layout)
    lines = source.splitlines()
    found = {}
    for kind in ast.parse(source).body:
        for each in kind.body if isinstance(kind, ast.ClassDef) else []:
            if isinstance(each, ast.Assign) and isinstance(each.targets[0], ast.Name):
                own, above = lines[each.lineno - 1].partition("#:")[2], lines[each.lineno - 2].strip()
                found[kind.name, each.targets[0].id] = own or above.removeprefix("#:")
    return found


def _prose(text: str) -> str:
    return " ".join(text.split()).replace("``", "`").replace("|", "\\|")


def _finding(path: Path) -> tuple[str, list[str]]:
    """Return the first sentence of a finding's script, and the lines of its head behind it."""
    head = []
    for line in path.read_text(encoding="utf-8").splitlines()[1:]:
        if not line.startswith("#"):
            break
        head.append(line[2:])
    return head[0], head[1:]


def findings_page() -> str:
    """Return the list of findings."""
    rows = []
    for path in sorted((ROOT / "findings").glob("*.sh")):
        title, _ = _finding(path)
        rows.append([f"[{_cell(title)}](../findings/{path.name})"])
    lines = [
        "# Findings",
        "",
        "What other software does with valid input that few would expect: a library, a trainer, a chat template or a "
        "file format, most often where two of them meet. Each has a script that shows it with pinned packages and "
        'without handpick, in a folder of its own, and ends with "as found" or with what has changed.',
        "",
        *_table(["what happens"], rows),
    ]
    return "\n".join(lines)


def finding_page(path: Path) -> str:
    """Return the page of one finding: what its script says, then the script."""
    title, head = _finding(path)
    lines, seen = [f"# {title.rstrip('.')}", ""], False
    for line in head:
        if line.startswith("Seen"):
            lines += [f"**{line}**", "", "```text"]
            seen = True
        elif seen and not line.startswith("  "):
            lines += ["```", "", line]
            seen = False
        elif seen:
            lines.append(line.removeprefix("  "))
        else:
            if line.startswith("- ") and lines[-1] and not lines[-1].startswith(("- ", "  ")):
                lines.append("")
            lines.append(line.replace("<", "&lt;") if "`" not in line else line)
    lines += ["```"] if seen else []
    script = path.read_text(encoding="utf-8")
    return "\n".join([*lines, "", f"The script, `findings/{path.name}`:", "", "````bash", script, "````", ""])


def evidence_page() -> str:
    """Return the list of benchmarks: what each measures, the command, and where its results are."""
    rows = []
    for path in sorted((ROOT / "benchmarks").glob("*.py")):
        said = (ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or "").partition("\n\n")[0]
        found = sorted((ROOT / "benchmarks" / "results").glob(f"{path.stem}*.md"))
        links = ", ".join(f"[{each.name}](../benchmarks/results/{each.name})" for each in found)
        rows.append([f"`python benchmarks/{path.name}`", _cell(said), links or "on the page that names it"])
    lines = [
        "# What was measured, by what",
        "",
        "Every number on this site was printed by a command that stands beside it. The scripts lie in `benchmarks/`, "
        "what they printed in `benchmarks/results/`. Read first: [does it work? the controlled study](study.md), and "
        "[what was measured](results.md) before it; [the presets beside each other](representations.md).",
        "",
        *_table(["command", "what it measures", "results"], rows),
    ]
    return "\n".join(lines)
