"""One sandboxed program, from its start to the end of everything that came from it."""

import json
import os
import selectors
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass
from typing import IO, Any

from handpick.errors import SandboxError
from handpick.sandbox.enter import NOBODY
from handpick.sandbox.isolation import INSIDE_FOLDER, Isolation, command, environment, process_limit, readable_paths
from handpick.sandbox.limits import Limits

START_S = 60.0  # a sandbox that does not stand after this long will not; a busy machine may need some seconds
STOP_S = 1.0  # for ending by itself, before it is killed
CHUNK_BYTES = 1 << 16


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a program ended.

    Args:
        exit_code: what it exited with; -N where signal N ended it, such as one for too much processor time or memory;
            None where it was stopped from outside.
        timed_out: whether it was stopped because its time on the clock was over.
        overflowed: whether it was stopped because it wrote more than it may.
        stdout: what it wrote, up to the limit.
        stderr: the same, of stderr.
    """

    exit_code: int | None
    timed_out: bool
    overflowed: bool
    stdout: bytes
    stderr: bytes


class Process:
    """A sandbox that is made at once; ``ready``, then ``finish`` or ``stop``. A context manager that stops it.

    Args:
        program: source code for a bare interpreter: no site-packages, stdin empty.
        limits: how much it may use.
        isolation: how it is shut in.
        modules: further source code, by the name under which the program may import it; a package before what is in it.
        channel: an open file that the program has as number 3.
        private: whether no other process may look into the program's, whoever its user is; its own /proc/self is
            closed to it then. Linux alone keeps it.
    """

    def __init__(
        self,
        program: str,
        limits: Limits,
        isolation: Isolation,
        *,
        modules: Mapping[str, str] | None = None,
        channel: int | None = None,
        private: bool = False,
    ) -> None:
        self._limits, self._isolation = limits, isolation
        self._reports = b""
        self._started = 0.0
        self._left = ExitStack()  # what to close and remove in the end
        folder, owner = self._place()
        self._control, theirs = socket.socketpair()
        self._left.enter_context(self._control)
        with theirs:
            self._popen = self._start(theirs.fileno(), folder, owner, channel)
        self._stdout, self._stderr = _pipe(self._popen.stdout), _pipe(self._popen.stderr)
        self._left.enter_context(self._stdout)
        self._left.enter_context(self._stderr)
        self._tell(
            {
                "isolation": isolation,
                "folder": folder,
                "paths": readable_paths(),
                "limits": {**asdict(limits), "processes": process_limit(isolation, limits)},
                "program": program,
                "modules": dict(modules or {}),
                "channel": channel,
                "private": private,
            }
        )

    def _place(self) -> tuple[str, int | None]:
        """Return the program's folder, and whose it is where that is not ours."""
        if self._isolation != "weak":
            return INSIDE_FOLDER, None
        folder = tempfile.mkdtemp(prefix="sandbox-")
        self._left.callback(shutil.rmtree, folder, ignore_errors=True)
        if os.geteuid() != 0:
            return folder, None
        os.chown(folder, NOBODY, NOBODY)  # root could do anything, and no limit on processes applies to it
        return folder, NOBODY

    def _start(self, control: int, folder: str, owner: int | None, channel: int | None) -> subprocess.Popen[bytes]:
        try:
            return subprocess.Popen(
                command(self._isolation, control, self._limits),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=environment(folder),
                cwd="/",
                pass_fds=[control] if channel is None else [control, channel],
                start_new_session=True,
                user=owner,
                group=owner,
                extra_groups=None if owner is None else [],
            )
        except OSError as error:
            self._left.close()
            raise SandboxError(f"cannot make a sandbox of the kind {self._isolation}: {error}") from error

    def _tell(self, order: Mapping[str, Any]) -> None:
        """Send what is to be run, and how."""
        text = json.dumps(order).encode()
        self._control.settimeout(START_S)
        with suppress(OSError):  # it has ended already; `ready` tells why
            self._control.sendall(len(text).to_bytes(8, "big") + text)

    def __enter__(self) -> "Process":
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def ready(self) -> None:
        """Wait until the sandbox stands and let the program begin, from when its time counts.

        Raises:
            SandboxError: as ``stand``.
        """
        self.stand()
        self._started = time.monotonic()
        with suppress(OSError):  # it has ended already
            self._control.send(b"!")

    def stand(self) -> None:
        """Wait until the sandbox stands, its doors shut, before any line of the program is run.

        Raises:
            SandboxError: the sandbox cannot be made.
        """
        with suppress(OSError):
            while b"\n" not in self._reports and (data := self._control.recv(4096)):
                self._reports += data
        report = self._reports.partition(b"\n")[0].decode()
        if report != "ready":
            self._halt()
            said = _rest(self._stderr, 4096).decode(errors="replace").strip()
            self._left.close()
            why = report.removeprefix("failed ") or said.rpartition("\n")[2] or "it ended before it began"
            raise SandboxError(f"cannot make a sandbox of the kind {self._isolation}: {why}")

    def finish(self) -> Outcome:
        """Wait for the program to end, and stop it where it runs over its time or writes too much."""
        pipes = {self._stdout: bytearray(), self._stderr: bytearray()}
        most = self._limits.output_bytes
        ended = overflowed = timed_out = False
        with selectors.DefaultSelector() as selector:
            selector.register(self._control, selectors.EVENT_READ)
            for pipe in pipes:
                selector.register(pipe, selectors.EVENT_READ)
            while not (ended or overflowed or timed_out):
                left = self._started + self._limits.wall_s - time.monotonic()
                timed_out = left <= 0
                for key, _ in selector.select(max(left, 0)):
                    if key.fileobj is self._control:
                        data = self._control.recv(4096)
                        self._reports += data
                        ended = not data
                        continue
                    data = os.read(key.fd, CHUNK_BYTES)
                    if not data:
                        selector.unregister(key.fileobj)
                    kept = pipes[key.fileobj]  # type: ignore[index]  # only the pipes are left
                    kept += data
                    overflowed |= len(kept) > most
        self._halt()
        for pipe, kept in pipes.items():
            kept += _rest(pipe, max(0, most + 1 - len(kept)))
        overflowed = any(len(kept) > most for kept in pipes.values())
        self._left.close()
        stdout, stderr = (bytes(kept[:most]) for kept in pipes.values())
        return Outcome(self._exit_code(), timed_out, overflowed, stdout, stderr)

    def stop(self) -> None:
        """End the program and everything that came from it; may be called at any time and again."""
        self._halt()
        self._left.close()

    def _exit_code(self) -> int | None:
        word, _, number = self._reports.decode().removeprefix("ready\n").strip().partition(" ")
        if not number:
            return None
        return int(number) if word == "exit" else -int(number)

    def _halt(self) -> None:
        if self._popen.returncode is not None:
            return
        if self._isolation == "weak":  # what is left of the group has nobody else to end it
            self._kill()
        with suppress(OSError):
            self._control.shutdown(socket.SHUT_RDWR)
        try:
            self._popen.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self._kill()
            self._popen.wait()

    def _kill(self) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self._popen.pid, signal.SIGKILL)  # not yet waited for, so the number is still its own


def _pipe(pipe: IO[bytes] | None) -> IO[Any]:
    if pipe is None:
        raise RuntimeError("a sandbox is started with pipes")
    return pipe


def _rest(pipe: IO[bytes], most: int) -> bytes:
    """Read what a pipe still holds, up to a number of bytes; something that escaped may hold its other end open."""
    data = b""
    os.set_blocking(pipe.fileno(), False)
    with suppress(BlockingIOError):
        while len(data) < most and (part := os.read(pipe.fileno(), most - len(data))):
            data += part
    return data
