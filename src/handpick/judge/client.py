"""Asks a language model many things, several at a time, and never the same thing twice."""

import os
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event, Lock
from time import monotonic

from handpick.errors import JudgeError
from handpick.fingerprint import Fingerprint, digest
from handpick.judge.answers import JudgeAnswer, Prompt, Usage, as_messages, max_tokens_of
from handpick.judge.caps import CapReached, Caps
from handpick.judge.connection import Connection, Failure, Reply
from handpick.judge.estimate import CostEstimate, estimate
from handpick.judge.journal import Journal
from handpick.judge.retry import backoff
from handpick.judge.settings import JudgeSettings
from handpick.progress import progress

_RECENT = 50  # prompts that are looked back at
_TOO_FEW = 20  # prompts to judge the server by
_TOO_MANY = 0.5  # of the recent ones without an answer

Messages = list[dict[str, str]]


class Judge:
    """A language model behind an OpenAI-compatible server, its answers kept in a file.

    The same request is answered from the file and costs no call. A request is the model's name, the messages and the
    parameters: the URL is no part of it, so that a server may move; where another model goes by the same name, use
    another file.

    Args:
        settings: which model, how it is asked, and what it may cost.
        cache: the file with the answers, made where it is not there. The caps count all that is recorded in it.
        until_cap: whether a cap that is reached is the end of asking and no error: what was not asked any more has an
            answer that says so.

    Raises:
        JudgeError: the openai package is not installed, or a key is needed and there is none.
    """

    def __init__(self, settings: JudgeSettings, cache: str | os.PathLike[str], *, until_cap: bool = False) -> None:
        self.settings = settings
        self._until_cap = until_cap
        self._journal = Journal(Path(cache))
        self._connection = Connection(settings)

    @property
    def path(self) -> Path:
        """The file with the answers."""
        return self._journal.path

    @property
    def used(self) -> Usage:
        """Calls and tokens, by all that is recorded in the file, as of the last ``ask`` or ``estimate``."""
        return self._journal.used

    def fingerprint(self) -> Fingerprint:
        """Return what decides a verdict: not the caps, nor how, where and how often the server is asked."""
        return self.settings.fingerprint()

    def ask(self, prompts: Sequence[Prompt]) -> list[JudgeAnswer]:
        """Return the answers, in the order of the prompts.

        A prompt that stays without an answer after all retries has an answer that says why, and is asked again by the
        next run.

        Raises:
            JudgeError: a cap is reached (but for ``until_cap``), the server refuses everything (key, model, URL,
                quota), or most prompts stay without an answer. What was answered is kept, and nothing is asked twice.
        """
        conversations = [as_messages(prompt) for prompt in prompts]
        keys = [self._key(messages) for messages in conversations]
        requests = dict(zip(keys, conversations, strict=True))
        with self._journal.open():
            answers = self._journal.answers
            left = {key: messages for key, messages in requests.items() if key not in answers}
            failed: dict[str, JudgeAnswer] = {}
            if left:
                with progress("judging", total=len(requests), done=len(requests) - len(left)) as advance:
                    work = _Work(self.settings, self._connection, Caps(self.settings, self._journal), left, advance)
                    try:
                        failed = work.send_all()
                    except _RunEndedByCap as end:
                        if not self._until_cap:
                            raise self._stopped_error(end, requests) from None
                        failed = {key: JudgeAnswer(None, failure=end.reason) for key in requests if key not in answers}
                    except _RunEnded as end:
                        raise self._stopped_error(end, requests) from None
            return [answers[key] if key in answers else failed[key] for key in keys]

    def estimate(self, prompts: Sequence[Prompt]) -> CostEstimate:
        """Estimate what ``ask`` will take for these prompts: those that are answered already take nothing.

        Raises:
            JudgeError: the file cannot be read, or another run has it.
        """
        requests = {self._key(messages): messages for messages in map(as_messages, prompts)}
        with self._journal.open():
            left = [messages for key, messages in requests.items() if key not in self._journal.answers]
        return estimate(self.settings, left)

    def _stopped_error(self, end: "_RunEnded", requests: Mapping[str, Messages]) -> JudgeError:
        kept = sum(key in self._journal.answers for key in requests)
        return JudgeError(
            f"{end.reason}, with {kept:,} of {len(requests):,} prompts answered and kept in {self._journal.path}; "
            f"{end.advice}, and nothing is asked twice"
        )

    def _key(self, messages: Messages) -> str:
        settings = self.settings
        return digest(
            {
                "model": settings.model,
                "messages": messages,
                "temperature": settings.temperature,
                "seed": settings.seed,
                "max_answer_tokens": settings.max_answer_tokens,
            }
        )


