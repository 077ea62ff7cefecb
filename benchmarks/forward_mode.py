"""Is a gradient's product with a few known directions cheaper by forward mode than from the engine's row?

    python benchmarks/forward_mode.py [--sizes tiny small mid] [--rounds 3] [--write]

What queries are compared with may be known before the pool is read: then ⟨g(z), d⟩ is wanted and g(z) is not.
``torch.func.jvp`` gives it in one pass that keeps no activations, for k directions in 2·P·(1 + k) operations a token,
P the weights of the frozen base: the pass itself, and a tangent for each direction. The engine's row takes 4·P for all
directions together, and their products 2·k a coordinate more. So k = 1 is a draw by arithmetic and every further
direction is dearer; here both are timed, in turns, on Llamas of random weights with LoRA on attention.

Every product is held to the row's own before anything is timed.
"""

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import torch
from peft import LoraConfig, get_peft_model
from torch import Tensor, nn
from transformers import LlamaConfig, LlamaForCausalLM

from handpick.data.batching import Batch, collate
from handpick.data.render import IGNORED, Rendered
from handpick.gradients.engine import GradientEngine
from handpick.gradients.layers import canonical_name
from handpick.gradients.projection import NoProjection, SparseProjection
from handpick.scorers.gist_subspace import BasisProjection

RESULT = Path(__file__).parent / "results" / "forward_mode.md"
# hidden size, layers, heads, vocabulary, sequences, tokens of each
SIZES = {
    "tiny": (64, 2, 4, 512, 16, 64),
    "small": (256, 6, 4, 4096, 8, 128),
    "mid": (512, 12, 8, 8192, 4, 256),
}
DIRECTIONS = (1, 2, 4)
GIST_DIM = 150


def make_model(size: str, attention: str) -> nn.Module:
    hidden, layers, heads, vocabulary, _, n_tokens = SIZES[size]
    torch.manual_seed(0)
    base = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=vocabulary, hidden_size=hidden, intermediate_size=hidden * 8 // 3 // 16 * 16,
            num_hidden_layers=layers, num_attention_heads=heads, max_position_embeddings=n_tokens,
            attn_implementation=attention,
        )
    )  # fmt: skip
    model = get_peft_model(
        base, LoraConfig(r=16, lora_alpha=32, target_modules=["q_proj", "k_proj", "v_proj", "o_proj"])
    )
    generator = torch.Generator().manual_seed(1)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            parameter.data.copy_(0.02 * torch.randn(parameter.shape, generator=generator))
    return model.eval()


def make_batch(size: str) -> Batch:
    """The last third of every sequence is its answer."""
    *_, vocabulary, n, n_tokens = SIZES[size]
    ids_BT = torch.randint(3, vocabulary, (n, n_tokens), generator=torch.Generator().manual_seed(2)).tolist()
    prompt = 2 * n_tokens // 3
    return collate([Rendered(ids, [IGNORED] * prompt + ids[prompt:], n_tokens) for ids in ids_BT], pad_id=0)


class ForwardMode:
    """Per-example products with k directions, (B, k), by jvp: one pass for the values, a tangent a direction.

    Args:
        model: with a trainable adapter.
        batch: all its sequences of one length.
        direction_kD: in the engine's coordinates.
    """

    def __init__(self, model: nn.Module, batch: Batch, direction_kD: Tensor, engine: GradientEngine) -> None:
        names = {canonical_name(name): name for name, p in model.named_parameters() if p.requires_grad}
        self._weights = {names[layer.name]: layer.module.weight.detach() for layer in engine.layers}
        pieces = direction_kD.split([layer.size for layer in engine.layers], dim=1)
        self._tangents = {
            names[layer.name]: piece.unflatten(1, layer.module.weight.shape)
            for layer, piece in zip(engine.layers, pieces, strict=True)
        }
        self._model, self._batch = model, batch
        self._is_labelled_T = batch.targets_BT[0] != IGNORED

    def _losses(self, weights: dict[str, Tensor]) -> Tensor:
        """Mean loss of every sequence, (B,): logits at its labels alone, as the engine has them."""
        batch, keep_T = self._batch, self._is_labelled_T
        logits_BMV = torch.func.functional_call(
            self._model,
            weights,
            (),
            {"input_ids": batch.input_ids_BT, "use_cache": False, "logits_to_keep": keep_T.nonzero()[:, 0]},
        ).logits
        target_BM = batch.targets_BT[:, keep_T]
        nll_BM = torch.logsumexp(logits_BMV, -1) - logits_BMV.gather(-1, target_BM[..., None])[..., 0]
        return nll_BM.mean(1)

    def __call__(self) -> Tensor:
        def along(tangents: dict[str, Tensor]) -> Tensor:
            return torch.func.jvp(self._losses, (self._weights,), (tangents,))[1]

        with torch.no_grad():
            if len(next(iter(self._tangents.values()))) == 1:
                return along({name: each[0] for name, each in self._tangents.items()})[:, None]
            products_kB: Tensor = torch.func.vmap(along)(self._tangents)
            return products_kB.T


