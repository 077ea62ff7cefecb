"""How many examples of a source a selection may have, and how many it must have."""

from collections import Counter
from collections.abc import Mapping, Sequence

from handpick.constraints.limits import Examples, Limit, exact_share, examples_at_least, examples_at_most
from handpick.errors import SettingsError

Source = str | None

_EVERY_OTHER = "*"


class Quotas:
    """How many of each source there may be and must be, and how many there are."""

    def __init__(
        self,
        sources_N: Sequence[Source] | None,
        max_share: Mapping[str, Limit],
        min_share: Mapping[str, Limit],
        budget: int | None,
    ) -> None:
        self._sources_N = sources_N if max_share or min_share else None
        self._taken: Counter[Source] = Counter()
        if self._sources_N is None and not (max_share or min_share):
            return
        if self._sources_N is None:
            raise SettingsError("there are shares of sources and the pool names no sources: leave the shares out")
        if budget is None:
            raise SettingsError("shares of sources are of a budget in examples or percent: give one, or no shares")
        available = Counter(self._sources_N)
        for shares in (max_share, min_share):
            _check_shares(shares, available)
        largest = {s: _limit(max_share, s, 1.0) for s in available}
        smallest = {s: _limit(min_share, s, 0.0) for s in available}
        self._largest = {s: examples_at_most(limit, budget) for s, limit in largest.items()}
        self._smallest = {s: examples_at_least(limit, budget) for s, limit in smallest.items()}
        _check_sum(smallest, self._smallest, budget)
        for source, count in available.items():
            _check_order(source, smallest[source], largest[source], budget)
            if self._smallest[source] > count:
                raise SettingsError(
                    f"the smallest share of {source!r} is {self._smallest[source]} examples and the pool has {count} "
                    "of that source; lower the share or the budget"
                )
        reachable = sum(min(self._largest[s], count) for s, count in available.items())
        if reachable < budget:
            raise SettingsError(
                f"the largest shares leave {reachable} examples and the budget is {budget}; raise the shares of "
                f"sources that have more, or give a budget of {reachable} at most"
            )
        self._left = budget
        self._owed = sum(self._smallest.values())

    def source(self, column: int) -> Source:
        """Return where an example comes from; None where nothing depends on it."""
        return self._sources_N[column] if self._sources_N is not None else None

    def refuse(self, column: int) -> str | None:
        """Return why the column cannot be accepted any more; what has been refused once always will be."""
        if self._sources_N is None:
            return None
        source = self._sources_N[column]
        if self._taken[source] >= self._largest[source]:
            return "full"
        if self._taken[source] >= self._smallest[source] and self._left <= self._owed:
            return "no room"
        return None

    def accept(self, column: int) -> None:
        """Count the column."""
        if self._sources_N is None:
            return
        source = self._sources_N[column]
        self._owed -= self._taken[source] < self._smallest[source]
        self._taken[source] += 1
        self._left -= 1

    def require_room(self, columns: Sequence[int]) -> None:
        """Refuse columns that cannot all be accepted.

        Raises:
            SettingsError: they cannot.
        """
        if self._sources_N is None:
            return
        kept = Counter(self._sources_N[column] for column in columns)
        for source, count in kept.items():
            if count > self._largest[source]:
                raise SettingsError(
                    f"{count} examples of the source {source!r} are always to be kept and its largest share is "
                    f"{self._largest[source]}; keep fewer or raise the share"
                )
        owed = sum(max(0, smallest - kept[source]) for source, smallest in self._smallest.items())
        if kept.total() + owed > self._left:
            raise SettingsError(
                f"{kept.total()} examples are always to be kept and the smallest shares ask for {owed} more, beyond "
                f"the budget of {self._left}; keep fewer, lower the shares or raise the budget"
            )

    def describe_unmet(self) -> str:
        """Return the smallest shares that were not reached, for a message."""
        if self._sources_N is None:
            return ""
        unmet = [
            f"{source!r} has {self._taken[source]} of at least {smallest}"
            for source, smallest in self._smallest.items()
            if self._taken[source] < smallest
        ]
        return "; " + ", ".join(unmet) if unmet else ""


def _limit(limits: Mapping[str, Limit], source: Source, otherwise: float) -> Limit:
    named = limits.get(source) if source is not None else None
    return limits.get(_EVERY_OTHER, otherwise) if named is None else named


def _check_shares(limits: Mapping[str, Limit], available: Counter[Source]) -> None:
    for source, limit in limits.items():
        if source != _EVERY_OTHER and source not in available:
            known = sorted(name for name in available if name is not None)
            listed = ", ".join(known[:20]) + (f" and {len(known) - 20} more" if len(known) > 20 else "")
            raise SettingsError(f"no example has the source {source!r}; the pool has {listed or 'no sources'}")
        if not isinstance(limit, Examples) and not 0 <= limit <= 1:
            raise SettingsError(f"the share of {source!r} is {limit}; give a fraction from 0 to 1")


def _check_sum(limits: Mapping[Source, Limit], smallest: Mapping[Source, int], budget: int) -> None:
    """Refuse smallest shares that no budget has room for; shares by themselves, for those in examples are rounded."""
    total = sum(exact_share(limit) for limit in limits.values() if not isinstance(limit, Examples))
    if total > 1:
        raise SettingsError(f"the smallest shares add up to {float(total):g}; they must not exceed 1")
    if (needed := sum(smallest.values())) > budget:
        raise SettingsError(f"the smallest shares add up to {needed} examples and the budget is {budget}; raise it")


def _check_order(source: Source, smallest: Limit, largest: Limit, budget: int) -> None:
    if isinstance(smallest, Examples) or isinstance(largest, Examples):
        is_larger = examples_at_least(smallest, budget) > examples_at_most(largest, budget)
    else:
        is_larger = exact_share(smallest) > exact_share(largest)
    if is_larger:
        raise SettingsError(
            f"the smallest share of {source!r} is {_show(smallest)} and its largest {_show(largest)}; lower the one or "
            "raise the other"
        )


def _show(limit: Limit) -> str:
    return str(limit) if isinstance(limit, Examples) else f"{limit:g}"
