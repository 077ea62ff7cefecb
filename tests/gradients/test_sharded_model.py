"""A model in pieces, of which each rank holds one: the rows of the model in one piece, bit for bit."""

import os
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import handpick
from handpick.data.batching import collate
from handpick.data.render import Rendered
from handpick.errors import ModelError, SettingsError
from handpick.gradients.engine import GradientEngine
from handpick.gradients.projection import Discarding, projection
from handpick.gradients.sharded_model import PassesInStep, PieceBytes, joined_ranks, largest_blocks, shard
from handpick.layout import CheckpointsLayout, RunLayout
from handpick.planning import plan_represent
from handpick.settings import Settings
from handpick.store import FeatureStore
from handpick.training.checkpoint import check_matrices_alone
from handpick.training.settings import LoraSettings, WarmupSettings
from tests.conftest import write_jsonl
from tests.executors.test_processes import bytes_of
from tests.gradients.oracle import random_sequences
from tests.gradients.tiny_models import ARCHITECTURES, VOCAB, base_model
from tests.ranks import run_ranks


def _rows(base: nn.Module, targets: list[str], *, recompute: bool, last: bool, passes: PassesInStep | None) -> Tensor:
    """Rows of a batch, or of two: the ranks have unlike numbers of them."""
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(2)
    settings = LoraConfig(task_type="CAUSAL_LM", r=4, target_modules=targets, init_lora_weights=False)
    model: Any = get_peft_model(base, settings, autocast_adapter_dtype=False)
    if last:  # the backward pass ends above the first layer
        for name, parameter in model.named_parameters():
            parameter.requires_grad = parameter.requires_grad and ".0." not in name
    engine = GradientEngine(model, recompute=recompute)
    project = projection("sparse", engine.n_coordinates, 64, seed=0)
    sequences = random_sequences(5, VOCAB)
    batches = [sequences[:3], sequences[3:]][: 1 if os.environ["RANK"] == "1" else 2]
    rows = [engine.features(collate(batch, 0), torch.ones(len(batch)), project) for batch in batches]
    if passes is not None:
        pair = collate([Rendered([5, 6], [5, 6], 2)], 0)
        passes.keep_company(lambda: engine.features(pair, torch.ones(1), Discarding()))
    return torch.cat(rows)


def _compare(rank: int) -> None:
    cases = [("llama-tied", True, True), ("mixtral", False, False)]
    with joined_ranks(rank, 2):
        for name, recompute, last in cases:
            targets = ARCHITECTURES[name][2] if name != "mixtral" else ["q_proj", "o_proj"]
            whole, pieces = (base_model(name).requires_grad_(False).eval() for _ in range(2))
            shard(pieces, torch.device("cpu"))
            held = PieceBytes.of(whole, torch.float32)
            here = [getattr(parameter, "_local_tensor", parameter) for parameter in pieces.parameters()]
            n_bytes = sum(tensor.untyped_storage().nbytes() for tensor in here)
            assert held.outside + held.inside // 2 <= n_bytes <= held.outside + 0.55 * held.inside, name
            want = _rows(whole, targets, recompute=recompute, last=last, passes=None)
            got = _rows(pieces, targets, recompute=recompute, last=last, passes=PassesInStep(pieces))
            assert torch.equal(got, want), (name, recompute, last)


def test_rows_of_pieces_are_those_of_the_whole_model_bit_for_bit_and_a_rank_holds_its_piece_alone() -> None:
    assert run_ranks(_compare) == ["", ""]


def _represent(rank: int, given: dict[str, Any], out: Path, killed: int | None = None) -> None:
    if rank == killed:
        write, written = FeatureStore.write_shard, []

        def die_after_one(*args: Any) -> None:
            write(*args)
            written.append(args)
            if len(written) == 2:
                os.kill(os.getpid(), signal.SIGKILL)

        FeatureStore.write_shard = die_after_one  # type: ignore[method-assign]
    handpick.represent_pool(**given, out=str(out), engine="ranks", shard_model=True)


