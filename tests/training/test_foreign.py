"""Checkpoints of people's trainers: what is read of them is what was in memory, or a sentence says why not.

The whole table is made by ``scripts/checkpoint_table.py``.
"""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from handpick.errors import ModelError
from handpick.finetuning.finetune import load_finetuned
from handpick.gradients.adam import AdamPreconditioner
from handpick.training.checkpoint import (
    check_checkpoint,
    check_moments,
    load_adapter,
    load_moments,
    moments_file,
    save_moments,
    trainable_parameters,
)
from handpick.training.moments import _bitsandbytes, moments_of
from handpick.training.optimizer_state import SavedOptimizer
from handpick.training.warmup import load_trainable
from tests.training.foreign import (
    ADAPTERS,
    HANDED_OVER,
    Run,
    adapted,
    installed,
    moments_error,
    plain,
    rows_error,
    trained,
    weights_of,
)
from tests.training.foreign_trainers import fsdp2


@pytest.mark.parametrize(
    "name",
    [
        "rank and alpha patterns", "PiSSA", "bias=lora_only", "modules_to_save: both embeddings",
        "trained token rows",
    ],
)  # fmt: skip
def test_an_adapter_is_the_model_that_was_trained(name: str, tmp_path: Path) -> None:
    run = trained(adapted(**ADAPTERS[name]), tmp_path)
    assert moments_error(run) == 0
    assert rows_error(run) < 5e-6


def test_a_later_checkpoint_brings_all_that_was_trained(tmp_path: Path) -> None:
    """Whole layers and rows of tokens, too, move from checkpoint to checkpoint."""
    run = trained(adapted(modules_to_save=["lm_head"], bias="lora_only"), tmp_path)
    model = load_trainable(plain(), [tmp_path / "checkpoint-4", run.checkpoint]).eval()
    ids = torch.arange(3, 20)[None]
    want = run.model.eval()(input_ids=ids).logits
    assert not torch.allclose(model(input_ids=ids).logits, want, atol=1e-3)
    load_adapter(model, run.checkpoint)
    torch.testing.assert_close(model(input_ids=ids).logits, want)
    torch.testing.assert_close(_finetuned(run, tmp_path)(input_ids=ids).logits, want)


def _finetuned(run: Run, folder: Path) -> nn.Module:
    base = folder / "base"
    plain().save_pretrained(base)  # type: ignore[operator]
    return load_finetuned(run.checkpoint, base=str(base))


@pytest.mark.parametrize("name", ["DoRA", "lora_bias", "LoRA on the embedding", "LoRA on the head"])
def test_an_adapter_without_exact_rows_is_refused(name: str, tmp_path: Path) -> None:
    run = Run(tmp_path, adapted(**ADAPTERS[name]), {}, {})
    run.model.save_pretrained(tmp_path)  # type: ignore[operator]
    with pytest.raises(ModelError, match=r"DoRA|trainable bias|embedding is not supported|adapter stands on it"):
        rows_error(run)


@pytest.mark.parametrize("begun", ["pissa_niter_4", "corda", "loftq", "lora_ga"])
def test_an_adapter_on_a_base_that_cannot_be_repeated_is_refused(begun: str, tmp_path: Path) -> None:
    adapted().save_pretrained(tmp_path)  # type: ignore[operator]
    config = json.loads((tmp_path / "adapter_config.json").read_text())
    (tmp_path / "adapter_config.json").write_text(json.dumps(config | {"init_lora_weights": begun}))
    with pytest.raises(ModelError, match=f"init_lora_weights='{begun}'.*cannot be repeated"):
        check_checkpoint(tmp_path)


@pytest.mark.parametrize(
    "name",
    [
        "AdamW of torch, parameters reversed, with names", "LoRA+ of peft", "LoRA+ of LLaMA-Factory",
        "Adam of torch, no weight decay",
    ],
)  # fmt: skip
def test_moments_by_name(name: str, tmp_path: Path) -> None:
    model = adapted()
    run = trained(model, tmp_path, HANDED_OVER[name](model))
    assert len(run.first) == 16
    assert moments_error(run) == 0


