"""Loading a base model and its tokenizer: what is there, what it is (its fingerprint), and in which precision.

A name is a folder, a name on the Hub, or one of ``handpick.model.in_memory``. Nothing here runs code that comes with a
model, and nothing is unpickled.
"""

import gc
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from copy import deepcopy
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import nn

from handpick.allocator import give_back_freed_memory
from handpick.choices import Dtype, Quantization
from handpick.data.hub import hub_answers, hub_or_cache
from handpick.data.render import Renderer
from handpick.data.version import RECORD_VERSION
from handpick.errors import HandpickError, ModelError, first_line
from handpick.fingerprint import RECORD_RULE, Fingerprint, digest, file_digest
from handpick.listing import matching
from handpick.model.check import check_reading
from handpick.model.in_memory import config_digest, held_model
from handpick.model.kind import text_class
from handpick.model.mixing import describe, forget_lengths, mixing_of
from handpick.model.positions import position_tables
from handpick.model.tried import identify
from handpick.progress import log, log_once

# transformers' names
MODEL_CONFIG = "config.json"
TOKENIZER_FILE = "tokenizer.json"
_TOKENIZER_FILES = (TOKENIZER_FILE, "tokenizer_config.json")
_FOREIGN_TOKENIZERS = {  # files that a folder may have in place of a tokenizer.json, and whose they are
    "tekken.json": "mistral-common",
    "tokenizer.model": "SentencePiece or tiktoken",
    "spiece.model": "SentencePiece",
    "tiktoken.model": "tiktoken",
}


def device() -> torch.device:
    """Return where models run: the first CUDA device, else the CPU; that Apple's GPU is passed over is said once."""
    if torch.cuda.is_available():
        return torch.device("cuda")
    if torch.backends.mps.is_available():
        _say_that_mps_is_not_used()
    return torch.device("cpu")


@cache
def _say_that_mps_is_not_used() -> None:
    log("this machine's GPU is Apple's (MPS), which handpick does not use: all is computed on the CPU")


def compute_dtype(dtype: Dtype) -> torch.dtype:
    """Return the type to compute in: ``auto`` is bfloat16 where the device has instructions for it, else float32."""
    if dtype != "auto":
        return {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}[dtype]
    return torch.bfloat16 if has_bfloat16() else torch.float32


def has_bfloat16() -> bool:
    """Return whether the device multiplies bfloat16 with instructions of its own, and does not only imitate it."""
    if device().type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    cpu = torch.cpu.get_capabilities()
    return bool(cpu.get("amx_bf16") or cpu.get("avx512_bf16"))


def _explain(name: str, error: Exception, what: str = "model") -> ModelError:
    where = Path(name)
    if where.is_dir() and not (where / MODEL_CONFIG).exists():
        return ModelError(f"{name} is no model folder: it has no {MODEL_CONFIG}")
    if where.is_file():
        return ModelError(f"{name} is a file; --model takes a model folder or the name of a model on the Hub")
    if not where.exists() and (name.startswith((".", "/", "~")) or name.count("/") > 1):
        return ModelError(f"there is no model folder {name}")
    if not where.exists() and not hub_answers():
        return ModelError(
            f"there is no folder {name}, and no model of that name in the local cache; the Hub cannot be reached"
        )
    return ModelError(f"the {what} {name} cannot be loaded: {_reason(error)}")


def _reason(error: Exception) -> str:
    """Return what an error says; safetensors says of every file that cannot be opened that it is not there."""
    said = first_line(error)
    file = said.removeprefix("No such file or directory: ")
    return f"{file} cannot be opened" if file != said and Path(file).exists() else said


@contextmanager
def _loading(name: str, what: str = "model") -> Iterator[None]:
    """Turn whatever goes wrong inside into a ModelError that says what ``name`` is."""
    try:
        with hub_or_cache() if not Path(name).exists() else nullcontext():
            yield
    except HandpickError:
        raise
    except Exception as error:  # of any kind: reading a foreign model is transformers' own affair
        raise _explain(name, error, what) from error


