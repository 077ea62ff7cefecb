"""The policy gradient: against the exact one on a vocabulary small enough to write out, and what is kept on disk."""

import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from transformers import AutoTokenizer

from handpick.choices import Advantage
from handpick.data.examples import Example, Message
from handpick.data.render import IGNORED, Rendered, Renderer
from handpick.errors import SettingsError
from handpick.gradients.engine import GradientEngine
from handpick.gradients.projection import NoProjection
from handpick.model import load_base, load_tokenizer
from handpick.objectives.protocol import Policy, Row
from handpick.objectives.reward import PolicyGradient, PromptItem
from handpick.rewards.exact_match import ExactMatch
from handpick.sampling.generate import Sample, Sampling
from handpick.scorers.gradient_encoder import encode_rows
from handpick.training.settings import LoraSettings
from handpick.training.warmup import new_adapter
from tests.gradients.oracle import autograd_rows, flat, relative_error
from tests.gradients.tiny_models import lora_model

SMALL_VOCAB = 5
PROMPT = [1, 3, 4]


class Endless:
    """A renderer as far as answers need one: no token ends them."""

    end_ids: ClassVar[list[int]] = []


class Letters:
    """A tokenizer of five letters, none of which ends anything."""

    eos_token_id = None

    def decode(self, ids: list[int], skip_special_tokens: bool = True) -> str:
        return "".join("abcde"[i] for i in ids)


def e_is_good(prompts: Any, completions: Sequence[str], records: Any) -> list[float]:
    """Between 3 and 4, so that most of a raw reward says nothing."""
    return [3 + 0.5 * text.count("e") + 0.3 * text.startswith("b") for text in completions]


@pytest.fixture(scope="module")
def policy() -> Policy:
    small = {"vocab_size": SMALL_VOCAB, "eos_token_id": None, "bos_token_id": None, "pad_token_id": None}
    model = lora_model("llama", config=small)
    return Policy(GradientEngine(model), Letters(), 0, 4000, checkpoint="c", load=lambda path: None, here=Path("c"))


def objective(folder: Path, samples: int, **settings: Any) -> PolicyGradient:
    defaults: dict[str, Any] = {
        "reward": e_is_good, "identity": {"reward": "e"}, "seed": 0, "folder": folder, "model": {},
        "sampling": Sampling(samples=samples, temperature=1.0, top_k=0, top_p=1.0, max_new_tokens=2),
    }  # fmt: skip
    return PolicyGradient(Endless(), 100, **(defaults | settings))  # type: ignore[arg-type]


ASKED = PromptItem("a", PROMPT, [{"role": "user", "content": "?"}], {}, [], None, None)


def gradient(policy: Policy, rows: list[Row]) -> NDArray[np.float64]:
    raw = NoProjection(policy.engine.n_coordinates)
    return encode_rows(policy.engine, rows, 0, raw, 4000).astype(np.float64)


