"""The text that asks for a verdict: one that ships, or a file of the user's."""

import hashlib
import re
from collections.abc import Collection, Mapping
from importlib import resources
from pathlib import Path

from handpick.errors import SettingsError
from handpick.judge.answers import Prompt

REFERENCE = "reference"  # the one placeholder that a template may leave out
_LABELS = {
    "prompt": "prompt",
    "answer": "answer",
    "answer_a": "answer A",
    "answer_b": "answer B",
    REFERENCE: "reference answer",
}


class Template:
    """A text with placeholders such as ``{answer}``. All other braces stand for themselves.

    Args:
        text: the template.
        needs: the placeholders that must be in it; ``{reference}`` may be too.
        where: what the text came from, for messages.

    Raises:
        SettingsError: a placeholder is missing.
    """

    def __init__(self, text: str, needs: Collection[str], where: str) -> None:
        self._text = text
        self._names = re.compile("{(" + "|".join([*needs, REFERENCE]) + ")}")
        self.where = where
        found = set(self._names.findall(text))
        if missing := [f"{{{name}}}" for name in needs if name not in found]:
            raise SettingsError(
                f"the judge's prompt {where} lacks {' and '.join(missing)}; write it where that is to stand"
            )
        self.wants_reference = REFERENCE in found

    @classmethod
    def load(cls, path: str | None, shipped: str, needs: Collection[str]) -> "Template":
        """Load the user's file, or the template of that name that ships.

        Raises:
            SettingsError: the file cannot be read, or lacks a placeholder.
        """
        if path is None:
            text = resources.files("handpick.judge").joinpath("prompts", f"{shipped}.txt").read_text(encoding="utf-8")
            return cls(text, needs, f"{shipped}.txt")
        try:
            return cls(Path(path).read_text(encoding="utf-8"), needs, path)
        except OSError as error:
            raise SettingsError(f"the judge's prompt {path} cannot be read: {error.strerror}") from error
        except UnicodeDecodeError as error:
            raise SettingsError(f"the judge's prompt {path} is no UTF-8 text; save it as UTF-8") from error

    def fill(self, texts: Mapping[str, str], values: Mapping[str, str] | None = None) -> str:
        """Return the template with its placeholders replaced, each once, so that braces in what is put in stay.

        Args:
            texts: what is judged; each stands between two lines with a mark that it cannot hold, so that it cannot
                pretend to end where it does not.
            values: what is put in as it is.
        """
        mark = hashlib.sha256("\0".join(texts.values()).encode("utf-8", "surrogatepass")).hexdigest()[:8]
        fenced = {
            name: f"[begin {_LABELS[name]} {mark}]\n{text}\n[end {_LABELS[name]} {mark}]"
            for name, text in texts.items()
        }
        put_in = fenced | dict(values or {})
        return self._names.sub(lambda found: put_in[found[1]], self._text)


def as_text(prompt: Prompt) -> str:
    """Return a prompt as one text: of a single turn its content, of several each with its role above it."""
    if isinstance(prompt, str):
        return prompt
    if len(prompt) == 1:
        return prompt[0]["content"]
    return "\n\n".join(f"{turn['role']}:\n{turn['content']}" for turn in prompt)
