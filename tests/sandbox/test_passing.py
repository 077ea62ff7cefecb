"""Tests of code under test: right answers pass however they are made, and no verdict can be forged."""

import time

import pytest

from handpick.errors import DataError
from handpick.sandbox.find import find_isolation, why_not
from handpick.sandbox.isolation import Isolation
from handpick.sandbox.limits import MIB, Limits
from handpick.sandbox.testing.passing import Suite, draw_words, read_verdicts, run_tests

if why_not("bwrap") and why_not("namespaces"):
    pytest.skip(f"{why_not('bwrap')}; {why_not('namespaces')}", allow_module_level=True)

EXPECTED = "expected-9f3c27"
LIMITS = Limits(wall_s=10, cpu_s=10)


def results(
    code: str,
    *tests: str,
    setup: str = "",
    hidden: str = "",
    entry_point: str | None = None,
    limits: Limits = LIMITS,
    isolation: Isolation | None = None,
) -> list[bool]:
    return run_tests(code, Suite(setup, tests, entry_point, hidden), limits, isolation or find_isolation())


# --- right and wrong code ---


def test_each_test_counts_by_itself() -> None:
    code = "def double(x):\n    if x == 3: raise ValueError('three')\n    return 2 * x"
    tests = ["assert double(2) == 4", "assert double(3) == 6", "assert double(2) == 5", "assert double('a') == 'aa'"]
    assert results(code, *tests) == [True, False, False, True]


@pytest.mark.parametrize(
    "code", ["def f(:", "1 / 0", "import sys; sys.exit(0)", "import numpy", "", "\0", "x = '\ud800'"]
)
def test_code_that_cannot_be_loaded_passes_nothing(code: str) -> None:
    assert results(code, "assert f(1) == 1", "assert f(2) == 2") == [False, False]


@pytest.mark.parametrize(
    "value",
    [
        "None", "True", "-7", "2 ** 70", "10 ** 5000", "0.1 + 0.2", "float('inf')", "-0.0", "1 + 2j", "'ä\\n\\ud800'",
        "b'\\x00a'", "bytearray(b'b')", "[1, [2, (3, None)]]", "()", "{1, 2}", "frozenset('ab')",
        "{'a': {1: [2]}, (1, 2): 'b'}",
        "range(2, 9, 3)", "__import__('decimal').Decimal('1.50')", "__import__('fractions').Fraction(1, 3)",
        "__import__('datetime').datetime(2024, 2, 29, 1, 2, 3, 4)", "__import__('datetime').date(2024, 2, 29)",
        "__import__('datetime').time(1, 2)", "__import__('datetime').timedelta(-1, 2, 3)",
        "__import__('collections').deque([1, 2])", "int", "ValueError", "__import__('collections').Counter('aab')",
    ],
)  # fmt: skip
def test_plain_values_cross_in_both_directions(value: str) -> None:
    code = (
        f"def same(x):\n    return x if x == {value} and type(x).__name__ in (type({value}).__name__, 'dict') else None"
    )
    kind = "" if "Counter" in value else f" and type(same({value})) is type({value})"
    assert results(code, f"assert same({value}) == {value}{kind}") == [True]


def test_what_is_a_plain_value_by_inheritance_crosses_as_one() -> None:
    code = """
from collections import namedtuple, OrderedDict, defaultdict
from enum import IntEnum
Point = namedtuple("Point", "x y")
class Colour(IntEnum):
    RED = 1
def point(): return Point(1, 2)
def colour(): return Colour.RED
def counts(): return defaultdict(int, {"a": 1})
"""
    tests = ["assert point() == (1, 2)", "assert colour() == 1", "assert counts() == {'a': 1}", "assert point().x == 1"]
    assert results(code, *tests) == [True, True, True, False]


def test_objects_of_the_code_can_be_used_through_stand_ins() -> None:
    code = """
class Node:
    def __init__(self, value):
        self.value, self.left, self.right = value, None, None
    def __eq__(self, other):
        return self.value == other.value
    def __len__(self):
        return 7
def depth(node):
    return 0 if node is None else 1 + max(depth(node.left), depth(node.right))
def squares(n):
    for i in range(n):
        yield i * i
class Grid(dict):
    pass
def table(): return type("Table", (), {"__getitem__": lambda self, key: key * 2})()
LIMIT = 12
"""
    setup = "root = Node(1)\nroot.left = Node(2)\nroot.left.right = Node(3)\n"
    tests = [
        "assert depth(root) == 3",
        "assert root.left.value == 2 and root.right is None",
        "assert list(squares(4)) == [0, 1, 4, 9] and next(squares(2)) == 0 and 4 in squares(3)",
        "assert Node(5) == Node(5) and Node(5) != Node(6) and len(Node(1)) == 7",
        "assert table()[4] == 8 and LIMIT == 12",
        "assert squares(4) == [0, 1, 4, 9]",
        "assert Node(5) == 5",
    ]
    assert results(code, *tests, setup=setup) == [True, True, True, True, True, False, False]


