"""Does this work on this model, data and machine? A few examples through the engine and through plain autograd.

Legend: N examples, D coordinates of the gradient, K features, T positions, V vocabulary.
"""

import gc
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import Tensor, nn

from handpick.costs.probe import Size
from handpick.costs.training import training_bytes
from handpick.data.pool import Pool
from handpick.data.quarantine import Quarantine
from handpick.data.reading import check_columns
from handpick.data.render import IGNORED, Rendered, Renderer
from handpick.errors import DataError, ModelError, SettingsError, first_line
from handpick.gradients.carriers import carry_by
from handpick.gradients.check import autograd_row
from handpick.gradients.engine import GradientEngine
from handpick.gradients.forward import causal_of, eval_mode
from handpick.gradients.kernels import takes_onednn
from handpick.gradients.memory import footprint
from handpick.gradients.projection import NoProjection, Projection, projection
from handpick.layer_numbers import ALL
from handpick.layout import DataLayout
from handpick.model import compute_dtype, device, free_memory, has_bfloat16, load_base, load_unread, padding_id
from handpick.model.mixing import describe, mixing_of
from handpick.objectives.next_token import NextToken, mean_loss
from handpick.sampling.decode import company
from handpick.scorers.checkpoints import new_lora, warmup_of
from handpick.scorers.gradient_encoder import encode_rows, tokens_per_batch
from handpick.scorers.inputs import check_layers, check_max_length, open_renderer
from handpick.settings import Settings, not_given
from handpick.store.memory import available_bytes
from handpick.training.settings import micro_batch_of
from handpick.training.warmup import load_trainable, new_adapter

_LOOKED_AT = 200  # records of the pool
_EXAMPLES = 8
_HELD = 1 << 31  # bytes of raw gradients that are held at once
_ALL_AT_ONCE = 1 << 30  # tokens of a batch
# Of a new adapter's B, about what a warmup leaves: 1e-2 in all layers makes noise of a real model's answers.
_SIZE = 1e-3
_EXACT = 1e-4  # relative error; float32 on two ways through the same model


@dataclass(frozen=True, slots=True)
class Check:
    """One line: what was looked at, whether it is well, what was found, and what to do where it is not."""

    name: str
    passed: bool
    found: str
    advice: str


