"""What a gradient row costs: ours, the floor that it stands on, LESS's loop, Bergson and dattri-llm.

    python -m venv peers                            # a second environment, for what handpick does not need
    peers/bin/pip install -c constraints.txt torch==2.13.0
    peers/bin/pip install -c constraints.txt transformers peft accelerate datasets safetensors numpy scipy \\
        jinja2 "jaxtyping>=0.3.3" ml_dtypes natsort petname pyarrow pyyaml simple-parsing torchopt tqdm pydantic \\
        traker==0.3.2
    peers/bin/pip install --no-deps bergson==2.5.1   # its other requirements are large, and not used here
    peers/bin/pip install -c constraints.txt dattri-llm==0.1.0
    python benchmarks/gradients.py --peers-python peers/bin/python

256 records of the demo pool at their real lengths, on a random Llama with LESS's adapter and on the shipped model. In
every round each line runs once over the same examples, in a process of its own and in rotated order; reported are
medians over rounds, of the time and of each round's ratios. ``--quick`` tries it out; its times mean nothing.
On a machine that others use, ``--in-turns`` runs all lines in one process, so that a round's lines follow each other
closely, and counts the process's own seconds in one thread: with an interpreter that has handpick and the peers.
A CPU without instructions for bfloat16 is measured in float32 alone. ``--device cuda`` measures a random Llama of 1B in
bfloat16. Writes benchmarks/results/gradients.md and .json; a GPU and ``--quick`` have files of their own.
"""

import argparse
import importlib
import json
import os
import platform
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

F32, BF16 = "float32", "bfloat16"
SHORT = {F32: "f32", BF16: "bf16"}
SEE = "see the first lines of benchmarks/gradients.py"
INSTALL = {"less": "pip install traker==0.3.2", "bergson": SEE, "dattri": SEE}
UNPROJECTED = {"examples": 64, "batch_tokens": 1024}  # whole gradients: 16 MiB an example and type


@dataclass(frozen=True)
class Line:
    """One contender in one type. ``call`` is a module of ``peers`` and its function."""

    name: str
    what: str
    call: str
    dtype: str
    options: dict[str, Any] = field(default_factory=dict)
    fewer: dict[str, int] = field(default_factory=dict)  # examples and batch_tokens of this line, if not all
    switched: bool = False  # float32 products and allocator as our command line sets them, not as they are by default

    @property
    def key(self) -> str:
        return f"{self.name} {SHORT[self.dtype]}"

    @property
    def side(self) -> str:
        return self.call.partition(".")[0]


@dataclass(frozen=True)
class Comparison:
    """``over`` (their times added up) against ``under``; ``aim`` is what the ratio should at least, or at most, be."""

    what: str
    over: tuple[str, ...]
    under: str
    aim: float | None = None
    at_most: bool = False


def cpu_lines(coordinates: int) -> list[Line]:
    """Every contender on a CPU; ``coordinates`` is how many of the projection's rows are run for LESS."""
    lines = []
    for dtype in (F32, BF16):
        lines += [
            Line("own floor", "our own forward + backward, nothing captured", "ours.own_floor", dtype),
            Line("floor", "floor: the same in plain PyTorch", "ours.floor", dtype, switched=True),
            Line("plain", "the same, all logits, the adapter's summed gradient", "ours.plain", dtype, switched=True),
            _ours("ours adam", "**ours**, Adam, sparse to 8192", dtype, adam=True),
            _ours("ours plain", "**ours**, plain gradient, sparse to 8192", dtype),
            Line("less loop", "LESS's loop (Adam), no projection", "less.loop", dtype),
            *_less_projections(dtype, coordinates),
            _bergson("bergson plain", "Bergson like for like, 16 × 16 a module, in memory", dtype),
            _bergson("bergson adam", "Bergson like for like, the same with Adam's second moments", dtype, adam=True),
            _dattri("dattri one", "dattri-llm's LESS as documented, one at a time, unprojected", dtype, batch=1),
            _dattri("dattri eight", "dattri-llm's LESS like for like, 8 at a time, unprojected", dtype, batch=8),
            _dattri("dattri mask", 'the same, 128 coordinates a layer ("mask")', dtype, batch=8, kept=128),
        ]
    shipped = {"as_shipped": True, "store": "disk"}
    return [
        *lines,
        Line("less switched", "LESS's loop (Adam), no projection, our switches", "less.loop", F32, switched=True),
        _ours("ours whole", "**ours**, plain gradient, unprojected ‡", F32, projected=False),
        _bergson("bergson whole", "Bergson like for like, unprojected, stored nowhere ‡", F32, projected=False),
        _bergson("bergson shipped", "Bergson as shipped, 16 × 16 a module, on disk", F32, **shipped),
        _bergson("bergson shipped adam", "Bergson as shipped, with Adam's second moments", F32, adam=True, **shipped),
    ]


