"""The audition on a run's page: every candidate of every round, and what became of it."""

from handpick.reporting.auditioned import audition_plot, read_audition
from handpick.scorers.scoring_problem import Remark


def line(name: str, gain: float, low: float | None) -> dict[str, object]:
    return {"candidate": name, "value": 2 - gain, "random": 2.0, "gain": {"mean": gain, "low": low, "high": gain + 1}}


ROUNDS = [
    {"round": {"examples": 8}, "metric": "choice", "kept": ["a", "b"], "failed": {"e": "out of memory"},
     "lines": [line("a", 0.3, -1), line("b", 0.2, None), line("c", 0.1, -1)]},
    {"round": {"examples": 16}, "metric": "loss", "kept": ["b", "a"], "failed": {},
     "lines": [line("b", 0.5, 0.1), line("a", 0.4, 0.2)]},
]  # fmt: skip
FOUND = {
    "rounds": ROUNDS, "winner": "a", "left_out": {"d": "too dear"}, "choice_seconds": {"a": 1.0, "b": 2.0, "c": 3.0}
}  # fmt: skip


def test_every_candidate_of_every_round_is_there() -> None:
    found = read_audition([Remark("other", "said", False), Remark("audition", "said", False, {"audition": FOUND})])
    assert found is not None
    assert [(each.round, each.name, each.became) for each in found.candidates] == [
        (1, "a", "went on"), (1, "b", "went on"), (1, "c", "dropped"), (2, "b", ""), (2, "a", "taken"),
    ]  # fmt: skip
    assert (found.examples, found.metrics, found.left_out) == ([8, 16], ["choice", "loss"], {"d": "too dear"})
    assert found.failed == {"e": "out of memory"}
    plot = audition_plot(found)
    assert plot is not None
    assert [row[4] for row in plot.rows] == [0.3, 0.2, 0.1, 0.5, 0.4]
    assert "<svg" in plot.svg
    assert plot.caption.endswith("The best of the last round, b: 0.5000.")


def test_a_run_whose_method_was_given_has_no_audition() -> None:
    assert read_audition([Remark("other", "said", False)]) is None
    assert audition_plot(None) is None
