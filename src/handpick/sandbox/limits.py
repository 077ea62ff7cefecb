"""How much a sandboxed program may use."""

import math
from dataclasses import dataclass, fields

from handpick.errors import SettingsError

MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class Limits:
    """How much a sandboxed program may use before it is stopped or refused.

    Args:
        cpu_s: processor time of one process.
        wall_s: time on the clock for the whole program, counted from its start.
        memory_bytes: address space of one process and, except in a weak sandbox, the memory of all together.
        file_bytes: size of one file and, except in a weak sandbox, of the whole folder that the program may write to.
        processes: processes and threads at a time.
        output_bytes: what is kept of stdout and of stderr; a program that writes more is stopped.

    Raises:
        SettingsError: a limit is not above zero.
    """

    cpu_s: float = 10
    wall_s: float = 10
    memory_bytes: int = 512 * MIB
    file_bytes: int = 16 * MIB
    processes: int = 16
    output_bytes: int = MIB

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if not 0 < value < math.inf:
                raise SettingsError(f"the sandbox's limit {field.name} is {value}; give a number above zero")
