"""Bad input, each kind by itself: a bad record is set aside and the run goes on; anything else is an error at once."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file
from transformers import GPT2Config, GPT2LMHeadModel

import handpick
from handpick.errors import DataError, HandpickError, ModelError, SettingsError
from tests.conftest import make_model, write_jsonl
from tests.pipeline.conftest import Finished

Given = dict[str, Any]
SetAside = Callable[[], dict[int, str]]

ANSWER = {"role": "assistant", "content": "yes"}
UP_PROJ = "model.layers.0.mlp.up_proj.weight"


def asked(content: str) -> dict[str, str]:
    return {"role": "user", "content": content}


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        ('{"id": "cut off", "messages', "malformed JSON: "),
        ('{"id": "x"}', "no known shape: the record has the fields id"),
        ('{"id": "x", "messages": [{"role": "user"}]}', "missing text: `content` of turn 1"),
        (json.dumps({"messages": [asked("2+2?"), ANSWER | {"content": ""}]}), "no assistant turn with any text"),
        (json.dumps({"prompt": "2+2?"}), "no assistant turn with any text"),
        (json.dumps({"messages": [asked("on and " * 300), ANSWER]}), "no response token left: the first 256 of "),
    ],
    ids=["malformed", "no fields", "no content", "empty response", "prompt alone", "response cut off"],
)
def test_a_bad_record_is_set_aside_with_its_line_and_the_run_goes_on(
    bad: str, reason: str, untrained: Given, pool_file: Path, tmp_path: Path, out: str, set_aside: SetAside
) -> None:
    lines = pool_file.read_text().splitlines()
    (tmp_path / "pool.jsonl").write_text("\n".join([*lines[:2], bad, *lines[2:]]) + "\n")
    selection = handpick.select(**untrained | {"pool": tmp_path / "pool.jsonl"}, max_length=256, out=out)
    assert len(selection) == 10
    assert list(set_aside()) == [3]
    assert set_aside()[3].startswith(reason)


def test_of_records_with_one_id_the_first_is_kept(
    untrained: Given, pool_file: Path, tmp_path: Path, out: str, set_aside: SetAside
) -> None:
    first, *others = pool_file.read_text().splitlines()
    (tmp_path / "pool.jsonl").write_text("\n".join([first, *others, first]) + "\n")
    selection = handpick.select(**untrained | {"pool": tmp_path / "pool.jsonl", "budget": "100%"}, out=out)
    assert len(selection) == 40
    assert set_aside() == {41: f"id seen before: at line 1 of {tmp_path / 'pool.jsonl'}"}


def test_the_run_stops_past_the_limit_of_bad_records(untrained: Given, pool_file: Path, tmp_path: Path) -> None:
    bad = tmp_path / "bad.jsonl"
    bad.write_text("{\n[]\n" + pool_file.read_text())
    settings = untrained | {"pool": bad}
    assert len(handpick.select(**settings, max_quarantined=2, out=str(tmp_path / "two"))) == 10
    with pytest.raises(DataError, match=r"more bad records than the limit of 1: 2 records set aside"):
        handpick.select(**settings, max_quarantined=1, out=str(tmp_path / "one"))


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ({}, "pool"),
        ({"score_only": True}, "scores-*"),
        ({"method": "gist"}, "gist-*"),
        ({"method": "tacs", "tacs_rate": 1e-3, "tacs_depth": 2}, "tacs-[0-9a-f]*"),
        ({"method": "rds+"}, "pool-rds+"),
        ({"method": "longest"}, "pool-length"),
    ],
    ids=str,
)
def test_records_past_the_limit_stop_the_run_before_their_features(
    change: Given, name: str, untrained: Given, pool_file: Path, tmp_path: Path, out: str, set_aside: SetAside
) -> None:
    """A record that cannot be read counts with those that cannot be used."""
    bad = tmp_path / "bad.jsonl"
    bad.write_text("{\n" + '{"prompt": "Why?"}\n' * 3 + pool_file.read_text())
    with pytest.raises(DataError, match=r"more bad records than the limit of 3: 4 records set aside"):
        handpick.select(**untrained | {"pool": bad} | change, max_quarantined=3, out=out)
    assert list(set_aside()) == [1, 2, 3, 4]
    (path,) = Path(out, "features").glob(name)
    store = handpick.FeatureStore.open(path, allow_incomplete=True)
    assert len(store.missing(0)) == len(store.shards())


@pytest.mark.parametrize("side", ["pool", "query"])
@pytest.mark.parametrize("content", ["", "\n\n"], ids=["empty", "blank lines"])
def test_an_empty_file_is_refused(
    side: str, content: str, untrained: Given, tmp_path: Path, out: str, no_model: None
) -> None:
    (tmp_path / "empty.jsonl").write_text(content)
    with pytest.raises(DataError, match=r"no usable record in .*empty\.jsonl"):
        handpick.select(**untrained | {side: tmp_path / "empty.jsonl"}, out=out)


@pytest.mark.parametrize("side", ["pool", "query"])
def test_a_file_that_is_not_there_is_refused(side: str, untrained: Given, out: str) -> None:
    with pytest.raises(DataError, match=r"there is no file missing\.jsonl"):
        handpick.select(**untrained | {side: "missing.jsonl"}, out=out)
    without = {name: value for name, value in untrained.items() if name != side}
    with pytest.raises(SettingsError, match=f"no {side} given"):
        handpick.select(**without, out=out)


def test_queries_without_answers_are_refused(given: Given, tmp_path: Path, out: str, no_model: None) -> None:
    query = write_jsonl(tmp_path / "prompts.jsonl", [{"id": "q1", "prompt": "Why?"}, {"prompt": "How?"}])
    with pytest.raises(DataError, match=r"no query can be used .* the first, 'q1': .* --method nice"):
        handpick.select(**given | {"query": query}, out=out)


def test_a_pool_of_prompts_alone_is_refused(untrained: Given, tmp_path: Path, out: str) -> None:
    prompts = write_jsonl(tmp_path / "prompts.jsonl", [{"prompt": f"What is {n}?"} for n in range(10)])
    with pytest.raises(DataError, match=r"no record of .*prompts\.jsonl can be used: 10 records set aside"):
        handpick.select(**untrained | {"pool": prompts}, out=out)


@pytest.mark.parametrize(
    ("budget", "message"),
    [
        (0, "is not above zero"),
        (-1, "is not above zero"),
        (41, "the budget is 41 examples and the pool has 40"),
        ("200%", "more than the whole pool"),
        ("some", "the budget 'some' cannot be read"),
        ("5% tokens", "cannot be read"),
        (2.5, "not a whole number"),
    ],
)
def test_a_budget_that_cannot_be_is_refused_before_the_warmup(
    budget: Any, message: str, given: Given, out: str, no_model: None
) -> None:
    with pytest.raises(SettingsError, match=message):
        handpick.select(**given | {"budget": budget}, out=out)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("{tmp}/folder", r"folder is no model folder: it has no config\.json"),
        ("{tmp}/nowhere", "there is no model folder .*nowhere"),
        ("./nowhere", r"there is no model folder \./nowhere"),
        ("{tmp}/file", "file is a file; --model takes a model folder"),
        (None, "no model given"),
    ],
)
def test_a_model_that_is_none_is_refused(
    model: str | None, message: str, given: Given, tmp_path: Path, out: str
) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    with pytest.raises(HandpickError, match=message):
        handpick.select(**given | {"model": model and model.format(tmp=tmp_path)}, out=out)


def test_the_model_is_looked_at_before_the_pool_is_read(given: Given, out: str) -> None:
    with pytest.raises(ModelError):
        handpick.select(**given | {"model": "./nowhere"}, out=out)
    assert not Path(out).exists()


def test_a_hub_that_cannot_be_reached_is_not_waited_for(
    given: Given, out: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unreachable(*_: object) -> None:
        raise OSError("Name or service not known")

    def slept(_: float) -> None:
        pytest.fail("waited to try again")

    monkeypatch.setattr("handpick.data.hub.getproxies", dict)
    monkeypatch.setattr("socket.create_connection", unreachable)
    monkeypatch.setattr("time.sleep", slept)
    with pytest.raises(ModelError, match=r"there is no folder no-such/model, .* the Hub cannot be reached"):
        handpick.select(**given | {"model": "no-such/model"}, out=out)
    with pytest.raises(DataError, match=r"there is no file no-such/pool, .* could not be loaded from the Hub"):
        handpick.select(**given | {"pool": "no-such/pool"}, out=out)


@pytest.fixture
def damaged(tiny_model: Path, tmp_path: Path) -> Path:
    """A copy of the model for a test to damage."""
    return shutil.copytree(tiny_model, tmp_path / "damaged")


def test_a_model_without_tokenizer_is_refused(given: Given, damaged: Path, out: str) -> None:
    for path in damaged.glob("tokenizer*"):
        path.unlink()
    with pytest.raises(ModelError, match="damaged cannot be loaded: the folder has no tokenizer"):
        handpick.select(**given | {"model": str(damaged)}, out=out)


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "model.safetensors"])
def test_a_model_with_a_file_cut_short_is_refused(name: str, untrained: Given, damaged: Path, out: str) -> None:
    content = (damaged / name).read_bytes()
    (damaged / name).write_bytes(content[: len(content) // 2])
    with pytest.raises(ModelError, match="damaged cannot be loaded"):
        handpick.select(**untrained | {"model": str(damaged)}, out=out)


def test_a_model_that_writes_no_text_is_refused(given: Given, damaged: Path, out: str) -> None:
    (damaged / "config.json").write_text('{"model_type": "vit"}')
    with pytest.raises(ModelError, match=r"damaged \(ViTConfig\) is no language model that transformers loads"):
        handpick.select(**given | {"warmup": "auto", "model": str(damaged)}, out=out)


def test_more_tokens_than_the_model_has_positions_for_are_refused(
    untrained: Given, tiny_model: Path, tmp_path: Path, out: str
) -> None:
    gpt2 = str(shutil.copytree(tiny_model, tmp_path / "gpt2"))
    config = GPT2Config(vocab_size=512, n_embd=16, n_layer=1, n_head=2, n_positions=200)
    GPT2LMHeadModel(config).save_pretrained(gpt2)
    with pytest.raises(SettingsError, match="the model reads 200 tokens at most, and max_length is 2048"):
        handpick.select(**untrained | {"model": gpt2}, out=out)
    assert len(handpick.select(**untrained | {"model": gpt2}, max_length=200, out=out)) == 10


def test_a_weight_that_is_missing_is_not_drawn_at_random(untrained: Given, damaged: Path, out: str) -> None:
    weights = load_file(damaged / "model.safetensors")
    del weights[UP_PROJ]
    save_file(weights, damaged / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match=f"lack 1 of the model's, among them {UP_PROJ}"):
        handpick.select(**untrained | {"model": str(damaged)}, out=out)


@pytest.mark.parametrize("method", ["gradient-rr", "gist", "tacs", "rds+"])
@pytest.mark.parametrize(("dtype", "remedy"), [("float32", "a weight is broken"), ("bfloat16", "give --dtype float32")])
def test_a_broken_weight_is_refused_before_the_pool_is_read(
    method: str, dtype: str, remedy: str, untrained: Given, damaged: Path, query_records: list[dict[str, Any]], out: str
) -> None:
    weights = load_file(damaged / "model.safetensors")
    weights[UP_PROJ][0, 0] = float("nan")
    save_file(weights, damaged / "model.safetensors", metadata={"format": "pt"})
    values = untrained | {"model": str(damaged), "dtype": dtype, "method": method}
    if method in ("tacs", "rds+"):
        del values["warmup"]
    if method == "tacs":
        values |= {"tacs_rate": 1e-3, "tacs_depth": 2}
    kind = {"rds+": "rds[+]", "tacs": "tacs"}.get(method, "gradient")
    for _ in range(2):
        first = f".the first: '{query_records[0]['id']}'."
        with pytest.raises(ModelError, match=f"none of 4 {kind} rows is finite in {dtype} {first}: {remedy}"):
            handpick.select(**values, out=out)
        assert not list(Path(out, "features").glob("pool*"))


def test_a_warmup_of_a_broken_weight_is_refused(given: Given, damaged: Path, out: str) -> None:
    weights = load_file(damaged / "model.safetensors")
    weights[UP_PROJ][0, 0] = float("nan")
    save_file(weights, damaged / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(
        ModelError, match="none of the first 3 steps of training had a finite gradient: give --dtype flo"
    ):
        handpick.select(**given | {"model": str(damaged)}, out=out)


@pytest.mark.parametrize("lacks", [{"pad": False}, {"template": None}], ids=["pad token", "chat template"])
def test_a_tokenizer_needs_neither_pad_token_nor_template(
    lacks: dict[str, Any], untrained: Given, finished_untrained: Finished, tmp_path: Path, out: str
) -> None:
    model = make_model(tmp_path / "model", **lacks)  # the same weights; the template is the one that is fallen back to
    selection = handpick.select(**untrained | {"model": str(model)}, out=out)
    assert selection.ids == finished_untrained.selection.ids


def test_a_method_without_features_has_nothing_to_represent(pool_file: Path, out: str) -> None:
    with pytest.raises(SettingsError, match="the method random needs no features"):
        handpick.represent_pool(pool=pool_file, method="random", out=out)


def test_adam_needs_a_warmup(given: Given, out: str, no_model: None) -> None:
    with pytest.raises(SettingsError, match="without a warmup there is no Adam state"):
        handpick.select(**given | {"warmup": "none"}, out=out)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"method": "les-rr"}, "did you mean 'less-rr'"),
        ({"algorithm": "robin"}, "did you mean 'round-robin'"),
        ({"max_lenght": 3}, "there is no setting 'max_lenght' .did you mean 'max_length'"),
        ({"warmup": {"epoch": 1}}, r"there is no setting 'warmup\.epoch' .did you mean 'epochs'"),
        ({"warmup": {"epochs": 0}}, r"warmup\.epochs should be greater than 0, not 0"),
        ({"warmup": "tiny"}, "warmup should be 'auto', 'less', 'small' or 'none', not 'tiny'"),
        ({"pool": 3}, "pool should be a file, a list of files, .*, not int"),
        ({"projection_nonzeros": 3}, "projection_dim 1024 is no multiple of projection_nonzeros 3"),
        ({"checkpoints": ["a"]}, "no warmup to train"),
        ({"checkpoints": ["a"], "warmup": "auto"}, "there is no checkpoint folder a"),
    ],
)
def test_a_wrong_setting_is_named(setting: Given, message: str, given: Given, out: str, no_model: None) -> None:
    with pytest.raises(HandpickError, match=message):
        handpick.select(**given | setting, out=out)
