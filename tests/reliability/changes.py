"""A process whose every change to the files of a folder is seen before the system makes it.

Linux's seccomp hands each such system call to a supervisor, whoever makes it: Python, PyTorch, safetensors, Arrow, or a
process that was started by one of them. The supervisor counts it and lets it through, refuses it with an error of the
system's, or kills the process group there. So every moment between two changes can be reached, one by one, and the same
moment again.

See seccomp(2) and seccomp_unotify(2). It takes no rights beyond a user's own. Numbers of calls are those of x86-64.
"""

import ctypes
import errno
import fcntl
import os
import platform
import select
import signal
import socket
import struct
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

# where in a call's arguments the name or the descriptor of what it changes stands: "path" is relative to the working
# folder, "at" to the descriptor before it
_CALLS: Mapping[int, tuple[str, str, int]] = {
    1: ("write", "fd", 0), 18: ("pwrite64", "fd", 0), 20: ("writev", "fd", 0), 296: ("pwritev", "fd", 0),
    40: ("sendfile", "fd", 0), 326: ("copy_file_range", "fd", 2), 285: ("fallocate", "fd", 0),
    74: ("fsync", "fd", 0), 75: ("fdatasync", "fd", 0), 77: ("ftruncate", "fd", 0), 76: ("truncate", "path", 0),
    2: ("open", "path", 0), 85: ("creat", "path", 0), 257: ("openat", "at", 1),
    82: ("rename", "path", 1), 264: ("renameat", "at", 3), 316: ("renameat2", "at", 3),
    87: ("unlink", "path", 0), 263: ("unlinkat", "at", 1), 84: ("rmdir", "path", 0),
    83: ("mkdir", "path", 0), 258: ("mkdirat", "at", 1),
    86: ("link", "path", 1), 265: ("linkat", "at", 3), 88: ("symlink", "path", 1), 266: ("symlinkat", "at", 2),
}  # fmt: skip
_WRITE = 1
_OPEN_FLAGS = {"open": 1, "openat": 2}  # the argument that says how it is opened
_AT_FDCWD = 0xFFFFFF9C
_PR_SET_NO_NEW_PRIVS, _PR_SET_PDEATHSIG = 38, 1
_SECCOMP, _SET_MODE_FILTER, _NEW_LISTENER = 317, 1, 8
_RECEIVE, _SEND = 0xC0502100, 0xC0182101
_NOTIFICATION = struct.Struct("=QIIiIQ6Q")
_ANSWER = struct.Struct("=QqiI")
_CONTINUE = 1
_libc = ctypes.CDLL(None, use_errno=True)

#: Calls that a disk without room refuses; those that make a new file are added to them.
TAKE_ROOM = {
    "write", "pwrite64", "writev", "pwritev", "sendfile", "copy_file_range", "fallocate", "mkdir", "mkdirat", "link",
    "linkat", "symlink", "symlinkat",
}  # fmt: skip
WRITES = {"write", "pwrite64"}


@dataclass(frozen=True, slots=True)
class Call:
    """A system call that is about to change a file of the folder, or to open one."""

    name: str
    path: str  #: Relative to the folder.
    opens: bool
    changes: bool  #: It changes something: an open that makes or empties a file does, another does not.
    makes: bool  #: It makes a file that is not there.
    number: int = 0  #: Among those that are counted, from 1.


Answer = int | str | None  # an error of the system's, "kill", "tear" (half of a write, then kill), "interrupt", or none


@dataclass(frozen=True, slots=True)
class Ended:
    """How a supervised process ended."""

    status: int  #: The exit status, or less than 0 a signal.
    calls: int  #: How many calls were counted.
    seconds: float
    struck: Call | None  #: The first call that was not let through as it was.
    timed_out: bool


def can_supervise() -> bool:
    """Return whether this system hands calls to a supervisor."""
    return sys.platform == "linux" and platform.machine() == "x86_64" and _try_filter()


