"""What indexing words takes: some of the pool's texts are indexed, and looked up in."""

from collections.abc import Callable, Sequence
from typing import Any

from handpick.costs.cost import Amount, Extent, StageCost, StageKind, Work
from handpick.costs.machine import resident_bytes
from handpick.costs.tokens import sample_pool
from handpick.data.plain_text import contents, has_response
from handpick.errors import DataError
from handpick.objectives.protocol import Prepared
from handpick.scorers.inputs import Inputs
from handpick.scorers.scoring_problem import fits_in_memory

_TEXTS = 2_000  # that are indexed in the probe

HOW = "texts are counted in words, which takes no model: no tokens and no operations are given"


def text_work(inputs: Inputs, name: str, seconds_of: Callable[[list[str]], float], *, reads: int, n_rows: int) -> Work:
    """Return the work of a stage that reads all texts.

    Args:
        inputs: the run's settings and data.
        name: of the stage.
        seconds_of: what some texts take, on trial.
        reads: how often every record is read.
        n_rows: of the similarity.

    Raises:
        DataError: no record has a response.
    """
    settings, pool = inputs.settings, inputs.pool.pool
    pool_sample = sample_pool(
        pool, _Texts(), shard_rows=settings.shard_rows, seed=settings.seed, at_most=_TEXTS, sample=_TEXTS
    )
    if not pool_sample.items:
        raise DataError(f"no record of {', '.join(file.name for file in pool.files)} has a response to learn from")
    seconds = pool_sample.scale * (seconds_of(pool_sample.items) + reads * pool_sample.seconds * pool_sample.n_looked)
    usable = round(pool_sample.usable)
    held = resident_bytes() + 4 * usable * (n_rows if fits_in_memory((n_rows, usable)) else 1)
    note = f"from {pool_sample.n_looked:,} texts, in proportion; of one trial"
    line = StageCost(
        name, pool_sample.usable, memory=held, seconds=Amount.exactly(seconds), note=note, kind=StageKind.INDEX
    )
    return Work([line], [HOW], extent=Extent(pool_sample.usable, 0, 1, n_rows))


class _Texts:
    """Prepares what is read."""

    def prepare(self, examples: Sequence[Any]) -> Prepared:
        read = [example for example in examples if has_response(example.messages)]
        return Prepared([each.id for each in read], [contents(each.messages) for each in read], [])