def gpu_lines(coordinates: int) -> list[Line]:
    """Every contender on a GPU, in bfloat16."""
    peak = Line("peak", "the largest matrix product", "ours.matrix_peak", BF16)
    left_out = ("less anew", "less resident 1")
    return [peak, *(line for line in cpu_lines(coordinates) if line.dtype == BF16 and line.name not in left_out)]


def _ours(name: str, what: str, dtype: str, adam: bool = False, projected: bool = True) -> Line:
    fewer = {} if projected else UNPROJECTED
    return Line(name, what, "ours.features", dtype, {"adam": adam, "projected": projected}, fewer)


def _bergson(name: str, what: str, dtype: str, **changed: Any) -> Line:
    options = {"adam": False, "projected": True, "as_shipped": False, "store": "memory"} | changed
    if not options["projected"]:
        options["store"] = "nowhere"
    fewer = {} if options["projected"] else UNPROJECTED
    return Line(name, what, "bergson.index", dtype, options, fewer, switched=not options["as_shipped"])


def _dattri(name: str, what: str, dtype: str, batch: int, kept: int = 0) -> Line:
    options = {"batch": batch, "per_sample": batch > 1, "kept": kept}
    return Line(name, what, "dattri.attribute", dtype, options, switched=batch > 1)


def _less_projections(dtype: str, coordinates: int) -> list[Line]:
    rows = {"coordinates": coordinates}
    return [
        Line("less anew", "LESS's projection alone, BasicProjector, matrix drawn every 16 †", "less.anew", dtype, rows),
        Line(
            "less resident", "LESS's projection alone, matrix kept, 16 at a time, generation excluded †",
            "less.resident", dtype, rows | {"stacked": 16},
        ),
        Line(
            "less resident 1", "LESS's projection alone, matrix kept, one at a time, generation excluded †",
            "less.resident", dtype, rows | {"stacked": 1},
        ),
    ]  # fmt: skip


def cpu_comparisons() -> list[Comparison]:
    found = []
    for theirs, mine, loop_aim in ((F32, F32, 1.4), (F32, BF16, 2.3), (BF16, BF16, 2.3)):
        t, m = SHORT[theirs], SHORT[mine]
        what = f"LESS in {theirs} ÷ ours in {mine}:"
        found += [
            Comparison(f"{what} (i) matrix drawn anew †", (f"less loop {t}", f"less anew {t}"), f"ours adam {m}", 100),
            Comparison(f"{what} (ii) matrix kept †", (f"less loop {t}", f"less resident {t}"), f"ours adam {m}", 5),
            Comparison(f"{what} (iii) no projection", (f"less loop {t}",), f"ours adam {m}", loop_aim),
        ]
    what = "LESS in float32 with our switches ÷ ours in float32: (iii) no projection"
    found.append(Comparison(what, ("less switched f32",), "ours adam f32"))
    for kind in ("plain", "adam"):
        for dtype in (F32, BF16):
            s = SHORT[dtype]
            what = f"Bergson like for like, {kind}, both in {dtype}"
            found.append(Comparison(what, (f"bergson {kind} {s}",), f"ours {kind} {s}", 2))
        shipped = "bergson shipped f32" if kind == "plain" else "bergson shipped adam f32"
        for dtype, aim in ((F32, 1.8), (BF16, 2.8)):
            what = f"Bergson as shipped (float32), {kind} ÷ ours in {dtype}"
            found.append(Comparison(what, (shipped,), f"ours {kind} {SHORT[dtype]}", aim))
    found.append(Comparison("Bergson unprojected, both in float32 ‡", ("bergson whole f32",), "ours whole f32"))
    for dtype in (F32, BF16):
        s = SHORT[dtype]
        for line, how in (("one", "as documented"), ("eight", "like for like"), ("mask", "like for like, its mask")):
            what = f"dattri-llm {how}, both in {dtype}"
            found.append(Comparison(what, (f"dattri {line} {s}",), f"ours adam {s}", 2))
    for kind in ("plain", "adam"):
        for dtype in (F32, BF16):
            s = SHORT[dtype]
            ours = (f"ours {kind} {s}",)
            what = f"ours, {kind}, {dtype} ÷"
            found.append(Comparison(f"{what} our own forward + backward", ours, f"own floor {s}", 1.05, at_most=True))
            found.append(Comparison(f"{what} floor in plain PyTorch", ours, f"floor {s}"))
    return found


