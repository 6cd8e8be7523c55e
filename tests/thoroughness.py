"""How much the tests try: all of it where the environment variable `INTAKE_IMG_SLOW` is set, a share elsewhere."""

from __future__ import annotations

import os
from typing import Any

from hypothesis import HealthCheck, settings

THOROUGH = bool(os.environ.get("INTAKE_IMG_SLOW"))


def examples(count: int = 100, **options: Any) -> settings:
    """Let Hypothesis try `count` examples in a thorough run, else a quarter of them, but ten (or all, if fewer)."""
    slow = {HealthCheck.too_slow, *options.pop("suppress_health_check", ())}  # so is a machine that does more than this
    return settings(max_examples=trials(count, 10), deadline=None, suppress_health_check=tuple(slow), **options)


def trials(count: int, least: int = 1) -> int:
    """Return `count` in a thorough run, else a quarter of it, but `least` (or `count`, if that is fewer)."""
    return count if THOROUGH else min(count, max(least, count // 4))
