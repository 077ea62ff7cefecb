"""Plans of selections: held against the run that follows, and of every representation."""

import shutil
from pathlib import Path
from typing import Any

import pytest

import handpick
from handpick.data.pool import Pool
from handpick.data.quarantine import Quarantine
from handpick.data.render import Renderer
from handpick.errors import DataError, ModelError, SettingsError
from handpick.model import load_tokenizer
from handpick.objectives.next_token import NextToken
from handpick.planning import Plan, StageCost, plan_represent, plan_select
from handpick.scorers import scoring_problem as problem
from handpick.settings import Settings, parse_settings
from tests.conftest import write_jsonl

QUICK = 0.1  # seconds of probing
WARMUP = {"at_least": 24, "epochs": 2, "batch": 8, "learning_rate": 1e-3, "lora": {"rank": 4, "alpha": 8}}


@pytest.fixture(scope="module")
def given(
    tiny_model: Path,
    pool_records: list[dict[str, Any]],
    query_records: list[dict[str, Any]],
    tmp_path_factory: pytest.TempPathFactory,
) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("data")
    pool, query = folder / "pool.jsonl", folder / "query.jsonl"
    return {
        "pool": str(write_jsonl(pool, pool_records[:60])), "query": str(write_jsonl(query, query_records[:4])),
        "model": str(tiny_model), "budget": 10, "warmup": WARMUP, "projection_dim": 1024, "shard_rows": 16,
        "max_length": 256, "dtype": "float32",
    }  # fmt: skip


