"""Next-token loss (Xia et al. ICML 2024, section 2): the mean cross-entropy over an example's response tokens.

Legend: B examples, M labelled positions of the whole batch, V vocabulary.
"""

import torch
from torch import Tensor

NAME = "next-token"


def next_token_loss(logits_MV: Tensor, targets_M: Tensor, example_M: Tensor, n_examples: int) -> Tensor:
    """Mean cross-entropy of every example, (B,), in float32 or the logits' wider dtype.

    Args:
        logits_MV: scores at the positions whose next token has a label.
        targets_M: that next token.
        example_M: which example each position belongs to.
        n_examples: B; every example has at least one position.
    """
    wide = torch.promote_types(logits_MV.dtype, torch.float32)
    nats_M = torch.nn.functional.cross_entropy(logits_MV.to(wide), targets_M, reduction="none")
    count_B = torch.bincount(example_M, minlength=n_examples)
    return torch.zeros(n_examples, dtype=wide, device=nats_M.device).index_add(0, example_M, nats_M) / count_B
