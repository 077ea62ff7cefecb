"""Token counts: exact where all are tokenised, and a sample's interval against the full count."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from handpick import bundled
from handpick.costs.tokens import estimate_total, sample_pool
from handpick.data.examples import Example
from handpick.data.pool import Pool
from handpick.data.quarantine import Quarantine
from handpick.data.render import Renderer
from handpick.model import load_tokenizer
from handpick.objectives.next_token import NextToken
from handpick.objectives.protocol import Prepared


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Pool:
    folder = tmp_path_factory.mktemp("pool")
    return Pool.open(bundled.pool_paths(), cache=folder / "parsed", quarantine=Quarantine(folder / "q.jsonl", None))


class Characters:
    """Stands in for a tokenizer, quicker; what is under 200 characters long cannot be used."""

    def prepare(self, examples: Sequence[Example]) -> Prepared:
        sizes = [(each, sum(len(m.content) for m in each.messages)) for each in examples]
        good = [(each, n) for each, n in sizes if n >= 200]
        return Prepared([e.id for e, _ in good], [n for _, n in good], [(e, "short") for e, n in sizes if n < 200])


def test_a_small_pool_is_counted_exactly(tmp_path: Path, pool: Pool) -> None:
    renderer = Renderer(load_tokenizer(str(bundled.model_path())))
    few = Pool.open(bundled.pool_paths()[:1], cache=tmp_path, quarantine=Quarantine(tmp_path / "q", None))
    looked = sample_pool(few, NextToken(renderer, 64), shard_rows=512, seed=0)
    whole: list[int] = []
    for row in range(len(few)):
        if NextToken(renderer, 64).prepare([few[row]]).items:
            whole.append(len(renderer(few[row].messages, 64).input_ids))
    found = looked.total([len(item.input_ids) for item in looked.items])
    assert found.is_exact
    assert found.value == sum(whole)
    assert looked.usable == len(whole)
    assert "all" in looked.describe()


def test_shards_are_cut_as_the_store_cuts_them(pool: Pool) -> None:
    looked = sample_pool(pool, Characters(), shard_rows=600, seed=0)
    spans = []
    start = 0
    for file in pool.files:
        spans += [(s, min(s + 600, start + file.rows)) for s in range(start, start + file.rows, 600)]
        start += file.rows
    assert looked.shards == [Characters().prepare(pool.examples(*span)).items for span in spans]


def test_a_samples_interval_holds_the_full_count(pool: Pool) -> None:
    """Of 40 draws, about 38."""
    truth = sum(Characters().prepare(pool.examples(0, len(pool))).items)
    inside, widths = 0, []
    for seed in range(40):
        looked = sample_pool(pool, Characters(), shard_rows=1024, seed=seed, at_most=100, sample=100)
        found = looked.total(looked.items)
        inside += found.low <= truth <= found.high
        widths.append((found.high - found.low) / truth)
    assert inside >= 34
    assert 0.05 < np.mean(widths) < 0.8
    assert "drawn at random" in looked.describe()


def test_the_interval_is_that_of_a_draw_without_replacement() -> None:
    each = [1.0, 2.0, 3.0, 4.0]
    found = estimate_total(each, 5, 10)  # the fifth cannot be used
    sd = float(np.std([*each, 0.0], ddof=1))
    assert found.value == pytest.approx(20)
    assert found.high - found.value == pytest.approx(1.96 * 10 * sd / math.sqrt(5) * math.sqrt(0.5))
    assert estimate_total(each, 4, 4).is_exact


def test_more_looked_at_narrows_it(pool: Pool) -> None:
    def width(sample: int) -> float:
        looked = sample_pool(pool, Characters(), shard_rows=1024, seed=0, at_most=100, sample=sample)
        found: Any = looked.total(looked.items)
        return float(found.high - found.low)

    assert width(800) < 0.6 * width(100)