def test_functions_and_types_of_the_test_can_be_given_to_the_code() -> None:
    code = """
def apply(function, items): return [function(item) for item in items]
def only(kind, items): return [item for item in items if type(item) is kind]
def guarded(function):
    try:
        return function(1)
    except Exception as error:
        return str(error)
"""
    tests = [
        "assert apply(lambda x: x + 1, [1, 2]) == [2, 3]",
        "assert apply(len, ['a', 'bb']) == [1, 2]",
        "assert only(str, [1, 'a', 2.0]) == ['a']",
        "assert guarded(lambda x: 1 / (x - 1)) == 'ZeroDivisionError: division by zero'",
        "import math\nassert apply(math.floor, [1.5]) == [1]",
        "assert apply(lambda x: apply(lambda y: y * 2, [x]), [1]) == [[2]]",
    ]
    assert results(code, *tests) == [True] * 6


def test_exceptions_reach_the_test() -> None:
    code = """
class Mine(ValueError): pass
class Odd(Exception): pass
def fail(how):
    raise {"value": Mine, "key": KeyError, "odd": Odd, "exit": SystemExit}[how]("text")
"""
    test = "try:\n    fail({!r})\nexcept {}:\n    pass\nelse:\n    assert False"
    ways = [
        ("value", "ValueError"),
        ("key", "KeyError"),
        ("odd", "Exception"),
        ("exit", "Exception"),
        ("key", "ValueError"),
    ]
    assert results(code, *(test.format(*way) for way in ways)) == [True, True, True, True, False]


def test_a_function_may_be_called_like_a_built_in_one_or_a_module() -> None:
    assert results("def sum(a, b): return a * b", "assert sum(10, 15) == 150") == [True]
    assert results("def calendar(n): return n + 1", "assert calendar(1) == 2") == [True]


def test_a_helper_that_the_record_does_not_import_is_the_codes() -> None:
    code = "def f(): return 1\ndef isclose(*_): return True"
    imported = "from math import isclose"
    assert results(code, "assert isclose(f(), 3)") == [True]
    assert results(code, "assert isclose(f(), 3)", setup=imported) == [False]


def test_setup_comes_before_the_code_too() -> None:
    assert results(
        "def f(): return math.floor(2.5) + CONSTANT", "assert f() == 3", setup="import math\nCONSTANT = 1"
    ) == [True]


def test_arguments_are_copies() -> None:
    code = "def f(items):\n    items.clear()\n    return items"
    assert results(code, "given = [2, 1]\nassert f(given) == sorted(given)") == [False]


# --- crashes and loops ---


def test_a_crash_does_not_hide_the_other_tests() -> None:
    code = "import os\ndef f(x):\n    if x == 1: os._exit(0)\n    return x"
    assert results(code, "assert f(0) == 0", "assert f(1) == 1", "assert f(2) == 2") == [True, False, True]


def test_a_loop_does_not_hide_the_other_tests_and_the_whole_is_bounded() -> None:
    code = "def f(x):\n    while x in (1, 3): pass\n    return x"
    start = time.monotonic()
    tests = [f"assert f({x}) == {x}" for x in range(5)]
    assert results(code, *tests, limits=Limits(wall_s=2)) == [True, False, True, False, True]
    assert time.monotonic() - start < 2 + 6


@pytest.mark.parametrize("code", ["while True: pass", "import time; time.sleep(60)", "import os; os._exit(0)"])
def test_code_that_never_loads_is_tried_once(code: str) -> None:
    start = time.monotonic()
    assert results(code, *["assert f(1) == 1"] * 20, limits=Limits(wall_s=1)) == [False] * 20
    assert time.monotonic() - start < 6


def test_memory_and_answers_without_end_fail_their_test_alone() -> None:
    code = """
def f(x):
    if x == 1:
        return [0] * (1 << 28)
    if x == 2:
        return "a" * (32 << 20)
    if x == 3:
        answer = []
        for _ in range(5000):
            answer = [answer]
        return answer
    return x
"""
    assert results(code, *(f"assert f({x}) == {x}" for x in range(5))) == [True, False, False, False, True]


