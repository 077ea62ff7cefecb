"""A process that fills a store by a Ray of its own, for tests that kill it: python -m tests.executors.ray_driver."""

import sys
from pathlib import Path

import torch

from handpick.data.pool import Pool
from handpick.data.quarantine import Quarantine
from handpick.executors import RayActors
from tests.executors.encoders import Counting
from tests.executors.test_processes import fill


def main(source: str, parsed: str, store: str) -> None:
    torch.set_num_threads(1)
    pool = Pool.open([source], cache=Path(parsed), quarantine=Quarantine(Path(parsed) / "quarantine.jsonl"))
    with RayActors(max_workers=2) as executor:
        fill(pool, Path(store), Counting(slow=0.05), executor)


if __name__ == "__main__":
    main(*sys.argv[1:])
