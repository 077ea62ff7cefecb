"""What the first rule's handpick left is used again where its records are read the same, and else refused by name."""

import json
import shutil
import zlib
from pathlib import Path
from typing import Any

import pytest

from handpick import bundled
from handpick.data.pool import Pool
from handpick.data.quarantine import Quarantine
from handpick.data.render import Renderer
from handpick.errors import FingerprintMismatch
from handpick.evaluation.settings import TaskSettings
from handpick.evaluation.task import open_task
from handpick.fingerprint import digest
from handpick.layout import DataLayout, RunLayout
from handpick.model import load_tokenizer, tokenizer_fingerprint
from handpick.objectives.reward import PolicyGradient, PromptItem
from handpick.pipeline import run_select
from handpick.pipeline.prepare import open_pool_run
from handpick.rewards import wrap
from handpick.sampling.generate import Sample, Sampling
from handpick.scorers.gradient_stores import GradientStores
from handpick.settings import Settings
from handpick.store import FeatureStore
from handpick.store.manifest import contents_of
from handpick.studies.steps import step_name
from handpick.studies.trainings import record_digest
from tests.pipeline.test_reuse import files

LEFT = Path(__file__).parent / "rule_one"
OTHERWISE = "was made when handpick read records otherwise \\(record rule 1, now 2\\): make it anew, or choose another"


@pytest.fixture
def given(tmp_path: Path) -> dict[str, str]:
    return {"model": str(bundled.model_path()), "out": str(tmp_path / "run")}


def store_of(name: str, folder: Path) -> Path:
    """A copy of the store that was left, which says where model and pool stand here."""
    store = shutil.copytree(LEFT / name, folder / "store")
    kept = (store / "represent.yaml").read_text()
    places = {"MODEL": bundled.model_path(), "POOL": LEFT / f"{name}.jsonl"}
    for word, place in places.items():
        kept = kept.replace(word, str(place))
    (store / "represent.yaml").write_text(kept)
    return store


def lengths(name: str, folder: Path, given: dict[str, str]) -> Settings:
    pool = [str(LEFT / f"{name}.jsonl")]
    return Settings(
        **given, pool=pool, store=str(store_of(name, folder)), representation="length", algorithm="mean-max", budget="2"
    )


def test_a_store_whose_records_are_read_the_same_is_used_again(tmp_path: Path, given: dict[str, str]) -> None:
    settings = lengths("plain", tmp_path, given)
    before = files(tmp_path / "store", "**/*")
    selection = run_select(settings).selection
    after = files(tmp_path / "store", "**/*")
    sidecar = "shards/0/0-0.json"
    there, here = (json.loads(each.pop(sidecar)[1]) for each in (before, after))
    assert after == before
    assert here.pop("crc32") == zlib.crc32((tmp_path / "store/shards/0/0-0.safetensors").read_bytes())
    assert here == there  # but for the checksum that it had not yet
    assert [len(selection), *sorted(selection.scores, reverse=True)] == [2, *selection.scores]


def test_a_store_with_a_record_that_is_read_otherwise_is_refused(tmp_path: Path, given: dict[str, str]) -> None:
    settings = lengths("joined", tmp_path, given)
    with pytest.raises(FingerprintMismatch, match=f"^the feature store {tmp_path / 'store'} {OTHERWISE}"):
        run_select(settings)


