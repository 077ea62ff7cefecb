"""The commands."""

from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import BaseModel

from handpick.algorithms import AlgorithmSettings
from handpick.auditions.settings import AuditionSettings
from handpick.cli.errors import report_errors
from handpick.cli.first_screen import add_command
from handpick.cli.flags_from_settings import Style, flags_of, with_flags
from handpick.cli.next_steps import quote_path, say_next
from handpick.data.reading import ReadingSettings
from handpick.errors import SettingsError
from handpick.flag_names import as_flag, check_values
from handpick.flag_names import parse_settings as parse_plain
from handpick.layout import EvaluationLayout, RunLayout
from handpick.methods import AUTO
from handpick.object_store import is_address
from handpick.objectives.settings import ObjectiveSettings
from handpick.own_folder import check_inputs
from handpick.representations import SCORERS
from handpick.settings import Settings, parse_settings
from handpick.settings.constraints import Constraints
from handpick.settings.executor import ExecutorSettings
from handpick.settings.files import read_yaml
from handpick.settings.prefilter import PrefilterSettings
from handpick.settings.representation import GradientSettings, RepresentationSettings
from handpick.terminal import say

# the headings of the commands in the help
CHOOSE, LOOK, TRAIN, BEFORE = (
    "Choose",
    "Look at what was chosen",
    "Train and measure",
    "What there is, and what it costs",
)


def _show_version(is_asked: bool) -> None:
    if is_asked:
        from handpick.selection import handpick_version

        say(f"handpick {handpick_version() or 'from its source tree'}")
        raise typer.Exit


app = typer.Typer(
    name="handpick",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)
store_app = typer.Typer(help="Look after feature stores.", no_args_is_help=True, rich_markup_mode="rich")
app.add_typer(store_app, name="store", rich_help_panel=BEFORE)

_REPRESENT_FIRST = [
    "pool", "model", "checkpoints", "method", "out", "seed", "max_length", "template_args", "optimizer", "eps_mode",
    "projection", "projection_dim", "projection_nonzeros", "response_tokens", "layers", "dtype", "quantization",
    "storage", "batch_tokens", "gradient_checkpointing", "shard_rows", "warmup", "lora_targets", "max_quarantined",
    "representation", "encoder", *ExecutorSettings.model_fields, "shard_model", "query", "target",
    *ReadingSettings.model_fields,
]  # fmt: skip
_SELECT_FIRST = [
    "pool", "query", "model", "budget", "method", "algorithm", "store", *PrefilterSettings.model_fields,
    *Constraints.model_fields, "target", "split", "target_weight", "score_only", *_REPRESENT_FIRST[2:3],
    *_REPRESENT_FIRST[4:], "gist_dim", "whitening_damping", "dsir_smoothing",
    *AlgorithmSettings.model_fields, *ObjectiveSettings.model_fields,
]  # fmt: skip
# a representation's own settings are flags without being named here
REPRESENT = list(
    dict.fromkeys(
        [
            *_REPRESENT_FIRST,
            *(name for spec in SCORERS.values() if spec.has_pool_features for name in sorted(spec.rows)),
        ]
    )
)
SELECT = list(dict.fromkeys([*_SELECT_FIRST, *(name for spec in SCORERS.values() for name in sorted(spec.reads))]))
# what decides the choice, and not the similarity it is made by
_OF_CHOICE = {
    "budget",
    "algorithm",
    *PrefilterSettings.model_fields,
    *Constraints.model_fields,
    "split",
    "target_weight",
    *AlgorithmSettings.model_fields,
}
_DOCTOR = [
    "pool", "model", "checkpoints", "lora_targets", "max_length", "template_args", "dtype", "projection",
    "projection_dim", "projection_nonzeros", "response_tokens", "layers", "seed", "quantization",
    "batch_tokens", "gradient_checkpointing", "max_quarantined", *ReadingSettings.model_fields,
]  # fmt: skip
# the heading in a command's help, by the class that has the setting; the others stand first
_HEADINGS: dict[type[BaseModel], str] = {
    PrefilterSettings: "A cheap representation before an expensive one",
    Constraints: "What the selection must keep to",
    GradientSettings: "Gradients",
    RepresentationSettings: "Other representations",
    AlgorithmSettings: "Selection algorithms",
    ObjectiveSettings: "Objectives: preferences and rewards",
}
_FIRST = ("model", "seed")  # nearly every run names them
_STYLE = Style(
    descriptions={"method": "see `handpick methods`, which also says what each takes"},
    headings={name: title for kind, title in _HEADINGS.items() for name in kind.model_fields if name not in _FIRST},
)
READING_FLAGS = flags_of(ReadingSettings, style=Style(heading="How records are read", sentences=True))
SELECT_FLAGS = flags_of(Settings, SELECT, style=_STYLE)
AUDITION_FLAGS = flags_of(AuditionSettings)
REPRESENT_FLAGS = flags_of(Settings, REPRESENT, style=_STYLE)


