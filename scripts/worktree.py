"""A commit's files in a folder of their own, for as long as they are looked at."""

import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent


def git(*arguments: str) -> str:
    """What git says in this repository."""
    done = subprocess.run(["git", "-C", str(REPOSITORY), *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"git {' '.join(arguments)}: {done.stderr.strip()}")
    return done.stdout.strip()


@contextmanager
def worktree(commit: str) -> Iterator[Path]:
    """The folder of a worktree of that commit, which is removed in the end."""
    with tempfile.TemporaryDirectory(prefix="handpick-tree-") as scratch:
        folder = Path(scratch).resolve() / "tree"
        git("worktree", "add", "--quiet", "--detach", str(folder), commit)
        try:
            yield folder
        finally:
            git("worktree", "remove", "--force", str(folder))
