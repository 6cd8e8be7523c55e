"""The viewer: a web component of plain ES modules, shared by the portal and by notebooks.

`FOLDER` has the files to serve; ``intake-viewer.js`` registers ``<intake-viewer src="image.zarr">``. The modules are
independent of Python: they read OME-Zarr 0.5 over HTTP, or any source of tiles with the same three methods.
"""

from __future__ import annotations

from pathlib import Path

__all__ = ["FOLDER"]

FOLDER = Path(__file__).parent
"""Folder of the static files."""
