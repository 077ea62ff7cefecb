"""Run a program that nobody has read."""

from handpick.sandbox.find import find_isolation
from handpick.sandbox.limits import Limits
from handpick.sandbox.process import Outcome, Process


def run(program: str, limits: Limits | None = None, *, allow_weak: bool = False) -> Outcome:
    """Run Python source code in a sandbox of its own and wait for its end.

    It runs in a bare interpreter with the standard library, in a process of its own with an empty stdin and nothing of
    the environment. In a strong sandbox (bubblewrap, or namespaces) it sees the interpreter and the system's libraries,
    read-only, and a temporary folder of its own; it has no network, no capability, and no other process in sight, and
    everything that it started ends with it. A weak one has limits alone: see ``find_isolation``.

    What no sandbox here keeps from it: a hole in the kernel, the time on the clock, what is readable under /usr.

    Args:
        program: the source code.
        limits: how much it may use; default: ``Limits()``.
        allow_weak: whether to do with a weak sandbox where there is no strong one.

    Raises:
        SettingsError: there is no sandbox that may be used.
        SandboxError: the sandbox cannot be made this time.
    """
    with Process(program, limits or Limits(), find_isolation(allow_weak=allow_weak)) as process:
        process.ready()
        return process.finish()
