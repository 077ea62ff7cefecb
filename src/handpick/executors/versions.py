"""Which versions of packages a process has: workers on other machines must have the driver's."""

import platform
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version

#: What makes tokens and numbers, or carries them from one process to another.
_PACKAGES = (
    "handpick", "torch", "transformers", "tokenizers", "peft", "numpy", "pyarrow", "datasets", "safetensors",
    "bitsandbytes", "scikit-learn", "sentence-transformers",
)  # fmt: skip


def package_versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that decide rows, as far as they are installed.

    A build's own mark (``+cpu``, ``+cu126``) is left out: machines with and without a GPU have different ones.
    """
    found = {"Python": ".".join(platform.python_version_tuple()[:2])}
    for name in _PACKAGES:
        try:
            found[name] = version(name).partition("+")[0]
        except PackageNotFoundError:
            continue
    return found


def describe_differences(here: Mapping[str, str], there: Mapping[str, str]) -> str | None:
    """Return by name what another process has otherwise than this one; None where it has the same.

    A package that this process does not have is no difference: nothing asks for it.
    """
    different = [(name, own, there.get(name)) for name, own in here.items() if there.get(name) != own]
    if not different:
        return None
    return ", ".join(f"{name} {other or 'missing'} (here {own})" for name, own, other in different)
