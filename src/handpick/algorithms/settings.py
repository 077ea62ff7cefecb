"""What can be set of the selection algorithms."""

from pydantic import BaseModel, ConfigDict, Field


class AlgorithmSettings(BaseModel):
    """Each setting is read by the algorithms that its description names, and by no other."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    knn_alpha: float = Field(0.01, gt=0, lt=1, description="knn-*: what nearness weighs against diversity")
    knn_scale: float = Field(5.0, gt=0, description="knn-*: the C that distances are divided by")
    knn_neighbours: int = Field(5000, ge=1, description="knn-*: candidates nearest a query that are looked at")
    kde_width: float = Field(0.75, ge=0, description="knn-kde: sigma of the kernel; 0: every density is 1")
    kde_neighbours: int = Field(1000, ge=1, description="knn-kde: neighbours that a density is summed over")
    uot_epsilon: float = Field(0.01, gt=0, description="uot: weight of the entropy")
    uot_relaxation: float = Field(1e-4, gt=0, description="uot: weight of the candidates' marginal (KL)")
    importance_temperature: float = Field(1.0, gt=0, description="importance: what log-weights are divided by")

    def unused_by_algorithm(self, algorithm: str) -> list[str]:
        """Return the settings that were changed although this algorithm does not look at them."""
        readers = {
            "knn": ("knn-uniform", "knn-kde"),
            "kde": ("knn-kde",),
            "uot": ("uot",),
            "importance": ("importance",),
        }
        fields = AlgorithmSettings.model_fields
        changed = [name for name in fields if getattr(self, name) != fields[name].default]
        return [name for name in changed if algorithm not in readers[name.partition("_")[0]]]