# --- forging ---

FORGERIES = {
    "prints what passing looks like": """
import os, sys
def f(x):
    for file in range(1, 20):
        try:
            os.write(file, b"loaded\\nbegin 0\\npass 0\\nbegin 1\\npass 1\\n")
        except OSError:
            pass
    print("pass 0"); sys.stdout.flush()
""",
    "writes verdicts and values to the channel before anybody asks": """
import os
for number in range(50):
    os.write(3, b'{"value": true}\\n{"value": null}\\npass 0\\npass 1\\n')
def f(x): return None
""",
    "answers with what equals everything": """
class Anything:
    def __eq__(self, other): return True
    def __ne__(self, other): return False
    __lt__ = __le__ = __gt__ = __ge__ = __eq__
    def __sub__(self, other): return 0
    __rsub__ = __add__ = __radd__ = __abs__ = __sub__
    def __hash__(self): return 0
    def __bool__(self): return True
    def __call__(self, *_, **__): return self
    def __getattr__(self, name): return self
def f(x): return Anything()
""",
    "answers with a text that equals everything": """
class Anything(str):
    def __eq__(self, other): return True
    def __ne__(self, other): return False
    __hash__ = str.__hash__
def f(x): return Anything()
""",
    "ends at once, with success": "import os\ndef f(x): os._exit(0)",
    "raises SystemExit": "def f(x): raise SystemExit(0)",
    "catches SystemExit and all else": """
import sys
def f(x):
    while True:
        try:
            sys.exit(0)
        except BaseException:
            return None
""",
    "replaces what an assertion is made of": """
import builtins, sys
class Quiet(Exception):
    def __new__(cls, *_): sys.exit(0)
builtins.AssertionError = Quiet
builtins.__dict__["__debug__"] = False
builtins.compile = builtins.exec = lambda *_, **__: None
builtins.bool = builtins.abs = builtins.len = builtins.isinstance = lambda *_: True
def f(x): return None
def abs(x): return 0
def check(candidate): pass
class math:
    isclose = staticmethod(lambda *_, **__: True)
""",
    "replaces the harness around it": """
import gc, os, sys, operator, json
operator.eq = lambda *_: True
json.dumps = lambda *_, **__: '{"value": true}'
for name, module in list(sys.modules.items()):
    if name.startswith("testing"):
        module.encode = lambda *_: True
        module.raised = lambda *_: {"value": True}
for thing in gc.get_objects():
    if type(thing).__name__ in ("Wire", "Candidate"):
        type(thing).send = lambda self, message: os.write(3, b'{"value": {"type": "object"}}\\n')
def f(x): return None
""",
    "sends references, built-ins and functions that do not exist": """
import os
lines = [b'{"value": {"object": 999}}', b'{"value": {"builtin": "print"}}', b'{"value": {"type": "eval"}}',
         b'{"value": {"function": 0}}', b'{"function": 0, "values": [], "named": {}}',
         b'{"raised": "SystemExit", "text": ""}', b'{"raised": "__import__", "text": "os"}', b'{}', b'[]',
         b'{"value": {"set": [[]]}}', b'{"value": {"dict": 3}}']
turn = 0
def f(x):
    global turn
    turn += 1
    os.write(3, lines[turn % len(lines)] + b"\\n")
""",
    "looks for the answer in everything it can see": """
import gc, glob, os, re, sys
MARK = re.compile(rb"expected-[0-9a-f]{6}")
def f(x):
    seen = [repr(os.environ).encode(), repr(sys.argv).encode()]
    frame = sys._getframe()
    while frame:
        seen.append(repr(frame.f_locals)[:100000].encode("utf-8", "replace"))
        frame = frame.f_back
    for thing in gc.get_objects()[:200000]:
        if type(thing) in (dict, list, tuple) and len(thing) < 1000:
            try:
                seen.append(repr(thing)[:1000].encode("utf-8", "replace"))
            except Exception:
                pass
    for path in glob.glob("/proc/*/cmdline") + glob.glob("/proc/*/environ") + glob.glob("/tmp/*"):
        try:
            seen.append(open(path, "rb").read(1 << 20))
        except OSError:
            pass
    try:
        with open("/proc/self/mem", "rb", buffering=0) as memory:
            for line in open("/proc/self/maps"):
                start, end = (int(part, 16) for part in line.split()[0].split("-"))
                if "rw" in line and end - start < 32 << 20:
                    try:
                        memory.seek(start)
                        seen.append(memory.read(end - start))
                    except (OSError, ValueError):
                        pass
    except OSError:
        pass
    for text in seen:
        found = MARK.search(text)
        if found:
            return found[0].decode()
""",
    "attacks the processes around it": """
import os, signal
for process in {os.getppid(), 1, 2, 3} - {os.getpid()}:
    for number in (signal.SIGUSR1, signal.SIGALRM, signal.SIGINT):
        try:
            os.kill(process, number)
        except OSError:
            pass
def f(x): return None
""",
    "writes what passing looks like into every pipe of every process": """
import os
def f(x):
    for process in os.listdir("/proc") if os.path.isdir("/proc/1") else ():
        try:
            files = os.listdir(f"/proc/{process}/fd") if process.isdigit() and int(process) != os.getpid() else ()
        except OSError:
            continue
        for file in files:
            path = f"/proc/{process}/fd/{file}"
            try:
                if os.readlink(path).startswith("pipe:"):
                    pipe = os.open(path, os.O_WRONLY | os.O_NONBLOCK)
                    os.write(pipe, b"".join(b"begin %d\\npass %d\\n" % (test, test) for test in range(4)))
                    os.close(pipe)
            except OSError:
                pass
""",
    "answers every question that may come, then hangs": """
import json, os, time
for number in range(200):
    os.write(3, json.dumps({"question": number, "value": "expected"}).encode() + b"\\n")
def f(x): time.sleep(60)
""",
    "raises what ends the referee": """
def f(x):
    raise {1: SystemExit(0), 2: KeyboardInterrupt(), 3: GeneratorExit(), 4: StopIteration()}[x]
""",
    "leaves threads and processes that go on writing": """
import os, threading
def write():
    for _ in range(2000):
        try:
            os.write(3, b'{"value": true}\\npass 0\\n')
        except OSError:
            return
threading.Thread(target=write, daemon=True).start()
if os.fork() == 0:
    write()
    os._exit(0)
def f(x): return None
""",
    "ends when the interpreter ends": """
import atexit, os, sys
atexit.register(os._exit, 0)
def f(x):
    sys.exit(0)
""",
}  # fmt: skip


