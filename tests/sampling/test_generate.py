"""Answers against a loop that a reader can believe, and the same ones every time."""

from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

import handpick.sampling.generate as generate
from handpick import bundled
from handpick.model import load_base
from handpick.progress import forward_lines
from handpick.sampling.cache import CacheBytes, cache_bytes
from handpick.sampling.generate import Group, Sample, Sampling, cut_sample, end_ids, groups, is_cut_off, sample
from scripts.tiny_architectures import make_model
from tests.gradients.tiny_models import ARCHITECTURES, VOCAB, base_model, lora_model


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
    for group in sample(model, Words(), prompts(), sampling, **({"seed": 0, "pad_id": 0, "ends": [2]} | given)):
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
    (group,) = sample(model, Words(), [prompt], sampling, seed=3, pad_id=0, ends=[2])
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
    everything = list(sample(model, Words(), prompts(), sampling, seed=0, pad_id=0, ends=[2], rows=4))
    assert len(everything) > 2
    last: Group = everything[-1]
    (again,) = sample(
        model, Words(), [prompts()[i] for i in last.prompts], sampling, seed=0, pad_id=0, ends=[2], rows=4
    )
    assert again.samples == last.samples


def test_groups_are_of_like_length_and_no_larger_than_fits() -> None:
    lengths = [9, 1, 5, 7, 3, 3]
    assert groups(lengths, 2, lambda length: 5) == [[1, 4], [5, 2], [3, 0]]
    assert groups(lengths, 20, lambda length: 5) == [[1], [4], [5], [2], [3], [0]]
    assert groups(lengths, 2, lambda length: 6 if length < 4 else 4) == [[1, 4, 5], [2, 3], [0]]


def test_more_answers_than_fit_come_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    model = lora_model("llama")
    sampling = Sampling(samples=7, max_new_tokens=4)
    parts: list[int] = []
    own = generate._draw

    def draw(model: Any, tokenizer: Any, prompts: Any, n: int, *rest: Any) -> Any:
        parts.append(n * len(prompts))
        return own(model, tokenizer, prompts, n, *rest)

    monkeypatch.setattr(generate, "_draw", draw)
    few = drawn(model, sampling, rows=3)
    assert parts == [3, 3, 1] * len(prompts())
    assert all(len({tuple(answer.ids) for answer in answers}) > 3 for answers in few)  # no part repeats another
    a_token = 2 * 2 * 2 * 8 * 4  # keys and values, layers, heads, their width, bytes
    monkeypatch.setitem(generate._CACHE, "cpu", a_token * (4 + 7) * 14)
    parts.clear()
    assert all(len(answers) == 7 for answers in drawn(model, sampling))
    assert parts == [21, 14, 14]  # of the longest, two prompts at a time


def test_a_model_that_remembers_otherwise_is_read_prompt_by_prompt() -> None:
    """Linear attention: what it remembers cannot be repeated, so every answer reads its own prompt."""
    config = AutoConfig.for_model(
        "lfm2", vocab_size=VOCAB, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, layer_types=["conv", "full_attention"], bos_token_id=1, eos_token_id=2, pad_token_id=0,
    )  # fmt: skip
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config).eval()
    prompt = [5, 9, 11]
    (group,) = sample(
        model, Words(), [prompt], Sampling(samples=3, temperature=0, max_new_tokens=4), seed=0, pad_id=0, ends=[2]
    )
    ids = list(prompt)
    while len(ids) < 7 and ids[-1] != 2:
        with torch.no_grad():
            ids.append(int(model(input_ids=torch.tensor([ids])).logits[0, -1].argmax()))
    assert [answer.ids for answer in group.samples[0]] == [ids[3:]] * 3


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return AutoTokenizer.from_pretrained(bundled.model_path())


def test_an_answer_ends_at_its_end_or_at_a_stop_text(tokenizer: Any) -> None:
    ids = tokenizer("one two. three", add_special_tokens=False)["input_ids"]
    end = tokenizer.eos_token_id
    ended = cut_sample([*ids, end, 5, 5], [end], (), tokenizer)
    assert ended.ids == [*ids, end]
    assert ended.text == "one two. three"
    stopped = cut_sample([*ids, end], [end], ("two",), tokenizer)
    assert stopped.text == "one "
    assert tokenizer.decode(stopped.ids).endswith("two")
    assert stopped.ids == ids[: len(stopped.ids)]
    assert cut_sample([end, 5], [end], (), tokenizer) == Sample([end], "")


def test_an_answer_that_ended_with_its_last_token_was_not_cut_off(tokenizer: Any) -> None:
    ids = tokenizer("one two", add_special_tokens=False)["input_ids"]
    end, room = tokenizer.eos_token_id, Sampling(max_new_tokens=len(ids))
    assert is_cut_off(ids, room, [end], tokenizer)
    assert not is_cut_off([*ids[:-1], end], room, [end], tokenizer)
    assert not is_cut_off(ids, Sampling(max_new_tokens=len(ids) + 1), [end], tokenizer)
    assert not is_cut_off(ids, Sampling(max_new_tokens=len(ids), stop=("two",)), [end], tokenizer)
    assert is_cut_off(ids, Sampling(max_new_tokens=len(ids), stop=("one two three",)), [end], tokenizer)


