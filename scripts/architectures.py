"""Every causal architecture of transformers through the engine and the commands.

``python scripts/architectures.py OUT [NAMES…] [--models FOLDER]`` makes a tiny model of each (``tiny_architectures``),
holds what handpick computes on it to an oracle, and runs the commands on its folder (``try_architecture``): each model
in a process of its own with a limit of processor time. What was found of it stands in OUT/NAME.json and is not looked
for again; OUT/architectures.md has the table.
"""

import argparse
import importlib
import json
import os
import re
import resource
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Iterable
from importlib.metadata import version
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path[:0] = [str(Path(__file__).resolve().parent.parent)]

from scripts.tiny_architectures import make_tokenizer, names, save  # noqa: E402
from scripts.try_architecture import EXACT, Record, outcome, try_commands, try_engine  # noqa: E402

COMMANDS = ("doctor", "plan", "select", "rds+", "loss", "choice")
# imported before any process is forked, so that not each of them has to
IMPORTED = (
    "handpick.cli", "handpick.cli.evaluate", "handpick.doctor", "handpick.evaluation.evaluate", "handpick.pipeline",
    "handpick.planning", "peft", "transformers.trainer", "transformers.generation",
)  # fmt: skip


def main() -> None:
    """Try what is not tried yet, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("names", nargs="*", help="TYPE, TYPE@VARIANT, vlm:TYPE, s2s:TYPE; default: all")
    parser.add_argument("--models", type=Path, help="folder of the tiny models; default: OUT/models")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--seconds", type=int, default=120, help="of processor time for a model, at most")
    flags = parser.parse_args()
    flags.out.mkdir(parents=True, exist_ok=True)
    models = flags.models or flags.out / "models"
    chosen = flags.names or names()
    for module in IMPORTED:
        importlib.import_module(module)
    tokenizer = make_tokenizer()
    began = time.monotonic()
    left = [name for name in chosen if not record_path(flags.out, name).exists()]
    running: dict[int, str] = {}
    while left or running:
        while left and len(running) < flags.processes:
            name = left.pop(0)
            running[fork(name, models, flags.out, tokenizer, flags.seconds)] = name
        pid, status = os.wait()
        name = running.pop(pid)
        path = record_path(flags.out, name)
        if not path.exists():
            write(path, {"stopped": f"by signal {os.waitstatus_to_exitcode(status)} (limit: {flags.seconds} s)"})
        print(f"{name}: {state(json.loads(path.read_text()))}", flush=True)
    found = {name: json.loads(record_path(flags.out, name).read_text()) for name in chosen}
    (flags.out / "architectures.md").write_text("".join(f"{line}\n" for line in page(found)))
    print(f"{time.monotonic() - began:.0f} s")


def record_path(out: Path, name: str) -> Path:
    """Return the file of what was found of a model."""
    return out / f"{name.replace(':', '-')}.json"


def write(path: Path, record: Record) -> None:
    """Write a record, whole or not at all."""
    part = path.with_suffix(".part")
    part.write_text(json.dumps(record, indent=1))
    part.rename(path)


def fork(name: str, models: Path, out: Path, tokenizer: Any, seconds: int) -> int:
    """Try a model in a process of its own, and return the process's number."""
    if pid := os.fork():
        return pid
    try:
        resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
        log = os.open(out / f"{name.replace(':', '-')}.log", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(log, 1)
        os.dup2(log, 2)
        write(record_path(out, name), attempt(name, models, tokenizer))
    finally:
        os._exit(0)


def attempt(name: str, models: Path, tokenizer: Any) -> Record:
    """Return all that is found of a model."""
    folder = models / name.replace(":", "-")
    record: Record = {}
    if not folder.exists():
        built = outcome(lambda: str(save(name, models, tokenizer)))
        if built["is"] != "ok":
            return {"not built": built["said"]}
    record["class"] = (json.loads((folder / "config.json").read_text()).get("architectures") or ["?"])[0]
    record |= try_engine(name, folder)
    record["commands"] = try_commands(folder)
    record["seconds"] = round(time.process_time(), 1)
    return record


def state(record: Record) -> str:
    """Return in a word what became of a model's rows: exact, WRONG, refused, TRACEBACK, or why there are none."""
    for word in ("not built", "stopped"):
        if word in record:
            return word
    rows = record.get("rows", record["adapter"])
    if rows["is"] != "ok":
        return str(rows["is"])
    return "exact" if max(rows["found"].values()) <= EXACT else "WRONG"


def said(record: Record) -> str:
    """Return why a model's rows are not exact, or how far they are."""
    for word in ("not built", "stopped"):
        if word in record:
            return str(record[word])
    rows = record.get("rows", record["adapter"])
    return rows["said"] if rows["is"] != "ok" else f"{max(rows['found'].values()):.0e}"


def wrong(record: Record) -> list[str]:
    """Return what of a model is silently wrong: rows, losses, hidden states or answers of a batch."""
    found = ["rows"] if state(record) == "WRONG" else []
    for what in ("losses", "states", "answers"):
        if (each := record.get(what)) and each["is"] == "ok" and not each["found"] <= EXACT:
            found.append(f"{what} {each['found']:.0e}")
    return found


def broken(record: Record) -> list[str]:
    """Return where a model ends in a traceback."""
    found = [what for what in ("adapter", "rows", "losses", "states", "answers") if _is(record, what) == "TRACEBACK"]
    return found + [c for c, each in record.get("commands", {}).items() if each["is"] == "TRACEBACK"]


def _is(record: Record, what: str) -> str:
    return str(record.get(what, {}).get("is", ""))


def page(found: dict[str, Record]) -> Iterable[str]:
    """Return the lines of the table and what it comes to."""
    yield "# Every causal architecture of transformers"
    yield ""
    packages = ("transformers", "peft", "torch", "handpick")
    yield ", ".join(f"{package} {version(package)}" for package in packages) + "; CPU, float32, tiny random models."
    yield f"Exact: the largest relative error of a row, in a batch and alone, is at most {EXACT:.0e}."
    types = {name: record for name, record in found.items() if ":" not in name and "@" not in name}
    others = {name: record for name, record in found.items() if name not in types}
    for title, part in (("Types", types), ("Variants, multimodal and encoder–decoder checkpoints", others)):
        if part:
            yield from ["", f"## {title}", "", *summary(part), "", *table(part)]
    yield from ["", "## What is refused, wrong or broken", "", *causes(found)]


def summary(found: dict[str, Record]) -> Iterable[str]:
    """Return the totals of some models."""
    states = Counter(state(record) for record in found.values())
    yield f"Of {len(found)}: {', '.join(f'{n} {each}' for each, n in states.most_common())}."
    silently = [f"{name} ({', '.join(what)})" for name, record in found.items() if (what := wrong(record))]
    yield f"Silently wrong: {len(silently)}{': ' if silently else ''}{', '.join(silently)}."
    ends = [name for name, record in found.items() if broken(record)]
    yield f"A traceback in any command or computation: {len(ends)}{': ' if ends else ''}{', '.join(ends)}."
    yield ""
    yield "| command | ok | refused | FAIL | TRACEBACK |"
    yield "|---|---|---|---|---|"
    for command in COMMANDS:
        ended = [record["commands"][command]["is"] for record in found.values() if "commands" in record]
        yield f"| {command} | " + " | ".join(str(ended.count(e)) for e in ("ok", "refused", "FAIL", "TRACEBACK")) + " |"


def table(found: dict[str, Record]) -> Iterable[str]:
    """Return a row for each of some models."""
    yield "| model | class | the adapter stands on | rows | losses | states | answers | " + " | ".join(COMMANDS) + " |"
    yield "|---" * (7 + len(COMMANDS)) + "|"
    for name, record in found.items():
        layers = ", ".join(record.get("adapter", {}).get("found", []))
        rows = state(record) + (f" {said(record)}" if state(record) in ("exact", "WRONG") else "")
        others = [_number(record.get(what)) for what in ("losses", "states", "answers")]
        ended = [record.get("commands", {}).get(command, {}).get("is", "") for command in COMMANDS]
        yield f"| {' | '.join([name, record.get('class', ''), layers, rows, *others, *ended])} |"


def _number(each: Record | None) -> str:
    if each is None:
        return ""
    return f"{each['found']:.0e}" if each["is"] == "ok" else str(each["is"])


def causes(found: dict[str, Record]) -> Iterable[str]:
    """Return the sentences of what is neither exact nor ok, with the models and the places that end in them."""
    whose: dict[tuple[str, str], dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for name, record in found.items():
        if state(record) in ("not built", "stopped", "unchecked"):
            whose[state(record), _general(said(record), name)][name].append("rows")
        parts = {what: record[what] for what in ("adapter", "rows", "losses", "states", "answers") if what in record}
        for what, each in (parts | record.get("commands", {})).items():
            if each["is"] not in ("ok", "unchecked"):
                whose[each["is"], _general(each["said"], name)][name].append(what)
    yield "| what | sentence | models | where |"
    yield "|---|---|---|---|"
    for (kind, sentence), by_name in sorted(whose.items(), key=lambda each: (each[0][0], -len(each[1]))):
        where = dict.fromkeys(what for each in by_name.values() for what in each)
        yield f"| {kind} | {sentence} | {len(by_name)}: {', '.join(by_name)} | {', '.join(where)} |"


def _general(sentence: str, name: str) -> str:
    """Return a sentence without what differs from model to model: folders, layers, numbers."""
    sentence = re.sub(r"\S*/" + re.escape(name.replace(":", "-")) + r"\b", "MODEL", sentence.replace("|", "/"))
    sentence = re.sub(r"\b(?:\w+\.)+(?:layers?|blocks|h|decoder|encoder)\.[\w.]+", "LAYER", sentence)
    return re.sub(r"\(\d[\d, ]*\)", "(…)", sentence).replace("\n", " ")


if __name__ == "__main__":
    main()
