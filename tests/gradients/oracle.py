"""The slow way that anyone can believe: one example at a time, plain autograd."""

import torch
from torch import Tensor, nn

from handpick.data.batching import Batch
from handpick.data.render import IGNORED, Rendered
from handpick.gradients.layers import canonical_name


def autograd_rows(model: nn.Module, sequences: list[Rendered], *, unmet_is_zero: bool = False) -> dict[str, Tensor]:
    """Per-example gradients by canonical parameter name, each (N, *shape).

    A parameter that an example's loss does not depend on has none, as an expert's by itself may: a mistake, or zero.
    """
    model.eval()
    names = {canonical_name(n): p for n, p in model.named_parameters() if p.requires_grad}
    rows: dict[str, list[Tensor]] = {name: [] for name in names}
    for sequence in sequences:
        model.zero_grad()
        ids = torch.tensor([sequence.input_ids])
        logits_TV = model(input_ids=ids).logits[0]
        wide = torch.promote_types(logits_TV.dtype, torch.float32)
        labels_T = torch.tensor(sequence.labels)
        nn.functional.cross_entropy(logits_TV[:-1].to(wide), labels_T[1:], ignore_index=IGNORED).backward()
        for name, parameter in names.items():
            assert unmet_is_zero or parameter.grad is not None
            grad = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
            rows[name].append(grad.detach().clone())
    model.zero_grad()
    return {name: torch.stack(grads) for name, grads in rows.items()}


def mean_weights(batch: Batch) -> Tensor:
    """What makes Σ weight · nll the mean over a sequence's labelled tokens, (B,)."""
    return 1 / (batch.targets_BT != IGNORED).sum(1).double()


def flat(rows: dict[str, Tensor]) -> Tensor:
    """(N, D), parameters in the order of their names."""
    return torch.cat([rows[name].flatten(1) for name in sorted(rows)], dim=1)


def relative_error(got_ND: Tensor, want_ND: Tensor) -> float:
    """The largest ‖got − want‖ / ‖want‖ over examples."""
    got_ND, want_ND = got_ND.double(), want_ND.double()
    return float(((got_ND - want_ND).norm(dim=1) / want_ND.norm(dim=1)).max())


def random_sequences(n: int, vocab: int, *, seed: int = 0, longest: int = 24) -> list[Rendered]:
    """Sequences of unlike lengths with a prompt, a response, and sometimes a second turn."""
    generator = torch.Generator().manual_seed(seed)

    def draw(low: int, high: int) -> int:
        return int(torch.randint(low, high, (), generator=generator))

    sequences = []
    for _ in range(n):
        length = draw(3, longest)
        ids = torch.randint(3, vocab, (length,), generator=generator).tolist()
        start = draw(0, length - 1)
        labels = [token if i >= start else IGNORED for i, token in enumerate(ids)]
        if length - start > 4 and draw(0, 2):
            labels[start + 2] = IGNORED  # a gap: the user speaks between two assistant turns
        sequences.append(Rendered(ids, labels, length))
    return sequences