@app.callback()
def main(
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_show_version, help="Show the version and exit.")
    ] = False,
) -> None:
    """Choose, from a large pool of instruction data, the few examples that teach a language model a task."""


@add_command(
    app,
    *("pool", "query", "target", "model", "method", "budget", "out", "store", "prefilter", "max_length"),
    "workers",
    rich_help_panel=CHOOSE,
)
@with_flags(settings=SELECT_FLAGS, audition=AUDITION_FLAGS)
def select(settings: dict[str, Any], audition: dict[str, Any]) -> None:
    """Choose examples for a task.

    handpick select --pool pool.jsonl --query dev.jsonl --model MODEL --budget 1000 --out runs/dev

    Writes selected.jsonl, selection.json and the features to --out.

    A query's field `subtask`, where it has one, says which part of the task it is of: less and gist compare with the
    mean of each part's queries, and --balanced counts every part the same.
    """
    with report_errors():
        if settings.get("method") == AUTO:
            _select_by_audition(settings, audition)
            return
        refuse_without_auto(audition)
        _select(parse_settings(settings, where="--"))


@add_command(
    app,
    *("pool", "model", "method", "out", "checkpoints", "storage", "max_length", "workers", "seed"),
    rich_help_panel=CHOOSE,
)
@with_flags(settings=REPRESENT_FLAGS)
def represent(settings: dict[str, Any]) -> None:
    """Build the feature store of a pool alone; `select --store` starts from it.

    handpick represent --pool pool.jsonl --model MODEL --out runs/pool
    """
    with report_errors():
        from handpick.pipeline import run_represent

        used = parse_settings(settings, where="--")
        if used.sources and not used.shard_model:
            raise SettingsError(
                "the queries' features are made by `handpick select --store`, and here with --shard-model alone: leave "
                f"--{'query' if used.query else 'target'} out"
            )
        store = run_represent(used)
        n = len(store.checkpoints)
        checkpoints = "1 checkpoint" if n == 1 else f"{n} checkpoints"
        say(f"{len(store):,} examples, {store.dim:,} features, {checkpoints}: {store.path}")
        query, out = "--query QUERY", ""
        if used.sources:  # whose features lie in this folder, and need no model any more
            query = " ".join(
                [f"--query {quote_path(path)}" for path in used.query]
                + [f"--target {name}={quote_path(path)}" for name, files in used.target.items() for path in files]
            )
            out = f" --out {quote_path(used.folder)}"
        say_next(f"handpick select --store {quote_path(store.path)} {query} --budget 1000{out}")


@add_command(
    app, *("pool", "model", "checkpoints", "dtype", "max_length", "quantization", "seed"), rich_help_panel=BEFORE
)
@with_flags(settings=flags_of(Settings, _DOCTOR, style=_STYLE))
def doctor(settings: dict[str, Any]) -> None:
    """Check on a few examples that gradients are right on this machine, and how fast.

    handpick doctor --pool pool.jsonl.gz --model MODEL
    """
    with report_errors():
        from handpick.doctor import examine

        failed = 0
        for check in examine(parse_settings(settings, where="--")):
            say(f"{'ok  ' if check.passed else 'FAIL'} {check.name:<10} {check.found}")
            if not check.passed:
                failed += 1
                say(f"                {check.advice}")
    if failed:
        raise typer.Exit(1)


