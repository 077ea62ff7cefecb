"""What it costs to hold every file against its checksum: processor seconds in the checks, of all that a choice takes.

    python benchmarks/damage_check.py [--rows 100000] [--rounds 5]

A pool of short records, whose rows are 1,024 numbers drawn by their ids, kept as int8, and 32 queries: `select` from
the finished store by round-robin, each round in a process of its own, with its start and imports. Counted as checks are
the checksum of every shard and the reading of its sidecar, the digests of ids and of documents, and the checksums of
parsed tables: each with all that it does first, bringing the file into memory too. Writes
benchmarks/results/damage_check.md.

Shapes: N examples.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import threading
import time
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from handpick.data.render import Renderer
from handpick.fingerprint import Fingerprint
from handpick.objectives.protocol import Prepared, prepare_each
from handpick.representations import SCORERS, ScorerSpec
from handpick.scorers.row_scorer import RowEncoder

RESULTS = Path(__file__).parent / "results"
DIM, QUERIES = 1024, 32


class Drawn(RowEncoder):
    """A row of numbers drawn by the record's id."""

    dim = DIM

    @classmethod
    def open(cls, settings: Any, renderer: Renderer | None) -> Self:
        """Return the encoder."""
        return cls()

    def space(self) -> Fingerprint:
        """Return what rows must share to be compared."""
        return {"representation": "drawn"}

    def build(self) -> Fingerprint:
        """Return nothing more."""
        return {}

    def prepare(self, examples: Sequence[Any]) -> Prepared:
        """Return the ids as numbers."""
        return prepare_each(examples, lambda example: zlib.crc32(example.id.encode()))

    def encode(self, items: Sequence[Any], advance: Callable[[float], None] = lambda n: None) -> NDArray[np.float32]:
        """Return the rows, float32 (N, 1024)."""
        return np.array([np.random.default_rng(item).standard_normal(DIM, np.float32) for item in items])


def add_representation() -> None:
    """Put ``drawn`` into the table."""
    SCORERS["drawn"] = ScorerSpec(  # type: ignore[index]
        f"{__name__}:Drawn", "numbers drawn by the id", "ours", "features", frozenset({"query"}),
        frozenset({"storage"}), rows=frozenset({"storage"}),
    )  # fmt: skip


class Clock:
    """Processor seconds of this process in calls that were put under it, each counted once where they nest."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self._here = threading.local()
        self._lock = threading.Lock()

    def watch(self, module: Any, name: str) -> None:
        """Put a module's function under the clock."""
        call = getattr(module, name)

        def timed(*args: Any, **kwargs: Any) -> Any:
            if getattr(self._here, "inside", False):
                return call(*args, **kwargs)
            self._here.inside, began = True, time.thread_time()
            try:
                return call(*args, **kwargs)
            finally:
                self._here.inside = False
                with self._lock:
                    self.seconds += time.thread_time() - began

        setattr(module, name, timed)


def settings_in(folder: Path) -> dict[str, Any]:
    """Return what both the store and the choice are made with."""
    return {
        "pool": [str(folder / "pool.jsonl")], "representation": "drawn", "storage": "int8", "out": str(folder / "run"),
    }  # fmt: skip


def make(folder: Path, n_rows: int) -> None:
    """Write the records, and the store of the pool's rows."""
    from handpick.pipeline.run import run_represent
    from handpick.settings import Settings

    add_representation()
    for name, n in (("pool", n_rows), ("query", QUERIES)):
        with (folder / f"{name}.jsonl").open("w") as out:
            for i in range(n):
                turns = [{"role": "user", "content": f"question {i}"}, {"role": "assistant", "content": f"answer {i}"}]
                out.write(json.dumps({"id": f"{name}-{i}", "messages": turns}) + "\n")
    run_represent(Settings(**settings_in(folder)))


def choose(folder: Path) -> None:
    """Choose from the store, and print the processor seconds of the checks and of all."""
    from handpick import sealed
    from handpick.data import cache
    from handpick.pipeline.run import run_select
    from handpick.settings import Settings
    from handpick.store import manifest, shard_file

    add_representation()
    clock = Clock()
    for module, name in (
        (shard_file, "_check"), (shard_file, "ids_digest"), (cache, "_find_damage"), (manifest, "unseal"),
        (sealed, "unseal"), (sealed, "seal"),
    ):  # fmt: skip
        clock.watch(module, name)
    run_select(
        Settings(**settings_in(folder), query=[str(folder / "query.jsonl")], algorithm="round-robin", budget="1000")
    )
    print(json.dumps([clock.seconds, time.process_time()]))


def rates() -> dict[str, float]:
    """Return bytes a second, one thread, of checksums over a gigabyte in pieces of a shard's size."""
    import hashlib

    piece = np.random.default_rng(0).bytes(1 << 22)
    checksums: dict[str, Callable[[bytes], object]] = {
        "CRC-32 (zlib)": zlib.crc32,
        "SHA-256 (hashlib)": lambda data: hashlib.sha256(data).digest(),
    }
    try:
        import xxhash

        checksums["XXH3 (xxhash)"] = xxhash.xxh3_64_intdigest
    except ImportError:
        pass
    found = {}
    for name, checksum in checksums.items():
        began = time.process_time()
        for _ in range(256):
            checksum(piece)
        found[name] = 256 * len(piece) / (time.process_time() - began)
    return found


def main() -> None:
    """Make the store, choose from it in so many rounds, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", choices=["make", "choose"], help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.only == "make":
        make(options.folder, options.rows)
        return
    if options.only == "choose":
        choose(options.folder)
        return
    with tempfile.TemporaryDirectory(prefix="handpick-") as scratch:
        command = [sys.executable, __file__, "--folder", scratch, "--rows", str(options.rows), "--only"]
        subprocess.run([*command, "make"], check=True)
        rounds = []
        for _ in range(options.rounds + 1):  # in the first the queries' rows are made
            done = subprocess.run([*command, "choose"], check=True, capture_output=True, text=True)
            rounds.append(json.loads(done.stdout.splitlines()[-1]))
    checks, all_of_it = (list(each) for each in zip(*rounds[1:], strict=True))
    shares = [100 * check / whole for check, whole in rounds[1:]]
    said = (
        f"`python benchmarks/damage_check.py --rows {options.rows}`, {time.strftime('%Y-%m-%d')}: `select` from a "
        f"store of {options.rows:,} × {DIM:,} int8 and its parsed pool, {QUERIES} queries, one thread.\n\n"
        "| | median | rounds |\n|---|---|---|\n"
        f"| processor seconds in the checks | {median(checks):.2f} | {', '.join(f'{x:.2f}' for x in checks)} |\n"
        f"| processor seconds of all | {median(all_of_it):.2f} | {', '.join(f'{x:.2f}' for x in all_of_it)} |\n"
        f"| share | **{median(shares):.1f}%** | {', '.join(f'{x:.1f}%' for x in shares)} |\n\n"
        "Gigabytes a second of checksums here, one thread: "
        + ", ".join(f"{name} {rate / 1e9:.1f}" for name, rate in rates().items())
        + ".\n"
    )
    (RESULTS / "damage_check.md").write_text(said)
    print(said)


if __name__ == "__main__":
    main()
