"""Which layers of a model carry the adapter: those that a text passes and whose gradient is exact, or those named.

Llama has q, k, v and o by default. Of every other model ``auto`` is peft's "all-linear" where all of that works, and
else the linear layers of the text part by their full names, without experts and what shares tokens out among them.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from torch import nn

from handpick.errors import ModelError
from handpick.training.layer_use import (
    NO_GRADIENT,
    OF_HEAD,
    UNUSED,
    LayerUse,
    Use,
    look_at_layers,
    takes_all_linear,
)
from handpick.training.settings import EXPERTS, LLAMA_TARGETS, LoraTargets

_SHOWN = 8  # names in a line


@dataclass(frozen=True, slots=True)
class AdapterTargets:
    """What peft is told: layers, layers to keep out although a name's end fits them, bare parameters.

    ``said`` is a line for whoever watches; None where there is nothing to say.
    """

    modules: list[str] | str
    parameters: list[str] = field(default_factory=list)
    excluded: list[str] = field(default_factory=list)
    said: str | None = None


def choose_targets(base: nn.Module, targets: LoraTargets, *, per_example: bool = True) -> AdapterTargets:
    """Choose the layers of a frozen model that an adapter stands on.

    Args:
        base: the model, without an adapter.
        targets: ``auto``, ``all-linear``, or names: whole components at the end of a layer's path, or ``experts``.
        per_example: whether gradients of single examples are to be taken, which not every layer has.

    Raises:
        ModelError: a name is no layer's, or only that of layers that an adapter would be useless on; the message
            says why. Or the model cannot read a text.
    """
    if targets == "auto" and base.config.model_type == "llama":  # type: ignore[union-attr]
        return AdapterTargets(list(LLAMA_TARGETS))
    use = look_at_layers(base, per_example=per_example)
    against = {layer.name: reason for layer in use.layers if (reason := _reason(layer, per_example))}
    if isinstance(targets, str):
        return _all_that_work(base, use, against, is_default=targets == "auto")
    return _match_names(base, use, against, list(dict.fromkeys(targets)))


def _reason(layer: LayerUse, per_example: bool) -> str | None:
    return layer.untrainable or (layer.inexact if per_example else None)


def _all_that_work(base: nn.Module, use: Use, against: dict[str, str], *, is_default: bool) -> AdapterTargets:
    """Choose peft's "all-linear" where nothing speaks against it, else those linear layers that are well."""
    head = base.get_output_embeddings()  # type: ignore[operator]
    linear = [layer for layer in use.layers if layer.is_linear and layer.module is not head]
    for layer in linear:
        if layer.role == "expert":
            against[layer.name] = "routed experts"
        elif layer.role == "router":
            against.setdefault(layer.name, "routers")
    chosen = [layer for layer in linear if layer.name not in against]
    if not chosen:
        raise ModelError(
            f"no layer of {type(base).__name__} can carry an adapter: {_left_out(linear, [], against) or 'it has none'}"
        )
    out = [layer for layer in linear if layer.name in against]
    if not out and takes_all_linear(base):
        is_said = use.experts or not is_default
        return AdapterTargets("all-linear", said=_said(use, chosen, out, against) if is_said else None)
    return by_name(base, chosen, [_last(layer.name) for layer in chosen], [], _said(use, chosen, out, against))


def _match_names(base: nn.Module, use: Use, against: dict[str, str], names: list[str]) -> AdapterTargets:
    """Choose the layers that a name is the end of, and of these the ones that nothing speaks against."""
    parameters, listed = _experts_of(base, use) if EXPERTS in names else ([], [])
    ends = [name for name in names if name != EXPERTS]
    named = {name: [layer for layer in use.layers if _ends_with(layer.name, name)] for name in ends}
    if none := [name for name in ends if not named[name]]:
        hint = f"; its experts' weights are named {EXPERTS}" if use.experts and EXPERTS not in names else ""
        raise ModelError(f"the adapter does not fit this model: it has no layer {', '.join(none)}{hint}")
    for name, layers in named.items():
        if all(layer.name in against for layer in layers):
            why = _join_words(dict.fromkeys(against[layer.name] for layer in layers), " and ")
            raise ModelError(f"the adapter cannot stand on {name}: {why}")
    matched = {layer.name: layer for layers in [*named.values(), listed] for layer in layers}
    chosen = [layer for layer in matched.values() if layer.name not in against]
    out = [layer for layer in matched.values() if layer.name in against]
    said = _said(use, chosen, out, against, is_on_experts=bool(parameters))
    return by_name(base, chosen, [*ends, *(layer.leaf for layer in listed)], parameters, said)


