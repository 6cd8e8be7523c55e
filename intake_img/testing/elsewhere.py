"""Pickled objects that are computed in another process.

``python -m intake_img.testing.elsewhere IN OUT`` unpickles a list of Datasets and sources and pickles the computed
results.
"""

from __future__ import annotations

import pickle
import sys
from pathlib import Path
from typing import Any

from intake_img.formats.source import ImageSource

__all__ = ["main"]


def main(given: str, result: str) -> None:
    """Compute all; dask arrays in threads."""
    objects: list[Any] = pickle.loads(Path(given).read_bytes())
    computed = [(o.read() if isinstance(o, ImageSource) else o).compute() for o in objects]
    Path(result).write_bytes(pickle.dumps([{str(n): v.values for n, v in ds.data_vars.items()} for ds in computed]))


if __name__ == "__main__":
    main(*sys.argv[1:])
