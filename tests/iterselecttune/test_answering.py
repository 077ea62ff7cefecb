"""Several processes answer what one does, none of it twice, and a process that is killed loses nothing else."""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from handpick.data.pool import Pool
from handpick.data.quarantine import Quarantine
from handpick.errors import WorkerError
from handpick.executors import CallsHere
from handpick.iterselecttune import answering
from handpick.iterselecttune.answering import Answering
from handpick.sampling import generate
from tests.executors.conftest import one_thread  # noqa: F401
from tests.executors.ray_here import needs_ray, running_ray
from tests.iterselecttune.conftest import Ask


@pytest.fixture
def examples(ask: Ask, tmp_path: Path) -> list[Any]:
    pool = Pool.open(ask().pool, cache=tmp_path / "parsed", quarantine=Quarantine(tmp_path / "bad.jsonl"))
    return pool.take(range(20))


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many prompts were answered together, time after time; three at most."""
    found: list[int] = []
    own = generate._draw

    def draw(model: Any, tokenizer: Any, prompts: list[list[int]], *rest: Any) -> Any:
        found.append(len(prompts))
        return own(model, tokenizer, prompts, *rest)

    monkeypatch.setattr(generate, "_draw", draw)
    monkeypatch.setattr(generate, "ROWS", {"cpu": 3})
    return found


class DiesAt(CallsHere):
    """Calls in this process; one of them, by its place, ends in two deaths."""

    def __init__(self, place: int) -> None:
        self.place = place

    def run(self, function: Callable[[Any], Any], given: Iterable[Any]) -> Iterator[tuple[Any, Any]]:
        for place, each in enumerate(given):
            yield each, None if place == self.place else function(each)


def test_shares_are_answered_as_the_whole_and_nothing_twice(
    ask: Ask, examples: list[Any], drawn: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = Answering(ask(out="one"))(examples)
    groups = drawn.copy()
    assert len(groups) > 3
    drawn.clear()
    monkeypatch.setattr(answering, "calls_for", lambda folder, **_: DiesAt(1))
    several = ask(out="several", workers=3)
    with pytest.raises(WorkerError, match=r"killed again, as a machine .* kept in .*answers: run the same again"):
        Answering(several)(examples)
    first = sum(drawn)
    assert 0 < first < len(examples)
    monkeypatch.setattr(answering, "calls_for", lambda folder, **_: CallsHere())
    assert Answering(several)(examples) == whole
    assert sorted(drawn) == sorted(groups)
    assert Answering(several)(examples) == whole
    assert Answering(ask(out="several"))(examples) == whole
    assert sorted(drawn) == sorted(groups)


def test_two_processes_answer_what_one_does(ask: Ask, examples: list[Any], one_thread: None) -> None:  # noqa: F811
    assert Answering(ask(out="two", workers=2))(examples) == Answering(ask(out="one"))(examples)


@pytest.mark.slow
def test_a_run_of_two_workers_leaves_what_one_process_does(ask: Ask, one_thread: None) -> None:  # noqa: F811
    from handpick.iterselecttune.run import run_iterselect

    runs = [run_iterselect(ask(out=out, rounds=2, **more)) for out, more in (("one", {}), ("two", {"workers": 2}))]
    assert runs[0].selection.ids == runs[1].selection.ids
    assert runs[0].figures == runs[1].figures
    for name in ("selected.jsonl", "explained.jsonl", "rounds.json", "rounds/1/verdicts.jsonl", "rounds/2/round.json"):
        one, two = ((Path(ask(out=out).folder) / name).read_bytes() for out in ("one", "two"))
        assert one == two, name


@needs_ray
def test_tasks_of_ray_answer_what_one_process_does(ask: Ask, examples: list[Any], one_thread: None) -> None:  # noqa: F811
    settings = ask(out="two", engine="ray", max_workers=2)
    settings.folder.mkdir()
    with running_ray(2):
        several = Answering(settings)(examples)
    assert several == Answering(ask(out="one"))(examples)
