"""``score_only``: the same choice, and no features of the pool on disk."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import handpick
from handpick.errors import SettingsError
from handpick.scorers.gradient_encoder import GradientEncoder
from tests.pipeline.conftest import Finished

Given = dict[str, Any]


def test_the_choice_is_that_of_the_features(given: Given, finished: Finished, out: str) -> None:
    selection = handpick.select(**given, score_only=True, out=out)
    assert selection.ids == finished.selection.ids
    assert selection.picked_for == finished.selection.picked_for
    assert selection.scores == pytest.approx(finished.selection.scores, abs=1e-5)
    assert not (Path(out) / "features" / "pool").exists()
    (scores,) = (Path(out) / "features").glob("scores-*")
    assert handpick.FeatureStore.open(scores).array(0, normalized=False).shape[1] == 4  # the queries


def test_another_budget_needs_no_model(
    untrained: Given, finished_untrained: Finished, out: str, request: pytest.FixtureRequest
) -> None:
    first = handpick.select(**untrained, score_only=True, out=out)
    assert first.ids == finished_untrained.selection.ids
    request.getfixturevalue("no_model")
    more = handpick.select(**untrained | {"budget": 20}, score_only=True, out=out)
    assert more.ids[:10] == first.ids


def test_a_query_file_that_was_moved_needs_no_model(
    untrained: Given, out: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    first = handpick.select(**untrained, score_only=True, out=out)
    request.getfixturevalue("no_model")
    moved = tmp_path / "moved.jsonl"
    moved.write_bytes(Path(untrained["query"]).read_bytes())
    again = handpick.select(**untrained | {"query": moved}, score_only=True, out=out)
    assert again.ids == first.ids
    assert len(list((Path(out) / "features").glob("scores-*"))) == 1


def test_a_killed_run_goes_on(untrained: Given, out: str, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = handpick.select(**untrained, score_only=True, out=out + "-whole")
    own, calls = handpick.FeatureStore.write_shard, []

    def once(store: handpick.FeatureStore, *args: Any) -> None:
        if "scores" in store.path.name:
            calls.append(args[1])
            if len(calls) == 2:
                raise KeyboardInterrupt
        own(store, *args)

    with monkeypatch.context() as patched:
        patched.setattr(handpick.FeatureStore, "write_shard", once)
        with pytest.raises(KeyboardInterrupt):
            handpick.select(**untrained, score_only=True, out=out)
    (scores,) = (Path(out) / "features").glob("scores-*")
    first = handpick.FeatureStore.open(scores, allow_incomplete=True)
    assert len(first.missing(0)) == len(first.shards()) - 1
    again = handpick.select(**untrained, score_only=True, out=out)
    np.testing.assert_array_equal(again.scores, whole.scores)


def test_what_makes_no_sense_is_refused(untrained: Given, finished_untrained: Finished, out: str) -> None:
    with pytest.raises(SettingsError, match="score_only"):
        handpick.select(**untrained, score_only=True, store=str(finished_untrained.folder / "features" / "pool"))
    with pytest.raises(SettingsError, match="score_only"):
        handpick.represent_pool(pool=untrained["pool"], model=untrained["model"], score_only=True, out=out)


def test_a_row_without_a_finite_norm_is_set_aside(
    untrained: Given, out: str, pool_records: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each value is finite, and their norm is not: the score must not come out as zero."""
    own = GradientEncoder.encode

    def huge(encoder: GradientEncoder, *args: Any) -> Any:
        features_BK = own(encoder, *args)
        if args[1] == "sgd" and len(features_BK) > 4:  # the pool's
            features_BK[2] = 3e38
        return features_BK

    monkeypatch.setattr(GradientEncoder, "encode", huge)
    handpick.select(**untrained | {"budget": "100%"}, score_only=True, out=out)
    aside = [json.loads(line) for line in Path(out, "quarantine.jsonl").read_text().splitlines()]
    assert [each["id"] for each in aside] == [pool_records[row]["id"] for row in (2, 18, 34)]
    assert {each["reason"].split(":")[0] for each in aside} == {"gradient row not finite"}
    (scores,) = (Path(out) / "features").glob("scores-*")
    assert len(handpick.FeatureStore.open(scores)) == 37
