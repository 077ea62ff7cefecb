"""What counts as a response to learn from."""

import pytest

from handpick.data.examples import Message
from handpick.data.plain_text import has_response, no_response, why_unlearnt

UNLEARNT = "no response to learn from: the record says of all its answers that they are not to be learnt"


@pytest.mark.parametrize(
    ("answers", "reason"),
    [
        ([Message("assistant", "Yes.")], None),
        ([Message("assistant", "", '{"tool_calls":[{}]}')], None),
        ([Message("assistant", "", '{"reasoning_content":"t"}')], None),
        ([Message("assistant", "No.", loss=False), Message("assistant", "Yes.")], None),
        ([Message("assistant", "No yes.", no_loss=((0, 3),))], None),
        ([Message("assistant", "")], "no response to learn from"),
        ([Message("assistant", " \n", '{"name":"b"}')], "no response to learn from"),
        ([Message("tool", "ok")], "no response to learn from"),
        ([Message("assistant", "No.", loss=False)], UNLEARNT),
        ([Message("assistant", "", '{"tool_calls":[{}]}', loss=False)], UNLEARNT),
        ([Message("assistant", "No. ", no_loss=((0, 3),))], UNLEARNT),
        ([Message("assistant", "No", no_loss=((0, 1), (1, 2)))], UNLEARNT),
    ],
)
def test_a_response_is_something_said_that_is_to_be_learnt(answers: list[Message], reason: str | None) -> None:
    messages = [Message("user", "Well?"), *answers]
    assert has_response(messages) == (reason is None)
    assert why_unlearnt(messages) == (UNLEARNT if reason == UNLEARNT else None)
    if reason is not None:
        assert no_response(messages) == reason
