"""A frozen base model that no device holds: each of several processes (ranks) keeps a piece of every layer.

PyTorch's FSDP2 (``torch.distributed.fsdp.fully_shard``) cuts the weights of the decoder's layers, and puts a layer
together on every rank while that is computed, forwards and backwards. What lies outside the layers (embedding, head,
last norm) and the adapter, which is attached afterwards, is whole on every rank. Nothing is added up across ranks, so a
row is bit for bit what it is of a model in one piece; each rank makes rows of its own records.

A pass needs all ranks. Each says before one of its own that it has one; who has none left makes a pass over two tokens
with the others, until nobody has any (``PassesInStep``).
"""

import os
import platform
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import DeviceMesh

from handpick.errors import HandpickError, ModelError, SettingsError, WorkerError, first_line, is_refused
from handpick.model import check_loaded, device, load_frozen
from handpick.model.in_memory import held_model

WHOLE_LAYERS = 3  # that FSDP2 holds at a time, at most
_MEETING_PLACE = ("MASTER_ADDR", "MASTER_PORT")
_PATIENCE = timedelta(days=7)  # with the other ranks: the first may read a pool for hours, and a launcher ends all


@contextmanager
def joined_ranks(number: int, world: int) -> Iterator[None]:
    """Be one of so many ranks while open.

    Raises:
        SettingsError: the launcher does not say where they meet.
        WorkerError: they do not all come.
    """
    if missing := [name for name in _MEETING_PLACE if name not in os.environ]:
        raise SettingsError(
            f"--shard-model: {' and '.join(missing)} are not set, which say where ranks meet: start them by torchrun"
        )
    backend = "cpu:gloo,cuda:nccl" if device().type == "cuda" else "gloo"
    try:
        dist.init_process_group(backend, rank=number, world_size=world, timeout=_PATIENCE)
    except (RuntimeError, ValueError) as error:
        raise WorkerError(f"rank {number} of {world} does not find the others: {first_line(error)}") from error
    yield
    dist.destroy_process_group()  # after an error the others are not there to do it with


def any_rank(flag: bool) -> bool:
    """Return whether any rank says yes; all of them wait for each other.

    Raises:
        WorkerError: one of them has ended.
    """
    said = torch.tensor([int(flag)])  # on the CPU: a GPU is not waited for
    try:
        dist.all_reduce(said, dist.ReduceOp.MAX)
    except RuntimeError as error:
        raise _rank_is_gone() from error
    return bool(said.item())


@contextmanager
def explained_rank_errors() -> Iterator[None]:
    """Say in a sentence where a rank has ended while this one was in a pass with it.

    Raises:
        WorkerError: so it is.
    """
    try:
        yield
    except Exception as error:  # a check of the model says of any error that the model cannot be used
        if _is_of_ranks(error) or _is_of_ranks(error.__cause__):
            raise _rank_is_gone() from error
        raise


def _is_of_ranks(error: BaseException | None) -> bool:
    return isinstance(error, dist.DistError) or (isinstance(error, RuntimeError) and "gloo" in str(error))


def _rank_is_gone() -> WorkerError:
    return WorkerError(
        "another rank has ended, and a model in pieces needs all of them: its own message says why; the same command "
        "goes on from what is written"
    )


class PassesInStep:
    """Sees to it that all ranks make as many passes.

    Args:
        model: whose every forward pass is announced.
    """

    def __init__(self, model: nn.Module) -> None:
        self._keeps_company = False
        model.register_forward_pre_hook(self._announce, prepend=True)

    def _announce(self, module: nn.Module, inputs: Any) -> None:
        if not self._keeps_company:
            any_rank(True)

    def keep_company(self, make_pass: Callable[[], object]) -> None:
        """Make passes with the others until no rank has one of its own.

        Args:
            make_pass: goes forwards and backwards through the model once.

        Raises:
            WorkerError: one of them has ended.
        """
        while any_rank(False):
            self._keeps_company = True
            try:
                make_pass()
            finally:
                self._keeps_company = False


