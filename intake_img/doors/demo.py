"""The demonstration: a shipped catalog of sample images, loaded lazily, saved in two formats, loaded back and compared.

The samples are written by the libraries of their formats (tifffile, zarr, pylibCZIrw, Pillow), not by this package, to
demonstrate reading of other programs' files. Cells are simulated, the same on every machine; two images are real ones
from matplotlib and are left out if it is not installed.
"""

from __future__ import annotations

import gzip
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from intake_img.create.examples import catalog_path, simulate_cells
from intake_img.model.variables import kind_of

__all__ = ["make_samples", "run"]

_SPACING = {"t": 30.0, "z": 0.5, "y": 0.25, "x": 0.25}  # seconds and micrometres
_CHANNELS = ("DAPI", "GFP")
_TARGETS = (".ome.tif", ".zarr")
_IN_PARTS = "cells.ome.tif"  # saved with a file for each time and channel


def run(output: str) -> int:
    """Run the demonstration.

    Parameters
    ----------
    output : str
        Folder for the samples, the saved images and the picture; existing ones are replaced.
    Returns
    -------
    int
        0, or 1 if an image differs after loading.
    """
    import intake

    from intake_img.accessor.display import as_text, summary
    from intake_img.io import imload

    folder = Path(output).resolve()
    made = folder / "samples"
    shutil.rmtree(made, ignore_errors=True)
    made.mkdir(parents=True)
    make_samples(made)
    path = catalog_path("demo.yml")
    catalog = intake.open_catalog(str(path))
    print(f"catalog {path}")
    failures, loaded = 0, {}
    for name in list(catalog):
        source = catalog[name](folder=str(made))
        if not Path(source.uri).exists():
            print(f"\n{name}: left out, it comes with matplotlib: pip install 'intake_img[plot]'")
            continue
        loaded[name] = ds = imload(source)
        print(f"\n{name}: {catalog[name].description}\n{as_text(summary(ds), title='')}")
        failures += sum(_saved_and_compared(ds, folder / (name + ending)) for ending in _TARGETS)
    picture = _picture(loaded, folder / "demo.png")
    for ds in loaded.values():
        ds.close()
    print(f"\npicture   {picture}" if picture else "\nno picture, it needs pip install 'intake_img[plot]'")
    print(f"{failures} of the saved images differ from what was loaded" if failures else "all came back equal")
    return 1 if failures else 0


def _saved_and_compared(ds: xr.Dataset, target: Path) -> bool:
    """Save a Dataset, load it back, and print the result; return True if it differs."""
    from intake_img.io import imload, imsave

    partition = "zyx" if target.name == _IN_PARTS else None
    written = imsave(ds, target, partition=partition, overwrite=True)  # a TIFF contains one variable
    with imload(target) as back:
        differences = _differences(ds, back)
    files = f", {len(written)} files" if len(written) > 1 else ""
    print(f"  saved as  {target}{files}: " + ("; ".join(differences) or "comes back equal"))
    return bool(differences)


def _differences(ds: xr.Dataset, back: xr.Dataset) -> list[str]:
    """Describe the differences of two images: variables, axes, dtype, pixels, coordinates and their attributes."""
    from intake_img.model.datasets import FILE_ATTRS

    found = []
    if set(ds.data_vars) != set(back.data_vars):
        found.append(f"variables {list(back.data_vars)} instead of {list(ds.data_vars)}")
    for name in set(ds.data_vars) & set(back.data_vars):
        for what in ("dims", "shape", "dtype", "attrs"):
            one, other = getattr(ds[name], what), getattr(back[name], what)
            if one != other:
                found.append(f"{what} of {name} {other} instead of {one}")
        if not found and not np.array_equal(ds[name].values, back[name].values):
            found.append(f"other pixels in {name}")
    if (
        not ds.drop_vars(ds.data_vars)
        .drop_attrs(deep=False)
        .identical(back.drop_vars(back.data_vars).drop_attrs(deep=False))
    ):
        found.append("other coordinates")
    own, others = ({k: v for k, v in d.attrs.items() if k not in FILE_ATTRS} for d in (ds, back))
    return found + ([f"attributes {others} instead of {own}"] if own != others else [])


