"""A record has the newest rule by which it is read as it is."""

import json
import pickle
from pathlib import Path
from typing import Any

import pytest

from handpick import bundled
from handpick.data.examples import Conversation, Message
from handpick.data.formats import Conversations, read_record
from handpick.data.pool import Pool
from handpick.data.quarantine import Quarantine
from handpick.data.read import BadRecord, RawRecord
from handpick.data.version import RECORD_VERSION, version_of
from handpick.errors import DataError
from tests.conftest import records

USER, ASSISTANT = {"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}
PREFERENCE = {"chosen": "\n\nHuman: Hi\n\nAssistant: Hello", "rejected": "\n\nHuman: Hi\n\nAssistant: No"}

AS_BEFORE: dict[str, dict[str, Any]] = {
    "messages": {"id": 7, "messages": [USER, ASSISTANT]},
    "parts": {"messages": [{"role": "user", "content": [{"type": "text", "text": "Hi"}]}, ASSISTANT]},
    "sharegpt": {"conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello"}]},
    "system field": {"system": "Be kind.", "messages": [USER, ASSISTANT]},
    "alpaca without input": {"instruction": "Hi", "input": "", "output": "Hello"},
    "dolly without context": {"instruction": "Hi", "context": "", "response": "Hello"},
    "history": {"instruction": "And?", "output": "So.", "history": [["Hi", "Hello"]]},
    "prompt and completion": {"prompt": [USER], "completion": [ASSISTANT]},
    "end of text": {"prompt": "Hi", "response": "Hello<|endoftext|>"},
    "prompt": {"prompt": "Hi"},
    "preference": {"prompt": "Hi", "chosen": "Hello", "rejected": [ASSISTANT]},
    "preference without a prompt": PREFERENCE,
}
SET_ASIDE_BEFORE: list[Any] = [
    "{",
    "[1]",
    {"messages": []},
    {"id": 1.5, "messages": [USER, ASSISTANT]},
    {"prompt": "Hi", "completion": None},
    {"messages": [{"role": "narrator", "content": "Hi"}]},
]
TURNS = (Message("user", "Hi"), Message("assistant", "Hello"))
PLAIN = {"id": "a", "messages": [USER, ASSISTANT]}
# what a reader makes of the plain record that the first did not
OTHERWISE: dict[str, Conversations | None] = {
    "a field": Conversations(Conversation([Message("user", "Hi", extra='{"name":"Ann"}'), TURNS[1]])),
    "another text": Conversations(Conversation([Message("user", "Hi "), TURNS[1]])),
    "another role": Conversations(Conversation([Message("developer", "Hi"), TURNS[1]])),
    "a turn more": Conversations(Conversation([Message("system", "Be kind."), *TURNS])),
    "not to be learnt": Conversations(Conversation([TURNS[0], Message("assistant", "Hello", loss=False)])),
    "a part not to be learnt": Conversations(
        Conversation([TURNS[0], Message("assistant", "Hello", no_loss=((0, 2),))])
    ),
    "tools": Conversations(Conversation(TURNS, tools="[]")),
    "arguments": Conversations(Conversation(TURNS, template_args="{}")),
    "a label": Conversations(Conversation(TURNS), wanted=True),
    "a pair": Conversations(Conversation(TURNS), Conversation(TURNS)),
    "set aside": None,
}


def open_pool(folder: Path, records: list[Any]) -> Pool:
    path = folder / "pool.jsonl"
    path.write_text("".join(f"{each if isinstance(each, str) else json.dumps(each)}\n" for each in records))
    return Pool.open(path, cache=folder / "cache", quarantine=Quarantine(folder / "bad.jsonl"))


@pytest.mark.parametrize("name", AS_BEFORE)
def test_read_as_by_the_first_rule(name: str, tmp_path: Path) -> None:
    pool = open_pool(tmp_path, [AS_BEFORE[name]])
    assert [pool.record_rule(0), pool[0].record_rule, pool.files[0].record_rule] == [1, 1, 1]


@pytest.mark.parametrize("name", OTHERWISE)
def test_read_otherwise(name: str) -> None:
    record = RawRecord(1, b"", PLAIN)
    assert version_of(record, OTHERWISE[name], "a") == RECORD_VERSION
    assert version_of(record, Conversations(Conversation(TURNS)), "a") == 1


def test_another_id_and_another_container_are_another_reading() -> None:
    record, said = RawRecord(1, b"", PLAIN), Conversations(Conversation(TURNS))
    assert version_of(record, said, None) == RECORD_VERSION
    assert version_of(record._replace(as_before=False), said, "a") == RECORD_VERSION
    assert version_of(BadRecord(1, b"", "damaged", as_before=False), None, None) == RECORD_VERSION


def test_an_instruction_and_its_input_were_joined_by_a_blank_line(tmp_path: Path) -> None:
    joined = {"instruction": "Sum up.", "input": "It rained.", "output": "Rain."}
    pool = open_pool(tmp_path, [AS_BEFORE["messages"], joined])
    assert [pool.record_rule(0), pool.record_rule(1)] == [1, RECORD_VERSION]
    assert pool.files[0].record_rule == RECORD_VERSION


def test_what_either_rule_sets_aside_changes_nothing(tmp_path: Path) -> None:
    pool = open_pool(tmp_path, [*SET_ASIDE_BEFORE, AS_BEFORE["messages"]])
    assert (len(pool), pool.files[0].record_rule) == (1, 1)


def test_what_only_the_new_rule_sets_aside_makes_the_file_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(record: Any, reading: Any) -> tuple[str, Conversations]:
        if "image" in record:
            raise DataError("an image")
        return read_record(record, reading)

    monkeypatch.setattr("handpick.data.cache.read_record", refuse)
    pool = open_pool(tmp_path, [PLAIN, PLAIN | {"id": "b", "image": "cat.png"}])
    assert (len(pool), pool.record_rule(0), pool.files[0].record_rule) == (1, 1, RECORD_VERSION)
    assert pickle.loads(pickle.dumps(pool)).files == pool.files


def test_the_demo_pool_is_read_as_before_but_for_what_is_joined(tmp_path: Path) -> None:
    """Real records, against what their fields say."""
    found = [record for path in bundled.pool_paths() for record in records(path, 300)]
    pool = open_pool(tmp_path, found)
    joined = [bool(record.get("input") or record.get("context")) for record in found]
    assert [pool.record_rule(row) > 1 for row in range(len(pool))] == joined
