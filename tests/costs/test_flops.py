"""The formulas against what PyTorch's own counter sees of the engine, the readers and plain training."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from handpick.costs.flops import shape_of
from handpick.data.batching import Batch, collate
from handpick.data.render import Rendered
from handpick.gradients.engine import GradientEngine
from handpick.gradients.projection import NoProjection, RademacherProjection
from handpick.scorers.hidden_states import weighted_states
from handpick.scorers.model_scores import mean_losses
from tests.gradients.oracle import mean_weights
from tests.gradients.tiny_models import base_model, lora_model

DEEP: dict[str, object] = {"num_hidden_layers": 6, "attn_implementation": "eager"}  # whose products are all counted
LENGTHS = [40, 40, 40]
LABELLED = 25


def batch(n_labelled: int = LABELLED) -> Batch:
    ids = [1 + i % 90 for i in range(LENGTHS[0])]
    labels = [-100] * (len(ids) - n_labelled) + ids[-n_labelled:]
    return collate([Rendered(ids, labels, len(ids))] * len(LENGTHS), pad_id=0)


def counted(compute: object) -> float:
    assert callable(compute)
    with FlopCounterMode(display=False) as counter:
        compute()
    return float(counter.get_total_flops())


@pytest.mark.parametrize("name", ["llama", "qwen3", "gemma2"])
@pytest.mark.parametrize("everywhere", [True, False])
def test_of_a_gradient(name: str, everywhere: bool) -> None:
    model = lora_model(name, everywhere=everywhere, config=DEEP)
    engine = GradientEngine(model)

    def compute() -> None:
        engine.features(batch(), mean_weights(batch()), NoProjection(engine.n_coordinates))

    compute()  # a process's first model of a kind is tried besides
    seen = counted(compute)
    said = shape_of(model).gradient(LENGTHS, len(LENGTHS) * LABELLED)
    assert seen / 1.1 < said < 1.1 * seen


def test_of_a_dense_projection() -> None:
    engine = GradientEngine(lora_model("llama", everywhere=True, config=DEEP))
    project, nothing = RademacherProjection(64, 0), NoProjection(engine.n_coordinates)
    of_both = [
        counted(lambda each=each: engine.features(batch(), mean_weights(batch()), each)) for each in (project, nothing)
    ]
    assert of_both[0] - of_both[1] == pytest.approx(2 * engine.n_coordinates * 64 * len(LENGTHS), rel=0.01)


@pytest.mark.parametrize("name", ["llama", "qwen3"])
def test_of_reading(name: str) -> None:
    model = base_model(name, changed=DEEP)
    said = shape_of(model)
    assert said.read(LENGTHS) == pytest.approx(counted(lambda: weighted_states(model, batch())), rel=0.1)
    seen = counted(lambda: mean_losses(model, batch()))
    assert said.read(LENGTHS, len(LENGTHS) * LABELLED) == pytest.approx(seen, rel=0.1)


def test_of_experts() -> None:
    """Two of four count. The counter does not see their grouped products, which are added by hand."""
    model = base_model("mixtral", changed=DEEP)
    experts = 2 * (2 * 3 * 32 * 48) * 6 * sum(LENGTHS)  # active, three matrices each, six layers
    seen = counted(lambda: weighted_states(model, batch()))
    assert model.config._experts_implementation == "grouped_mm"  # type: ignore[union-attr]
    assert shape_of(model).read(LENGTHS) == pytest.approx(seen + experts, rel=0.1)


def test_of_training() -> None:
    """The trainers' logits stand at every position."""
    model = lora_model("llama", everywhere=True, config=DEEP)
    made = batch()

    def step() -> None:
        model(input_ids=made.input_ids_BT, labels=made.labels_BT, use_cache=False).loss.backward()

    assert shape_of(model).gradient(LENGTHS, sum(LENGTHS)) == pytest.approx(counted(step), rel=0.1)


class Packed(torch.nn.Linear):
    """A layer whose weight is stored two numbers a byte, as a quantized one is."""

    def __init__(self, layer: torch.nn.Linear) -> None:
        super().__init__(layer.in_features, layer.out_features, bias=False)
        self.whole = layer.weight.data
        self.weight = torch.nn.Parameter(torch.zeros(layer.weight.numel() // 2, 1), requires_grad=False)

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.linear(hidden, self.whole)


def test_a_quantized_or_packed_weight_counts_as_its_layer() -> None:
    """What a layer multiplies by, whatever its weight is stored as."""
    model = base_model("llama")
    said = shape_of(model)
    mlp = model.model.layers[0].mlp  # type: ignore[union-attr, index]
    mlp.up_proj = Packed(mlp.up_proj)  # type: ignore[union-attr, arg-type]
    assert shape_of(model) == said
