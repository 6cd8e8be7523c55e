"""Binary morphology of one image with an ellipsoid, and labels that grow."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from intake_img.kernels.compiled import masked_extremum

__all__ = ["STEPS", "ellipsoid", "expand", "morph"]

STEPS = {"binary_erosion": "e", "binary_dilation": "d", "binary_opening": "ed", "binary_closing": "de"}


def ellipsoid(radii: Sequence[float]) -> np.ndarray:
    """Return the pixels whose centres lie within an ellipsoid; a radius of 0 excludes an axis.

    Examples
    --------
    >>> ellipsoid([1, 1]).astype(int).tolist()
    [[0, 1, 0], [1, 1, 1], [0, 1, 0]]
    """
    steps = [np.arange(-int(r + 1e-9), int(r + 1e-9) + 1) / (r or 1.0) for r in radii]
    squares = [g**2 for g in np.meshgrid(*steps, indexing="ij", sparse=True)]
    return np.asarray(sum(squares) <= 1 + 1e-9)


def morph(image: np.ndarray, output: np.ndarray, *, name: str, structure: np.ndarray) -> None:
    """Erode and dilate like `skimage.morphology`: pixels beyond the edge of the image are ignored."""
    found = image != 0
    for step in STEPS[name]:
        found = _stepped(found, structure, step == "e")
    output[...] = found


def _stepped(mask: np.ndarray, structure: np.ndarray, erode: bool) -> np.ndarray:
    found = masked_extremum(mask, structure, erode)
    if found is not None:
        return found
    from scipy import ndimage

    func = ndimage.binary_erosion if erode else ndimage.binary_dilation
    return np.asarray(func(mask, structure, border_value=erode))


def expand(labels: np.ndarray, output: np.ndarray, *, distance: float, spacing: Sequence[float]) -> None:
    """Give background within a distance the label of the nearest region, like `skimage.segmentation.expand_labels`."""
    from scipy import ndimage

    output[...] = labels
    if not labels.any():
        return
    away, nearest = ndimage.distance_transform_edt(labels == 0, sampling=spacing, return_indices=True)
    near = away <= distance
    output[near] = labels[tuple(n[near] for n in nearest)]
