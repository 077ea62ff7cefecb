"""RDS+ (Ivison et al. 2025, arXiv 2503.01807, section 3): an example is the weighted mean of a base model's last hidden
states over the whole conversation, later tokens weighing more; the pooling is Muennighoff's (2022, arXiv 2202.08904).

The base model reads the conversation as its template writes it, without an adapter. Token i of n, counted from 1,
weighs i / (1 + … + n); padding is no token (in the authors' released code its positions are counted in). The hidden
states are those behind the decoder's last norm, what the head reads.

Legend: N examples, B sequences of a batch, T positions, H hidden size.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from handpick.costs.flops import Shape
from handpick.data.batching import Batch
from handpick.data.examples import Example
from handpick.data.render import IGNORED, Rendered
from handpick.errors import DataError
from handpick.fingerprint import Fingerprint
from handpick.gradients.forward import decoder_of, eval_mode
from handpick.gradients.kernels import fast_exact_float32
from handpick.objectives.protocol import Prepared, prepare_each
from handpick.scorers.model_reader import ReadEncoder


@torch.no_grad()
def weighted_states(model: nn.Module, batch: Batch) -> Tensor:
    """Compute Σ i · h_i / Σ i over each sequence's tokens, (B, H), on the CPU; float32, float64 for such a model.

    Args:
        model: a causal language model.
        batch: on the CPU, padded on the right: a causal model never looks there, and so needs no mask.
    """
    decoder: Any = decoder_of(model)
    device = next(model.parameters()).device
    with fast_exact_float32(), eval_mode(model):
        hidden_BTH = decoder(input_ids=batch.input_ids_BT.to(device), use_cache=False).last_hidden_state
        wide = torch.promote_types(hidden_BTH.dtype, torch.float32)
        place_BT = ((batch.position_ids_BT + 1) * batch.attention_mask_BT).double()
        weight_BT = (place_BT / place_BT.sum(1, keepdim=True)).to(device, wide)
        mean_BH: Tensor = torch.einsum("bt,bth->bh", weight_BT, hidden_BTH.to(wide))
    return mean_BH.cpu()


class HiddenStates(ReadEncoder):
    """RDS+ rows. They are not normalised.

    An answer is not needed: a prompt alone is read as the template writes it. What is over ``max_length`` is cut off.

    Args:
        reader: the model.
    """

    @property
    def dim(self) -> int:
        """H, what the model's head reads; loads the model.

        Raises:
            ModelError: as ``Reader.model``.
        """
        return int(self.reader.model.get_output_embeddings().weight.shape[1])  # type: ignore[operator]

    def space(self) -> Fingerprint:
        return {"representation": "rds+", **self.reader.space}

    def prepare(self, examples: Sequence[Example]) -> Prepared:
        """Prepare the tokens of every conversation; refused is one without any text, or that the template refuses."""
        return prepare_each(examples, self._tokens)

    def _tokens(self, example: Example) -> Rendered:
        if not any(message.content.strip() for message in example.messages):
            raise DataError("no turn with any text")
        renderer = self.reader.renderer
        all_ids = renderer.token_ids(renderer.text(example.messages))
        ids = all_ids[: self.reader.max_length]
        return Rendered(ids, [IGNORED] * len(ids), len(all_ids))

    def encode(
        self, items: Sequence[Rendered], advance: Callable[[float], None] = lambda n: None
    ) -> NDArray[np.float32]:
        """Compute rows (N, H), float32, of what was prepared, in its order.

        Raises:
            ModelError: as ``Reader.model``.
        """
        rows_NH = np.empty((len(items), self.dim), dtype=np.float32)
        for members, batch in self.reader.batches(items):
            rows_NH[members] = weighted_states(self.reader.model, batch).numpy()
            advance(len(members))
        return rows_NH

    def flops(self, shape: Shape, item: Any) -> float:
        """Return the operations of reading a conversation, with no logits."""
        return shape.read([self.size(item)])
