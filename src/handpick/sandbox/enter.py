"""What runs first in a sandbox: it shuts the doors behind itself, then runs the program and watches over it.

It is given to a bare interpreter as text (``python -S -c``), so it knows the standard library and nothing of
handpick, and needs no file that the sandbox would have to show. Its argument is the number of an open socket. It reads
one order from there (eight bytes of length, then JSON) and reports in lines: ``ready`` when all doors are shut, upon
which it waits for one byte more to let the program begin; then ``exit N`` or ``signal N``; or ``failed`` and why. When
the other end of the socket is closed it stops everything.

Of the kinds of isolation, ``namespaces`` is made here. Of ``bwrap`` the walls stand already, and ``weak`` has none.
"""

import ctypes
import json
import os
import resource
import select
import signal
import sys
import types
from contextlib import suppress
from typing import Any, NoReturn

NEW_MOUNTS, NEW_CGROUP, NEW_HOSTNAME, NEW_IPC = 0x00020000, 0x02000000, 0x04000000, 0x08000000  # from linux/sched.h
NEW_USERS, NEW_PIDS, NEW_NETWORK = 0x10000000, 0x20000000, 0x40000000
READ_ONLY, NO_SUID, NO_DEVICES, NO_EXEC = 1, 2, 4, 8  # from linux/mount.h
REMOUNT, BIND, RECURSIVE, PRIVATE = 1 << 5, 1 << 12, 1 << 14, 1 << 18
DETACH = 2
SET_DUMPABLE, DROP_FROM_BOUNDS, SET_NO_NEW_PRIVILEGES, AMBIENT = 4, 24, 38, 47  # from linux/prctl.h
CLEAR_AMBIENT = 4
MAKE_RULESET, ENTER_DOMAIN = 444, 446  # calls of Landlock, the same on every machine but Alpha
MAKE_BLOCK_DEVICES, ABSTRACT_SOCKETS, SIGNALS = 1 << 11, 1, 2  # from linux/landlock.h
CAPABILITIES_V3 = 0x20080522
NOBODY = 65534  # the user outside whom root becomes: limits on processes do not apply to root
INSIDE = 1000  # what that user is called inside
OLD_ROOT = "/.outside"
DEVICES = ("null", "zero", "full", "random", "urandom")
TICK_MS = 50
KEPT_FILES = 3  # stdin, stdout and stderr; a channel becomes number 3


def main() -> dict[str, Any]:
    """Do what the order on the socket says; return it in the process that is to run the program, and only there."""
    control = int(sys.argv[1])
    order = read_order(control)
    os.umask(0o022)  # what is made here is to be seen by another user
    try:
        if order["isolation"] == "namespaces":
            enter_namespaces(control, order)
        if sys.platform == "linux":
            drop_privileges()
        if order["isolation"] == "weak":
            part_from_other_processes()
        os.chdir(order["folder"])
    except OSError as error:
        report(control, f"failed {error.strerror or error}")
        os._exit(1)
    begin_program(control, order)
    return order


def read_order(control: int) -> dict[str, Any]:
    """Read the order that the parent sends; ends this process where the parent is gone."""

    def exactly(count: int) -> bytes:
        data = b""
        while len(data) < count:
            part = os.read(control, count - len(data))
            if not part:
                os._exit(1)
            data += part
        return data

    order: dict[str, Any] = json.loads(exactly(int.from_bytes(exactly(8), "big")))
    return order


def report(control: int, line: str) -> None:
    """Tell the parent, which may be gone."""
    try:
        os.write(control, line.encode() + b"\n")
    except OSError:
        os._exit(1)


def libc(what: str, name: str, *arguments: Any) -> None:
    """Call a function of the C library.

    Raises:
        OSError: it failed; ``what`` says of what the message speaks.
    """
    library = ctypes.CDLL(None, use_errno=True)
    if getattr(library, name)(*arguments) == -1:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


# --- namespaces ---