def load_tokenizer(name: str) -> Any:
    """Load the tokenizer of a model folder or a Hub name; of a model in memory, a copy.

    Raises:
        ModelError: there is none, it needs code of its own, or none but another library can read it.
    """
    from transformers import AutoTokenizer

    if (held := held_model(name)) is not None:
        return deepcopy(held.tokenizer)
    foreign = _foreign_tokenizer(Path(name))
    if Path(name).is_dir() and foreign is None and not any((Path(name) / f).exists() for f in _TOKENIZER_FILES):
        raise _explain(name, ModelError("the folder has no tokenizer"))
    try:
        with _loading(name, "tokenizer of"):
            tokenizer = AutoTokenizer.from_pretrained(name, trust_remote_code=False)
    except Exception as error:  # the tokenizers of Rust raise what has no kind
        if foreign is not None and (Path(name) / MODEL_CONFIG).exists():
            raise _no_fast_tokenizer(name, foreign) from error
        if isinstance(error, ModelError):
            raise
        raise _explain(name, error, "tokenizer of") from error
    if not hasattr(tokenizer, "is_fast"):  # another library's, which transformers hands over where it is installed
        raise _no_fast_tokenizer(name, foreign or type(tokenizer).__name__)
    return tokenizer


def _foreign_tokenizer(folder: Path) -> str | None:
    """Return the file of a folder's tokenizer where it has no tokenizer.json, and whose it is; None where it has."""
    if (folder / TOKENIZER_FILE).exists():
        return None
    return next((f"{file} ({whose})" for file, whose in _FOREIGN_TOKENIZERS.items() if (folder / file).exists()), None)


def _no_fast_tokenizer(name: str, tokenizer: str) -> ModelError:
    return ModelError(
        f"the tokenizer of {name} is {tokenizer}, which says of no token where it stands in the text: put the model's "
        f"fast tokenizer ({TOKENIZER_FILE}) into the folder, as its copies for transformers have it"
    )


def load_renderer(name: str, template_args: Mapping[str, Any] | None = None) -> Renderer:
    """Return what turns conversations into the tokens of a model; says which of them the model has no embedding for.

    Args:
        name: a model folder, a Hub name, or one of a model in memory.
        template_args: arguments to the chat template.

    Raises:
        ModelError: as ``load_tokenizer`` and ``load_config``, or the tokenizer cannot be used.
    """
    tokenizer = load_tokenizer(name)
    n_embeddings: int | None = getattr(load_config(name).get_text_config(), "vocab_size", None)
    added = tokenizer.get_added_vocab()
    beyond = [token for token, id in added.items() if n_embeddings is not None and id >= n_embeddings]
    if beyond:
        log(
            f"{len(beyond)} of the tokenizer's tokens, among them {beyond[0]!r}, are beyond the {n_embeddings:,} rows "
            f"of the embedding of {name}: records that hold one are set aside; resize the embedding if they were learnt"
        )
    return Renderer(tokenizer, template_args, n_embeddings)


def padding_id(tokenizer: Any) -> int:
    """Return a token to fill batches up with; it is masked everywhere, so any will do where the tokenizer has none."""
    return next((i for i in (tokenizer.pad_token_id, tokenizer.eos_token_id) if i is not None), 0)


def load_config(name: str) -> Any:
    """Load the configuration of a model folder or a Hub name; of a model in memory, a copy.

    Raises:
        ModelError: there is none, or it needs code of its own.
    """
    from transformers import AutoConfig

    if (held := held_model(name)) is not None:
        return deepcopy(held.module.config)
    with _loading(name):
        return AutoConfig.from_pretrained(name, trust_remote_code=False)


