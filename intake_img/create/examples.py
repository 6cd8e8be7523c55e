"""Bundled examples by name: cells and spots, simulated with ground truth, and real images of other packages.

A simulation runs when its pixels are first read, always gives the same numbers, and is cached if there is room. Real
images come from installed packages; nothing is downloaded.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from intake_img.errors import MissingExtraError
from intake_img.model.chunks import Region
from intake_img.model.image import Coordinate, Image, Variable
from intake_img.model.pixels import Pixels

__all__ = ["catalog_path", "example_image", "example_names", "simulate_cells", "simulate_spots"]


@dataclass(frozen=True)
class _Simulated:
    """A simulation: ``make()`` returns an array for each variable."""

    about: str
    make: Callable[[], tuple[np.ndarray, ...]]
    axes: Mapping[str, str]
    shapes: Mapping[str, tuple[int, ...]]
    spacing: Mapping[str, float]
    channels: tuple[str, ...]
    attrs: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class _Real:
    """An image file of a package."""

    about: str
    package: str
    path: str
    extra: tuple[str, str]
    spacing: float | None = None  # µm


_CELLS = (3, 8, 128, 160)
_SPOTS = (12, 128, 128)
_SHARED = 20  # spots in both channels
_OWN = 30  # in each channel, in total


def _examples() -> dict[str, _Simulated | _Real]:
    t, z, y, x = _CELLS
    return {
        "cells": _Simulated(
            "drifting cells in 3-D: nuclei (DAPI) and cytoplasm with vesicles (GFP); labels: the nuclei",
            lambda: simulate_cells(_CELLS, 10),
            {"image": "tzcyx", "labels": "tzyx"},
            {"image": (t, z, 2, y, x), "labels": _CELLS},
            {"t": 30.0, "z": 0.5, "y": 0.25, "x": 0.25},
            ("DAPI", "GFP"),
            {"title": "Simulated cells that drift"},
        ),
        "spots": _Simulated(
            f"spots in 3-D in two channels, {_SHARED} of {_OWN} at the same places; labels: which spot, per channel",
            simulate_spots,
            {"image": "czyx", "labels": "czyx"},
            {"image": (2, *_SPOTS), "labels": (2, *_SPOTS)},
            {"z": 0.3, "y": 0.1, "x": 0.1},
            ("GFP", "mCherry"),
            {"title": "Simulated spots", "spots": _OWN, "shared_spots": _SHARED},
        ),
        **{
            f"skimage/{name}": _Real(about, "skimage", f"data/{file}", ("scikit-image", "skimage"), *spacing)
            for name, file, about, *spacing in (
                ("cell", "cell.png", "a cell in saline, quantitative phase, 8-bit", 0.107),
                ("ihc", "ihc.png", "immunohistochemistry of the colon, RGB"),
                ("microaneurysms", "microaneurysms.png", "microaneurysms of the retina, 8-bit"),
                ("retina", "retina.jpg", "fundus of an eye, RGB, JPEG"),
                ("coins", "coins.png", "Greek coins on a dark ground, 8-bit"),
                ("camera", "camera.png", "photographer, 8-bit"),
                ("hubble", "hubble_deep_field.jpg", "Hubble deep field, RGB, JPEG"),
            )
        },
        "matplotlib/portrait": _Real(
            "Grace Hopper, RGB, JPEG", "matplotlib", "mpl-data/sample_data/grace_hopper.jpg", ("matplotlib", "plot")
        ),
    }


def example_names() -> dict[str, str]:
    """Return the names and descriptions of the available examples."""
    return {
        name: e.about
        for name, e in _examples().items()
        if isinstance(e, _Simulated) or ((path := _real_path(e)) is not None and path.exists())
    }


def example_image(name: str) -> Image | tuple[Path, dict[str, Any]]:
    """Return an unread example: a simulated one as `Image`, a real one as the path of its file and `metadata` for it.

    Raises
    ------
    ValueError
        If there is no such example; the message lists the examples.
    MissingExtraError
        If its package is not installed.
    FileNotFoundError
        If the installed release of the package does not contain the file.
    """
    example = _examples().get(name) if isinstance(name, str) else None
    if example is None:
        raise ValueError(f"there is no example {name!r}: expected one of {', '.join(example_names())}")
    if isinstance(example, _Real):
        path = _real_path(example)
        if path is None:
            raise MissingExtraError(*example.extra, f"the example {name!r}")
        if not path.exists():
            raise FileNotFoundError(f"the installed {example.package} does not contain {path}: there is no {name!r}")
        known = {"spacing": dict.fromkeys("yx", example.spacing), "spacing_units": "µm"} if example.spacing else {}
        return path, known
    variables = {}
    for place, (variable, axes) in enumerate(example.axes.items()):
        shape = example.shapes[variable]
        tiles = (1,) * (len(shape) - 2) + shape[-2:]
        attrs = {"kind": "labels"} if variable == "labels" else {}
        variables[variable] = Variable(Pixels(_Reader(name, place), shape, np.dtype("u2"), tiles), tuple(axes), attrs)
    units = {a: "s" if a == "t" else "µm" for a in example.spacing}
    coords = {"c": Coordinate(("c",), np.asarray(example.channels))}
    return Image(variables, spacing=example.spacing, units=units, coords=coords, attrs=example.attrs)


def _real_path(example: _Real) -> Path | None:
    spec = find_spec(example.package)
    return Path(spec.origin).parent / example.path if spec is not None and spec.origin else None


@lru_cache(maxsize=2)
def _arrays(name: str) -> tuple[np.ndarray, ...]:
    example = _examples()[name]
    assert isinstance(example, _Simulated)
    arrays = example.make()
    for array in arrays:
        array.flags.writeable = False
    return arrays


@dataclass(frozen=True)
class _Reader:
    """Reads a variable of a simulation by name, so that it is picklable."""

    name: str
    place: int

    def read_into(self, region: Region, out: np.ndarray) -> None:
        out[...] = _arrays(self.name)[self.place][region]


def catalog_path(name: str = "samples.yml") -> Path:
    """Return a shipped catalog: in the installed package, or at the top of a source checkout.

    Raises
    ------
    FileNotFoundError
        If there is no catalog of that name.
    """
    here = Path(__file__).resolve().parent.parent
    for folder in (here / "catalogs", here.parent / "catalogs"):
        if (folder / name).is_file():
            return folder / name
    raise FileNotFoundError(f"no catalog {name!r} is shipped")


# simulations


def simulate_cells(
    shape: tuple[int, int, int, int] = (3, 8, 192, 240), count: int = 14
) -> tuple[np.ndarray, np.ndarray]:
    """Simulate cells that drift: stained nuclei, and a cytoplasm with bright vesicles.

    Parameters
    ----------
    shape : tuple of int
        Number of frames, planes, rows and columns.
    count : int
        Number of cells.

    Returns
    -------
    image : ndarray of uint16, of shape (T, Z, 2, Y, X)
        Poisson noise, a gaussian blur of one pixel, an offset of 100 grey values.
    labels : ndarray of uint16, of shape (T, Z, Y, X)
        Number of the nucleus at each voxel, 0 outside.
    """
    from scipy import ndimage

    random = np.random.default_rng(2024)
    frames, planes, rows, columns = shape
    centre = random.uniform([planes * 0.3, 15, 15], [planes * 0.7, rows - 15, columns - 15], (count, 3))
    drift = random.normal(0, [0.2, 3, 3], (count, 3))
    radius = np.stack([np.full(count, planes * 0.32), *random.uniform(8, 13, (2, count))], axis=1)
    texture = ndimage.gaussian_filter(random.normal(0, 1, shape[1:]), (0.5, 2, 2))
    texture = 1 + 0.3 * texture / texture.std()
    grid = np.ogrid[:planes, :rows, :columns]
    image = np.empty((frames, planes, 2, rows, columns), np.uint16)
    labels = np.zeros(shape, np.uint16)
    for t in range(frames):
        distance = np.full(shape[1:], np.inf)
        for n in range(count):
            sides = zip(grid, centre[n], t * drift[n], radius[n], strict=True)
            z, y, x = (((at - middle - moved) / r) ** 2 for at, middle, moved, r in sides)
            own = np.sqrt(z + y + x)
            labels[t][(own < 1) & (own < distance)] = n + 1
            distance = np.minimum(distance, own)
        vesicles = ndimage.gaussian_filter((random.random(shape[1:]) < 0.002).astype(float), (0.7, 1.2, 1.2)) * 60
        dna = 900 * (distance < 1) * texture
        cytoplasm = np.where((distance >= 1) & (distance < 2), 260 * (2 - distance) * (1 + vesicles), 15)
        for c, signal in enumerate((dna, cytoplasm)):
            blurred = ndimage.gaussian_filter(np.clip(signal, 0, None), (0.6, 1, 1))
            image[t, :, c] = 100 + random.poisson(blurred)
    return image, labels


def simulate_spots(
    shape: tuple[int, int, int] = _SPOTS, count: int = _OWN, shared: int = _SHARED
) -> tuple[np.ndarray, np.ndarray]:
    """Simulate spots of the size of a microscope's blur, in two channels that share some positions.

    Parameters
    ----------
    shape : tuple of int
        Number of planes, rows and columns.
    count : int
        Number of spots in each channel.
    shared : int
        Number of spots at the same position in both channels.

    Returns
    -------
    image : ndarray of uint16, of shape (2, Z, Y, X)
        Gaussian spots (sigma 1.2 planes, 1.6 pixels) of 300 to 900 counts, Poisson noise, an offset of 100 grey values.
    labels : ndarray of uint16, of shape (2, Z, Y, X)
        Number of the spot whose centre is within 2 sigma of a voxel, 0 elsewhere; shared spots have the same number,
        1 to `shared`, in both channels, the others of the second channel go on from `count` + 1.
    """
    random = np.random.default_rng(7)
    total = 2 * count - shared
    margin, sigma = np.array([3.0, 8.0, 8.0]), np.array([1.2, 1.6, 1.6])
    centres: list[np.ndarray] = []
    while len(centres) < total:  # no two of them touch
        at = random.uniform(margin, np.array(shape) - 1 - margin)
        if all((((at - other) / (4.5 * sigma)) ** 2).sum() > 1 for other in centres):
            centres.append(at)
    members = ([*range(count)], [*range(shared), *range(count, total)])
    grid = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), axis=-1)
    image = np.empty((2, *shape), np.uint16)
    labels = np.zeros((2, *shape), np.uint16)
    for c, numbers in enumerate(members):
        signal = np.full(shape, 12.0)
        for n in numbers:
            distance = (((grid - centres[n]) / sigma) ** 2).sum(axis=-1)
            signal += random.uniform(300, 900) * np.exp(-distance / 2)
            labels[c][distance < 4] = n + 1
        image[c] = 100 + random.poisson(signal)
    return image, labels
