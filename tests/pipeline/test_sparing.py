"""Runs for models that hardly fit: weights in few bits, activations made again."""

from importlib.util import find_spec
from typing import Any

import numpy as np
import pytest
from transformers import TrainingArguments

import handpick
from handpick.errors import FingerprintMismatch
from handpick.gradients.engine import GradientEngine
from handpick.model.recompute import recompute_arguments
from tests.pipeline.conftest import Finished

Given = dict[str, Any]


@pytest.mark.skipif(find_spec("bitsandbytes") is None, reason="bitsandbytes is not installed")
@pytest.mark.parametrize("bits", ["8bit", "4bit"])
def test_a_quantized_model_is_warmed_up_and_chooses(
    given: Given, finished: Finished, bits: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    out = tmp_path_factory.mktemp("quantized")
    selection = handpick.select(**given, quantization=bits, gradient_checkpointing=True, out=str(out))
    assert len(selection.ids) == given["budget"]
    store = handpick.FeatureStore.open(out / "features" / "pool")
    exact = handpick.FeatureStore.open(finished.folder / "features" / "pool")
    assert store.manifest.space["quantization"] == bits
    assert "quantization" not in exact.manifest.space
    cosine_N = (np.asarray(store.array(0)) * np.asarray(exact.array(0))).sum(1)
    assert 0.3 < np.median(cosine_N) < 0.999999  # like the gradients of the whole model, and not the same
    with pytest.raises(FingerprintMismatch):
        handpick.select(**given, out=str(out))


@pytest.mark.skipif(find_spec("bitsandbytes") is None, reason="bitsandbytes is not installed")
@pytest.mark.parametrize(("before", "after"), [("4bit", "none"), ("none", "4bit"), ("4bit", "8bit")])
def test_a_warmup_on_other_weights_is_not_taken(given: Given, out: str, before: str, after: str) -> None:
    """No store is kept that would be refused by itself."""
    handpick.select(**given, quantization=before, score_only=True, out=out)
    with pytest.raises(FingerprintMismatch, match=r"the warmup.*quantization"):
        handpick.select(**given, quantization=after, score_only=True, out=out)


def test_gradient_checkpointing_gives_the_same_bytes(
    given: Given, finished: Finished, out: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    name = next(iter(recompute_arguments(TrainingArguments, True)))  # which transformers has changed
    own_engine, own_arguments = GradientEngine.__init__, TrainingArguments.__init__

    def engine(self: GradientEngine, model: Any, *, recompute: bool = False) -> None:
        asked.append(f"engine {recompute}")
        own_engine(self, model, recompute=recompute)

    def arguments(self: TrainingArguments, *args: Any, **kwargs: Any) -> None:
        asked.append(f"warmup {kwargs.get(name)}")
        own_arguments(self, *args, **kwargs)

    monkeypatch.setattr(GradientEngine, "__init__", engine)
    monkeypatch.setattr(TrainingArguments, "__init__", arguments)
    handpick.select(**given, gradient_checkpointing=True, out=out)
    assert asked == ["engine True", "warmup True", "engine True"]  # the first looks whether it can
    store = handpick.FeatureStore.open(out + "/features/pool")
    exact = handpick.FeatureStore.open(finished.folder / "features" / "pool")
    for t in range(2):
        np.testing.assert_array_equal(np.asarray(store.array(t)), np.asarray(exact.array(t)))
