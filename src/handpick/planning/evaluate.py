"""``plan_evaluate``: what measuring a model on tasks will take."""

from collections.abc import Mapping

from handpick.costs import probe
from handpick.costs.cost import Amount, Plan, StageCost
from handpick.costs.flops import shape_of
from handpick.costs.machine import machine_notes, resident_bytes
from handpick.evaluation.gradable import say_ungradable, ungradable_records
from handpick.evaluation.run import open_settings_model
from handpick.evaluation.settings import EvaluateSettings, TaskSettings
from handpick.evaluation.task import open_tasks
from handpick.model import compute_dtype
from handpick.planning.evaluation_costs import EvaluationProbe, evaluation_stage, passes_of, predicted_bytes


def plan_evaluate(settings: EvaluateSettings, tasks: Mapping[str, TaskSettings], seconds: float = 10.0) -> Plan:
    """Plan what ``handpick evaluate`` will take on tasks.

    Reads and parses the tasks (the run finds them parsed), loads the model, and computes for about ``seconds`` some of
    what the run will compute. Answers that an earlier run left are not looked for.

    Args:
        settings: of the model.
        tasks: by name.
        seconds: to compute for.

    Raises:
        HandpickError: what the run itself would raise before it starts.
    """
    began = probe.clock()
    opened = open_tasks(tasks, settings.folder)
    for task in opened.values():
        task.fingerprint()  # a metric that cannot be had is said
        say_ungradable(task, ungradable_records(task))
    read = StageCost(
        "read and parse",
        sum(map(len, opened.values())),
        memory=resident_bytes(),
        seconds=Amount.exactly(0.0),
        there=True,
        note=f"{len(opened)} tasks; done by this plan in {probe.clock() - began:.1f} s",
    )
    began = probe.clock()
    model = open_settings_model(settings, settings.model)
    load_seconds = probe.clock() - began
    parts = {name: passes_of(task, model.renderer, model.max_length) for name, task in opened.items()}
    every = [part for own in parts.values() for part in own]
    probed = EvaluationProbe(model.model, model.renderer, every, seconds, settings.batch_tokens)
    shape, held = shape_of(model.model), resident_bytes()
    stages = [read, StageCost("model", memory=held, seconds=Amount.exactly(load_seconds))]
    for name, own in parts.items():
        for part in own:
            disk = predicted_bytes(opened[name]) if part is own[0] else 0
            stages.append(
                evaluation_stage(f"{part.what}, {name}", part, shape, probed.seconds(part), disk=disk, memory=held)
            )
    notes = [f"all {sum(map(len, opened.values())):,} records were tokenised"]
    return Plan("evaluate", stages, [*notes, *machine_notes(compute_dtype(settings.dtype))], [])