@app.command(rich_help_panel=CHOOSE)
def run(
    config: Annotated[Path, typer.Argument(help="A YAML file of settings, such as the settings.yaml of a run.")],
) -> None:
    """Choose examples with the settings of a file.

    handpick run runs/dev/settings.yaml
    """
    with report_errors():
        values = read_yaml(config)
        if values.get("method") == AUTO:
            _select_by_audition(values, values.pop("audition", {}), config)
            return
        _select(Settings.of_file(values, config))


@app.command(rich_help_panel=CHOOSE)
def demo(
    target: Annotated[str, typer.Option(help="What to choose for: gsm8k, boolq or mbpp.")] = "gsm8k",
    out: Annotated[
        str | None, typer.Option(help="Folder to write to; default runs/demo-TARGET.", metavar="DIR")
    ] = None,
) -> None:
    """Choose 100 of the 2,500 examples that come with handpick, with its small model.

    handpick demo --target boolq
    """
    with report_errors():
        from handpick import bundled

        _select(
            Settings(
                pool=[str(path) for path in bundled.pool_paths()],
                query=[str(bundled.target_path(target))],
                model=str(bundled.model_path()),
                budget="100",
                max_length=256,  # so that it ends within three minutes on two cores
                out=str(Path("runs") / f"demo-{target}" if out is None else out_folder(out)),
            ),
            report=True,
        )


@add_command(
    app,
    *("pool", "query", "model", "method", "out", "store", "max_length", "workers", "seed"),
    rich_help_panel=LOOK,
)
@with_flags(settings=flags_of(Settings, SELECT, leave_out=_OF_CHOICE, style=_STYLE))
def similarity(settings: dict[str, Any]) -> None:
    """Write the similarity of every query to every example, with the ids.

    handpick similarity --store runs/gsm8k/features/pool --query boolq_dev.jsonl.gz --out runs/boolq
    """
    with report_errors():
        from handpick.cli.show import show_similarity
        from handpick.pipeline import run_similarity

        show_similarity(run_similarity(parse_settings(settings, where="--")))


@app.command(rich_help_panel=LOOK)
def diff(
    a: Annotated[Path, typer.Argument(help="The folder of a selection, or of an evaluation.")],
    b: Annotated[Path, typer.Argument(help="The folder of another.")],
) -> None:
    """Compare two selections: what they share, and what each has alone. Or two evaluations, test by test.

    handpick diff runs/a runs/b

    handpick diff runs/a/measured runs/b/measured

    Of two models that were measured on the same tests: the difference of every metric, with its 95% interval.
    """
    with report_errors():
        are_selections = all(RunLayout(each).selection.exists() for each in (a, b))
        if not are_selections and any(EvaluationLayout(each).evaluation.exists() for each in (a, b)):
            from handpick.cli.show_evaluation import show_differences
            from handpick.evaluation.difference import compare_evaluations

            show_differences(compare_evaluations(a, b), str(a), str(b))
            return
        from handpick.cli.show import show_comparison
        from handpick.compare import compare
        from handpick.selection import Selection

        show_comparison(compare(Selection.open(a), Selection.open(b)), str(a), str(b))


@app.command(rich_help_panel=LOOK)
def distance(
    run: Annotated[Path, typer.Argument(help="The folder of a selection.")],
    subset: Annotated[
        list[Path] | None, typer.Option(help="Another selection's folder, or a file of ids, one a line; several.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the random draw that stands beside them.")] = 0,
) -> None:
    """Measure how far a selection is from the queries, beside a random draw.

    handpick distance runs/a --subset runs/b

    Other subsets of the same pool may stand beside them.
    """
    with report_errors():
        from handpick.cli.show import read_ids, show_distances
        from handpick.pipeline import run_distance

        show_distances(run_distance(run, {str(path): read_ids(path) for path in subset or []}, seed))


