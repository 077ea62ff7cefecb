"""One model through the engine, held to an oracle, and through the commands.

The oracle shares nothing with handpick but the adapter's numbers: a fresh model of transformers, every adapted matrix W
replaced by W + scaling · B A, one sequence at a time, the mean cross entropy of its labelled tokens, autograd.
"""

import json
import shutil
import tempfile
import traceback
from collections.abc import Callable, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from handpick import bundled
from handpick.data.render import IGNORED, Rendered
from handpick.errors import HandpickError
from handpick.evaluation.likelihood import log_likelihood
from handpick.model import load_base, load_renderer, load_tokenizer, padding_id
from handpick.objectives.next_token import NextToken
from handpick.sampling.generate import Sampling, sample
from handpick.scorers.gradient_encoder import GradientEncoder
from handpick.scorers.hidden_states import HiddenStates
from handpick.scorers.model_reader import Reader
from handpick.settings.representation import GradientSettings
from handpick.training.settings import LoraSettings
from handpick.training.warmup import new_adapter
from scripts.tiny_architectures import END, N_TOKENS, model_class
from tests.gradients.oracle import relative_error

EXACT = 1e-4  # relative error of a row in float32
LENGTHS = (7, 19, 33, 48, 61, 75)
TOGETHER = 1024  # tokens of a batch that holds them all, padded
TOWERS = ("vision", "visual", "audio", "image", "sam_model", "patch")

Record = dict[str, Any]


class NoOracleError(Exception):
    """There is nothing to hold handpick's rows to."""


