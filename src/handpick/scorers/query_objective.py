"""The query side's objective, from the settings."""

from pathlib import Path

from handpick.data.render import Renderer
from handpick.errors import SettingsError
from handpick.fingerprint import Fingerprint
from handpick.layout import RunLayout, SamplesLayout
from handpick.methods import find_method
from handpick.model import compute_dtype
from handpick.objectives.judge_fields import judge_options
from handpick.objectives.next_token import NextToken
from handpick.objectives.preference import Preference
from handpick.objectives.protocol import Objective
from handpick.objectives.reward import PolicyGradient
from handpick.rewards import (
    REWARDS,
    Reward,
    UserReward,
    find_reward,
    reward_fingerprint,
    user_reward_fingerprint,
)
from handpick.sampling.generate import Sampling
from handpick.sampling.vllm import Vllm
from handpick.scorers.inputs import UserObjects
from handpick.settings import Settings
from handpick.training.checkpoint import check_checkpoint

# NICE's temperatures; 1 where it names none
_TEMPERATURE = {"unit-tests": 0.8, "model": 1.2}


def query_objective(settings: Settings, renderer: Renderer, model: Fingerprint, own: UserObjects) -> Objective:
    """Make what the settings ask for, else the method's own.

    Raises:
        SettingsError: what the objective needs is not there.
        ModelError: the reward model cannot be used.
    """
    if own.objective is not None:
        if changed := settings.unused_by_objective("next-token"):
            raise SettingsError(f"an objective of your own is told no settings, so leave {changed[0]} out")
        return own.objective(renderer, settings.max_length)
    name = settings.objective or find_method(settings.method).objective
    if foreign := settings.unused_by_objective(name):
        flag = f"--{foreign[0].replace('_', '-')}"
        raise SettingsError(f"the {name} objective does not look at {flag}: leave it out, or choose another --method")
    if name == "preference":
        if settings.reference is not None:
            check_checkpoint(Path(settings.reference))
        return Preference(
            renderer,
            settings.max_length,
            loss=settings.preference_loss,
            beta=settings.beta,
            gamma=settings.gamma,
            reference=Path(settings.reference) if settings.reference else None,
        )
    if name == "reward":
        return _policy_gradient(settings, renderer, model, own.reward)
    return NextToken(renderer, settings.max_length)


def _policy_gradient(
    settings: Settings, renderer: Renderer, model: Fingerprint, own: UserReward | None
) -> PolicyGradient:
    if settings.reward is None:
        raise SettingsError(
            f"no reward given: name one with --reward, such as {', '.join(list(REWARDS)[:3])}; see `handpick methods`"
        )
    samples = SamplesLayout(RunLayout(settings.folder).samples)
    judge = judge_options(settings)
    reward: Reward = own or find_reward(
        settings.reward,
        allow_code_execution=settings.allow_code_execution,
        allow_weak_sandbox=settings.allow_weak_sandbox,
        judge=judge,
        cache=samples.verdicts,
    )
    temperature = settings.temperature
    if temperature is None:
        temperature = 1.0 if own else _TEMPERATURE.get(settings.reward.partition(":")[0], 1.0)
    sampling = Sampling(
        samples=settings.samples,
        temperature=temperature,
        top_k=settings.top_k,
        top_p=settings.top_p,
        max_new_tokens=settings.max_new_tokens,
        stop=tuple(settings.stop),
    )
    identity = user_reward_fingerprint(own) if own else reward_fingerprint(settings.reward, judge=judge)
    return PolicyGradient(
        renderer,
        settings.max_length,
        reward=reward,
        identity=identity,
        sampling=sampling,
        seed=settings.seed,
        folder=samples.folder,
        model=model,
        advantage=settings.advantage,
        variants=settings.variants,
        log_prob=settings.log_prob,
        vllm=_vllm(settings) if settings.sampler == "vllm" else None,
    )


def _vllm(settings: Settings) -> Vllm:
    if settings.quantization != "none":
        raise SettingsError("--sampler vllm would draw from the whole model, not from the quantized one: leave one out")
    return Vllm(str(settings.model), compute_dtype(settings.dtype), settings.max_length)