class _RunEnded(Exception):
    """The run cannot go on."""

    def __init__(self, reason: str, advice: str) -> None:
        super().__init__(reason)
        self.reason = reason
        self.advice = advice


class _RunEndedByCap(_RunEnded):
    """Because a cap is reached."""


class _Work:
    """The requests of one ``ask``, worked off by several threads.

    When one of them finds that the run must end, the others finish what they have sent, so that it is recorded.
    """

    def __init__(
        self,
        settings: JudgeSettings,
        connection: Connection,
        caps: Caps,
        requests: Mapping[str, Messages],
        advance: Callable[[int], None],
    ) -> None:
        self._settings = settings
        self._connection = connection
        self._caps = caps
        self._requests = requests
        self._advance = advance
        self._failed: dict[str, JudgeAnswer] = {}
        self._recent = deque[bool](maxlen=_RECENT)  # whether the last prompts were answered
        self._lock = Lock()  # of all that the threads share
        self._end = Event()
        self._quiet_until = 0.0  # the server has asked to be left alone until then

    def send_all(self) -> dict[str, JudgeAnswer]:
        """Send all requests, and return the failures among them.

        Raises:
            _Ended, JudgeError: the run cannot go on.
        """
        requests = iter(self._requests.items())
        workers = min(self._settings.workers, len(self._requests))
        with ThreadPoolExecutor(workers, thread_name_prefix="judge") as pool:
            try:
                for future in [pool.submit(self._send_requests, requests) for _ in range(workers)]:
                    future.result()
            finally:
                self._end.set()
        return self._failed

    def _send_requests(self, requests: Iterator[tuple[str, Messages]]) -> None:
        try:
            while not self._end.is_set():
                with self._lock:
                    request = next(requests, None)
                if request is None:
                    return
                self._answer(*request)
        except BaseException:
            self._end.set()
            raise

    def _answer(self, key: str, messages: Messages) -> None:
        """Ask, and ask again where that may help, until there is an answer, a failure, or an end to the run."""
        for attempt in range(self._settings.retries + 1):
            self._wait_while_quiet()
            if self._end.is_set():
                return
            reply = self._call(key, messages)
            if isinstance(reply, Reply) or not reply.retry or attempt == self._settings.retries:
                self._conclude(key, reply)
                return
            if reply.wait:
                with self._lock:
                    self._quiet_until = max(self._quiet_until, monotonic() + reply.wait)
            self._end.wait(backoff(attempt, self._settings.backoff_s))

    def _wait_while_quiet(self) -> None:
        waited = False
        while (left := self._quiet_until - monotonic()) > 0 and not self._end.wait(left):
            waited = True
        if waited:  # not all threads at once
            self._end.wait(backoff(0, self._settings.backoff_s))

    def _call(self, key: str, messages: Messages) -> Reply | Failure:
        at_most = Usage(1, max_tokens_of(messages), self._settings.max_answer_tokens)
        try:
            self._caps.take(key, at_most)
        except CapReached as cap:
            raise _RunEndedByCap(str(cap), "raise the cap and run again") from None
        used, answer = at_most, None  # what stands where nobody knows
        try:
            reply = self._connection.send(messages)
            if isinstance(reply, Reply):
                answer = reply.answer
                used = Usage(1, *reply.tokens) if reply.tokens else at_most
            elif reply.free:
                used = Usage(1)
        finally:
            self._caps.settle(key, at_most, used, answer)
        return reply

    def _conclude(self, key: str, reply: Reply | Failure) -> None:
        if isinstance(reply, Failure) and reply.ends_run:
            raise _RunEnded(f"the judge at {self._connection.address} refuses ({reply.reason})", reply.ends_run)
        self._advance(1)
        with self._lock:
            self._recent.append(isinstance(reply, Reply))
            if isinstance(reply, Reply):
                return
            self._failed[key] = JudgeAnswer(None, failure=reply.reason)
            failed = self._recent.count(False)
            if len(self._recent) >= _TOO_FEW and failed > _TOO_MANY * len(self._recent):
                raise _RunEnded(
                    f"{failed} of the last {len(self._recent)} prompts got no answer from the judge at "
                    f"{self._connection.address} (the last: {reply.reason})",
                    "see to the server or the settings and run again",
                )
