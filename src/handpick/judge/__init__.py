"""A language model as a judge: asked with care for cost, its answers kept, its verdicts read."""

from handpick.judge.answers import JudgeAnswer, Prompt, Usage
from handpick.judge.client import Judge
from handpick.judge.estimate import CostEstimate
from handpick.judge.settings import JudgeOptions, JudgeSettings
from handpick.judge.verdicts import SCALE, Tally, Verdict, compare, pairwise_template, pointwise_template, rate, tally

__all__ = [
    "SCALE",
    "CostEstimate",
    "Judge",
    "JudgeAnswer",
    "JudgeOptions",
    "JudgeSettings",
    "Prompt",
    "Tally",
    "Usage",
    "Verdict",
    "compare",
    "pairwise_template",
    "pointwise_template",
    "rate",
    "tally",
]
