"""A target's path: a small adapter that is trained on the target's own examples alone (TACS, Yang, He and Cheng 2026,
arXiv 2605.09404), and what the model makes of other examples where it stands on it.

As published: LoRA of rank 1, alpha 4, dropout 0.1 on the attention's projections, AdamW without weight decay. What the
text leaves open is as the authors' released code has it (docs/sources.md): a step is one example, the rate is the same
at every step, no gradient is clipped, and a unit of depth is one pass over the examples: checkpoint 1 is what the first
pass leaves, checkpoint T the last. Ours: q, k, v and o by their names, or the layers of ``--lora-targets auto`` where a
model has none of those names; the adapter is kept in float32 on a base of any precision; an order and a dropout of each
pass that are functions of seed and pass alone, so that a path goes on from any checkpoint; a query whose gradient
is not finite is refused, and where only a later pass finds one, its step is left out.

Legend: S sequences, D coordinates of the adapter.
"""

import shutil
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from handpick.data.batching import collate, token_batches
from handpick.data.render import Rendered
from handpick.executors import refuse_queries
from handpick.files import place_folder
from handpick.fingerprint import Fingerprint
from handpick.gradients.check import check_rows
from handpick.gradients.engine import GradientEngine
from handpick.gradients.forward import causal_of
from handpick.gradients.projection import NoProjection
from handpick.layout import TacsPathLayout, step_of
from handpick.model import compute_dtype, device, load_base
from handpick.model.mixing import mixing_of
from handpick.model.recompute import recompute_activations
from handpick.objectives.next_token import mean_loss
from handpick.objectives.protocol import Row, WeightedSequence
from handpick.progress import log, log_once
from handpick.random_streams import generator
from handpick.scorers.gradient_encoder import encode_rows, tokens_per_batch
from handpick.scorers.inputs import model_name
from handpick.scorers.model_scores import mean_losses
from handpick.sealed import write_sealed
from handpick.settings import Settings
from handpick.store import Checkpoint, Manifest
from handpick.training.checkpoint import (
    adapter_tensors,
    load_adapter,
    load_moments,
    save_moments,
    trainable_parameters,
)
from handpick.training.disk import translate_disk_errors
from handpick.training.sealed_checkpoint import seal_checkpoint
from handpick.training.settings import LLAMA_TARGETS, LoraSettings, LoraTargets
from handpick.training.warmup import new_adapter

LORA = LoraSettings(rank=1, alpha=4, dropout=0.1)
FIRST = 1  # the depth of the first endpoint

Advance = Callable[[float], None]


def path_fingerprint(settings: Settings) -> Fingerprint:
    """Return what a path depends on, besides the model, the examples, the rate and the depth."""
    quantized: Fingerprint = {} if settings.quantization == "none" else {"quantization": settings.quantization}
    lora = LORA.model_dump(mode="json") | {"targets": settings.lora_targets or "attention"}
    dtype = str(compute_dtype(settings.dtype)).removeprefix("torch.")
    return {"lora": lora, "seed": settings.seed, "max_length": settings.max_length, "dtype": dtype, **quantized}