@pytest.fixture(scope="module")
def by_enumeration(policy: Policy) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Every completion of two tokens: its probability, its reward, and the gradient of −log π, (25, D)."""
    answers = list(itertools.product(range(SMALL_VOCAB), repeat=2))
    sequences = [Rendered([*PROMPT, *a], [IGNORED] * len(PROMPT) + list(a), 5) for a in answers]
    probability_Y = []
    for sequence in sequences:
        with torch.no_grad():
            logits_TV = policy.model.eval()(input_ids=torch.tensor([sequence.input_ids])).logits[0].double()
        log_TV = torch.log_softmax(logits_TV, dim=-1)
        probability_Y.append(float((log_TV[2, sequence.input_ids[3]] + log_TV[3, sequence.input_ids[4]]).exp()))
    nll_YD = flat(autograd_rows(policy.model, sequences)).double().numpy() * 2  # the oracle's is the mean of two
    rewards = e_is_good(None, [Letters().decode(list(a)) for a in answers], None)
    assert abs(sum(probability_Y) - 1) < 1e-6
    return np.array(probability_Y), np.array(rewards), nll_YD


def exact(by_enumeration: tuple[NDArray[np.float64], ...]) -> NDArray[np.float64]:
    """∇ −E[r] = Σ_y π(y) r(y) ∇ −log π(y), (D,)."""
    probability_Y, reward_Y, nll_YD = by_enumeration
    return (probability_Y * reward_Y) @ nll_YD


def estimates(policy: Policy, folder: Path, kind: Advantage, m: int, k: int) -> NDArray[np.float64]:
    """``m`` independent estimates from ``k`` samples each, (m, D)."""
    many = objective(folder, m * k, advantage=kind)
    (samples,) = many._samples([ASKED], policy)
    (rewards,) = many._rewards([ASKED], [samples])
    pieces = [slice(i, i + k) for i in range(0, m * k, k)]
    return gradient(policy, [many._row(ASKED, samples[p], rewards[p]) for p in pieces])


@pytest.mark.parametrize("kind", ["raw", "rloo", "centered"])
def test_the_mean_of_many_estimates_is_the_exact_policy_gradient(
    kind: Advantage, policy: Policy, by_enumeration: Any, tmp_path: Path
) -> None:
    m, k = 400, 6
    each_MD = estimates(policy, tmp_path, kind, m, k)
    if kind == "centered":
        each_MD *= k / (k - 1)  # a baseline from the same samples takes that part away
    want_D = exact(by_enumeration)
    expected_error = each_MD.var(axis=0, ddof=1).sum() / m  # of ‖mean − want‖², if there is no bias
    got_error = np.square(each_MD.mean(axis=0) - want_D).sum()
    assert got_error < 3 * expected_error
    assert expected_error < 0.5 * np.square(want_D).sum()  # else nothing would be told by that


def test_a_baseline_lowers_the_variance(policy: Policy, tmp_path: Path) -> None:
    raw, rloo = (estimates(policy, tmp_path / kind, kind, 200, 6) for kind in ("raw", "rloo"))  # type: ignore[arg-type]
    assert rloo.var(axis=0).sum() < 0.2 * raw.var(axis=0).sum()


def test_one_large_draw_is_the_formula(policy: Policy, by_enumeration: Any, tmp_path: Path) -> None:
    """The row itself, not its mean: (1/K) Σ r_k ∇ −log π(y_k) over the samples that are on disk."""
    of = objective(tmp_path, 50)
    got_D = gradient(policy, of.rows([ASKED], policy))[0]
    _, reward_Y, nll_YD = by_enumeration
    answers = list(itertools.product(range(SMALL_VOCAB), repeat=2))
    (file,) = tmp_path.glob("samples-*.jsonl")
    drawn = [answers.index(tuple(s["ids"])) for s in json.loads(file.read_text())["value"]]
    want_D = (reward_Y[drawn][:, None] * nll_YD[drawn]).mean(axis=0)
    assert relative_error(torch.tensor(got_D[None]), torch.tensor(want_D[None])) < 1e-5
    mean_D = gradient(policy, objective(tmp_path, 50, log_prob="mean").rows([ASKED], policy))[0]
    assert relative_error(torch.tensor(mean_D[None]), torch.tensor(want_D[None] / 2)) < 1e-5


# -- what is on disk --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def real(tiny_model: Path) -> tuple[Renderer, Policy]:
    tokenizer = load_tokenizer(str(tiny_model))
    base = load_base(str(tiny_model), torch.float32)
    model = new_adapter(base, LoraSettings(rank=2, alpha=4, dropout=0.0), 0, in_float32=True)
    policy = Policy(GradientEngine(model), tokenizer, 0, 500, checkpoint="c", load=lambda path: None, here=Path("c"))
    return Renderer(tokenizer), policy


def record(question: str, answer: str | None = None, id: str = "q") -> Example:
    messages = [Message("user", question)] + ([Message("assistant", answer)] if answer is not None else [])
    raw = json.dumps({"id": id, "messages": [{"role": m.role, "content": m.content} for m in messages]}).encode()
    return Example(id, tuple(messages), raw)


RECORDS = [record(f"Say {'very ' * i}much.", "Much, and more than much.", f"q{i}") for i in range(4)]


class Counted:
    """A reward that remembers what it was asked, and likes long answers."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, str, Mapping[str, Any]]] = []

    def __call__(self, prompts: Any, completions: Any, records: Any) -> list[float]:
        self.calls += list(zip(prompts, completions, records, strict=True))
        return [float(len(text)) for text in completions]