def seconds_of(compute: Callable[[], object]) -> float:
    began = time.process_time()
    compute()
    return time.process_time() - began


def measure(size: str, rounds: int) -> list[str]:
    """Table lines of one size: each way's time beside the engine's row, in turns."""
    batch = make_batch(size)
    own = GradientEngine(make_model(size, "sdpa"))
    eager_model = make_model(size, "eager")
    eager = GradientEngine(eager_model)
    n = own.n_coordinates
    weight_B = 1 / (batch.targets_BT != IGNORED).sum(1).double()
    direction_kD = torch.randn(max(DIRECTIONS), n, generator=torch.Generator().manual_seed(3)) / n**0.5
    sparse = SparseProjection(min(8192, 1 << (n.bit_length() - 2)), 0, 1)
    basis = BasisProjection(torch.randn(n, GIST_DIM, generator=torch.Generator().manual_seed(4)) / n**0.5)
    ways: dict[str, Callable[[], Tensor]] = {
        "engine's row, projected": lambda: own.features(batch, weight_B, sparse),
        f"engine's row on a basis of {GIST_DIM}": lambda: own.features(batch, weight_B, basis),
        "engine's row, plain attention": lambda: eager.features(batch, weight_B, sparse),
    }
    want_Bk = eager.features(batch, weight_B, NoProjection(n)) @ direction_kD.T
    for k in DIRECTIONS:
        way = ForwardMode(eager_model, batch, direction_kD[:k], eager)
        error = float((way() - want_Bk[:, :k]).norm() / want_Bk[:, :k].norm())
        assert error < 1e-4, f"{k} directions: {error:.1e}"
        ways[f"forward mode, k = {k}"] = way
    with torch.no_grad():
        ways["one pass, no gradient"] = lambda: (
            own.model(
                input_ids=batch.input_ids_BT, use_cache=False, logits_to_keep=batch.input_ids_BT.shape[1] // 3
            ).logits
        )
    took: dict[str, list[float]] = {name: [] for name in ways}
    for way in ways.values():
        way()
    for _ in range(rounds):
        for name, way in ways.items():
            with torch.set_grad_enabled(name.startswith("engine")):
                took[name].append(seconds_of(way))
    first = took["engine's row, projected"]
    n_weights = sum(parameter.numel() for parameter in own.model.parameters()) / 1e6
    shape = f"{size}, {n_weights:.1f} M, {len(batch.input_ids_BT)} × {batch.input_ids_BT.shape[1]} tokens"
    lines = []
    for name, each in took.items():
        ratios = [one / other for one, other in zip(each, first, strict=True)]
        spread = f"{min(ratios):.2f} to {max(ratios):.2f}"
        a_sequence = 1000 * median(each) / len(batch.input_ids_BT)
        lines.append(f"| {shape} | {name} | {a_sequence:.1f} | **{median(ratios):.2f}** ({spread}) |")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", nargs="+", default=list(SIZES), choices=list(SIZES))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--write", action="store_true", help="write the table to results/forward_mode.md")
    given = parser.parse_args()
    lines = [
        f"CPU, float32, processor time, {torch.get_num_threads()} thread(s), torch {torch.__version__}; LoRA of rank "
        "16 on attention, "
        f"the last third of every sequence labelled; {given.rounds} rounds in turns.",
        "",
        "| model | way | ms a sequence | ÷ engine's row, median (range) |",
        "|---|---|---|---|",
    ]
    for size in given.sizes:
        lines += measure(size, given.rounds)
    text = "\n".join(lines) + "\n"
    print(text)
    if given.write:
        RESULT.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
