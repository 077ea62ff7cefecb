"""Which records the shipped model has seen.

The pool is split by a hash of its prompts, so that exact duplicates, and answers to one prompt, fall
on one side. Two thirds may train the model; the last third stays unseen and is what the demo and the
studies choose from. Of the two thirds, the model is trained on what the licences below allow, less the
families it is to lack.
"""

import hashlib
from collections.abc import Sequence
from typing import Any

from handpick.data.examples import Message

# Skills the shipped model must lack, so that the pool has something to teach it.
HELD_OUT = {
    ("flan_cot", "gsm8k"),
    ("flan_cot", "aqua"),
    ("llm_adapters", "boolq"),
    ("gpteacher", "codegen"),
    ("mbpp", "train"),
}
# The sets under T0 that come under Apache, MIT or CC BY; the others forbid something or say nothing.
PERMISSIVE_T0 = {
    "common_gen": "MIT",
    "commonsense_qa": "MIT",
    "cosmos_qa": "CC BY 4.0",
    "duorc": "MIT",
    "qasc": "CC BY 4.0",
    "quarel": "CC BY 4.0",
    "quartz": "CC BY 4.0",
    "quoref": "CC BY 4.0",
    "ropes": "CC BY 4.0",
}
# Share-alike text: never trains the model; in the demo pool it stands in a file of its own.
SHARE_ALIKE = {
    ("dolly", None): "CC BY-SA 3.0",
    ("llm_adapters", "boolq"): "CC BY-SA 3.0",
    ("llm_adapters", "arc_easy"): "CC BY-SA 4.0",
    # The repository that carries these two is Apache-2.0, the sets themselves are not.
    ("flan_cot", "sensemaking"): "CC BY-SA 4.0",
    ("flan_cot", "ecqa"): "CDLA-Sharing-1.0",
}


def normalise_messages(messages: Sequence[Message]) -> str:
    """Return the text by which two conversations count as the same: lower case, white space folded."""
    return " ".join(" ".join(m.content for m in messages).lower().split())


def is_unseen(messages: Sequence[Message]) -> bool:
    """Return whether a conversation falls in the third that never trains the shipped model."""
    prompt = normalise_messages([m for m in messages if m.role != "assistant"])
    return hashlib.blake2b(prompt.encode(), digest_size=8).digest()[0] % 3 == 2


def licence(record: dict[str, Any]) -> str | None:
    """Return the licence under which a pool record may ship, or None where it may not."""
    source, category = record["source"], record["category"]
    if source == "t0":
        return next((licence for name, licence in PERMISSIVE_T0.items() if category.startswith(name + "_")), None)
    return _share_alike(record) or str(record["license"])


def is_share_alike(record: dict[str, Any]) -> bool:
    """Return whether copies of a record must stay under its licence."""
    return _share_alike(record) is not None


def _share_alike(record: dict[str, Any]) -> str | None:
    return SHARE_ALIKE.get((record["source"], record["category"])) or SHARE_ALIKE.get((record["source"], None))


def may_train(record: dict[str, Any]) -> bool:
    """Return whether a pool record's family and licence allow it to train the shipped model."""
    held_out = (record["source"], record["category"]) in HELD_OUT
    return licence(record) is not None and not is_share_alike(record) and not held_out