def _picture(loaded: dict[str, xr.Dataset], path: Path) -> Path | None:
    """Draw all images into one figure, if matplotlib is installed."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        return None
    columns = 3
    rows = -(-len(loaded) // columns)
    figure = Figure(figsize=(4 * columns, 3.6 * rows), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for ax in axes[len(loaded) :]:
        ax.set_axis_off()
    for ax, (name, ds) in zip(axes, loaded.items(), strict=False):
        labels = next((str(n) for n, v in ds.data_vars.items() if kind_of(v.attrs, v.dtype) == "labels"), None)
        ds.img.plot(projection="max" if "z" in ds["image"].dims else None, labels=labels, ax=ax)
        ax.set_title(", ".join(filter(None, (name, ax.get_title()))), fontsize=9)
    figure.savefig(path, dpi=120, bbox_inches="tight")
    return path


# the samples


def make_samples(folder: Path) -> None:
    """Write the sample images: cells in three formats, and the real images of matplotlib.

    Parameters
    ----------
    folder : Path
        An empty folder.
    """
    image, nuclei = simulate_cells()
    _write_tif(folder / "cells.tif", image)
    _write_omezarr(folder / "nuclei.ome.zarr", image[0], nuclei[0])
    _write_czi(folder / "wells.czi", [image[0], image[-1, ..., ::-1]])
    _copy_real_images(folder)


def _write_tif(path: Path, image: np.ndarray) -> None:
    import tifffile

    per_mm = 1 / _SPACING["x"]
    names = [name for _ in range(image.shape[0] * image.shape[1]) for name in _CHANNELS]
    facts = {"axes": "TZCYX", "spacing": _SPACING["z"], "unit": "\\u00B5m", "finterval": _SPACING["t"], "Labels": names}
    tifffile.imwrite(path, image, imagej=True, resolution=(per_mm, per_mm), metadata=facts)


def _write_omezarr(path: Path, image: np.ndarray, labels: np.ndarray) -> None:
    """An image and its labels as OME-Zarr 0.5, https://ngff.openmicroscopy.org/0.5/."""
    import zarr

    def multiscale(letters: str) -> dict[str, Any]:
        axes = [
            {"name": a, "type": "channel"} if a == "c" else {"name": a, "type": "space", "unit": "micrometer"}
            for a in letters
        ]
        scale = [_SPACING.get(a, 1.0) for a in letters]
        dataset = {"path": "0", "coordinateTransformations": [{"type": "scale", "scale": scale}]}
        return {"version": "0.5", "multiscales": [{"name": path.name, "axes": axes, "datasets": [dataset]}]}

    def write(group: zarr.Group, array: np.ndarray, letters: str, **more: Any) -> None:
        group.attrs["ome"] = {**multiscale(letters), **more}
        chunks = (1,) * (array.ndim - 2) + array.shape[-2:]
        group.create_array("0", data=array, chunks=chunks, dimension_names=list(letters))

    window = {"min": 0, "max": 65535, "start": 100, "end": 1000}
    channels = [
        {"label": n, "color": c, "active": True, "window": window}
        for n, c in zip(_CHANNELS, ("3366FF", "33FF66"), strict=True)
    ]
    root = zarr.open_group(path, mode="w", zarr_format=3)
    write(root, image.swapaxes(0, 1), "czyx", omero={"channels": channels})
    folder = root.create_group("labels")
    folder.attrs["ome"] = {"version": "0.5", "labels": ["nuclei"]}
    write(folder.create_group("nuclei"), labels, "zyx", **{"image-label": {"source": {"image": "../../"}}})


def _write_czi(path: Path, scenes: list[np.ndarray]) -> None:
    """Positions on a stage, side by side."""
    from pylibCZIrw import czi

    with czi.create_czi(str(path)) as document:
        for scene, image in enumerate(scenes):
            for z, c in np.ndindex(image.shape[:2]):
                place = {"T": 0, "Z": z, "C": c}
                plane = np.ascontiguousarray(image[z, c])[..., np.newaxis]
                document.write(plane, location=(scene * 1000, 0), plane=place, scene=scene)
        document.write_metadata(
            "wells",
            channel_names=dict(enumerate(_CHANNELS)),
            scale_x=_SPACING["x"] * 1e-6,
            scale_y=_SPACING["y"] * 1e-6,
            scale_z=_SPACING["z"] * 1e-6,
        )


def _copy_real_images(folder: Path) -> None:
    try:
        import matplotlib
    except ImportError:
        return
    from PIL import Image as Pillow

    data = Path(matplotlib.get_data_path()) / "sample_data"
    if (data / "s1045.ima.gz").exists():
        values = np.frombuffer(gzip.decompress((data / "s1045.ima.gz").read_bytes()), "<u2")
        Pillow.fromarray(values.reshape(256, 256)).save(folder / "head.png")
    if (data / "grace_hopper.jpg").exists():
        shutil.copyfile(data / "grace_hopper.jpg", folder / "photo")
