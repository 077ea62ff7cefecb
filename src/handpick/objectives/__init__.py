"""From a record to a weighted sum of negative log-likelihoods: what a row of features is the gradient of.

One file an objective; its line stands here, and its case in ``scorers/query_objective.py``.
"""

from handpick.choices import Entry, ObjectiveName

OBJECTIVES: dict[ObjectiveName, Entry] = {
    "next-token": Entry("mean cross-entropy of the response", "LESS, arXiv 2402.04333"),
    "preference": Entry("that one answer is preferred to another: dpo, ipo or simpo", "ROSE, arXiv 2412.00631"),
    "reward": Entry("policy gradient of a reward, over the model's own answers", "NICE, ICML 2025"),
}