@app.command(rich_help_panel=LOOK)
@with_flags(reading=READING_FLAGS)
def overlap(
    pool: Annotated[list[str], typer.Option(help="File to look through; several.", metavar="FILE")],
    test: Annotated[list[str], typer.Option(help="Test set; several.", metavar="FILE")],
    out: Annotated[str, typer.Option(help="Folder for overlap.jsonl and clean.jsonl.", metavar="DIR")],
    threshold: Annotated[float, typer.Option(help="Part of a test item that must stand in an example.")] = 0.75,
    *,
    reading: dict[str, Any],
) -> None:
    """Find examples of a pool that repeat a test item; write the pool without them.

    handpick overlap --pool pool.jsonl.gz --test gsm8k_test.jsonl.gz --out runs/overlap
    """
    with report_errors():
        from handpick.cli.show import show_overlap
        from handpick.overlap import run_overlap

        read_by, folder = parse_plain(ReadingSettings, reading).reading, out_folder(out)
        show_overlap(run_overlap(pool, test, folder, threshold, read_by), folder)


@app.command(rich_help_panel=BEFORE)
def methods(
    markdown: Annotated[bool, typer.Option("--markdown", help="As docs/methods.md has them.")] = False,
) -> None:
    """List the methods, representations, objectives, algorithms and rewards.

    handpick methods
    """
    from handpick.cli.tables import as_markdown, print_tables

    typer.echo(as_markdown(), nl=False) if markdown else print_tables()


@store_app.command()
def verify(path: Annotated[Path, typer.Argument(help="The folder of a feature store.")]) -> None:
    """Read every byte of a store and name what is wrong.

    handpick store verify runs/dev/features/pool
    """
    with report_errors():
        from handpick.store import FeatureStore

        store = FeatureStore.open(path, allow_incomplete=True)
        problems = store.verify()
        for problem in problems:
            say(problem)
        if problems:
            say(f"{len(problems)} problems")
            raise typer.Exit(1)
        left_out = len(store.not_finite())
        also = f"; {left_out:,} rows that are not finite are left out" if left_out else ""
        say(f"{len(store):,} examples, all as they were written{also}")


@store_app.command()
def merge(
    paths: Annotated[list[Path], typer.Argument(help="Stores of the same model and settings.")],
    out: Annotated[str, typer.Option(help="Folder of the new store.", metavar="DIR")],
) -> None:
    """Make one store of several.

    handpick store merge runs/a/features/pool runs/b/features/pool --out runs/both
    """
    with report_errors():
        from handpick.pipeline import merge_stores

        say(f"{len(merge_stores(paths, out_folder(out))):,} examples: {out}")


def out_folder(text: str) -> Path:
    """Return the folder that a flag names.

    Raises:
        SettingsError: it is empty, or no text that can be a folder's name.
    """
    check_values({"out": text}, of=as_flag)
    if is_address(text):
        raise SettingsError(
            f"--out {text} is in a bucket, and this command writes into a folder of this machine: name one"
        )
    return Path(text)


def refuse_without_auto(audition: dict[str, Any]) -> None:
    """Refuse flags of an audition where none is held."""
    for name in audition:
        raise SettingsError(f"{as_flag(name)} is for --method auto: leave it out")


def _select_by_audition(settings: dict[str, Any], audition: dict[str, Any], config: Path | None = None) -> None:
    from handpick.auditions.candidates import Candidates
    from handpick.auditions.chosen import run_auto
    from handpick.cli.show import show_selection

    own = AuditionSettings.from_values(audition)
    if config is not None:  # its settings are not those that the winner leaves
        check_inputs(RunLayout(Candidates(settings, own).any.folder), {}, {"the settings": config})
    run = run_auto(settings, own)
    RunLayout(run.settings.folder).report.unlink(missing_ok=True)  # of an earlier selection
    show_selection(run)


def _select(settings: Settings, *, report: bool = False) -> None:
    from handpick.cli.show import show_selection
    from handpick.pipeline import run_select

    run = run_select(settings)
    RunLayout(settings.folder).report.unlink(missing_ok=True)  # of an earlier selection
    if report:
        from handpick.reporting.selection import write_selection_report

        write_selection_report(settings.folder)
    show_selection(run)
