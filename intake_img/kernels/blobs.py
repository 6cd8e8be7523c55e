"""Blobs: their detection (Laplacian or difference of Gaussians), and the mean of each channel around them."""

from __future__ import annotations

from typing import Any

import numpy as np

__all__ = ["ball", "gather", "halo", "own_voxels", "peaks", "prune"]


def ball(radii: np.ndarray) -> np.ndarray:
    """Offsets of the voxels of an ellipsoid.

    Parameters
    ----------
    radii : ndarray of shape (d,)
        Semi-axes in voxels; equal ones of 2 in 3-D give the 33 voxels of scikit-image's ``ball(2)``.

    Returns
    -------
    ndarray of shape (K, d), int64
        In C order; only the centre if all semi-axes are below 1.
    """
    reach = np.floor(np.asarray(radii, float) + 1e-9).astype(int)
    grid = np.stack(np.meshgrid(*(np.arange(-r, r + 1) for r in reach), indexing="ij"), axis=-1).reshape(-1, len(reach))
    size = np.where(reach > 0, radii, 1.0)
    return grid[((grid / size) ** 2).sum(axis=1) <= 1 + 1e-9].astype(np.int64)


def gather(
    planes: np.ndarray, origin: np.ndarray, shape: tuple[int, ...], centres: np.ndarray, offsets: list[np.ndarray]
) -> np.ndarray:
    """Return the mean of each channel around each blob; voxels outside the image are left out.

    Parameters
    ----------
    planes : ndarray of shape (C, ...)
        A part of the image that contains all needed voxels.
    origin : ndarray of shape (d,)
        Index of its first voxel in the image.
    shape : tuple of int
        Shape of the complete image along the spatial axes.
    centres : ndarray of shape (n, d), int64
        Voxels of the blobs, in the complete image.
    offsets : list of ndarray of shape (K_i, d)
        Offsets of each blob; a list of one is used for all blobs.

    Returns
    -------
    ndarray of shape (n, C), float64
    """
    means = np.empty((len(centres), len(planes)))
    if len(offsets) == 1:
        for part in range(0, len(centres), 4096):
            rows = slice(part, part + 4096)
            voxels = centres[rows, None, :] + offsets[0]
            inside = ((voxels >= 0) & (voxels < shape)).all(axis=-1)
            local = np.where(inside[..., None], voxels - origin, 0)
            values = planes[(slice(None), *np.moveaxis(local, -1, 0))].astype(np.float64)
            means[rows] = (np.where(inside, values, 0.0).sum(axis=-1) / inside.sum(axis=-1)).T
        return means
    for k, (centre, own) in enumerate(zip(centres, offsets, strict=True)):
        voxels = centre + own
        local = voxels[((voxels >= 0) & (voxels < shape)).all(axis=-1)] - origin
        means[k] = planes[(slice(None), *local.T)].astype(np.float64).mean(axis=1)
    return means


def own_voxels(centres: np.ndarray, offsets: list[np.ndarray], shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Return the distinct voxels (flat indices) around blobs, and the row of the last blob that covers each.

    MagellanMapper paints blobs in the order of their rows, so that later ones take voxels from earlier ones.
    """
    rows = np.repeat(np.arange(len(centres)), [len(o) for o in offsets] if len(offsets) > 1 else len(offsets[0]))
    if len(offsets) == 1:
        voxels = (centres[:, None, :] + offsets[0]).reshape(-1, centres.shape[1])
    else:
        voxels = np.concatenate([c + o for c, o in zip(centres, offsets, strict=True)])
    inside = ((voxels >= 0) & (voxels < shape)).all(axis=1)
    flat = np.ravel_multi_index(tuple(voxels[inside].T), shape)
    order = np.lexsort((rows[inside], flat))
    flat, owner = flat[order], rows[inside][order]
    last = np.append(flat[1:] != flat[:-1], True) if len(flat) else np.empty(0, bool)
    return flat[last], owner[last]


def halo(method: str, sigma: np.ndarray, ratio: float) -> np.ndarray:
    """Halo of a chunk for its filter responses: filters extend to 4 sigma, a maximum one voxel further."""
    widest = sigma * (ratio if method == "dog" else 1)
    return np.ceil(4 * widest + 0.5).astype(int) + 2


def peaks(image: np.ndarray, method: str, options: dict[str, Any]) -> np.ndarray:
    """Return the maxima of the filter response over space and scale: positions and sigmas, in voxels.

    Parameters
    ----------
    image : ndarray
        Integers are scaled to 0..1 by the range of their dtype, as scikit-image does.
    method : {"log", "dog"}
    options : dict
        Options of `skimage.feature.blob_log` or `blob_dog`.
    """
    from skimage.feature import blob_dog, blob_log

    find = blob_log if method == "log" else blob_dog
    if not min(image.shape) or image.min() == image.max():
        return np.empty((0, 2 * image.ndim))
    return find(image, overlap=1, exclude_border=False, **options).astype(np.float64)


def prune(blobs: np.ndarray, overlap: float, ndim: int) -> np.ndarray:
    """Remove blobs that a larger blob overlaps by more than a share of their volume.

    Parameters
    ----------
    blobs : ndarray of shape (n, 2 * d)
        Positions and sigmas in voxels, sorted.
    overlap : float
    ndim : int
        Number of axes of space.
    """
    from skimage.feature.blob import _prune_blobs

    if len(blobs) < 2 or overlap >= 1:
        return blobs
    return _prune_blobs(blobs.copy(), overlap, sigma_dim=ndim)