def enter_namespaces(control: int, order: dict[str, Any]) -> None:
    """Go on in namespaces of one's own, as their first process, in a file system with little in it.

    The process that called waits outside until the inside is gone, and ends.
    """
    as_root = os.geteuid() == 0
    unshare(as_root)
    inside = os.fork()
    if inside:
        os.close(control)
        os.waitpid(inside, 0)  # which returns when everything in the namespace has ended
        os._exit(0)
    build_root(order)
    for capability in range(64):
        try:
            libc("dropping capabilities", "prctl", DROP_FROM_BOUNDS, capability, 0, 0, 0)
        except OSError:  # beyond the last capability that this kernel has
            break
    if as_root:
        os.setgroups([])
        os.setresgid(INSIDE, INSIDE, INSIDE)
        os.setresuid(INSIDE, INSIDE, INSIDE)


def unshare(as_root: bool) -> None:
    """Leave the namespaces of the parent for new ones, in which no further ones can be made.

    The users inside are INSIDE, who is outside the user that this process runs as, or nobody where that is root;
    and root of the namespace, whom only root may have: it is needed to become the former.
    """
    user, group, process = os.geteuid(), os.getegid(), os.getpid()
    start, started = os.pipe()
    helper = os.fork()  # only a process outside may say which users there are inside
    if helper == 0:
        os.close(started)
        os.read(start, 1)
        users = f"0 0 1\n{INSIDE} {NOBODY} 1" if as_root else f"{INSIDE} {user} 1"
        groups = f"0 0 1\n{INSIDE} {NOBODY} 1" if as_root else f"{INSIDE} {group} 1"
        try:
            if not as_root:
                write(f"/proc/{process}/setgroups", "deny")
            write(f"/proc/{process}/uid_map", users)
            write(f"/proc/{process}/gid_map", groups)
        except OSError as error:
            os._exit(error.errno or 1)
        os._exit(0)
    every = NEW_USERS | NEW_MOUNTS | NEW_PIDS | NEW_NETWORK | NEW_IPC | NEW_HOSTNAME | NEW_CGROUP
    libc("making namespaces", "unshare", every)
    os.close(started)
    os.close(start)
    number = os.waitstatus_to_exitcode(os.waitpid(helper, 0)[1])
    if number:
        raise OSError(number, f"mapping users into a namespace: {os.strerror(number)}")
    with suppress(OSError):  # a container may show /proc/sys read-only; a further namespace would give no way out
        write("/proc/sys/user/max_user_namespaces", "0")
    libc("naming the host", "sethostname", b"sandbox", 7)


def write(path: str, text: str) -> None:
    """Write to a file that is there, in one call."""
    file = os.open(path, os.O_WRONLY)
    try:
        os.write(file, text.encode())
    finally:
        os.close(file)


def build_root(order: dict[str, Any]) -> None:
    """Make a file system of what the order names, to be read only, and one folder to write to; leave the old one."""
    mount("none", "/", "", RECURSIVE | PRIVATE)
    mount("sandbox", "/tmp", "tmpfs", NO_SUID | NO_DEVICES, "mode=0755,size=1m")
    os.mkdir("/tmp" + OLD_ROOT)
    libc("changing root", "pivot_root", b"/tmp", b"/tmp" + OLD_ROOT.encode())
    os.chdir("/")
    for path in order["paths"]:
        show(path)
    os.mkdir("/dev")
    for name in DEVICES:
        os.close(os.open(f"/dev/{name}", os.O_CREAT))
        mount(f"{OLD_ROOT}/dev/{name}", f"/dev/{name}", "", BIND)
    os.makedirs(order["folder"])
    size = f"mode=0700,uid={INSIDE},gid={INSIDE},size={order['limits']['file_bytes']},nr_inodes=4096"
    mount("folder", order["folder"], "tmpfs", NO_SUID | NO_DEVICES, size)
    os.mkdir("/proc")
    with suppress(OSError):  # a container whose own /proc is partly hidden allows no other; most programs do without
        mount("proc", "/proc", "proc", NO_SUID | NO_DEVICES | NO_EXEC)
    libc("leaving the old root", "umount2", OLD_ROOT.encode(), DETACH)
    os.rmdir(OLD_ROOT)
    mount("none", "/", "", REMOUNT | BIND | READ_ONLY | NO_SUID | NO_DEVICES)


