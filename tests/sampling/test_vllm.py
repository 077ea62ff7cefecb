"""What vLLM is asked for, held to the interface of vLLM 0.33 by a stand-in: there was no GPU to run it on."""

import sys
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from handpick.errors import SettingsError
from handpick.sampling import vllm as vllm_sampling
from handpick.sampling.generate import Sample, Sampling
from handpick.sampling.vllm import Vllm
from tests.sampling.test_generate import Words

PROMPTS = [[5, 6, 7], [8]]


@dataclass
class Completion:
    token_ids: tuple[int, ...]


@dataclass
class Output:
    outputs: list[Completion]


class Params:
    """vllm.SamplingParams, as far as it is used."""

    def __init__(
        self, *, n: int, temperature: float, top_k: int, top_p: float, max_tokens: int, stop: list[str],
        stop_token_ids: list[int], seed: int, detokenize: bool,
    ) -> None:  # fmt: skip
        assert detokenize or not stop  # vLLM refuses
        assert 0 <= seed < 1 << 63
        self.n, self.seed, self.stop_token_ids = n, seed, stop_token_ids


@dataclass
class Request:
    """vllm.lora.request.LoRARequest."""

    lora_name: str
    lora_int_id: int
    lora_path: str


class Engine:
    """vllm.LLM: its answer k to a prompt is the prompt's first token, k, the end, and what must be cut away."""

    made: list["Engine"]

    def __init__(
        self, model: str, *, dtype: str, max_model_len: int, gpu_memory_utilization: float, enable_lora: bool,
        seed: int, trust_remote_code: bool, max_lora_rank: int,
    ) -> None:  # fmt: skip
        assert enable_lora
        assert not trust_remote_code
        self.given = (model, dtype, max_model_len, max_lora_rank)
        self.asked: list[Any] = []
        Engine.made.append(self)

    def generate(self, prompts: Any, sampling_params: Any, *, use_tqdm: bool, lora_request: Request) -> list[Output]:
        self.asked.append((prompts, sampling_params, lora_request))
        assert len(prompts) == len(sampling_params)
        pairs = zip(prompts, sampling_params, strict=True)
        return [Output([Completion((p["prompt_token_ids"][0], 3 + k, 2, 9)) for k in range(how.n)]) for p, how in pairs]


@pytest.fixture
def engines(monkeypatch: pytest.MonkeyPatch) -> list[Engine]:
    package, lora, request = ModuleType("vllm"), ModuleType("vllm.lora"), ModuleType("vllm.lora.request")
    package.LLM, package.SamplingParams, request.LoRARequest = Engine, Params, Request  # type: ignore[attr-defined]
    for module in (package, lora, request):
        monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setattr(vllm_sampling, "find_spec", lambda name: object())
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    Engine.made = []
    return Engine.made


def test_token_ids_go_in_and_come_out(engines: list[Engine], tmp_path: Path) -> None:
    sampler = Vllm("base", torch.bfloat16, 512)
    assert not engines  # nothing is loaded before it is needed
    for adapter in (tmp_path / "a", tmp_path / "b", tmp_path / "a"):
        got = sampler.sample(Words(), PROMPTS, Sampling(samples=2), adapter=adapter, rank=100, seed=1, ends=[2])
        assert got == [[Sample([p[0], 3 + k, 2], f"w{p[0]} w{3 + k}") for k in range(2)] for p in PROMPTS]
    (engine,) = engines
    assert engine.given == ("base", "bfloat16", 512, 128)
    assert [prompt["prompt_token_ids"] for prompt in engine.asked[0][0]] == PROMPTS
    requests = [lora for _, _, lora in engine.asked]
    assert [(r.lora_int_id, Path(r.lora_path).name) for r in requests] == [(1, "a"), (2, "b"), (1, "a")]
    seeds = [[how.seed for how in params] for _, params, _ in engine.asked]
    assert seeds[0] == seeds[1]  # of prompt and seed alone
    assert seeds[0][0] != seeds[0][1]


def test_without_vllm_or_a_gpu_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vllm_sampling, "find_spec", lambda name: None)
    with pytest.raises(SettingsError, match="pip install vllm"):
        Vllm("base", torch.float32, 10)
    monkeypatch.setattr(vllm_sampling, "find_spec", lambda name: object())
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(SettingsError, match="needs a GPU"):
        Vllm("base", torch.float32, 10)
