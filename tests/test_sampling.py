"""Answers against a loop that a reader can believe, and the same ones every time."""

from typing import Any

import pytest
import torch
from transformers import AutoTokenizer

from handpick import embedded
from handpick.sampling import Group, Sampling, groups, sample
from tests.gradients.tiny_models import ARCHITECTURES, VOCAB, lora_model


class Words:
    """A tokenizer as far as sampling needs one: token 7 is written w7, and 2 ends."""

    eos_token_id = 2

    def decode(self, ids: list[int], skip_special_tokens: bool = True) -> str:
        return " ".join(f"w{i}" for i in ids)


def prompts(n: int = 7) -> list[list[int]]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randint(3, VOCAB, (1 + 2 * (i % 4),), generator=generator).tolist() for i in range(n)]


def drawn(model: Any, sampling: Sampling, **given: Any) -> list[Any]:
    """The samples of each prompt, in the order of ``prompts()``."""
    found: dict[int, Any] = {}
    for group in sample(model, Words(), prompts(), sampling, **({"seed": 0, "pad_id": 0} | given)):
        found |= dict(zip(group.prompts, group.samples, strict=True))
    return [found[i] for i in range(len(prompts()))]


@pytest.mark.parametrize("name", list(ARCHITECTURES))
@pytest.mark.parametrize("samples", [1, 3])
def test_at_temperature_zero_it_is_the_likeliest_token_every_time(name: str, samples: int) -> None:
    """One prompt at a time without a cache; padding, the shared prompt and the adapter change nothing."""
    model = lora_model(name)
    model.get_base_model().generation_config.repetition_penalty = 5.0  # type: ignore[operator]
    got = drawn(model, Sampling(samples=samples, temperature=0, max_new_tokens=6))
    model.eval()
    for prompt, answers in zip(prompts(), got, strict=True):
        ids = list(prompt)
        for _ in range(6):
            with torch.no_grad():
                ids.append(int(model(input_ids=torch.tensor([ids])).logits[0, -1].argmax()))
            if ids[-1] == 2:
                break
        assert [answer.ids for answer in answers] == [ids[len(prompt) :]] * samples


def test_samples_are_drawn_from_the_models_distribution() -> None:
    """One token after one prompt, many times over: counts against the softmax, at another temperature, cut to five."""
    model = lora_model("llama").eval()
    prompt = [5, 9, 11]
    sampling = Sampling(samples=4000, temperature=1.7, top_k=5, top_p=1.0, max_new_tokens=1)
    (group,) = sample(model, Words(), [prompt], sampling, seed=3, pad_id=0)
    with torch.no_grad():
        logits_V = model(input_ids=torch.tensor([prompt])).logits[0, -1]
    top = logits_V.topk(5)
    want_5 = torch.softmax(top.values / 1.7, dim=0)
    drawn_ids = torch.tensor([answer.ids[0] for answer in group.samples[0]])
    got_5 = torch.stack([(drawn_ids == token).float().mean() for token in top.indices])
    assert float(got_5.sum()) == pytest.approx(1)
    assert ((got_5 - want_5).abs() < 5 * (want_5 * (1 - want_5) / 4000).sqrt() + 1e-9).all()


def test_the_same_seed_gives_the_same_samples_and_another_others() -> None:
    model = lora_model("llama")
    sampling = Sampling(samples=4, max_new_tokens=8)
    torch.manual_seed(1)
    first = drawn(model, sampling)
    torch.manual_seed(2)
    state = torch.get_rng_state()
    assert drawn(model, sampling) == first
    assert torch.equal(torch.get_rng_state(), state)  # the caller's generator is left alone
    assert drawn(model, sampling, seed=1) != first
    assert len({tuple(answer.ids) for answer in first[0]}) > 1


def test_what_was_done_before_does_not_matter() -> None:
    """A group by itself draws what it drew among the others."""
    model = lora_model("llama")
    sampling = Sampling(samples=2, max_new_tokens=5)
    everything = list(sample(model, Words(), prompts(), sampling, seed=0, pad_id=0, rows=4))
    assert len(everything) > 2
    last: Group = everything[-1]
    (again,) = sample(model, Words(), [prompts()[i] for i in last.prompts], sampling, seed=0, pad_id=0, rows=4)
    assert again.samples == last.samples


def test_groups_are_of_like_length_and_no_larger_than_asked() -> None:
    lengths = [9, 1, 5, 7, 3, 3]
    assert groups(lengths, Sampling(samples=2), rows=5) == [[1, 4], [5, 2], [3, 0]]
    assert groups(lengths, Sampling(samples=20), rows=5) == [[1], [4], [5], [2], [3], [0]]


def test_an_answer_ends_at_its_end_or_at_a_stop_text() -> None:
    tokenizer = AutoTokenizer.from_pretrained(embedded.model_path())
    from handpick.sampling import _sample

    ids = tokenizer("one two. three", add_special_tokens=False)["input_ids"]
    end = tokenizer.eos_token_id
    ended = _sample([*ids, end, 5, 5], [end], (), tokenizer)
    assert ended.ids == [*ids, end]
    assert ended.text == "one two. three"
    stopped = _sample([*ids, end], [end], ("two",), tokenizer)
    assert stopped.text == "one "
    assert tokenizer.decode(stopped.ids).endswith("two")
    assert stopped.ids == ids[: len(stopped.ids)]


def test_generation_stops_at_a_text() -> None:
    from handpick.model import load_base

    tokenizer = AutoTokenizer.from_pretrained(embedded.model_path())
    model = load_base(str(embedded.model_path()), torch.float32)
    prompt = tokenizer("<|user|>\nSay a word.\n<|assistant|>\n", add_special_tokens=False)["input_ids"]
    plain = Sampling(samples=3, max_new_tokens=30)
    (free,) = sample(model, tokenizer, [prompt], plain, seed=0, pad_id=0)
    letters = Sampling(samples=3, max_new_tokens=30, stop=("e",))
    (stopped,) = sample(model, tokenizer, [prompt], letters, seed=0, pad_id=0)
    for with_stop, without in zip(stopped.samples[0], free.samples[0], strict=True):
        assert with_stop.text == without.text.partition("e")[0] or "e" not in without.text