def load_base(name: str, dtype: torch.dtype, quantization: Quantization = "none") -> nn.Module:
    """Load a model as ``load_unread``, and read a few tokens with it, to refuse one that cannot be used.

    Raises:
        ModelError: as ``load_unread``, or it does not read each sequence of a batch by itself.
    """
    model = load_unread(name, dtype, quantization)
    check_loaded(model, name, "" if held_model(name) is not None else quantization)
    return model


def load_unread(name: str, dtype: torch.dtype, quantization: Quantization = "none") -> nn.Module:
    """Load the causal language model of a folder or a Hub name, frozen, on ``device()``; a multimodal one whole.

    Of a model in memory it is a copy, so that its weights are there twice: the user's own is never touched.

    Args:
        name: the folder or the name.
        dtype: what it computes in.
        quantization: what the weights of its linear layers are stored in; the head's are left alone.

    Raises:
        ModelError: there is none, it needs code of its own, its weights are not safetensors or not all there, or
            it is to be quantized and bitsandbytes is not installed or the model is one in memory.
    """
    if (held := held_model(name)) is not None:
        if quantization != "none":
            raise ModelError(
                f"a model that was handed over in Python is not quantized: leave --quantization {quantization} out, or "
                "save the model and name its folder"
            )
        copy = held.copy_module(dtype).to(device())
        forget_lengths(copy)
        return copy
    quantized = {} if quantization == "none" else _quantization_arguments(quantization, dtype)
    model = load_frozen(name, dtype, **quantized)
    model = model if quantized else model.to(device())
    identify(model, lambda: {"model": model_fingerprint(name), "dtype": str(dtype), "quantization": quantization})
    return model


def load_frozen(name: str, dtype: torch.dtype, **given: Any) -> nn.Module:
    """Load the causal language model of a folder or a Hub name, frozen, where transformers puts it: on the CPU.

    Args:
        name: the folder or the name.
        dtype: what it computes in.
        given: what else ``from_pretrained`` is told.

    Raises:
        ModelError: there is none, it needs code of its own, or its weights are not safetensors or not all there.
    """
    model = load_weights(text_class(name, load_config(name)), name, dtype, **given)
    model.requires_grad_(False)
    for module in model.modules():
        # A CPU with AVX512-BF16 has a kernel without a backward pass: one look at a loss repacks the weights for it,
        # and gradients are others from then on, without a word (bitsandbytes 0.50.2).
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False  # type: ignore[assignment]
    return model


def check_loaded(model: Any, name: str, how: str = "") -> None:
    """Refuse a model that does not read each sequence of a batch by itself; say where lengths do not mix."""
    check_reading(model, name, how)
    if limits := describe(mixing_of(model.config)):
        log_once(f"{name}: {limits}")


def load_weights(kind: Any, name: str, dtype: torch.dtype, what: str = "model", **given: Any) -> nn.Module:
    """Load a model of one of transformers' kinds, from safetensors alone, every weight of it there.

    Args:
        kind: the Auto class.
        name: a folder or a Hub name.
        dtype: of the weights.
        what: the word for it, for messages.
        given: what else ``from_pretrained`` is told.

    Raises:
        ModelError: there is none, it needs code of its own, or its weights are not safetensors or not all there.
    """
    with _loading(name, what):
        loaded: Any = kind.from_pretrained(
            name, dtype=dtype, trust_remote_code=False, use_safetensors=True, output_loading_info=True, **given
        )
    model: nn.Module
    model, report = loaded
    missing = sorted(report["missing_keys"])
    if missing:  # transformers would draw them at random
        raise ModelError(f"the weights of {name} lack {len(missing)} of the model's, among them {missing[0]}")
    forget_lengths(model)
    return model


