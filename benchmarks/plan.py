"""Is `handpick plan` right? Plans a job, runs it right after, and holds the one against the other, stage by stage.

    python benchmarks/plan.py [--clock cpu] [JOB ...]

Jobs: demo (what `handpick demo` does), larger (3,149 candidates of up to 512 tokens, two checkpoints; needs
HANDPICK_DATA), rds+ and bm25 (the demo's data). Plan and run are processes of their own, one thread each. With
`--clock cpu`, both count the seconds that the process itself computed: on a machine that others use too, the clock on
the wall would mostly tell how busy they were in either minute. Memory is the process's peak in each stage.

Writes benchmarks/results/plan.md and plan.json; jobs that are not named keep their lines.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"
DATA = Path(os.environ.get("HANDPICK_DATA", Path(__file__).parents[2] / "shared" / "data"))


def job_settings(job: str, out: str) -> dict[str, Any]:
    """What a job selects with."""
    from handpick import bundled

    demo = {
        "pool": [str(path) for path in bundled.pool_paths()], "query": [str(bundled.target_path("gsm8k"))],
        "model": str(bundled.model_path()), "budget": "100", "max_length": 256, "out": out,
    }  # fmt: skip
    if job == "larger":
        warmup = {"at_least": 500, "epochs": 2, "learning_rate": 4e-3, "batch": 8}
        warmup["lora"] = {"rank": 32, "alpha": 64, "dropout": 0.0}
        return demo | {
            "pool": [str(DATA / "pool" / "pool_small.jsonl.gz")], "max_length": 512, "warmup": warmup,
        }  # fmt: skip
    return demo if job == "demo" else demo | {"method": job}


def planned(job: str, clock: Callable[[], float]) -> dict[str, Any]:
    from handpick.costs import probe
    from handpick.planning import plan_select
    from handpick.settings import Settings

    probe.clock = clock
    with tempfile.TemporaryDirectory() as folder:
        return plan_select(Settings(**job_settings(job, folder))).to_json()


class Measured:
    """Seconds and peak memory of stages that may stand inside each other: each counts what is its own."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self.clock = clock
        self.seconds: dict[str, float] = {}
        self.memory: dict[str, int] = {}
        self._open: list[str] = []
        self._since = clock()

    def _settle(self) -> None:
        now, peak = self.clock(), _peak()
        if self._open:
            name = self._open[-1]
            self.seconds[name] = self.seconds.get(name, 0.0) + now - self._since
            self.memory[name] = max(self.memory.get(name, 0), peak)
        Path("/proc/self/clear_refs").write_text("5")
        self._since = self.clock()

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        self._settle()
        self._open.append(name)
        try:
            yield
        finally:
            self._settle()
            self._open.pop()

    def wrap(self, owner: Any, attribute: str, name: str) -> None:
        own = getattr(owner, attribute)

        def within(*args: Any, **kwargs: Any) -> Any:
            with self.stage(name):
                return own(*args, **kwargs)

        setattr(owner, attribute, within)


def _peak() -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))


def ran(job: str, clock: Callable[[], float]) -> dict[str, Any]:
    from handpick.pipeline import prepare, run
    from handpick.scorers import feature_scorer
    from handpick.scorers.stages import Stage
    from handpick.settings import Settings

    measured = Measured(clock)
    measured.wrap(prepare, "open_data", "read and parse")
    make_stage = Stage.__init__

    def make_measured(stage: Stage, kind: Any, inputs: Any, work: Any, run_it: Any) -> None:
        def within(executor: Any) -> Any:
            with measured.stage(kind.value):
                return run_it(executor)

        make_stage(stage, kind, inputs, work, within)

    Stage.__init__ = make_measured  # type: ignore[method-assign]
    measured.wrap(feature_scorer, "make_readable", "similarity and choice")
    measured.wrap(run, "apply_constraints", "similarity and choice")
    measured.wrap(run, "distances_of_selection", "similarity and choice")
    with tempfile.TemporaryDirectory() as folder:
        began, wall = clock(), time.perf_counter()
        chosen = run.run_select(Settings(**job_settings(job, folder)))
        seconds, wall = clock() - began, time.perf_counter() - wall
        disk = {"warmup": _size(Path(folder) / "warmup")}
        for path in (Path(folder) / "features").iterdir():
            name = {"parsed": "read and parse"}.get(path.name, path.name.split("-")[0] + " features")
            disk[name] = disk.get(name, 0) + _size(path)
        disk["similarity and choice"] = (Path(folder) / "selected.jsonl").stat().st_size
        tokens = _tokens(job_settings(job, folder), len(chosen.pool), folder)
    return {
        "seconds": measured.seconds, "memory": measured.memory, "disk": disk, "all_seconds": seconds,
        "all_wall": wall, "tokens": tokens,
    }  # fmt: skip


