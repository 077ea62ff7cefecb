"""Commands of handpick, struck at chosen moments and run again: what was lost, what was done twice, what was said.

    python -m tests.reliability.campaign --work DIR [--command NAME …] [--fault NAME …] [--points N]
    python -m tests.reliability.campaign --work DIR --table

Each strike runs a command in an empty folder, and a fault befalls it: at its n-th change to a file, n counted over all
of them, or after a random part of its own time. Then the same command runs again, and every file is compared with
those of a run that nothing befell. What was found goes to ``DIR/struck.jsonl``, a line a strike; those that stand there
are not made again, so a campaign that was stopped goes on.
"""

import argparse
import errno
import gc
import hashlib
import json
import os
import random
import re
import resource
import shutil
import sys
from collections.abc import Callable, Container, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from tests.reliability.changes import TAKE_ROOM, WRITES, Answer, Call, Ended, supervise
from tests.reliability.world import COMMANDS, ENVIRONMENT, Command, give, judge, run_command

SEED = 21
LIMIT = 900.0  # seconds that a command may take on a busy machine
#: Times differ; locks stay while a folder does.
NOT_COMPARED = {"cost.json", ".lock"}
JOURNAL = "judge.jsonl"
BILL = "judging.json"  # of iterselect: a call that was in flight, and is made again, was paid for twice
#: What stands in a file and is of the clock: an audition is planned by the seconds that were measured before it.
CLOCK = {
    "audition/plan.json": ("once", "each", "training_s", "evaluation_s"),
    "audition/audition.json": ("choice_seconds", "planned_seconds", "seconds"),
}
#: What is written last of a folder's work.
RECORDS = ("digests.json", "step.json", "classifier.json", "train.yaml")
#: What may be said of a file in no run that began in an empty folder, as there is nothing then that could be damaged.
_BLAME = re.compile(r"\b(damaged|remove|delete)\b")
FAULTS = ("kill", "tear", "moment", "interrupt", "full", "read-only", "handles", "memory")
#: Exit statuses of some; of the others 0, where what is refused can be done without, or those of the command's failure.
#: A library that finds no memory may end the process itself.
STATUSES = {"kill": (-9,), "tear": (-9,), "moment": (0, -9), "interrupt": (130,), "memory": (0, 1, 2, -6, -11)}


@dataclass(frozen=True, slots=True)
class Strike:
    """A fault, and where it befalls a command: at which of its changes, or after which part of its time."""

    command: str
    fault: str
    at: float

    @property
    def key(self) -> tuple[str, str, float]:
        return self.command, self.fault, self.at


@dataclass(frozen=True, slots=True)
class Found:
    """What came of a strike. All is well where ``wrong`` is empty."""

    command: str
    fault: str
    at: float
    struck: bool  #: False where the command had ended before.
    call: str  #: The change at which it was struck.
    path: str
    status: int
    said: str  #: The last line.
    asked: int  #: Calls to the judge before.
    asked_again: int  #: Of those, what was asked once more.
    wrong: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class File:
    """A file's content, and what tells whether it was written again."""

    sha256: str
    stamp: tuple[int, int]

    def is_as(self, other: "File") -> bool:
        return self.sha256 == other.sha256


@dataclass(frozen=True, slots=True)
class Truth:
    """What a command leaves when nothing befalls it."""

    files: dict[str, File]
    answers: dict[str, str]  #: Of the judge, by request.
    changes: int
    opened: int
    megabytes: float  #: Of address space, beyond what the process starts with.
    seconds: float
    asked: int


