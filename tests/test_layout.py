"""Names on disk: folders that earlier versions wrote are gone on with, so none may change."""

import os
from inspect import getattr_static
from pathlib import Path

import pytest

from handpick import layout
from handpick.layout import (
    CheckpointsLayout,
    CutLayout,
    DataLayout,
    IterSelectLayout,
    Layout,
    RunLayout,
    StoreLayout,
    StudyLayout,
    sidecar_of,
    step_of,
)

FOLDER = Path("folder")

NAMES = {
    "DataLayout": "parsed unwritten.json",
    "OverlapLayout": "clean.jsonl overlap.jsonl parsed unwritten.json",
    "ReportLayout": "report report.html",
    "FiguresLayout": "composition.csv",
    "RunLayout": "audition comparison.html cost.json distances.json features features/parsed model overlap.jsonl "
    "prefilter prefilter.json remarks.json report report.html samples selected.jsonl selection.json settings.yaml "
    "similarity.json similarity.npy unwritten.json warmup warmup/warmup.json",
    "StoreLayout": "../parsed manifest.json represent.yaml",
    "SubspaceLayout": "basis.npy queries.npy subspace.json",
    "LandmarksLayout": "candidates.npy exact",
    "WarmupLayout": "warmup.json",
    "TacsPathLayout": "part path.json",
    "TacsCalibrationLayout": "calibration.json",
    "CheckpointLayout": "adam_moments.safetensors digests.json handpick_checkpoint.json whole",
    "FinetuneLayout": "parsed train.yaml unfinished unfinished/model unwritten.json",
    "ExportLayout": ".tokenized.part axolotl.yaml chat_template.jinja dataset_info.json llama_factory.yaml "
    "messages.jsonl model ms_swift.jsonl ms_swift.yaml ms_swift_template.py parsed sharegpt.jsonl tokenized "
    "tokens.jsonl trl.yaml unwritten.json",
    "VerdictsLayout": "judge-local.jsonl judge.jsonl local",
    "SamplesLayout": "verdicts",
    "EvaluationLayout": "answers evaluation.json lm_eval.json parsed unwritten.json verdicts verdicts.jsonl "
    "versus.json",
    "StudyLayout": "cost.json parsed report report.html results.json steps unwritten.json",
    "AuditionLayout": "audition.json cost.json parsed plan.json report report.html results.json steps unwritten.json",
    "StepLayout": "cost.json distances.json order.json predictions.jsonl step.json",
    "RoundLayout": "batch.json classifier cost.json hardness.npy round.json verdicts.jsonl",
    "ClassifierLayout": "classifier.json",
}

ITERSELECT = "answers diverse.npy explained.jsonl iterselect.yaml judging.json plan.json rounds.json verdicts"


def names(kind: type[Layout]) -> set[str]:
    """What the properties of a layout are called, in its folder."""
    own = kind(FOLDER)
    found = (getattr(own, name) for name in dir(kind) if isinstance(getattr_static(kind, name), property))
    return {os.path.relpath(path, FOLDER) for path in found}


@pytest.mark.parametrize("kind", NAMES)
def test_names(kind: str) -> None:
    assert names(getattr(layout, kind)) == set(NAMES[kind].split())


def test_iterselect_writes_a_run_and_more() -> None:
    more = [
        "answers",
        "diverse.npy",
        "explained.jsonl",
        "iterselect.yaml",
        "judging.json",
        "plan.json",
        "rounds.json",
        "verdicts",
    ]
    assert names(IterSelectLayout) == names(RunLayout) | set(more)
    assert IterSelectLayout(FOLDER).round(2).folder == FOLDER / "rounds" / "2"


def test_a_cut_is_a_run_and_its_rows() -> None:
    assert names(CutLayout) == names(RunLayout) | {"cut.json", "left.npy", "checked.npy"}