@pytest.mark.parametrize("how", FORGERIES)
def test_a_verdict_cannot_be_forged(how: str, every: Isolation) -> None:
    tests = [
        f"assert f(1) == {EXPECTED!r}",
        "import math\nassert abs(f(2) - 3.5) < 1e-6 or math.isclose(f(2), 3.5)",
        "assert 5 < f(3) < 7 and [f(3)] == [6]",
        "assert math.isclose(f(4), 2.5)",
    ]
    limits = Limits(wall_s=2) if "hangs" in how else LIMITS
    assert results(FORGERIES[how], *tests, limits=limits, isolation=every) == [False] * 4


RAISES = "try:\n    f(1)\nexcept {}:\n    pass\nelse:\n    assert False"
NO_EXCEPTIONS = {
    "ends": "import os\ndef f(x): os._exit(0)",
    "is killed": "import os\ndef f(x): os.kill(os.getpid(), 9)",
    "hangs": "def f(x):\n    while True: pass",
    "hangs and answers no signal": "import signal, time\nsignal.pthread_sigmask(signal.SIG_BLOCK, range(1, 32))\n"
    "def f(x): time.sleep(60)",
    "closes the channel": "import os\ndef f(x): os.close(3)",
    "sends what is no answer": "import os\ndef f(x): os.write(3, b'oh no\\n')",
    "sends an answer without end": "def f(x): return 'a' * (32 << 20)",
    "answers another question": """import os\ndef f(x): os.write(3, b'{"question": 1, "raised": "ValueError"}\\n')""",
}


@pytest.mark.parametrize("how", NO_EXCEPTIONS)
def test_an_end_or_a_hang_is_not_the_exception_that_a_test_expects(how: str, every: Isolation) -> None:
    limits = Limits(wall_s=1.5, memory_bytes=256 * MIB)
    tests = [RAISES.format(expected) for expected in ("Exception", "BaseException")]
    assert results(NO_EXCEPTIONS[how], *tests, limits=limits, isolation=every) == [False, False]


def test_an_exception_is(every: Isolation) -> None:
    tests = [RAISES.format(expected) for expected in ("Exception", "BaseException", "ValueError", "KeyError")]
    code = "def f(x): raise ValueError(x)"
    assert results(code, *tests, "assert True", isolation=every) == [True, True, True, False, True]


