"""What all lines are given: real sequences, a model, and an adapter with Adam's state after a few steps."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from handpick import bundled
from handpick.data.batching import collate
from handpick.data.pool import Pool
from handpick.data.quarantine import Quarantine
from handpick.data.render import Rendered, Renderer
from handpick.model import device, load_base, load_tokenizer
from handpick.objectives.next_token import NextToken
from handpick.training.checkpoint import save_moments, trainable_parameters
from handpick.training.settings import LoraSettings
from handpick.training.warmup import new_adapter

MAX_LENGTH = 512
LESS_ADAPTER = LoraSettings(rank=128, alpha=512, dropout=0.0)

# Llamas with random weights: hidden size, layers, heads, inner size, vocabulary, whether the head is the embedding.
SHAPES = {"large": (512, 8, 8, 1376, 24576, True), "1b": (2048, 16, 32, 8192, 32000, True)}


def draw_sequences(n: int, scratch: Path) -> list[Rendered]:
    """Records of the demo pool, drawn at random and rendered with the shipped tokenizer."""
    pool = Pool.open(
        bundled.pool_paths(), cache=scratch / "parsed", quarantine=Quarantine(scratch / "quarantine.jsonl")
    )
    renderer = Renderer(load_tokenizer(str(bundled.model_path())))
    order = np.random.default_rng(0).permutation(len(pool))[: 2 * n]
    sequences = NextToken(renderer, MAX_LENGTH).prepare([pool[int(row)] for row in order]).items
    return sequences[:n]


def prepare(kind: str, folder: Path, sequences: list[Rendered]) -> dict[str, Any]:
    """Write a folder as ``Task`` wants it, and return what its model.json says."""
    folder.mkdir(parents=True)
    rows = [{"input_ids": s.input_ids, "labels": s.labels} for s in sequences]
    (folder / "sequences.json").write_text(json.dumps(rows))
    base = bundled.model_path() if kind == "shipped" else _random_llama(kind, folder / "base")
    dtype = torch.bfloat16 if kind == "1b" else torch.float32
    adapter = LoraSettings(rank=16, alpha=32, dropout=0.0) if kind == "shipped" else LESS_ADAPTER
    model: Any = new_adapter(load_base(str(base), dtype), adapter, seed=0, in_float32=kind != "1b")
    _train_a_little(model, sequences, folder / "adapter")

    head = model.get_output_embeddings().weight.numel()
    linear = sum(m.weight.numel() for m in model.modules() if isinstance(m, nn.Linear)) - head
    lengths = [len(s.input_ids) for s in sequences]
    record = {
        "base": str(base),
        "parameters": sum(p.numel() for p in model.parameters())
        - sum(p.numel() for p in trainable_parameters(model).values()),
        "coordinates": sum(p.numel() for p in trainable_parameters(model).values()),
        "rank": adapter.rank,
        "examples": len(sequences),
        "tokens": sum(lengths),
        "longest": max(lengths),
        "labelled": sum(s.n_labels for s in sequences),
        # forward and the gradient of every layer's input, two operations a weight and token each; no attention
        "operations": 4 * linear * sum(lengths) + 4 * head * sum(s.n_labels for s in sequences),
    }
    (folder / "model.json").write_text(json.dumps(record))
    return record


def describe(kind: str, model: dict[str, Any]) -> str:
    """A heading and a paragraph on the model and the examples, from what ``prepare`` returned."""
    name = {"large": "A random Llama, 8 layers × hidden 512", "1b": "A random Llama, 16 layers × hidden 2048",
            "shipped": "The shipped model"}[kind]  # fmt: skip
    return (
        f"## {name}\n\n{model['parameters'] / 1e6:.1f}M parameters, LoRA of rank {model['rank']} on q, k, v and o: "
        f"D = {model['coordinates']:,}. {model['examples']} examples, {model['tokens'] / model['examples']:.0f} tokens "
        f"on average and {model['longest']} at most; {model['labelled'] / model['tokens']:.0%} of them labelled."
    )


def _random_llama(kind: str, folder: Path) -> Path:
    from transformers import LlamaConfig, LlamaForCausalLM

    hidden, layers, heads, inner, vocabulary, tied = SHAPES[kind]
    torch.manual_seed(0)
    config = LlamaConfig(
        hidden_size=hidden, num_hidden_layers=layers, num_attention_heads=heads, intermediate_size=inner,
        vocab_size=vocabulary, tie_word_embeddings=tied,
    )  # fmt: skip
    model = LlamaForCausalLM(config).to(torch.bfloat16 if kind == "1b" else torch.float32)
    model.save_pretrained(folder)
    return folder


def _train_a_little(model: Any, sequences: list[Rendered], folder: Path) -> None:
    """Four steps of AdamW, so that no LoRA B is zero, saved with the optimizer's state in both forms."""
    optimizer = torch.optim.AdamW(trainable_parameters(model).values(), lr=1e-3, weight_decay=0.0)
    short = sorted(sequences, key=lambda s: len(s.input_ids))[: max(4, len(sequences) // 2)]
    for step in range(4):
        batch = collate(short[step::4][:8], pad_id=0)
        inputs = {"input_ids": batch.input_ids_BT, "attention_mask": batch.attention_mask_BT, "labels": batch.labels_BT}
        model(**{name: tensor.to(device()) for name, tensor in inputs.items()}).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    model.save_pretrained(folder)
    save_moments(folder, model, optimizer)
    torch.save(optimizer.state_dict(), folder / "optimizer.pt")
