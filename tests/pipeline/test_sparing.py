"""Runs for models that hardly fit: weights in few bits, activations made again."""

from importlib.util import find_spec
from typing import Any

import numpy as np
import pytest

import handpick
from handpick.errors import FingerprintMismatch
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


def test_gradient_checkpointing_gives_the_same_bytes(given: Given, finished: Finished, out: str) -> None:
    handpick.select(**given, gradient_checkpointing=True, out=out)
    store = handpick.FeatureStore.open(out + "/features/pool")
    exact = handpick.FeatureStore.open(finished.folder / "features" / "pool")
    for t in range(2):
        np.testing.assert_array_equal(np.asarray(store.array(t)), np.asarray(exact.array(t)))