def gpu_comparisons() -> list[Comparison]:
    return [
        Comparison("LESS, matrix kept † ÷ ours", ("less loop bf16", "less resident bf16"), "ours adam bf16", 5),
        Comparison("LESS, no projection ÷ ours", ("less loop bf16",), "ours adam bf16"),
        Comparison("Bergson, plain ÷ ours", ("bergson plain bf16",), "ours plain bf16", 1.3),
        Comparison("Bergson, Adam ÷ ours", ("bergson adam bf16",), "ours adam bf16", 1.3),
        Comparison("dattri-llm ÷ ours", ("dattri eight bf16",), "ours adam bf16", 2),
        Comparison("floor ÷ ours, plain", ("floor bf16",), "ours plain bf16", 0.85),
        Comparison("floor ÷ ours, Adam", ("floor bf16",), "ours adam bf16", 0.85),
        Comparison("our own forward + backward ÷ ours, Adam", ("own floor bf16",), "ours adam bf16"),
    ]


# Ours and the lines of Bergson that do the same work.
MEMORY = [
    ("ours plain f32", ("bergson plain f32", "bergson shipped f32")),
    ("ours adam f32", ("bergson adam f32", "bergson shipped adam f32")),
    ("ours plain bf16", ("bergson plain bf16",)),
    ("ours adam bf16", ("bergson adam bf16",)),
]


# -- a worker ---------------------------------------------------------------------------------------------------------


def work(text: str) -> dict[str, Any]:
    """Run one line in this process and say what it took."""
    import torch
    import transformers
    from peers.common import Task, measure

    task = Task(**json.loads(text))
    transformers.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    torch.set_num_threads(task.threads)
    torch.set_float32_matmul_precision(task.matmul)
    side, function = task.call.split(".")
    try:
        module = importlib.import_module(f"peers.{side}")
        result = measure(task, getattr(module, function)(task))
    except ImportError as error:
        if side not in INSTALL:
            raise
        return {"missing": f"not installed ({error}): {INSTALL[side]}"}
    result["load"] = os.getloadavg()[0]
    result["python"] = platform.python_version()
    result["torch"] = torch.__version__
    result["transformers"] = transformers.__version__
    return result


def run_worker(text: str) -> None:
    """Print the result as the last line of stdout; whatever else is printed meanwhile goes to stderr."""
    stdout, sys.stdout = sys.stdout, sys.stderr
    try:
        result = work(text)
    except Exception as error:
        traceback.print_exc()
        result = {"failed": f"{type(error).__name__}: {error}"}
    print(json.dumps(result), file=stdout, flush=True)


# -- the parent -------------------------------------------------------------------------------------------------------


def task_of(line: Line, folder: Path, args: argparse.Namespace) -> dict[str, Any]:
    """What ``peers.common.Task`` is made from."""
    return {
        "name": line.key, "call": line.call,
        "folder": str(folder), "scratch": str(folder / "scratch" / line.key.replace(" ", "-")),
        "dtype": line.dtype, "device": args.device, "threads": args.threads, "clock": args.clock,
        "examples": min(line.fewer.get("examples", args.examples), args.examples),
        "batch_tokens": line.fewer.get("batch_tokens", args.batch_tokens),
        "matmul": args.matmul if line.switched else "highest", "options": line.options,
    }  # fmt: skip


def run_line(line: Line, folder: Path, args: argparse.Namespace) -> dict[str, Any]:
    """One line in a process of its own."""
    from handpick.allocator import KEEP_FREED

    task = task_of(line, folder, args)
    python = sys.executable if line.side == "ours" else args.peers_python
    threads = str(args.threads)
    environment = os.environ | {
        "OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads, "HF_HUB_OFFLINE": "1", "PYTHONWARNINGS": "ignore",
        "TOKENIZERS_PARALLELISM": "false",
    }  # fmt: skip
    if line.switched or line.side == "ours":
        environment |= {f"MALLOC_{name}_": str(value) for name, (_, value) in KEEP_FREED.items()}
    log = folder / "log.txt"
    with log.open("a") as stderr:
        done = subprocess.run(
            [python, __file__, "--worker", json.dumps(task)],
            env=environment, stdout=subprocess.PIPE, stderr=stderr, check=False,
        )  # fmt: skip
    last = done.stdout.decode().strip().rpartition("\n")[2]
    if done.returncode != 0 or not last:
        tail = log.read_text()[-500:].strip().rpartition("\n")[2]
        return {"failed": f"the process ended with {done.returncode}: {tail}"}
    return json.loads(last)


