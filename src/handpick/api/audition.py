"""``handpick.audition``: which way to choose helps, found out on the queries."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from handpick.api.handed_over import Files, merge_settings, name_inputs
from handpick.auditions.run import PROBE_SECONDS, Audition, PreparedAudition
from handpick.auditions.settings import AuditionSettings


def audition(
    pool: Files,
    query: Files | None = None,
    model: str | Path | None = None,
    *,
    methods: Sequence[str] | Mapping[str, Mapping[str, Any]] | None = None,
    metric: str | None = None,
    budget: int | str | None = None,
    time_limit: str | float | None = None,
    out: str | Path | None = None,
    audition: Mapping[str, Any] | None = None,
    probe_seconds: float = PROBE_SECONDS,
    **others: Any,
) -> Audition:
    """Try candidates on the queries: each chooses by one half, and the other half judges what it has taught a model.

    Args:
        pool: files to choose from, or a data set on the Hub. An audition reads files, never records in memory: its
            later parts may be other processes.
        query: files with the few examples of the task; or ``target``, a mapping, of several tasks.
        model: the base model's folder or name on the Hub.
        methods: the candidates; random draws are always beside them.
        metric: what judges: the loss unless given, or a metric as ``handpick.evaluate`` has it.
        budget: examples that are to be chosen in the end, as ``handpick.select``.
        time_limit: seconds, or such as ``"2h"``; what it cannot hold is left out by name.
        out: as ``handpick.select``; the audition is in the folder ``audition`` there.
        audition: any other field of ``handpick.auditions.settings.AuditionSettings``.
        probe_seconds: to compute for before the first round, to see how fast this machine is.
        others: any other field of ``handpick.Settings`` but the method's own.

    Returns:
        The rounds, and who is taken and why. ``handpick.select(method="auto")`` with the same arguments goes on from
        it to the choice.

    Raises:
        HandpickError: of the kind that fits what is wrong; what was computed is kept, and the same call goes on.
    """
    own = dict(audition or {}) | {
        name: value
        for name, value in {"methods": methods, "metric": metric, "time_limit": time_limit}.items()
        if value is not None
    }
    values = merge_settings(pool=pool, query=query, model=model, budget=budget, out=out, **others)
    with name_inputs(values) as plain:
        return PreparedAudition(plain, AuditionSettings.from_values(own)).run(probe_seconds)