def show(path: str) -> None:
    """Let the new root have a file, folder or link of the old one, where there is one, to be read only."""
    old = OLD_ROOT + path
    if os.path.lexists(path) or not os.path.lexists(old):
        return
    os.makedirs(os.path.dirname(path), exist_ok=True)
    if os.path.islink(old):
        os.symlink(os.readlink(old), path)
        return
    if os.path.isdir(old):
        os.mkdir(path)
    else:
        os.close(os.open(path, os.O_CREAT))
    mount(old, path, "", BIND | RECURSIVE)
    with open(f"{OLD_ROOT}/proc/self/mountinfo", "rb") as lines:
        points = [unescape(line.split()[4]) for line in lines]
    for point in points:
        if point == path or point.startswith(path + "/"):
            # what the mount was forbidden must stay so; statvfs has the same numbers as mount for it
            kept = os.statvfs(point).f_flag & (NO_SUID | NO_DEVICES | NO_EXEC)
            mount("none", point, "", REMOUNT | BIND | READ_ONLY | NO_SUID | NO_DEVICES | kept)


def unescape(path: bytes) -> str:
    """Unescape a path of which blanks and backslashes are written as three octal digits behind a backslash."""
    first, *others = path.split(b"\\")
    return os.fsdecode(first + b"".join(bytes([int(part[:3], 8)]) + part[3:] for part in others))


def mount(source: str, target: str, kind: str, flags: int, data: str = "") -> None:
    """Call ``mount`` of the system, with a message that names the target."""
    arguments = (source.encode(), target.encode(), kind.encode(), ctypes.c_ulong(flags), data.encode())
    libc(f"mounting {target}", "mount", *arguments)


# --- every isolation ---


def drop_privileges() -> None:
    """Have no capability and get none, and let no other process look into this one."""
    libc("clearing ambient capabilities", "prctl", AMBIENT, CLEAR_AMBIENT, 0, 0, 0)
    header, none = (ctypes.c_uint32 * 2)(CAPABILITIES_V3, 0), (ctypes.c_uint32 * 6)()
    libc("dropping capabilities", "capset", header, none)
    libc("setting no_new_privs", "prctl", SET_NO_NEW_PRIVILEGES, 1, 0, 0, 0)
    libc("setting dumpable", "prctl", SET_DUMPABLE, 0, 0, 0, 0)


def part_from_other_processes() -> None:
    """Let no process outside be looked into or, from Linux 6.12 on, be signalled; without Landlock do nothing.

    A process in a domain of Landlock's has no access to one outside it: not to its memory, its environment or its open
    files, whoever the user is. A domain needs something to forbid: here the making of block devices.
    """
    library = ctypes.CDLL(None, use_errno=True)
    if sys.platform != "linux" or os.uname().machine == "alpha":
        return
    version = library.syscall(ctypes.c_long(MAKE_RULESET), None, ctypes.c_size_t(0), ctypes.c_uint32(1))
    if version < 1:
        return
    rules = (ctypes.c_uint64 * 3)(MAKE_BLOCK_DEVICES, 0, ABSTRACT_SOCKETS | SIGNALS)
    size = ctypes.c_size_t(24 if version >= 6 else 8)  # older ones know of files alone
    ruleset = library.syscall(ctypes.c_long(MAKE_RULESET), rules, size, ctypes.c_uint32(0))
    if ruleset == -1:
        return
    library.syscall(ctypes.c_long(ENTER_DOMAIN), ctypes.c_int(ruleset), ctypes.c_uint32(0))
    os.close(ruleset)


