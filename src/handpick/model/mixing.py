"""Which lengths a model may read together, where that is not any: what a short try cannot show, its configuration says.

LongRoPE has one set of factors for what fits into the length of the first training and one for what does not, and
takes it for a whole batch. Dynamic NTK takes its factors from the longest sequence of a batch, and keeps them for the
next. An indexer that lets a token attend to some others only (sparse attention) ranks them by scores, whose order near
a tie is the batch's.
"""

import re
from collections.abc import Iterator
from typing import Any

from torch import nn

from handpick.data.batching import Mixing

# what an indexer leaves of the tokens before one: so many, or so many blocks of so many
_INDEXERS = (("index_topk", None), ("indexer_budget", None), ("index_topk_blocks", "index_block_size"))


def mixing_of(config: Any) -> Mixing:
    """Return which lengths a model of a configuration may read in one batch."""
    text = config.get_text_config().to_dict()
    switch = alone = None
    for rope in _ropes(text.get("rope_parameters")):
        kind = str(rope.get("rope_type"))
        if kind == "longrope":
            own = rope.get("original_max_position_embeddings") or text.get("original_max_position_embeddings")
            switch = own or text.get("max_position_embeddings")
        elif "dynamic" in kind:
            alone = text.get("max_position_embeddings")
    indexed = [text[name] * text.get(size, 1) for name, size in _INDEXERS if isinstance(text.get(name), int)]
    return Mixing(switch, min([*indexed, *([] if alone is None else [alone])], default=None))


def _ropes(parameters: Any) -> Iterator[dict[str, Any]]:
    """Yield the settings of rotary embeddings: one, or one a kind of layer."""
    if isinstance(parameters, dict):
        if "rope_type" in parameters:
            yield parameters
        for each in parameters.values():
            yield from _ropes(each)


def describe(mixing: Mixing) -> str | None:
    """Say which lengths are not read together; None where any are."""
    said = []
    if mixing.switch is not None:
        said.append(
            f"sequences of at most {mixing.switch:,} tokens are not read together with longer ones, since its rotary "
            "embedding changes there (LongRoPE)"
        )
    if mixing.alone is not None:
        said.append(
            f"sequences of more than {mixing.alone:,} tokens are read one at a time, since what it makes of them hangs "
            "on the others of a batch (dynamic NTK, or an indexer of sparse attention)"
        )
    return "; ".join(said) or None


def forget_lengths(model: nn.Module) -> None:
    """Make every pass of a model with dynamic NTK begin with the factors that it was loaded with."""
    for module in model.modules():
        if "dynamic" in str(getattr(module, "rope_type", "")) and hasattr(module, "original_max_seq_len"):
            module.register_forward_pre_hook(_as_loaded)


def _as_loaded(module: nn.Module, args: Any) -> None:
    for name, first in list(module.named_buffers(recurse=False)):
        if found := re.fullmatch(r"(.*)original_inv_freq", name):
            setattr(module, f"{found[1]}inv_freq", first)
            setattr(module, f"{found[1]}max_seq_len_cached", module.original_max_seq_len)
