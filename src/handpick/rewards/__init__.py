"""Rewards: what scores an answer. One file per reward, found by the text that users write.

A new reward is one new file and one line in ``REWARDS``.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from secrets import token_hex
from types import FunctionType
from typing import Any, TypeAlias

from handpick.choices import look_up
from handpick.errors import SettingsError
from handpick.fingerprint import Fingerprint, file_digest
from handpick.judge.settings import JudgeOptions
from handpick.rewards.callable import UserReward, load_callable, wrap
from handpick.rewards.choice import Choice
from handpick.rewards.exact_match import ExactMatch
from handpick.rewards.ifeval import IFEval
from handpick.rewards.protocol import Reward, check_record, score, score_or_none
from handpick.rewards.rouge import RougeL
from handpick.rewards.squad import SquadEM, SquadF1

__all__ = [
    "REWARDS",
    "Reward",
    "UserReward",
    "check_record",
    "find_reward",
    "is_reward",
    "reward_fingerprint",
    "score",
    "score_or_none",
    "user_reward_fingerprint",
    "wrap",
]


AnyJudge: TypeAlias = JudgeOptions | Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class RewardContext:
    """What the rewards that run code or ask a model are given besides their text."""

    allow_code_execution: bool = False
    allow_weak_sandbox: bool = False
    judge: AnyJudge | None = None
    cache: Path | None = None


@dataclass(frozen=True, slots=True)
class RewardEntry:
    """One line of the table: how a reward is made, and what may or must stand behind its colon.

    ``rule`` counts how often an answer's score has changed since; scores by another rule are not used again.
    """

    make: Callable[[str, RewardContext], Reward]
    summary: str
    argument: str | None = None
    needs_argument: bool = False
    rule: int = 1


def _make_reward_model(argument: str, given: RewardContext) -> Reward:
    from handpick.rewards.reward_model import RewardModel

    return RewardModel(argument)


def _make_unit_tests(argument: str, given: RewardContext) -> Reward:
    from handpick.rewards.unit_tests import UnitTests

    return UnitTests(allow_code_execution=given.allow_code_execution, allow_weak_sandbox=given.allow_weak_sandbox)


def _make_judge_reward(argument: str, given: RewardContext) -> Reward:
    if given.cache is None:
        raise SettingsError(f"the reward judge:{argument} needs a folder to keep verdicts in: give it as `cache`")
    from handpick.rewards.judge import JudgeReward

    return JudgeReward(JudgeOptions.from_values(given.judge or {}).for_model(argument), given.cache)


REWARDS: dict[str, RewardEntry] = {
    "exact-match": RewardEntry(
        lambda argument, given: ExactMatch(argument or "text"), "1 where the answer is a reference's", "EXTRACTOR"
    ),
    "choice": RewardEntry(lambda argument, given: Choice(), "1 where the right choice is picked"),
    "squad-f1": RewardEntry(
        lambda argument, given: SquadF1(argument or None), "words shared with the reference, 0 to 1", "LANGUAGE", rule=2
    ),
    "squad-em": RewardEntry(
        lambda argument, given: SquadEM(argument or None), "1 where the words are the reference's", "LANGUAGE"
    ),
    "rouge-l": RewardEntry(lambda argument, given: RougeL(), "longest common subsequence with the reference, 0 to 1"),
    "unit-tests": RewardEntry(_make_unit_tests, "share of the record's unit tests that pass, 0 to 1"),
    "ifeval": RewardEntry(
        lambda argument, given: IFEval(), "share of the record's instructions that are followed, 0 to 1", rule=2
    ),
    "model": RewardEntry(_make_reward_model, "a reward model's score, any number", "PATH", needs_argument=True),
    "judge": RewardEntry(_make_judge_reward, "a language model's grade", "MODEL", needs_argument=True),
}


def is_reward(spec: str) -> bool:
    """Return whether a text names a reward, a function of the user's own among them; not whether that is there."""
    return spec.partition(":")[0] in REWARDS or _is_callable(spec)


