"""Which layers of a model carry the gradient, and which cannot.

A coordinate of the gradient is one entry of one trainable weight. Weights stand in the order of their
canonical names, row-major, so that a coordinate has the same number in every process.

Legend: O outputs, I inputs of a layer.
"""

import re
from dataclasses import dataclass

from torch import nn

from handpick.errors import ModelError


@dataclass(frozen=True, slots=True)
class Layer:
    """One trainable linear layer; its weight (O, I) holds coordinates ``offset`` to ``offset + size``."""

    name: str
    module: nn.Linear
    offset: int

    @property
    def size(self) -> int:
        return self.module.weight.numel()


def canonical_name(parameter_name: str) -> str:
    """Return a parameter's name as adapter files have it: ``…lora_A.default.weight`` is ``…lora_A.weight``."""
    return re.sub(r"\.(lora_[AB])\.[^.]+\.weight$", r".\1.weight", parameter_name)


def trainable_layers(model: nn.Module) -> list[Layer]:
    """Return the trainable layers of a model, in coordinate order.

    Raises:
        ModelError: nothing is trainable, or something trainable is no plain linear layer of its own, so that
            its per-example gradient would be wrong; the message names it and says why.
    """
    modules = dict(model.named_modules(remove_duplicate=False))
    found: dict[str, nn.Linear] = {}
    owner: dict[int, tuple[str, nn.Module]] = {}
    for full_name, parameter in model.named_parameters(remove_duplicate=False):
        if not parameter.requires_grad:
            continue
        module_name, _, attribute = full_name.rpartition(".")
        module = modules[module_name]
        first_name, first_module = owner.get(id(parameter), (full_name, module))
        if first_name != full_name and first_module is module:
            continue  # one layer in several places: its gradient is the sum over its runs, under the first name
        reason = _unsupported(modules, module_name, attribute)
        if reason is None and first_name != full_name:
            reason = f"its weight is shared with {first_name}"
        if reason is None and canonical_name(full_name) in found:
            reason = "a second adapter stands on the same layer, and which of the two is meant is not known"
        if reason is not None:
            raise ModelError(f"no exact per-example gradient for {full_name}: {reason}; leave it out of the adapter")
        assert isinstance(module, nn.Linear)  # _unsupported refuses everything else
        owner[id(parameter)] = full_name, module
        found[canonical_name(full_name)] = module
    if not found:
        raise ModelError("the model has no trainable LoRA layer; is the adapter loaded, and loaded as trainable?")
    layers, offset = [], 0
    for name in sorted(found):
        layers.append(Layer(name, found[name], offset))
        offset += layers[-1].size
    return layers


def _unsupported(modules: dict[str, nn.Module], module_name: str, attribute: str) -> str | None:
    """Return why a trainable parameter is refused, or None where it is supported."""
    module = modules[module_name]
    # ….q_proj.lora_A.default belongs to the adapted layer ….q_proj
    adapted_name = re.sub(r"\.lora_[A-Za-z_]+(\.[^.]+)?$", "", module_name)
    adapted = modules.get(adapted_name)
    variants = getattr(adapted, "lora_variant", None)
    if variants:
        names = ", ".join(sorted({type(variant).__name__ for variant in variants.values()}))
        return f"it is a LoRA variant ({names}, such as DoRA), whose gradient is not that of its A and B alone"
    if "lora_embedding" in module_name or attribute.startswith("lora_embedding"):
        return "LoRA on an embedding is not supported"
    if type(module) is not nn.Linear:
        return f"it belongs to a {type(module).__name__}, not to a linear layer of a LoRA adapter"
    if attribute != "weight":
        return f"a trainable {attribute} is not supported"
    return None
