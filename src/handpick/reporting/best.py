"""The candidates that are nearest to the queries, chosen or passed over: rows of the page's table."""

from typing import Any

from handpick.data.plain_text import begin_text
from handpick.reporting.nearest import NearestSimilarities
from handpick.reporting.run_folder import RunFolder

BEST_TEXT = 300  # characters of each


def best_rows(run: RunFolder, near: NearestSimilarities | str) -> list[dict[str, Any]] | str:
    """Return a row for each of the nearest candidates, nearest first, or why there are none; JSON values."""
    if isinstance(near, str):
        return near
    if run.pool is None:
        return "the pool could not be read"
    found = run.pool.find([example_id for example_id, _ in near.best])
    rank_of = {pick.id: pick.rank for pick in run.picks}
    return [
        {
            "place": place,
            "score": score,
            "pick": rank_of.get(example_id),
            "id": example_id,
            "source": " / ".join(filter(None, found[example_id][0])),
            "text": begin_text(found[example_id][1].messages, BEST_TEXT),
        }
        for place, (example_id, score) in enumerate(near.best, 1)
        if example_id in found
    ]
