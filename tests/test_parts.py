"""Any Dataset in parts of any format: the files are called as the documentation says, and come back equal."""

from __future__ import annotations

import errno
import re
import shutil
import tempfile
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import dask.array as da
import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st
from thoroughness import examples

from intake_img import imload, imsave
from intake_img.collections.members import Members
from intake_img.errors import CannotWriteError, SourceChangedError
from intake_img.testing import assert_same

pytestmark = pytest.mark.thorough

DTYPES = {  # what each format is made for
    ".npz": ["u1", "i2", "u4", "i8", "f4", "f8", "c8", "b1"],
    ".zarr": ["u1", "i2", "u4", "i8", "f2", "f4", "f8", "b1"],
    ".tif": ["u1", "i1", "u2", "i4", "f4", "f8"],
    ".ome.tif": ["u1", "u2", "i2", "u4", "f4", "f8"],
    ".png": ["u1", "u2", "b1"],
}
WORDS = r"a/b a\b a.b a_b -lead 50% é—µ 3 03 0p5 nan %41 ~ {# [*?] .. c_1 var_x CON 1e5 inf +1 ٣"
TEXTS = st.one_of(
    st.sampled_from(WORDS.split()),
    st.sampled_from(["nul\0", "two words", "", " x ", "\n", "x" * 300, "µ" * 300]),
    st.text(max_size=8),
)
VALUES = {
    "int": st.integers(-5000, 5000),
    "float": st.one_of(st.floats(-1e9, 1e9), st.sampled_from([1e-300, -0.5, 1e22, 0.1, 3.0])),
    "text": TEXTS,
}


@st.composite
def datasets(draw: st.DrawFn, extension: str) -> xr.Dataset:
    """Axes of ``itczyx`` in some order, coordinates of all kinds, one to three variables on some of the axes."""
    axes = draw(st.permutations(draw(st.lists(st.sampled_from("itcz"), unique=True, max_size=3)) + list("yx")))
    sizes = {a: draw(st.integers(1, 3)) for a in axes}
    coords: dict[str, Any] = {}
    for a in axes:
        kind = draw(st.sampled_from(["none", "even", "int", "float", "text"]))
        if a in "yx" and kind in ("text", "int", "float"):
            kind = "even"
        if kind == "even" and a not in "ic":
            spacing = draw(st.sampled_from([0.1, 0.25, 2.0]))
            coords[a] = (
                a,
                draw(st.integers(0, 3)) + spacing * np.arange(sizes[a]),
                {"units": "s" if a == "t" else "µm", "spacing": spacing},
            )
        elif kind in VALUES:
            distinct = st.lists(
                VALUES[kind], min_size=sizes[a], max_size=sizes[a], unique_by=lambda v: str(v).casefold()
            )
            coords[a] = np.array(draw(distinct), dtype=object if kind == "text" else None)
    names = draw(
        st.lists(st.sampled_from(["image", "mask", "cell body", "a.b", "1"]), min_size=1, max_size=3, unique=True)
    )
    variables = {}
    for name in names:
        lost = draw(st.lists(st.sampled_from("itcz"), unique=True, max_size=1)) if len(names) > 1 else []
        own = [a for a in axes if a not in lost]
        shape = tuple(sizes[a] for a in own)
        dtype = np.dtype(draw(st.sampled_from(DTYPES[extension])))
        values = (np.arange(np.prod(shape, dtype=int)) * 37 % 251).astype(dtype).reshape(shape)
        variables[name] = (own, values, {"kind": "labels"} if draw(st.booleans()) and dtype.kind == "u" else {})
    used = {a for own, _, _ in variables.values() for a in own}
    return xr.Dataset(variables, {a: c for a, c in coords.items() if a in used}, {"note": "kept", "n": 3})


def readable(value: Any, all_values: np.ndarray) -> str:
    """How the documentation says that a value is written."""
    if isinstance(value, (int, np.integer)):
        width = max(len(str(abs(int(v)))) for v in all_values)
        return ("-" if value < 0 else "") + str(abs(int(value))).zfill(width)
    return repr(float(value)).replace(".", "p")


def check_names(paths: list[str], ds: xr.Dataset, extension: str, partition: list[str] | None) -> None:
    """Names are ``f[.var_name][.axis_label]...ext``; labels are plain where they can be, and read back."""
    for path in paths:
        name = Path(path).name
        assert name.startswith("f")
        assert name.endswith(extension)
        parts = dict(part.split("_", 1) for part in name[1 : len(name) - len(extension)].split(".")[1:])
        assert list(parts) == [a for a in ("var", *"itczyx") if a in parts]
        assert not set(parts) & set(partition or [])
        for axis, label in parts.items():
            if axis == "var" or "~" in label:
                continue
            values = ds[axis].values if axis in ds.coords else np.arange(ds.sizes[axis])
            if values.dtype.kind in "OUT":
                assert unquote(label, errors="surrogatepass") in set(map(str, values))
                assert label.isprintable() or not label.isascii()
                if re.fullmatch(r"[A-Za-z][A-Za-z_ \-]*[A-Za-z]", label):
                    assert label in set(map(str, values)), "plain text stays as it is"
            else:
                assert label in {readable(v, values) for v in values}


