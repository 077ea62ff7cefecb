"""The ways in which a program can be shut in, and the command that starts each."""

import os
import platform
import re
import shutil
import subprocess
import sys
from importlib.resources import files
from pathlib import Path
from typing import Literal

from handpick.sandbox.enter import DEVICES, INSIDE, NOBODY
from handpick.sandbox.limits import Limits

Isolation = Literal["bwrap", "namespaces", "weak"]

INSIDE_FOLDER = "/tmp"  # the one folder that can be written to, as the program sees it
KEEPERS = 4  # processes of the sandbox itself that may count with those of the program


def command(isolation: Isolation, control: int, limits: Limits) -> list[str]:
    """Return the command that starts a sandbox, which then waits for its order on the socket ``control``."""
    python = [interpreter(), "-s", "-P", "-S", "-B", "-X", "utf8", "-c", _enter_text(), str(control)]
    return [*_bwrap(limits), *python] if isolation == "bwrap" else python


def environment(folder: str) -> dict[str, str]:
    """Return all of the environment that a program has.

    The same program is to hash, and so to order sets, in the same way.
    """
    return {"HOME": folder, "TMPDIR": folder, "PATH": "/usr/bin:/bin", "LANG": "C.UTF-8", "PYTHONHASHSEED": "0"}


def interpreter() -> str:
    """Return the interpreter behind any virtual environment: it needs no more than its own standard library."""
    return os.path.realpath(sys.executable)


def readable_paths() -> list[str]:
    """Return the paths that an interpreter needs, if they are there: all that a strong sandbox shows, read-only."""
    prefix = os.path.realpath(sys.base_prefix)
    system = ["/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/etc/ld.so.cache"]
    own = [interpreter(), f"{prefix}/lib", f"{prefix}/{sys.platlibdir}"]
    return system + sorted({path for path in own if not path.startswith("/usr/")})


def process_limit(isolation: Isolation, limits: Limits) -> int:
    """Return what to give the kernel as the limit on processes, so that the program may have as many as its limits say.

    The kernel counts the processes of a user: since Linux 5.14 those in the same namespace alone, before that, and
    wherever there are no namespaces, every one on the machine.
    """
    counted_apart = isolation != "weak" and _linux_version() >= (5, 14)
    others = 0 if counted_apart else _tasks_of(NOBODY if os.geteuid() == 0 else os.geteuid())
    return limits.processes + KEEPERS + others


def _enter_text() -> str:
    return files("handpick.sandbox").joinpath("enter.py").read_text(encoding="utf-8")


def _bwrap(limits: Limits) -> list[str]:
    program = shutil.which("bwrap") or "bwrap"
    words = [program, "--unshare-all", "--unshare-user", "--disable-userns", "--die-with-parent", "--cap-drop", "ALL"]
    words += ["--as-pid-1"]  # else there is a process of bwrap's own inside, which others may look into
    words += ["--hostname", "sandbox", "--uid", str(INSIDE), "--gid", str(INSIDE)]
    for path in filter(os.path.lexists, readable_paths()):
        words += ["--symlink", os.readlink(path), path] if os.path.islink(path) else ["--ro-bind", path, path]
    for name in DEVICES:
        words += ["--dev-bind", f"/dev/{name}", f"/dev/{name}"]
    words += ["--proc", "/proc", "--perms", "0700", "--size", str(limits.file_bytes), "--tmpfs", INSIDE_FOLDER]
    return [*words, "--remount-ro", "/", "--chdir", INSIDE_FOLDER, "--"]


def _linux_version() -> tuple[int, int]:
    found = re.match(r"(\d+)\.(\d+)", platform.release()) if sys.platform == "linux" else None
    return (int(found[1]), int(found[2])) if found else (0, 0)


def _tasks_of(user: int) -> int:
    """Count the processes and threads of a user at this moment; on systems without /proc, the processes."""
    if not Path("/proc/self").exists():
        shown = subprocess.run(["ps", "-U", str(user), "-o", "pid="], capture_output=True, text=True, check=False)
        return len(shown.stdout.split())
    count = 0
    for process in Path("/proc").glob("[0-9]*"):
        try:
            count += len(os.listdir(process / "task")) if process.stat().st_uid == user else 0
        except OSError:  # it has ended meanwhile
            continue
    return count
