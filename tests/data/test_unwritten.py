"""What records carry and a template does not write: counted as a loop over all records would, but of few asked."""

import json
from collections import Counter
from pathlib import Path

import pytest

from handpick.data.examples import Conversation, Example
from handpick.data.unwritten import (
    Unwritten,
    count_unwritten,
    count_unwritten_of,
    read_unwritten,
    report_unwritten,
    sentences,
)
from handpick.errors import DataError, StoreError
from tests.overview.pools import every_kind, open_pool

__all__ = ["every_kind"]


class Template:
    """Writes roles and texts alone, and no system turn; counts what it is asked."""

    def __init__(self, refuses: str = "") -> None:
        self.asked: list[Conversation] = []
        self.refuses = refuses

    def unwritten(self, conversation: Conversation) -> tuple[str, ...]:
        self.asked.append(conversation)
        if any(m.role == self.refuses for m in conversation):
            raise DataError("refused by the chat template")
        names = {name for message in conversation for name in message.fields}
        names |= {"system" for message in conversation if message.role == "system"}
        names |= {"tools"} if conversation.tools else set()
        return tuple(sorted(names | ({"enable_thinking"} if conversation.template_args else set())))


def by_loop(examples: list[Example], template: Template) -> dict[str, Unwritten]:
    names = [
        {name for side in (e.messages, e.rejected) if side is not None for name in template.unwritten(side)}
        for e in examples
    ]
    counts = Counter(name for each in names for name in each)
    first = {name: next(e.id for e, own in zip(examples, names, strict=True) if name in own) for name in counts}
    return {name: Unwritten(n, first[name]) for name, n in counts.items()}


def test_against_a_loop_over_all_records(every_kind: list[Path], tmp_path: Path) -> None:
    pool = open_pool(every_kind, tmp_path)
    examples = [pool[row] for row in range(len(pool))]
    template = Template()

    found = count_unwritten(pool, template)

    assert found == by_loop(examples, Template()) == count_unwritten_of(examples, Template())
    assert set(found) == {"tool_calls", "name", "reasoning_content", "thinking", "tools", "enable_thinking", "system"}
    assert found["thinking"] == Unwritten(1, "rejected-thought")
    assert list(found.values()) == sorted(found.values(), key=lambda each: -each.records)
    # told, told-by-developer, call, args, thought, and both sides of rejected-thought
    assert len(template.asked) == 7 < len(pool)


def test_of_some_rows_alone(every_kind: list[Path], tmp_path: Path) -> None:
    pool = open_pool(every_kind, tmp_path)
    rows = list(range(3, len(pool), 2))
    assert count_unwritten(pool, Template(), rows) == by_loop([pool[row] for row in rows], Template())


def test_plain_turns_of_equal_roles_are_asked_about_once(tmp_path: Path) -> None:
    turns = [
        {"role": "system", "content": "s"},
        {"role": "user", "content": "u"},
        {"role": "assistant", "content": "a"},
    ]
    lines = [json.dumps({"id": f"r{n}", "messages": turns[n % 2 :]}) for n in range(40)]
    (tmp_path / "p.jsonl").write_text("\n".join(lines))
    template = Template()
    assert count_unwritten(open_pool([tmp_path / "p.jsonl"], tmp_path), template) == {"system": Unwritten(20, "r0")}
    assert len(template.asked) == 1


def test_what_the_template_refuses_is_passed_over(every_kind: list[Path], tmp_path: Path) -> None:
    found = count_unwritten(open_pool(every_kind, tmp_path), Template(refuses="tool"))
    assert "tool_calls" not in found
    assert "reasoning_content" in found


def test_it_is_said_once_and_kept(every_kind: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pool, path = open_pool(every_kind, tmp_path), tmp_path / "out" / "unwritten.json"
    found = count_unwritten(pool, Template())
    report_unwritten({"pool": found, "query": found}, path)
    said = capsys.readouterr().err
    sentence = "1 record of the pool carries reasoning_content; this template does not write it (first: thought)"
    assert said.count(sentence) == 1
    assert said.count("of the query carries reasoning_content") == 1
    assert read_unwritten(path) == {"pool": found, "query": found}
    report_unwritten({"pool": {}}, path)  # of a template that writes all
    assert not path.exists()
    assert read_unwritten(path) == {}


def test_sentences() -> None:
    found = {"reasoning_content": Unwritten(1204, "a-17")}
    assert sentences(found) == ["1,204 records carry reasoning_content; this template does not write it (first: a-17)"]


def test_a_damaged_file_and_one_that_cannot_be_written(every_kind: list[Path], tmp_path: Path) -> None:
    damaged = tmp_path / "unwritten.json"
    damaged.write_text('{"pool": {"tools": {"many": 1}}}')
    with pytest.raises(StoreError, match=r"unwritten\.json cannot be read .*; remove it, or run again"):
        read_unwritten(damaged)
    with pytest.raises(DataError, match=r"cannot write .*first\.jsonl/unwritten\.json: File exists; choose"):
        report_unwritten({"pool": {"tools": Unwritten(1, "a")}}, tmp_path / "first.jsonl" / "unwritten.json")
