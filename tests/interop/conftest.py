"""What the tests against other people's packages share: these run where the package is, and fail where it must be.

With ``INTAKE_IMG_INTEROP=1`` a missing package is a failure; otherwise its tests are skipped.
"""

from __future__ import annotations

import importlib
import os
import warnings
from collections.abc import Callable
from typing import Any

import pytest


def _needs(name: str) -> Any:
    """Import a package, or skip the test (with ``INTAKE_IMG_INTEROP=1``: fail)."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return importlib.import_module(name)
    except ImportError as exc:
        if os.environ.get("INTAKE_IMG_INTEROP") == "1":
            pytest.fail(f"INTAKE_IMG_INTEROP=1, but {name!r} cannot be imported: {exc}")
        pytest.skip(f"{name} is not installed")


@pytest.fixture
def needs() -> Callable[[str], Any]:
    """``torch = needs("torch")``: the package, or the test is skipped."""
    return _needs