@pytest.mark.parametrize(
    ("path", "want"),
    [
        (DataLayout(FOLDER).quarantine(), "quarantine.jsonl"),
        (DataLayout(FOLDER).quarantine("test"), "quarantine-test.jsonl"),
        (StudyLayout(FOLDER).quarantine("pool"), "quarantine-pool.jsonl"),
        (RunLayout(FOLDER).quarantine(), "quarantine.jsonl"),
        (RunLayout(FOLDER).quarantine("query"), "quarantine-query.jsonl"),
        (RunLayout(FOLDER).pool_store("gradient"), "features/pool"),
        (RunLayout(FOLDER).pool_store("embed"), "features/pool-embed"),
        (RunLayout(FOLDER).query_store("a"), "features/query-a"),
        (RunLayout(FOLDER).score_store("a"), "features/scores-a"),
        (RunLayout(FOLDER).gist_store("a"), "features/gist-a"),
        (RunLayout(FOLDER).gist_query_store("a"), "features/query-gist-a"),
        (RunLayout(FOLDER).subspace("a"), "features/subspace-a"),
        (RunLayout(FOLDER).landmarks("a"), "features/landmarks-a"),
        (layout.LandmarksLayout(FOLDER).refined("a"), "refined-a"),
        (layout.LandmarksLayout(FOLDER).coefficients("a"), "coefficients-a.npy"),
        (layout.PartLayout(FOLDER).rows, "rows.npy"),
        (RunLayout(FOLDER).tacs_store("a"), "features/tacs-a"),
        (RunLayout(FOLDER).tacs_path("a"), "features/tacs-path-a"),
        (RunLayout(FOLDER).tacs_calibration("a"), "features/tacs-calibration-a"),
        (RunLayout(FOLDER).tacs_clusters("a"), "features/tacs-clusters-a.json"),
        (layout.TacsCalibrationLayout(FOLDER).trial(0, 2e-5), "fold-1-rate-2e-05"),
        (RunLayout(FOLDER).hardness_store("a"), "features/hardness-a"),
        (RunLayout(FOLDER).fresh_adapter("a"), "warmup/fresh-a"),
        (RunLayout(FOLDER).cut("a").record, "prefilter/a/cut.json"),
        (StoreLayout(FOLDER).shard(1, 2, 3), "shards/1/2-3.safetensors"),
        (sidecar_of(StoreLayout(FOLDER).shard(1, 2, 3)), "shards/1/2-3.json"),
        (StoreLayout(FOLDER).second_moment(0, "a"), "second-moment-0-a.npy"),
        (CheckpointsLayout(FOLDER).checkpoint(20), "checkpoint-20"),
        (layout.WarmupLayout(FOLDER).fresh_adapter_part("a"), "fresh-a.part"),
        (layout.ParsedLayout(FOLDER).table("0123456789abcdef9"), "0123456789abcdef.arrow"),
        (layout.ParsedLayout(FOLDER).set_aside("0123456789abcdef9"), "0123456789abcdef.jsonl"),
        (layout.checksums_of(layout.ParsedLayout(FOLDER).table("0123456789abcdef9")), "0123456789abcdef.crc32.json"),
        (layout.FiguresLayout(FOLDER).picture("a"), "a.png"),
        (layout.AnswersLayout(FOLDER).journal("a"), "answers-a.jsonl"),
        (layout.SamplesLayout(FOLDER).samples("a"), "samples-a.jsonl"),
        (layout.SamplesLayout(FOLDER).rewards("a"), "rewards-a.jsonl"),
        (layout.SamplesLayout(FOLDER).report("a"), "report-a.jsonl"),
        (layout.EvaluationLayout(FOLDER).predictions("a"), "predictions-a.jsonl"),
        (StudyLayout(FOLDER).step("training-a"), "steps/training-a"),
    ],
)
def test_names_that_are_made(path: Path, want: str) -> None:
    assert path == FOLDER / want


def test_what_is_there_is_found(tmp_path: Path) -> None:
    run = RunLayout(tmp_path)
    for store in (run.pool_store("embed"), run.pool_store("gradient"), run.query_store("a")):
        store.mkdir(parents=True)
        StoreLayout(store).manifest.touch()
    run.query_store("not begun").mkdir()
    run.parsed.mkdir()
    assert [path.name for path in run.stores()] == ["pool", "pool-embed", "query-a"]
    assert [path.name for path in run.pool_stores()] == ["pool", "pool-embed"]
    assert {path.name for path in run.query_stores()} == {"query-a", "query-not begun"}
    checkpoints = CheckpointsLayout(tmp_path)
    for step in (9, 10):
        checkpoints.checkpoint(step).mkdir()
    assert [step_of(path) for path in sorted(checkpoints.checkpoints(), key=step_of)] == [9, 10]