# optimizer → what the sentence says of it
REFUSED = {
    "AdamW of torch, parameters reversed, without names": "which is which cannot be known; give its param_groups",
    "AdamW of torch, betas differ between groups": "different betas or eps",
    "AdamW of torch, amsgrad": "AMSGrad",
    "AdamW of torch, maximize": "maximizes",
    "Adam of torch, weight decay in the gradient": "L2",
    "NAdam of torch": "NAdam",
    "RAdam of torch": "RAdam",
    "Adamax of torch": "Adamax",
    "RMSprop of torch": "RMSprop",
    "SGD of torch, momentum": "SGD",
    "Adafactor of torch": "Adafactor",
    "Muon of torch": "Muon",
}


@pytest.mark.parametrize("name", REFUSED)
def test_another_optimizer_is_refused_by_name(name: str, tmp_path: Path) -> None:
    """Saved as torch saves it, after a step; the Trainer saves nothing else."""
    run = saved_after_steps(adapted(), HANDED_OVER[name], tmp_path)
    with pytest.raises(ModelError, match=f"{REFUSED[name]}.*sgd"):
        moments_error(run)


def saved_after_steps(
    model: nn.Module, make: Callable[[nn.Module], torch.optim.Optimizer], out: Path, n_steps: int = 2
) -> Run:
    """A checkpoint without a trainer: some steps of random gradients."""
    optimizer = make(model)
    generator = torch.Generator().manual_seed(0)
    for _ in range(n_steps):
        for _, weight in weights_of(model):
            weight.grad = torch.randn(weight.shape, generator=generator)
        optimizer.step()
    model.save_pretrained(out)  # type: ignore[operator]
    torch.save(optimizer.state_dict(), out / "optimizer.pt")
    live = {name: optimizer.state[p] for name, p in trainable_parameters(model).items() if p in optimizer.state}
    first, second = ({n: s[key].clone() for n, s in live.items() if key in s} for key in ("exp_avg", "exp_avg_sq"))
    return Run(out, model, first, second)


def trainers_groups(model: nn.Module, **settings: Any) -> torch.optim.Optimizer:
    weights = [weight for _, weight in weights_of(model)]
    return torch.optim.AdamW([{"params": weights}, {"params": [], "weight_decay": 0.0}], lr=1e-2, **settings)


def test_an_optimizer_of_unlike_shapes_needs_no_names(tmp_path: Path) -> None:
    def backwards(model: nn.Module) -> torch.optim.Optimizer:
        return torch.optim.AdamW([weight for _, weight in weights_of(model)[::-1]], lr=1e-2)

    model = adapted(layers_to_transform=[0], target_modules=["down_proj"])  # A is (4, 48), B is (64, 4)
    run = saved_after_steps(model, backwards, tmp_path)
    assert len(run.first) == 2
    assert moments_error(run) == 0


def test_names_of_a_wrapped_model(tmp_path: Path) -> None:
    def wrapped(model: nn.Module) -> torch.optim.Optimizer:
        return torch.optim.AdamW([(f"module._orig_mod.{name}", p) for name, p in weights_of(model)[::-1]], lr=1e-2)

    assert moments_error(saved_after_steps(adapted(), wrapped, tmp_path)) == 0


def test_names_of_another_model_are_refused(tmp_path: Path) -> None:
    def foreign(model: nn.Module) -> torch.optim.Optimizer:
        return torch.optim.AdamW([(f"transformer.{name}", p) for name, p in weights_of(model)], lr=1e-2)

    run = saved_after_steps(adapted(), foreign, tmp_path)
    with pytest.raises(ModelError, match=r"no state for base_model.*such as transformer\.base_model"):
        moments_error(run)


