"""How a selection was chosen, in a few words."""

from handpick.methods import find_method
from handpick.reporting.iterated import Iterated
from handpick.reporting.page import count
from handpick.reporting.run_folder import RunFolder
from handpick.settings import Settings


def describe_method(settings: Settings) -> str:
    """Name the method; of one that another representation stood in for, what chose, since nothing of it did."""
    other, method = settings.used_representation, settings.method
    if other != find_method(method).representation:
        return f"{settings.used_algorithm} over {other}"
    return f"{method} with {settings.algorithm}" if settings.algorithm else method


def lead_of(run: RunFolder) -> str:
    """Say what was chosen, out of what, for what and how: the first sentence of a page."""
    found = f"{count(len(run.picks))}{'' if run.pool is None else f' of {count(len(run.pool))}'} examples, chosen"
    if isinstance(run.made_by, Iterated):
        return f"{found} by {run.method} as hard for the base model{_how_taken(run.made_by)}."
    settings = run.made_by
    n = len(run.query_ids)
    served = "" if not n else f" for {count(n)} {'query' if n == 1 else 'queries'}"
    left = f", of what {', then '.join(settings.prefilter)} left" if settings.prefilter else ""
    said = describe_method(settings)
    of = f" ({settings.used_representation}, {settings.used_algorithm})" if said == settings.method else ""
    return f"{found}{served} by {said}{of}{left}."


def _how_taken(iterated: Iterated) -> str:
    if not iterated.taken:
        return ""
    easy = iterated.n_taken("easy")
    others = f", and {count(easy)} judged easy, since nothing else was left" if easy else ""
    return f" ({count(iterated.n_taken('judged'))} judged, {count(iterated.n_taken('inferred'))} inferred{others})"
