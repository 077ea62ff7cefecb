"""The first labelled tokens alone: what is cut, and that the gradient is that of the loss on what is left."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from handpick.data.render import IGNORED, Rendered
from handpick.objectives.next_token import cut_response
from tests.gradients.oracle import autograd_rows, flat, random_sequences, relative_error
from tests.gradients.test_per_example import engine_rows
from tests.gradients.tiny_models import VOCAB, lora_model


@settings(max_examples=100, deadline=None)
@given(st.lists(st.booleans(), min_size=2, max_size=40), st.integers(1, 12))
def test_the_first_labels_are_kept_with_all_before_them(is_labelled: list[bool], n: int) -> None:
    ids = list(range(100, 100 + len(is_labelled)))
    labels = [token if labelled else IGNORED for token, labelled in zip(ids, is_labelled, strict=True)]
    whole = Rendered(ids, labels, len(ids) + 3)
    cut = cut_response(whole, n)
    assert cut.n_labels == min(n, whole.n_labels)
    assert cut.full_length == whole.full_length
    assert whole.input_ids[: len(cut.input_ids)] == cut.input_ids
    assert whole.labels[: len(cut.labels)] == cut.labels
    assert len(cut.input_ids) == len(cut.labels)
    if whole.n_labels > n:
        assert cut.labels[-1] != IGNORED
    else:
        assert cut == whole


@pytest.mark.parametrize(("name", "n"), [("llama", 1), ("llama", 6), ("gemma2", 3)])
def test_the_gradient_is_autograds_of_the_shorter_list_of_labels(name: str, n: int) -> None:
    """The oracle keeps the whole sequence, and forgets the labels behind the first n."""
    model = lora_model(name, everywhere=True)
    sequences = random_sequences(8, VOCAB, seed=5)
    fewer = []
    for each in sequences:
        left = n
        labels = [IGNORED] * len(each.labels)
        for place, label in enumerate(each.labels):
            if place and label != IGNORED and left:
                labels[place], left = label, left - 1
        fewer.append(Rendered(each.input_ids, labels, each.full_length))
    cut = [cut_response(each, n) for each in sequences]
    assert sum(len(each.input_ids) for each in cut) < sum(len(each.input_ids) for each in sequences)
    assert relative_error(engine_rows(model, cut), flat(autograd_rows(model, fewer))) <= 1e-5
