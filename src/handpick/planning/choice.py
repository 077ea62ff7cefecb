"""The last stages: whitening, the similarity, and the algorithm, which the probe runs on numbers drawn at random.

Legend: Q queries, N candidates, K features, T checkpoints, B budget.
"""

import numpy as np
import torch

from handpick.algorithms import AlgorithmSettings, find, pick
from handpick.budget import Budget
from handpick.errors import SettingsError
from handpick.methods import REPRESENTATIONS
from handpick.pipeline.compared import fits_in_memory
from handpick.planning import probe
from handpick.planning.cost import Amount, Stage
from handpick.planning.opened import Opened, resident_bytes
from handpick.planning.probe import once
from handpick.store.codec import encode, products, row_norms

_ROWS = 1_024  # of the pool that are multiplied in the probe
_COLUMNS = 20_000  # that the algorithm chooses from
_ORDER = 1_024  # of the matrices that whitening is timed on


def choice_stages(opened: Opened, n: int, dim: int, n_checkpoints: int) -> list[Stage]:
    """What comes after the features: N candidates of K of them (0: there are none) at T checkpoints."""
    settings = opened.settings
    found = [_whitening(n, dim, n_checkpoints)] if settings.used_representation == "whitened" else []
    kind = REPRESENTATIONS[settings.used_representation]
    n_queries = 1 if opened.query is None or kind.gives in ("scores", "nothing") else len(opened.query)
    flops, seconds = 0.0, 0.0
    if dim and kind.gives == "features":
        flops = 2.0 * n_queries * n * dim * n_checkpoints
        seconds = _products(opened, n_queries, dim) * n * n_checkpoints
    algorithm = find(settings.used_algorithm)
    note = settings.used_algorithm
    if "candidates" in algorithm.reads and settings.kde_width != 0:
        note += ", whose own time depends on the data and is not estimated"
    else:
        seconds += _choosing(opened, n_queries, n)
    if settings.exclude_overlap:
        note += "; looking for overlaps is not estimated"
    chosen = _chosen(opened, n)
    held, disk = resident_bytes(), round(chosen * _mean_raw(opened))
    if fits_in_memory((n_queries, n)):
        held += 4 * n_queries * n
    elif algorithm.whole or settings.splits_budget or settings.used_representation == "bm25":  # else it is streamed
        disk += 4 * n_queries * n
    found.append(Stage("similarity and choice", chosen, None, flops or None, disk, held, Amount.exactly(seconds), note))
    return found


def _chosen(opened: Opened, n: int) -> int:
    """Examples that will be chosen; of a budget in tokens, all at most."""
    budget = Budget.parse(opened.settings.budget)
    if budget.kind == "tokens":
        return n
    try:
        return budget.examples_needed(n)
    except SettingsError:  # of the records that can be used, fewer than of the pool: said by the run
        return n


def _mean_raw(opened: Opened) -> float:
    """Bytes of a record as it will be written again, over some of the pool."""
    pool = opened.pool
    rows = np.random.default_rng(0).integers(0, len(pool), size=min(200, len(pool))).tolist()
    return float(np.mean([len(pool.raw(row)) + 1 for row in rows]))


def _products(opened: Opened, n_queries: int, dim: int) -> float:
    """Seconds a row of the pool, of the similarity to all queries; the stored type widened as it is read."""
    rng = np.random.default_rng(0)
    n_rows = max(1, min(_ROWS, (1 << 26) // dim))
    rows_BK = rng.standard_normal((n_rows, dim), dtype=np.float32)
    storage = opened.settings.storage
    tensors = encode(rows_BK, row_norms(rows_BK), storage)
    query_QK = rng.standard_normal((n_queries, dim), dtype=np.float32)
    return once(lambda: products(query_QK, tensors, storage)) / n_rows


def _choosing(opened: Opened, n_queries: int, n: int) -> float:
    settings = opened.settings
    some = min(n, _COLUMNS)
    similarity_QN = np.random.default_rng(0).standard_normal((n_queries, some), dtype=np.float32)
    budget = max(1, round(_chosen(opened, n) * some / n))
    subtasks = None if opened.query is None else [str(name or "") for name in opened.query.column("subtask")]
    own = AlgorithmSettings(**{name: getattr(settings, name) for name in AlgorithmSettings.model_fields})
    began = probe.clock()
    pick(
        similarity_QN,
        budget,
        settings.used_algorithm,
        subtasks=subtasks if subtasks is not None and len(subtasks) == n_queries else None,
        seed=settings.seed,
        balanced=settings.balanced,
        settings=own,
    )
    return (probe.clock() - began) * n / some


def _whitening(n: int, dim: int, n_checkpoints: int) -> Stage:
    """The pool's covariance, and its factor in float64, at every checkpoint."""
    rng = np.random.default_rng(0)
    order = min(_ORDER, dim)
    rows_BK = rng.standard_normal((order, order), dtype=np.float32)
    a_product = once(lambda: rows_BK.T @ rows_BK) / (2 * order**3)
    positive_KK = torch.from_numpy((rows_BK.T @ rows_BK).astype(np.float64)) + order * torch.eye(order)
    a_factor = once(lambda: torch.linalg.cholesky(positive_KK)) / (order**3 / 3)
    flops = n_checkpoints * (2.0 * n * dim**2 + dim**3 / 3)
    seconds = n_checkpoints * (2.0 * n * dim**2 * a_product + dim**3 / 3 * a_factor)
    return Stage(
        "covariance",
        n,
        None,
        flops,
        n_checkpoints * 8 * dim**2,
        resident_bytes() + 2 * 8 * dim**2,
        Amount.exactly(seconds),
        f"{dim:,} × {dim:,}, its factor in float64",
    )