class PathModel:
    """A base model, loaded once, with an adapter that begins every path anew and moves along it.

    Args:
        settings: name the model, its precision, the adapter's layers and the seed.
        pad_id: fills batches up.

    Raises:
        ModelError: the model cannot be used, or its gradients with the adapter would not be exact.
    """

    def __init__(self, settings: Settings, pad_id: int) -> None:
        self._settings = settings
        self._pad_id = pad_id
        base = load_base(model_name(settings), compute_dtype(settings.dtype), settings.quantization)
        lora = LORA.model_copy(update={"targets": settings.lora_targets or _attention_layers(base)})
        self.model = new_adapter(base, lora, settings.seed, in_float32=True)
        self.engine = GradientEngine(self.model, recompute=settings.gradient_checkpointing)
        if settings.gradient_checkpointing:
            recompute_activations(self.model)
        self._trained = list(trainable_parameters(self.model).values())
        self._fresh = {name: tensor.detach().clone() for name, tensor in adapter_tensors(self.model).items()}
        self._rows_are_checked = False

    def restart(self) -> None:
        """Put the adapter back to where every path begins."""
        with torch.no_grad():
            for name, tensor in adapter_tensors(self.model).items():
                tensor.copy_(self._fresh[name])

    def move_to(self, checkpoint: Path) -> None:
        """Put the adapter to a checkpoint of a path."""
        load_adapter(self.model, checkpoint)

    def walk(
        self,
        ids: Sequence[str],
        sequences: Sequence[Rendered],
        rate: float,
        depths: Collection[int],
        folder: Path,
        *,
        keep: Collection[int] = (),
        advance: Advance = lambda n: None,
    ) -> Iterator[int]:
        """Train from the beginning, and yield each of some depths while the adapter stands there.

        A path that was killed goes on from the last of these depths that it reached, which is yielded again.

        Args:
            ids: of the queries that the path is for.
            sequences: theirs.
            rate: of learning.
            depths: in passes over the sequences.
            folder: for checkpoints (``TacsPathLayout``): the last, and those to keep.
            keep: depths whose checkpoints stay.
            advance: told how many more examples are learnt, or were before.

        Raises:
            DataError: in the first pass, some query has a gradient that is not finite.
            ModelError: none has one that is.
            StoreError: a checkpoint cannot be written.
        """
        layout = TacsPathLayout(folder)
        optimizer = torch.optim.AdamW(self._trained, lr=rate, weight_decay=0.0)
        done = max(map(step_of, layout.checkpoints()), default=0)
        if done:
            self._resume(layout.checkpoint(done), optimizer)
            advance(done * len(sequences))
            yield done
        else:
            self.restart()
        left_out = 0
        for number in range(done + 1, max(depths) + 1):
            not_finite = self._learn(sequences, optimizer, number, advance)
            if number == 1:
                self._refuse([ids[place] for place in not_finite], len(ids))
            left_out += len(not_finite)
            if number in depths:
                self._keep(layout, number, optimizer, keep)
                yield number
        if left_out:
            log(f"{left_out} steps at the rate {rate:g} had a gradient that is not finite, and were left out")

    def _learn(
        self, sequences: Sequence[Rendered], optimizer: torch.optim.Optimizer, number: int, advance: Advance
    ) -> list[int]:
        """Make one pass, a step an example; return the places of those whose step was left out."""
        stream = generator(self._settings.seed, f"pass {number} of a target's path")
        left_out: list[int] = []
        self.model.train()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(int(stream.integers(1 << 62)))
            for place in stream.permutation(len(sequences)).tolist():
                self._backward(sequences[place])
                norms = [torch.linalg.vector_norm(each.grad) for each in self._trained if each.grad is not None]
                if bool(torch.stack(norms).isfinite().all()):
                    optimizer.step()
                else:
                    left_out.append(place)
                optimizer.zero_grad()
                advance(1)
        return left_out

    def _refuse(self, not_finite: Sequence[str], n_queries: int) -> None:
        """Refuse queries without a finite gradient, in the words for those of any representation."""
        dtype = str(compute_dtype(self._settings.dtype)).removeprefix("torch.")
        like = Manifest(
            space={"representation": "tacs"},
            build={"dtype": dtype},
            dim=1,
            storage="float32",
            checkpoints=[Checkpoint(name="path", weight=1.0)],
            files=[],
            shard_rows=1,
        )
        refuse_queries(like, {query_id: [0] for query_id in not_finite}, n_queries)

    def _backward(self, sequence: Rendered) -> None:
        batch, place = collate([sequence], self._pad_id), device()
        output = self.model(input_ids=batch.input_ids_BT.to(place), labels=batch.labels_BT.to(place), use_cache=False)
        output.loss.backward()

    def _keep(
        self, layout: TacsPathLayout, number: int, optimizer: torch.optim.Optimizer, keep: Collection[int]
    ) -> None:
        """Write a checkpoint, whole or not at all, and remove those before it that are not to stay."""
        shutil.rmtree(layout.part, ignore_errors=True)
        then = "The same command goes on from the last checkpoint"
        with translate_disk_errors(f"a target's path to {layout.folder}", then):
            self.model.save_pretrained(layout.part)  # type: ignore[operator]
            save_moments(layout.part, self.model, optimizer)
            seal_checkpoint(layout.part)
            place_folder(layout.part, layout.checkpoint(number))
        for path in layout.checkpoints():
            if step_of(path) < number and step_of(path) not in keep:
                shutil.rmtree(path)

    def _resume(self, checkpoint: Path, optimizer: torch.optim.Optimizer) -> None:
        self.move_to(checkpoint)
        moments = load_moments(checkpoint, self.model)
        for name, parameter in trainable_parameters(self.model).items():
            steps = moments.own_steps.get(name, moments.step)
            if steps:
                optimizer.state[parameter] = {
                    "step": torch.tensor(float(steps)),
                    "exp_avg": moments.first[name],
                    "exp_avg_sq": moments.second[name],
                }

    def mean_gradients(self, sets: Sequence[Sequence[Rendered]]) -> NDArray[np.float32]:
        """Compute the gradient of the mean loss over each of some sets, (sets, D), where the adapter stands.

        Dropout is off.
        """
        return self._rows(
            [[WeightedSequence(each, 1 / (each.n_labels * len(own))) for each in own] for own in sets],
        )

    def gradients(self, sequences: Sequence[Rendered]) -> NDArray[np.float32]:
        """Compute the gradient of each sequence's mean loss, (S, D), where the adapter stands. Dropout is off."""
        return self._rows([mean_loss(each) for each in sequences])

    def _rows(self, rows: Sequence[Row]) -> NDArray[np.float32]:
        if not self._rows_are_checked:
            check_rows(self.engine)
            self._rows_are_checked = True
        project = NoProjection(self.engine.n_coordinates)
        return encode_rows(self.engine, rows, self._pad_id, project, tokens_per_batch(self._settings))

    def losses(self, sequences: Sequence[Rendered], advance: Advance = lambda n: None) -> NDArray[np.float64]:
        """Compute the mean loss of each sequence's response, (S,), where the adapter stands. Dropout is off."""
        losses_S = np.empty(len(sequences))
        mixing = mixing_of(causal_of(self.model).config)
        lengths = [len(each.input_ids) for each in sequences]
        for members in token_batches(lengths, tokens_per_batch(self._settings), mixing):
            batch = collate([sequences[i] for i in members], self._pad_id)
            losses_S[members] = mean_losses(self.model, batch).numpy()
            advance(len(members))
        return losses_S


