"""The main job: from a pool, a query set and a model to a selection.

    pool ──► features ──┐
                        ├─► similarity ──► algorithm ──► selection
    query ─► features ──┘

Everything that can be checked is checked before anything costly starts; every step writes what it made under the
output folder and is skipped by the next run that can use it.
"""

from handpick.pipeline.distances import run_distance
from handpick.pipeline.run import (
    Run,
    run_represent,
    run_select,
    run_similarity,
)
from handpick.scorers.provenance import merge_stores

__all__ = [
    "Run",
    "merge_stores",
    "run_distance",
    "run_represent",
    "run_select",
    "run_similarity",
]
