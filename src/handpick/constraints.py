"""What holds for a selection whatever algorithm ordered it: shares of sources, examples to keep, no near-duplicates.

An algorithm's order is walked from its head, and what a constraint forbids is passed over. Also here: several orders,
one a target, that take turns. Ours.

Shapes: N candidates, B picks, C columns of a block, K accepted of a block, E features.
"""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from handpick.algorithms import Picks
from handpick.errors import SettingsError

Order = Callable[[int], Picks]  # the first so many picks; fewer are the head of more
Candidates = Callable[[NDArray[np.int64]], NDArray[np.float32]]  # features of some columns, (C, E)
Source = str | None

# Columns whose features are read together. The order is asked for in multiples of it, so that a column is always
# looked at beside the same others and a product has the same last bits whatever the budget.
_BLOCK = 256

_EXPECTED = 1000  # examples of a budget that is in something else

_EVERY_OTHER = "*"


class Pick(NamedTuple):
    """As a row of ``Picks``."""

    column: int
    score: float
    query: int


class NearDuplicate(NamedTuple):
    """A column that was passed over, the accepted one nearest to it, and their cosine."""

    column: int
    kept: int
    cosine: float


@dataclass(eq=False)
class PassedOver:
    """What a walk has passed over so far, and why; of several reasons the first.

    ``full`` counts examples of sources that had their largest share, by source; ``no_room`` those that would have
    taken the room that other sources need for their smallest share, by source.
    """

    full: Counter[Source] = field(default_factory=Counter)
    no_room: Counter[Source] = field(default_factory=Counter)
    near_duplicates: list[NearDuplicate] = field(default_factory=list)

    def __str__(self) -> str:
        parts = [
            (self.full.total(), "of sources that have their largest share"),
            (self.no_room.total(), "that would take the room of other sources' smallest share"),
            (len(self.near_duplicates), "near-duplicates"),
        ]
        return ", ".join(f"{count} {what}" for count, what in parts if count) or "none"


def picks_of(picks: Iterable[Pick]) -> Picks:
    """Single picks, at least one, put together."""
    columns, scores, queries = zip(*picks, strict=True)
    return Picks(np.array(columns, np.int64), np.array(scores, np.float32), np.array(queries, np.int64))


class Walk:
    """What is accepted of an order, one by one; to be iterated over once.

    A column is accepted unless its source is full, or the room that is left is needed for the smallest shares of
    other sources, or its cosine to an accepted one is too large. ``passed`` says at any time what has been passed
    over until then.

    Without shares a smaller budget gives the head of a larger one's list; with shares it need not, for a share is
    of the budget. Two near-duplicates that are both in ``always`` both stay.

    Args:
        order: of the columns 0 to n − 1, all of them if asked for n; asked for more and more as the walk goes on.
        n: number of columns.
        budget: how many to accept; None: as many as there are, for whoever counts something else.
        sources_N: the source of every column.
        max_share: the largest part of the budget that a source may have; "*" is each source that is not named.
            Rounded up to whole examples, so that shares that add up to 1 leave room for the budget.
        min_share: the smallest part, "*" likewise; rounded down, so that shares that add up to 1 fit into it.
        always: columns that come first, in this order and with score 0 and no query; they count in all shares.
        candidates: features of columns; the cosine of a zero row to anything is 0. Those of what is accepted are
            held, B·E float32 values, and never all similarities.
        max_cosine: the largest cosine to an accepted column, from −1 to 1; 1 lets everything pass.

    Raises:
        SettingsError: when made, constraints that no selection can meet or that name what is not there; when
            iterated over, the order has ended before the budget was reached.
    """

    def __init__(
        self,
        order: Order,
        n: int,
        budget: int | None = None,
        *,
        sources_N: Sequence[Source] | None = None,
        max_share: Mapping[str, float] | None = None,
        min_share: Mapping[str, float] | None = None,
        always: Sequence[int] = (),
        candidates: Candidates | None = None,
        max_cosine: float | None = None,
    ) -> None:
        self.passed = PassedOver()
        self._order = order
        self._n = n
        self._budget = budget
        self._always = _checked_always(always, n, budget)
        self._quotas = _Quotas(sources_N, max_share or {}, min_share or {}, budget)
        self._quotas.require_room(self._always)
        self._unlike = _Unlike(*_checked_cosine(candidates, max_cosine))

    def __iter__(self) -> Iterator[Pick]:
        count = 0
        for pick in self._accepted():
            yield pick
            count += 1
            if count == self._budget:
                return
        if self._budget is not None:
            raise SettingsError(
                f"only {count} of {self._budget} examples can be chosen; passed over: {self.passed}"
                f"{self._quotas.unmet()}; lower the budget to {count} or loosen what passed them over"
            )

    def _accepted(self) -> Iterator[Pick]:
        for start in range(0, len(self._always), _BLOCK):
            columns_C = np.array(self._always[start : start + _BLOCK], dtype=np.int64)
            beside = self._unlike.beside(columns_C)
            for place, column in enumerate(columns_C.tolist()):
                self._quotas.accept(column)
                beside.accept(place)
                yield Pick(column, 0.0, -1)
            self._unlike.keep(beside)
        always = set(self._always)
        for block in _blocks(self._order, self._n, self._budget or _EXPECTED):
            # what the quotas refuse now they will always refuse: their features need not be read
            hopeful = [pick for pick in block if pick.column not in always and not self._quotas.refuse(pick.column)]
            beside = self._unlike.beside(np.array([pick.column for pick in hopeful], dtype=np.int64))
            place_of = {pick.column: place for place, pick in enumerate(hopeful)}
            for pick in block:
                if pick.column in always:
                    continue
                reason = self._quotas.refuse(pick.column)
                if reason is not None:
                    (self.passed.full if reason == "full" else self.passed.no_room)[
                        self._quotas.source(pick.column)
                    ] += 1
                    continue
                place = place_of[pick.column]
                near = beside.too_near(place)
                if near is not None:
                    self.passed.near_duplicates.append(near)
                    continue
                self._quotas.accept(pick.column)
                beside.accept(place)
                yield pick
            self._unlike.keep(beside)


