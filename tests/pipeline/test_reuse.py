"""What one run leaves is used by the next if it fits; if not, what differs is named before anything is trained."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

import handpick
from handpick.errors import FingerprintMismatch, HandpickError, SettingsError, StoreError
from handpick.pipeline import merge_stores, run_select
from handpick.settings import Settings
from tests.conftest import make_model
from tests.pipeline.conftest import WARMUP, Finished

Given = dict[str, Any]


@pytest.fixture(scope="module")
def other_weights(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(make_model(tmp_path_factory.mktemp("model") / "other", seed=1))


@pytest.fixture(scope="module")
def other_template(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The tiny model, with another chat template."""
    template = "{% for m in messages %}{{ '<|' + m['role'] + '|>' + m['content'] + eos_token }}{% endfor %}"
    return str(make_model(tmp_path_factory.mktemp("model") / "template", template=template))


def files(folder: Path, pattern: str) -> dict[str, tuple[int, bytes]]:
    """Every file of a pattern: when it was written, and its bytes."""
    return {
        str(path.relative_to(folder)): (path.stat().st_mtime_ns, path.read_bytes())
        for path in folder.glob(pattern)
        if path.is_file()
    }


CHANGES: dict[str, tuple[Callable[[pytest.FixtureRequest], Given], str]] = {
    "max length": (lambda _: {"max_length": 100}, "max_length is 2048 there and 100 here"),
    "seed": (lambda _: {"seed": 1}, r"projection\.seed is 0 there and 1 here"),
    "projection": (lambda _: {"projection_dim": 512}, r"projection\.dim is 1024 there and 512 here"),
    "epsilon": (lambda _: {"eps_mode": "adam"}, 'eps_mode is "less" there and "adam" here'),
    "storage": (lambda _: {"storage": "float16"}, 'storage is "float32" there and "float16" here'),
    "shard rows": (lambda _: {"shard_rows": 8}, "shard_rows is 16 there and 8 here"),
    "optimizer": (lambda _: {"optimizer": "sgd"}, 'optimizer is "adam" there and "sgd" here'),
    "method": (lambda _: {"method": "gradient-rr"}, 'optimizer is "adam" there and "sgd" here'),
    "warmup": (lambda _: {"warmup": WARMUP | {"epochs": 3}}, r"warmup\.epochs is 2 there and 3 here"),
    "pool": (
        lambda request: {"pool": request.getfixturevalue("more_file")},
        r"file 1 of the pool was .*pool\.jsonl and now .*more\.jsonl has other content",
    ),
    "model": (
        lambda request: {"model": request.getfixturevalue("other_weights")},
        r"model\.weights is \S+ there and \S+ here",
    ),
    "template": (
        lambda request: {"model": request.getfixturevalue("other_template")},
        r"match: template is \S+ there and \S+ here",
    ),
}


@pytest.mark.parametrize("what", CHANGES)
def test_an_output_folder_of_other_settings_is_refused_by_name(
    what: str, finished: Finished, given: Given, request: pytest.FixtureRequest, no_model: None
) -> None:
    change, message = CHANGES[what]
    with pytest.raises(FingerprintMismatch, match=message):
        handpick.select(**given | change(request), out=str(finished.folder))


def test_a_warmup_of_other_settings_is_refused_where_there_are_no_features_yet(
    finished: Finished, given: Given, tmp_path: Path, no_model: None
) -> None:
    out = finished.copy_to(tmp_path / "interrupted")
    (out / "features" / "pool" / "manifest.json").unlink()
    with pytest.raises(FingerprintMismatch, match=r"the warmup in .* max_length is 2048 there and 100 here"):
        handpick.select(**given, max_length=100, out=str(out))


def test_a_warmup_with_another_chat_template_is_refused_where_there_are_no_features_yet(
    finished: Finished, given: Given, other_template: str, tmp_path: Path, no_model: None
) -> None:
    out = finished.copy_to(tmp_path / "interrupted")
    (out / "features" / "pool" / "manifest.json").unlink()
    with pytest.raises(FingerprintMismatch, match=r"the warmup in .* template is \S+ there and \S+ here"):
        handpick.select(**given | {"model": other_template}, out=str(out))


