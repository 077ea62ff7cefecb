"""``plan_select`` and ``plan_represent``: the stages of a selection, each with its cost, before any of it is done."""

from handpick.errors import SettingsError
from handpick.methods import REPRESENTATIONS
from handpick.model import compute_dtype
from handpick.pipeline.made_with import resume_from_store
from handpick.planning.by_rows import ByRows, by_words
from handpick.planning.choice import choice_stages
from handpick.planning.cost import Plan, Stage
from handpick.planning.gradients import ByGradients
from handpick.planning.opened import Opened, machine_notes, opened
from handpick.settings import Settings

PROBE_SECONDS = 10.0


def plan_select(settings: Settings, seconds: float = PROBE_SECONDS) -> Plan:
    """What ``handpick select`` with these settings will take.

    Reads and parses pool and query (the run finds them parsed), counts tokens, and computes for about ``seconds`` some
    of what the run will compute. Nothing else is written.

    Raises:
        HandpickError: what the run itself would raise before it starts.
    """
    settings = resume_from_store(settings)
    begun = opened(settings, seconds, with_query=True)
    features, extent, notes, cheaper = _features(begun)
    chosen = choice_stages(begun, *extent)
    notes += machine_notes(compute_dtype(settings.dtype))
    return Plan("select", [begun.stage, *features, *chosen], notes, cheaper)


def plan_represent(settings: Settings, seconds: float = PROBE_SECONDS) -> Plan:
    """What ``handpick represent`` with these settings will take; as ``plan_select``."""
    kind = REPRESENTATIONS[settings.used_representation]
    if kind.gives != "features" or settings.used_representation == "gist":
        raise SettingsError(f"{settings.used_representation} has no features to build alone: plan a selection")
    begun = opened(settings, seconds, with_query=False)
    features, _, notes, cheaper = _features(begun)
    notes += machine_notes(compute_dtype(settings.dtype))
    return Plan("represent", [begun.stage, *features], notes, cheaper)


def _features(begun: Opened) -> tuple[list[Stage], tuple[int, int, int], list[str], list[str]]:
    """The stages up to the features; N, K and T of these; how they were estimated; what would be cheaper."""
    name = begun.settings.used_representation
    if name == "none":
        return [], (len(begun.pool), 0, 1), [], []
    if name in ("bm25", "dsir"):
        stage, note = by_words(begun)
        return [stage], (stage.examples or 0, 0, 1), [note], []
    planned = ByGradients(begun) if name in ("gradient", "whitened", "gist") else ByRows(begun)
    stages = planned.stages()
    return stages, planned.extent, planned.notes, planned.cheaper