def _blocks(order: Order, n: int, expected: int) -> Iterator[list[Pick]]:
    """The order in blocks, asked for twice as far whenever it runs out; at first a little beyond what is expected."""
    asked = 0
    while asked < n:
        until = min(n, max(2 * asked, (expected // _BLOCK + 1) * _BLOCK))
        picks = order(until)
        for start in range(asked, until, _BLOCK):
            here = slice(start, start + _BLOCK)
            rows = (picks.columns[here].tolist(), picks.scores[here].tolist(), picks.queries[here].tolist())
            yield [Pick(*row) for row in zip(*rows, strict=True)]
        asked = until


class _Quotas:
    """How many of each source there may be and must be, and how many there are."""

    def __init__(
        self,
        sources_N: Sequence[Source] | None,
        max_share: Mapping[str, float],
        min_share: Mapping[str, float],
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
        self._largest = {s: math.ceil(_share(max_share, s, 1) * budget) for s in available}
        self._smallest = {s: math.floor(_share(min_share, s, 0) * budget) for s in available}
        _check_smallest(self._smallest, self._largest, available, min_share, max_share)
        reachable = sum(min(self._largest[s], count) for s, count in available.items())
        if reachable < budget:
            raise SettingsError(
                f"the largest shares leave {reachable} examples and the budget is {budget}; raise the shares of "
                f"sources that have more, or give a budget of {reachable} at most"
            )
        self._left = budget
        self._owed = sum(self._smallest.values())

    def source(self, column: int) -> Source:
        return self._sources_N[column] if self._sources_N is not None else None

    def refuse(self, column: int) -> str | None:
        """Why the column cannot be accepted any more; what has been refused once always will be."""
        if self._sources_N is None:
            return None
        source = self._sources_N[column]
        if self._taken[source] >= self._largest[source]:
            return "full"
        if self._taken[source] >= self._smallest[source] and self._left <= self._owed:
            return "no room"
        return None

    def accept(self, column: int) -> None:
        if self._sources_N is None:
            return
        source = self._sources_N[column]
        self._owed -= self._taken[source] < self._smallest[source]
        self._taken[source] += 1
        self._left -= 1

    def require_room(self, columns: Sequence[int]) -> None:
        """That these can all be accepted.

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

    def unmet(self) -> str:
        """The smallest shares that were not reached, for a message."""
        if self._sources_N is None:
            return ""
        unmet = [
            f"{source!r} has {self._taken[source]} of at least {smallest}"
            for source, smallest in self._smallest.items()
            if self._taken[source] < smallest
        ]
        return "; " + ", ".join(unmet) if unmet else ""


def _share(shares: Mapping[str, float], source: Source, otherwise: int) -> Fraction:
    """Exactly the fraction that was written: 0.29 of 100 is 29, which floats miss."""
    named = shares.get(source) if source is not None else None
    return Fraction(str(shares.get(_EVERY_OTHER, otherwise) if named is None else named))


def _check_shares(shares: Mapping[str, float], available: Counter[Source]) -> None:
    for source, share in shares.items():
        if source != _EVERY_OTHER and source not in available:
            known = sorted(name for name in available if name is not None)
            listed = ", ".join(known[:20]) + (f" and {len(known) - 20} more" if len(known) > 20 else "")
            raise SettingsError(f"no example has the source {source!r}; the pool has {listed or 'no sources'}")
        if not 0 <= share <= 1:
            raise SettingsError(f"the share of {source!r} is {share}; give a fraction from 0 to 1")


def _check_smallest(
    smallest: Mapping[Source, int],
    largest: Mapping[Source, int],
    available: Counter[Source],
    min_share: Mapping[str, float],
    max_share: Mapping[str, float],
) -> None:
    total = sum(_share(min_share, source, 0) for source in available)
    if total > 1:
        raise SettingsError(f"the smallest shares add up to {float(total):g}; they must not exceed 1")
    for source, count in smallest.items():
        if _share(min_share, source, 0) > _share(max_share, source, 1):
            raise SettingsError(
                f"the smallest share of {source!r} is {float(_share(min_share, source, 0)):g} and its largest "
                f"{float(_share(max_share, source, 1)):g}; lower the one or raise the other"
            )
        if count > available[source]:
            raise SettingsError(
                f"the smallest share of {source!r} is {count} examples and the pool has {available[source]} of that "
                "source; lower the share or the budget"
            )


def _checked_always(always: Sequence[int], n: int, budget: int | None) -> list[int]:
    columns = [int(column) for column in always]
    twice = [column for column, count in Counter(columns).items() if count > 1]
    if twice:
        raise SettingsError(f"the example {twice[0]} is named twice among those always to be kept; name it once")
    beyond = [column for column in columns if not 0 <= column < n]
    if beyond:
        raise SettingsError(f"the example {beyond[0]} is always to be kept and there are {n}, numbered from 0")
    if budget is not None and not max(1, len(columns)) <= budget <= n:
        raise SettingsError(
            f"the budget is {budget}, there are {n} examples, and {len(columns)} of them are always to be kept; give a "
            f"budget from {max(1, len(columns))} to {n}"
        )
    return columns


def _checked_cosine(candidates: Candidates | None, max_cosine: float | None) -> tuple[Candidates | None, float]:
    if max_cosine is None:
        return None, 1.0
    if not -1 <= max_cosine <= 1:
        raise SettingsError(f"the largest cosine is {max_cosine}; give a number from -1 to 1, such as 0.95")
    if candidates is None:
        raise SettingsError("near-duplicates are told by features, and this method has none: leave max_cosine out")
    return candidates, max_cosine


class _Unlike:
    """The unit features of what has been accepted, a block's at a time; with no features nothing is near anything."""

    def __init__(self, candidates: Candidates | None, max_cosine: float) -> None:
        self._candidates = candidates
        self._max_cosine = max_cosine
        self._kept: list[tuple[NDArray[np.int64], NDArray[np.float32]]] = []

    def beside(self, columns_C: NDArray[np.int64]) -> "_Beside":
        """Some columns beside all that was accepted before them."""
        if self._candidates is None or not columns_C.size:
            return _Beside(columns_C, np.zeros((columns_C.size, 0), np.float32), self._max_cosine)
        beside = _Beside(columns_C, _unit(self._candidates(columns_C)), self._max_cosine)
        for columns_K, features_KE in self._kept:
            beside.compare(columns_K, features_KE)
        return beside

    def keep(self, beside: "_Beside") -> None:
        accepted = np.flatnonzero(beside.accepted_C)
        if self._candidates is not None and accepted.size:
            self._kept.append((beside.columns_C[accepted], beside.features_CE[accepted]))


class _Beside:
    """A block of columns and, of each, the accepted one nearest to it so far."""

    def __init__(self, columns_C: NDArray[np.int64], features_CE: NDArray[np.float32], max_cosine: float) -> None:
        self.columns_C = columns_C
        self.features_CE = features_CE
        self.accepted_C = np.zeros(columns_C.size, dtype=np.bool_)
        self._max_cosine = max_cosine
        self._within_CC = np.clip(features_CE @ features_CE.T, -1, 1)
        self._cosine_C = np.full(columns_C.size, -np.inf, dtype=np.float32)
        self._nearest_C = np.full(columns_C.size, -1, dtype=np.int64)

    def compare(self, columns_K: NDArray[np.int64], features_KE: NDArray[np.float32]) -> None:
        cosine_CK = np.clip(self.features_CE @ features_KE.T, -1, 1)
        place_C = np.argmax(cosine_CK, axis=1)
        self._nearer(cosine_CK[np.arange(place_C.size), place_C], columns_K[place_C])

    def accept(self, place: int) -> None:
        self.accepted_C[place] = True
        self._nearer(self._within_CC[:, place], self.columns_C[place])

    def too_near(self, place: int) -> NearDuplicate | None:
        cosine = float(self._cosine_C[place])
        if cosine <= self._max_cosine:
            return None
        return NearDuplicate(int(self.columns_C[place]), int(self._nearest_C[place]), cosine)

    def _nearer(self, cosine_C: NDArray[np.float32], columns: NDArray[np.int64] | np.int64) -> None:
        nearer_C = cosine_C > self._cosine_C
        self._cosine_C = np.where(nearer_C, cosine_C, self._cosine_C)
        self._nearest_C = np.where(nearer_C, columns, self._nearest_C)


def _unit(features_CE: NDArray[np.float32]) -> NDArray[np.float32]:
    """Rows at unit norm; a zero row stays one."""
    norm_C = np.sqrt(np.square(features_CE, dtype=np.float64).sum(axis=1))
    norm_C[norm_C == 0] = 1
    unit_CE: NDArray[np.float32] = (features_CE / norm_C[:, None]).astype(np.float32)
    return unit_CE


class Turn(NamedTuple):
    """A pick and the target that took it."""

    target: str
    column: int
    score: float
    query: int


def split_between(
    orders: Mapping[str, Order], weights: Mapping[str, float], n: int, *, expected: int = 0
) -> Iterator[Turn]:
    """Let targets take turns, each its own next best that none has taken, until all columns are taken.

    After any number k of turns, each target has had its share of k, rounded up or down; with equal weights they take
    turns in order. The first taker of a column that several want is the one whose turn it is.

    Source: who is next is the quota method of Balinski and Young, "The quota method of apportionment", American
    Mathematical Monthly 1975, seats being turns.

    Args:
        orders: of each target, over the same columns 0 to n − 1.
        weights: one a target, positive, of any sum.
        n: number of columns.
        expected: how many turns will be taken, about: an order is first asked for its share of them.

    Raises:
        SettingsError: there is no target, weights and targets do not go together, or a weight is not positive.
    """
    if not orders or set(orders) != set(weights):
        raise SettingsError(
            f"there are targets {', '.join(orders) or 'none'} and weights for {', '.join(weights) or 'none'}; give "
            "every target one weight"
        )
    for target, weight in weights.items():
        if not 0 < weight < math.inf:
            raise SettingsError(f"the weight of the target {target!r} is {weight}; give a positive number")
    return _turns(orders, {target: Fraction(str(weights[target])) for target in orders}, n, expected)


def _turns(orders: Mapping[str, Order], weights: Mapping[str, Fraction], n: int, expected: int) -> Iterator[Turn]:
    whole = sum(weights.values())
    had = dict.fromkeys(orders, 0)
    first = {target: math.ceil(expected * weight / whole) for target, weight in weights.items()}
    own = {
        target: (pick for block in _blocks(order, n, first[target]) for pick in block)
        for target, order in orders.items()
    }
    taken: set[int] = set()
    for turn in range(1, n + 1):
        below = [target for target in orders if had[target] * whole < weights[target] * turn]
        target = max(below, key=lambda target: weights[target] / (had[target] + 1))
        pick = next(pick for pick in own[target] if pick.column not in taken)
        had[target] += 1
        taken.add(pick.column)
        yield Turn(target, *pick)
