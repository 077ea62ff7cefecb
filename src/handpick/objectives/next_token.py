"""Next-token loss (Xia et al. ICML 2024, section 2): the mean cross-entropy over an example's response tokens."""

from collections.abc import Sequence
from dataclasses import replace

from handpick.data.examples import Example
from handpick.data.plain_text import why_unlearnt
from handpick.data.render import IGNORED, Rendered, Renderer
from handpick.errors import DataError
from handpick.fingerprint import Fingerprint
from handpick.objectives.protocol import Policy, Prepared, Row, WeightedSequence, prepare_each


def mean_loss(sequence: Rendered) -> Row:
    """Return the row of a sequence by itself: each labelled token weighs one over their number."""
    return [WeightedSequence(sequence, 1 / sequence.n_labels)]


def cut_response(sequence: Rendered, n: int) -> Rendered:
    """Return a sequence up to the ``n``-th of its labelled tokens, that one included; whole where it has no more.

    What comes behind is seen by none of the labels that are left. A token that stands first has no loss, and does not
    count.
    """
    labelled = [place for place, label in enumerate(sequence.labels) if place and label != IGNORED]
    end = labelled[n - 1] + 1 if len(labelled) > n else len(sequence.labels)
    return replace(sequence, input_ids=sequence.input_ids[:end], labels=sequence.labels[:end])


class NextToken:
    """The loss of a record's own answers.

    Args:
        renderer: makes the tokens and says which of them are the response.
        max_length: tokens of a record that are kept.
        response_tokens: learn the first so many labelled tokens alone; an approximation of ours.
    """

    advice = "name other queries"

    def __init__(self, renderer: Renderer, max_length: int, response_tokens: int | None = None) -> None:
        self._renderer = renderer
        self._max_length = max_length
        self._response_tokens = response_tokens

    def fingerprint(self) -> Fingerprint:
        cut: Fingerprint = {} if self._response_tokens is None else {"response_tokens": self._response_tokens}
        return {"objective": "next-token"} | cut

    def prepare(self, examples: Sequence[Example]) -> Prepared:
        """Prepare a sequence per record; refused is one that leaves no response to learn from."""
        return prepare_each(examples, self._render)

    def _render(self, example: Example) -> Rendered:
        if reason := why_unlearnt(example.messages):
            raise DataError(reason)
        sequence = self._renderer(example.messages, self._max_length)
        return sequence if self._response_tokens is None else cut_response(sequence, self._response_tokens)

    def rows(self, items: Sequence[Rendered], policy: Policy) -> list[Row]:
        return [mean_loss(sequence) for sequence in items]
