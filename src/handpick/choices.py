"""The words that settings take, and how a name is looked up in a table of them."""

from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from typing import Literal, NamedTuple, TypeVar

from handpick.errors import SettingsError

Advantage = Literal["raw", "centered", "rloo", "group_norm"]
Dtype = Literal["auto", "float32", "bfloat16", "float16"]
EpsMode = Literal["less", "adam"]
ObjectiveName = Literal["next-token", "preference", "reward"]
Optimizer = Literal["adam", "sgd"]
PreferenceLoss = Literal["dpo", "ipo", "simpo"]
ProjectionKind = Literal["sparse", "rademacher", "none"]
Quantization = Literal["none", "8bit", "4bit"]
Sampler = Literal["transformers", "vllm"]
Split = Literal["equal", "weight", "shared"]
Variant = Literal["rejection", "hard_rejection", "topk", "worst_case_protect", "guidance"]


class Entry(NamedTuple):
    """What a thing is, in one line, and whose."""

    summary: str
    source: str


Line = TypeVar("Line")


def look_up(table: Mapping[str, Line], name: str, what: str) -> Line:
    """Return the table's entry of that name.

    Raises:
        SettingsError: there is none; the message says what was looked for, and which there are.
    """
    if name not in table:
        raise SettingsError(f"no {what} {name!r}{suggest(table, name)}; choose one of {', '.join(table)}")
    return table[name]


def suggest(names: Iterable[str], name: str) -> str:
    """Return ``" (did you mean 'bm25'?)"`` for a mistyped name, and nothing where none is near."""
    close = get_close_matches(name, list(names), n=1)
    return f" (did you mean {close[0]!r}?)" if close else ""
