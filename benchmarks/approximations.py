"""The price of fewer tokens and fewer layers: what is chosen beside what whole gradients choose, and the time of a row.

    python benchmarks/approximations.py [--records 600] [--queries 24] [--timed 48] [--rounds 3] [--write]

The demo's model at the checkpoint of one warmup, some of its pool, some queries of all three targets; the pool's rows
through Adam, unprojected, so that what is compared is the approximation alone. A row of some layers is made of the
whole row's coordinates (``tests/gradients/test_carriers.py`` holds the product to that), so the rows of all layers are
computed once. Beside them: the default projection, twice, which every run has anyway; and the queries' answers cut as
the pool's, which handpick does not do: this comparison is the reason.

Overlap: the share of the whole gradients' choice (10% by round-robin) that is chosen too, mean over the targets. Time:
processor time of rows of the same records as the product makes them, projected, in turns.

Legend: N candidates, Q queries, D coordinates of the gradient, K features.
"""

import argparse
import gzip
import json
import tempfile
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from statistics import mean, median
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from handpick import bundled
from handpick.algorithms import rank
from handpick.data.examples import Example, Message
from handpick.data.pool import Pool
from handpick.data.quarantine import Quarantine
from handpick.gradients.projection import SparseProjection
from handpick.layer_numbers import layers_among
from handpick.objectives.next_token import NextToken
from handpick.scorers.gradient_encoder import GradientEncoder
from handpick.scorers.gradient_stores import GradientStores
from handpick.scorers.inputs import Data, Inputs, open_renderer
from handpick.settings import Settings
from handpick.store.codec import row_norms, unit_rows

RESULT = Path(__file__).parent / "results" / "approximations.md"
TARGETS = ("gsm8k", "boolq", "mbpp")
TOKENS = (64, 32, 16)
Given = dict[str, Any]
Floats = NDArray[np.float32]


def examples_of(path: Path, n: int) -> list[Example]:
    """The first records of a file."""
    text = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    records = [json.loads(line) for line in islice(text.decode().splitlines(), n)]
    return [Example("", tuple(Message(m["role"], m["content"]) for m in r["messages"]), b"") for r in records]


def write_sample(records: int, path: Path) -> Path:
    """Some of the demo's records, drawn at random."""
    texts = [gzip.decompress(each.read_bytes()).decode() for each in bundled.pool_paths()]
    lines = [line for text in texts for line in text.splitlines(keepends=True)]
    rows = np.random.default_rng(0).permutation(len(lines))[:records]
    path.write_text("".join(lines[row] for row in sorted(rows.tolist())), encoding="utf-8")
    return path


def warm_up(given: Given, out: Path) -> list[str]:
    """The checkpoints of a warmup, as a run with the method's defaults trains it."""
    settings = Settings(**given, out=str(out))
    data = Data(Pool.open(settings.pool, cache=out, quarantine=Quarantine(out / "bad.jsonl")), Quarantine(out / "bad"))
    stores = GradientStores(Inputs(settings, data, None, open_renderer(settings)))
    return [str(path) for path in stores.checkpoints[0]]


