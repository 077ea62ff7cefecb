"""A map of pool, queries and picks: the features that a run compared, in the plane in which the pool differs most.

Shapes: C rows asked for, D features of a checkpoint.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from handpick.data.examples import Message
from handpick.data.plain_text import begin_text
from handpick.errors import HandpickError
from handpick.random_streams import generator
from handpick.reporting.iterated import Iterated
from handpick.reporting.page import replace_unprintable
from handpick.reporting.plane import Places, principal_plane
from handpick.reporting.run_folder import RunFolder, as_finished
from handpick.scorers.cascade import Cascade
from handpick.scorers.finished_run import POOL_GONE, columns_of
from handpick.store import FeatureStore
from handpick.store.codec import Floats
from handpick.store.sign_rows import query_slope

_SEED = 0
_POOL, _QUERIES, _PICKS = 1_000, 400, 600  # points of each, at most
_TEXT = 160  # characters of a point's
_WIDTH, _LEAST, _MOST, _EDGE = 1000.0, 300.0, 760.0, 14.0  # of the drawing, in its own units

Columns = NDArray[np.int64]


@dataclass(frozen=True)
class MapLayer:
    """Points of one kind: ``points`` are x, y, id, text and, of a pick, the place of its query; ``total`` counts all
    there are, of which these are some."""

    name: str
    points: list[list[Any]]
    total: int

    @property
    def dots(self) -> str:
        """A path of points, for a round pen."""
        return "".join(f"M{x:g} {y:g}h0" for x, y, *_ in self.points)

    @property
    def triangles(self) -> str:
        """A path of small triangles."""
        return "".join(f"M{x - 6:g} {y + 5:g}h12l-6-11z" for x, y, *_ in self.points)


@dataclass(frozen=True)
class FeatureMap:
    """``what`` the features are. ``shares`` are the parts of the pool's variance that lie across and up."""

    what: str
    n_features: int
    shares: tuple[float, float]
    width: float
    height: float
    pool: MapLayer
    queries: MapLayer
    picks: MapLayer
    note: str

    def data(self) -> dict[str, Any]:
        """Return what the page's script shows of a point; JSON values."""
        return {
            "layers": [{"name": layer.name, "points": layer.points} for layer in (self.pool, self.queries, self.picks)]
        }


def read_feature_map(run: RunFolder) -> FeatureMap | str:
    """Return the map, or why there is none; reads some rows of the run's features and computes no other.

    Memory is bounded by the points: of every checkpoint their rows, and the sample's inner products.
    """
    if isinstance(run.made_by, Iterated):
        return "iterselect has no queries to lay beside the pool"
    finished, note = as_finished(run, run.made_by), ""
    without: frozenset[str] = frozenset()
    try:
        if run.made_by.prefilter:
            opened = Cascade.open_part(finished)
            if isinstance(opened, str):
                return opened
            finished, cut = opened
            without = frozenset(cut.checked_ids)
            note = f"The pool is what {', then '.join(run.made_by.prefilter)} left of it."
        settings = finished.settings
        if settings.scorer.output != "features":
            return f"{settings.used_representation} makes no features that could be drawn"
        store = finished.store("pool")
        if store is None:
            return POOL_GONE
        if "scores for" in store.manifest.space:
            return "only the similarities were kept (--score-only), and no features"
        query_store = finished.store("query")
        if query_store is not None and query_store.manifest.space != store.manifest.space:
            query_store = None
        if query_store is None:
            note = f"{note} The queries' features are not in the folder, so that no query is drawn.".strip()
        return _draw(run, settings.used_representation, store, query_store, note, without)
    except (HandpickError, OSError) as error:
        return str(error)


def _draw(
    run: RunFolder, what: str, store: FeatureStore, query_store: FeatureStore | None, note: str, without: frozenset[str]
) -> FeatureMap | str:
    column_of, n_dims = columns_of(store), store.dim * len(store.weights)
    if n_dims < 2 or len(store) < 3:
        return f"{n_dims:,} features of {len(store):,} examples span no plane"
    there = np.array([column for each, column in column_of.items() if each not in without], dtype=np.int64)
    sample = np.sort(there[generator(_SEED, "points of the map").permutation(len(there))[:_POOL]])
    picks = [pick for pick in run.picks if pick.id in column_of]
    picks_shown = picks[:_PICKS]
    columns = [sample, np.array([column_of[pick.id] for pick in picks_shown], dtype=np.int64)]
    query_ids = [] if query_store is None else query_store.ids[:_QUERIES]
    # a stored sign row of unit row x is x / slope, but for noise: the queries, which are float32, are put on its scale
    slope = query_slope(store.manifest.storage)

    def read(t: int) -> list[Floats]:
        root, rows = np.float32(np.sqrt(store.weights[t])), store.on_disk(t)
        queries = np.zeros((0, store.dim), np.float32)
        if query_store is not None:
            queries = query_store.on_disk(t)[: len(query_ids)] / np.float32(slope)
        return [root * rows[columns[0]], root * queries, root * rows[columns[1]]]

    plane = principal_plane(read, len(store.weights))
    if plane is None:
        return "the features of the pool are all alike"
    height, (pool_P2, queries_P2, picks_P2) = _fit(plane.places)
    names = list(column_of)
    chosen = {pick.id for pick in run.picks}
    drawn = [place for place, column in enumerate(sample.tolist()) if names[column] not in chosen]
    texts = _texts_of(run, [names[sample[place]] for place in drawn])
    place_of = {query_id: place for place, query_id in enumerate(query_ids)}
    pool = [_point(pool_P2[at], *each) for at, each in zip(drawn, texts, strict=True)]
    asked = run.queries or {}
    queries = [_point(at, each, _cut(asked.get(each, ()))) for at, each in zip(queries_P2, query_ids, strict=True)]
    shown = [
        [*_point(at, pick.id, _cut(pick.messages)), place_of.get(pick.picked_for or "")]
        for at, pick in zip(picks_P2, picks_shown, strict=True)
    ]
    return FeatureMap(
        what,
        n_dims,
        plane.shares,
        _WIDTH,
        height,
        MapLayer("pool", pool, len(there) - len(picks)),
        MapLayer("query", queries, 0 if query_store is None else len(query_store)),
        MapLayer("pick", shown, len(run.picks)),
        note,
    )


def _fit(groups: Sequence[Places]) -> tuple[float, list[Places]]:
    """Return the height of a drawing of the groups, one scale for both ways, and where they are in it."""
    whole = np.concatenate(groups)
    low, span = whole.min(axis=0), np.maximum(np.ptp(whole, axis=0), 1e-12)
    height = float(np.clip(span[1] / span[0] * _WIDTH, _LEAST, _MOST))
    scale = min((_WIDTH - 2 * _EDGE) / span[0], (height - 2 * _EDGE) / span[1])
    middle, centre = low + span / 2, np.array([_WIDTH / 2, height / 2])
    return height, [centre + (group - middle) * scale * [1, -1] for group in groups]


def _point(place_2: Places, example_id: str, text: str) -> list[Any]:
    return [round(float(place_2[0]), 1), round(float(place_2[1]), 1), example_id, text]


def _texts_of(run: RunFolder, ids: Sequence[str]) -> list[tuple[str, str]]:
    """Return each id with the beginning of its text, which is empty where the pool cannot be read."""
    if run.pool is None:
        return [(each, "") for each in ids]
    found = run.pool.find(ids)
    return [(each, _cut(found[each][1].messages) if each in found else "") for each in ids]


def _cut(messages: Sequence[Message]) -> str:
    return str(replace_unprintable(begin_text(messages, _TEXT)))