@pytest.mark.parametrize("extension", sorted(DTYPES))
def test_any_dataset_in_any_parts(extension: str) -> None:
    @examples(48)
    @given(datasets(extension), st.data())
    def law(ds: xr.Dataset, data: st.DataObject) -> None:
        choice = st.lists(st.sampled_from([*map(str, ds.sizes)]), unique=True, min_size=1)
        partition = data.draw(st.one_of(st.none(), choice)) if extension != ".png" else None
        folder = Path(tempfile.mkdtemp(prefix="intake_img-parts-"))
        try:
            try:
                paths = imsave(ds, folder / f"f{extension}", partition=partition)
            except CannotWriteError:  # of the axes that one asks for in each file
                assert partition is not None
                assert extension == ".ome.tif"
                assert not list(folder.iterdir())
                return
            if len(paths) > 1:
                check_names(paths, ds, extension, partition)
            found = imload(folder / f"f{extension}")
            assert_same(found, ds)
            found.load()
            imsave(found, folder / "again" / f"f{extension}", partition=partition)
            assert_same(imload(folder / "again" / f"f{extension}"), ds)
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    law()


def test_channel_names_that_xml_cannot_hold(tmp_path: Path) -> None:
    ds = xr.Dataset({"image": (("c", "y", "x"), np.zeros((2, 4, 5), "u1"))}, {"c": ["nul\0", "a\x07b"]})
    imsave(ds, tmp_path / "f.ome.tif")
    assert_same(imload(tmp_path / "f.ome.tif"), ds)


@pytest.mark.parametrize("chunks", [(4, 2, 8, 9), (2, 6, 8, 9), (4, 1, 5, 4), (1, 1, 8, 9), (3, 4, 8, 9)])
@pytest.mark.parametrize("spooled", [False, True])
def test_each_chunk_is_computed_once(
    chunks: tuple[int, ...], spooled: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Chunks span several files; where these do not fit into memory together, they come through a file."""
    if spooled:
        monkeypatch.setattr("intake_img.collections.partition._BLOCK_BYTES", 0)
        monkeypatch.setattr("intake_img.collections.partition._SLAB_BYTES", 0)
    values = np.arange(4 * 6 * 8 * 9, dtype="u2").reshape(4, 6, 8, 9)
    computed: list[Any] = []

    def block(block_info: Any = None) -> np.ndarray:
        place = block_info[None]["array-location"]
        computed.append(place)
        return values[tuple(slice(*p) for p in place)]

    lazy = da.map_blocks(block, chunks=da.core.normalize_chunks(chunks, values.shape), dtype="u2")
    ds = xr.Dataset({"image": (("t", "z", "y", "x"), lazy)})
    imsave(ds, tmp_path / "f.tif", partition="zyx")
    assert len(computed) == len({tuple(map(tuple, place)) for place in computed}) == lazy.npartitions
    np.testing.assert_array_equal(imload(tmp_path / "f.tif").image.values, values)
    assert sorted(p.name for p in tmp_path.iterdir()) == [f"f.t_{t}.tif" for t in range(4)]


def test_no_room_for_what_passes_through_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("intake_img.storage.spill._allocate", full)
    monkeypatch.setattr("intake_img.collections.partition._BLOCK_BYTES", 0)
    lazy = da.zeros((4, 6, 8, 9), chunks=(4, 1, 5, 4), dtype="u2")
    with pytest.raises(OSError, match="no space left for"):
        imsave(xr.Dataset({"image": (("t", "z", "y", "x"), lazy)}), tmp_path / "f.tif", partition="zyx")
    assert all(p.name == ".f.tif.partial" for p in tmp_path.iterdir())  # what resume=True goes on with


@pytest.mark.parametrize("extension", [".tif", ".npz", ".zarr"])
def test_files_that_are_replaced_while_they_are_looked_at_are_not_mixed(tmp_path, monkeypatch, extension):
    """The metadata are those of the first file as it was, the pixels would be those of new files."""
    image = xr.Dataset({"image": (["t", "y", "x"], np.ones((3, 4, 5), "u2"))}, attrs={"number": 1})
    target = tmp_path / f"a{extension}"
    imsave(image, target, partition="yx")
    looking = Members._stamps

    def replaced(self):
        monkeypatch.undo()
        imsave((image + np.uint16(1)).assign_attrs(number=2), target, partition="yx", overwrite=True)
        return looking(self)

    monkeypatch.setattr(Members, "_stamps", replaced)
    with pytest.raises(SourceChangedError, match="load it again"):
        imload(target)
    found = imload(target)
    assert (found.attrs["number"], found.image.values.min()) == (2, 2)
