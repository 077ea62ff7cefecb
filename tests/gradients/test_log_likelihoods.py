"""Log-probabilities of whole answers against a loop at batch size one."""

import pytest
import torch
from torch import nn

from handpick.data.batching import collate
from handpick.data.render import IGNORED, Rendered
from handpick.gradients import likelihood
from handpick.gradients.likelihood import log_likelihoods
from tests.gradients.oracle import random_sequences
from tests.gradients.tiny_models import ARCHITECTURES, VOCAB, lora_model


def one_at_a_time(model: nn.Module, sequences: list[Rendered]) -> torch.Tensor:
    model.eval()
    rows = []
    for sequence in sequences:
        with torch.no_grad():
            logits_TV = model(input_ids=torch.tensor([sequence.input_ids])).logits[0]
        log_TV = torch.log_softmax(logits_TV.double(), dim=-1)
        pairs = zip(log_TV[:-1], sequence.labels[1:], strict=True)
        rows.append(sum(log_V[label] for log_V, label in pairs if label != IGNORED))
    return torch.stack([torch.as_tensor(row) for row in rows])


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_equals_a_loop(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = lora_model(name)
    sequences = random_sequences(9, VOCAB, seed=3)
    want = one_at_a_time(model, sequences)
    model.train()
    for side in ("right", "left"):
        got = log_likelihoods(model, collate(sequences, pad_id=0, side=side))  # type: ignore[arg-type]
        assert got.dtype == torch.float64
        torch.testing.assert_close(got, want, rtol=1e-5, atol=1e-5)
    assert model.training
    monkeypatch.setattr(likelihood, "_CPU_LOGITS", 2 * VOCAB)
    torch.testing.assert_close(log_likelihoods(model, collate(sequences, pad_id=0)), want, rtol=1e-5, atol=1e-5)