def run_rounds(
    lines: Sequence[Line], folder: Path, args: argparse.Namespace, save: Any
) -> dict[str, list[dict[str, Any]]]:
    """Every line once a round, each round beginning at another line; results by line, one a round."""
    results: dict[str, list[dict[str, Any]]] = {line.key: [] for line in lines}
    for number in range(args.rounds):
        first = number * len(lines) // args.rounds
        for line in [*lines[first:], *lines[:first]]:
            result = run_line(line, folder, args)
            results[line.key].append(result)
            took = f"{result['ms_per_example']:.3f} ms" if "seconds" in result else str(result)
            print(f"round {number + 1} of {args.rounds}: {line.key}: {took}", file=sys.stderr, flush=True)
            save(results)
    return results


def run_in_turns(
    lines: Sequence[Line], folder: Path, args: argparse.Namespace, save: Any
) -> dict[str, list[dict[str, Any]]]:
    """Every line once a round in this process, each round beginning at another line; results by line, one a round."""
    import torch
    from peers.common import Task, seconds_of

    from handpick.allocator import keep_freed_memory

    keep_freed_memory()
    results: dict[str, list[dict[str, Any]]] = {line.key: [] for line in lines}
    tasks = {line.key: Task(**task_of(line, folder, args)) for line in lines}
    ready: dict[str, Any] = {}
    for key, task in tasks.items():
        side, function = task.call.split(".")
        try:
            ready[key] = getattr(importlib.import_module(f"peers.{side}"), function)(task)
        except ImportError as error:
            results[key] = [{"missing": f"not installed ({error}): {INSTALL[side]}"}]
    for number in range(args.rounds):
        first = number * len(ready) // args.rounds
        for key in [*list(ready)[first:], *list(ready)[:first]]:
            torch.set_float32_matmul_precision(tasks[key].matmul)
            if number == 0:
                ready[key].warm()
            result = seconds_of(tasks[key], ready[key]) | {"load": os.getloadavg()[0]}
            results[key].append(result)
            print(f"round {number + 1}: {key}: {result['ms_per_example']:.3f} ms", file=sys.stderr, flush=True)
            save(results)
    return results


def trouble(rounds: Sequence[dict[str, Any]]) -> str | None:
    """Why a line has no numbers, or None."""
    return next((r.get("missing") or r["failed"] for r in rounds if "seconds" not in r), None)


def ratios(comparison: Comparison, results: dict[str, list[dict[str, Any]]]) -> list[float] | str:
    """The ratio of every round, or why there is none."""
    keys = (*comparison.over, comparison.under)
    for key in keys:
        if trouble(results[key]) is not None:
            return f"{key} has no numbers"
    over = [[r["ms_per_example"] for r in results[key]] for key in comparison.over]
    under = [r["ms_per_example"] for r in results[comparison.under]]
    return [sum(parts) / below for *parts, below in zip(*over, under, strict=True)]


def line_table(lines: Sequence[Line], results: dict[str, list[dict[str, Any]]], model: dict[str, Any]) -> list[str]:
    """Time and memory of every line; on a GPU, of which the peak is a line, its speed too."""
    peak = results.get("peak bf16")
    rate = None
    if peak is not None and trouble(peak) is None:
        rate = 1000 / median(r["ms_per_example"] for r in peak)  # operations a second: an example was one
    speed = "| tokens/s | share of the matrix peak " if peak is not None else ""
    rows = [
        f"| line | type | ms/example {speed}| peak MiB (before the work) |",
        "|---|---|---|" + "---|" * speed.count("|") + "---|",
    ]
    for line in lines:
        if line.name == "peak":
            continue
        if (reason := trouble(results[line.key])) is not None:
            rows.append(f"| {line.what} | {line.dtype} | {reason} |{' — |' * speed.count('|')} — |")
            continue
        ms = median(r["ms_per_example"] for r in results[line.key])
        part = line.name in ("less anew", "less resident", "less resident 1")
        memory = "—"
        if not part and "peak_mib" in results[line.key][0]:
            highest, before = (median(r[k] for r in results[line.key]) for k in ("peak_mib", "peak_before_mib"))
            memory = f"{highest:.0f} ({before:.0f})"
        cells = [line.what, line.dtype, f"{ms:.2f}"]
        if speed:
            seconds = ms * model["examples"] / 1000
            share = f"{model['operations'] / seconds / rate:.1%}" if rate else "—"
            cells += ["—", "—"] if part else [f"{model['tokens'] / seconds:.0f}", share]
        rows.append("| " + " | ".join([*cells, memory]) + " |")
    if rate:
        rows += ["", f"Matrix peak measured: {rate / 1e12:.1f} TFLOP/s. Its share counts linear layers alone."]
    return rows