def sequences(seed: int = 0) -> list[Rendered]:
    """Return a sequence of each of ``LENGTHS``, of random tokens; the prompt and a later token have no loss."""
    generator = torch.Generator().manual_seed(seed)
    found = []
    for length in LENGTHS:
        ids = torch.randint(5, N_TOKENS, (length,), generator=generator).tolist()
        labels = [token if i >= length // 3 and i != length // 2 else IGNORED for i, token in enumerate(ids)]
        found.append(Rendered(ids, labels, length))
    return found


def save_adapter(name: str, folder: Path) -> list[str]:
    """Write handpick's own adapter of a model, by its default targets, B set to random; return the layers it is on."""
    model = new_adapter(load_base(name, torch.float32), LoraSettings(rank=4, alpha=8), 0, in_float32=True)
    generator = torch.Generator().manual_seed(1)
    for parameter_name, parameter in model.named_parameters():
        if ".lora_B." in parameter_name:
            parameter.data.copy_(torch.randn(parameter.shape, generator=generator) / 20)
    model.save_pretrained(str(folder))  # type: ignore[operator]
    return sorted({_path(n).rpartition(".")[2] for n, p in model.named_parameters() if ".lora_A." in n})


def _path(parameter_name: str) -> str:
    """Return the path of the layer that an adapter's parameter belongs to."""
    return parameter_name.split(".lora_")[0].removeprefix("base_model.model.").replace(".base_layer", "")


def _weight_name(module: Any, path: str) -> str:
    """Return the name of the parameter that an adapted layer changes."""
    return f"{path}.{getattr(module, 'parameter_name', 'weight')}"


def _change(module: Any, a: Tensor, b: Tensor) -> Tensor:
    """Return what an adapter adds to its layer's weight."""
    n = getattr(module, "num_experts", 1)
    if n > 1:  # peft's order of a stack of experts
        a, b = a.reshape(n, -1, a.shape[-1]), b.reshape(b.shape[0], -1, n)
        into = "e o i" if module._did_swap_in_out_features else "e i o"
        delta = torch.einsum(f"o r e, e r i -> {into}", b, a)
    else:
        delta = (b @ a).T if getattr(module, "fan_in_fan_out", False) else b @ a
    return delta * module.scaling["default"]


def counterpart(name: str, names: Sequence[str]) -> str:
    """Return the parameter of the whole model that handpick calls ``name``, which may have loaded its text part alone.

    Raises:
        NoOracleError: there is none, or there are several.
    """
    if name in names:
        return name
    parts = name.split(".")
    for start in range(len(parts)):
        tail = "." + ".".join(parts[start:])
        found = [each for each in names if each.endswith(tail) and not any(tower in each for tower in TOWERS)]
        if len(found) == 1:
            return found[0]
    raise NoOracleError(f"the whole model has no counterpart of {name}")


class Oracle:
    """A fresh model of transformers with the adapter of handpick's.

    Args:
        name: what the model is called here, for its class.
        folder: the model's.
        adapted: handpick's model with its adapter; None: without one.

    Raises:
        NoOracleError: transformers cannot load the model, or it has no such layers.
        ValueError: handpick's model has other weights.
    """

    def __init__(self, name: str, folder: Path, adapted: nn.Module | None = None) -> None:
        try:
            self._model = model_class(name).from_pretrained(folder, dtype=torch.float32).eval()
        except Exception as error:
            raise NoOracleError(f"transformers itself cannot load it: {last_line(error)}") from error
        self._layers: list[tuple[str, Tensor, Any, str, str]] = []
        if adapted is None:
            return
        weights = dict(self._model.named_parameters(remove_duplicate=False))
        modules = dict(adapted.named_modules(remove_duplicate=False))
        own = {n: p for n, p in adapted.named_parameters() if p.requires_grad and ".lora_" in n}
        # in the order of the engine's coordinates
        self._leaves = {n: own[n].detach().clone().requires_grad_() for n in sorted(own, key=self._canonical)}
        for a in (n for n in self._leaves if ".lora_A." in n):
            module: Any = modules[a.split(".lora_A")[0]]
            here = _weight_name(module, _path(a))
            there = counterpart(here, list(weights))
            base = module.get_base_layer() if hasattr(module, "get_base_layer") else module
            if not torch.equal(weights[there].data, getattr(base, getattr(module, "parameter_name", "weight")).data):
                raise ValueError(f"the weights of {here} are not what the checkpoint has in {there}")
            self._layers.append((there, weights[there].data, module, a, a.replace(".lora_A.", ".lora_B.")))

    @staticmethod
    def _canonical(parameter_name: str) -> str:
        return parameter_name.replace(".default.weight", ".weight")

    def logits(self, ids: list[int]) -> Tensor:
        """Compute the logits (T, V) of a sequence alone."""
        changed: dict[str, Tensor] = {}
        for there, weight, module, a, b in self._layers:
            changed[there] = changed.get(there, weight) + _change(module, self._leaves[a], self._leaves[b])
        inputs = {"input_ids": torch.tensor([ids]), "use_cache": False}
        output = torch.func.functional_call(self._model, changed, (), inputs, tie_weights=False)
        logits_TV: Tensor = output.logits[0]
        return logits_TV

    def row(self, sequence: Rendered) -> Tensor:
        """Compute the gradient of a sequence's mean loss, (D,)."""
        leaves = list(self._leaves.values())
        found = torch.autograd.grad(self._loss(sequence, "mean"), leaves, allow_unused=True)
        return torch.cat(
            [(leaf * 0 if grad is None else grad).flatten().detach() for leaf, grad in zip(leaves, found, strict=True)]
        )

    def log_likelihood(self, sequence: Rendered) -> float:
        """Compute the log-likelihood of a sequence's labelled tokens."""
        with torch.no_grad():
            return -float(self._loss(sequence, "sum"))

    def _loss(self, sequence: Rendered, reduction: str) -> Tensor:
        labels_T = torch.tensor(sequence.labels)
        logits_TV = self.logits(sequence.input_ids)
        return nn.functional.cross_entropy(logits_TV[:-1], labels_T[1:], ignore_index=IGNORED, reduction=reduction)

    def answer(self, prompt: list[int], n: int, ends: Sequence[int]) -> list[int]:
        """Return the likeliest next token, ``n`` times, without a cache."""
        ids = list(prompt)
        for _ in range(n):
            with torch.no_grad():
                ids.append(int(self.logits(ids)[-1].argmax()))
            if ids[-1] in ends:
                break
        return ids[len(prompt) :]


def outcome(work: Callable[[], Any]) -> Record:
    """Do something and return what it found, or in which sentence it refused, or where it broke."""
    try:
        return {"is": "ok", "found": work()}
    except HandpickError as error:
        return {"is": "refused", "said": str(error)}
    except NoOracleError as error:
        return {"is": "unchecked", "said": str(error)}
    except Exception as error:
        return {"is": "TRACEBACK", "said": last_line(error)}


def last_line(error: BaseException) -> str:
    """Return what an exception says, and the last line here that it came through."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if "site-packages" not in frame.filename]
    where = f" ({'/'.join(Path(frames[-1].filename).parts[-2:])}:{frames[-1].lineno})" if frames else ""
    first = (str(error).strip().splitlines() or [""])[0]
    return f"{type(error).__name__}: {first[:200]}{where}"


def try_engine(name: str, folder: Path) -> Record:
    """Hold what handpick computes on a model to the oracle: rows; losses, states and answers of the model itself.

    Rows, by default targets, are held in one batch and each alone; the others in one batch. What is found is the
    largest relative error; of answers the share that is another.
    """
    with tempfile.TemporaryDirectory() as scratch:
        adapter = Path(scratch)
        result = {"adapter": outcome(lambda: save_adapter(str(folder), adapter))}
        if result["adapter"]["is"] == "ok":
            result["rows"] = outcome(lambda: rows(name, folder, adapter))
    return result | try_model(name, folder)


def rows(name: str, folder: Path, adapter: Path) -> Record:
    """Return the errors of gradient rows, in one batch and each alone, without a projection."""
    settings = GradientSettings(model=str(folder), projection="none", dtype="float32", batch_tokens=TOGETHER)
    encoder = GradientEncoder(settings, [adapter], load_tokenizer(str(folder)))
    objective = NextToken(None, 0)  # type: ignore[arg-type]  # the renderer is for records, and these are rendered
    together_NK = encoder.encode(0, "sgd", objective, sequences())
    alone_NK = np.concatenate([encoder.encode(0, "sgd", objective, [sequence]) for sequence in sequences()])
    oracle = Oracle(name, folder, encoder._model)
    want_NK = torch.stack([oracle.row(sequence) for sequence in sequences()])
    errors = [relative_error(torch.from_numpy(got_NK), want_NK) for got_NK in (together_NK, alone_NK)]
    return {"together": errors[0], "alone": errors[1]}


def try_model(name: str, folder: Path) -> Record:
    """Return the errors of losses, of hidden states and of greedy answers, in batches, without an adapter."""
    held: dict[str, Any] = {}

    def load() -> None:
        held["readers"] = [
            Reader(str(folder), load_renderer(str(folder)), max(LENGTHS), "float32", "none", batch_tokens)
            for batch_tokens in (TOGETHER, 1)
        ]
        held["model"] = held["readers"][0].model
        held["oracle"] = Oracle(name, folder)

    loaded = outcome(load)
    if loaded["is"] != "ok":
        return {"losses": loaded, "states": loaded, "answers": loaded}
    model, oracle = held["model"], held["oracle"]
    tokenizer = load_tokenizer(str(folder))
    pad_id = padding_id(tokenizer)

    def losses() -> float:
        want_N = torch.tensor([oracle.log_likelihood(sequence) for sequence in sequences()], dtype=torch.float64)
        got_N = torch.from_numpy(log_likelihood(model, sequences(), pad_id=pad_id, batch_tokens=TOGETHER).sum_S)
        return float(((got_N - want_N) / want_N).abs().max())

    def states() -> float:
        together_NH, alone_NH = (HiddenStates(reader).encode(sequences()) for reader in held["readers"])
        return relative_error(torch.from_numpy(together_NH), torch.from_numpy(alone_NH))

    def answers() -> float:
        prompts, ends = [sequence.input_ids[:-5] for sequence in sequences()], [END]
        sampling = Sampling(samples=1, temperature=0, max_new_tokens=3)
        got: dict[int, list[int]] = {}
        for group in sample(model, tokenizer, prompts, sampling, seed=0, pad_id=pad_id, ends=ends):
            got |= {i: answer[0].ids for i, answer in zip(group.prompts, group.samples, strict=True)}
        return sum(got[i] != oracle.answer(prompt, 3, ends) for i, prompt in enumerate(prompts)) / len(prompts)

    return {"losses": outcome(losses), "states": outcome(states), "answers": outcome(answers)}


def write_data(folder: Path) -> None:
    """Write a small pool, queries and a task into a folder."""
    import gzip

    def records(path: Path, n: int, longest: int) -> list[Record]:
        with gzip.open(path, "rt", encoding="utf-8") as lines:
            short = (r for r in map(json.loads, lines) if sum(len(m["content"]) for m in r["messages"]) < longest)
            return list(islice(short, n))

    parts = {
        "pool": records(bundled.pool_paths()[0], 24, 200),
        "query": records(bundled.target_path("boolq"), 4, 400),
        "task": records(bundled.target_path("boolq"), 3, 400),
    }
    for part, found in parts.items():
        (folder / f"{part}.jsonl").write_text("".join(json.dumps(record) + "\n" for record in found))


def commands(folder: Path, data: Path, out: Path) -> dict[str, list[str]]:
    """Return the arguments of each command."""
    model = ["--model", str(folder)]
    pool = ["--pool", str(data / "pool.jsonl"), "--max-length", "96"]
    select = [*pool, *model, "--query", str(data / "query.jsonl"), "--budget", "6"]
    task = [*model, "--target", str(data / "task.jsonl")]
    return {
        "doctor": ["doctor", *pool, *model],
        "plan": ["plan", "select", *select, "--out", str(out / "plan"), "--probe", "1"],
        "select": ["select", *select, "--out", str(out / "select")],
        "rds+": ["select", *select, "--out", str(out / "rds"), "--method", "rds+"],
        "loss": ["evaluate", *task, "--metric", "loss", "--out", str(out / "loss")],
        "choice": ["evaluate", *task, "--metric", "choice", "--max-new-tokens", "4", "--out", str(out / "choice")],
    }


def run_command(arguments: list[str]) -> Record:
    """Run a command in this process, and return how it ended."""
    from typer.testing import CliRunner

    from handpick.cli import app

    shown = CliRunner().invoke(app, arguments)
    lines = [line for line in shown.stderr.splitlines() if line.startswith("handpick: ")]
    if shown.exception is not None and not isinstance(shown.exception, SystemExit):
        return {"is": "TRACEBACK", "said": last_line(shown.exception)}
    if shown.exit_code == 0:
        return {"is": "ok"}
    if shown.exit_code == 2 and lines:
        return {"is": "refused", "said": lines[-1].removeprefix("handpick: ")}
    failed = [line for line in shown.stdout.splitlines() if line.startswith("FAIL")]
    return {"is": "FAIL" if failed else "TRACEBACK", "said": "; ".join(failed) or shown.output[-300:]}


def try_commands(folder: Path) -> Record:
    """Run every command on a model's folder."""
    scratch = Path(tempfile.mkdtemp())
    try:
        write_data(scratch)
        return {name: run_command(arguments) for name, arguments in commands(folder, scratch, scratch / "out").items()}
    finally:
        shutil.rmtree(scratch)