class Campaign:
    """Strikes commands in a folder.

    Args:
        work: the folder; what the commands are given is made there.
        url: the judge's address.
        asked: the file in which the judge notes what it is asked.
    """

    def __init__(self, work: Path, url: str, asked: Path) -> None:
        self._work = work
        self._here = work / "here"
        self._said = work / "said"
        self._url = url
        self._asked = asked
        self._truths: dict[str, Truth] = {}
        self._modules = work / "modules"  # that a run has loaded
        self._grown = work / "grown"  # by so many megabytes a run has

    def truth(self, name: str) -> Truth:
        """Return what the command leaves when nothing befalls it; it is run when first asked for.

        Runs of earlier processes of the campaign must have left the same.
        """
        if name not in self._truths:
            command = COMMANDS[name]
            _load(self._modules)  # of an earlier process of the campaign
            truth = self._run_whole(command)
            _load(self._modules)
            kept = self._work / f"truth-{name}.json"
            if kept.exists() and (wrong := _differences(truth, *_of_before(json.loads(kept.read_text())))):
                raise SystemExit(f"two unbroken runs of {name} differ: {wrong}")
            kept.write_text(json.dumps(asdict(truth)))
            self._truths[name] = truth
        return self._truths[name]

    def _run_whole(self, command: Command) -> Truth:
        self._clear(command)
        opened = 0

        def counts(call: Call) -> bool:
            nonlocal opened
            opened += call.opens
            return call.changes

        def work() -> int:
            before = _megabytes("VmSize")
            status = run_command(command.words(self._url), self._here, self._said)
            self._modules.write_text("\n".join(sys.modules))
            self._grown.write_text(str(_megabytes("VmPeak") - before))
            return status

        asked = self._n_asked()
        ended = supervise(work, self._here, lambda call: None, counts=counts, limit=LIMIT)
        if ended.status:
            raise SystemExit(f"{command.name} ended with {ended.status}: {self._said.read_text()}")
        out = self._here / command.out
        return Truth(
            _files(out), _answers(out)[0], ended.calls, opened, float(self._grown.read_text()), ended.seconds,
            self._n_asked() - asked,
        )  # fmt: skip

    def strike(self, strike: Strike) -> Found:
        """Let a fault befall a command, run it again, and say what is wrong then."""
        command, truth = COMMANDS[strike.command], self.truth(strike.command)
        self._clear(command)
        out = self._here / command.out
        before = self._n_asked()
        ended = self._befall(strike, command, truth)
        said = self._said.read_text(errors="replace").splitlines()
        # of two runs one may make a change more: whoever was over before was not struck
        missed = (0,) if ended.struck is None else ()
        wrong = _wrong_end(ended, said, (*STATUSES.get(strike.fault, (0, *command.fails)), *missed))
        kept, (answers, _) = _files(out), _answers(out)
        struck_asked = self._prompts()[before:]
        if ended.status == 0:
            wrong += [f"{each}, and it says that all is well" for each in _differences(truth, kept, answers)]

        again = supervise(lambda: self._run(command), self._here, lambda call: None, limit=LIMIT)
        if again.status:
            wrong.append(f"the run that goes on ends with {again.status}: {self._last_line()}")
        then_asked = self._prompts()[before + len(struck_asked) :]
        files, (all_answers, n_sent) = _files(out), _answers(out)
        more_sent = n_sent - truth.asked
        wrong += _differences(truth, files, all_answers, {BILL} if more_sent else set())
        there = {name: file for name, file in kept.items() if name in truth.files and file.is_as(truth.files[name])}
        wrong += [
            f"{name} is written again"
            for name, file in there.items()
            if is_done(name, there) and name in files and files[name].stamp != file.stamp
        ]
        asked_again = len(set(struck_asked) & set(then_asked))
        if command.judged:
            wanted = truth.asked - len(answers)
            if len(then_asked) != wanted:
                wrong.append(f"{len(then_asked)} calls to the judge in the run that goes on, and {wanted} were left")
            if more_sent > 1 or asked_again > 1:
                wrong.append(f"{asked_again} calls repeated, {more_sent} more in the judge's journal: 1 was in flight")
        call = ended.struck
        return Found(
            strike.command, strike.fault, strike.at,
            struck=call is not None or ended.status != 0,
            call=call.name if call else "", path=call.path if call else "",
            status=ended.status, said=said[-1] if said else "",
            asked=len(struck_asked), asked_again=asked_again, wrong=wrong,
        )  # fmt: skip

    def _befall(self, strike: Strike, command: Command, truth: Truth) -> Ended:
        at, here = strike.at, self._here
        run = lambda: self._run(command)  # noqa: E731
        match strike.fault:
            case "moment":
                return supervise(run, here, lambda call: None, kill_after=at * truth.seconds)
            case "handles":
                return supervise(
                    run, here, lambda call: errno.EMFILE if call.number >= at else None,
                    counts=lambda call: call.opens, limit=LIMIT,
                )  # fmt: skip
            case "memory":
                short = lambda: self._run_short_of_memory(command, at)  # noqa: E731
                return supervise(short, here, lambda call: None, limit=LIMIT)
        return supervise(run, here, ANSWERS[strike.fault](int(at)), limit=LIMIT)

    def _run(self, command: Command) -> int:
        return run_command(command.words(self._url), self._here, self._said)

    def _run_short_of_memory(self, command: Command, megabytes: float) -> int:
        """Run a command with so much address space beyond what it starts with."""
        resource.setrlimit(resource.RLIMIT_AS, (int((_megabytes("VmSize") + megabytes) * 2**20),) * 2)
        return self._run(command)

    def _clear(self, command: Command) -> None:
        shutil.rmtree(self._here / command.out, ignore_errors=True)

    def _last_line(self) -> str:
        lines = self._said.read_text(errors="replace").splitlines()
        return lines[-1] if lines else ""

    def _prompts(self) -> list[str]:
        return self._asked.read_text().splitlines() if self._asked.exists() else []

    def _n_asked(self) -> int:
        return len(self._prompts())