def comparison_table(comparisons: Sequence[Comparison], results: dict[str, list[dict[str, Any]]]) -> list[str]:
    rows = ["| comparison | ratio, median (range of rounds) | aim | met |", "|---|---|---|---|"]
    for c in comparisons:
        aim = "—" if c.aim is None else f"{'≤' if c.at_most else '≥'} {c.aim:g}"
        found = ratios(c, results)
        if isinstance(found, str):
            rows.append(f"| {c.what} | {found} | {aim} | — |")
            continue
        middle = median(found)
        met = "—" if c.aim is None else "yes" if (middle <= c.aim if c.at_most else middle >= c.aim) else "**no**"
        rows.append(f"| {c.what} | {middle:.2f} ({min(found):.2f}–{max(found):.2f}) | {aim} | {met} |")
    return rows


def memory_table(results: dict[str, list[dict[str, Any]]]) -> list[str]:
    rows = ["| peak memory | MiB | of Bergson, MiB | below |", "|---|---|---|---|"]
    for ours, theirs in MEMORY:
        for other in theirs:
            if ours not in results or other not in results or "peak_mib" not in results[ours][0]:
                continue
            if trouble(results[ours]) or trouble(results[other]):
                rows.append(f"| {ours} against {other} | — | — | — |")
                continue
            mine, its = (median(r["peak_mib"] for r in results[key]) for key in (ours, other))
            rows.append(f"| {ours} against {other} | {mine:.0f} | {its:.0f} | {'yes' if mine < its else '**no**'} |")
    return rows


def notes(args: argparse.Namespace, coordinates: int) -> str:
    text = (
        "† Extrapolated. LESS projects 16 gradients at once to 8192 dimensions, in 64 blocks of columns. Measured are "
        f"two blocks (matrix drawn anew) or one (matrix kept) of at most {coordinates:,} coordinates, and the time is "
        "scaled to all blocks and coordinates. The matrix kept would hardly fit in memory (64 GiB in bfloat16 for "
        "D = 4.19M); drawing it is not counted. A comparison adds the loop's own time, measured on all examples.\n\n"
        "Like for like: the same type, threads, float32 matmul switch, allocator settings (glibc keeps freed memory, "
        f"as our command line tells it) and tokens a batch ({args.batch_tokens}), the mean loss; Bergson keeps 256 "
        "numbers a module, ours 8192 in all. "
        "dattri-llm's loader takes a fixed number of examples a step, so they come in order of their length, and its "
        "loss is the sum of every example's mean; 4 of the examples are queries, which the others are scored for as "
        "they come, and nothing is kept. As documented: the model's own loss. As shipped: "
        "Bergson's defaults but for the projection (off by default; 16 is trackstar's): float32, 2048 tokens a batch, "
        "an index on disk. LESS, Bergson as shipped and dattri-llm as documented run under PyTorch's own float32 "
        "matmul setting (highest)."
    )
    if args.device == "cpu":
        text += (
            f"\n\n‡ The first {min(UNPROJECTED['examples'], args.examples)} examples, at most "
            f"{UNPROJECTED['batch_tokens']} tokens a batch; the gradients are made and dropped, on both sides."
        )
    return text


def machine(args: argparse.Namespace) -> dict[str, Any]:
    import torch

    cpu = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        names = [line.partition(":")[2].strip() for line in info.read_text().splitlines() if "model name" in line]
        cpu = names[0] if names else cpu
    able = torch.cpu.get_capabilities()
    found = {
        "cpu": cpu, "cores": os.cpu_count(), "threads": args.threads, "torch": torch.__version__,
        "bfloat16 instructions": [name for name in ("amx_bf16", "avx512_bf16") if able.get(name)],
        "our float32 matmul switch": args.matmul, "rounds": args.rounds, "clock": args.clock,
    }  # fmt: skip
    if args.device == "cuda":
        found["gpu"] = torch.cuda.get_device_name()
    return found


