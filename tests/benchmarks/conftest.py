"""What all benchmarks share: large files made once, and ours against the raw library, turn about, in one run.

``pytest tests/benchmarks --benchmark-only --benchmark-json=run.json`` measures; ``python tests/benchmarks/table.py
run.json`` prints the table of the documentation. Ratios are best of ours to best of the raw library.
"""

from __future__ import annotations

import itertools
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

_SECONDS, _MOST = 3.0, 60
"""Quick runs are repeated until they took so long together, or so often: on a busy machine few are not disturbed."""


@pytest.fixture(scope="session")
def big(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for files of some 0.5 GB, made on demand and shared by all benchmarks."""
    return tmp_path_factory.mktemp("big")


@pytest.fixture(scope="session")
def texture() -> np.ndarray:
    """4096 x 4096 uint16 that compresses about 2:1, like a camera's image."""
    rng = np.random.default_rng(0)
    smooth = np.add.outer(np.sin(np.arange(4096) / 70), np.cos(np.arange(4096) / 90)) * 300 + 800
    return (smooth + rng.normal(0, 8, smooth.shape)).astype("uint16")


@pytest.fixture
def versus(benchmark: Any, request: pytest.FixtureRequest) -> Callable[..., float]:
    """``versus(ours, raw, rounds=5)``: time both turn about; record and return the ratio of the best."""

    def measure(
        ours: Callable[[], Any],
        raw: Callable[[], Any],
        rounds: int = 5,
        setup: Any = None,
        clock: Callable[[], float] = time.perf_counter,
    ) -> float:
        times: dict[str, list[float]] = {"ours": [], "raw": []}
        for n in itertools.count():
            if n >= rounds and (n >= _MOST or sum(map(sum, times.values())) > _SECONDS):
                break
            for name, run in (("raw", raw), ("ours", ours)):
                start = clock()
                result = run()
                times[name].append(clock() - start)
                del result
        best = {name: min(t) for name, t in times.items()}
        ratio = best["ours"] / best["raw"]
        benchmark.extra_info.update(
            what=request.node.name.removeprefix("test_"),
            ours_ms=round(best["ours"] * 1e3, 2),
            raw_ms=round(best["raw"] * 1e3, 2),
            ratio=round(ratio, 2),
        )
        benchmark.pedantic(ours, rounds=1, iterations=1)
        return ratio

    return measure


@pytest.fixture
def peak_memory() -> Callable[[str], float]:
    """``peak_memory(code)``: MB that a fresh interpreter, running `code`, holds at most (Linux)."""

    def measure(code: str) -> float:
        script = textwrap.dedent(code) + textwrap.dedent("""
            import re
            print(int(re.search(r"VmHWM:\\s+(\\d+) kB", open("/proc/self/status").read())[1]) / 1024)
        """)
        run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
        return float(run.stdout.split()[-1])

    return measure
