"""The gradient representation from files to features, against peft, plain autograd and the paper's formula in numpy."""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from peft import PeftModel
from safetensors import safe_open
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM

from handpick.choices import EpsMode, Optimizer, ProjectionKind
from handpick.data.examples import Example, Message
from handpick.data.render import Rendered, Renderer
from handpick.errors import ModelError
from handpick.gradients.projection import projection
from handpick.model import load_base, load_tokenizer
from handpick.objectives.next_token import NextToken
from handpick.scorers.gradient_encoder import GradientEncoder
from handpick.settings.representation import GradientSettings
from handpick.training.settings import LoraSettings, WarmupSettings
from handpick.training.warmup import new_adapter, train
from tests.gradients.oracle import autograd_rows
from tests.gradients.test_projection import matrix

Rows = dict[str, NDArray[np.float64]]

WARMUP = WarmupSettings(
    epochs=2, batch=4, learning_rate=1e-2, lora=LoraSettings(rank=4, alpha=8, dropout=0.1, targets="all-linear")
)
MAX_LENGTH = 144
SIDES: list[tuple[Optimizer, EpsMode]] = [("sgd", "less"), ("adam", "less"), ("adam", "adam")]


@pytest.fixture(scope="module")
def examples(pool_records: list[dict[str, Any]]) -> list[Example]:
    """Twelve records of the pool with a short question, some of whose answers are cut."""
    short = [r for r in pool_records if len(r["messages"][0]["content"]) < 200]
    return [
        Example(str(i), tuple(Message(m["role"], m["content"]) for m in record["messages"]), b"")
        for i, record in enumerate(short[:12])
    ]


@pytest.fixture(scope="module")
def renderer(tiny_model: Path) -> Renderer:
    return Renderer(load_tokenizer(str(tiny_model)))


@pytest.fixture(scope="module")
def sequences(examples: list[Example], renderer: Renderer) -> list[Rendered]:
    rendered = [renderer(example.messages, MAX_LENGTH) for example in examples]
    assert any(sequence.full_length > MAX_LENGTH for sequence in rendered)
    assert len({len(sequence.input_ids) for sequence in rendered}) > 4
    return rendered


