"""Who goes on, and who is taken, of values that are made up."""

import numpy as np
import pytest

from handpick.auditions.decision import Decision, RoundResult, decide, judge_round
from handpick.auditions.estimate import Floats, Judges
from handpick.auditions.rounds import AuditionRound
from handpick.auditions.values import RoundValues
from handpick.errors import DataError

N = 40
JUDGES = Judges(np.zeros(N, dtype=np.int64), np.arange(N))
LAST = AuditionRound(2, 100, 1, 4)


def losses(gain: float, seed: int, spread: float = 0.1) -> Floats:
    """A candidate's two models, each judged by half of the queries; random draws have a loss of 2."""
    rng = np.random.default_rng(seed)
    first_Q = rng.permutation(N) % 2 == 0
    value_Q = 2 - gain + rng.normal(0, spread, N)
    return np.stack([np.where(first_Q, value_Q, np.nan), np.where(first_Q, np.nan, value_Q)])


def values(own: dict[str, Floats], metric: str = "loss", draws: Floats | None = None) -> RoundValues:
    draw_DQ = 2 + np.random.default_rng(9).normal(0, 0.01, (4, N)) if draws is None else draws
    return RoundValues({metric: own, "loss": own}, {metric: draw_DQ, "loss": draw_DQ}, {})


def judged(found: RoundValues, metric: str = "loss", keep: int = 2) -> RoundResult:
    return judge_round(LAST, found, JUDGES, metric, 4, keep)


def taken(found: RoundValues, seconds: dict[str, float], metric: str = "loss") -> Decision:
    return decide(judged(found, metric), found, JUDGES, seconds, 4)


def test_the_best_go_on_in_order_of_their_gain() -> None:
    found = values({"worst": losses(-0.5, 0), "best": losses(1, 1), "good": losses(0.5, 2)})
    result = judged(found)
    assert [line.candidate for line in result.lines] == ["best", "good", "worst"]
    assert result.kept == ["best", "good"]
    assert result.lines[0].value == pytest.approx(1, abs=0.1)
    assert result.lines[0].random == pytest.approx(2, abs=0.01)


def test_who_clearly_beats_random_and_all_others_is_taken_whatever_it_costs() -> None:
    found = values({"dear": losses(1, 0), "cheap": losses(0.5, 1)})
    decision = taken(found, {"dear": 1000, "cheap": 1})
    assert decision.winner == "dear"
    assert decision.why.startswith("dear is taken: 0.9")
    assert "better in loss" in decision.why
    assert "4 random draws" in decision.why


def test_a_tie_goes_to_the_cheaper_and_is_said() -> None:
    found = values({"dear": losses(1.001, 0), "cheap": losses(1, 0)})
    decision = taken(found, {"dear": 1000, "cheap": 1})
    assert decision.winner == "cheap"
    assert "dear did 0.001 better, which is within the noise, and costs more" in decision.why
    assert taken(found, {"dear": 1, "cheap": 1000}).winner == "dear"


def test_who_costs_the_same_but_for_the_noise_of_a_probe_is_not_cheaper() -> None:
    found = values({"best": losses(1.001, 0), "level": losses(1, 0)})
    decision = taken(found, {"best": 57.1, "level": 55.7})
    assert decision.winner == "best"
    assert "costs more" not in decision.why
    assert taken(found, {"best": 0.57, "level": 0.38}).winner == "best"  # both probes of bm25, on a pool of 2,500
    assert taken(found, {"best": 49.4, "level": 0.5}).winner == "level"
    cheap = values({"best": losses(1.002, 0), "level": losses(1.001, 0), "third": losses(1, 0)})
    assert taken(cheap, {"best": 1000, "level": 57.1, "third": 55.7}).winner == "level"


def test_a_cheaper_one_that_does_not_beat_random_is_no_tie() -> None:
    found = values({"dear": losses(0.1, 0), "cheap": losses(0.05, 1, spread=0.5)})
    assert taken(found, {"dear": 1000, "cheap": 1}).winner == "dear"


@pytest.mark.parametrize("gain", [0.0, -1.0])
def test_nothing_is_taken_where_nothing_beats_random(gain: float) -> None:
    decision = taken(values({"a": losses(gain, 0), "b": losses(gain - 0.1, 1)}), {"a": 1, "b": 1})
    assert decision.winner is None
    assert decision.why.startswith("nothing beat random here: the best, a, was ")


def test_a_metric_that_cannot_move_gives_way_to_the_loss() -> None:
    own, still = {"a": losses(1, 0)}, {"a": losses(1, 0) * 0}
    draw_DQ = 2 + np.random.default_rng(9).normal(0, 0.01, (4, N))
    found = RoundValues({"choice": still, "loss": own}, {"choice": draw_DQ * 0, "loss": draw_DQ}, {})
    result = judged(found, "choice")
    assert result.metric == "loss"
    assert result.lines[0].gain.is_clear
    moving = RoundValues({"choice": still, "loss": own}, {"choice": draw_DQ * 0 + np.eye(4, N), "loss": draw_DQ}, {})
    assert judged(moving, "choice").metric == "choice"


def test_without_a_loss_the_metric_judges_and_says_where_it_cannot() -> None:
    own, none = {"a": losses(-1, 0)}, {"a": losses(1, 0) * np.nan}
    draw_DQ = 2 + np.random.default_rng(9).normal(0, 0.01, (4, N))
    found = RoundValues({"choice": own, "loss": none}, {"choice": draw_DQ, "loss": draw_DQ * np.nan}, {})
    result = judged(found, "choice")
    assert result.metric == "choice"
    assert result.lines[0].gain.is_clear
    assert result.lines[0].loss_gain is None
    still = RoundValues(
        {"choice": {"a": own["a"] * 0}, "loss": none}, {"choice": draw_DQ * 0, "loss": draw_DQ * np.nan}, {}
    )
    assert judged(still, "choice").metric == "choice"
    assert taken(still, {"a": 1}, "choice") == Decision(
        None,
        "nothing beat random here: choice is the same on every query for every model that was trained, and there is "
        "nothing else to judge by",
    )


def test_queries_that_a_model_could_not_be_measured_on_judge_nobody() -> None:
    own = {"a": losses(1, 0), "b": losses(0.5, 1)}
    own["a"][:, 3] = np.nan
    assert judged(values(own)).queries == N - 1


def test_without_any_measured_query_there_is_no_round() -> None:
    with pytest.raises(DataError, match="no query has a value in loss"):
        judged(values({"a": losses(1, 0) * np.nan}))