def _megabytes(what: str) -> float:
    """Return a size of this process's address space."""
    found = re.search(rf"{what}:\s*(\d+) kB", Path("/proc/self/status").read_text())
    return int(found[1]) / 1024 if found else 0.0


def _from(at: int, answer: Answer, hits: Callable[[Call], bool] = lambda call: True) -> Callable[[Call], Answer]:
    return lambda call: answer if call.number >= at and hits(call) else None


def _once(at: int, answer: Answer) -> Callable[[Call], Answer]:
    return lambda call: answer if call.number == at else None


#: What becomes of a change, by the fault, given the number of the change from which it befalls.
ANSWERS: dict[str, Callable[[int], Callable[[Call], Answer]]] = {
    "kill": lambda at: _once(at, "kill"),
    "tear": lambda at: lambda call: None if call.number != at else "tear" if call.name in WRITES else "kill",
    "interrupt": lambda at: _once(at, "interrupt"),
    "full": lambda at: _from(at, errno.ENOSPC, lambda call: call.name in TAKE_ROOM or call.makes),
    "read-only": lambda at: _from(at, errno.EROFS, lambda call: call.name not in ("fsync", "fdatasync")),
}


def is_done(name: str, there: Container[str]) -> bool:
    """Return whether a file is of work that was finished with these files there, so that it must never be done again.

    A shard is finished with its sidecar, parsed records with their checksums, and what a folder holds with its record.
    """
    path = PurePosixPath(name)
    if "shards" in path.parts:
        return str(path.with_suffix(".json")) in there
    if path.suffix == ".arrow":
        return str(path.with_suffix(".crc32.json")) in there
    if path.suffix == ".npy" or path.name in ("batch.json", "verdicts.jsonl", JOURNAL) or "answers" in path.parts:
        return True
    # a record itself is a few lines, which may be written once more
    return path.name not in RECORDS and any(
        str(folder / record) in there for folder in path.parents for record in RECORDS
    )


def _wrong_end(ended: Ended, said: Sequence[str], statuses: Sequence[int]) -> list[str]:
    """Say what is wrong with how a struck command ended and what it said."""
    if ended.timed_out:
        return ["it hangs"]
    wrong = []
    if ended.status not in statuses:
        wrong.append(f"it ends with {ended.status}")
    if any(line.startswith("Traceback (most") for line in said):
        wrong.append("a traceback")
    if ended.status > 1 and not (said and said[-1].startswith("handpick: ")):
        wrong.append("no sentence at the end")
    wrong += [f"a good file is blamed: {line}" for line in said if _BLAME.search(line)]
    return wrong


def _files(out: Path) -> dict[str, File]:
    """Every file of a folder, by its name there."""
    found = {}
    for path in sorted(out.rglob("*")):
        if path.is_file() and path.name not in NOT_COMPARED:
            state, name, content = path.stat(), str(path.relative_to(out)), path.read_bytes()
            if name in CLOCK:
                content = json.dumps(_without(json.loads(content), (*CLOCK[name], "digest"))).encode()
            found[name] = File(hashlib.sha256(content).hexdigest(), (state.st_ino, state.st_mtime_ns))
    return found


def _without(value: Any, keys: Container[str]) -> Any:
    """Return a JSON value without some keys, at any depth."""
    if isinstance(value, dict):
        return {key: _without(each, keys) for key, each in value.items() if key not in keys}
    return [_without(each, keys) for each in value] if isinstance(value, list) else value


def _answers(out: Path) -> tuple[dict[str, str], int]:
    """What a judge has answered, by its journals, and how many requests were sent."""
    answers, sent = {}, 0
    for path in out.rglob(JOURNAL):
        for line in path.read_bytes().splitlines()[1:]:
            with suppress(ValueError):  # half a line
                entry = json.loads(line)
                sent += "sent" in entry
                if "text" in entry:
                    answers[entry["over"]] = entry["text"]
    return answers, sent


def _differences(truth: Truth, files: dict[str, File], answers: dict[str, str], but: Container[str] = ()) -> list[str]:
    """Say in what a folder differs from the truth."""
    wrong = [f"{name} is missing" for name in sorted(truth.files.keys() - files.keys())]
    wrong += [f"{name} is left over" for name in sorted(files.keys() - truth.files.keys())]
    wrong += [
        f"{name} differs"
        for name in sorted(truth.files.keys() & files.keys())
        if Path(name).name != JOURNAL and name not in but and not truth.files[name].is_as(files[name])
    ]
    if truth.answers != answers:
        wrong.append("the judge's answers differ")
    return wrong


def _of_before(truth: dict[str, Any]) -> tuple[dict[str, File], dict[str, str]]:
    return {name: File(each["sha256"], (0, 0)) for name, each in truth["files"].items()}, truth["answers"]