def _quantization_arguments(quantization: Quantization, dtype: torch.dtype) -> dict[str, Any]:
    """Return what ``from_pretrained`` must be told to store the weights in few bits."""
    if find_spec("bitsandbytes") is None:
        raise ModelError(f"--quantization {quantization} needs bitsandbytes: pip install 'handpick[quantized]'")
    from transformers import BitsAndBytesConfig

    # said once per layer and batch
    logging.getLogger("bitsandbytes.autograd._functions").addFilter(_is_no_cast)
    if quantization == "4bit":
        config = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=dtype)
    else:
        # By default, features that are large in any example of a batch are multiplied apart from the others, in all
        # examples: a row would depend on its neighbours, by 2% in our test.
        config = BitsAndBytesConfig(load_in_8bit=True, llm_int8_threshold=0.0)
    return {"quantization_config": config, "device_map": {"": device()}}


def _is_no_cast(record: logging.LogRecord) -> bool:
    return "inputs will be cast from" not in record.getMessage()


def empty_model(name: str) -> nn.Module:
    """Return a model to look at: of one in memory, itself."""
    if (held := held_model(name)) is not None:
        own: nn.Module = held.module
        return own
    config = load_config(name)
    kind = text_class(name, config)
    with _loading(name), torch.device("meta"):
        model: nn.Module = kind.from_config(config)
    return model


def free_memory() -> None:
    """Give back what a model held."""
    gc.collect()
    give_back_freed_memory()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def parameter_count(name: str) -> int:
    """Count the parameters of a model, without loading its weights."""
    return sum(p.numel() for p in empty_model(name).parameters())


def position_limit(name: str) -> int | None:
    """Return the most tokens that a model with a table of positions (GPT-2, OPT) can read.

    None where its text part has no table.
    """
    return min(position_tables(empty_model(name)), default=None)


def model_fingerprint(name: str) -> Fingerprint:
    """Return what the base model is: the bytes of a folder's weights, or the commit of a Hub model; never its path.

    Of a model in memory the weights themselves count, so that the same model in a folder is taken for another.

    Raises:
        ModelError: there is no such model, its weights are not safetensors, or its commit is not known.
    """
    if (held := held_model(name)) is not None:
        return held.fingerprint
    folder = Path(name)
    if folder.is_dir():
        weights = list(matching(folder, "*.safetensors"))
        if not weights:
            raise ModelError(f"{name} holds no safetensors weights; convert the model's other formats first")
        config = config_digest(load_config(name).to_dict())
        return {"config": config, "weights": digest([_weights_digest(path, *_state(path)) for path in weights])}
    return {"hub": name, "commit": hub_commit(name)}


def _state(path: Path) -> tuple[int, int, int]:
    """Return what changes when a file does; nothing of one that is gone, which whoever reads it says."""
    try:
        found = path.stat()
    except OSError:
        return 0, 0, 0
    return found.st_ino, found.st_size, found.st_mtime_ns


@cache
def _weights_digest(path: Path, *state: int) -> str:
    """Return the digest of a file of weights, read once a process: several ask what a model is."""
    return file_digest(path)


def hub_commit(name: str) -> str:
    """Return the commit of a Hub model that this machine's cache holds, fetched where the Hub has a newer one.

    Raises:
        ModelError: there is no such model, or its files lie in no snapshot of a commit.
    """
    from transformers.utils import CONFIG_NAME
    from transformers.utils.hub import cached_file, extract_commit_hash

    with _loading(name):
        commit = extract_commit_hash(cached_file(name, CONFIG_NAME), None)
    if commit is None:
        raise ModelError(f"the commit of {name} is not known; download the model into a folder and name the folder")
    return str(commit)


def tokenizer_fingerprint(renderer: Renderer) -> Fingerprint:
    """Return what turns a conversation into tokens, and says which of them are learnt."""
    found: Fingerprint = {
        "tokenizer": digest(renderer.tokenizer.backend_tokenizer.to_str()),
        "template": digest(renderer.template_identity),
    }
    if renderer.template_args:
        found["template_args"] = dict(renderer.template_args)
    return found | template_rule(renderer)


def template_rule(renderer: Renderer) -> Fingerprint:
    """Return the rule by which a template is followed; nothing where plain conversations become what they did."""
    return {} if renderer.mask_as_before else {RECORD_RULE: RECORD_VERSION}
