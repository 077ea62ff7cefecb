"""``handpick iterselect``."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from handpick.cli.app import CHOOSE, app
from handpick.cli.given import given_of
from handpick.cli.judging import with_judge
from handpick.cli.plainly import plainly
from handpick.layout import IterSelectLayout

if TYPE_CHECKING:
    from handpick.iterselecttune.run import IterRun

_JUDGE, _ROUNDS, _CLASSIFIER, _ANSWERS = "The judge", "Rounds", "Embeddings and classifier", "Answers of the base model"
_COUNTS = ("round", "judged", "hard", "easy", "ties", "flipped", "missing")


@app.command(rich_help_panel=CHOOSE)
@with_judge(
    _JUDGE,
    max_judge_calls="Requests, at most, over all runs of the folder; rounds shrink to it.",
    max_answer_tokens="Tokens of a verdict, at most (default: 1024).",
)
def iterselect(
    pool: Annotated[list[str], typer.Option(help="File or data set to choose from; several.", metavar="FILE")],
    model: Annotated[str, typer.Option(help="Base model, whose answers are judged.", metavar="DIR|NAME")],
    judge: Annotated[
        str,
        typer.Option(
            help="Who judges: a model by its server's name for it, one to load here, or a metric instead of a judge.",
            metavar="MODEL|local:PATH|rule:REWARD",
        ),
    ],
    budget: Annotated[
        str | None, typer.Option(help="How much to choose (default: 20%).", metavar="N|N%", show_default=False)
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder for all that is written (default: runs/iterselect).", metavar="DIR")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Of the diverse subset and the classifier (default: 0).")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what it will take, and do nothing.")] = False,
    *,
    judging: dict[str, Any],
    verdict: Annotated[
        str | None,
        typer.Option(
            help="Both answers side by side in both orders, or a score each (default: pairwise).",
            metavar="pairwise|pointwise",
            rich_help_panel=_JUDGE,
        ),
    ] = None,
    hard_below: Annotated[
        float | None,
        typer.Option(help="rule: an answer with a lower score is hard (default: 0.5).", rich_help_panel=_JUDGE),
    ] = None,
    allow_code_execution: Annotated[
        bool,
        typer.Option(
            "--allow-code-execution",
            help="rule:unit-tests: run the model's code, in a sandbox.",
            rich_help_panel=_JUDGE,
        ),
    ] = False,
    allow_weak_sandbox: Annotated[
        bool,
        typer.Option(
            "--allow-weak-sandbox",
            help="Run it also where nothing shuts it off from files and network.",
            rich_help_panel=_JUDGE,
        ),
    ] = False,
    rounds: Annotated[int | None, typer.Option(help="At most (default: 3).", rich_help_panel=_ROUNDS)] = None,
    batch: Annotated[
        int | None, typer.Option(help="Examples judged a round (default: 1500).", rich_help_panel=_ROUNDS)
    ] = None,
    alpha: Annotated[
        float | None,
        typer.Option(
            help="Weight of the classifier against likeness to hard examples (default: 0.6).", rich_help_panel=_ROUNDS
        ),
    ] = None,
    clusters: Annotated[
        int | None, typer.Option(help="k-means clusters, which take turns (default: 100).", rich_help_panel=_ROUNDS)
    ] = None,
    diverse: Annotated[
        int | None,
        typer.Option(help="Examples of the diverse subset (default: 12 × batch).", rich_help_panel=_ROUNDS),
    ] = None,
    patience: Annotated[
        int | None,
        typer.Option(
            help="Rounds without a rise of the held-out accuracy after which to stop; 0: never (default: 1).",
            rich_help_panel=_ROUNDS,
        ),
    ] = None,
    max_new_tokens: Annotated[
        int | None, typer.Option(help="Tokens of an answer, at most (default: 512).", rich_help_panel=_ANSWERS)
    ] = None,
    max_length: Annotated[
        int | None,
        typer.Option(help="Tokens of prompt and answer (default: 2048, or what fits).", rich_help_panel=_ANSWERS),
    ] = None,
    dtype: Annotated[
        str | None,
        typer.Option(help="What models compute in.", metavar="auto|float32|bfloat16|float16", rich_help_panel=_ANSWERS),
    ] = None,
    encoder: Annotated[
        str | None,
        typer.Option(
            help="Sentence encoder (default: GTR-T5-base); all-minilm-l6-v2 comes in a package.",
            metavar="DIR|NAME",
            rich_help_panel=_CLASSIFIER,
        ),
    ] = None,
    store: Annotated[
        str | None,
        typer.Option(
            help="Embeddings that `represent --method embed` made.", metavar="DIR", rich_help_panel=_CLASSIFIER
        ),
    ] = None,
    classifier: Annotated[
        str | None,
        typer.Option(help="Its encoder (default: BERT-base).", metavar="DIR|NAME", rich_help_panel=_CLASSIFIER),
    ] = None,
    classifier_epochs: Annotated[int | None, typer.Option(help="Default: 3.", rich_help_panel=_CLASSIFIER)] = None,
    classifier_lr: Annotated[
        float | None, typer.Option(help="Learning rate (default: 2e-5).", rich_help_panel=_CLASSIFIER)
    ] = None,
    held_out: Annotated[
        float | None,
        typer.Option(help="Share of the judged that it is tested on (default: 0.2).", rich_help_panel=_CLASSIFIER),
    ] = None,
) -> None:
    """Choose what is hard for a model: no target task, few judge calls (IterSelectTune). A stopped run goes on.

    handpick iterselect --pool alpaca.jsonl --model M --judge JUDGE --judge-url URL --max-judge-calls 4500

    handpick iterselect --pool alpaca.jsonl --model M --judge local:JUDGE --out runs/iter

    handpick iterselect --pool alpaca.jsonl --model M --judge rule:rouge-l --out runs/iter

    It says first how many answers, judge calls and tokens it will take; a cap on calls is never passed.
    """
    learning = {
        "model": classifier,
        "epochs": classifier_epochs,
        "learning_rate": classifier_lr,
        "held_out": held_out,
    }
    given = {
        "pool": pool,
        "model": model,
        "judge": judge,
        "budget": budget,
        "out": None if out is None else str(out),
        "seed": seed,
        "verdict": verdict,
        "hard_below": hard_below,
        "allow_code_execution": allow_code_execution,
        "allow_weak_sandbox": allow_weak_sandbox,
        "rounds": rounds,
        "batch": batch,
        "alpha": alpha,
        "clusters": clusters,
        "diverse": diverse,
        "patience": patience,
        "max_new_tokens": max_new_tokens,
        "max_length": max_length,
        "dtype": dtype,
        "encoder": encoder,
        "store": store,
        "judging": judging,
        "classifier": given_of(learning),
    }
    with plainly():
        from handpick.iterselecttune.run import Prepared
        from handpick.iterselecttune.settings import IterSelectSettings
        from handpick.progress import say

        prepared = Prepared(IterSelectSettings.checked(given_of(given)))
        for line in prepared.expected.lines():
            say(line)
        if not dry_run:
            _show(prepared.run(), prepared.settings.layout)


def _show(run: "IterRun", layout: IterSelectLayout) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    from handpick.cli.show import console

    table = Table(
        title="Rounds: what was judged, and how well the classifier tells it on what was held out",
        title_justify="left",
        box=SIMPLE_HEAD,
        pad_edge=False,
    )
    for heading in (*_COUNTS, "held", "acc.", "prec.", "recall", "AUC"):
        table.add_column(heading, justify="right")
    for line in run.figures:
        counts = [f"{line[name]:,}" for name in _COUNTS]
        held = [
            "–" if line[name] is None else f"{line[name]:.3f}" for name in ("accuracy", "precision", "recall", "auc")
        ]
        table.add_row(*counts, f"{line['held_out']:,}", *held)
    console.print(table)
    how = {name: sum(pick.how == name for pick in run.picks) for name in ("judged", "inferred", "easy")}
    console.print(
        f"{len(run.picks):,} chosen: {how['judged']:,} judged hard, {how['inferred']:,} by the classifier and likeness"
        + (f", {how['easy']:,} judged easy, since nothing else was left" if how["easy"] else "")
    )
    calls, whole = run.judging["calls"], run.judging["whole_pool_calls"]
    if whole:
        console.print(f"{calls:,} judge calls; judging the whole pool would take {whole:,}")
    console.print(f"the choice, and why: {layout.records}, {layout.explained}", soft_wrap=True)