def _load(modules: Path) -> None:
    """Load what a run has loaded, so that the next need not."""
    for name in modules.read_text().splitlines() if modules.exists() else ():
        if name not in sys.modules and not name.startswith("__"):
            with suppress(Exception):
                __import__(name)
    if (conversions := sys.modules.get("transformers.conversion_mapping")) is not None:
        conversions.get_checkpoint_conversion_mapping("llama")  # kept from then on: a tenth of a run's time
    gc.collect()
    gc.freeze()  # else every collection of a child copies what it shares with this process
    tasks = Path("/proc/self/task")
    names = {path.read_text().strip() for path in tasks.glob("*/comm")}
    # Arrow's allocator has a thread, and knows how to fork
    if others := names - {(tasks.parent / "comm").read_text().strip(), "jemalloc_bg_thd"}:
        raise SystemExit(f"{others} are threads that a module has started: this process cannot be forked")


def strikes(name: str, fault: str, n: int, truth: Truth) -> list[Strike]:
    """Draw where a fault is to befall a command, ``n`` times, evenly over all that it does, in any order."""
    draw = random.Random(f"{SEED} {name} {fault}")
    last = truth.opened if fault == "handles" else truth.changes
    places: list[float]
    if fault == "moment":
        places = [round((i + draw.random()) / n, 4) for i in range(n)]
    elif fault == "memory":
        # of the little that a run needs most is asked for when it is short, and of much address space some is to spare
        places = [round(truth.megabytes ** ((i + draw.random()) / n), 2) for i in range(n)]
    elif n >= last:
        places = list(range(1, last + 1))
    else:
        places = [1 + int((i + draw.random()) * last / n) for i in range(n)]
    draw.shuffle(places)  # so that a campaign that is stopped has looked everywhere
    return [Strike(name, fault, place) for place in places]


COLUMNS = {
    "killed": ("kill", "tear", "moment"), "Ctrl-C": ("interrupt",), "disk full": ("full",), "read-only": ("read-only",),
    "out of handles": ("handles",), "out of memory": ("memory",),
}  # fmt: skip


def table(found: Sequence[Found]) -> str:
    """Count what was survived of what befell, by command, as Markdown; what befell none counts nowhere."""
    struck = [each for each in found if each.struck]
    lines = [
        f"| command | {' | '.join(COLUMNS)} | calls to the judge before | made again: in flight | repeated or lost |",
        "|---|" + "---:|" * (len(COLUMNS) + 3),
    ]
    for name in COMMANDS:
        own = [each for each in struck if each.command == name]
        cells = []
        for faults in COLUMNS.values():
            those = [each for each in own if each.fault in faults]
            cells.append(f"{sum(not each.wrong for each in those)} of {len(those)}" if those else "–")
        wrong = sum("judge" in said or "calls" in said for each in own for said in each.wrong)
        asked, again = (sum(getattr(each, what) for each in own) for what in ("asked", "asked_again"))
        cells += [f"{asked:,}", f"{again:,}", f"{wrong:,}"] if COMMANDS[name].judged else ["–"] * 3
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--command", action="append", choices=COMMANDS)
    parser.add_argument("--fault", action="append", choices=FAULTS)
    parser.add_argument("--points", type=int, default=5, help="how often each fault befalls a command")
    parser.add_argument("--table", action="store_true", help="strike nothing, and show what was found so far")
    given = parser.parse_args()
    given.work.mkdir(parents=True, exist_ok=True)
    os.environ.update(ENVIRONMENT, CAMPAIGN_KEY="none", HANDPICK_CACHE=str(given.work / "cache"))
    results = given.work / "struck.jsonl"
    before = [Found(**json.loads(line)) for line in results.open()] if results.exists() else []
    if given.table:
        print(table(before))
        return
    there = {(each.command, each.fault, each.at) for each in before}
    here = given.work / "here"
    if not (here / "given").exists():
        _fork(lambda: give(here / "given"))
    with judge(given.work / "asked") as url:
        campaign = Campaign(given.work, url, given.work / "asked")
        for name in given.command or COMMANDS:
            truth = campaign.truth(name)
            print(f"{name}: {truth.changes} changes, {truth.seconds:.1f} s, {len(truth.files)} files", flush=True)
            for fault in given.fault or FAULTS:
                for strike in strikes(name, fault, given.points, truth):
                    if strike.key in there:
                        continue
                    found = campaign.strike(strike)
                    with results.open("a") as lines:
                        lines.write(json.dumps(asdict(found)) + "\n")
                    if found.wrong:
                        print(json.dumps(asdict(found), indent=1), flush=True)


def _fork(work: Callable[[], None]) -> None:
    """Do something in a process of its own, which leaves this one without threads."""
    child = os.fork()
    if not child:
        try:
            work()
        except BaseException:
            import traceback

            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    if os.waitpid(child, 0)[1]:
        raise SystemExit("what the commands are given could not be made")


if __name__ == "__main__":
    main()
