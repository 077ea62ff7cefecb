"""Examples of a pool that repeat a test set: found by runs of words they share.

An item of the test set is held against an example by the share of the item's own runs that stand in the example, not
the other way round: a leaked question is there whole however long the answer behind it, while its share of the
example falls with every word of that answer. What a run counts for:

- A run is N_WORDS words in a row within one turn; a shorter turn is one run, so that it matches only a turn that says
  just that. Case, punctuation and white space do not count.
- Runs that many items have tell nothing (those of a template flag every record under it). One that
  d items have counts 1/d, and nothing where d is above COMMON.
- Words of a template make new runs with the words beside them, which a copy under another template lacks. So runs that
  touch a template are left out too, as long as MIN_RUNS are left. A word is the template's where it stands in three in
  a row that more than TEMPLATE_SHARE of the items have (and more than COMMON items).
- Items that are one example under several templates are one item to these counts: they have a group in common.

The method and its numbers are ours (docs/overlap.md has what they were chosen on).
"""

import math
import sys
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from handpick.data.examples import Example
from handpick.data.words import words_of
from handpick.errors import DataError, SettingsError

N_WORDS = 5
COMMON = 10
TEMPLATE_SHARE = 0.2
MIN_RUNS = 3
THRESHOLD = 0.75

Run = tuple[str, ...]

_UNIT = math.lcm(*range(1, COMMON + 1))  # a run of weight 1; whole numbers, so that no sum depends on its order


@dataclass(frozen=True, slots=True)
class Overlap:
    """An example of the pool and the test item that it repeats most of.

    ``row`` and ``item`` are places in the pool and in the test set. ``share`` is the part of the item's own runs that
    stand in the example, ``of_example`` the part of the example's runs that stand anywhere in the test set, both from
    0 to 1 and with common runs discounted.
    """

    row: int
    item: int
    share: float
    of_example: float


class HeldOut:
    """A test set, ready for examples to be held against. Takes some 400 bytes per distinct run, up to 600 while made.

    ``unjudged`` are the items that have no run of their own: none of them can be found in a pool.
    """

    unjudged: tuple[int, ...]

    def __init__(self, examples: Sequence[Example], groups: Sequence[Hashable] | None = None) -> None:
        """Read a test set.

        Args:
            examples: what a model is asked is what is looked for; its answers are not.
            groups: a label per item, the same for items that are one example under several templates; None: none are.

        Raises:
            DataError: there is no item, or not a group for each.
        """
        if not examples:
            raise DataError("the test set to compare with is empty; give a file with at least one record")
        if groups is not None and len(groups) != len(examples):
            raise DataError(f"{len(groups)} groups for {len(examples)} test items; give one for each, or none")
        labels: Sequence[Hashable] = range(len(examples)) if groups is None else groups
        prompts = [[_words(m.content) for m in example.messages if m.role != "assistant"] for example in examples]
        counts = _count_items(prompts, labels, N_WORDS)
        often = max(COMMON, TEMPLATE_SHARE * len(set(labels)))
        template: set[Run] = {run for run, n in _count_items(prompts, labels, 3).items() if n > often and len(run) == 3}

        self._items_of = defaultdict[Run, list[int]](list)
        self._weight = dict.fromkeys(counts, 0)  # 0 for the runs that are no item's own
        self._whole = [0] * len(examples)
        for item, turns in enumerate(prompts):
            for run in _own_runs(turns, counts, template):
                self._items_of[run].append(item)
                self._weight[run] = _UNIT // counts[run]
                self._whole[item] += self._weight[run]
        self.unjudged = tuple(item for item, whole in enumerate(self._whole) if whole == 0)

    def compare(self, row: int, example: Example) -> Overlap | None:
        """Return the item that an example repeats most of, the first of equals.

        None where it shares nothing with any.
        """
        runs = {run for message in example.messages for run in _runs(_words(message.content), N_WORDS)}
        known = runs & self._weight.keys()
        found = Counter[int]()
        for run in known:
            for item in self._items_of.get(run, ()):
                found[item] += self._weight[run]
        if not found:
            return None
        item = max(found, key=lambda i: (found[i] / self._whole[i], -i))
        shared = sum(self._weight[run] for run in known)
        of_example = shared / (shared + _UNIT * (len(runs) - len(known)))
        return Overlap(row, item, found[item] / self._whole[item], of_example)


def overlaps(pool: Iterable[Example], held_out: HeldOut, threshold: float = THRESHOLD) -> Iterator[Overlap]:
    """Yield the examples of a pool that repeat a test item, in the pool's order; one pass, an example at a time.

    Args:
        pool: the examples, whose whole conversations are looked through.
        held_out: the test set.
        threshold: the least ``share`` that is reported, above 0 and at most 1.

    Raises:
        SettingsError: the threshold is out of range.
    """
    if not 0 < threshold <= 1:
        raise SettingsError(f"threshold is {threshold}; an overlap is a share above 0 and at most 1")
    found = (held_out.compare(row, example) for row, example in enumerate(pool))
    return (overlap for overlap in found if overlap is not None and overlap.share >= threshold)


def _words(text: str) -> list[str]:
    # One object a distinct word, which halves the memory of the runs.
    return [sys.intern(word) for word in words_of(unicodedata.normalize("NFKC", text))]


def _runs(words: list[str], length: int) -> list[Run]:
    """Return the runs of a turn in order.

    All the words where there are fewer than ``length``, none where there are none.
    """
    if len(words) < length:
        return [tuple(words)] if words else []
    return list(zip(*(words[i:] for i in range(length)), strict=False))


def _count_items(prompts: list[list[list[str]]], labels: Sequence[Hashable], length: int) -> Counter[Run]:
    """Count the items that have each run, those of a group once."""
    runs_of = defaultdict[Hashable, set[Run]](set)
    for label, turns in zip(labels, prompts, strict=True):
        for words in turns:
            runs_of[label].update(_runs(words, length))
    return Counter(run for runs in runs_of.values() for run in runs)


def _own_runs(turns: list[list[str]], counts: Counter[Run], template: set[Run]) -> set[Run]:
    """Return the runs that tell an item from the others."""
    rare, untouched = set[Run](), set[Run]()
    for words in turns:
        of_template = [False] * len(words)
        for start, three in enumerate(_runs(words, 3)):
            if three in template:
                of_template[start : start + 3] = [True] * 3
        for start, run in enumerate(_runs(words, N_WORDS)):
            if counts[run] <= COMMON:
                rare.add(run)
                if not any(of_template[start : start + N_WORDS]):
                    untouched.add(run)
    return untouched if len(untouched) >= MIN_RUNS else rare
