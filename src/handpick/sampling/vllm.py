"""Answers drawn by vLLM, where it is installed and asked for (``--sampler vllm``); needs a GPU.

It loads the base model once more, beside the one that gradients are taken of, and takes each checkpoint's adapter from
its folder. Its kernels are not transformers', so the answers are those of very nearly the same distribution.
"""

from collections.abc import Collection, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from handpick.errors import SettingsError
from handpick.fingerprint import digest
from handpick.sampling.generate import Sample, Sampling, cut_sample

_SHARE = 0.4  # of the GPU's memory; the rest is the gradients'
_RANKS = (8, 16, 32, 64, 128, 256, 320, 512)  # that vLLM has kernels for
_SEEDS = 1 << 31


class Vllm:
    """A vLLM engine for one base model, started when it is first asked.

    Args:
        base: the base model's folder or Hub name.
        dtype: what it computes in.
        max_length: tokens of a prompt and its answer, at most.

    Raises:
        SettingsError: vLLM is not installed, or there is no GPU for it.
    """

    def __init__(self, base: str, dtype: torch.dtype, max_length: int) -> None:
        if find_spec("vllm") is None:
            raise SettingsError("--sampler vllm needs vLLM: pip install vllm, or leave --sampler out")
        if not torch.cuda.is_available():
            raise SettingsError("--sampler vllm needs a GPU: leave it out, and transformers draws the answers")
        self._base, self._dtype, self._max_length = base, dtype, max_length
        self._engine: Any = None
        self._adapters: dict[Path, int] = {}

    def sample(
        self,
        tokenizer: Any,
        prompts: Sequence[Sequence[int]],
        sampling: Sampling,
        *,
        adapter: Path,
        rank: int,
        seed: int,
        ends: Collection[int],
    ) -> list[list[Sample]]:
        """Draw ``sampling.samples`` answers to every prompt, in their order.

        Args:
            tokenizer: decodes.
            prompts: token ids.
            sampling: how to draw.
            adapter: the checkpoint's folder.
            rank: of its LoRA.
            seed: of the draw; each prompt has its own, made of it and the prompt.
            ends: the tokens that end an answer.
        """
        from vllm import LLM, SamplingParams
        from vllm.lora.request import LoRARequest

        if self._engine is None:
            self._engine = LLM(
                model=self._base,
                dtype=str(self._dtype).removeprefix("torch."),
                max_model_len=self._max_length,
                gpu_memory_utilization=_SHARE,
                enable_lora=True,
                seed=seed,
                trust_remote_code=False,
                max_lora_rank=next((r for r in _RANKS if r >= rank), _RANKS[-1]),
            )
        number = self._adapters.setdefault(adapter, len(self._adapters) + 1)
        asked = [{"prompt_token_ids": list(prompt)} for prompt in prompts]
        how = [
            SamplingParams(
                n=sampling.samples,
                temperature=sampling.temperature,
                top_k=sampling.top_k,
                top_p=sampling.top_p,
                max_tokens=sampling.max_new_tokens,
                stop=list(sampling.stop),
                stop_token_ids=sorted(ends),
                seed=int(digest({"seed": seed, "prompt": list(prompt)}), 16) % _SEEDS,
                detokenize=bool(sampling.stop),
            )
            for prompt in prompts
        ]
        answered = self._engine.generate(
            asked, how, use_tqdm=False, lora_request=LoRARequest(adapter.name, number, str(adapter))
        )
        return [
            [cut_sample(list(one.token_ids), ends, sampling.stop, tokenizer) for one in each.outputs]
            for each in answered
        ]