def test_features_without_a_warmup_are_not_mixed_with_one(
    finished_untrained: Finished, untrained: Given, no_model: None
) -> None:
    with pytest.raises(FingerprintMismatch, match=r"it was made at fresh-.*, not at the checkpoints of the warmup"):
        handpick.select(**untrained | {"warmup": WARMUP}, out=str(finished_untrained.folder))


def test_a_file_of_the_pool_that_is_gone_is_named(
    untrained: Given, more_file: Path, pool_file: Path, out: str, request: pytest.FixtureRequest
) -> None:
    handpick.select(**untrained | {"pool": [pool_file, more_file]}, out=out)
    request.getfixturevalue("no_model")
    with pytest.raises(FingerprintMismatch, match=r"more\.jsonl is no longer in the pool"):
        handpick.select(**untrained, out=out)


def test_new_files_are_appended_without_redoing_the_old(
    finished: Finished, given: Given, pool_file: Path, more_file: Path, tmp_path: Path
) -> None:
    out = finished.copy_to(tmp_path / "grown")
    old = files(out, "features/pool/shards/**/0-*") | files(out, "warmup/**/*")
    selection = handpick.select(**given | {"pool": [pool_file, more_file], "budget": "100%"}, out=str(out))
    assert files(out, "features/pool/shards/**/0-*") | files(out, "warmup/**/*") == old
    assert len(selection) == 60


def test_a_store_built_alone_gives_the_same_selection(
    finished: Finished, given: Given, query_file: Path, tmp_path: Path
) -> None:
    alone = {name: value for name, value in given.items() if name not in ("query", "budget")}
    store = handpick.represent_pool(**alone, out=str(tmp_path / "features"))
    selection = handpick.select(query=query_file, store=str(store.path), budget=10, out=str(tmp_path / "chosen"))
    assert (selection.ids, selection.scores) == (finished.selection.ids, finished.selection.scores)
    assert not (tmp_path / "chosen" / "warmup").exists()


def test_a_store_brings_the_settings_it_was_made_with(untrained: Given, query_file: Path, tmp_path: Path) -> None:
    alone = {name: value for name, value in untrained.items() if name not in ("query", "budget")}
    store = handpick.represent_pool(**alone, storage="float16", max_length=300, out=str(tmp_path / "features"))
    chosen = tmp_path / "chosen"
    handpick.select(query=query_file, store=str(store.path), method="gradient-rr", budget=10, out=str(chosen))
    used = Settings.from_yaml(chosen / "settings.yaml")
    assert (used.storage, used.max_length, used.shard_rows, used.model) == ("float16", 300, 16, untrained["model"])


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"method": "gradient-rr"}, FingerprintMismatch, 'optimizer is "adam" there and "sgd" here'),
        ({"optimizer": "sgd"}, FingerprintMismatch, 'optimizer is "adam" there and "sgd" here'),
        ({"max_length": 100}, FingerprintMismatch, "max_length is 2048 there and 100 here"),
        ({"warmup": WARMUP}, SettingsError, "come with the store, so there is no warmup to train"),
    ],
)
def test_a_store_of_other_settings_is_refused_by_name(
    change: Given, error: type[HandpickError], message: str, finished: Finished, query_file: Path, out: str,
    no_model: None,
) -> None:  # fmt: skip
    store = str(finished.folder / "features" / "pool")
    with pytest.raises(error, match=message):
        handpick.select(query=query_file, store=store, budget=10, out=out, **change)


@pytest.mark.parametrize(("model", "named"), [("other_weights", "model.weights"), ("other_template", "template")])
def test_a_store_of_another_model_is_refused_by_name(
    model: str, named: str, finished: Finished, query_file: Path, out: str, request: pytest.FixtureRequest,
    no_model: None,
) -> None:  # fmt: skip
    store = str(finished.folder / "features" / "pool")
    with pytest.raises(FingerprintMismatch, match=f"{named} is "):
        handpick.select(query=query_file, store=store, model=request.getfixturevalue(model), budget=10, out=out)


def test_stores_that_were_merged_give_the_selection_of_the_whole_pool(
    untrained: Given, pool_file: Path, more_file: Path, query_file: Path, tmp_path: Path
) -> None:
    alone = {name: value for name, value in untrained.items() if name not in ("query", "budget")}
    parts = [handpick.represent_pool(**alone | {"pool": file}, out=str(tmp_path / file.stem)).path
             for file in (pool_file, more_file)]  # fmt: skip
    merged = merge_stores(parts, tmp_path / "merged")
    chosen = handpick.select(
        query=query_file, store=str(merged.path), method="gradient-rr", budget=10, out=str(tmp_path / "chosen")
    )
    whole = handpick.select(**untrained | {"pool": [pool_file, more_file]}, out=str(tmp_path / "whole"))
    assert (chosen.ids, chosen.scores) == (whole.ids, whole.scores)