def begin_program(control: int, order: dict[str, Any]) -> None:
    """Return in a child that is to be the program, once it may begin; in this process watch over it, never return."""
    report(control, "ready")
    if not os.read(control, 1):
        os._exit(0)
    ended, end = os.pipe()
    os.set_blocking(end, False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(end, warn_on_full_buffer=False)
    program = os.fork()
    if program:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        watch(control, ended, program, order)
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    if sys.platform == "linux" and not order["private"]:
        libc("setting dumpable", "prctl", SET_DUMPABLE, 1, 0, 0, 0)  # else its own /proc/self is closed to it
    for file in (control, ended, end):  # of a process with many files they may be beyond what is closed below
        os.close(file)
    files, channel = KEPT_FILES, order["channel"]
    if channel is not None:
        os.dup2(channel, KEPT_FILES)
        files += 1
        if channel != KEPT_FILES:
            os.close(channel)
    os.closerange(files, 1 << 16)
    set_limits(order["limits"], order["isolation"])


def set_limits(limits: dict[str, Any], isolation: str) -> None:
    """Limit this process and all that come from it."""
    cpu_s = -int(-limits["cpu_s"] // 1)  # whole seconds, upwards
    wanted = {
        "RLIMIT_CPU": (cpu_s, cpu_s + 1),  # a signal that can be caught, a second later one that cannot
        "RLIMIT_FSIZE": (limits["file_bytes"],) * 2,
        "RLIMIT_CORE": (0, 0),
        "RLIMIT_MSGQUEUE": (0, 0),
        "RLIMIT_NOFILE": (256, 256),
        "RLIMIT_NPROC": (limits["processes"],) * 2,
        "RLIMIT_AS": (limits["memory_bytes"],) * 2,
    }
    for name, pair in wanted.items():
        if not hasattr(resource, name):  # not every system has each
            continue
        number = getattr(resource, name)
        most = resource.getrlimit(number)[1]
        if most != resource.RLIM_INFINITY:
            pair = (min(pair[0], most), min(pair[1], most))
        try:
            resource.setrlimit(number, pair)
        except (OSError, ValueError):
            if isolation != "weak":  # macOS refuses a limit on address space
                raise


def watch(control: int, ended: int, program: int, order: dict[str, Any]) -> NoReturn:
    """Wait for the program, reap what it leaves, and stop all when the parent is gone or memory runs over."""
    news = select.poll()
    news.register(control, select.POLLIN)  # nothing more is sent: what can be read is the end
    news.register(ended, select.POLLIN)
    weak = order["isolation"] == "weak"
    while True:
        happened = dict(news.poll(TICK_MS))
        if control in happened:
            finish(weak)
        if ended in happened:
            os.read(ended, 4096)
        status = reap(program)
        if status is not None:
            code = os.waitstatus_to_exitcode(status)
            report(control, f"exit {code}" if code >= 0 else f"signal {-code}")
            finish(weak)
        if not weak and over_memory(order["limits"]["memory_bytes"]):
            os.kill(program, signal.SIGKILL)


def reap(program: int) -> int | None:
    """Collect every child that has ended; return the status of the program if it is among them."""
    found = None
    while True:
        try:
            child, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return found
        if child == 0:
            return found
        if child == program:
            found = status


def over_memory(limit: int) -> bool:
    """Return whether all the other processes in the sandbox together hold more than the limit."""
    try:
        processes = [name for name in os.listdir("/proc") if name.isdigit() and int(name) not in (1, os.getpid())]
    except OSError:
        return False
    resident = sum(resident_bytes(name) for name in processes)  # quick, but what they share counts for each
    return resident > limit and sum(own_bytes(name) for name in processes) > limit


def resident_bytes(process: str) -> int:
    """Return what a process has in memory; 0 where it has ended."""
    try:
        with open(f"/proc/{process}/statm") as file:
            return int(file.read().split()[1]) * resource.getpagesize()
    except (OSError, IndexError):
        return 0


def own_bytes(process: str) -> int:
    """Return the same with its share alone of what it shares with others, where it lets itself be looked into."""
    try:
        with open(f"/proc/{process}/smaps_rollup") as lines:
            return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))
    except OSError:
        return resident_bytes(process)


def finish(weak: bool) -> NoReturn:
    """End, and with this process the whole sandbox: its first process has ended, or its group is killed."""
    if weak:
        os.killpg(0, signal.SIGKILL)
    os._exit(0)


def load(order: dict[str, Any]) -> types.CodeType:
    """Compile the program, with the modules that it may import in place."""
    for name, text in order["modules"].items():
        module = types.ModuleType(name)
        module.__package__ = name.rpartition(".")[0]
        sys.modules[name] = module
        exec(compile(text, f"{name}.py", "exec"), module.__dict__)
    sys.argv = ["program.py"]
    return compile(order["program"], "program.py", "exec", dont_inherit=True)


if __name__ == "__main__":
    order = main()
    enter = sys.modules["__main__"]  # lives on while it is run
    sys.modules["__main__"] = types.ModuleType("__main__")
    exec(load(order), sys.modules["__main__"].__dict__)