@pytest.fixture(scope="module")
def checkpoints(tiny_model: Path, sequences: list[Rendered], tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Those of a warmup on the examples, three steps each."""
    return train(str(tiny_model), sequences, WARMUP, out=tmp_path_factory.mktemp("warmup"), seed=0, pad_id=1)


def autograd(tiny_model: Path, checkpoint: Path, sequences: list[Rendered]) -> Rows:
    """Gradients by parameter: model and adapter loaded by their own libraries, one example at a time."""
    base = AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32)
    model = PeftModel.from_pretrained(base, str(checkpoint), is_trainable=True)
    return {name: rows.double().numpy() for name, rows in autograd_rows(model, sequences).items()}


def preconditioned(rows: Rows, checkpoint: Path, eps_mode: EpsMode) -> Rows:
    """Γ of every gradient, with Adam's state as it stands in the checkpoint's file."""
    gamma = {}
    with safe_open(checkpoint / "adam_moments.safetensors", framework="np") as file:
        step = json.loads(file.metadata()["adam"])["step"] + 1
        for name, g in rows.items():
            m = 0.9 * file.get_tensor(f"first.{name}").astype(np.float64) + 0.1 * g
            v = 0.999 * file.get_tensor(f"second.{name}").astype(np.float64) + 0.001 * g**2
            if eps_mode == "less":
                gamma[name] = m / np.sqrt(v + 1e-8)
            else:
                gamma[name] = (m / (1 - 0.9**step)) / (np.sqrt(v / (1 - 0.999**step)) + 1e-8)
    return gamma


def flat(rows: Rows) -> NDArray[np.float64]:
    """(N, D): parameters in the order of their names, each row by row."""
    return np.concatenate([rows[name].reshape(len(rows[name]), -1) for name in sorted(rows)], axis=1)


class Encoder(NamedTuple):
    """A gradient encoder for the next-token loss."""

    of: GradientEncoder
    objective: NextToken

    def encode(self, checkpoint: int, optimizer: Optimizer, sequences: list[Rendered]) -> NDArray[np.float32]:
        return self.of.encode(checkpoint, optimizer, self.objective, sequences)


def encoder(tiny_model: Path, checkpoints: Sequence[Path], renderer: Renderer, **settings: Any) -> Encoder:
    defaults: dict[str, Any] = {
        "model": str(tiny_model), "max_length": MAX_LENGTH, "projection": "none", "dtype": "float32",
        "batch_tokens": 200,
    }  # fmt: skip
    of = GradientEncoder(GradientSettings(**(defaults | settings)), checkpoints, renderer.tokenizer)
    return Encoder(of, NextToken(renderer, MAX_LENGTH))


def error(got_ND: NDArray[Any], want_ND: NDArray[Any]) -> float:
    """The largest ‖got − want‖ / ‖want‖ over examples."""
    return float((np.linalg.norm(got_ND - want_ND, axis=1) / np.linalg.norm(want_ND, axis=1)).max())


@pytest.mark.parametrize("checkpoint", [0, 1])
@pytest.mark.parametrize(("optimizer", "eps_mode"), SIDES)
def test_features_are_the_formula_of_the_paper(
    optimizer: Optimizer, eps_mode: EpsMode, checkpoint: int,
    tiny_model: Path, checkpoints: list[Path], renderer: Renderer, sequences: list[Rendered],
) -> None:  # fmt: skip
    want = autograd(tiny_model, checkpoints[checkpoint], sequences)
    if optimizer == "adam":
        want = preconditioned(want, checkpoints[checkpoint], eps_mode)
    features_ND = encoder(tiny_model, checkpoints, renderer, eps_mode=eps_mode).encode(checkpoint, optimizer, sequences)
    assert features_ND.dtype == np.float32
    assert error(features_ND, flat(want)) <= 1e-5


@pytest.mark.parametrize(("kind", "nonzeros"), [("sparse", 1), ("sparse", 4), ("rademacher", 1)])
def test_projected_features_are_the_matrix_times_the_formula(
    kind: ProjectionKind, nonzeros: int,
    tiny_model: Path, checkpoints: list[Path], renderer: Renderer, sequences: list[Rendered],
) -> None:  # fmt: skip
    """The same matrix on both sides: one seed, whatever the optimizer."""
    encode = encoder(
        tiny_model, checkpoints, renderer, projection=kind, projection_dim=64, projection_nonzeros=nonzeros, seed=7
    ).encode
    plain = autograd(tiny_model, checkpoints[1], sequences)
    adam = preconditioned(plain, checkpoints[1], "less")
    n_coordinates = flat(plain).shape[1]
    p_KD = matrix(projection(kind, n_coordinates, 64, 7, nonzeros), n_coordinates).numpy()
    sides: list[tuple[Optimizer, Rows]] = [("sgd", plain), ("adam", adam)]
    for optimizer, want in sides:
        features_NK = encode(1, optimizer, sequences)
        assert error(features_NK, flat(want) @ p_KD.T) <= 1e-5


@pytest.mark.parametrize("batch_tokens", [1, 300, 100_000])
@pytest.mark.parametrize("kind", ["sparse", "rademacher"])
def test_batches_and_the_order_of_the_pool_change_nothing(
    kind: ProjectionKind, batch_tokens: int,
    tiny_model: Path, checkpoints: list[Path], renderer: Renderer, sequences: list[Rendered],
) -> None:  # fmt: skip
    settings = {"projection": kind, "projection_dim": 64}
    want_NK = encoder(tiny_model, checkpoints, renderer, **settings).encode(0, "adam", sequences)
    other = encoder(tiny_model, checkpoints, renderer, batch_tokens=batch_tokens, **settings)
    for size in (len(sequences), 5):  # the whole pool at once, and in shards of five
        backwards = sequences[::-1]
        shards = [other.encode(0, "adam", backwards[i : i + size]) for i in range(0, len(backwards), size)]
        assert error(np.concatenate(shards)[::-1], want_NK) <= 1e-5


def test_moving_between_checkpoints_leaves_nothing_behind(
    tiny_model: Path, checkpoints: list[Path], renderer: Renderer, sequences: list[Rendered]
) -> None:
    places: list[tuple[int, Optimizer]] = [(0, "adam"), (1, "adam"), (1, "sgd"), (0, "sgd")]
    fresh = {place: encoder(tiny_model, checkpoints, renderer).encode(*place, sequences).tobytes() for place in places}
    assert len(set(fresh.values())) == len(places)
    moving = encoder(tiny_model, checkpoints, renderer)
    for place in [*places, *places[::-1], places[2], places[0]]:
        assert moving.encode(*place, sequences).tobytes() == fresh[place], place


def test_records_without_a_response_to_learn_from_are_left_out(
    tiny_model: Path, checkpoints: list[Path], renderer: Renderer, examples: list[Example], sequences: list[Rendered]
) -> None:
    silent = Example("silent", (Message("user", "Anyone there?"),), b"")
    endless = Example("endless", (Message("user", "word " * 200), Message("assistant", "No.")), b"")
    ids, usable, refused = NextToken(renderer, MAX_LENGTH).prepare([silent, examples[3], endless, examples[1]])
    assert ids == [examples[3].id, examples[1].id]
    assert usable == [sequences[3], sequences[1]]
    assert [example for example, _ in refused] == [silent, endless]
    encode = encoder(tiny_model, checkpoints, renderer).encode
    assert encode(0, "sgd", []).shape == (0, encode(0, "sgd", usable).shape[1])


def test_of_an_adapter_that_was_never_trained_the_gradients_of_b_are_taken(
    tiny_model: Path, renderer: Renderer, sequences: list[Rendered], tmp_path: Path
) -> None:
    """``warmup: none``. B is zero there, so A has no gradient: leaving it out loses nothing and halves the work."""
    adapter: Any = new_adapter(load_base(str(tiny_model), torch.float32), WARMUP.lora, 0, in_float32=True)
    adapter.save_pretrained(tmp_path)
    rows = autograd(tiny_model, tmp_path, sequences)
    assert not any(grads.any() for name, grads in rows.items() if ".lora_A." in name)
    features_ND = encoder(tiny_model, [tmp_path], renderer).encode(0, "sgd", sequences)
    assert error(features_ND, flat({name: grads for name, grads in rows.items() if ".lora_B." in name})) <= 1e-5


def test_a_first_checkpoint_without_training_does_not_take_a_from_the_others(
    tiny_model: Path, renderer: Renderer, sequences: list[Rendered], tmp_path: Path
) -> None:
    """One step an epoch, and the first at learning rate zero: what the schedule makes of a very small pool."""
    checkpoints = train(
        str(tiny_model), sequences, WARMUP.model_copy(update={"batch": 16}), out=tmp_path, seed=0, pad_id=1
    )
    features_ND = encoder(tiny_model, checkpoints, renderer).encode(1, "sgd", sequences)
    rows = autograd(tiny_model, checkpoints[1], sequences)
    assert any(grads.any() for name, grads in rows.items() if ".lora_A." in name)
    assert error(features_ND, flat(rows)) <= 1e-5


@pytest.mark.parametrize(("dtype", "bound"), [("bfloat16", 0.03), ("float16", 0.003)])
@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_half_precision_gives_features_near_those_of_float32(
    optimizer: Optimizer, dtype: str, bound: float,
    tiny_model: Path, checkpoints: list[Path], renderer: Renderer, sequences: list[Rendered],
) -> None:  # fmt: skip
    """bfloat16 rounds to 8 bits and float16 to 11; a wrong row would be off by about one."""
    want_ND = encoder(tiny_model, checkpoints, renderer).encode(1, optimizer, sequences)
    features_ND = encoder(tiny_model, checkpoints, renderer, dtype=dtype).encode(1, optimizer, sequences)
    assert features_ND.dtype == np.float32
    assert error(features_ND, want_ND) < bound


def test_the_moments_of_every_checkpoint_are_looked_for_before_any_row(
    tiny_model: Path, checkpoints: list[Path], renderer: Renderer, tmp_path: Path
) -> None:
    lacking = Path(shutil.copytree(checkpoints[1], tmp_path / "lacking"))
    with safe_open(lacking / "adam_moments.safetensors", "pt") as file:
        kept = {name: file.get_tensor(name) for name in list(file.keys())[1:]}
        save_file(kept, lacking / "adam_moments.safetensors", metadata=file.metadata())
    settings = GradientSettings(model=str(tiny_model), dtype="float32", max_length=MAX_LENGTH)
    GradientEncoder(settings, [checkpoints[0], lacking], renderer.tokenizer)
    GradientEncoder(settings, checkpoints, renderer.tokenizer, "adam")
    with pytest.raises(ModelError, match=r"lacking/adam_moments\.safetensors is damaged or belongs to another adapter"):
        GradientEncoder(settings, [checkpoints[0], lacking], renderer.tokenizer, "adam")