@pytest.mark.slow
def test_ranks_write_the_bytes_of_one_process_and_go_on_from_what_a_killed_one_left(
    tiny_model: Path, pool_records: list[dict[str, Any]], query_records: list[dict[str, Any]], tmp_path: Path
) -> None:
    """Adam's side and the queries', at two checkpoints; of the pool's three shards one rank has two."""
    pool = write_jsonl(tmp_path / "pool.jsonl", [*pool_records[:13], {"id": "mute", "prompt": "Why?"}])
    given: dict[str, Any] = {
        "pool": str(pool), "query": str(write_jsonl(tmp_path / "query.jsonl", query_records[:3])),
        "model": str(tiny_model), "shard_rows": 5, "max_length": 192, "projection_dim": 64, "method": "less-rr",
        "dtype": "float32",
    }  # fmt: skip
    warmup = WarmupSettings(epochs=2, at_least=6, batch=3, lora=LoraSettings(rank=4))
    handpick.select(**given, warmup=warmup, budget=3, out=str(tmp_path / "warm"))
    checkpoints = CheckpointsLayout(RunLayout(tmp_path / "warm").warmup).checkpoints()
    given["checkpoints"] = sorted(map(str, checkpoints))
    one = handpick.select(**given, budget=3, out=str(tmp_path / "one"))

    left, killed = run_ranks(_represent, given, tmp_path / "two", 0)[::-1]
    assert left.startswith("another rank has ended, and a model in pieces needs all of them"), left
    assert killed == "killed"
    assert run_ranks(_represent, given, tmp_path / "two") == ["", ""]
    assert bytes_of(tmp_path / "two" / "features") == bytes_of(tmp_path / "one" / "features")
    both = handpick.select(**given, budget=3, out=str(tmp_path / "two"))  # from features alone
    assert (both.ids, both.scores) == (one.ids, one.scores)

    plan = plan_represent(Settings(**given, engine="ranks", shard_model=True), 0.1)
    assert plan.total.seconds is None
    usable = [stage.examples for stage in plan.stages if stage.tokens is not None]
    assert usable == [2, 13]  # one query is cut to its prompt
    assert any("÷ ranks" in note for note in plan.notes)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"engine": "local"}, "give --engine ranks, and start by torchrun"),
        ({"method": "rds+", "checkpoints": []}, "with shard_model there are gradient features alone, and rds\\+ has"),
        ({"method": "gist"}, "and gist has others"),
        ({"checkpoints": []}, "no warmup is trained with shard_model"),
        ({"quantization": "4bit"}, "a model in 4bit is not kept in pieces"),
        ({"projection": "none"}, "with shard_model rows are projected"),
        ({"method": "nice", "query": ["q.jsonl"]}, "objective is next-token, and reward reads with the model besides"),
    ],
)
def test_what_cannot_be_done_in_pieces_is_refused_by_name(changed: dict[str, Any], said: str) -> None:
    able: dict[str, Any] = {"pool": ["p.jsonl"], "model": "m", "checkpoints": ["c"], "engine": "ranks"}
    Settings(**able, shard_model=True)
    with pytest.raises(SettingsError, match=said):
        Settings(**able | changed, shard_model=True)


def test_without_a_meeting_place_ranks_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MASTER_ADDR", raising=False)
    monkeypatch.setenv("MASTER_PORT", "1")
    with pytest.raises(SettingsError, match=r"MASTER_ADDR are not set.*start them by torchrun"), joined_ranks(0, 2):
        pass


class _Shared(nn.Module):
    def __init__(self, *, outside: bool) -> None:
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(4, 4) for _ in range(3)])
        self.head = nn.Linear(4, 4)
        self.head.weight = self.layers[2].weight if outside else self.head.weight  # type: ignore[assignment]
        if not outside:
            self.layers[2].bias = self.layers[0].bias


def test_weights_in_two_places_are_refused() -> None:
    with pytest.raises(ModelError, match="_Shared cannot be kept in pieces: its layers 0 and 2 share bias"):
        shard(_Shared(outside=False), torch.device("cpu"))
    with pytest.raises(ModelError, match=r"head\.weight is shared with its layer 2"):
        shard(_Shared(outside=True), torch.device("cpu"))
    with pytest.raises(ModelError, match="Linear has no list of layers"):
        largest_blocks(nn.Linear(2, 2))


def test_an_adapter_that_is_more_than_lora_s_matrices_is_refused(tmp_path: Path) -> None:
    from peft import LoraConfig, get_peft_model

    for init, modules, said in (("pissa", None, "init_lora_weights='pissa'"), (True, ["lm_head"], "lm_head")):
        settings = LoraConfig(
            task_type="CAUSAL_LM", r=2, target_modules=["q_proj"], init_lora_weights=init, modules_to_save=modules
        )
        get_peft_model(base_model("llama"), settings).save_pretrained(str(tmp_path / str(init)))
        with pytest.raises(ModelError, match=said):
            check_matrices_alone(tmp_path / str(init))