def _try_filter() -> bool:
    child = os.fork()
    if not child:
        try:
            os.close(_install_filter())
        except OSError:
            os._exit(1)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def supervise(
    work: Callable[[], int],
    folder: Path,
    answer: Callable[[Call], Answer],
    *,
    counts: Callable[[Call], bool] = lambda call: call.changes,
    kill_after: float | None = None,
    limit: float = 120,
) -> Ended:
    """Run ``work`` in a forked process group of its own, and answer each call that touches the folder.

    Args:
        work: what the process does; its exit status.
        folder: whose files are watched.
        answer: what becomes of a counted call.
        counts: which calls are counted.
        kill_after: seconds after which the group is killed.
        limit: seconds after which it is killed as one that hangs.
    """
    ours, its = socket.socketpair()
    began = time.monotonic()
    child = os.fork()
    if not child:
        ours.close()
        _work(work, its)
    its.close()
    _, (listener,), *_ = socket.recv_fds(ours, 1, 1)
    ours.close()
    watch = _Watch(child, listener, folder, answer, counts)
    try:
        timed_out = watch.run(began, kill_after, limit)
    finally:
        os.close(listener)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    _kill_group(child)  # what it has started and left
    return Ended(status, watch.calls, time.monotonic() - began, watch.struck, timed_out)


def _work(work: Callable[[], int], its: socket.socket) -> None:
    status = 70
    try:
        os.setsid()
        _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job inherits that it is ignored
        listener = _install_filter()
        socket.send_fds(its, [b"x"], [listener])
        os.close(listener)
        its.close()
        status = work()
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        os._exit(status)


def _install_filter() -> int:
    """Have every call that may change a file handed to the returned descriptor."""
    load, equal, greater, end = 0x20, 0x15, 0x25, 0x06
    hand_over, let = (end, 0, 0, 0x7FC00000), (end, 0, 0, 0x7FFF0000)
    others = [number for number in _CALLS if number != _WRITE]
    program = [(load, 0, 0, 4), (equal, 1, 0, 0xC000003E), let, (load, 0, 0, 0)]  # of x86-64 alone; the call's number
    program += [(equal, len(others) + 3 - i, 0, number) for i, number in enumerate(others)]  # to hand_over
    # of writes, those to the standard streams are nobody's business
    program += [(equal, 0, 2, _WRITE), (load, 0, 0, 16), (greater, 1, 0, 2), let, hand_over]
    steps = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *step) for step in program))

    class Program(ctypes.Structure):
        _fields_ = (("length", ctypes.c_ushort), ("steps", ctypes.c_void_p))

    _libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    listener: int = _libc.syscall(
        _SECCOMP, _SET_MODE_FILTER, _NEW_LISTENER, ctypes.byref(Program(len(program), ctypes.addressof(steps)))
    )
    if listener < 0:
        raise OSError(ctypes.get_errno(), "seccomp")
    return listener