def build(renderer: Renderer, folder: Path, reward: Any = None, **settings: Any) -> PolicyGradient:
    defaults: dict[str, Any] = {
        "reward": reward or Counted(), "identity": {"reward": "long"}, "seed": 0, "folder": folder, "model": {},
        "sampling": Sampling(samples=3, max_new_tokens=8),
    }  # fmt: skip
    return PolicyGradient(renderer, 200, **(defaults | settings))


def test_a_reward_is_told_prompt_answer_and_record(real: tuple[Renderer, Policy], tmp_path: Path) -> None:
    renderer, policy = real
    reward = Counted()
    of = build(renderer, tmp_path, reward)
    prepared = of.prepare([*RECORDS, record("No answer here.", None, "q4")])
    assert prepared.ids == ["q0", "q1", "q2", "q3", "q4"]
    rows = of.rows(prepared.items, policy)
    assert len(reward.calls) == 15
    assert all(len(prompt) == 1 and prompt[0]["role"] == "user" for prompt, _, _ in reward.calls)
    assert [r["id"] for _, _, r in reward.calls] == [f"q{i}" for i in range(5) for _ in range(3)]
    assert len(rows) == 5
    for asked, row in zip(prepared.items, rows, strict=True):
        for each in row:
            n = len(asked.ids)
            assert each.sequence.input_ids[:n] == asked.ids
            assert all(label == IGNORED for label in each.sequence.labels[:n])
            assert each.sequence.labels[n:] == each.sequence.input_ids[n:]