class Rows:
    """Whole rows at unit norm, of the pool through Adam and of queries plain, with answers cut or not."""

    def __init__(self, given: Given, n_queries: int) -> None:
        self._settings = Settings(**given | {"projection": "none"})
        self._renderer = open_renderer(self._settings)
        paths = [Path(path) for path in self._settings.checkpoints]
        self.encoder = GradientEncoder(self._settings, paths, self._renderer.tokenizer, "adam")
        self._pool = examples_of(Path(self._settings.pool[0]), 1 << 30)
        self._queries = {target: examples_of(bundled.target_path(target), n_queries) for target in TARGETS}

    def _rows(self, examples: list[Example], optimizer: Any, n: int | None) -> Floats:
        objective = NextToken(self._renderer, self._settings.max_length, n)
        rows_ND = self.encoder.encode(0, optimizer, objective, objective.prepare(examples).items)
        return unit_rows(rows_ND, row_norms(rows_ND))

    def pool(self, n: int | None = None) -> Floats:
        return self._rows(self._pool, "adam", n)

    def queries(self, n: int | None = None) -> dict[str, Floats]:
        return {target: self._rows(examples, "sgd", n) for target, examples in self._queries.items()}

    def coordinates_of(self, layers: str) -> NDArray[np.bool_]:
        """Which coordinates belong to these layers."""
        engine = self.encoder._engine
        meant = {id(module) for n in layers_among(layers, len(engine.blocks)) for module in engine.blocks[n].modules()}
        return np.concatenate([np.full(layer.size, id(layer.module) in meant) for layer in engine.layers])

    def thirds(self) -> dict[str, str]:
        """Lists of layers as wide as the late third, from the front and from the middle."""
        n = len(self.encoder._engine.blocks)
        width = -(-n // 3)
        middle = (n - width) // 2
        return {
            "--layers late": "late",
            f"--layers {middle}-{middle + width - 1} (middle)": f"{middle}-{middle + width - 1}",
            f"--layers 0-{width - 1} (early)": f"0-{width - 1}",
        }


def choose(pool_ND: Floats, queries: dict[str, Floats]) -> dict[str, set[int]]:
    """What round-robin takes for each target."""
    chosen = {}
    for target, query_QD in queries.items():
        units = [unit_rows(rows, row_norms(rows)) for rows in (query_QD, pool_ND)]
        chosen[target] = set(rank(units[0] @ units[1].T, len(pool_ND) // 10, "round-robin").tolist())
    return chosen


def project(rows_ND: Floats, seed: int) -> Floats:
    """The default projection of whole rows, (N, K)."""
    projection = SparseProjection(8192, seed, 1)
    rows = torch.from_numpy(rows_ND)
    sums = projection.begin(len(rows), like=rows)
    projection.add(sums, rows, 0)
    return projection.finish(sums).numpy()


def choices(rows: Rows) -> Iterator[tuple[str, dict[str, set[int]]]]:
    """Every variant's choice; the first is the whole gradients'."""
    pool_ND, queries = rows.pool(), rows.queries()
    yield "whole gradients", choose(pool_ND, queries)
    for seed in (0, 1):
        projected = {target: project(own, seed) for target, own in queries.items()}
        yield f"projected to 8,192, seed {seed}", choose(project(pool_ND, seed), projected)
    for name, layers in rows.thirds().items():
        is_kept_D = rows.coordinates_of(layers)
        yield name, choose(pool_ND[:, is_kept_D], {target: own[:, is_kept_D] for target, own in queries.items()})
    is_late_D = rows.coordinates_of("late")
    for n in TOKENS:
        pool_ND = rows.pool(n)
        yield f"--response-tokens {n}", choose(pool_ND, queries)
        yield f"the same, queries cut too ({n})", choose(pool_ND, rows.queries(n))
        late = {target: own[:, is_late_D] for target, own in queries.items()}
        yield f"--layers late --response-tokens {n}", choose(pool_ND[:, is_late_D], late)


def speeds(given: Given, timed: int, rounds: int) -> dict[str, float]:
    """Processor time of the product's rows beside whole gradients' projected ones, median of rounds in turns."""
    variants: dict[str, Given] = {"whole gradients": {}, "--layers late": {"layers": "late"}}
    variants |= {f"--response-tokens {n}": {"response_tokens": n} for n in TOKENS}
    variants |= {f"--layers late --response-tokens {n}": {"layers": "late", "response_tokens": n} for n in TOKENS}
    made = {}
    for name, changed in variants.items():
        settings = Settings(**given | changed)
        renderer = open_renderer(settings)
        objective = NextToken(renderer, settings.max_length, settings.response_tokens)
        encoder = GradientEncoder(settings, [Path(p) for p in settings.checkpoints], renderer.tokenizer, "adam")
        made[name] = encoder, objective, objective.prepare(examples_of(Path(settings.pool[0]), timed)).items
    took: dict[str, list[float]] = {name: [] for name in made}
    for at in range(rounds + 1):
        for name, (encoder, objective, items) in made.items():
            began = time.process_time()
            encoder.encode(0, "adam", objective, items)
            if at:  # the first warms up
                took[name].append(time.process_time() - began)
    whole = took["whole gradients"]
    return {name: median(a / b for a, b in zip(each, whole, strict=True)) for name, each in took.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--records", type=int, default=600)
    parser.add_argument("--queries", type=int, default=24, help="of each target")
    parser.add_argument("--timed", type=int, default=48)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--write", action="store_true", help="write the table to results/approximations.md")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        given: Given = {
            "pool": str(write_sample(asked.records, folder / "pool.jsonl")), "model": str(bundled.model_path()),
            "max_length": 256, "dtype": "float32",
        }  # fmt: skip
        given["checkpoints"] = warm_up(given, folder / "warmed")
        times = speeds(given, asked.timed, asked.rounds)
        found = dict(choices(Rows(given, asked.queries)))
    whole = found["whole gradients"]
    n_chosen = len(next(iter(whole.values())))
    lines = [
        f"{asked.records:,} records of the demo's pool, its model, {asked.queries} queries of each of "
        f"{', '.join(TARGETS)}, {n_chosen} chosen for each; float32 on a CPU; processor time of {asked.timed} rows "
        f"through Adam, {asked.rounds} rounds in turns.",
        "",
        "| rows | share of the choice, mean (by target) | time ÷ whole gradients' |",
        "|---|---|---|",
    ]
    for variant, chosen in found.items():
        shares = [len(chosen[target] & whole[target]) / n_chosen for target in TARGETS]
        by_target = ", ".join(f"{share:.0%}" for share in shares)
        spent = f"{times[variant]:.2f}" if variant in times else ""
        lines.append(f"| {variant} | {mean(shares):.0%} ({by_target}) | {spent} |")
    text = "\n".join(lines) + "\n"
    print(text)
    if asked.write:
        RESULT.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