@pytest.fixture(scope="module")
def planned(given: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> tuple[Plan, Settings, list[str]]:
    """A plan, its settings, and the files that it left."""
    settings = parse_settings(given | {"out": str(tmp_path_factory.mktemp("runs") / "out")})
    plan = plan_select(settings, QUICK)
    left = sorted(str(path.relative_to(settings.folder)) for path in settings.folder.rglob("*") if path.is_file())
    return plan, settings, left


@pytest.fixture(scope="module")
def run(planned: tuple[Plan, Settings, list[str]]) -> Path:
    """The run that was planned, done."""
    from handpick.pipeline import run_select

    run_select(planned[1])
    return planned[1].folder


def stages(plan: Plan) -> dict[str, StageCost]:
    return {stage.name: stage for stage in plan.stages}


def shard_bytes(store: Path) -> int:
    return sum(path.stat().st_size for path in (store / "shards").rglob("*") if path.is_file())


def test_every_stage_has_its_line(planned: tuple[Plan, Settings, list[str]]) -> None:
    names = "read and parse, warmup, query features, pool features 1, pool features 2, similarity and choice"
    plan = planned[0]
    assert [stage.name.replace(", checkpoint", "") for stage in plan.stages] == names.split(", ")
    for stage in plan.stages[1:]:
        assert stage.seconds is not None, stage
        assert stage.seconds.value > 0, stage
    assert all(stage.flops and stage.memory for stage in plan.stages[1:])
    total = plan.total
    assert total.disk == sum(stage.disk for stage in plan.stages)
    assert total.seconds is not None
    assert total.seconds.value == pytest.approx(sum(s.seconds.value for s in plan.stages if s.seconds))


def test_nothing_is_written_but_the_parsed_records(planned: tuple[Plan, Settings, list[str]]) -> None:
    assert planned[2]
    assert all(name.startswith("features/parsed/") for name in planned[2])


def test_tokens_are_those_of_the_pool(planned: tuple[Plan, Settings, list[str]], tmp_path: Path) -> None:
    plan, settings, _ = planned
    pool = Pool.open(settings.pool, cache=tmp_path, quarantine=Quarantine(tmp_path / "q", None))
    objective = NextToken(Renderer(load_tokenizer(str(settings.model))), settings.max_length)
    counted = sum(len(item.input_ids) for item in objective.prepare(pool.examples(0, len(pool))).items)
    for t in (1, 2):
        tokens = stages(plan)[f"pool features, checkpoint {t}"].tokens
        assert tokens is not None
        assert tokens.is_exact
        assert tokens.value == counted


def test_disk_is_what_the_run_writes(planned: tuple[Plan, Settings, list[str]], run: Path) -> None:
    plan = stages(planned[0])
    pool = plan["pool features, checkpoint 1"].disk + plan["pool features, checkpoint 2"].disk
    assert pool == pytest.approx(shard_bytes(run / "features" / "pool"), rel=0.02)
    query = next((run / "features").glob("query-*"))
    assert plan["query features"].disk == pytest.approx(shard_bytes(query), rel=0.02)
    moments = [path.stat().st_size for path in (run / "warmup").rglob("adam_moments.safetensors")]
    adapters = [path.stat().st_size for path in (run / "warmup").rglob("adapter_model.safetensors")]
    assert len(moments) == 2
    headers = 8_000  # names and shapes, which are much beside weights as small as these
    assert plan["warmup"].disk < sum(moments) + sum(adapters) < plan["warmup"].disk + 4 * headers


def test_what_is_there_costs_nothing(
    planned: tuple[Plan, Settings, list[str]], run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("engine_probe", "warmup_costs"):
        monkeypatch.setattr(f"handpick.scorers.{module}.load_base", lambda *_: pytest.fail("a model was loaded"))
    plan = plan_select(planned[1], QUICK)
    assert [stage.name for stage in plan.stages if stage.there] == [
        "read and parse", "warmup", "query features", "pool features",
    ]  # fmt: skip
    assert all(stage.seconds is not None and stage.seconds.value == 0 for stage in plan.stages if stage.there)
    assert (run / "selected.jsonl").exists()


def test_a_run_that_was_killed_is_planned_to_its_end(
    planned: tuple[Plan, Settings, list[str]], run: Path, tmp_path: Path
) -> None:
    out = shutil.copytree(run, tmp_path / "out")
    lost = out / "features" / "pool" / "shards" / "1" / "0-0"
    lost.with_suffix(".json").unlink()
    plan = stages(plan_select(planned[1].model_copy(update={"out": str(out)}), QUICK))
    whole, part = planned[0], plan["pool features, checkpoint 2"]
    assert plan["pool features, checkpoint 1"].there
    assert plan["query features"].there
    assert part.tokens is not None
    of_all = stages(whole)["pool features, checkpoint 2"].tokens
    assert of_all is not None
    assert part.tokens.value == pytest.approx(of_all.value * 16 / 60)
    assert "44 rows are there" in part.note


def test_scores_alone_take_a_column_a_query(given: dict[str, Any], tmp_path: Path) -> None:
    settings = parse_settings(given | {"out": str(tmp_path / "out"), "score_only": True})
    plan = stages(plan_select(settings, QUICK))
    handpick.select(**given, out=str(tmp_path / "out"), score_only=True)
    real = shard_bytes(next((tmp_path / "out" / "features").glob("scores-*")))
    said = plan["pool features, checkpoint 1"].disk + plan["pool features, checkpoint 2"].disk
    assert said == pytest.approx(real, rel=0.02)


def test_cheaper_storage_is_computed(planned: tuple[Plan, Settings, list[str]], given: dict[str, Any]) -> None:
    plan, settings, _ = planned
    smaller = plan_represent(settings.model_copy(update={"storage": "int8", "out": None}), QUICK)
    saved = sum(s.disk for s in plan.stages if "pool" in s.name) - sum(
        s.disk for s in smaller.stages if "pool" in s.name
    )
    assert f"--storage int8 saves {saved / 1e9:.2f} GB of disk" in plan.cheaper


METHODS: list[dict[str, Any]] = [
    {"method": "gradient-rr", "warmup": "none"}, {"method": "gist"}, {"method": "whitened-rr", "projection_dim": 64},
    {"method": "landmarks", "landmarks": "25%", "refine": "5%"},
    {"method": "tacs"}, {"method": "rds+"}, {"method": "whitened-rds-rr"}, {"method": "perplexity"}, {"method": "ifd"},
    {"method": "longest"}, {"method": "bm25"}, {"method": "dsir"}, {"method": "random"}, {"method": "less-uot"},
    {"method": "nice", "reward": "exact-match:last-number", "max_new_tokens": 32, "samples": 3},
]  # fmt: skip
READ_BY_A_MODEL = {
    "gradient-rr",
    "gist",
    "tacs",
    "whitened-rr",
    "landmarks",
    "rds+",
    "whitened-rds-rr",
    "perplexity",
    "ifd",
    "less-uot",
    "nice",
}


@pytest.mark.parametrize("more", METHODS, ids=lambda more: str(more["method"]))
def test_every_method_has_a_plan(more: dict[str, Any], given: dict[str, Any], tmp_path: Path) -> None:
    kept = given
    if more["method"] not in READ_BY_A_MODEL - {"gradient-rr", "tacs", "rds+", "whitened-rds-rr", "perplexity", "ifd"}:
        kept = {name: value for name, value in given.items() if name != "warmup"}
    plan = plan_select(parse_settings(kept | more | {"out": str(tmp_path)}), QUICK)
    total = plan.total
    assert total.seconds is not None
    assert total.seconds.low <= total.seconds.value <= total.seconds.high
    assert (total.flops is not None and total.tokens is not None) == (more["method"] in READ_BY_A_MODEL)
    found = stages(plan)
    if more["method"] == "nice":
        assert found["answers"].tokens is not None
        assert found["answers"].tokens.high == 4 * 3 * 2 * 32  # prompts, samples, checkpoints, tokens
    if more["method"] == "gist":
        assert len([name for name in found if name.startswith("pool features")]) == 1  # the last checkpoint alone
    if more["method"] == "whitened-rr":
        assert found["covariance"].disk == 2 * 8 * 64**2


def test_a_pool_of_ten_records(given: dict[str, Any], pool_records: list[dict[str, Any]], tmp_path: Path) -> None:
    pool = write_jsonl(tmp_path / "ten.jsonl", pool_records[:10])
    plan = plan_select(parse_settings(given | {"pool": str(pool), "out": str(tmp_path / "out")}), QUICK)
    assert stages(plan)["warmup"].examples == 10


@pytest.mark.parametrize(
    ("changed", "error", "said"),
    [
        ({"pool": []}, SettingsError, "no pool given"),
        ({"query": []}, SettingsError, "no query given"),
        ({"model": None}, SettingsError, "no model given"),
        ({"model": "./nothing-here"}, ModelError, "no model folder"),
        ({"pool": "./nothing.jsonl"}, DataError, "nothing.jsonl"),
        ({"budget": 61}, SettingsError, "the pool has 60"),
        ({"max_length": 2}, DataError, "response"),
        ({"max_share": {"nosuch": 0.1}}, SettingsError, "no example has the source 'nosuch'"),
        ({"always": "./nothing.txt"}, DataError, "nothing.txt"),
        ({"exclude_overlap": ["./nothing.jsonl"]}, DataError, "nothing.jsonl"),
        ({"method": "whitened-rr", "projection_dim": 1 << 24}, SettingsError, "give a smaller --projection-dim"),
    ],
)
def test_bad_input(
    changed: dict[str, Any], error: type[Exception], said: str, given: dict[str, Any], tmp_path: Path
) -> None:
    with pytest.raises(error, match=said):
        plan_select(parse_settings(given | {"out": str(tmp_path)} | changed), QUICK)


@pytest.mark.parametrize(("algorithm", "written"), [("round-robin", False), ("uot", True)])
def test_a_similarity_that_does_not_fit_is_streamed_or_a_file(
    algorithm: str, written: bool, given: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = parse_settings(given | {"out": str(tmp_path), "method": "less-rr", "algorithm": algorithm})
    fits = stages(plan_select(settings, QUICK))["similarity and choice"]
    monkeypatch.setattr(problem, "_IN_MEMORY", 0)
    does_not = stages(plan_select(settings, QUICK))["similarity and choice"]
    assert does_not.disk - fits.disk == (4 * 4 * 60 if written else 0)


def test_a_plan_is_plain_values(planned: tuple[Plan, Settings, list[str]]) -> None:
    found = planned[0].to_json()
    assert found["command"] == "select"
    assert found["total"]["seconds"]["value"] > 0
    assert found["stages"][0]["name"] == "read and parse"