def test_neither_a_crash_nor_another_reward_samples_again(
    real: tuple[Renderer, Policy], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    renderer, policy = real
    drawn: list[int] = []
    from handpick.sampling import generate as sampling

    own = sampling._draw

    def draw(model: Any, tokenizer: Any, prompts: list[list[int]], *rest: Any) -> Any:
        drawn.append(len(prompts))
        if len(drawn) == 3:
            raise KeyboardInterrupt
        return own(model, tokenizer, prompts, *rest)

    monkeypatch.setattr(sampling, "_draw", draw)
    monkeypatch.setitem(sampling.ROWS, "cpu", 3)  # a prompt a group
    items = build(renderer, tmp_path).prepare(RECORDS).items
    with pytest.raises(KeyboardInterrupt):
        build(renderer, tmp_path).rows(items, policy)
    (file,) = tmp_path.glob("samples-*.jsonl")
    with file.open("ab") as half:
        half.write(b'{"key": "12')  # and the line that was being written
    reward = Counted()
    rows = build(renderer, tmp_path, reward).rows(items, policy)
    assert drawn == [1, 1, 1, 1, 1]  # the third once more, and the fourth
    assert len(reward.calls) == 12
    again = build(renderer, tmp_path / "elsewhere").rows(items, policy)
    assert [[each.sequence.input_ids for each in row] for row in again] == [
        [each.sequence.input_ids for each in row] for row in rows
    ]
    n = len(drawn)
    other = Counted()
    build(renderer, tmp_path, other, identity={"reward": "another"}).rows(items, policy)
    build(renderer, tmp_path, reward).rows(items, policy)
    assert len(drawn) == n
    assert len(other.calls) == len(reward.calls) == 12  # nor is a reward asked twice


def test_prompts_without_signal_are_named_and_have_no_row(
    real: tuple[Renderer, Policy], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    renderer, policy = real

    def likes_two(prompts: Any, completions: Any, records: Any) -> list[float]:
        return [float(i) if r["id"] in ("q1", "q3") else 1.0 for i, r in enumerate(records)]

    of = build(renderer, tmp_path, likes_two, advantage="rloo")
    rows = of.rows(of.prepare(RECORDS).items, policy)
    assert [bool(row) for row in rows] == [False, True, False, True]
    said = " ".join(capsys.readouterr().err.split())
    assert "2 of 4 prompts have a signal; none have q0, q2" in said
    assert "answers were cut off at" in said
    (report,) = tmp_path.glob("report-*.jsonl")
    lines = [json.loads(line) for line in report.read_text().splitlines()]
    assert [line["signal"] for line in lines] == [False, True, False, True]
    assert lines[0]["differ"] == 0
    assert lines[1]["differ"] == pytest.approx(2 / 3)
    assert lines[1]["mean"] == 4.0
    raw = gradient(policy, rows)
    assert not raw[0].any()
    assert raw[1].any()


def test_worst_case_protect_falls_back_on_the_reference(real: tuple[Renderer, Policy], tmp_path: Path) -> None:
    renderer, policy = real

    def bad(prompts: Any, completions: Any, records: Any) -> list[float]:
        return [-1.0] * len(completions)

    of = build(renderer, tmp_path, bad, variants=["rejection", "worst_case_protect"])
    items = of.prepare([RECORDS[0], record("Nothing to fall back on.")]).items
    first, second = of.rows(items, policy)
    assert [each.sequence for each in first] == [renderer(RECORDS[0].messages, 200)]
    assert not second


def test_worst_case_protect_also_where_no_reward_counts(real: tuple[Renderer, Policy], tmp_path: Path) -> None:
    renderer, policy = real
    of = build(renderer, tmp_path, lambda p, c, r: [0.0] * len(c), variants=["worst_case_protect"])
    (row,) = of.rows(of.prepare(RECORDS[:1]).items, policy)
    assert [each.sequence for each in row] == [renderer(RECORDS[0].messages, 200)]


def test_answers_that_are_equally_good_are_no_worst_case(real: tuple[Renderer, Policy], tmp_path: Path) -> None:
    renderer, policy = real
    good = build(
        renderer, tmp_path, lambda p, c, r: [1.0] * len(c), variants=["worst_case_protect"], advantage="centered"
    )
    assert good.rows(good.prepare(RECORDS[:1]).items, policy) == [[]]


def test_a_run_that_is_killed_keeps_the_rewards_it_has(
    real: tuple[Renderer, Policy], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    renderer, policy = real
    monkeypatch.setattr("handpick.objectives.reward._SCORED_AT_ONCE", 3)  # a prompt's

    class Killed(Counted):
        def __call__(self, prompts: Any, completions: Any, records: Any) -> list[float]:
            if len(self.calls) == 6:
                raise KeyboardInterrupt
            return super().__call__(prompts, completions, records)

    stopped = build(renderer, tmp_path, Killed())
    items = stopped.prepare(RECORDS).items
    with pytest.raises(KeyboardInterrupt):
        stopped.rows(items, policy)
    again = Counted()
    rows = build(renderer, tmp_path, again).rows(items, policy)
    assert {r["id"] for _, _, r in again.calls} == {each.id for each in items[2:]}
    whole = build(renderer, tmp_path / "whole").rows(items, policy)
    assert [[each.weight for each in row] for row in rows] == [[each.weight for each in row] for row in whole]


# -- samples without a score -----------------------------------------------------------------------------------------

THREE = [Sample([1, 2], "x"), Sample([2, 3], "y"), Sample([3, 4], "z")]


@pytest.mark.parametrize("kind", ["raw", "centered", "rloo", "group_norm"])
@pytest.mark.parametrize("variants", [[], ["rejection"], ["topk"], ["worst_case_protect"]])
def test_a_sample_without_a_score_is_as_if_it_had_not_been_drawn(
    kind: Advantage, variants: list[Any], tmp_path: Path
) -> None:
    of = objective(tmp_path, 3, advantage=kind, variants=variants)
    asked = replace(ASKED, reference_ids=Rendered([1, 2], [IGNORED, 2], 2))
    row = of._row(asked, THREE, [1.0, None, 3.0])
    assert row == of._row(asked, [THREE[0], THREE[2]], [1.0, 3.0])
    assert [each.sequence.input_ids[-1] for each in row] == [2, 4]


def test_a_prompt_whose_samples_have_no_score_has_no_row(tmp_path: Path) -> None:
    """What nobody has graded is no worst case, which would teach the reference."""
    asked = replace(ASKED, reference_ids=Rendered([1, 2], [IGNORED, 2], 2))
    for variants in ([], ["worst_case_protect"], ["rejection", "worst_case_protect"]):
        assert objective(tmp_path, 3, variants=variants)._row(asked, THREE, [None, None, None]) == []
    one = objective(tmp_path, 3, advantage="rloo")._row(asked, THREE, [None, 0.7, None])
    assert one == []  # there is nothing to compare it with


def test_without_the_references_score_hard_rejection_keeps_nothing(tmp_path: Path) -> None:
    of = objective(tmp_path, 3, variants=["hard_rejection"])
    assert len(of._row(ASKED, THREE, [1.0, None, 3.0, 2.0])) == 1
    assert of._row(ASKED, THREE, [1.0, 2.0, 3.0, None]) == []


def test_what_has_no_score_is_counted(
    real: tuple[Renderer, Policy], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    renderer, policy = real

    class Abstains(Counted):
        may_abstain = True

        def __call__(self, prompts: Any, completions: Any, records: Any) -> Any:
            return [None if r["id"] == "q1" or i % 3 == 2 else 1.0 + i for i, r in enumerate(records)]

    of = build(renderer, tmp_path, Abstains())
    rows = of.rows(of.prepare(RECORDS).items, policy)
    assert [len(row) for row in rows] == [2, 0, 2, 2]
    said = " ".join(capsys.readouterr().err.split())
    assert "; 6 of 12 answers have no score and count for nothing; 3 of 4 prompts have a signal; none have q1" in said
    (report,) = tmp_path.glob("report-*.jsonl")
    lines = [json.loads(line) for line in report.read_text().splitlines()]
    assert [line["scored"] for line in lines] == [2, 0, 2, 2]
    assert lines[1] == {"id": "q1", "scored": 0, "mean": None, "sd": None, "differ": None, "signal": False}
    assert lines[0]["mean"] == 1.5


def test_a_record_that_the_reward_cannot_score_is_refused_before_anything_is_drawn(
    real: tuple[Renderer, Policy], tmp_path: Path
) -> None:
    of = build(real[0], tmp_path, ExactMatch("last-number"))
    prepared = of.prepare([record("Two and two?", "It is 4.", "good"), record("And?", "Who knows.", "bad")])
    assert prepared.ids == ["good"]
    ((refused, why),) = prepared.refused
    assert refused.id == "bad"
    assert why.startswith("no reference answer: exact-match:last-number finds none in 'Who knows.'")


def test_an_answer_ends_where_the_template_ends_a_turn(real: tuple[Renderer, Policy], tmp_path: Path) -> None:
    """Base models of the Qwen family have another end of sequence than their template has of a turn."""
    renderer, _ = real
    turn = renderer.tokenizer.eos_token_id  # what the template writes behind an answer
    other = AutoTokenizer.from_pretrained(renderer.tokenizer.name_or_path)
    other.eos_token = next(t for t in other.all_special_tokens if t != renderer.tokenizer.eos_token)
    other.chat_template = renderer.template.replace("eos_token", repr(renderer.tokenizer.eos_token))
    assert Renderer(other).end_ids == sorted([turn, other.eos_token_id])
    assert build(Renderer(other), tmp_path).fingerprint()["ends"] == sorted([turn, other.eos_token_id])


def test_one_sample_has_nothing_to_be_compared_with(real: tuple[Renderer, Policy], tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="more than 1"):
        build(real[0], tmp_path, sampling=Sampling(samples=1, max_new_tokens=8), advantage="rloo")


def test_hard_rejection_takes_the_reference_from_the_record(real: tuple[Renderer, Policy], tmp_path: Path) -> None:
    renderer, policy = real
    reward = Counted()
    of = build(renderer, tmp_path, reward, variants=["hard_rejection"])
    fields = {"id": "a", "prompt": "Say it.", "answer": "it"}
    answered = Example("a", (Message("user", "Say it."),), json.dumps(fields).encode())
    ids, items, refused = of.prepare([answered, record("Nothing to compare with.", None, "b")])
    assert ids == ["a"]
    assert [example.id for example, _ in refused] == ["b"]
    of.rows(items, policy)
    assert reward.calls[-1][1] == "it"


def test_hard_rejection_scores_the_reference_too(real: tuple[Renderer, Policy], tmp_path: Path) -> None:
    renderer, policy = real
    reward = Counted()
    of = build(renderer, tmp_path, reward, variants=["hard_rejection"])
    rows = of.rows(of.prepare(RECORDS[:1]).items, policy)
    texts = [text for _, text, _ in reward.calls]
    assert texts[-1] == "Much, and more than much."
    assert len(rows[0]) == sum(len(text) >= len(texts[-1]) for text in texts[:-1])


def test_guidance_gives_half_of_the_reference_away(real: tuple[Renderer, Policy], tmp_path: Path) -> None:
    renderer, policy = real
    reward = Counted()
    of = build(renderer, tmp_path, reward, variants=["guidance"])
    ids, (asked,), refused = of.prepare([RECORDS[0], record("No reference.")])
    assert ids == ["q0"]
    assert "guidance" in refused[0][1]
    whole = renderer(RECORDS[0].messages, 200).input_ids
    assert asked.ids == whole[: len(asked.ids)]
    half = renderer.tokenizer.decode(asked.half)
    assert half
    assert "Much, and more than much.".startswith(half)
    of.rows([asked], policy)
    assert all(text.startswith(half) for _, text, _ in reward.calls)
    cut = asked.ids[: -len(asked.half)]
    letters = renderer.tokenizer("学", add_special_tokens=False)["input_ids"]
    if len(letters) > 1:  # halves that meet within a letter
        of = build(renderer, tmp_path / "letters", variants=["guidance"])
        split = replace(asked, ids=cut + letters[:1], half=letters[:1])
        assert of._text(split, Sample(letters[1:], "�")) == "学"


def test_a_prompt_that_leaves_no_room_is_refused(real: tuple[Renderer, Policy], tmp_path: Path) -> None:
    renderer, _ = real
    _, items, refused = build(renderer, tmp_path).prepare([record("word " * 300)])
    assert not items
    assert "--max-new-tokens" in refused[0][1]
    with pytest.raises(SettingsError, match="no room"):
        build(renderer, tmp_path, sampling=Sampling(max_new_tokens=200))


def test_a_sample_is_trained_on_with_the_very_tokens_that_were_drawn(
    real: tuple[Renderer, Policy], tmp_path: Path
) -> None:
    """Decoding and tokenising again would change some."""
    renderer, _ = real
    of = build(renderer, tmp_path)
    (asked,) = of.prepare(RECORDS[:1]).items
    odd = Sample([7, 7, 300, 11], "text that these tokens do not spell")
    row = of._row(asked, [odd], [2.0])
    assert row[0].sequence.input_ids == [*asked.ids, 7, 7, 300, 11]
    assert row[0].weight == 2.0
