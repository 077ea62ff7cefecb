"""The allocator's settings: taken where there is glibc, and never by the library itself."""

import subprocess
import sys

from handpick.cli.memory import keep_freed_memory


def test_it_can_be_said_twice() -> None:
    keep_freed_memory()
    keep_freed_memory()


def test_the_library_leaves_its_callers_allocator_alone() -> None:
    code = "import sys, handpick; handpick.select; sys.exit('handpick.cli.memory' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