@pytest.mark.parametrize(("method", "name"), [("gradient-rr", "pool"), ("longest", "pool-length")])
def test_a_store_that_grows_goes_on_after_a_kill_and_remembers_its_new_file(
    method: str, name: str, untrained: Given, pool_file: Path, more_file: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    both = [pool_file, more_file]
    handpick.select(**untrained | {"method": method, "out": str(tmp_path / "made")})
    store = tmp_path / "made" / "features" / name
    given = {"query": untrained["query"], "store": str(store), "method": method, "budget": "100%"}
    own = handpick.FeatureStore.write_shard

    def killed(self: handpick.FeatureStore, checkpoint: int, shard: Any, *args: Any) -> None:
        if (shard.file, shard.number) == (1, 1):
            raise KeyboardInterrupt
        own(self, checkpoint, shard, *args)

    with monkeypatch.context() as patched:
        patched.setattr(handpick.FeatureStore, "write_shard", killed)
        with pytest.raises(KeyboardInterrupt):
            handpick.select(**given, pool=both, out=str(tmp_path / "grown"))
    written = files(store, "shards/**/*")
    assert len(handpick.FeatureStore.open(store, allow_incomplete=True).missing(0)) == 1

    grown = handpick.select(**given, pool=both, out=str(tmp_path / "grown"))
    assert {path: each for path, each in files(store, "shards/**/*").items() if path in written} == written
    whole = handpick.select(**untrained | {"method": method, "pool": both, "budget": "100%"}, out=str(tmp_path / "one"))
    assert len(grown) == 60
    assert (grown.ids, grown.scores) == (whole.ids, whole.scores)
    made_with = (store / "represent.yaml").stat().st_mtime_ns
    assert handpick.select(**given, out=str(tmp_path / "unnamed")).ids == whole.ids
    assert (store / "represent.yaml").stat().st_mtime_ns == made_with  # others may only read it


def test_a_store_that_does_not_say_how_it_was_made_is_refused(
    finished_untrained: Finished, query_file: Path, tmp_path: Path, out: str
) -> None:
    store = finished_untrained.copy_to(tmp_path / "run") / "features" / "pool"
    (store / "represent.yaml").unlink()
    with pytest.raises(StoreError, match=r"has no represent\.yaml"):
        handpick.select(query=query_file, store=str(store), budget=10, out=out)


def test_a_folder_that_is_no_store_is_refused(query_file: Path, tmp_path: Path, out: str) -> None:
    with pytest.raises(StoreError, match="there is no feature store at"):
        handpick.select(query=query_file, store=str(tmp_path), budget=10, out=out)


def test_the_settings_that_were_written_repeat_the_run(finished: Finished, tmp_path: Path) -> None:
    settings = yaml.safe_load((finished.folder / "settings.yaml").read_text())
    (tmp_path / "again.yaml").write_text(yaml.safe_dump(settings | {"out": str(tmp_path / "again")}))
    again = run_select(Settings.from_yaml(tmp_path / "again.yaml"))
    assert (again.selection.ids, again.selection.scores) == (finished.selection.ids, finished.selection.scores)
    chosen = (finished.folder / "selected.jsonl").read_bytes()
    assert (tmp_path / "again" / "selected.jsonl").read_bytes() == chosen


def test_another_query_uses_the_same_pool_features(
    finished: Finished, given: Given, query_records: list[dict[str, Any]], tmp_path: Path
) -> None:
    out = finished.copy_to(tmp_path / "two")
    (tmp_path / "other.jsonl").write_text("".join(json.dumps(record) + "\n" for record in query_records[4:8]))
    before = files(out, "features/pool/shards/**/*")
    selection = handpick.select(**given | {"query": tmp_path / "other.jsonl"}, out=str(out))
    assert files(out, "features/pool/shards/**/*") == before
    assert set(selection.picked_for) == {record["id"] for record in query_records[4:8]}
