"""Which process of several this is, as the launcher that started it says."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from handpick.errors import SettingsError

Item = TypeVar("Item")

#: rank, number of ranks, rank on this machine
_LAUNCHERS = (
    ("RANK", "WORLD_SIZE", "LOCAL_RANK"),  # torchrun
    ("SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "SLURM_LOCALID"),  # srun
)


@dataclass(frozen=True, slots=True)
class Rank:
    """Which process this is, of how many, and which on its machine."""

    number: int
    world: int
    local: int

    @classmethod
    def of(cls, environment: Mapping[str, str]) -> "Rank":
        """Read what the launcher says.

        Raises:
            SettingsError: nobody has started this process as one of several, or what it says makes no sense.
        """
        for names in _LAUNCHERS:
            if all(name in environment for name in names):
                try:
                    number, world, local = (int(environment[name]) for name in names)
                except ValueError:
                    number, world, local = -1, 0, 0
                if not 0 <= number < world or local < 0:
                    said = ", ".join(f"{name}={environment[name]}" for name in names)
                    raise SettingsError(f"--engine ranks: {said} is no rank: start it by torchrun or srun")
                return cls(number, world, local)
        needed = " or ".join(", ".join(names) for names in _LAUNCHERS)
        raise SettingsError(f"--engine ranks: {needed} are not set: start it by torchrun or srun")

    def part_of(self, items: Sequence[Item]) -> Sequence[Item]:
        """Return what of a sequence is the work of this rank: the n-th is that of rank n modulo their number."""
        return items[self.number :: self.world]
