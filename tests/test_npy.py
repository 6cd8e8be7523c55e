"""NumPy's files: what numpy writes is what is read, mapped and in part; archives lose nothing; damage is an error."""

from __future__ import annotations

import random
import warnings

import numpy as np
import pytest
import xarray as xr
from hypothesis import HealthCheck, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from thoroughness import examples

from intake_img import imload, imsave
from intake_img.errors import CannotWriteError, FormatError, IntakeImgError

KINDS = st.one_of(hnp.boolean_dtypes(), hnp.integer_dtypes(endianness="?"), hnp.floating_dtypes(endianness="?"))


@examples(60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_any_array_is_read_as_numpy_reads_it(tmp_path, data):
    shape = data.draw(hnp.array_shapes(min_dims=2, max_dims=6, max_side=4))
    array = data.draw(hnp.arrays(data.draw(KINDS), shape))
    array = np.asfortranarray(array) if data.draw(st.booleans()) else array
    np.save(tmp_path / "a.npy", array)
    ds = imload(tmp_path / "a.npy")
    assert ds.img.axes == "itczyx"[-array.ndim :]
    assert ds.image.dtype == array.dtype.newbyteorder("=")
    np.testing.assert_array_equal(ds.image, array)
    key = tuple(slice(*sorted(data.draw(st.tuples(st.integers(0, n), st.integers(0, n))))) for n in shape)
    np.testing.assert_array_equal(ds.image[key], array[key])


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_arrays_of_an_archive_are_variables_or_scenes(tmp_path, save):
    """By their lengths: one image has one length along each axis."""
    one = {"cells": np.arange(12.0).reshape(3, 4), "mask": np.ones((2, 3, 4), bool)}
    save(tmp_path / "one.npz", **one)
    ds = imload(tmp_path / "one.npz")
    assert (set(ds.data_vars), ds.attrs["scenes"]) == (set(one), ["0"])
    several = {
        "big": np.arange(20).reshape(4, 5),
        "small": np.asfortranarray(np.arange(6).reshape(3, 2)),
        "row": np.ones((1, 5)),
    }
    save(tmp_path / "several.npz", **several)
    assert imload(tmp_path / "several.npz").attrs["scenes"] == list(several)
    for name, array in several.items():
        np.testing.assert_array_equal(imload(tmp_path / "several.npz", scene=name)["image"], array)


@pytest.mark.parametrize("compress", [None, True, False])
def test_archives_lose_nothing(tmp_path, compress):
    rng = np.random.default_rng(2)
    ds = xr.Dataset(
        {
            "image": (("c", "h", "y", "x"), rng.integers(0, 9, (2, 3, 4, 5), "u2"), {"kind": "raw"}),
            "cells": (("y", "x"), rng.integers(0, 9, (4, 5), "i4"), {"kind": "labels"}),
        },
        {
            "c": ["DAPI µ", "GFP"],
            "x": ("x", 2.0 + 0.1 * np.arange(5), {"units": "µm", "spacing": 0.1}),
            "h": [0.5, np.nan, np.inf],
            "when": ("c", np.array(["2020-01-01", "2021-01-01"], "M8[ns]")),
            "y": [True, False, True, True],
        },
        {"title": "a", "list": [1, 2.5, None], "nested": {"a": [1]}},
    )
    imsave(ds, tmp_path / "a.npz", compress=compress)
    got = imload(tmp_path / "a.npz", output_axis_order=None)
    xr.testing.assert_equal(got, ds)
    for name in ds.variables:
        assert got[name].attrs == ds[name].attrs, name
        assert got[name].dtype == ds[name].dtype or ds[name].dtype.kind == "U", name
    assert {k: got.attrs[k] for k in ds.attrs} == ds.attrs
    with np.load(tmp_path / "a.npz") as archive:  # an independent reader
        np.testing.assert_array_equal(archive["image"], ds.image)
        np.testing.assert_array_equal(archive["cells"], ds.cells)
    np.testing.assert_array_equal(got.image[1, 2, 1:3, ::2], ds.image[1, 2, 1:3, ::2])


def test_npy_is_what_numpy_loads(tmp_path):
    values = np.arange(60, dtype=">f8").reshape(3, 4, 5)
    imsave(values, tmp_path / "a.npy")
    np.testing.assert_array_equal(np.load(tmp_path / "a.npy"), values)
    assert imload(tmp_path / "a.npy").img.axes == "zyx"


def test_archives_of_numpy_itself(tmp_path):
    np.savez_compressed(tmp_path / "a.npz", a=np.arange(6).reshape(2, 3), b=np.ones((2, 3), order="F"))
    ds = imload(tmp_path / "a.npz")
    assert set(ds.data_vars) == {"a", "b"}
    np.testing.assert_array_equal(ds.a, [[0, 1, 2], [3, 4, 5]])


@pytest.mark.parametrize("name", ["a.npy", "a.npz"])
def test_metadata_overrule(tmp_path, name):
    save = np.save if name == "a.npy" else np.savez
    save(tmp_path / name, np.zeros((2, 3, 4)))
    ds = imload(tmp_path / name, metadata={"axes": "cyx", "spacing": {"x": 2}, "coords": {"c": ["a", "b"]}})
    assert (ds.img.axes, ds.img.channels, ds.img.spacing) == ("cyx", ["a", "b"], {"x": 2.0})


def test_what_cannot_be_written_or_read(tmp_path):
    with pytest.raises(CannotWriteError, match="not compressed"):
        imsave(np.zeros((2, 2)), tmp_path / "a.npy", compress=True)
    with pytest.raises(CannotWriteError, match="compress='zstd'"):
        imsave(np.zeros((2, 2)), tmp_path / "a.npz", compress="zstd")
    assert list(tmp_path.iterdir()) == []
    np.save(tmp_path / "b.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(FormatError):  # pickles are never loaded
        imload(tmp_path / "b.npy")
    np.save(tmp_path / "c.npy", np.array(["text"]))
    with pytest.raises(FormatError, match=r"dtype <U4.*is not supported"):
        imload(tmp_path / "c.npy")


def test_hostile_header(tmp_path):
    np.save(tmp_path / "a.npy", np.zeros((10, 10), "u1"))
    broken = (tmp_path / "a.npy").read_bytes().replace(b"(10, 10), }      ", b"(10000000, 10**0)")
    huge = (tmp_path / "a.npy").read_bytes().replace(b"(10, 10), }          ", b"(1000000, 1000000), }")
    for content in (broken, huge):
        (tmp_path / "b.npy").write_bytes(content)
        with pytest.raises(FormatError):
            imload(tmp_path / "b.npy")


@pytest.mark.parametrize("name", ["a.npy", "a.npz", "z.npz"])
def test_damage(tmp_path, name):
    values = np.arange(20 * 30, dtype="u2").reshape(20, 30)
    imsave(
        xr.Dataset({"image": (("y", "x"), values)}), tmp_path / name, **({"compress": True} if name == "z.npz" else {})
    )
    whole = (tmp_path / name).read_bytes()
    draw = random.Random(11)
    target = tmp_path / f"broken{name[1:]}"
    for k in range(150):
        broken = bytearray(whole)
        if k % 3:
            at = draw.randrange(len(broken))
            broken[at] ^= 1 << draw.randrange(8)
        else:
            at = 0
            broken = broken[: draw.randrange(len(broken))]
        target.write_bytes(broken)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                got = imload(target).load()
            except IntakeImgError:
                continue
        assert k % 3, f"cut at {len(broken)} of {len(whole)} is read"
        first = next(iter(got.data_vars.values()))
        if name == "z.npz":  # zip's checksums cover the values
            np.testing.assert_array_equal(first.values.ravel(), values.ravel())
