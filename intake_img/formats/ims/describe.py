"""Numbers, times and channels in the attributes of an Imaris file."""

from __future__ import annotations

import contextlib
import datetime
import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from intake_img.model.image import Coordinate
from intake_img.model.untrusted import finite

__all__ = ["channels_of", "number_of", "times_of"]


def number_of(attributes: Mapping[str, Any], name: str, default: float = math.nan) -> float:
    return finite(str(attributes.get(name)), default)


def times_of(info: Mapping[str, Any], count: int) -> np.ndarray | None:
    """Seconds since the first time point, where each has its date."""
    with contextlib.suppress(ValueError, KeyError):
        dates = [datetime.datetime.fromisoformat(str(info[f"TimePoint{k + 1}"]).strip()) for k in range(count)]
        return np.array([(date - dates[0]).total_seconds() for date in dates])
    return None


def channels_of(info: Mapping[str, Mapping[str, Any]], count: int) -> Coordinate | None:
    known = [info.get(f"Channel {c}", {}) for c in range(count)]
    names = [str(channel.get("Name") or "") for channel in known]
    if not any(names):
        return None
    names = [name or str(k) for k, name in enumerate(names)]
    colors = [_color(channel.get("Color")) for channel in known]
    return Coordinate(("c",), np.asarray(names), {"color": colors} if all(colors) else {})


def _color(text: Any) -> str | None:
    """The three shares of red, green and blue, as #RRGGBB."""
    with contextlib.suppress(ValueError, OverflowError):
        shares = [round(255 * float(part)) for part in str(text).split()]
        if len(shares) == 3 and all(0 <= s <= 255 for s in shares):
            return "#" + "".join(f"{s:02X}" for s in shares)
    return None
