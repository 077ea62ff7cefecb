"""Who fills a feature store: this process, or several. Both are given one description, and write the same bytes."""

from collections.abc import Sequence

from handpick.executors.fill import fill_store
from handpick.executors.processes import Processes
from handpick.executors.protocol import Advance, Encoder, EncoderSpec, Executor, Preparer
from handpick.executors.this_process import ThisProcess
from handpick.executors.unusable import refuse_queries, report_unusable, rows_of

__all__ = [
    "Advance",
    "Encoder",
    "EncoderSpec",
    "Executor",
    "Preparer",
    "Processes",
    "ThisProcess",
    "executor_for",
    "fill_store",
    "refuse_queries",
    "report_unusable",
    "rows_of",
]


def executor_for(workers: int | None, imports: Sequence[str] = ()) -> Executor:
    """Return the executor of a run's settings.

    Args:
        workers: how many processes; None: this one.
        imports: modules that other processes will need.

    Raises:
        SettingsError: several are asked for where a GPU computes.
    """
    return ThisProcess() if workers is None else Processes(workers, imports=imports)
