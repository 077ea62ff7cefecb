"""Every isolation that this machine has; a test that needs one it lacks is skipped and says why."""

import os
import shutil
from collections.abc import Iterator

import pytest

from handpick.sandbox import find
from handpick.sandbox.isolation import Isolation

SYSTEM_PYTHON = "/usr/bin/python3"


@pytest.fixture(params=["bwrap", "namespaces"])
def strong(request: pytest.FixtureRequest) -> Isolation:
    """Each strong isolation."""
    if reason := find.why_not(request.param):
        pytest.skip(reason)
    return request.param


@pytest.fixture(params=["bwrap", "namespaces", "weak"])
def every(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Isolation]:
    """Each isolation."""
    if request.param == "weak" and os.geteuid() == 0 and shutil.which(SYSTEM_PYTHON):
        # the weak one is not root's, and this interpreter may stand where nobody else can go
        monkeypatch.setattr("handpick.sandbox.isolation.interpreter", lambda: SYSTEM_PYTHON)
        find.why_not.cache_clear()
    if reason := find.why_not(request.param):
        pytest.skip(reason)
    yield request.param
    find.why_not.cache_clear() if request.param == "weak" else None