def by_name(
    base: nn.Module, chosen: Sequence[LayerUse], ends: Sequence[str], parameters: list[str], said: str
) -> AdapterTargets:
    """Name layers by the ends of their paths where no other layer has them, else by their whole paths."""
    wanted = {layer.name for layer in chosen}
    ends = list(dict.fromkeys(ends))
    if not _caught(base, ends, wanted):
        return AdapterTargets(ends, parameters, said=said)
    paths = [layer.name for layer in chosen]
    return AdapterTargets(paths, parameters, _caught(base, paths, wanted), said)


def _experts_of(base: nn.Module, use: Use) -> tuple[list[str], list[LayerUse]]:
    """Return the weights of fused experts, by names that end alike, and the layers of others.

    Raises:
        ModelError: the model has none.
    """
    paths = [parameter for each in use.experts for parameter in each.parameters]
    if not paths and not use.listed_experts:
        known = "no experts that peft could adapt" if use.experts else "no experts"
        raise ModelError(f"{type(base).__name__} has {known}: leave {EXPERTS} out of the adapter's layers")
    short = list(dict.fromkeys(".".join(path.split(".")[-2:]) for path in paths))
    every = [name for name, _ in base.named_parameters()]
    caught = [path for path in every if any(_ends_with(path, name) for name in short)]
    return (short if set(caught) == set(paths) else paths), use.listed_experts


def _ends_with(path: str, name: str) -> bool:
    return path == name or path.endswith(f".{name}")


def _caught(base: nn.Module, names: Sequence[str], wanted: set[str]) -> list[str]:
    """Return modules that peft would take for these names although they are not wanted."""
    ends = tuple(f".{name}" for name in names)
    exact = set(names)
    return [path for path, _ in base.named_modules() if path not in wanted and (path in exact or path.endswith(ends))]


def _said(
    use: Use,
    chosen: Sequence[LayerUse],
    out: Sequence[LayerUse],
    against: dict[str, str],
    *,
    is_on_experts: bool = False,
) -> str:
    """Make the line that says what carries the adapter, how much of the model that is, and what is left out."""
    n, size = len(chosen), sum(layer.size for layer in chosen)
    kinds = list(dict.fromkeys(_last(layer.name) for layer in chosen))
    if is_on_experts:
        fused = [each for each in use.experts if each.parameters]
        n, size = n + sum(len(each.parameters) for each in fused), size + sum(each.size for each in fused)
        kinds.append("the experts' weights")
    left_out = _left_out(out, chosen, against)
    if use.experts and not is_on_experts:
        experts = f"the experts ({use.share_of_experts:.0%} of the weights; --lora-targets {EXPERTS} has them)"
        left_out = f"{experts}; {left_out}" if left_out else experts
    share = f"{n} layers, {size / use.n_weights:.0%} of the weights that a text passes"
    return f"LoRA on {_join_words(kinds)} ({share})" + (f"; left out: {left_out}" if left_out else "")


def _left_out(layers: Iterable[LayerUse], chosen: Sequence[LayerUse], against: dict[str, str]) -> str:
    """Say which layers are left out, by reason: each by the largest part of the model that has no adapter."""
    with_adapter = {prefix for layer in chosen for prefix in _prefixes(layer.name)}
    leaves = {layer.leaf for layer in chosen}
    by_reason: dict[str, list[str]] = {}
    for layer in layers:
        part = next(prefix for prefix in _prefixes(layer.name) if prefix not in with_adapter)
        is_apart = layer.untrainable in (UNUSED, NO_GRADIENT) or layer.inexact == OF_HEAD or layer.leaf in leaves
        by_reason.setdefault(against[layer.name], []).append(_last(part if is_apart else layer.name))
    return "; ".join(
        f"{_join_words(dict.fromkeys(parts))} ({len(parts)} layer{'s'[: len(parts) != 1]}: {reason})"
        for reason, parts in by_reason.items()
    )


def _prefixes(path: str) -> list[str]:
    """Return the modules that a path leads through, the outermost first, and the path itself."""
    parts = path.split(".")
    return [".".join(parts[: i + 1]) for i in range(len(parts))]


def _last(path: str) -> str:
    """Return the last part of a path; of one in a list, the list's name too."""
    parts = path.split(".")
    named = max((i for i, part in enumerate(parts) if not part.isdigit()), default=0)
    return ".".join(parts[named:])


def _join_words(words: Iterable[str], separator: str = ", ") -> str:
    words = list(words)
    more = f" and {len(words) - _SHOWN} more" if len(words) > _SHOWN else ""
    return separator.join(words[:_SHOWN]) + more
