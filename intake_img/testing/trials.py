"""What the laws do with Datasets: parts at random, chunkings, chains of selections, and what must be equal."""

from __future__ import annotations

import inspect
import itertools
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from intake_img.formats.format_source import FormatSource
from intake_img.formats.reading import FileReader
from intake_img.io import imload
from intake_img.model.pixels import Pixels
from intake_img.model.readers import leaf_of
from intake_img.testing.equality import values_of
from intake_img.testing.subjects import Subject, writing_extensions

__all__ = [
    "assert_attributes_survive",
    "assert_image",
    "assert_same_pixels",
    "assert_spelled_out",
    "assert_values",
    "assert_yaml",
    "chained",
    "chunkings",
    "documented",
    "expected_of",
    "kinds",
    "name_in",
    "outer_part",
    "random_key",
    "random_parts",
    "record_regions",
    "remove",
    "size_of",
]

_GENERAL = ("image", "path", "compress", "progress")  # of writing; documented by `Format.write`


def assert_spelled_out(function: Any, doc: str | None, first: tuple[str, ...]) -> None:
    parameters = inspect.signature(function).parameters.values()
    open_ended = [p.name for p in parameters if p.kind in (p.VAR_KEYWORD, p.VAR_POSITIONAL)]
    assert not open_ended, f"{function.__qualname__} does not spell out its options: {open_ended}"
    listed = documented(doc or function.__doc__ or "")
    for p in parameters:
        if p.name in ("self", "cls", *_GENERAL):
            continue
        assert p.name in first or p.kind is p.KEYWORD_ONLY, f"{function.__qualname__}: {p.name!r} is not keyword-only"
        assert p.name in listed, f"{function.__qualname__}: the docstring has no line on {p.name!r}"


def documented(doc: str) -> set[str]:
    """Names in the section "Parameters" of a docstring, as numpydoc writes it."""
    section = re.search(r"^Parameters\n-+\n(.*?)(?=^\w[^\n]*\n-+$|\Z)", inspect.cleandoc(doc), re.S | re.M)
    lines = re.findall(r"^([*\w][^\n:]*)", section[1] if section else "", re.M)
    return {name.strip().lstrip("*") for line in lines for name in line.split(",")}


def record_regions(driver: type[FormatSource], monkeypatch: Any) -> list[Any]:
    """Return the list to which the regions that are read from now on are added.

    Of small parts of a memory-mapped file, which NumPy takes from the map, only their lengths are known.
    """
    regions: list[Any] = []
    read, taken = FileReader.read_into, Pixels.mapped_part

    def read_into(self: FileReader, region: Any, out: np.ndarray) -> None:
        if self.format == driver.format:
            regions.append(region)
        read(self, region, out)

    def mapped_part(self: Pixels, indices: Any) -> np.ndarray | None:
        out = taken(self, indices)
        if out is not None and getattr(leaf_of(self.reader), "format", None) == driver.format:
            regions.append(tuple(slice(0, n) for n in out.shape))
        return out

    monkeypatch.setattr(FileReader, "read_into", read_into)
    monkeypatch.setattr(Pixels, "mapped_part", mapped_part)
    return regions


