"""Next-token loss (Xia et al. ICML 2024, section 2): the mean cross-entropy over an example's response tokens."""

from collections.abc import Sequence

from handpick.data.examples import Example
from handpick.data.plain_text import why_unlearnt
from handpick.data.render import Rendered, Renderer
from handpick.errors import DataError
from handpick.fingerprint import Fingerprint
from handpick.objectives.protocol import Policy, Prepared, Row, WeightedSequence, prepare_each


def mean_loss(sequence: Rendered) -> Row:
    """Return the row of a sequence by itself: each labelled token weighs one over their number."""
    return [WeightedSequence(sequence, 1 / sequence.n_labels)]


class NextToken:
    """The loss of a record's own answers.

    Args:
        renderer: makes the tokens and says which of them are the response.
        max_length: tokens of a record that are kept.
    """

    advice = "name other queries"

    def __init__(self, renderer: Renderer, max_length: int) -> None:
        self._renderer = renderer
        self._max_length = max_length

    def fingerprint(self) -> Fingerprint:
        return {"objective": "next-token"}

    def prepare(self, examples: Sequence[Example]) -> Prepared:
        """Prepare a sequence per record; refused is one that leaves no response to learn from."""
        return prepare_each(examples, self._render)

    def _render(self, example: Example) -> Rendered:
        if reason := why_unlearnt(example.messages):
            raise DataError(reason)
        return self._renderer(example.messages, self._max_length)

    def rows(self, items: Sequence[Rendered], policy: Policy) -> list[Row]:
        return [mean_loss(sequence) for sequence in items]
