"""Patches of images: where they lie (plans), how they are read (the engine), and what is made of them."""

from intake_img.accessor.patches import filters
from intake_img.accessor.patches.build import patches
from intake_img.accessor.patches.core import Patches
from intake_img.accessor.patches.plan import Plan
from intake_img.storage.cache import CACHE

__all__ = ["CACHE", "Patches", "Plan", "filters", "patches"]