def test_a_rate_of_its_own_scales_the_row(tmp_path: Path) -> None:
    """What LoRA+ does to B is 16 times what it does to A, at the same moments."""
    run = saved_after_steps(adapted(), HANDED_OVER["LoRA+ of peft"], tmp_path)
    moments = load_moments(run.checkpoint, load_trainable(plain(), [run.checkpoint]))
    assert set(moments.rates.values()) == {16.0}
    a, b = (next(name for name in moments.first if f".lora_{kind}." in name) for kind in "AB")
    assert b in moments.rates
    assert a not in moments.rates
    for eps_mode in ("less", "adam"):
        for name, factor in ((a, 1), (b, 16)):
            grad_BP = torch.randn(3, moments.first[name].numel(), generator=torch.Generator().manual_seed(1))
            got = AdamPreconditioner(moments, eps_mode)(name, grad_BP.clone())  # type: ignore[arg-type]
            moment, square = moments.first[name].flatten(), moments.second[name].flatten()
            step, root = 0.9 * moment + 0.1 * grad_BP, 0.999 * square + 0.001 * grad_BP**2
            want = step / (root + 1e-8).sqrt()
            if eps_mode == "adam":
                want = (step / (1 - 0.9**3)) / ((root / (1 - 0.999**3)).sqrt() + 1e-8)
            torch.testing.assert_close(got, factor * want, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("ours", [True, False])
def test_a_parameter_that_never_had_a_gradient_has_moments_of_zero(ours: bool, tmp_path: Path) -> None:
    """Its first step would be its own first, also in torch's own step."""
    model = adapted()
    optimizer = trainers_groups(model)
    weights = weights_of(model)
    for _ in range(3):
        for _, weight in weights[1:]:
            weight.grad = torch.ones_like(weight)
        optimizer.step()
    model.save_pretrained(tmp_path)  # type: ignore[operator]
    if ours:
        save_moments(tmp_path, model, optimizer)
    else:
        torch.save(optimizer.state_dict(), tmp_path / "optimizer.pt")
    alone = load_trainable(plain(), [tmp_path])
    for parameter in alone.parameters():  # every B but one is zero here, A is not to be left out
        parameter.requires_grad_(False)
    for name, parameter in alone.named_parameters():
        parameter.requires_grad_(".lora_" in name)
    check_moments(tmp_path, alone)
    moments = load_moments(tmp_path, alone)
    name = next(iter(trainable_parameters(alone)))
    assert moments.step == 3
    assert moments.own_steps == {name: 0}
    assert not moments.first[name].any()
    assert not moments.second[name].any()
    grad_BP = torch.randn(2, moments.first[name].numel(), generator=torch.Generator().manual_seed(0))
    got = AdamPreconditioner(moments, "adam")(name, grad_BP.clone())
    torch.testing.assert_close(got, grad_BP / (grad_BP.abs() + 1e-8))


def test_moments_of_a_file_that_was_written_before_are_the_same(tmp_path: Path) -> None:
    """Where every parameter had every step, our own file says nothing of single ones."""
    from safetensors import safe_open

    model = adapted()
    optimizer = trainers_groups(model)
    for _, weight in weights_of(model):
        weight.grad = torch.ones_like(weight)
    optimizer.step()
    save_moments(tmp_path, model, optimizer)
    with safe_open(tmp_path / "adam_moments.safetensors", "pt") as file:
        assert json.loads(file.metadata()["adam"]) == {"step": 1, "beta1": 0.9, "beta2": 0.999, "eps": 1e-8}


@pytest.mark.parametrize("shape", [(64, 64), (3, 2731)])
@pytest.mark.parametrize("block", [256, 2048])
def test_bitsandbytes_blocks(shape: tuple[int, int], block: int) -> None:
    """A number of 8 bits is its place in a table times the largest of its block, of which the last is short."""
    generator = torch.Generator().manual_seed(0)
    n = shape[0] * shape[1]
    codes = torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8)
    table, largest = torch.randn(256, generator=generator), torch.rand(-(-n // block), generator=generator)
    state = {
        f"{key}{i}": value for i in (1, 2) for key, value in (("state", codes), ("qmap", table), ("absmax", largest))
    }
    want = [table[int(code)] * largest[i // block] for i, code in enumerate(codes.flatten())]
    for got in _bitsandbytes(state):
        torch.testing.assert_close(got, torch.stack(want).view(shape), rtol=0, atol=0)


@pytest.mark.skipif(not installed("bitsandbytes"), reason="bitsandbytes is not installed")
@pytest.mark.parametrize("optim", ["paged_adamw_8bit", "ademamix_8bit"])
def test_eight_bits_of_bitsandbytes(optim: str, tmp_path: Path) -> None:
    run = trained(adapted(64), tmp_path, optim=optim)
    if optim == "ademamix_8bit":
        with pytest.raises(ModelError, match="AdEMAMix"):
            moments_error(run)
        return
    assert moments_error(run) == 0
    saved = torch.load(run.checkpoint / "optimizer.pt", weights_only=True)
    assert "__bnb_optimizer_quant_state__" in saved["state"][0], "the state is in 8 bits"


def test_eight_and_four_bits_of_torchao(tmp_path: Path) -> None:
    pytest.importorskip("torchao", reason="torchao is not installed")
    assert moments_error(trained(adapted(64), tmp_path / "8", optim="adamw_torch_8bit")) == 0
    with pytest.raises(ModelError, match="4 bits"):
        moments_error(trained(adapted(64), tmp_path / "4", optim="adamw_torch_4bit"))


def test_schedule_free(tmp_path: Path) -> None:
    pytest.importorskip("schedulefree", reason="schedulefree is not installed")
    with pytest.raises(ModelError, match="schedule-free"):
        moments_error(trained(adapted(), tmp_path, optim="schedule_free_adamw"))


def test_the_state_of_a_schedule_free_adam_by_its_keys() -> None:
    weight = torch.ones(2, 2)
    group = {"params": [0], "lr": 0.0, "betas": (0.9, 0.999), "eps": 1e-8, "weight_decay": 0.0}
    saved = SavedOptimizer(Path("optimizer.pt"), {0: {"z": weight, "exp_avg_sq": weight}}, [group])
    with pytest.raises(ModelError, match="schedule-free optimizer, which keeps no first moment"):
        moments_of(saved, {"a": weight.shape}, {"a": weight.shape})


def test_fsdps_whole_state_is_read_by_its_names(tmp_path: Path) -> None:
    run = fsdp2(tmp_path / "run", whole=True)
    assert moments_file(run.checkpoint).name == "optimizer.bin"
    assert len(run.first) == 16
    assert moments_error(run) == 0


# what is in the folder in place of a checkpoint → what the message says
FOLDERS: dict[str, tuple[list[str], str]] = {
    "a run": (
        ["checkpoint-4/adapter_config.json", "checkpoint-16/adapter_config.json"],
        r"a run with 2 checkpoints; name them, such as \S+checkpoint-4 \S+checkpoint-16",
    ),
    "DeepSpeed's shards": (["global_step8/zero_pp_rank_0_mp_rank_00_optim_states.pt"], "DeepSpeed's shards alone"),
    "FSDP's shards": (["pytorch_model_fsdp_0/.metadata"], "FSDP's shards of the model"),
    "a whole model": (["model.safetensors", "config.json"], "a whole model and no adapter_config.json"),
    "nothing": ([], "it has no adapter_config.json"),
}


@pytest.mark.parametrize("what", FOLDERS)
def test_a_folder_that_is_no_checkpoint_is_told_what_it_is(what: str, tmp_path: Path) -> None:
    files, says = FOLDERS[what]
    _touch(tmp_path, files)
    with pytest.raises(ModelError, match=says):
        check_checkpoint(tmp_path)


# what is there in place of an optimizer's state → what the message says
NO_STATE: dict[str, tuple[list[str], str]] = {
    "DeepSpeed's shards": (["global_step8/x_optim_states.pt"], r"DeepSpeed keeps it in pieces \(global_step8\)"),
    "FSDP's shards": (["optimizer_0/__0_0.distcp"], r"FSDP keeps it in pieces \(optimizer_0\)"),
    "a run": (["checkpoint-4/optimizer.pt", "checkpoint-16/optimizer.pt"], r"name them, such as \S+checkpoint-16;"),
}


@pytest.mark.parametrize("what", NO_STATE)
def test_a_state_in_pieces_is_told_what_it_is(what: str, tmp_path: Path) -> None:
    files, says = NO_STATE[what]
    _touch(tmp_path, files)
    with pytest.raises(ModelError, match=f"no optimizer state.*{says}.*optimizer=sgd"):
        check_moments(tmp_path)


def _touch(folder: Path, files: list[str]) -> None:
    for name in files:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


def test_the_header_tells_that_moments_are_others(tmp_path: Path) -> None:
    """Before any weight is read: of another adapter, in the file of a trainer and in ours."""
    saved_after_steps(adapted(rank=8), trainers_groups, tmp_path / "other")
    run = saved_after_steps(adapted(), trainers_groups, tmp_path / "run")
    model = load_trainable(plain(), [run.checkpoint])
    check_moments(run.checkpoint, model)
    shutil.copy(tmp_path / "other" / "optimizer.pt", run.checkpoint)
    with pytest.raises(ModelError, match="belongs to another adapter"):
        check_moments(run.checkpoint, model)