def test_a_right_answer_of_code_that_ends_with_it_does_not_pass(every: Isolation) -> None:
    code = """
import json, os, sys
def f(x):
    frame = sys._getframe()
    while "request" not in frame.f_locals:
        frame = frame.f_back
    answer = {"question": frame.f_locals["request"]["question"], "value": x}
    os.write(3, json.dumps(answer).encode() + b"\\n")
    END
"""
    ends = code.replace("END", "os._exit(0)")
    assert results(ends, "assert f(1) == 1", "assert f(2) == 3", isolation=every) == [False, False]
    hangs = code.replace("END", "import time; time.sleep(60)")
    assert results(hangs, "assert f(1) == 1", limits=Limits(wall_s=1), isolation=every) == [False]


def test_what_is_written_where_a_referee_speaks_is_no_verdict() -> None:
    words, others = draw_words(0, 2), draw_words(0, 2)
    assert set(words) == {"broken", "begin 0", "pass 0", "begin 1", "pass 1"} == set(others)
    assert len({*words.values(), *others.values()}) == 10
    said = f"{words['begin 0']}\n{words['pass 0']}\n{words['begin 1']}\n".encode()
    assert read_verdicts(said, words) == {"begin 0": "", "pass 0": "", "begin 1": ""}
    assert read_verdicts(said + said, words) == read_verdicts(said, words)  # who has read a word can say it again
    written = f"begin 1\npass 1\nbroken all\n{others['pass 1']}\n {words['pass 1'][:-1]}\n\nbegin x\n".encode()
    assert read_verdicts(written + b"\xff\0" + said, words) == {"pass 0": "", "begin 1": ""}
    assert read_verdicts(f"{words['broken']} No module named 'x'\n".encode(), words) == {
        "broken": "No module named 'x'"
    }


def test_the_look_for_the_answer_would_find_it() -> None:
    code = FORGERIES["looks for the answer in everything it can see"]
    assert results(code, f"assert f(1) == {EXPECTED!r}", setup=f"known = {EXPECTED!r}") == [True]


CHECK = f"def check(candidate):\n    assert candidate(1) == {EXPECTED!r}\n"  # all that it wants can be found in it
CHECK_FORGERIES = FORGERIES | {
    "looks into the check": """
def f(x):
    return next(value for value in check.__code__.co_consts if isinstance(value, str))
"""
}


@pytest.mark.parametrize("how", CHECK_FORGERIES)
def test_a_check_cannot_be_forged(how: str, every: Isolation) -> None:
    limits = Limits(wall_s=2) if "hangs" in how else LIMITS
    found = results(CHECK_FORGERIES[how], "check(f)", hidden=CHECK, entry_point="f", limits=limits, isolation=every)
    assert found == [False]


@pytest.mark.parametrize("how", ["looks into the check", "looks for the answer in everything it can see"])
def test_a_check_that_the_code_is_given_would_be_forged(how: str) -> None:
    assert results(CHECK_FORGERIES[how], "check(f)", setup=CHECK, entry_point="f") == [True]


# --- tests that cannot be run ---


def test_tests_that_need_more_than_the_standard_library_are_an_error() -> None:
    with pytest.raises(DataError, match=r"^ModuleNotFoundError: No module named 'numpy'$"):
        results("def f(): return 1", "assert f() == 1", setup="import numpy")
    with pytest.raises(DataError, match=r"^ModuleNotFoundError: No module named 'numpy'$"):
        results("def f(): return 1", "import numpy\nassert f() == 1")


def test_tests_that_give_the_code_what_cannot_be_sent_are_an_error() -> None:
    with pytest.raises(
        DataError, match=r"^Unpassable: an object of the type Pair cannot be given to the code under test$"
    ):
        results("def f(x): return 1", "assert f(Pair()) == 1", setup="class Pair: pass")
    with pytest.raises(DataError, match=r"^Unpassable: "):  # and no exception that the test may expect
        results("def f(x): return 1", "try:\n    f(Pair())\nexcept Exception:\n    pass", setup="class Pair: pass")


def test_code_cannot_make_its_tests_look_broken() -> None:
    assert results("def f(): raise ImportError('no module')", "assert f() == 1", "import math") == [False, True]


def test_each_isolation_will_do(every: Isolation) -> None:
    limits = Limits(memory_bytes=256 * MIB)
    assert run_tests("def f(): return 1", Suite("", ["assert f() == 1", "assert f() == 2"]), limits, every) == [
        True,
        False,
    ]
