"""Samples of formats without a writer: tiny files in the package, under ``testing/samples``."""

from __future__ import annotations

import gzip
from importlib.resources import files
from pathlib import Path

__all__ = ["packaged"]


def packaged(name: str, folder: str) -> str:
    """Copy a packaged sample to a folder, inflated if its name ends in ``.gz``, and return its path."""
    data = files("intake_img.testing").joinpath("samples", name).read_bytes()
    target = Path(folder) / name.removesuffix(".gz")
    target.write_bytes(gzip.decompress(data) if name.endswith(".gz") else data)
    return str(target)
