"""Arrays of JAX, on its devices."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from intake_img.model.packages import imported

__all__ = ["putter"]


def putter(device: Any) -> Callable[[np.ndarray], Any]:
    """Return a function that puts an array on a device, or on the devices of a sharding; None is the default device.

    Raises
    ------
    MissingExtraError
        If JAX is not installed.
    """
    jax = imported("jax", "jax", "patches for jax")
    return lambda array: jax.device_put(array, device)
