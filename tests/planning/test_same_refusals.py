"""A run and its plan begin alike: what the one refuses, the other refuses with the same sentence."""

import re
from pathlib import Path
from typing import Any

import pytest

from handpick.errors import HandpickError
from handpick.methods import METHODS
from handpick.pipeline import run_select
from handpick.planning import plan_select
from handpick.settings import parse_settings
from tests.conftest import write_jsonl

Given = dict[str, Any]

BAD: dict[str, Given] = {
    "no pool": {"pool": []},
    "no query": {"query": []},
    "no model": {"model": None},
    "tokens without a model": {"model": None, "budget": "2M tokens"},
    "a model that is none": {"model": "./nothing-here"},
    "a pool that is none": {"pool": "./nothing.jsonl"},
    "a query that is none": {"query": "./nothing.jsonl"},
    "more than there is": {"budget": 21},
    "a length beyond the model": {"max_length": 100_000},
    "a source that is none": {"max_share": {"nosuch": 0.1}},
    "ids that are none": {"always": "./nothing.txt"},
    "a test set that is none": {"exclude_overlap": ["./nothing.jsonl"]},
    "nothing to balance": {"balanced": True},
    "two targets of one id": {"query": [], "target": {"a": "QUERY", "b": "QUERY"}, "split": "shared"},
    "a layer that is none": {"layers": "1-2"},
    "too much to whiten": {"projection_dim": 1 << 24},
    "a store that is none": {"store": "./nothing"},
    "a checkpoint that is none": {"checkpoints": ["./nothing"], "warmup": "auto"},
    "an encoder that is none": {"encoder": "./nothing"},
    "a reward that is none": {"reward": "nosuch"},
    "a reward that can score no query": {"reward": "ifeval"},
    "more than a prefilter leaves": {"prefilter": "bm25"},
    "a prefilter that is no model": {"prefilter": ["embed"], "prefilter_share": ["50%"], "encoder": "./nothing"},
    "a prefilter without a file": {"prefilter": ["scores:./nothing.npy"], "prefilter_share": ["50%"]},
    "one beyond the limit": {"max_quarantined": 0, "pool": "BROKEN"},
}


@pytest.fixture(scope="module")
def given(
    tiny_model: Path,
    pool_records: list[dict[str, Any]],
    query_records: list[dict[str, Any]],
    tmp_path_factory: pytest.TempPathFactory,
) -> Given:
    folder = tmp_path_factory.mktemp("refusals")
    write_jsonl(folder / "pool.jsonl", pool_records[:20])
    write_jsonl(folder / "query.jsonl", query_records[:3])
    (folder / "broken.jsonl").write_text((folder / "pool.jsonl").read_text() + "{not JSON\n")
    return {
        "pool": str(folder / "pool.jsonl"), "query": str(folder / "query.jsonl"), "model": str(tiny_model),
        "budget": 5, "max_length": 256, "dtype": "float32",
        "landmarks": 6,
    }  # fmt: skip


def _filled(value: Any, given: Given) -> Any:
    if isinstance(value, dict):
        return {name: _filled(each, given) for name, each in value.items()}
    places = {"QUERY": given["query"], "BROKEN": str(given["pool"]).replace("pool.jsonl", "broken.jsonl")}
    return places.get(value, value) if isinstance(value, str) else value


# whose scorer and objective are another method's, too
_ALIKE = ("less", "less-uot", "gradient-rr", "whitened-rds-rr", "tsds", "tsds-uniform")


@pytest.mark.parametrize(
    "method", [pytest.param(name, marks=[pytest.mark.slow] * (name in _ALIKE)) for name in METHODS]
)
def test_a_run_and_its_plan_refuse_the_same_with_the_same_words(
    method: str, given: Given, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither gets as far as computing anything: a run that begins its stages was not refused."""
    monkeypatch.setattr("handpick.pipeline.prepare.PreparedRun.run_stages", _begun)
    monkeypatch.setattr("handpick.planning.select._work", _begun)
    extra = {"reward": "exact-match:last-number"} if method == "nice" else {}
    refused = 0
    for name, bad in BAD.items():
        values = given | {"method": method} | extra | {key: _filled(value, given) for key, value in bad.items()}
        values = {key: value for key, value in values.items() if value is not None}
        said = [
            _said(act, values | {"out": str(tmp_path / f"{name}-{place}")})
            for place, act in enumerate((run_select, plan_select))
        ]
        assert said[0] == said[1], name
        refused += "began" not in said[0]
    assert refused >= 6


class _Begun(Exception):
    """Work was about to start."""


def _begun(*_: Any) -> Any:
    raise _Begun


def _said(act: Any, values: Given) -> str:
    try:
        act(parse_settings(values))
    except HandpickError as error:
        return re.sub(r"/[^:]*/quarantine", "quarantine", f"{type(error).__name__}: {error}")  # a plan's is elsewhere
    except _Begun:
        return "it began"
    raise AssertionError("it ended without a word")
