"""``handpick.look``: what is in a pool, before anything is chosen from it."""

from pathlib import Path
from typing import Any

from handpick.api.handed_over import Model, Records, merge_settings, name_inputs
from handpick.overview.look import Overview, run_look
from handpick.overview.settings import LookSettings
from handpick.reporting.overview import write_overview_page


def look(
    pool: Records,
    query: Records | None = None,
    model: Model | None = None,
    *,
    max_length: int | None = None,
    all: bool = False,
    sample: int | None = None,
    seed: int | None = None,
    cache: str | Path | None = None,
    out: str | Path | None = None,
    **others: Any,
) -> Overview:
    """Show what is in a pool: how it was read, what is in it, what would be set aside and lost, and why.

    Args:
        pool: what to look at.
        query: a query set to show beside it.
        model: counts its tokens, and says what its chat template does not write; a folder with a tokenizer will do.
        max_length: tokens of an example that training keeps; 2,048 unless given.
        all: look at every record for languages, tokens and template, not at a sample.
        sample: records to look at for these; 20,000 unless given.
        seed: of the sample.
        cache: the folder of parsed records, to use and to keep; without one files are parsed anew each time.
        out: an HTML file to write, for a browser.
        others: any other field of ``handpick.overview.settings.LookSettings``: ``columns``, ``turn_weights``,
            ``template_args``.

    Returns:
        What was counted over all records (``pool.counts``), set aside (``pool.set_aside``) and found on the sample
        (``pool.sample``), and the same of the queries (``query``).

    Raises:
        HandpickError: of the kind that fits what is wrong (see ``handpick.errors``).
    """
    values: dict[str, Any] = merge_settings(
        pool=pool, query=query, model=model, max_length=max_length, all=all or None, sample=sample, seed=seed,
        cache=None if cache is None else str(cache), out=None if out is None else str(out), **others,
    )  # fmt: skip
    with name_inputs(values) as plain:
        found = run_look(LookSettings.from_values(plain))
    if out is not None:
        write_overview_page(found, Path(out))
    return found