def chained(ds: xr.Dataset) -> xr.DataArray:
    """Select a part in as many steps as can be: integers, squeeze, crops, exchanged axes."""
    lead, *others = ds.img.axes
    part = ds.isel({lead: ds.sizes[lead] // 2}) if len(others) > 2 else ds
    part = part.squeeze()
    part = part.transpose(*list(part.dims)[::-1])
    part = part.isel({d: slice(1, None) if n > 3 else slice(None) for d, n in part.sizes.items()})
    image = next(iter(part.data_vars.values()))
    for d in image.dims[:-2]:
        image = image.isel({d: -1})
    wanted = {str(d): (1, n - 1) for d, n in image.sizes.items() if n > 3}
    return image.img.crop(wanted) if wanted and set("yx") <= set(image.dims) else image


def size_of(region: tuple[slice, ...]) -> int:
    return int(np.prod([s.stop - s.start for s in region]))


def expected_of(subject: Subject) -> xr.Dataset:
    ds = subject.expected
    return ds.transpose(*[a for a in imload(subject.path, metadata_only=True).dims if a in ds.dims])


def name_in(names: Any, name: Any) -> Any:
    return name if name in names else "image"


def assert_image(found: xr.Dataset, subject: Subject) -> None:
    for name, variable in subject.expected.data_vars.items():
        values = values_of(found[name_in(found, name)].transpose(*variable.dims))
        np.testing.assert_array_equal(values, variable.values)


def assert_same_pixels(found: xr.Dataset, given: xr.Dataset) -> None:
    for a, b in zip(found.data_vars.values(), given.data_vars.values(), strict=True):
        assert a.dtype == b.dtype.newbyteorder("=")
        np.testing.assert_array_equal(values_of(a.squeeze()), values_of(b.squeeze()))


def assert_values(found: xr.Dataset, expected: xr.Dataset) -> None:
    for name, variable in expected.data_vars.items():
        np.testing.assert_array_equal(values_of(found[name].transpose(*variable.dims)), values_of(variable))


def chunkings(ds: xr.Dataset) -> Iterator[Any]:
    axes = list(ds.img.axes)
    known = ["auto", None, 1, 2, -1, {axes[0]: 1}, {axes[-1]: 7, axes[-2]: 5}, dict.fromkeys(axes, -1)]
    return itertools.cycle(known)


def random_parts(ds: xr.Dataset, count: int) -> Iterator[dict[str, Any]]:
    rng = np.random.default_rng(count)
    for _ in range(count):
        yield {str(a): random_key(rng, n) for a, n in ds.sizes.items() if rng.random() < 0.8}


def random_key(rng: np.random.Generator, n: int) -> Any:
    kind = int(rng.integers(5))
    if kind == 0:
        return int(rng.integers(n))
    if kind == 1:
        return sorted(set(rng.integers(n, size=3).tolist()))
    start, stop = sorted(rng.integers(n + 1, size=2).tolist())
    return slice(start, max(stop, start + 1) if start < n else n, int(rng.integers(1, 3)))


def outer_part(array: np.ndarray, key: tuple[Any, ...]) -> np.ndarray:
    for axis, k in enumerate(key):
        array = np.take(array, [k] if isinstance(k, int) else np.arange(array.shape[axis])[k], axis)
    return array


def assert_yaml(driver: type[FormatSource], subject: Subject, path: Path) -> None:
    import intake
    import yaml

    source = driver(subject.path)
    text = source.yaml()
    assert yaml.safe_load(text)["sources"]
    path.write_text(text, encoding="utf-8")
    entry = intake.open_catalog(str(path))[source.name]
    xr.testing.assert_identical(entry.read(), source.read())


def assert_attributes_survive(ds: xr.Dataset, path: Path) -> None:
    flat = ds.isel(dict.fromkeys(ds.dims, slice(0, 1))).map(lambda v: v.real.astype("float32"), keep_attrs=True)
    flat.attrs = ds.attrs
    flat.to_zarr(f"{path}.zarr", zarr_format=2, consolidated=False)
    kept = xr.open_zarr(f"{path}.zarr", consolidated=False)
    assert kept.attrs == ds.attrs
    try:
        import netCDF4  # noqa: F401
    except ImportError:
        return
    flat.to_netcdf(f"{path}.nc", engine="netcdf4")
    with xr.open_dataset(f"{path}.nc", engine="netcdf4") as kept:
        back = {k: v.tolist() if isinstance(v, np.ndarray) else v for k, v in kept.attrs.items()}
        assert back["fileheader"] == ds.attrs["fileheader"]
        assert np.atleast_1d(back["scenes"]).tolist() == ds.attrs["scenes"]


def kinds(driver: type[FormatSource]) -> list[str]:
    return writing_extensions(driver)[:4]


def remove(path: Path) -> None:
    import shutil

    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