def find_reward(
    spec: str,
    *,
    allow_code_execution: bool = False,
    allow_weak_sandbox: bool = False,
    judge: AnyJudge | None = None,
    cache: Path | None = None,
) -> Reward:
    """Make the reward that a text names.

    Args:
        spec: a name in ``REWARDS``, with what may stand behind its colon (``exact-match:last-number``, ``model:PATH``);
            or a function of the user's own, ``my_rewards.py:politeness`` or ``package.module:function``.
        allow_code_execution: whether ``unit-tests`` may run the code it is to score.
        allow_weak_sandbox: whether it may do so where the machine has no strong sandbox.
        judge: settings of ``judge`` besides its model.
        cache: the folder in which ``judge`` keeps its verdicts.

    Raises:
        SettingsError: there is no such reward; the message lists those there are.
        ModelError: there is no such reward model.
    """
    if _is_callable(spec):
        return load_callable(spec)
    name, colon, argument = spec.partition(":")
    entry = _entry(name)
    if entry.needs_argument and not argument:
        raise SettingsError(f"the reward {name} needs a name behind a colon: {name}:{entry.argument}")
    if colon and entry.argument is None:
        raise SettingsError(f"the reward {name} takes nothing behind a colon, but {spec!r} has {argument!r} there")
    if colon and not argument:
        raise SettingsError(f"nothing follows the colon of {spec!r}: write {name}, or {name}:{entry.argument}")
    return entry.make(argument, RewardContext(allow_code_execution, allow_weak_sandbox, judge, cache))


def reward_fingerprint(spec: str, *, judge: AnyJudge | None = None) -> Fingerprint:
    """Return what a reward is, for telling whether scores may be reused: never a path, but what stands there.

    Of a user's function it is the SHA-256 of the file that it stands in, not what that file imports; of a reward
    model, its configuration and weights, and the rule by which its template is followed; of a judge, its model and
    what else decides a verdict; of any other reward, the text itself, and its ``rule`` where that is not the first.

    Args:
        spec: as ``find_reward`` has it.
        judge: as ``find_reward`` has it.

    Raises:
        SettingsError, ModelError: as ``find_reward``.
        DataError: the judge's prompt file cannot be read.
    """
    if _is_callable(spec):
        reward = load_callable(spec)
        return {"reward": spec} if reward.file is None else _file_fingerprint(reward, reward.file)
    name, _, argument = spec.partition(":")
    entry = _entry(name)
    if name == "model":
        from handpick.data.render import Renderer
        from handpick.model import load_tokenizer, model_fingerprint, template_rule

        found: Fingerprint = {"reward": name, "model": model_fingerprint(argument)}
        tokenizer = load_tokenizer(argument)
        return found | (template_rule(Renderer(tokenizer)) if tokenizer.chat_template else {})
    if name == "judge":
        return {"reward": name, **JudgeOptions.from_values(judge or {}).for_model(argument).fingerprint()}
    return {"reward": spec} if entry.rule == 1 else {"reward": spec, "rule": entry.rule}


def user_reward_fingerprint(reward: UserReward) -> Fingerprint:
    """Return what ``reward_fingerprint`` does, of a function in Python.

    What a function in a file computes stands in the file. What depends on more than that (a closure, defaults, an
    object's state, what was typed at a prompt) is like nothing else, and nothing is reused for it.
    """
    function = reward.function
    plain = isinstance(function, FunctionType) and function.__closure__ is None and "<" not in function.__qualname__
    plain = plain and not function.__defaults__ and not function.__kwdefaults__
    if plain and reward.file is not None:
        return _file_fingerprint(reward, reward.file)
    return {"reward": reward.name, "unlike any other": token_hex(8)}


def _file_fingerprint(reward: UserReward, file: Path) -> Fingerprint:
    return {"reward": reward.name.rpartition(":")[2], "file": file_digest(file)}


def _is_callable(spec: str) -> bool:
    """Return whether a text names a function: a file, or a dotted module, or a module that there is."""
    from importlib.util import find_spec

    source, colon, _ = spec.rpartition(":")
    if spec.endswith(".py") or source.endswith(".py"):
        return True
    if not colon or spec.partition(":")[0] in REWARDS or not all(part.isidentifier() for part in source.split(".")):
        return False
    return "." in source or find_spec(source) is not None


def _entry(name: str) -> RewardEntry:
    try:
        return look_up(REWARDS, name, "reward")
    except SettingsError as error:
        raise SettingsError(f"{error}, or a function of your own as my_rewards.py:politeness") from None
