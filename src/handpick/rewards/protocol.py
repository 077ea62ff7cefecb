"""What a reward is, and the one place that calls one.

A reward is any callable that takes prompts, completions and the records they answer, and returns one score a
completion, higher is better. What it returns is checked here: a user's function may return anything.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from reprlib import repr as shortened
from traceback import extract_tb
from typing import Any, Protocol, TypeAlias

from handpick.errors import HandpickError, SettingsError

Prompt: TypeAlias = Sequence[Mapping[str, str]]
Record: TypeAlias = Mapping[str, Any]


class Reward(Protocol):
    """Scores completions; the built-in ones say their range in their docstrings.

    Args:
        prompts: the messages that each completion answers, ``{"role": ..., "content": ...}``, without the answer.
        completions: the answers to score.
        records: the record of the query that each completion answers, as it stood in its file.

    Returns:
        One number per completion, in the same order; higher is better. A reward with a true attribute ``may_abstain``
        may give None instead: no score, which is not a low one.
    """

    def __call__(
        self, prompts: Sequence[Prompt], completions: Sequence[str], records: Sequence[Record], /
    ) -> Iterable[Any]: ...


def check_record(reward: Reward, record: Record) -> None:
    """Find out, without an answer, whether a reward can score any to a record; only some of handpick's own can say.

    Raises:
        DataError: it cannot: the record has no reference, no tests, no instructions.
    """
    check = getattr(reward, "check", None)
    if check is not None:
        check(record)


def score(
    reward: Reward,
    prompts: Sequence[Prompt],
    completions: Sequence[str],
    records: Sequence[Record],
    ids: Sequence[str],
) -> list[float]:
    """Call a reward, and check what it returns.

    Args:
        reward: any callable of the protocol; it may return a list, a NumPy array or a tensor, of numbers or bools.
        prompts: as the protocol has it.
        completions: as the protocol has it.
        records: as the protocol has it.
        ids: the id of the record that each completion answers, for messages.

    Returns:
        One finite float per completion.

    Raises:
        SettingsError: the reward raised something, or did not return one finite number per completion.
        HandpickError: what a reward of handpick's own has to say.
    """
    name = reward_name(reward)
    return [
        _finite(value, name, id_)
        for value, id_ in zip(_call(reward, prompts, completions, records, ids), ids, strict=True)
    ]


def score_or_none(
    reward: Reward,
    prompts: Sequence[Prompt],
    completions: Sequence[str],
    records: Sequence[Record],
    ids: Sequence[str],
) -> list[float | None]:
    """Do as ``score``, but where a reward may abstain (a judge) and does, there is None and no number.

    Raises:
        SettingsError, HandpickError: as ``score``.
    """
    if not getattr(reward, "may_abstain", False):
        return [*score(reward, prompts, completions, records, ids)]
    name = reward_name(reward)
    return [
        None if value is None else _finite(value, name, id_)
        for value, id_ in zip(_call(reward, prompts, completions, records, ids), ids, strict=True)
    ]


def _call(
    reward: Reward,
    prompts: Sequence[Prompt],
    completions: Sequence[str],
    records: Sequence[Record],
    ids: Sequence[str],
) -> list[Any]:
    """Return what a reward gives, one value a completion, not yet looked at."""
    if not completions:
        return []
    name = reward_name(reward)
    try:
        scores = _as_list(reward(prompts, completions, records))
    except HandpickError:
        raise
    except Exception as error:
        where = _culprit(reward, prompts, completions, records, ids)
        what = explain_error(error, getattr(reward, "file", None))
        raise SettingsError(f"the reward {name} raised {what} on {where}; mend it and start again") from error
    if scores is None:
        raise SettingsError(
            f"the reward {name} did not return a list of scores for the record {ids[0]}; "
            "it must return one number a completion"
        )
    if len(scores) != len(completions):
        raise SettingsError(
            f"the reward {name} returned {len(scores)} scores for {len(completions)} completions, the first of them "
            f"of the record {ids[0]}; it must return one number a completion"
        )
    return scores


def reward_name(reward: object) -> str:
    """Return what messages call a reward: the name it was given, else that of the function or class."""
    name = getattr(reward, "name", None)
    return name if isinstance(name, str) else str(getattr(reward, "__qualname__", type(reward).__qualname__))


def explain_error(error: BaseException, file: Path | None = None) -> str:
    """Describe an exception on one line: its type, its message and, if it passed through ``file``, the line there."""
    message = " ".join(str(error).split())
    lines = [frame.lineno for frame in extract_tb(error.__traceback__) if file and Path(frame.filename) == file]
    where = f" ({file.name}, line {lines[-1]})" if file and lines else ""
    return f"{type(error).__name__}: {message}{where}" if message else f"{type(error).__name__}{where}"


def _as_list(scores: Any) -> list[Any] | None:
    """Return what a reward returned as a list, or None where it is nothing of the kind."""
    if hasattr(scores, "tolist"):  # NumPy arrays, tensors, columns of tables
        scores = scores.tolist()
    if not isinstance(scores, Iterable) or isinstance(scores, str | bytes | Mapping):
        return None
    return list(scores)


def _culprit(
    reward: Reward,
    prompts: Sequence[Prompt],
    completions: Sequence[str],
    records: Sequence[Record],
    ids: Sequence[str],
) -> str:
    """Find the record on which a reward raises; it was called on all at once, so it is asked again one by one."""
    if len(set(ids)) == 1:
        return f"the record {ids[0]}"
    for prompt, completion, record, id_ in zip(prompts, completions, records, ids, strict=True):
        try:
            _as_list(reward([prompt], [completion], [record]))
        except Exception:
            return f"the record {id_}"
    return f"the records {ids[0]} to {ids[-1]}, though on none of them alone"


def _finite(value: Any, name: str, id_: str) -> float:
    number: float | None = None
    if not isinstance(value, str | bytes):  # float() reads numbers out of text
        try:
            number = float(value)
        except (TypeError, ValueError, OverflowError, RuntimeError):
            number = None
    if number is None or not math.isfinite(number):
        raise SettingsError(
            f"the reward {name} gave {shortened(value)} to the record {id_}; a score must be a finite number"
        )
    return number