def _tokens(settings: dict[str, Any], n: int, folder: str) -> int | None:
    """Of the whole pool, as rendered for gradients; counted one by one."""
    from handpick.data.pool import Pool
    from handpick.data.quarantine import Quarantine
    from handpick.data.render import Renderer
    from handpick.model import load_tokenizer
    from handpick.objectives.next_token import NextToken

    if "method" in settings:
        return None
    pool = Pool.open(settings["pool"], cache=Path(folder) / "count", quarantine=Quarantine(Path(folder) / "q", None))
    objective = NextToken(Renderer(load_tokenizer(settings["model"])), settings["max_length"])
    return sum(len(item.input_ids) for item in objective.prepare(pool.examples(0, n)).items)


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def in_process(what: str, job: str, clock: str) -> dict[str, Any]:
    """One half of a job in a process of its own, with one thread."""
    load = os.getloadavg()[0]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    command = [sys.executable, __file__, "--half", what, "--clock", clock, job]
    answer = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    found: dict[str, Any] = json.loads(answer.stdout.splitlines()[-1])
    return found | {"load": load}


def compared_stages(plan: dict[str, Any], actual: dict[str, Any]) -> list[dict[str, Any]]:
    """One line per stage: planned and measured; lines of several checkpoints added up."""
    lines: dict[str, dict[str, Any]] = {}
    for stage in plan["stages"]:
        name = stage["name"].split(",")[0]
        line = lines.setdefault(
            name, {"stage": name, "seconds": 0.0, "low": 0.0, "high": 0.0, "disk": 0, "memory": 0, "tokens": 0.0}
        )
        seconds = stage["seconds"] or {"value": 0, "low": 0, "high": 0}
        for key, source in (("seconds", "value"), ("low", "low"), ("high", "high")):
            line[key] += seconds[source]
        line["disk"] += stage["disk"]
        line["memory"] = max(line["memory"], stage["memory"] or 0)
        line["tokens"] += stage["tokens"]["value"] if stage["tokens"] else 0
    for name, line in lines.items():
        line["actual_seconds"] = actual["seconds"].get(name, 0.0)
        line["actual_disk"] = actual["disk"].get(name, 0)
        line["actual_memory"] = actual["memory"].get(name, 0)
    total = {
        "stage": "total",
        **{key: sum(line[key] for line in lines.values()) for key in ("seconds", "low", "high", "disk")},
        "memory": max(line["memory"] for line in lines.values()), "tokens": 0,
        "actual_seconds": actual["all_seconds"] - actual["seconds"].get("read and parse", 0.0),
        "actual_disk": sum(line["actual_disk"] for line in lines.values()),
        "actual_memory": max(line["actual_memory"] for line in lines.values()),
    }  # fmt: skip
    return [*lines.values(), total]


def page(results: dict[str, Any]) -> str:
    text = ["# `handpick plan` against what was then measured", "", "```", "python benchmarks/plan.py", "```", ""]
    for job, result in results.items():
        text += [f"## {job}", "", result["how"], ""]
        text += [
            "| stage | time planned, s (range) | took | ratio | disk planned, MB | on disk | peak planned, MB | peak |",
            "|---|---|---|---|---|---|---|---|",
        ]
        for line in result["stages"]:
            seconds, actual = line["seconds"], line["actual_seconds"]
            ratio = f"{seconds / actual:.2f}" if min(seconds, actual) > 0.5 else "–"
            text.append(
                f"| {line['stage']} | {seconds:.1f} ({line['low']:.1f} to {line['high']:.1f}) | {actual:.1f} | "
                f"{ratio} | {line['disk'] / 1e6:.2f} | {line['actual_disk'] / 1e6:.2f} | {line['memory'] / 1e6:.0f} | "
                f"{line['actual_memory'] / 1e6:.0f} |"
            )
        if result["tokens"]:
            text += ["", f"Tokens of the pool at a checkpoint: planned {result['planned_tokens']:,.0f}, counted "
                     f"{result['tokens']:,}."]  # fmt: skip
        text.append("")
    return "\n".join(text)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("jobs", nargs="*", default=["bm25", "rds+", "demo", "larger"])
    parser.add_argument("--clock", choices=["wall", "cpu"], default="wall")
    parser.add_argument("--half", choices=["plan", "run"])
    given = parser.parse_args()
    if given.half:
        clock = time.process_time if given.clock == "cpu" else time.perf_counter
        print(json.dumps((planned if given.half == "plan" else ran)(given.jobs[0], clock)))
        return
    path = RESULTS / "plan.json"
    results: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    for job in given.jobs:
        plan, actual = in_process("plan", job, given.clock), in_process("run", job, given.clock)
        pool = [stage for stage in plan["stages"] if stage["name"].startswith("pool features")]
        unit = "seconds that the process computed" if given.clock == "cpu" else "seconds on the wall"
        results[job] = {
            "how": f"One thread, {unit}; load of the machine {plan['load']:.1f} at the plan, {actual['load']:.1f} "
            f"at the run right after it ({actual['all_wall']:.0f} s on the wall).",
            "stages": compared_stages(plan, actual), "tokens": actual["tokens"],
            "planned_tokens": pool[0]["tokens"]["value"] if pool and pool[0]["tokens"] else 0,
        }  # fmt: skip
        path.write_text(json.dumps(results, indent=1) + "\n")
        path.with_suffix(".md").write_text(page(results))
        print(page({job: results[job]}))


if __name__ == "__main__":
    main()
