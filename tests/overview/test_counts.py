"""What is counted in Arrow's columns is what a plain loop over the records counts."""

import json
from collections import Counter
from pathlib import Path
from statistics import median
from typing import Any

from handpick.data.examples import Example
from handpick.data.formats import Conversations
from handpick.data.ids import content_id
from handpick.overview.counts import count_records
from tests.overview.pools import KINDS, every_kind, open_pool

__all__ = ["every_kind"]


def characters(example: Example, role: str | None = None) -> int:
    return sum(len(m.content) for m in example.messages if role in (None, m.role))


def carried(record: dict[str, Any]) -> set[str]:
    names = {name for name, value in record.items() if value is not None}
    for name, value in record.items():
        for each in value if isinstance(value, list) else [value]:
            if isinstance(each, dict):
                brackets = "[]" if isinstance(value, list) else ""
                names |= {f"{name}{brackets}.{key}" for key, inner in each.items() if inner is not None}
    return names


def test_against_a_plain_loop(every_kind: list[Path], tmp_path: Path) -> None:
    pool = open_pool(every_kind, tmp_path)
    examples = [pool[row] for row in range(len(pool))]
    assert len(examples) == len(KINDS) + 23  # without the bad ones and the repeated ids

    found = count_records(pool)

    assert found.records == len(examples)
    assert found.formats == {"messages": 23, "as it is": len(KINDS)}
    for role, own in found.roles.items():
        has = [e for e in examples if any(m.role == role for m in e.messages)]
        turns = sum(m.role == role for e in examples for m in e.messages)
        assert (own.turns, own.records, own.characters) == (turns, len(has), sum(characters(e, role) for e in examples))
    assert set(found.roles) == {m.role for e in examples for m in e.messages} == {
        "system", "developer", "user", "assistant", "tool",
    }  # fmt: skip
    assert found.shapes == Counter(" → ".join(m.role for m in e.messages) for e in examples)
    assert list(found.shapes.values()) == sorted(found.shapes.values(), reverse=True)
    assert found.fields == Counter(name for e in examples for name in carried(json.loads(e.raw)))
    assert found.fields["licence"] == 1  # where it is null it is not carried
    assert {"turns[].role", "kwargs.t"} < set(found.fields)
    assert "kwargs.no" not in found.fields
    assert found.preferences == sum(e.rejected is not None for e in examples) == 3
    assert found.unwanted == sum(e.wanted is False for e in examples) == 1
    assert found.not_learnt == sum(any(not m.loss or m.no_loss for m in e.messages) for e in examples) == 2
    assert found.characters_N.tolist() == [characters(e) for e in examples]
    assert found.answer_characters_N.tolist() == [characters(e, "assistant") for e in examples]


def test_repetitions_against_a_plain_loop(every_kind: list[Path], tmp_path: Path) -> None:
    pool = open_pool(every_kind, tmp_path)
    examples = [pool[row] for row in range(len(pool))]
    contents = [content_id(Conversations(e.messages, e.rejected)) for e in examples]
    times = Counter(contents)

    found = count_records(pool)

    same = dict(zip(contents, found.content_N.tolist(), strict=True))
    assert len(set(same.values())) == len(same)
    assert [same[each] for each in contents] == found.content_N.tolist()
    assert found.repeated == len(examples) - len(times) > 10
    assert found.contents_repeated == sum(n > 1 for n in times.values())
    (content, most), *_ = times.most_common(1)
    assert found.most_repeated == (examples[contents.index(content)].id, most)
    of_source: dict[str, list[int]] = {}
    for row, example in enumerate(examples):
        assert example.source is not None
        of_source.setdefault(example.source, []).append(row)
    assert set(found.sources) == set(of_source) == {"a", "b", "first", "second"}
    for source, rows in of_source.items():
        own = found.sources[source]
        repeated = sum(contents[row] in contents[:row] for row in rows)
        assert (own.records, own.median_characters, own.repeated) == (
            len(rows), median(characters(examples[row]) for row in rows), repeated,
        )  # fmt: skip


def test_nothing_repeated(tmp_path: Path, every_kind: list[Path]) -> None:
    lines = [json.loads(line) for line in every_kind[0].read_text().splitlines()]
    alone = tmp_path / "alone.jsonl"
    alone.write_text("".join(json.dumps(line) + "\n" for line in lines if line.get("id") in ("plain", "told")))
    found = count_records(open_pool([alone], tmp_path))
    assert (found.repeated, found.contents_repeated, found.most_repeated) == (0, 0, None)
