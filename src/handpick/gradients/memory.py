"""How much memory the engine will take, known before it takes it.

    kept      8·D where rows go through Adam, and 4·s·D for the signs of a sparse projection
    a batch   B·(S + r·K) + max(C·V·(c + 8), B·(S / 2n + P·w))

B sequences of the batch; S = a·T + q·T² what autograd saves of one of T padded tokens (counted on trials; q is 0 where
attention keeps no matrix of T × T), and half a block's share of it, of n blocks, what the backward pass holds for a
moment; P coordinates of the largest layer, of w = c bytes on a CPU, whose blocks are small, and c + 12 on a GPU; K
features, r = 12, and 4 where nothing is projected; C·V a chunk of logits in the compute type of c bytes, its softmax
and its gradient in float32. Where blocks are recomputed, their inputs stand for the first S, and a block's share and a
half for the second. The model's weights come on top. Ours; within a tenth of what was measured on models of 7 and 38
million parameters, a quarter on tiny ones (tests/gradients/test_memory.py).
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks

from handpick.data.batching import collate
from handpick.data.render import Rendered
from handpick.gradients.engine import GradientEngine
from handpick.gradients.projection import Discarding, NoProjection, Projection, RademacherProjection, SparseProjection

_TRIAL = 128  # tokens of the longest


@dataclass(frozen=True, slots=True)
class Footprint:
    """Bytes beside the model, by what they are proportional to; the last two are not there at the same time."""

    kept: float
    a_row: float
    saved: "SavedBytes"
    working: "SavedBytes"
    a_gradient: float
    logits: float

    def peak(self, n_sequences: int, longest: int) -> float:
        """Return the bytes while a batch of so many sequences, padded to so many tokens, is computed."""
        held = n_sequences * (self.saved.at_length(longest) + self.a_row)
        return self.kept + held + max(self.logits, n_sequences * (self.working.at_length(longest) + self.a_gradient))


@dataclass(frozen=True, slots=True)
class SavedBytes:
    """Bytes of a sequence: so many a token, and so many a pair of tokens."""

    a_token: float
    a_pair: float

    def at_length(self, length: int) -> float:
        return self.a_token * length + self.a_pair * length**2

    def times(self, factor: float) -> "SavedBytes":
        return SavedBytes(self.a_token * factor, self.a_pair * factor)


def footprint(engine: GradientEngine, project: Projection, *, adam: bool) -> Footprint:
    """Return what ``engine.features`` takes with this projection, with rows through Adam or without."""
    parameter = next(engine.model.parameters())
    kept = 8 * engine.n_coordinates if adam else 0
    logits = engine.chunk_logits * (parameter.itemsize + 8)
    if isinstance(project, SparseProjection):
        kept += 4 * project.nonzeros * engine.n_coordinates
    if isinstance(project, RademacherProjection):  # a block of signs, when the logits are gone
        logits = max(logits, 4 * project.BLOCK * project.dim)
    in_float32 = 12 if parameter.device.type == "cuda" else 0  # the gradients, and Adam's two moments of them
    everything = _measure_saved(engine)
    a_block = everything.times(1 / max(1, engine.passed_back))
    inputs = SavedBytes(engine.passed_back * engine.hidden_size * parameter.itemsize, 0)
    return Footprint(
        kept=kept,
        a_row=(4 if isinstance(project, NoProjection) else 12) * project.dim,
        saved=inputs if engine.recompute else everything,
        working=a_block.times(1.5 if engine.recompute else 0.5),
        a_gradient=max(layer.size for layer in engine.layers) * (parameter.itemsize + in_float32),
        logits=logits,
    )


def _measure_saved(engine: GradientEngine) -> SavedBytes:
    """Measure what the forward pass of one sequence leaves for the backward pass, where nothing is recomputed."""
    own = {parameter.untyped_storage().data_ptr() for parameter in engine.model.parameters()}
    keeps_all = GradientEngine(engine.model)

    def trial(n_tokens: int) -> int:
        held: dict[int, int] = {}

        def note(tensor: Tensor) -> Tensor:
            storage = tensor.untyped_storage()
            if storage.data_ptr() not in own:
                held[storage.data_ptr()] = storage.nbytes()
            return tensor

        ids = [1] * n_tokens
        batch = collate([Rendered(ids, ids, n_tokens)], pad_id=0)
        with saved_tensors_hooks(note, lambda tensor: tensor):
            keeps_all.features(batch, torch.ones(1), Discarding())
        return sum(held.values())

    longest = min(_TRIAL, engine.n_positions or _TRIAL)
    lengths = (longest // 4, longest // 2, longest)
    a_pair, a_token, _ = np.polyfit(lengths, [trial(n) for n in lengths], 2).round(6).tolist()
    return SavedBytes(a_token, a_pair)
