"""A user's own function as a reward: ``my_rewards.py:politeness`` or ``package.module:function``.

Naming a file is asking for it to be run, as ``python my_rewards.py`` would be.
"""

import hashlib
import importlib
import importlib.util
import inspect
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from types import ModuleType
from typing import Any

from handpick.errors import SettingsError
from handpick.rewards.protocol import Prompt, Record, explain_error

_EXPECTED = "a reward is a function (prompts, completions, records) that returns one score a completion"


@dataclass(frozen=True, slots=True)
class UserReward:
    """A user's function; its range is the user's, higher is better.

    ``name`` is what the user wrote, ``file`` where the function's module stands, None for one without a file.
    """

    name: str
    function: Callable[[Sequence[Prompt], Sequence[str], Sequence[Record]], Iterable[Any]]
    file: Path | None

    def __call__(
        self, prompts: Sequence[Prompt], completions: Sequence[str], records: Sequence[Record], /
    ) -> Iterable[Any]:
        """Call the function; ``handpick.rewards.score`` checks what it returns."""
        return self.function(prompts, completions, records)


def load_callable(spec: str) -> UserReward:
    """Load the function that ``FILE.py:FUNCTION`` or ``package.module:FUNCTION`` names; its file or module is run.

    A file runs under a private name, and its folder is not put on the import path.

    Raises:
        SettingsError: there is no such file, module or function, running it raised something, or the function cannot
            be called with three arguments.
    """
    source, _, name = spec.rpartition(":")
    if not source or not name:
        raise SettingsError(f"{spec} names no function: write {spec.rstrip(':')}:FUNCTION")
    module = _run_file(source) if source.endswith(".py") else _import_module(source)
    function = getattr(module, name, None)
    if function is None:
        public = [n for n, value in vars(module).items() if callable(value) and not n.startswith("_")]
        close = get_close_matches(name, public, n=1)
        hint = f" (did you mean {close[0]!r}?)" if close else ""
        there = f"it has {', '.join(public)}" if public else "it has no function at all"
        raise SettingsError(f"there is no function {name!r} in {source}{hint}; {there}")
    _check_signature(spec, function)
    file = getattr(module, "__file__", None)  # what is built into Python has none
    return UserReward(spec, function, None if file is None else Path(file))


def wrap(function: Callable[..., Any]) -> UserReward:
    """Wrap a function that the user hands over in Python.

    Raises:
        SettingsError: it cannot be called with three arguments.
    """
    name = f"{getattr(function, '__module__', '?')}:{getattr(function, '__qualname__', type(function).__qualname__)}"
    _check_signature(name, function)
    try:
        file = inspect.getsourcefile(inspect.unwrap(function))
    except TypeError:  # an object that can be called
        file = inspect.getsourcefile(type(function))
    there = file is not None and Path(file).is_file()  # what was typed at a prompt has a file that is not there
    return UserReward(name, function, Path(file) if file is not None and there else None)


def _run_file(source: str) -> ModuleType:
    path = Path(source).expanduser()
    if not path.is_file():
        what = "is a folder" if path.is_dir() else "does not exist"
        raise SettingsError(f"the file {source} of the reward {what}; check the path, which starts from {Path.cwd()}")
    path = path.resolve()
    private = "_handpick_reward_" + hashlib.sha256(str(path).encode()).hexdigest()[:16]
    specification = importlib.util.spec_from_file_location(private, path)
    if specification is None or specification.loader is None:
        raise SettingsError(f"{source} cannot be imported as Python")
    module = importlib.util.module_from_spec(specification)
    sys.modules[private] = module  # dataclasses and pickles look their module up there
    try:
        specification.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        del sys.modules[private]
        raise SettingsError(f"{source} cannot be imported: it raised {explain_error(error, path)}") from error
    return module


def _import_module(source: str) -> ModuleType:
    try:
        return importlib.import_module(source)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{source}.".startswith(f"{error.name}."):  # something that the module imports
            raise SettingsError(f"the module {source} cannot be imported: it raised {explain_error(error)}") from error
        raise SettingsError(
            f"there is no module {error.name} to import; for a file write its path, such as my_rewards.py:politeness"
        ) from error
    except (Exception, SystemExit) as error:
        raise SettingsError(f"the module {source} cannot be imported: it raised {explain_error(error)}") from error


def _check_signature(spec: str, function: Any) -> None:
    if not callable(function):
        raise SettingsError(f"{spec} is no function but {type(function).__name__}; {_EXPECTED}")
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # some builtins tell nobody
        return
    try:
        signature.bind((), (), ())
    except TypeError as error:
        raise SettingsError(f"{spec} takes {signature}, not three arguments; {_EXPECTED}") from error
