"""Patches of images: their positions (plans), reading, batches, loaders and writing results."""

from intake_img.accessor.patches import filters
from intake_img.accessor.patches.build import patches
from intake_img.accessor.patches.core import Patches
from intake_img.accessor.patches.plan import Plan
from intake_img.storage.cache import CACHE

__all__ = ["CACHE", "Patches", "Plan", "filters", "patches"]
