"""Corners of the gradient engine: odd batches, odd heads, and switches that a caller may have thrown."""

import weakref

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from handpick.choices import ProjectionKind
from handpick.data.batching import collate
from handpick.data.render import IGNORED, Rendered
from handpick.errors import ModelError
from handpick.gradients import engine
from handpick.gradients.projection import NoProjection, projection
from tests.gradients.oracle import autograd_rows, flat, mean_weights, random_sequences, relative_error
from tests.gradients.test_per_example import engine_rows
from tests.gradients.tiny_models import VOCAB, lora_model


def sequence(n: int, labelled: set[int], *, seed: int = 0) -> Rendered:
    """``n`` tokens, those at ``labelled`` with a loss."""
    ids = torch.randint(3, VOCAB, (n,), generator=torch.Generator().manual_seed(seed)).tolist()
    return Rendered(ids, [token if i in labelled else IGNORED for i, token in enumerate(ids)], n)


BATCHES = {
    "one example": [sequence(9, {4, 5})],
    "of two tokens each": [sequence(2, {1}), sequence(2, {1}, seed=1), sequence(2, {0, 1}, seed=2)],
    "every token labelled": [sequence(n, set(range(n)), seed=n) for n in (3, 7, 12)],
    "one label each": [sequence(n, {label}, seed=n) for n, label in ((5, 1), (6, 5), (12, 6))],
    "of very unlike lengths": [sequence(2, {1}), sequence(100, {50}), sequence(120, set(range(1, 120)))],
    "an example twice": [sequence(8, {3, 4}), sequence(5, {2}), sequence(8, {3, 4})],
}


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("what", BATCHES)
def test_odd_batches(what: str, side: str) -> None:
    model = lora_model("llama", everywhere=True)
    want = flat(autograd_rows(model, BATCHES[what]))
    got = engine_rows(model, BATCHES[what], batch_tokens=10_000, side=side)  # type: ignore[arg-type]
    assert relative_error(got, want) <= 1e-5


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**31), st.integers(2, 8), st.integers(20, 300), st.sampled_from(["right", "left"]))
def test_a_row_does_not_depend_on_its_neighbours(seed: int, n: int, batch_tokens: int, side: str) -> None:
    model = lora_model("llama", seed=seed % 3)
    sequences = random_sequences(n, VOCAB, seed=seed)
    alone = engine_rows(model, sequences, batch_tokens=1)
    together = engine_rows(model, sequences, batch_tokens=batch_tokens, side=side, shuffle=seed)  # type: ignore[arg-type]
    assert relative_error(together, alone) <= 1e-5


def test_a_head_with_a_bias() -> None:
    model = lora_model("phi")
    bias = model.get_output_embeddings().bias  # type: ignore[operator]
    bias.data.copy_(torch.randn(VOCAB, generator=torch.Generator().manual_seed(0)) * 3)
    sequences = random_sequences(7, VOCAB, seed=9)
    want = flat(autograd_rows(model, sequences))
    assert relative_error(engine_rows(model, sequences), want) <= 1e-5
    bias.data.zero_()
    assert relative_error(engine_rows(model, sequences), want) > 0.01, "the bias tells"


def test_float16() -> None:
    model = lora_model("llama", dtype=torch.float16)
    sequences = random_sequences(8, VOCAB, seed=5)
    want = flat(autograd_rows(model, sequences))
    assert relative_error(engine_rows(model, sequences), want) <= 0.02


@pytest.mark.parametrize("training", [False, True])
def test_gradient_checkpointing_that_the_caller_left_on(training: bool) -> None:
    model = lora_model("llama", everywhere=True, lora_dropout=0.3)
    sequences = random_sequences(7, VOCAB, seed=10)
    want = flat(autograd_rows(model, sequences))
    model.gradient_checkpointing_enable()  # type: ignore[operator]
    model.train(training)
    assert relative_error(engine_rows(model, sequences), want) <= 1e-5
    assert model.training is training


@pytest.mark.parametrize("name", ["llama", "gemma2", "granite", "cohere", "gpt2"])
def test_the_size_of_chunks_and_blocks_changes_nothing(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A few positions of the head and a few coordinates of a layer at a time; some models cap or scale their logits."""
    model = lora_model(name)
    sequences = random_sequences(7, VOCAB, seed=12)
    want = flat(autograd_rows(model, sequences))
    monkeypatch.setattr(engine, "_CPU_LOGITS", 3 * VOCAB)
    monkeypatch.setattr(engine, "_CPU_BLOCK", 50)
    monkeypatch.setattr(engine, "_RUN", 3)
    assert relative_error(engine_rows(model, sequences), want) <= 1e-5


def test_what_a_token_weighs_scales_its_row() -> None:
    model = lora_model("llama")
    sequences = random_sequences(4, VOCAB, seed=13)
    batch = collate(sequences, pad_id=0)
    gradients = engine.GradientEngine(model)
    project = NoProjection(gradients.n_coordinates)
    one = gradients.features(batch, mean_weights(batch), project)
    factor_B = torch.tensor([2.0, 0.0, -1.5, 1.0])
    got = gradients.features(batch, mean_weights(batch) * factor_B, project)
    torch.testing.assert_close(got, one * factor_B[:, None], rtol=1e-4, atol=1e-6)
    assert not got[1].any()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("kind", ["sparse", "rademacher"])
def test_nothing_waits_for_the_device(kind: ProjectionKind) -> None:
    model = lora_model("llama").cuda()
    gradients = engine.GradientEngine(model)
    project = projection(kind, gradients.n_coordinates, 64, 0)
    batch = collate(random_sequences(6, VOCAB, seed=14), pad_id=0)
    want = gradients.features(batch, mean_weights(batch), project)  # what is made once is there from now on
    torch.cuda.set_sync_debug_mode("error")
    try:
        got = gradients.features(batch, mean_weights(batch), project)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    torch.testing.assert_close(got, want)


def test_a_head_inside_the_decoder_is_refused() -> None:
    model = lora_model("llama")
    base = model.get_base_model()  # type: ignore[operator]
    base.model.head = base.lm_head
    with pytest.raises(ModelError, match="no decoder apart"):
        engine.GradientEngine(model)


def test_one_layers_gradient_is_freed_before_the_next_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[weakref.ref[torch.Tensor]] = []
    alive: list[int] = []
    bmm = torch.bmm

    def watched(*args: torch.Tensor) -> torch.Tensor:
        if torch._C._current_graph_task_id() == -1:  # attention's own products in the forward pass
            return bmm(*args)
        alive.append(sum(ref() is not None for ref in made))
        product = bmm(*args)
        made.append(weakref.ref(product))
        return product

    monkeypatch.setattr(torch, "bmm", watched)
    model = lora_model("llama", everywhere=True)
    engine_rows(model, random_sequences(3, VOCAB), batch_tokens=1000)
    assert len(made) == len(engine.trainable_layers(model))
    assert max(alive) == 0
