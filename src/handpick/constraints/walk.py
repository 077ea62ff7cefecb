"""A walk down an algorithm's order, or down several targets' in turns, that passes over what a constraint forbids.

Shapes: N candidates, B picks.
"""

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from handpick.algorithms.protocol import Kernel, inner_products
from handpick.constraints.limits import Limit
from handpick.constraints.near_duplicates import AcceptedFeatures, Candidates, NearDuplicate, check_cosine
from handpick.constraints.order import Order, Pick, column_blocks, pick_blocks
from handpick.constraints.quotas import Quotas, Source
from handpick.constraints.targets import check_weights, take_turns
from handpick.errors import SettingsError

_EXPECTED = 1000  # examples of a budget that is in something else


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


class Walk:
    """What is accepted of an order, or of several, one by one; to be iterated over once.

    A column is accepted unless its source is full, or the room that is left is needed for the smallest shares of
    other sources, or its cosine to an accepted one is too large. ``passed`` says at any time what has been passed
    over until then.

    Several targets take turns by weight (``take_turns``), and each accepts its own next best that none has taken: a
    turn goes on until something is accepted, so that no constraint takes a target's share from it. The first taker of
    a column that several want is the one whose turn it is.

    Without shares a smaller budget gives the head of a larger one's list; with shares it need not, for a share is
    of the budget. Two near-duplicates that are both in ``always`` both stay.

    Args:
        order: of the columns 0 to n − 1, all of them if asked for n; asked for more and more as the walk goes on. Or
            one such order a target, by name.
        n: number of columns.
        budget: how many to accept; None: as many as there are, for whoever counts something else.
        weights: of the targets, positive, of any sum; only with several orders, and all alike where nothing is said.
        sources_N: the source of every column.
        max_share: the largest part of the budget that a source may have; "*" is each source that is not named.
            Rounded up to whole examples, so that shares that add up to 1 leave room for the budget. Or a number of
            examples (``Examples``).
        min_share: the smallest part, "*" likewise; rounded down, so that shares that add up to 1 fit into it.
        always: columns that come first, in this order and with score 0 and no query; they count in all shares.
        candidates: features of columns; the cosine of a zero row to anything is 0. Those of what is accepted are
            held, B·E float32 values, and never all similarities.
        kernel: makes cosines of unit features; their inner products, where nothing is said.
        max_cosine: the largest cosine to an accepted column, from −1 to 1; 1 lets everything pass.

    Raises:
        SettingsError: when made, constraints that no selection can meet or that name what is not there, or weights
            that make no shares; when iterated over, the order has ended before the budget was reached.
    """

    def __init__(
        self,
        order: Order | Mapping[str, Order],
        n: int,
        budget: int | None = None,
        *,
        weights: Mapping[str, float] | None = None,
        sources_N: Sequence[Source] | None = None,
        max_share: Mapping[str, Limit] | None = None,
        min_share: Mapping[str, Limit] | None = None,
        always: Sequence[int] = (),
        candidates: Candidates | None = None,
        kernel: Kernel = inner_products,
        max_cosine: float | None = None,
    ) -> None:
        self.passed = PassedOver()
        self._orders = order if isinstance(order, Mapping) else {"": order}
        self._weights = check_weights(self._orders, dict.fromkeys(self._orders, 1.0) if weights is None else weights)
        self._n = n
        self._settled_N = bytearray(n)  # 1: accepted, or passed over for good
        self._budget = budget
        self._always = _check_always(always, n, budget)
        self._quotas = Quotas(sources_N, max_share or {}, min_share or {}, budget)
        self._quotas.require_room(self._always)
        self._accepted = AcceptedFeatures(*check_cosine(candidates, max_cosine), kernel)

    def __iter__(self) -> Iterator[Pick]:
        count = 0
        for pick in self._walk():
            yield pick
            count += 1
            if count == self._budget:
                return
        if self._budget is not None:
            raise SettingsError(
                f"only {count} of {self._budget} examples can be chosen; passed over: {self.passed}"
                f"{self._quotas.describe_unmet()}; lower the budget to {count} or loosen what passed them over"
            )

    def _walk(self) -> Iterator[Pick]:
        for columns in column_blocks(self._always):
            yield from self._keep_always(columns)
        whole, expected = sum(self._weights.values()), self._budget or _EXPECTED
        walks = {
            target: self._descend(target, order, math.ceil(expected * self._weights[target] / whole))
            for target, order in self._orders.items()
        }
        for target in take_turns(self._weights):
            pick = next(walks[target], None)
            if pick is None:  # each order has all columns, so that nothing is left for anybody
                return
            yield pick

    def _keep_always(self, columns: Sequence[int]) -> Iterator[Pick]:
        block = self._accepted.compare_block(np.array(columns, dtype=np.int64))
        for place, column in enumerate(columns):
            self._quotas.accept(column)
            self._accepted.accept(block, place)
            self._settled_N[column] = True
            yield Pick(column, 0.0, -1)
        self._accepted.keep(block)

    def _descend(self, target: str, order: Order, expected: int) -> Iterator[Pick]:
        """Yield what of a target's order no constraint forbids, as it is accepted."""
        for block in pick_blocks(order, self._n, expected, target):
            yield from self._filter_block([pick for pick in block if not self._settled_N[pick.column]])

    def _filter_block(self, picks: Sequence[Pick]) -> Iterator[Pick]:
        # what the quotas refuse now they will always refuse: their features need not be read
        hopeful = [pick.column for pick in picks if not self._quotas.refuse(pick.column)]
        block = self._accepted.compare_block(np.array(hopeful, dtype=np.int64))
        place_of = {column: place for place, column in enumerate(hopeful)}
        for pick in picks:
            if self._settled_N[pick.column]:  # for another target, since the block was read
                continue
            self._settled_N[pick.column] = True
            if reason := self._quotas.refuse(pick.column):
                refused = self.passed.full if reason == "full" else self.passed.no_room
                refused[self._quotas.source(pick.column)] += 1
                continue
            place = place_of[pick.column]
            if near := block.find_near_duplicate(place):
                self.passed.near_duplicates.append(near)
                continue
            self._quotas.accept(pick.column)
            self._accepted.accept(block, place)
            yield pick
        self._accepted.keep(block)


def _check_always(always: Sequence[int], n: int, budget: int | None) -> list[int]:
    """Refuse examples to keep that are named twice, are not there, or are more than the budget."""
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
