"""Pools of every kind of record, whatever formats there are: a record says its turns as handpick keeps them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from handpick.data import cache
from handpick.data.examples import Conversation, Message
from handpick.data.formats import Conversations, read_record
from handpick.data.pool import Pool
from handpick.data.quarantine import Quarantine
from handpick.data.reading import Reading
from tests.conftest import write_jsonl


def turn(role: str, content: str, extra: str = "", loss: bool = True, no_loss: tuple[Any, ...] = ()) -> dict[str, Any]:
    return {"role": role, "content": content, "extra": extra, "loss": loss, "no_loss": no_loss}


ASKED = [turn("user", "two and two?"), turn("assistant", "four")]
CALL = turn("assistant", "", '{"tool_calls":[{"function":{"name":"add"}}]}')
ANSWER = {"role": "assistant", "content": "x"}
RESULT = turn("tool", "4", '{"name":"add"}')
KINDS: list[dict[str, Any]] = [
    {"id": "plain", "turns": ASKED, "source": "a"},
    {"id": "again", "turns": ASKED, "source": "b", "licence": "none"},
    {"turns": ASKED},
    {"id": "told", "turns": [turn("system", "Be brief."), *ASKED], "source": "a", "licence": None},
    {"id": "told-by-developer", "turns": [turn("developer", "Be brief."), *ASKED], "source": "a"},
    {"id": "call", "turns": [ASKED[0], CALL, RESULT, ASKED[1]], "tools": '[{"name":"add"}]'},
    {"id": "args", "turns": ASKED, "template_args": '{"enable_thinking":false}', "kwargs": {"t": True, "no": None}},
    {"id": "thought", "turns": [ASKED[0], turn("assistant", "four", '{"reasoning_content":"hm"}')], "source": ""},
    {"id": "masked", "turns": [*ASKED, turn("user", "ünd?"), turn("assistant", "fünf", loss=False), *ASKED]},
    {"id": "partly", "turns": [ASKED[0], turn("assistant", "four", no_loss=((0, 2),))]},
    {"id": "pair", "turns": ASKED, "rejected": [ASKED[0], turn("assistant", "five")], "source": "a"},
    {"id": "other-pair", "turns": ASKED, "rejected": [ASKED[0], turn("assistant", "six")], "source": "a"},
    {"id": "rejected-thought", "turns": ASKED, "rejected": [ASKED[0], turn("assistant", "6", '{"thinking":"oh"}')]},
    {"id": "bad", "turns": ASKED, "wanted": False},
    {"id": "good", "turns": ASKED, "wanted": True},
    {"id": "split", "turns": [turn("user", "two and two?f"), turn("assistant", "our")]},
    {"id": "empty", "turns": [turn("user", ""), turn("assistant", "")]},
    {"id": "prompt", "turns": [ASKED[0]]},
]  # fmt: skip


def _conversation(turns: list[dict[str, Any]], record: Mapping[str, Any]) -> Conversation:
    messages = (Message(**{**each, "no_loss": tuple(map(tuple, each["no_loss"]))}) for each in turns)
    return Conversation(messages, record.get("tools") or "", record.get("template_args") or "")


def _read(record: Mapping[str, Any], reading: Reading) -> tuple[str, Conversations]:
    if "turns" not in record:
        return read_record(record, reading)
    rejected = record.get("rejected")
    said = Conversations(
        _conversation(record["turns"], record),
        None if rejected is None else _conversation(rejected, record),
        record.get("wanted"),
    )
    return "as it is", said


@pytest.fixture
def every_kind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Two files of records of every kind, bad ones and repeated ids among them; batches are small."""
    monkeypatch.setattr(cache, "read_record", _read)
    monkeypatch.setattr(cache, "BATCH_ROWS", 5)
    first = write_jsonl(tmp_path / "first.jsonl", [*KINDS, {"nothing": 1}, {"id": "plain", "turns": ASKED}])
    plain = [
        {
            "id": f"more-{n}",
            "messages": [{"role": "user", "content": str(n % 4)}, {"role": "assistant", "content": "x"}],
        }
        for n in range(23)
    ]
    unknown = {"messages": [{"role": "judge", "content": "x"}]}
    second = write_jsonl(tmp_path / "second.jsonl", [*plain, unknown, {"id": "call", "turns": ASKED}])
    return [first, second]


def open_pool(sources: list[Path], folder: Path) -> Pool:
    """With the answers that are labelled as unwanted, which a run sets aside."""
    quarantine = Quarantine(folder / "quarantine.jsonl")
    return Pool.open(list(sources), cache=folder / "parsed", quarantine=quarantine, unwanted="keep")
