"""Patches of images: where they lie (plans), how they are read (the engine), and what is made of them."""

from intake_img.accessor.patches import filters
from intake_img.accessor.patches.build import patches
from intake_img.accessor.patches.cache import CACHE
from intake_img.accessor.patches.core import Patches
from intake_img.accessor.patches.plan import Plan

__all__ = ["CACHE", "Patches", "Plan", "filters", "patches"]
