"""How many tokens a model's tables of positions have rows for."""

from typing import Any

from torch import nn


def position_tables(model: nn.Module) -> list[int]:
    """Return the tokens that each table of learnt positions in a model's text part can tell apart; none without one.

    Of a table (an embedding) the rows before the first token's are no positions: OPT and BART keep two, RoBERTa and its
    kin all up to the padding's. What a vision or audio tower numbers are patches and frames.
    """
    towers = _towers(model)
    found = []
    for place, module in model.named_modules():
        if not isinstance(module, nn.Embedding) or not ("position" in place or place.endswith("wpe")):
            continue
        if module in towers or not _is_text(model, place):
            continue
        before = getattr(module, "offset", 0)
        if type(module) is nn.Embedding and module.padding_idx is not None:
            before = module.padding_idx + 1
        found.append(module.num_embeddings - before)
    return found


def _towers(model: Any) -> set[nn.Module]:
    """Return the modules of the parts that transformers knows to see or hear."""
    parts = [model.get_encoder(modality=sense) for sense in ("image", "video", "audio")]
    whole = {model, model.base_model}
    return {module for part in parts if part is not None and part not in whole for module in part.modules()}


def _is_text(model: Any, place: str) -> bool:
    """Return whether the innermost transformers model that a module stands in has the text's configuration."""
    from transformers import PreTrainedModel

    kinds = {type(model.config), type(model.config.get_text_config())}
    while place:
        place = place.rpartition(".")[0]
        owner = model.get_submodule(place)
        if isinstance(owner, PreTrainedModel):
            return type(owner.config) in kinds
    return True
