"""What a sandboxed program can and cannot do.

Every attempt is written so that it does no harm where the sandbox fails: it counts to an end, and what it goes for is
a decoy.
"""

import ctypes
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import FrameType

import pytest

from handpick.errors import SandboxError, SettingsError
from handpick.sandbox.enter import MAKE_RULESET, NOBODY
from handpick.sandbox.find import find_isolation, why_not
from handpick.sandbox.isolation import KEEPERS, Isolation
from handpick.sandbox.limits import MIB, Limits
from handpick.sandbox.process import Outcome, Process
from handpick.sandbox.run import run
from tests.sandbox.conftest import SYSTEM_PYTHON

RECEIVE_S = 5


def attempt(program: str, isolation: Isolation, channel: int | None = None, **limits: float) -> Outcome:
    with Process(program, Limits(**limits), isolation, channel=channel) as process:  # type: ignore[arg-type]
        process.ready()
        return process.finish()


def lines(outcome: Outcome) -> list[str]:
    assert outcome.exit_code == 0, outcome
    return outcome.stdout.decode().splitlines()


# --- every isolation ---


def test_a_program_runs_and_is_told_of(every: Isolation) -> None:
    outcome = attempt("import sys; print('out', sys.stdin.read()); print('err', file=sys.stderr); sys.exit(3)", every)
    assert outcome == Outcome(3, timed_out=False, overflowed=False, stdout=b"out \n", stderr=b"err\n")


def test_an_uncaught_exception_and_a_signal_are_told_of(every: Isolation) -> None:
    outcome = attempt("1 / 0", every)
    assert outcome.exit_code == 1
    assert b"ZeroDivisionError" in outcome.stderr
    assert attempt("import os, signal; os.kill(os.getpid(), signal.SIGTERM)", every).exit_code == -signal.SIGTERM