def test_a_store_of_other_labels_is_refused(
    tmp_path: Path, given: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A template under which even a plain conversation's labels have changed."""
    monkeypatch.setattr(Renderer, "mask_as_before", False, raising=False)
    settings = lengths("plain", tmp_path, given)
    with pytest.raises(FingerprintMismatch, match=f"^the feature store {tmp_path / 'store'} {OTHERWISE}"):
        run_select(settings)


def test_what_is_made_today_says_by_which_rule(tmp_path: Path, given: dict[str, str]) -> None:
    selection = run_select(
        Settings(**given, pool=[str(LEFT / "joined.jsonl")], representation="length", algorithm="mean-max", budget="2")
    ).selection
    assert selection.fingerprints["pool"]["files"][0]["record_rule"] == 2
    store = FeatureStore.open(RunLayout(tmp_path / "run").pool_store("length"))
    assert contents_of(store.manifest.files) == selection.fingerprints["pool"]["files"]
    other = run_select(
        Settings(**given | {"out": str(tmp_path / "other")}, pool=[str(LEFT / "plain.jsonl")], representation="length",
                 algorithm="mean-max", budget="2")
    ).selection  # fmt: skip
    assert "record_rule" not in str(other.fingerprints)


GRADIENTS = {
    "method": "gradient-rr",
    "projection_dim": 8,
    "dtype": "float32",
    "batch_tokens": 1024,
    "max_length": 64,
    "warmup": {"at_least": 4, "epochs": 1, "batch": 4, "lora": {"rank": 1, "alpha": 1, "targets": ["q_proj"]}},
}


def check_gradients(name: str, given: dict[str, str], *, with_store: bool) -> None:
    """Check, as a run does before any work, a folder that holds a warmup and maybe a store at its checkpoint."""
    settings = Settings(**given, **GRADIENTS, pool=[str(LEFT / f"{name}.jsonl")])
    layout = RunLayout(settings.folder)
    layout.warmup.mkdir(parents=True)
    shutil.copy(LEFT / name / "warmup.json", layout.warmup_record)
    if with_store:
        layout.pool_store("gradient").mkdir(parents=True)
        shutil.copy(LEFT / name / "gradient-manifest.json", layout.pool_store("gradient") / "manifest.json")
    GradientStores(open_pool_run(settings, DataLayout(settings.folder)).inputs).check()


@pytest.mark.parametrize("with_store", [False, True])
def test_a_warmup_and_gradients_of_the_same_reading_are_used_again(given: dict[str, str], with_store: bool) -> None:
    check_gradients("plain", given, with_store=with_store)


@pytest.mark.parametrize(("with_store", "what"), [(False, "the warmup in"), (True, "the feature store")])
def test_a_warmup_and_gradients_of_another_reading_are_refused(
    given: dict[str, str], with_store: bool, what: str
) -> None:
    with pytest.raises(FingerprintMismatch, match=f"^{what} \\S+ {OTHERWISE}"):
        check_gradients("joined", given, with_store=with_store)


def test_a_study_step_and_a_test_set_keep_their_names_where_the_reading_is_the_same(tmp_path: Path) -> None:
    """The names are those that the first rule's handpick gave."""
    renderer = Renderer(load_tokenizer(str(bundled.model_path())))
    names, contents = {}, {}
    for name in ("plain", "joined"):
        file = str(LEFT / f"{name}.jsonl")
        pool = Pool.open(file, cache=tmp_path / "cache", quarantine=Quarantine(tmp_path / "bad.jsonl"))
        made_of = {"pool": contents_of(pool.files), "max_length": 64, "tokenizer": tokenizer_fingerprint(renderer)}
        names[name] = step_name("usable", made_of)
        contents[name] = open_task(TaskSettings(files=[file]), tmp_path, name).contents
    assert names["plain"] == "usable-b5a2e801d72ca8df"
    assert names["joined"] != "usable-973971fd3fca3f58"
    assert contents["plain"] == "96c469e10628fde5"
    assert contents["joined"] != "a2a2ba70ea1dbef7"


def test_rewards_of_a_record_that_is_read_otherwise_are_given_anew(tmp_path: Path) -> None:
    """A reward may look at the prompt, which is another though record and answer are the same."""
    asked: list[int] = []

    def mine(prompts: Any, completions: list[str], records: Any) -> list[float]:
        asked.append(len(completions))
        return [1.0] * len(completions)

    prompt = [{"role": "user", "content": "?"}]
    renderer = Renderer(load_tokenizer(str(bundled.model_path())))
    for rule in (1, 1, 2, 2):
        objective = PolicyGradient(
            renderer, 64, reward=wrap(mine), identity={"reward": "mine"}, sampling=Sampling(2, max_new_tokens=4),
            seed=0, folder=tmp_path, model={},
        )  # fmt: skip
        item = PromptItem("a", [1], prompt, {}, [], None, None, rule)
        assert objective._rewards([item], [[Sample([2], "yes"), Sample([3], "no")]]) == [[1.0, 1.0]]
    assert asked == [2, 2]


def test_a_training_step_of_a_record_that_is_read_otherwise_has_another_name(tmp_path: Path) -> None:
    pool = Pool.open(LEFT / "joined.jsonl", cache=tmp_path / "cache", quarantine=Quarantine(tmp_path / "bad.jsonl"))
    same = [record_digest(pool, row) == digest(pool.raw(row).decode()) for row in range(len(pool))]
    assert same == [True] * 7 + [False]