def _attention_layers(base: nn.Module) -> LoraTargets:
    """Return the attention's projections by the names that most models have for them, else ``auto``."""
    ends = {name.rpartition(".")[2] for name, _ in base.named_modules()}
    if ends.issuperset(LLAMA_TARGETS):
        # of Llama "auto" is these, without a word
        return "auto" if base.config.model_type == "llama" else LLAMA_TARGETS  # type: ignore[union-attr]
    names = ", ".join(LLAMA_TARGETS)
    log_once(f"{type(base).__name__} has no {names}: the adapter stands on the layers of --lora-targets auto")
    return "auto"


def endpoints(folder: Path, depth: int) -> tuple[Path, Path]:
    """Return where the two checkpoints of a path are that losses are compared at."""
    layout = TacsPathLayout(folder)
    return layout.checkpoint(FIRST), layout.checkpoint(depth)


def is_there(folder: Path, depth: int) -> bool:
    """Return whether a path is trained to its depth."""
    return all(path.exists() for path in endpoints(folder, depth))


def train_path(
    model: PathModel,
    ids: Sequence[str],
    sequences: Sequence[Rendered],
    rate: float,
    depth: int,
    folder: Path,
    made_from: Fingerprint,
    advance: Advance = lambda n: None,
) -> None:
    """Train a path to its depth; its two endpoints stay.

    Args:
        model: that learns.
        ids: of the queries that the path is for.
        sequences: theirs.
        rate: of learning.
        depth: in passes over the sequences.
        folder: of the path, by what it is made from.
        made_from: what it is made from, written beside it.
        advance: told how many more examples are learnt, or were before.

    Raises:
        HandpickError: as ``PathModel.walk``.
    """
    folder.mkdir(parents=True, exist_ok=True)
    write_sealed(TacsPathLayout(folder).record, made_from)
    depths = {FIRST, depth, *(1 << power for power in range((depth - 1).bit_length()))}  # to go on from, if killed
    for _ in model.walk(ids, sequences, rate, depths, folder, keep=(FIRST, depth), advance=advance):
        pass