@pytest.mark.parametrize("word", ["e", "\n\n", "<|user|>"])
def test_generation_stops_at_a_text_and_keeps_no_filling(word: str, tokenizer: Any) -> None:
    """The prompt ends in a line break and holds the word as a special token: neither counts. The filling is no end."""
    model = load_base(str(bundled.model_path()), torch.float32)
    pad_id = next(i for i in range(5, 100) if i != tokenizer.eos_token_id)
    ends = end_ids(model, [tokenizer.eos_token_id])
    assert pad_id not in ends
    prompt = tokenizer("<|user|>\nSay a word.\n<|assistant|>\n", add_special_tokens=False)["input_ids"]
    given = {"seed": 0, "pad_id": pad_id, "ends": ends}
    (free,) = sample(model, tokenizer, [prompt], Sampling(samples=6, max_new_tokens=30), **given)
    stopping = Sampling(samples=6, max_new_tokens=30, stop=(word,))
    (stopped,) = sample(model, tokenizer, [prompt], stopping, **given)
    for with_stop, without in zip(stopped.samples[0], free.samples[0], strict=True):
        whole = tokenizer.decode([i for i in without.ids if i not in ends], skip_special_tokens=False)
        n = next((k for k in range(1, len(without.ids) + 1) if word in tokenizer.decode(without.ids[:k])), None)
        assert with_stop.ids == without.ids[:n]
        assert word not in with_stop.text
        if n is not None:
            assert with_stop.text == whole.partition(word)[0]


def decoder_half() -> Any:
    """A decoder of BART alone, whose table of positions counts padding too."""
    config = {"d_model": 32, "decoder_layers": 2, "decoder_attention_heads": 4, "decoder_ffn_dim": 48}
    own = {"max_position_embeddings": 64, "is_decoder": True, "is_encoder_decoder": False, "forced_eos_token_id": None}
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model("bart", vocab_size=VOCAB, **config, **own)).eval()
    for parameter in model.parameters():
        parameter.data.mul_(4)
    return model


def test_a_model_that_padding_changes_answers_prompts_of_one_length_together() -> None:
    model = decoder_half()
    said: list[str] = []
    with forward_lines(said.append):
        got = drawn(model, Sampling(temperature=0, max_new_tokens=6))
    assert len(said) == 1
    assert "only prompts of one length are answered together" in said[0]
    sizes = [len(group.prompts) for group in sample(
        model, Words(), prompts(), Sampling(temperature=0, max_new_tokens=1), seed=0, pad_id=0, ends=[2]
    )]  # fmt: skip
    assert sizes == [2, 2, 2, 1]
    for prompt, (answer,) in zip(prompts(), got, strict=True):
        ids = list(prompt)
        while len(ids) - len(prompt) < len(answer.ids):
            with torch.no_grad():
                ids.append(int(model(input_ids=torch.tensor([ids])).logits[0, -1].argmax()))
        assert answer.ids == ids[len(prompt) :]


def test_what_a_model_remembers_is_measured() -> None:
    """Keys and values of every layer by the configuration; states of a model without them; none where it fails."""
    for name in ("llama", "qwen3", "gemma2"):
        assert cache_bytes(lora_model(name)) == CacheBytes(0, 2 * 2 * 2 * 8 * 4)  # two layers, two heads of eight
    config = {"hidden_size": 16, "state_size": 4, "num_hidden_layers": 2, "vocab_size": VOCAB, "conv_kernel": 3}
    mamba = AutoModelForCausalLM.from_config(AutoConfig.for_model("mamba", **config))
    held = cache_bytes(mamba)
    assert held is not None
    assert held.token == 0
    assert held.sequence == 2 * 32 * (4 + 3) * 4  # two layers of 32 channels: a state of four, three of the convolution
    plain = base_model("llama")
    plain.register_forward_pre_hook(fail_to_remember, with_kwargs=True)
    assert cache_bytes(plain) is None


def fail_to_remember(_module: Any, _args: Any, kwargs: dict[str, Any]) -> None:
    if kwargs.get("use_cache"):
        raise AttributeError("no number of layers")


def test_a_model_that_remembers_nothing_answers_all_the_same() -> None:
    forgetful = base_model("llama").eval()
    forgetful.register_forward_pre_hook(fail_to_remember, with_kwargs=True)
    sampling = Sampling(samples=2, temperature=0, max_new_tokens=5)
    assert drawn(forgetful, sampling) == drawn(base_model("llama").eval(), sampling)


def test_a_prompt_beyond_the_window_of_a_model_whose_cache_forgets_it() -> None:
    model = make_model("moshi")
    prompt = torch.randint(3, 400, (40,), generator=torch.Generator().manual_seed(40)).tolist()
    sampling = Sampling(samples=2, temperature=0, max_new_tokens=3)
    (group,) = sample(model, Words(), [prompt], sampling, seed=0, pad_id=0, ends=[])
    ids = list(prompt)
    for _ in range(3):
        with torch.no_grad():
            ids.append(int(model(input_ids=torch.tensor([ids]), use_cache=False).logits[0, -1].argmax()))
    assert [answer.ids for answer in group.samples[0]] == [ids[len(prompt) :]] * 2