def load_of(results: dict[str, list[dict[str, Any]]]) -> str:
    """What else the machine did, in one sentence."""
    loads = [each["load"] for rounds in results.values() for each in rounds if "load" in each]
    return f"Load while it ran: {min(loads):.1f} to {max(loads):.1f}." if loads else ""


def report(machine: dict[str, Any], sections: Sequence[str], args: argparse.Namespace, coordinates: int) -> str:
    """The whole page."""
    about = "; ".join(f"{name}: {', '.join(v) or 'none' if isinstance(v, list) else v}" for name, v in machine.items())
    head = "# Cost of a gradient row\n\n" + ("A quick try: these times mean nothing.\n\n" if args.quick else "")
    return "\n\n".join([head + about + ".", *sections, notes(args, coordinates)]) + "\n"


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peers-python", default=sys.executable, help="an interpreter that has bergson and traker")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--models", nargs="+", choices=["large", "shipped"], default=["large", "shipped"])
    parser.add_argument("--only", nargs="+", metavar="NAME", help="only lines whose name begins so, as: ours floor")
    parser.add_argument("--examples", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=min(2, os.cpu_count() or 1))
    parser.add_argument("--in-turns", action="store_true", help="in one process and thread, by its own seconds")
    parser.add_argument("--batch-tokens", type=int, default=None, help="1024, and 16384 on a GPU")
    parser.add_argument("--quick", action="store_true", help="32 examples, one round")
    parser.add_argument("--scratch", type=Path, help="where the temporary folder goes")
    parser.add_argument("--out", type=Path, help="the results, without suffix")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.quick:
        args.examples, args.rounds = min(args.examples, 32), 1
    args.clock, args.threads = ("processor", 1) if args.in_turns else ("wall", args.threads)
    args.batch_tokens = args.batch_tokens or (16384 if args.device == "cuda" else 1024)
    name = "gradients" + ("_gpu" if args.device == "cuda" else "") + ("_quick" if args.quick else "")
    name += "_in_turns" if args.in_turns else ""
    args.out = args.out or Path(__file__).parent / "results" / name
    return args


def main() -> None:
    args = parse()
    if args.worker is not None:
        run_worker(args.worker)
        return
    if args.device == "cpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""  # for the workers too
    import torch
    from peers.inputs import describe, draw_sequences, prepare

    from handpick.gradients.kernels import takes_onednn
    from handpick.model import has_bfloat16

    if args.device == "cuda" and not torch.cuda.is_available():
        print("no GPU here: nothing measured")
        return
    torch.set_num_threads(args.threads)
    args.matmul = "medium" if takes_onednn() else "highest"  # what our engine computes under
    coordinates = 2**16 if args.quick else 2**20
    everything, comparisons = cpu_lines(coordinates), cpu_comparisons()
    if args.device == "cuda":
        everything, comparisons = gpu_lines(coordinates), gpu_comparisons()
    lines = [x for x in everything if not args.only or any(x.name.startswith(name) for name in args.only)]
    if args.device == "cpu" and not has_bfloat16():
        lines = [x for x in lines if x.dtype == F32]
    measured = {line.key for line in lines}
    comparisons = [c for c in comparisons if {*c.over, c.under} <= measured]

    raw: dict[str, Any] = {"machine": machine(args), "lines": {x.key: asdict(x) for x in lines}, "models": {}}
    args.out.parent.mkdir(parents=True, exist_ok=True)
    sections = []
    with tempfile.TemporaryDirectory(dir=args.scratch) as scratch:
        sequences = draw_sequences(args.examples, Path(scratch))
        for kind in ["1b"] if args.device == "cuda" else args.models:
            folder = Path(scratch) / kind
            model = prepare(kind, folder, sequences)
            raw["models"][kind] = {"model": {k: v for k, v in model.items() if k != "base"}}

            def save(results: Any, kind: str = kind) -> None:
                raw["models"][kind]["results"] = results
                args.out.with_suffix(".json").write_text(json.dumps(raw, indent=1) + "\n")

            results = (run_in_turns if args.in_turns else run_rounds)(lines, folder, args, save)
            tables = [line_table(lines, results, model), comparison_table(comparisons, results), memory_table(results)]
            about = f"{describe(kind, model)} {load_of(results)}"
            sections += [about, *("\n".join(rows) for rows in tables if len(rows) > 2)]
    page = report(raw["machine"], sections, args, coordinates)
    args.out.with_suffix(".md").write_text(page)
    print(page)


if __name__ == "__main__":
    main()
