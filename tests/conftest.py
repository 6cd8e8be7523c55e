"""Fixtures for all tests: where real files are, and that nothing stays open."""

from __future__ import annotations

import gc
import os
from pathlib import Path

import pytest

from intake_img.handles import POOL


def _shared(part: str) -> Path:
    root = os.environ.get("INTAKE_IMG_DATA")
    if not root:
        pytest.skip("INTAKE_IMG_DATA is not set: no real files")
    folder = Path(root) / part
    assert folder.is_dir(), f"INTAKE_IMG_DATA={root} holds no folder {part!r}"
    return folder


@pytest.fixture(scope="session")
def data() -> Path:
    """Folder of real files of many formats."""
    return _shared("data")


@pytest.fixture(scope="session")
def expected() -> Path:
    """Folder of known answers."""
    return _shared("expected")


@pytest.fixture(autouse=True)
def nothing_stays_open():
    """After each test the pool is empty once its images are gone."""
    yield
    if len(POOL):
        gc.collect()
    assert len(POOL) == 0, f"handles stay open: {list(POOL._entries)}"
