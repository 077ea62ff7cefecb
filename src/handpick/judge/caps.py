"""Calls, tokens and money that are never passed, however many requests are under way."""

from threading import Condition

from handpick.judge.answers import JudgeAnswer, Usage
from handpick.judge.journal import Journal
from handpick.judge.settings import JudgeSettings


class CapReached(Exception):
    """The next call could pass a cap; the message names it."""


class Caps:
    """Lets a call pass once it is sure to stay within the caps, and writes it into the journal.

    A call takes what it may use at most, and gives back what it did not use when it is over. Where there is too little
    for a call, but more may be given back, it waits.
    """

    def __init__(self, settings: JudgeSettings, journal: Journal) -> None:
        self._settings = settings
        self._journal = journal
        self._changed = Condition()
        self._under_way = Usage()

    def take(self, key: str, at_most: Usage) -> None:
        """Wait until the call may be sent.

        Raises:
            CapReached: it may not, whatever the calls under way give back.
            JudgeError: the journal cannot be written.
        """
        with self._changed:
            while self._find_passed_cap(self._journal.used.plus(at_most)):
                if not self._under_way.calls:
                    raise CapReached(self._find_passed_cap(self._journal.used.plus(at_most)))
                self._changed.wait()
            self._journal.record_request(key, at_most)
            self._under_way = self._under_way.plus(at_most)

    def settle(self, key: str, at_most: Usage, used: Usage, answer: JudgeAnswer | None) -> None:
        """Give back what a call did not use.

        Raises:
            JudgeError: the journal cannot be written.
        """
        with self._changed:
            self._under_way = self._under_way.minus(at_most)
            self._changed.notify_all()
            self._journal.record_response(key, used, answer)

    def _find_passed_cap(self, usage: Usage) -> str:
        return find_passed_cap(self._settings, self._journal.used, usage)


def find_passed_cap(settings: JudgeSettings, used: Usage, usage: Usage) -> str:
    """Return the cap that ``usage``, all in all, would pass; empty where it would pass none.

    ``used`` is what was so far.
    """
    tokens = usage.tokens_in + usage.tokens_out
    if settings.max_calls is not None and usage.calls > settings.max_calls:
        return f"the cap of {settings.max_calls:,} calls (--max-judge-calls) is reached"
    if settings.max_tokens_total is not None and tokens > settings.max_tokens_total:
        return (
            f"{used.tokens_in + used.tokens_out:,} tokens are used and the next call could pass the cap of "
            f"{settings.max_tokens_total:,} (--max-judge-tokens)"
        )
    cost, spent = settings.cost(usage), settings.cost(used)
    if settings.max_cost is not None and cost is not None and spent is not None and cost > settings.max_cost:
        return (
            f"{spent:,.2f} is spent and the next call could pass the cap of {settings.max_cost:,.2f} (--max-judge-cost)"
        )
    return ""
