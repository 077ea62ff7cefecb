"""Next-token loss (Xia et al. ICML 2024, section 2): the mean cross-entropy over an example's response tokens."""

import torch
from torch import Tensor

from handpick.data.batching import Batch
from handpick.data.render import IGNORED

NAME = "next-token"


def token_weights(batch: Batch) -> Tensor:
    """What each labelled token of a sequence weighs in its loss: one over their number; float64 (B,)."""
    count_B = (batch.targets_BT != IGNORED).sum(1)
    return 1 / count_B.to(torch.float64)