def examine(settings: Settings) -> Iterator[Check]:
    """Yield every check in turn, as it is done.

    Raises:
        HandpickError: the model, the checkpoint or the pool cannot be used at all.
    """
    model = _named_model(settings)
    renderer = open_renderer(settings)
    if not settings.pool:
        raise not_given("pool")
    check_max_length(settings)
    check_layers(settings)
    sequences, check = _data(settings, renderer)
    yield check
    pad_id = padding_id(renderer.tokenizer)

    yield _look(model, settings, sequences[0])
    free_memory()
    exact = _with_adapter(load_base(model, torch.float32, settings.quantization), settings)
    yield _reading(exact)
    engine = GradientEngine(exact, recompute=settings.gradient_checkpointing)
    n_held = max(2, min(_EXAMPLES, _HELD // (3 * 4 * engine.n_coordinates)))
    lengths_seen = {len(sequence.input_ids) for sequence in sequences}
    sequences = _choose_sequences(sequences, n_held)
    what = "of the first checkpoint" if settings.checkpoints else "new, with random weights"
    alone = f"; {engine.alone}" if engine.alone else ""
    of_layers = "" if settings.layers == ALL else f" in layers {settings.layers}"
    yield Check(
        "adapter",
        True,
        f"{len(engine.layers)} matrices{of_layers}, {engine.n_coordinates:,} coordinates ({what}){alone}",
        "",
    )

    raw = NoProjection(engine.n_coordinates)
    together_ND = _rows(engine, sequences, pad_id, raw, batch_tokens=_ALL_AT_ONCE)
    autograd_ND = torch.stack([autograd_row(engine, sequence).cpu() for sequence in sequences])
    yield _gradient(together_ND, autograd_ND)
    yield _padding(together_ND, _rows(engine, sequences, pad_id, raw, batch_tokens=1), sequences)

    own_engine, dtype = engine, compute_dtype(settings.dtype)
    if dtype != torch.float32:
        own = _with_adapter(load_base(model, dtype, settings.quantization), settings)
        own_engine = GradientEngine(own, recompute=settings.gradient_checkpointing)
    yield _precision(settings, dtype, _rows(own_engine, sequences, pad_id, raw, batch_tokens=_ALL_AT_ONCE), autograd_ND)

    project = projection(
        settings.projection, engine.n_coordinates, settings.projection_dim, settings.seed, settings.projection_nonzeros
    )
    projected_NK = _rows(engine, sequences, pad_id, project, batch_tokens=_ALL_AT_ONCE)
    yield _projection(settings, autograd_ND, projected_NK)
    engine = own_engine
    del exact, own_engine  # so that of two models one is left, and what is free is what a run would find
    gc.collect()
    if device().type == "cuda":
        torch.cuda.empty_cache()
    yield _memory(engine, lengths_seen, project, settings)
    yield _speed(engine, sequences, pad_id, project, tokens_per_batch(settings))


def _named_model(settings: Settings) -> str:
    if settings.model is None:
        raise SettingsError("no model given: name a folder or a model on the Hub with --model")
    return settings.model


def _data(settings: Settings, renderer: Renderer) -> tuple[list[Rendered], Check]:
    with tempfile.TemporaryDirectory() as folder:
        layout = DataLayout(Path(folder))
        quarantine = Quarantine(layout.quarantine(), settings.max_quarantined)
        pool = Pool.open(list(settings.pool), cache=layout.parsed, quarantine=quarantine, reading=settings.reading)
        check_columns(settings.reading, [pool.columns])
        looked_at = list(pool.examples(0, min(_LOOKED_AT, len(pool))))
    _, sequences, refused = NextToken(renderer, settings.max_length, settings.response_tokens).prepare(looked_at)
    if len(sequences) < 2:
        why = f": the first has {refused[0][1]}" if refused else ""
        raise DataError(f"of the first {len(looked_at)} records {len(sequences)} can be used, and it takes two{why}")
    lengths = [len(sequence.input_ids) for sequence in sequences]
    bad = f"; {quarantine.count} of the whole pool are set aside as they are read" if quarantine.count else ""
    return sequences, Check(
        "data",
        len(refused) * 2 <= len(looked_at),
        f"{len(sequences)} of the first {len(looked_at)} records can be used, median {median(lengths):.0f} tokens{bad}"
        + ("" if renderer.tokenizer.chat_template else "; no chat template of its own, so they are in the Tulu form"),
        f"more than half would be set aside, the first for {refused[0][1]}; is --max-length long enough?"
        if refused
        else "",
    )


def _look(name: str, settings: Settings, sequence: Rendered) -> Check:
    """Check that a model has the same gradient before and after it is read without one, by autograd alone.

    Loading reads it so, and so do answers and losses; a kernel that repacks weights then, as bitsandbytes has one for
    4 bits on a CPU, may leave other gradients, or none.
    """
    model: Any = load_unread(name, torch.float32, settings.quantization)
    advice = (
        "reading this model without gradients changes the gradients that follow: --quantization none, or another "
        "version of the library that its layers are of; and report it"
    )
    when = "before"
    try:
        before_TE = _input_gradient(model, sequence)
        with torch.no_grad(), eval_mode(model):
            model(input_ids=torch.tensor([sequence.input_ids], device=before_TE.device), use_cache=False)
        when = "after"
        after_TE = _input_gradient(model, sequence)
    except Exception as error:  # whatever a model's own code raises; one that cannot read at all is refused further on
        said = f"no gradient can be taken {when} a pass without gradients: {first_line(error)}"
        return Check("look", False, said, advice)
    off = float((after_TE - before_TE).norm() / before_TE.norm())
    found = f"relative error {off:.1e} between a gradient after a pass without gradients and one before"
    return Check("look", off <= _EXACT, found, advice)


def _input_gradient(model: Any, sequence: Rendered) -> Tensor:
    """Return the gradient of a sequence's mean loss by its tokens' embeddings, (T, E), which all layers stand behind.

    Not an adapter's: putting one in reads the model without gradients.
    """
    embedded: list[Tensor] = []

    def keep(_: nn.Module, __: Any, output_1TE: Tensor) -> Tensor:
        embedded.append(output_1TE.detach().requires_grad_())
        return embedded[-1].clone()  # which a model may write to, as some scale their embeddings in place

    embedding: nn.Module = model.get_input_embeddings()
    hook = embedding.register_forward_hook(keep)
    try:
        with eval_mode(model):
            ids_1T, labels_1T = (
                torch.tensor([each], device=next(model.parameters()).device)
                for each in (sequence.input_ids, sequence.labels)
            )
            logits_1TV = model(input_ids=ids_1T, use_cache=False).logits[:, :-1].float()
            nn.functional.cross_entropy(
                logits_1TV.flatten(0, 1), labels_1T[:, 1:].flatten(), ignore_index=IGNORED
            ).backward()
    finally:
        hook.remove()
    gradient_TE = embedded[0].grad
    if gradient_TE is None:
        raise RuntimeError("the loss does not depend on the tokens' embeddings")
    return gradient_TE[0]


def _reading(model: nn.Module) -> Check:
    """Say what loading has shown, which refuses a model else, and what is tried before answers are drawn."""
    limits = describe(mixing_of(causal_of(model).config))
    try:
        answers = company(model).value
    except ModelError as error:
        answers = str(error)
    found = f"a sequence alone, padded and in company has the same logits; {answers}"
    return Check("reading", True, found + (f"; {limits}" if limits else ""), "")


def _choose_sequences(sequences: list[Rendered], n: int) -> list[Rendered]:
    """Choose the first ``n``; where these have one length, the shortest of another takes the second's place, to pad."""
    chosen = sequences[:n]
    others = [s for s in sequences if len(s.input_ids) != len(chosen[0].input_ids)]
    if others and len({len(s.input_ids) for s in chosen}) == 1:
        chosen[1] = min(others, key=lambda s: len(s.input_ids))
    return chosen


def _with_adapter(base: nn.Module, settings: Settings) -> nn.Module:
    """Return a model with the first checkpoint's adapter, else with a new one whose gradient is not zero."""
    if settings.checkpoints:
        return load_trainable(base, [Path(settings.checkpoints[0])], settings.layers)
    model = new_adapter(base, new_lora(settings), settings.seed, in_float32=False)
    generator = torch.Generator().manual_seed(settings.seed)
    for name, parameter in model.named_parameters():
        if ".lora_B." in name:  # zero in a new adapter, which would hide A's gradient
            parameter.data.copy_(_SIZE * torch.randn(parameter.shape, generator=generator))
    carry_by(model, settings.layers)
    return model


def _rows(
    engine: GradientEngine, sequences: list[Rendered], pad_id: int, project: Projection, *, batch_tokens: int
) -> Tensor:
    """Compute features (N, K) on the CPU, in the order of ``sequences``."""
    rows = [mean_loss(sequence) for sequence in sequences]
    return torch.from_numpy(encode_rows(engine, rows, pad_id, project, batch_tokens))


def _relative_error(got_ND: Tensor, want_ND: Tensor) -> float:
    return float(((got_ND - want_ND).norm(dim=1) / want_ND.norm(dim=1)).max())


def _lowest_cosine(got_ND: Tensor, want_ND: Tensor) -> float:
    """Return the lowest cosine of two rows, summed in float64, since float32 rounds sums of so many squares."""
    return min(
        float(got_D @ want_D / (got_D.norm() * want_D.norm()))
        for got_D, want_D in ((got.double(), want.double()) for got, want in zip(got_ND, want_ND, strict=True))
    )


def _gradient(together_ND: Tensor, autograd_ND: Tensor) -> Check:
    error = _relative_error(together_ND, autograd_ND)
    return Check(
        "gradient",
        error <= _EXACT,
        f"relative error {error:.1e} against plain autograd, float32, one at a time",
        "the gradients of this model are not exact: do not use them, and report the model's architecture",
    )


def _padding(together_ND: Tensor, alone_ND: Tensor, sequences: list[Rendered]) -> Check:
    error = _relative_error(together_ND, alone_ND)
    lengths = {len(sequence.input_ids) for sequence in sequences}
    against = "a padded batch" if len(lengths) > 1 else f"a batch (nothing to pad: all have {lengths.pop()} tokens)"
    return Check(
        "padding",
        error <= _EXACT,
        f"relative error {error:.1e} between {against} and each example alone",
        "this model's rows depend on their neighbours: --batch-tokens 1 takes each example alone",
    )


def _precision(settings: Settings, dtype: torch.dtype, rows_ND: Tensor, autograd_ND: Tensor) -> Check:
    """Check what a run computes in against float32."""
    word = str(dtype).removeprefix("torch.")
    imitated = dtype == torch.bfloat16 and not has_bfloat16()
    cosine = _lowest_cosine(rows_ND, autograd_ND)
    library = "oneDNN" if takes_onednn() else "PyTorch's default library"
    kernels = "" if device().type == "cuda" else f"; float32 products by {library}"
    return Check(
        "dtype",
        cosine >= 0.99 and not imitated,
        f"{word} on {device()} (--dtype {settings.dtype}), cosine to float32 at least {min(cosine, 1):.5f}{kernels}",
        "--dtype float32" + (": this machine only imitates bfloat16, several times slower" if imitated else ""),
    )


def _projection(settings: Settings, exact_ND: Tensor, projected_NK: Tensor) -> Check:
    unit_ND, unit_NK = (nn.functional.normalize(rows.double()) for rows in (exact_ND, projected_NK))
    off_diagonal = ~torch.eye(len(unit_ND), dtype=torch.bool)
    rms = (unit_ND @ unit_ND.T - unit_NK @ unit_NK.T)[off_diagonal].square().mean().sqrt().item()
    dim = projected_NK.shape[1]
    bound = 3 / dim**0.5
    return Check(
        "projection",
        rms <= bound,
        f"{settings.projection} to {dim:,}: RMS error of the cosine {rms:.4f} (at most {bound:.4f})",
        "a larger --projection-dim",
    )


def _memory(engine: GradientEngine, lengths_seen: set[int], project: Projection, settings: Settings) -> Check:
    """Check the largest batch that may come: full of sequences of a length seen, or of the longest there can be.

    A warmup's batch is of the longest seen: its trainer keeps all logits, so that of 2,048 tokens few models would fit.
    """
    took = footprint(engine, project, adam=True)

    def rows(length: int) -> int:
        return min(settings.shard_rows, max(1, tokens_per_batch(settings) // length))

    most = max(took.peak(rows(length), length) for length in lengths_seen | {settings.max_length})
    warmup = None if settings.checkpoints else warmup_of(settings)[0]
    training = 0
    if warmup is not None:
        micro = micro_batch_of(warmup.batch, warmup.micro_batch)
        training = training_bytes(engine, took.saved, [Size(micro, max(lengths_seen))])
    if device().type == "cpu":  # whose allocator keeps freed blocks of other sizes (docs/gradients.md, growth)
        most, training = 2 * most, 2 * training
    free = torch.cuda.mem_get_info()[0] if device().type == "cuda" else available_bytes()
    too_little = "--gradient-checkpointing, or a smaller --batch-tokens or --max-length"
    said = f"{most / 2**30:.2f} GiB at most for a batch, beside the model, with Adam"
    if warmup is not None:
        said += f"; {training / 2**30:.2f} GiB for the warmup's, of the longest of these records"
        if most <= free:
            too_little = "a smaller --max-length, or in the settings of `handpick run` warmup: {micro_batch: 1}"
    return Check("memory", max(most, training) <= free, f"{said}; {free / 2**30:.1f} GiB are free", too_little)


def _speed(
    engine: GradientEngine, sequences: list[Rendered], pad_id: int, project: Projection, batch_tokens: int
) -> Check:
    def time_batches() -> float:
        began = time.perf_counter()
        _rows(engine, sequences, pad_id, project, batch_tokens=batch_tokens)
        return time.perf_counter() - began

    time_batches()
    rate = len(sequences) / time_batches()
    return Check("speed", True, f"{rate:,.1f} examples a second at a checkpoint, without Adam's state", "")
