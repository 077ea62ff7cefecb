import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from handpick.data.batching import collate, token_batches
from handpick.data.render import IGNORED, Rendered
from handpick.errors import SettingsError

PAD = 0


@given(st.lists(st.integers(1, 50), max_size=60), st.integers(1, 120))
def test_token_batches_hold_every_index_once_and_no_more_tokens_than_allowed(
    lengths: list[int], max_tokens: int
) -> None:
    batches = token_batches(lengths, max_tokens)
    in_order = [i for batch in batches for i in batch]
    assert in_order == sorted(range(len(lengths)), key=lambda i: (lengths[i], i))
    for batch in batches:
        assert len(batch) == 1 or max(lengths[i] for i in batch) * len(batch) <= max_tokens


def test_token_batches_are_as_full_as_the_bound_lets_them_be() -> None:
    assert token_batches([4, 1, 2, 2, 9], max_tokens=8) == [[1, 2, 3], [0], [4]]


def test_token_batches_refuse_an_empty_batch() -> None:
    with pytest.raises(SettingsError, match="at least one token"):
        token_batches([1], 0)


sequences = st.lists(st.lists(st.tuples(st.integers(1, 99), st.booleans()), min_size=1, max_size=12), min_size=1)


@given(sequences, st.sampled_from(["left", "right"]))
def test_collate_keeps_every_token_label_and_position(tokens: list[list[tuple[int, bool]]], side: str) -> None:
    rendered = [
        Rendered([id for id, _ in sequence], [id if learn else IGNORED for id, learn in sequence], len(sequence))
        for sequence in tokens
    ]
    batch = collate(rendered, PAD, side)
    assert batch.input_ids_BT.shape == (len(rendered), max(len(r.input_ids) for r in rendered))
    for row, sequence in enumerate(rendered):
        n = len(sequence.input_ids)
        real = batch.attention_mask_BT[row]
        assert batch.input_ids_BT[row, real].tolist() == sequence.input_ids
        assert batch.labels_BT[row, real].tolist() == sequence.labels
        assert batch.position_ids_BT[row, real].tolist() == list(range(n))
        assert bool(real[:n].all() if side == "right" else real[-n:].all())
        assert bool((batch.labels_BT[row, ~real] == IGNORED).all())
        assert bool((batch.input_ids_BT[row, ~real] == PAD).all())
        assert bool((batch.position_ids_BT[row, ~real] == 0).all())


def test_collate_gives_the_types_models_take() -> None:
    batch = collate([Rendered([1, 2], [IGNORED, 2], 2)], PAD)
    assert batch.input_ids_BT.dtype == batch.labels_BT.dtype == batch.position_ids_BT.dtype == torch.long
    assert batch.attention_mask_BT.dtype == torch.bool
