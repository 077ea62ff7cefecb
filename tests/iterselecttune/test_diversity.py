"""Clusters, and a beginning of their rows that has as many of each as can be."""

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from handpick.iterselecttune.diversity import clusters, interleave_clusters


def blobs(n_each: int, k: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Unit rows around k directions at right angles, shuffled, and the direction of each."""
    rng = np.random.default_rng(seed)
    truth = rng.permutation(np.repeat(np.arange(k), n_each))
    rows = np.eye(k, 16)[truth] + 0.02 * rng.standard_normal((k * n_each, 16))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32), truth


def test_what_lies_apart_is_told_apart() -> None:
    rows, truth = blobs(40, 5, seed=1)
    found = clusters(rows, 5, seed=0)
    assert len(np.unique(np.stack([found, truth]), axis=1).T) == 5


def test_centres_are_fitted_on_a_sample_and_every_row_has_a_cluster() -> None:
    rows, truth = blobs(700, 2, seed=2)  # more than 256 a cluster
    found = clusters(rows, 2, seed=0)
    assert found.shape == truth.shape
    assert len(np.unique(np.stack([found, truth]), axis=1).T) == 2


def test_the_same_seed_gives_the_same_clusters_and_no_more_than_there_are_rows() -> None:
    rows, _ = blobs(30, 3, seed=3)
    assert (clusters(rows, 7, seed=4) == clusters(rows, 7, seed=4)).all()
    assert set(clusters(rows[:3], 100, seed=0).tolist()) <= {0, 1, 2}


@given(st.lists(st.integers(0, 4), min_size=1, max_size=40), st.integers(0, 3))
def test_clusters_take_turns(labels: list[int], seed: int) -> None:
    cluster_N = np.array(labels)
    order = interleave_clusters(cluster_N, seed).tolist()
    assert sorted(order) == list(range(len(labels)))
    left = {cluster: labels.count(cluster) for cluster in labels}
    turn: list[int] = []
    first: list[int] = []
    for row in order:  # by hand: a round is over when every cluster that has rows left has given one
        if not turn:
            turn = [cluster for cluster in left if left[cluster]]
        assert labels[row] in turn
        turn.remove(labels[row])
        left[labels[row]] -= 1
        if len(first) < len(left):
            first.append(labels[row])
    assert sorted(first) == sorted(left)


def test_the_order_is_drawn() -> None:
    cluster_N = np.arange(60) % 6
    assert (interleave_clusters(cluster_N, 0) == interleave_clusters(cluster_N, 0)).all()
    assert (interleave_clusters(cluster_N, 0) != interleave_clusters(cluster_N, 1)).any()


SHORT_OF_MEMORY = r"""
import re, resource
import numpy as np
from pathlib import Path
from sklearn.cluster import KMeans
from handpick.errors import is_out_of_memory
from handpick.iterselecttune.diversity import clusters

size = int(re.search(r"VmSize:\s*(\d+)", Path("/proc/self/status").read_text())[1]) << 10
resource.setrlimit(resource.RLIMIT_AS, (size + (20 << 20),) * 2)
try:
    clusters(np.eye(4, dtype=np.float32), 2, seed=0)
except OSError as error:
    print(is_out_of_memory(error))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the size of a process is read from Linux's /proc")
def test_clusters_without_memory_to_work_in_do_not_hang() -> None:
    done = subprocess.run(
        [sys.executable, "-c", SHORT_OF_MEMORY], capture_output=True, text=True, check=False, timeout=200
    )
    assert (done.stdout, done.stderr) == ("True\n", "")
