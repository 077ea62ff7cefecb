"""A selection for another trainer, as tokens with labels: the very template and loss mask that chose them.

The records as messages stand beside, for people and for other settings of those tools, whose masks are their own.
"""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, get_args

from handpick.data.examples import Conversation, Example
from handpick.data.render import Rendered, Renderer
from handpick.errors import StoreError
from handpick.finetuning.export_axolotl import write_axolotl
from handpick.finetuning.export_config import ExportRequest, write_text
from handpick.finetuning.export_llama_factory import write_llama_factory, write_sharegpt
from handpick.finetuning.export_ms_swift import write_ms_swift
from handpick.finetuning.export_trl import write_trl
from handpick.finetuning.turn_marks import marks_of
from handpick.layout import ExportLayout
from handpick.training.settings import FinetuneSettings

Tool = Literal["axolotl", "llama-factory", "ms-swift", "trl"]
TOOLS: tuple[Tool, ...] = get_args(Tool)
_WRITERS: dict[Tool, Callable[[ExportRequest], Path]] = {
    "axolotl": write_axolotl,
    "llama-factory": write_llama_factory,
    "ms-swift": write_ms_swift,
    "trl": write_trl,
}


def write_export(
    to: Tool,
    out: Path,
    examples: Sequence[Example],
    sequences: Sequence[Rendered],
    renderer: Renderer,
    settings: FinetuneSettings,
    model: str,
) -> Path:
    """Write the examples and a config that trains on them.

    Args:
        to: the tool.
        out: the folder.
        examples: the records, in order.
        sequences: the same, rendered.
        renderer: that rendered them.
        settings: the recipe.
        model: the base model's folder or Hub name.

    Returns:
        The config file, which names everything else.

    Raises:
        SettingsError: the tool cannot do what the recipe asks for.
        StoreError: the folder cannot be written.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
        records = (_as_messages(e.messages) for e in examples)
        layout = ExportLayout(out.resolve())
        write_text(layout.messages, "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records))
        write_text(layout.template, renderer.template)
        if to == "llama-factory":
            write_sharegpt(layout, examples)
        return _WRITERS[to](ExportRequest(layout, sequences, renderer, settings, model))
    except OSError as error:
        raise StoreError(f"cannot write {out}: {error.strerror or error}; make room or choose another place") from error


def _as_messages(conversation: Conversation) -> dict[str, Any]:
    """Return a conversation in TRL's and axolotl's form, with what a template and a mask read besides the turns."""
    turns = [turn.to_json() | marks_of(turn) for turn in conversation]
    beside = {"tools": conversation.tools, "chat_template_kwargs": conversation.template_args}
    return {"messages": turns, **{name: json.loads(value) for name, value in beside.items() if value}}