def test_it_has_nothing_of_the_environment(every: Isolation, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DECOY_TOKEN", "decoy")
    (names,) = lines(attempt("import os; print(*sorted(os.environ))", every))
    assert set(names.split()) <= {"HOME", "LANG", "PATH", "PWD", "PYTHONHASHSEED", "TMPDIR"}


def test_the_same_program_does_the_same_again(every: Isolation) -> None:
    program = "print({word for word in 'the order of a set of words'.split()})"
    assert lines(attempt(program, every)) == lines(attempt(program, every))


def test_it_has_a_temporary_folder_that_is_gone_afterwards(every: Isolation) -> None:
    program = """
import os, tempfile
with tempfile.NamedTemporaryFile(delete=False) as file:
    file.write(b"kept")
print(os.getcwd(), os.path.expanduser("~"), os.path.dirname(file.name))
print(oct(os.stat(".").st_mode & 0o777), os.listdir("."), os.path.basename(file.name), os.path.exists("/no"))
"""
    folders, told = lines(attempt(program, every))
    assert len(set(folders.split())) == 1
    assert told.startswith("0o700 ['tmp")
    assert not Path("/tmp", told.split()[-2]).exists()
    assert every != "weak" or not Path(folders.split()[0]).exists()


def test_it_has_no_site_packages(every: Isolation) -> None:
    assert b"ModuleNotFoundError" in attempt("import numpy", every).stderr


def test_a_loop_without_end_is_stopped_by_the_clock(every: Isolation) -> None:
    start = time.monotonic()
    outcome = attempt("import time\nfor _ in range(60): time.sleep(1)", every, wall_s=0.5)
    assert outcome.timed_out
    assert outcome.exit_code is None
    assert time.monotonic() - start < 10


def test_a_busy_loop_is_stopped_by_processor_time(every: Isolation) -> None:
    program = """
import signal, time
signal.signal(signal.SIGXCPU, lambda *_: None)  # the first warning can be caught, the second not
end = time.monotonic() + 30
while time.monotonic() < end:
    pass
"""
    outcome = attempt(program, every, cpu_s=1, wall_s=25)
    assert outcome.exit_code == -signal.SIGKILL
    assert not outcome.timed_out


def test_memory_without_end_is_refused(every: Isolation) -> None:
    program = """
held = []
try:
    for step in range(32):
        held.append(bytearray(64 << 20))
except MemoryError:
    print(len(held) * 64)
"""
    (mebibytes,) = lines(attempt(program, every, memory_bytes=512 * MIB))
    assert 128 <= int(mebibytes) < 512


def test_processes_without_end_are_refused(every: Isolation) -> None:
    program = """
import os
start, started = os.pipe()
children = []
try:
    for number in range(200):
        child = os.fork()
        if child == 0:
            os.close(started)
            os.read(start, 1)
            os._exit(0)
        children.append(child)
except BlockingIOError:
    pass
os.close(started)
for child in children:
    os.waitpid(child, 0)
print(len(children))
"""
    (children,) = lines(attempt(program, every, processes=8))
    assert 4 <= int(children) <= 8 + KEEPERS


def test_output_without_end_is_cut_and_stopped(every: Isolation) -> None:
    program = """
import os
for _ in range(64 * 16):
    os.write(FILE, b"x" * 65536)
"""
    for file in ("1", "2"):
        outcome = attempt(program.replace("FILE", file), every, output_bytes=MIB)
        assert outcome.overflowed
        assert not outcome.timed_out
        assert max(len(outcome.stdout), len(outcome.stderr)) == MIB


def test_output_up_to_the_limit_is_kept_whole(every: Isolation) -> None:
    outcome = attempt("print('x' * 999_999)", every, output_bytes=1_000_000)
    assert (outcome.exit_code, outcome.overflowed, len(outcome.stdout)) == (0, False, 1_000_000)


def test_a_file_without_end_is_refused(every: Isolation) -> None:
    program = """
size = 0
try:
    with open("big", "wb", buffering=0) as file:
        for _ in range(64):
            size += file.write(bytes(1 << 20))
except OSError:
    print(size)
"""
    (size,) = lines(attempt(program, every, file_bytes=2 * MIB))
    assert MIB <= int(size) <= 2 * MIB


def test_a_process_left_behind_is_ended(every: Isolation) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        program = """
import os, time
if os.fork() == 0:
    time.sleep(30)
    os._exit(0)
print("left")
"""
        outcome = attempt(program, every, channel=theirs.fileno())
        theirs.close()
        assert outcome.stdout == b"left\n"
        ours.settimeout(RECEIVE_S)
        assert ours.recv(1) == b""  # nobody holds the other end any more


def test_a_program_can_be_stopped_at_any_time(every: Isolation) -> None:
    ours, theirs = socket.socketpair()
    with ours, Process("import time; time.sleep(30)", Limits(), every, channel=theirs.fileno()) as process:
        theirs.close()
        process.ready()
        process.stop()
        process.stop()
        ours.settimeout(RECEIVE_S)
        assert ours.recv(1) == b""


def test_it_has_no_open_file_but_those_it_is_given(every: Isolation) -> None:
    program = """
import os
def is_open(number):
    try:
        os.fstat(number)
    except OSError:
        return False
    return True
print(*[number for number in range(256) if is_open(number)])
"""
    assert lines(attempt(program, every)) == ["0 1 2"]
    ours, theirs = socket.socketpair()
    with ours, theirs:
        assert lines(attempt(program, every, channel=theirs.fileno())) == ["0 1 2 3"]


def test_no_line_of_a_program_is_run_before_it_may_begin(every: Isolation) -> None:
    ours, theirs = socket.socketpair()
    program = "import os; os.write(3, b'begun')"
    with ours, theirs, Process(program, Limits(), every, channel=theirs.fileno()) as process:
        theirs.close()
        process.stand()
        ours.settimeout(0.3)
        with pytest.raises(TimeoutError):
            ours.recv(5)
        process.ready()
        ours.settimeout(RECEIVE_S)
        assert ours.recv(5) == b"begun"
        assert process.finish().exit_code == 0


def test_a_private_program_is_closed_to_all_of_its_user(every: Isolation) -> None:
    program = """
try:
    print(open("/proc/self/environ", "rb").read() != b"")
except OSError as error:
    print(type(error).__name__)
"""
    said = []
    for private in (False, True):
        with Process(program, Limits(), every, private=private) as process:
            process.ready()
            said += lines(process.finish())
    if said[0] == "FileNotFoundError":
        pytest.skip("no /proc can be mounted here")
    assert said == ["True", "PermissionError"]


LOOK = """
import os, signal
seen = []
for name in PROCESSES:
    for what in ("environ", "mem"):
        try:
            seen.append((what, open(f"/proc/{name}/{what}", "rb").read(0)))
        except OSError:
            pass
    try:
        seen += [os.readlink(f"/proc/{name}/fd/{file}") for file in os.listdir(f"/proc/{name}/fd")]
    except OSError:
        pass
    try:
        os.kill(int(name), signal.SIGUSR1) if SIGNALS else None
        seen.append("signal") if SIGNALS else None
    except OSError:
        pass
print(len(seen))
"""


def test_no_process_in_the_sandbox_but_its_own_can_be_looked_into(strong: Isolation) -> None:
    others = "[name for name in os.listdir('/proc') if name.isdigit() and int(name) != os.getpid()]"
    program = LOOK.replace("PROCESSES", others).replace("SIGNALS", "False")
    outcome = attempt(program, strong)
    if b"FileNotFoundError" in outcome.stderr:
        pytest.skip("no /proc can be mounted here")
    assert lines(outcome) == ["0"]


def test_without_isolation_no_process_of_the_user_can_be_looked_into_where_there_is_landlock(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    version = ctypes.CDLL(None).syscall(ctypes.c_long(MAKE_RULESET), None, ctypes.c_size_t(0), ctypes.c_uint32(1))
    if sys.platform != "linux" or version < 1:
        pytest.skip("this system has no Landlock")
    user = NOBODY if os.geteuid() == 0 else None
    if user is not None:
        monkeypatch.setattr("handpick.sandbox.isolation.interpreter", lambda: SYSTEM_PYTHON)
        why_not.cache_clear()
    if reason := why_not("weak"):
        pytest.skip(reason)
    python = SYSTEM_PYTHON if user is not None else sys.executable
    ignore = "import signal, time; signal.signal(signal.SIGUSR1, signal.SIG_IGN); print(flush=True); time.sleep(60)"
    with subprocess.Popen([python, "-c", ignore], stdout=subprocess.PIPE, user=user, env={"DECOY": "decoy"}) as decoy:
        try:
            assert decoy.stdout is not None
            decoy.stdout.readline()
            look = LOOK.replace("PROCESSES", f"[{decoy.pid}]").replace("SIGNALS", str(version >= 6))
            outside = subprocess.run([python, "-c", look], stdout=subprocess.PIPE, user=user, check=True)
            assert int(outside.stdout) >= 2  # so there is something to be kept from
            assert lines(attempt(look, "weak")) == ["0"]
        finally:
            decoy.kill()
            why_not.cache_clear()


# --- strong isolations ---


def test_a_daemon_is_ended(strong: Isolation) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        program = """
import os, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        os.setsid() if os.getpid() != os.getsid(0) else None
        time.sleep(30)
    os._exit(0)
os.wait()
print("left")
"""
        outcome = attempt(program, strong, channel=theirs.fileno())
        theirs.close()
        assert outcome.stdout == b"left\n"
        ours.settimeout(RECEIVE_S)
        assert ours.recv(1) == b""


def test_memory_counts_for_all_processes_together(strong: Isolation) -> None:
    program = """
import os, time
for _ in range(4):
    if os.fork() == 0:
        held = bytearray(b"x") * (100 << 20)
        time.sleep(8)
        os._exit(0)
time.sleep(8)
"""
    outcome = attempt(program, strong, memory_bytes=256 * MIB)
    assert outcome.exit_code == -signal.SIGKILL


def test_many_files_are_refused_as_one_is(strong: Isolation) -> None:
    program = """
written = 0
try:
    for number in range(64):
        with open(str(number), "wb", buffering=0) as file:
            written += file.write(bytes(1 << 20))
except OSError:
    print(written)
"""
    (written,) = lines(attempt(program, strong, file_bytes=4 * MIB))
    assert int(written) <= 4 * MIB


def test_a_decoy_home_cannot_be_deleted(strong: Isolation, tmp_path: Path) -> None:
    home = tmp_path / "home"
    (home / "letters").mkdir(parents=True)
    (home / "letters" / "one").write_text("dear")
    program = f"""
import os, shutil
shutil.rmtree({str(home)!r}, ignore_errors=True)
for path in ({str(home / "letters" / "one")!r}, {str(home)!r}):
    try:
        os.remove(path)
    except OSError as error:
        print(type(error).__name__)
"""
    assert lines(attempt(program, strong)) == ["FileNotFoundError"] * 2
    assert (home / "letters" / "one").read_text() == "dear"


def test_a_decoy_secret_cannot_be_read(strong: Isolation, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("decoy")
    secret.chmod(0o644)
    program = f"""
for front in ("", "/proc/1/root", "/proc/self/root", "/proc/1/cwd/..", "/proc/self/cwd/../..", "/.outside", "/.."):
    try:
        print(open(front + {str(secret)!r}).read())
    except OSError as error:
        print(type(error).__name__)
"""
    told = lines(attempt(program, strong))
    assert set(told) <= {"FileNotFoundError", "PermissionError"}
    assert len(told) == 7


def test_it_sees_what_python_needs_and_nothing_else(strong: Isolation) -> None:
    program = "import os; print(*sorted(os.listdir('/'))); print(*os.listdir('/tmp'))"
    top, temporary = attempt(program, strong).stdout.decode().splitlines()
    first = Path(os.path.realpath(sys.base_prefix)).parts[1]
    assert set(top.split()) <= {
        "usr",
        "bin",
        "sbin",
        "lib",
        "lib32",
        "lib64",
        "libx32",
        "etc",
        "dev",
        "proc",
        "tmp",
        first,
    }
    assert temporary == ""
    if first == "root":
        assert lines(attempt("import os; print(os.listdir('/root'))", strong)) != []


def test_it_can_write_nowhere_but_in_its_folder(strong: Isolation) -> None:
    program = """
import os, sys
own = (sys.prefix, sys.prefix + "/lib", os.path.dirname(os.__file__))
for folder in ("/", "/usr", "/usr/lib", "/etc", "/dev", "/proc", *own):
    try:
        open(folder + "/decoy-of-handpick", "x").close()
        print("written to", folder)
        os.remove(folder + "/decoy-of-handpick")
    except OSError:
        pass
"""
    assert lines(attempt(program, strong)) == []


def test_it_reaches_no_socket_of_the_host(strong: Isolation) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.socket(socket.AF_UNIX) as local:
        local.bind("\0decoy-of-handpick-" + str(os.getpid()))
        local.listen()
        port = listener.getsockname()[1]
        program = f"""
import socket
for family, address in ((socket.AF_INET, ("127.0.0.1", {port})), (socket.AF_UNIX, {local.getsockname()!r})):
    with socket.socket(family) as caller:
        caller.settimeout(2)
        try:
            caller.connect(address)
            print("connected")
        except OSError as error:
            print("refused")
"""
        assert lines(attempt(program, strong)) == ["refused"] * 2
        for server in (listener, local):
            server.settimeout(0.1)
            with pytest.raises(TimeoutError):
                server.accept()


def test_its_parent_cannot_be_signalled(strong: Isolation) -> None:
    received = []

    def note(number: int, frame: FrameType | None) -> None:
        received.append(number)

    before = signal.signal(signal.SIGUSR1, note)
    try:
        program = f"""
import os, signal
for process in (os.getppid(), {os.getpid()}, {os.getppid()}):
    if process > 1:
        try:
            os.kill(process, 0)
            os.kill(process, signal.SIGUSR1)
            print("signalled", process)
        except OSError:
            pass
os.kill(1, signal.SIGUSR1)
"""
        outcome = attempt(program, strong)
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert received == []
    assert f"signalled {os.getpid()}" not in outcome.stdout.decode()


def test_it_sees_no_process_of_the_host(strong: Isolation) -> None:
    program = "import os; print(max((int(name) for name in os.listdir('/proc') if name.isdigit()), default=0))"
    (highest,) = lines(attempt(program, strong))
    assert int(highest) < 20


def test_it_has_no_capability_and_gets_none(strong: Isolation) -> None:
    program = """
import ctypes, os
libc = ctypes.CDLL(None, use_errno=True)
state = dict(line.split(":", 1) for line in open("/proc/self/status"))
print(*(state[name].strip().lstrip("0") for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")))
print(state["NoNewPrivs"].strip())
print(libc.unshare(0x10000000), libc.mount(b"none", b"/tmp", b"tmpfs", 0, b""))
try:
    os.setuid(0)
    print("root")
except OSError:
    print(os.getuid() != 0)
"""
    capabilities, privileges, calls, user = lines(attempt(program, strong))
    assert capabilities.strip() == ""
    assert privileges == "1"
    assert calls == "-1 -1"
    assert user == "True"


def test_the_process_that_watches_cannot_be_looked_into(strong: Isolation) -> None:
    program = """
import os
keeper = os.getppid()
try:
    open(f"/proc/{keeper}/mem", "rb")
    print("open")
except OSError as error:
    print(type(error).__name__)
"""
    assert lines(attempt(program, strong)) == ["PermissionError"]


def test_nothing_is_left_running_when_the_parent_is_killed(strong: Isolation) -> None:
    ours, theirs = socket.socketpair()
    parent = f"""
import os, signal
from handpick.sandbox.limits import Limits
from handpick.sandbox.process import Process
process = Process("import time; time.sleep(30)", Limits(), {strong!r}, channel={theirs.fileno()})
process.ready()
os.kill(os.getpid(), signal.SIGKILL)
"""
    with ours, theirs:
        subprocess.run([sys.executable, "-c", parent], pass_fds=[theirs.fileno()], check=False)
        theirs.close()
        ours.settimeout(RECEIVE_S)
        assert ours.recv(1) == b""


# --- what a user is told ---


def test_run_takes_the_strongest_there_is(strong: Isolation) -> None:
    outcome = run("print(6 * 7)", Limits(wall_s=5))
    assert (outcome.exit_code, outcome.stdout) == (0, b"42\n")


@pytest.mark.parametrize("name", ["cpu_s", "wall_s", "memory_bytes", "file_bytes", "processes", "output_bytes"])
def test_a_limit_must_be_above_zero(name: str) -> None:
    with pytest.raises(SettingsError, match=rf"^the sandbox's limit {name} is 0; give a number above zero$"):
        Limits(**{name: 0})


def test_a_machine_without_a_strong_sandbox_says_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    reasons = {"bwrap": "no bwrap", "namespaces": "no namespaces", "weak": None}
    monkeypatch.setattr("handpick.sandbox.find.why_not", reasons.__getitem__)
    with pytest.raises(
        SettingsError,
        match=r"^no strong sandbox works here: no bwrap; no namespaces; install .* or give --allow-weak-sandbox "
        r"\(allow_weak_sandbox=True\), under which the code can read your files, use the network and the sockets of "
        r"this machine, change and delete what you can, signal your processes, and see the environment that they were "
        r"given, keys in it too$",
    ):
        find_isolation()
    assert find_isolation(allow_weak=True) == "weak"


def test_a_machine_without_any_sandbox_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("handpick.sandbox.find.why_not", lambda isolation: f"no {isolation}")
    with pytest.raises(SettingsError, match=r"^no sandbox works here: no bwrap; no namespaces; no weak; "):
        find_isolation(allow_weak=True)


def test_a_strong_sandbox_is_taken_though_a_weak_one_is_allowed(strong: Isolation) -> None:
    assert find_isolation(allow_weak=True) != "weak"


def test_a_missing_bwrap_is_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda name: None)
    why_not.cache_clear()
    try:
        assert why_not("bwrap") == "bubblewrap (bwrap) is not on PATH"
    finally:
        why_not.cache_clear()


def test_a_sandbox_that_cannot_be_made_is_an_error_and_not_an_outcome(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    broken = tmp_path / "python"
    broken.write_text("#!/bin/sh\necho 'no such interpreter' >&2\nexit 1\n")
    broken.chmod(0o755)
    monkeypatch.setattr("handpick.sandbox.isolation.interpreter", lambda: str(broken))
    with (
        Process("print(1)", Limits(), "namespaces") as process,
        pytest.raises(SandboxError, match=r"^cannot make a sandbox of the kind namespaces: no such interpreter$"),
    ):
        process.ready()
