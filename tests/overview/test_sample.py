"""What is told from a sample: against a loop over the same records, and intervals that hold what they say."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from transformers import AutoTokenizer

from handpick.data.examples import Conversation
from handpick.data.pool import Pool
from handpick.data.render import Renderer
from handpick.data.unwritten import Unwritten
from handpick.errors import DataError
from handpick.overview.intervals import mean, share
from handpick.overview.sample import look_at_sample
from tests.conftest import write_jsonl
from tests.overview.pools import open_pool


def record(n: int, *turns: tuple[str, str]) -> dict[str, Any]:
    return {"id": f"r{n}", "messages": [{"role": role, "content": content} for role, content in turns]}


@pytest.fixture
def pool(tmp_path: Path) -> Pool:
    """Plain records, long and short, a third of them in French, prompts without an answer, and answers far behind."""
    asked, said = ("user", "what is the time on the clock of this house"), ("assistant", "it is the time of the tea")
    demandé, dit = (
        ("user", "quelle est la couleur de la maison"),
        ("assistant", "elle est dans une rue avec les vôtres"),
    )
    rows = [
        record(n, demandé, dit) if n % 3 == 0 else record(n, asked, (said[0], said[1] * (n % 7))) for n in range(90)
    ]
    rows += [record(n, asked) for n in range(90, 100)]
    rows += [record(n, ("user", "long " * 90), said) for n in range(100, 104)]
    return open_pool([write_jsonl(tmp_path / "pool.jsonl", rows)], tmp_path)


@pytest.fixture
def renderer(tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> Renderer:
    """One that says what its template leaves out, as every renderer does."""

    def unwritten(self: Renderer, conversation: Conversation) -> tuple[str, ...]:
        return ("tools",) if conversation.tools else ()

    monkeypatch.setattr(Renderer, "unwritten", unwritten, raising=False)
    return Renderer(AutoTokenizer.from_pretrained(tiny_model))


def test_all_records_against_a_loop(pool: Pool, renderer: Renderer) -> None:
    found = look_at_sample(pool, renderer, 64, None, 0)
    lengths, losses, prompts, refused = [], [], 0, []
    for row in range(len(pool)):
        if pool[row].messages[-1].role == "user":
            prompts += 1
            continue
        try:
            whole = renderer(pool[row].messages, 10_000)
        except DataError as error:
            refused.append(str(error).partition(":")[0])
            continue
        lengths.append(whole.full_length)
        try:
            losses.append(renderer(pool[row].messages, 64).n_labels)
        except DataError:
            refused.append("cut off")
    assert (found.records, found.whole) == (104, True)
    tokens = found.tokens
    assert tokens is not None
    assert tokens.tokens_R.tolist() == lengths
    for own, values in ((tokens.tokens, lengths), (tokens.loss_tokens, losses)):
        assert own is not None
        assert (own.value, own.low, own.high) == pytest.approx((np.mean(values),) * 3)
    assert tokens.cut is not None
    assert tokens.cut.value == sum(n > 64 for n in lengths) / len(lengths) > 0
    assert tokens.prompts.value == prompts / 104 == 10 / 104
    assert {kind: round(each.share.value * 104) for kind, each in tokens.refused.items()} == {
        kind: refused.count(kind) for kind in set(refused)
    }
    assert tokens.refused["cut off"].first == "r100"
    assert tokens.refused["cut off"].reason == "cut off: its answer begins behind token 64 (max_length)"
    assert tokens.unwritten == {}
    assert list(found.languages) == ["en", "fr"]
    assert found.languages["fr"].value == 30 / 104


def test_a_sample_is_drawn_by_the_seed_and_has_intervals(pool: Pool, renderer: Renderer) -> None:
    first, again, other = (look_at_sample(pool, renderer, 64, 40, seed) for seed in (1, 1, 2))
    assert (first.records, first.whole) == (40, False)
    assert first.languages == again.languages
    assert first.tokens is not None
    assert again.tokens is not None
    assert other.tokens is not None
    assert first.tokens.tokens_R.tolist() == again.tokens.tokens_R.tolist() != other.tokens.tokens_R.tolist()
    french = first.languages["fr"]
    assert french.low < french.value < french.high
    assert look_at_sample(pool, None, 64, 104, 1).whole
    assert look_at_sample(pool, None, 64, 40, 1).tokens is None


def test_what_is_not_written_is_a_share_of_the_sample(
    tmp_path: Path, renderer: Renderer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        Renderer, "unwritten", lambda self, c: ("system",) if c[0].role == "system" else (), raising=False
    )
    asked = (("user", "a"), ("assistant", "b"))
    rows = [record(n, *((("system", "be brief"),) if n % 4 == 1 else ()), *asked) for n in range(20)]
    pool = open_pool([write_jsonl(tmp_path / "p.jsonl", rows)], tmp_path)
    tokens = look_at_sample(pool, renderer, 64, None, 0).tokens
    assert tokens is not None
    estimate, counted = tokens.unwritten["system"]
    assert estimate.value == 0.25
    assert counted == Unwritten(5, "r1")


def test_a_share_has_wilsons_interval() -> None:
    found = share(3, 20, whole=False)
    z, p, n = 1.959963984540054, 3 / 20, 20
    centre = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    assert (found.low, found.high) == pytest.approx((centre - half, centre + half))
    assert share(0, 20, whole=False).high > 0.1
    assert (found.value, found.n) == (0.15, 20)
    whole = share(3, 20, whole=True)
    assert (whole.low, whole.value, whole.high) == (0.15, 0.15, 0.15)


def test_a_means_interval_holds_the_mean_as_often_as_it_says() -> None:
    draw = np.random.default_rng(0)
    values_R = draw.lognormal(4, 1, 50_000).astype(np.int64)
    inside = 0
    for _ in range(400):
        found = mean(draw.choice(values_R, 1000, replace=False), whole=False)
        inside += found.low <= values_R.mean() <= found.high
    assert 0.91 < inside / 400 < 0.98
    one = mean(np.array([7]), whole=False)
    assert one.value == 7
    assert math.isnan(one.low)
    assert mean(values_R, whole=True).low == values_R.mean()
