"""Which of transformers' classes reads text with a model: one place decides, for loading and for looking.

A causal language model is loaded as one. A multimodal checkpoint that has no causal class of its own is loaded whole,
and given text alone: its towers are frozen, and nothing runs them.
"""

from typing import Any

from handpick.errors import ModelError


def text_class(name: str, config: Any) -> Any:
    """Return the Auto class that loads a model as one that continues text.

    Args:
        name: of the model, for messages.
        config: its configuration.

    Raises:
        ModelError: it is an encoder–decoder, or no language model that transformers knows.
    """
    from transformers import AutoModelForCausalLM, AutoModelForImageTextToText, AutoModelForMultimodalLM

    own = (getattr(config, "architectures", None) or [type(config).__name__])[0]
    if getattr(config, "is_encoder_decoder", False):
        raise ModelError(
            f"{name} is an encoder–decoder ({own}): its answer is written by a decoder that looks at an encoded "
            "prompt, and gradients, losses and answers here are those of causal (decoder-only) language models; name "
            "one of these"
        )
    for kind in (AutoModelForCausalLM, AutoModelForImageTextToText, AutoModelForMultimodalLM):
        if type(config) in kind._model_mapping:
            return kind
    raise ModelError(
        f"{name} ({own}) is no language model that transformers loads to continue text: name a causal language model, "
        "or a multimodal one that answers in text"
    )
