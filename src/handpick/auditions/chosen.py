"""The choice after an audition: by the winner, with all queries and the whole budget; or what is done if nobody won."""

import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import cycle
from pathlib import Path
from typing import Any

from handpick.auditions.run import PROBE_SECONDS, Audition, PreparedAudition
from handpick.auditions.settings import AuditionSettings
from handpick.durations import format_duration
from handpick.errors import AuditionError
from handpick.layout import RunLayout
from handpick.pipeline.run import Run, run_select, write_remarks
from handpick.progress import log
from handpick.scorers.scoring_problem import Remark
from handpick.selection import Selection
from handpick.settings import Settings
from handpick.studies.run import Study


def run_auto(values: Mapping[str, Any], own: AuditionSettings, seconds: float = PROBE_SECONDS) -> Run:
    """Find out which candidate helps, and choose by it.

    Args:
        values: settings of ``select`` without its method, as plain values.
        own: settings of the audition.
        seconds: to compute for before it, to see how fast this machine is.

    Raises:
        AuditionError: nothing beat random, and then nothing was to be chosen.
        HandpickError: as ``PreparedAudition.run`` and ``run_select``.
    """
    prepared = PreparedAudition(values, own)
    found = prepared.run(seconds)
    log(found.decision.why)
    began = time.monotonic()
    candidates, winner = prepared.candidates, found.decision.winner
    if winner is None and own.if_none == "stop":
        raise AuditionError(f"nothing is chosen: {found.decision.why}; {prepared.layout.record} has the rounds")
    if winner is not None:
        run = run_select(_lent_run(prepared, winner))
    elif own.if_none == "random":
        run = run_select(candidates.random_settings())
    else:
        run = _choose_in_turns(prepared)
    over = _overrun(found.seconds + time.monotonic() - began, own)
    warns = winner is None or bool(found.hazards or found.failed or over)
    remark = Remark("audition", _sentence(found, own) + over, warns, {"audition": found.to_json()})
    run = replace(run, remarks=(*run.remarks, remark))
    write_remarks(RunLayout(candidates.any.folder), run.remarks)
    return run


def _sentence(found: Audition, own: AuditionSettings) -> str:
    said = found.decision.why
    if found.decision.winner is None:
        then = "drawn at random" if own.if_none == "random" else "chosen by all candidates and a random draw in turns"
        said += f"; so the examples are {then} (--if-none {own.if_none})"
    for name, why in found.failed.items():
        said += f"; {name} failed and was not judged: {why}"
    if found.hazards:
        said += f"; look out: {'; '.join(found.hazards)}"
    return said


def _overrun(seconds: float, own: AuditionSettings) -> str:
    """Say that audition and choice took longer than they may; nothing where they did not."""
    if own.limit_s is None or seconds <= own.limit_s:
        return ""
    return f"; all took {format_duration(seconds)}, more than the limit of {format_duration(own.limit_s)}"


def _lent_run(prepared: PreparedAudition, name: str, folder: Path | None = None) -> Settings:
    """Return a candidate's run with all queries and the whole budget, with the checkpoints of the audition's warmup and
    what its choices have left of the pool.

    Args:
        prepared: the audition, which is over.
        name: the candidate's.
        folder: the run's; by default the audition's own run.
    """
    settings, plan = prepared.candidates.runs[name], prepared.plan()
    study = Study(prepared.candidates.study([name], plan.rounds[-1], prepared.targets))
    choice = study.chosen.choice(next(each for each in study.opened.places if each.method == name))
    if choice is None or choice.settings is None or choice.settings.out is None:
        return settings
    left = Path(choice.settings.out)
    if folder is not None:  # candidates that read the same features share them
        settings = settings.model_copy(update={"out": str(folder / left.name)})
    if left.parent == prepared.layout.steps:
        _lend(left, settings.folder)
    if choice.warmup is None:
        return settings
    made = study.chosen.chooser.prepare_settings(choice)
    return settings.model_copy(update={"checkpoints": made.checkpoints, "warmup": "auto", "lora_targets": None})


def _lend(step: Path, folder: Path, depth: int = 2) -> None:
    """Move what an audition's choices have left of the pool to where a run looks for it, where nothing is there yet:
    folders of the run, and the stores in its folder of features."""
    folder.mkdir(parents=True, exist_ok=True)
    for child in sorted(step.iterdir()) if step.is_dir() else []:
        place = folder / child.name
        if child.is_dir() and not place.exists():
            os.replace(child, place)
        elif child.is_dir() and depth > 1:
            _lend(child, place, depth - 1)


def _choose_in_turns(prepared: PreparedAudition) -> Run:
    """Let every candidate and a random draw choose in turns, to the budget; what one has taken the others pass over."""
    candidates = prepared.candidates
    folder, apart = candidates.any.folder, prepared.layout.folder / "union"
    drawn = candidates.random_settings().model_copy(update={"out": str(apart / "random")})
    made = [run_select(_lent_run(prepared, name, apart)) for name in prepared.plan().candidates]
    made.append(run_select(drawn))
    budget = len(made[-1].selection)
    turns = take_turns([each.selection.ids for each in made], budget)
    chosen = [(made[whose].selection, place) for whose, place in turns]
    last = made[-1]
    selection = Selection(
        ids=[of.ids[place] for of, place in chosen],
        scores=[of.scores[place] for of, place in chosen],
        picked_for=[of.picked_for[place] for of, place in chosen],
        settings=last.settings.model_dump(mode="json", exclude_none=True),
        fingerprints={str(place): each.selection.fingerprints for place, each in enumerate(made)},
        record=lambda choice: chosen[choice][0].record(chosen[choice][1]),
        origins=[of.origins[place] for of, place in chosen],
    )
    selection.save(folder)
    RunLayout(folder).settings.unlink(missing_ok=True)  # of an earlier run; no settings bring this choice back
    return replace(last, selection=selection, settings=last.settings.model_copy(update={"out": str(folder)}))


def take_turns(lists: Sequence[Sequence[str]], budget: int) -> list[tuple[int, int]]:
    """Return what lists take in turns: at each turn whose, and which place of its list.

    Each takes its first that nobody has taken, so that two that agree do not leave their turns to the others.

    Args:
        lists: ids, the best first.
        budget: how many, no more than the lists have together.
    """
    taken: set[str] = set()
    found: list[tuple[int, int]] = []
    queues = [iter(enumerate(ids)) for ids in lists]
    for whose in cycle(range(len(lists))):
        if len(found) == budget:
            break
        place = next((place for place, example_id in queues[whose] if example_id not in taken), None)
        if place is not None:
            taken.add(lists[whose][place])
            found.append((whose, place))
    return found