class _Watch:
    """Answers a process's calls until it has ended."""

    def __init__(
        self,
        child: int,
        listener: int,
        folder: Path,
        answer: Callable[[Call], Answer],
        counts: Callable[[Call], bool],
    ) -> None:
        self.calls = 0
        self.struck: Call | None = None
        self._child = child
        self._listener = listener
        self._folder = os.path.realpath(folder)
        self._answer = answer
        self._counts = counts

    def run(self, began: float, kill_after: float | None, limit: float) -> bool:
        """Answer until the process has ended; True where it was killed for taking too long."""
        ended = os.pidfd_open(self._child)
        poll = select.poll()
        poll.register(self._listener, select.POLLIN)
        poll.register(ended, select.POLLIN)
        until = began + (limit if kill_after is None else kill_after)
        try:
            while True:
                ready = dict(poll.poll(max(0.0, until - time.monotonic()) * 1000))
                if ended in ready:
                    return False
                if not ready:
                    _kill_group(self._child)
                    os.waitid(os.P_PIDFD, ended, os.WEXITED | os.WNOWAIT)
                    return kill_after is None
                if ready[self._listener] & select.POLLIN:
                    self._take()
        finally:
            os.close(ended)

    def _take(self) -> None:
        notification = bytearray(_NOTIFICATION.size)
        if not _ioctl(self._listener, _RECEIVE, notification):
            return  # the thread was ended meanwhile
        identity, thread, _, number, _, _, *arguments = _NOTIFICATION.unpack(notification)
        try:
            call = self._call(thread, number, arguments)
        except OSError:  # the thread was ended meanwhile, or the call names nothing that there is
            call = None
        answer: Answer = None
        if call is not None and self._counts(call):
            self.calls += 1
            call = replace(call, number=self.calls)
            answer = self._answer(call)
            if answer is not None:
                self.struck = self.struck or call
        if answer in ("kill", "tear"):
            if answer == "tear":
                _write_half(thread, arguments)
            _kill_group(self._child)
            return  # a call that nobody answers is never made: its thread dies waiting
        if answer == "interrupt":
            os.kill(self._child, signal.SIGINT)
        refused = answer if isinstance(answer, int) else 0
        _ioctl(self._listener, _SEND, bytearray(_ANSWER.pack(identity, 0, -refused, 0 if refused else _CONTINUE)))

    def _call(self, thread: int, number: int, arguments: list[int]) -> Call | None:
        """Describe a call; None where it is about nothing in the folder."""
        name, kind, place = _CALLS[number]
        if kind == "fd":
            path = os.readlink(f"/proc/{thread}/fd/{arguments[place]}")
        else:
            path = _text(thread, arguments[place])
            base = arguments[place - 1] & 0xFFFFFFFF if kind == "at" else _AT_FDCWD
            if not path.startswith("/"):
                path = f"{os.readlink(f'/proc/{thread}/' + ('cwd' if base == _AT_FDCWD else f'fd/{base}'))}/{path}"
            path = os.path.normpath(path)
        if not path.startswith(self._folder):
            return None
        flags = os.O_CREAT | os.O_TRUNC | os.O_WRONLY
        if name in _OPEN_FLAGS:
            flags = arguments[_OPEN_FLAGS[name]]
        opens = name in ("open", "openat", "creat")
        makes = opens and bool(flags & os.O_CREAT) and not os.path.lexists(path)
        return Call(name, path[len(self._folder) + 1 :], opens, makes or not opens or bool(flags & os.O_TRUNC), makes)


def _kill_group(leader: int) -> None:
    with suppress(ProcessLookupError):
        os.killpg(leader, signal.SIGKILL)


def _ioctl(descriptor: int, request: int, data: bytearray) -> bool:
    try:
        fcntl.ioctl(descriptor, request, data, True)
    except OSError as error:
        if error.errno == errno.ENOENT:  # who made the call is gone
            return False
        raise
    return True


def _text(thread: int, address: int) -> str:
    """Read a name from a thread's memory."""
    with open(f"/proc/{thread}/mem", "rb", buffering=0) as memory:
        found = b""
        while b"\0" not in found:
            memory.seek(address + len(found))
            found += memory.read(256 - (address + len(found)) % 256)
    return os.fsdecode(found.partition(b"\0")[0])


def _write_half(thread: int, arguments: list[int]) -> None:
    """Write half of what a thread is about to write, where it would: what a kill in the middle of a write leaves."""
    descriptor, address, size = arguments[:3]
    with open(f"/proc/{thread}/mem", "rb", buffering=0) as memory:
        memory.seek(address)
        half = memory.read(max(1, size // 2))
    with open(f"/proc/{thread}/fdinfo/{descriptor}") as lines:
        said = dict(line.split(":", 1) for line in lines if ":" in line)
    appends = int(said["flags"], 8) & os.O_APPEND
    own = os.open(f"/proc/{thread}/fd/{descriptor}", os.O_WRONLY | appends)
    try:
        if not appends:
            os.lseek(own, int(said["pos"]), os.SEEK_SET)
        os.write(own, half)
    finally:
        os.close(own)
