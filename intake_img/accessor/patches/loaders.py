"""Handing patches to other libraries."""

from __future__ import annotations

__all__ = ["Loaders"]


class Loaders:
    """Loaders of patches, for `Patches` to inherit."""
