"""What the classifier and the embeddings read of an example: its prompt, or the conversation with the answer.

The paper's classifier says of an instruction whether the base model will do badly on it, so it reads no answer; with
the answer a classifier can go by its length and style.

Source: IterSelectTune (arXiv 2410.13464), by summaries of it.
"""

from collections.abc import Callable
from typing import NamedTuple

from handpick.data.examples import Example
from handpick.data.plain_text import conversation
from handpick.fingerprint import Fingerprint
from handpick.iterselecttune.settings import READS_UNSAID, Reads
from handpick.scorers.embedding import PromptEmbedding


class WhatIsRead(NamedTuple):
    """``representation`` is what the embeddings are of; ``text`` gives what the classifier reads, and raises DataError
    where there is nothing; ``words`` say it to a person."""

    representation: str
    text: Callable[[Example], str]
    words: str


READ_AS: dict[Reads, WhatIsRead] = {
    "prompt": WhatIsRead(PromptEmbedding.representation, PromptEmbedding.text, "prompts alone"),
    "conversation": WhatIsRead(
        "embed", lambda example: conversation(example.messages), "whole conversations, answers included"
    ),
}


def reads_fingerprint(reads: Reads) -> Fingerprint:
    """Return what is written down of it: nothing where it is what was always read before it could be set."""
    return {} if reads == READS_UNSAID else {"reads": reads}
