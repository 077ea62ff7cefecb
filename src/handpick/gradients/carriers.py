"""Which of an adapter's layers carry the gradient: those of some of the decoder's blocks alone, where that is asked.

The others are frozen, and take part in the forward pass as they are. So what is below the first block that carries
needs no gradient at all, and the backward pass ends there. A row is then the coordinates of the whole row that belong
to these layers (tests/gradients/test_carriers.py). Ours.
"""

from torch import nn

from handpick.errors import ModelError, SettingsError
from handpick.gradients.forward import causal_of, decoder_of
from handpick.gradients.layers import trainable_layers
from handpick.gradients.recompute import blocks_of
from handpick.layer_numbers import ALL, layers_among


def carry_by(model: nn.Module, layers: str) -> None:
    """Freeze a model's adapter but for some of its layers; a layer is a block of the decoder, from 0.

    An adapter's module that stands in several blocks carries its gradient where one of them is meant, all of it.

    Args:
        model: with an adapter, what of it may have a gradient trainable and nothing else.
        layers: as ``layers_among``.

    Raises:
        SettingsError: the model has no such layer, or none that is meant has an adapter.
        ModelError: the model's layers cannot be told, or as ``trainable_layers``.
    """
    if layers == ALL:
        return
    adapted = trainable_layers(model)
    decoder = decoder_of(causal_of(model))
    blocks = [] if decoder is None else blocks_of(decoder, adapted)
    if not blocks:
        raise ModelError(
            f"{type(causal_of(model)).__name__} has no list of blocks that holds the whole adapter, so its layers have "
            "no numbers: leave --layers out"
        )
    meant = {id(module) for number in layers_among(layers, len(blocks)) for module in blocks[number].modules()}
    carrying = [layer for layer in adapted if id(layer.module) in meant]
    if not carrying:
        having = [n for n, block in enumerate(blocks) if {layer.module for layer in adapted} & set(block.modules())]
        raise SettingsError(
            f"--layers {layers} leaves no weight of the adapter to take gradients at: it stands on the layers "
            f"{', '.join(map(str, having))}"
        )
    for layer in adapted:
        layer.module.weight.requires_grad = id(layer.module) in meant
