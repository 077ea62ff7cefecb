"""Which way of shutting a program in this machine has, found by trying."""

import os
import shutil
from functools import cache

from handpick.errors import SandboxError, SettingsError
from handpick.sandbox.isolation import Isolation
from handpick.sandbox.limits import Limits
from handpick.sandbox.process import Process

GREETING = "print('inside')"
OPEN = (  # in a weak sandbox
    "read your files, use the network and the sockets of this machine, change and delete what you can, signal your "
    "processes, and see the environment that they were given, keys in it too"
)


def find_isolation(*, allow_weak: bool = False) -> Isolation:
    """Find the strongest isolation that works here; each is tried once in a process.

    Args:
        allow_weak: whether to do with limits alone, where the machine has nothing that keeps a program from the
            files of the user, the network and other processes.

    Raises:
        SettingsError: nothing strong works and ``allow_weak`` is not given, or nothing works at all.
    """
    missing = []
    strong: tuple[Isolation, ...] = ("bwrap", "namespaces")
    for isolation in strong:
        reason = why_not(isolation)
        if reason is None:
            return isolation
        missing.append(reason)
    if not allow_weak:
        raise SettingsError(
            f"no strong sandbox works here: {'; '.join(missing)}; install bubblewrap 0.8 or newer, or run where "
            "unprivileged user namespaces are allowed; or give --allow-weak-sandbox (allow_weak_sandbox=True), under "
            f"which the code can {OPEN}"
        )
    if reason := why_not("weak"):
        advice = "run as a user other than root" if os.geteuid() == 0 else "install bubblewrap"
        raise SettingsError(f"no sandbox works here: {'; '.join([*missing, reason])}; {advice}")
    return "weak"


@cache
def why_not(isolation: Isolation) -> str | None:
    """Return why an isolation does not work on this machine; None where it does."""
    if isolation == "bwrap":
        if shutil.which("bwrap") is None:
            return "bubblewrap (bwrap) is not on PATH"
        if os.geteuid() == 0:  # it would keep root's number outside
            return "bubblewrap is not used by root, to whom no limit on processes applies"
    try:
        with Process(GREETING, Limits(), isolation) as process:
            process.ready()
            outcome = process.finish()
    except SandboxError as error:
        return str(error)
    if outcome.exit_code != 0 or outcome.stdout.split() != [b"inside"]:
        last = outcome.stderr.decode(errors="replace").strip().rpartition("\n")[2]
        return f"a first program in a sandbox of the kind {isolation} failed: {last or outcome.exit_code}"
    return None