def load_sharded(name: str, dtype: torch.dtype) -> tuple[nn.Module, PassesInStep]:
    """Load this rank's piece of a base model, frozen, as ``model.load_base`` does the whole of it.

    The ranks of one machine load one after the other, since each reads the whole model into that machine's memory.

    Raises:
        ModelError: as ``load_base``, or it cannot be kept in pieces.
        WorkerError: another rank has ended.
    """
    if held_model(name) is not None:
        raise ModelError("a model that was handed over in Python is not kept in pieces: save it and name its folder")
    hosts: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(hosts, platform.node())
    number = dist.get_rank()
    turn = hosts[:number].count(hosts[number])
    for now in range(max(map(hosts.count, hosts))):
        if now == turn:
            model = load_frozen(name, dtype)
            shard(model, device())
        any_rank(False)
    passes = PassesInStep(model)
    # Every rank tries it: what one of them has found out before (model/tried.py) the others may not know.
    check_loaded(model, name)
    return model, passes


def shard(model: nn.Module, place: torch.device) -> None:
    """Keep this rank's piece of a model's layers, on a device, and the rest of it whole.

    Args:
        model: frozen, on the CPU.
        place: the device.

    Raises:
        ModelError: it cannot be kept in pieces.
    """
    from torch.distributed.fsdp import fully_shard

    kind = type(model).__name__
    blocks = largest_blocks(model)
    _refuse_shared(model, blocks, kind)
    inside = {id(parameter) for block in blocks for parameter in block.parameters()}
    ranks = dist.group.WORLD
    if ranks is None:
        raise WorkerError("a model is kept in pieces by ranks, and this process is none")
    mesh = DeviceMesh.from_group(ranks, place.type)
    outside = {parameter for parameter in model.parameters() if id(parameter) not in inside}
    try:
        for parameter in outside:
            parameter.data = parameter.data.to(place)
        for block in blocks:
            fully_shard(block, mesh=mesh, reshard_after_forward=True)
        fully_shard(model, mesh=mesh, ignored_params=outside)  # which fetches a layer while another is computed
    except HandpickError:
        raise
    except Exception as error:  # of any kind: it is torch's own affair what it cannot cut
        if is_refused(error):
            raise
        raise ModelError(f"{kind} cannot be kept in pieces: {first_line(error)}") from error


def largest_blocks(model: nn.Module) -> list[nn.Module]:
    """Return the decoder's layers: the list of modules that holds the most parameters.

    Raises:
        ModelError: there is none.
    """
    lists = [module for module in model.modules() if isinstance(module, nn.ModuleList)]
    largest = max(lists, key=_n_parameters, default=None)  # of equals the outermost
    if largest is None or not _n_parameters(largest):
        raise ModelError(f"{type(model).__name__} has no list of layers, so it cannot be kept in pieces")
    return list(largest)


def _refuse_shared(model: nn.Module, blocks: list[nn.Module], kind: str) -> None:
    block_of: dict[int, int] = {}
    for place, block in enumerate(blocks):
        for name, parameter in block.named_parameters():
            if block_of.setdefault(id(parameter), place) != place:
                raise ModelError(
                    f"{kind} cannot be kept in pieces: its layers {block_of[id(parameter)]} and {place} share {name}"
                )
    within = {id(module) for block in blocks for module in block.modules()}
    for module_name, module in model.named_modules():
        if id(module) not in within:
            for name, parameter in module.named_parameters(recurse=False):
                if id(parameter) in block_of:
                    raise ModelError(
                        f"{kind} cannot be kept in pieces: {module_name}.{name} is shared with its layer "
                        f"{block_of[id(parameter)]}"
                    )


@dataclass(frozen=True, slots=True)
class PieceBytes:
    """Bytes of a model's weights: outside the layers, which every rank has; in all layers; in the largest of them."""

    outside: int
    inside: int
    largest: int

    @classmethod
    def of(cls, model: nn.Module, dtype: torch.dtype) -> "PieceBytes":
        """Count those of a model, which may have no weights yet, as they are in one type.

        Raises:
            ModelError: as ``largest_blocks``.
        """
        each = [_n_parameters(block) * dtype.itemsize for block in largest_blocks(model)]
        return cls(_n_parameters(model) * dtype.itemsize - sum(each), sum(each), max(each))

    def bytes_per_rank(self, world: int) -> int:
        """Return the bytes that each of so many ranks holds: its piece, and up to three whole layers.

        One is computed, the next is on its way, and is copied to its place when it has come.
        """
        return self.outside + -(-self.inside // world) + WHOLE_LAYERS * self.largest


def _n_parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())
