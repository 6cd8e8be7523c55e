"""`DriverLaws`: the laws for every driver, one test for each."""

from __future__ import annotations

import contextlib
import gc
import importlib.metadata
import inspect
import itertools
import json
import os
import pickle
import re
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import xarray as xr

from intake_img.errors import CannotWriteError, IntakeImgError
from intake_img.formats.arguments import ENTRY_POINTS
from intake_img.formats.format_source import FormatSource
from intake_img.formats.registry import find_format
from intake_img.io import imload, imsave
from intake_img.model.datasets import FILE_ATTRS, attributes_of
from intake_img.model.pixels import Pixels
from intake_img.storage.files import File
from intake_img.storage.handles import POOL
from intake_img.testing import process
from intake_img.testing.damage import SECONDS
from intake_img.testing.datasets import all_axes, standard_dataset, standard_datasets
from intake_img.testing.equality import assert_holds, assert_same, values_of
from intake_img.testing.people import PERSON, with_people
from intake_img.testing.subjects import Subject, about, subjects_of, writing_extensions
from intake_img.testing.trials import (
    assert_attributes_survive,
    assert_image,
    assert_same_pixels,
    assert_spelled_out,
    assert_values,
    assert_yaml,
    chained,
    chunkings,
    expected_of,
    kinds,
    name_in,
    outer_part,
    random_parts,
    record_regions,
    remove,
    size_of,
)

__all__ = ["DriverLaws"]

_COMMON = ("chunks", "output_axis_order", "metadata", "storage_options", "cache")  # options of every driver
_MIB = 2**20


class DriverLaws:
    """The laws for one driver: subclass it as a ``Test...`` class and set `driver_class`.

    Attributes
    ----------
    driver_class : type
        The driver, a which `intake_img.plugin.source_of` made.
    damages : int
        Approximate number of damaged files, at least 40 for each kind of file: 1000 if the environment variable
        `INTAKE_IMG_SLOW` is set, else 60.
    extra_memory : int
        Memory for writing or reading an image, in addition to that of Python itself, in bytes.
    """

    driver_class: ClassVar[type[FormatSource] | None] = None
    damages: ClassVar[int] = 1000 if os.environ.get("INTAKE_IMG_SLOW") else 60
    extra_memory: ClassVar[int] = 176 * _MIB  # a slab of 16 planes, and two more

    @pytest.fixture(scope="class")
    @classmethod
    def driver(cls) -> type[FormatSource]:
        """The tested driver."""
        assert cls.driver_class is not None, "set driver_class, or define the fixture `driver`"
        return cls.driver_class

    @pytest.fixture(scope="class")
    @classmethod
    def subjects(cls, driver: type[FormatSource], tmp_path_factory: pytest.TempPathFactory) -> list[Subject]:
        """Files of the format and their contents."""
        found = subjects_of(driver, tmp_path_factory.mktemp(f"subjects-{driver.name}"))
        assert found, f"{driver.__name__} has no sample and writes none of the standard Datasets: define sample()"
        return found

    # declares itself

    def test_has_names(self, driver: type[FormatSource]) -> None:
        """A driver has a name for ``intake.open_<name>``, the name of its format, and extensions or magic bytes."""
        assert re.fullmatch(r"[a-z][a-z0-9_]*", driver.name), driver.name
        assert driver.format.title
        assert driver.format.extensions or driver.format.magic
        assert all(e.startswith(".") and e == e.lower() for e in driver.format.extensions), driver.format.extensions
        assert all(isinstance(at, int) and isinstance(magic, bytes) and magic for at, magic in driver.format.magic)
        assert not driver.format.writes or writing_extensions(driver), "it writes, but no name leads imsave to it"

    def test_is_an_entry_point(self, driver: type[FormatSource]) -> None:
        """An installed driver is declared once, with its own name."""
        points = importlib.metadata.entry_points(group=ENTRY_POINTS)
        declared = [p.name for p in points if p.value.replace(" ", "") == process.spec_of(driver)]
        assert set(declared) <= {driver.name}
        assert declared or not driver.__module__.startswith("intake_img."), "no entry point declares it"

    def test_spells_out_its_options(self, driver: type[FormatSource]) -> None:
        """Every option of the constructor and of the writer has a name, a default and a line in the docstring."""
        assert_spelled_out(driver, driver.__doc__, ("uri",))
        parameters = inspect.signature(driver).parameters
        assert not (missing := [o for o in _COMMON if o not in parameters]), f"the constructor lacks {missing}"
        if driver.format.writes:
            assert_spelled_out(driver.format.write, None, ("image", "path"))

    def test_is_made_without_a_file(self, driver: type[FormatSource], tmp_path: Path) -> None:
        """Making a source accesses no file; using it names a missing file."""
        source = driver(str(tmp_path / f"missing{driver.format.extensions[0] if driver.format.extensions else ''}"))
        assert repr(source)
        with pytest.raises(FileNotFoundError, match="missing"):
            source.discover()

    # reads, keeps, refuses

    def test_reads_its_sample(self, driver: type[FormatSource], tmp_path: Path) -> None:
        """The sample has the stated contents, and is recognised as a file of the driver."""
        if not driver.format.has_sample:
            assert driver.format.writes, f"{driver.__name__} does not write: it needs a sample()"
            return
        path, expected = driver.format.sample(str(tmp_path))
        assert find_format(File.parse(path)) == driver.format
        assert_holds(driver(path).read(), expected)
        with driver(path, chunks=None) as source:
            assert_holds(source.dataset(), expected)

    @pytest.mark.parametrize("what", list(standard_datasets()))
    def test_keeps_or_refuses(self, driver: type[FormatSource], what: str, tmp_path: Path) -> None:
        """A saved Dataset loads back equal, unless the writer refuses it."""
        given = standard_dataset(what)
        for extension in writing_extensions(driver):
            path = tmp_path / f"image{extension}"
            if len(given.data_vars) > 1 and not driver.format.many_variables(path.name):
                continue  # that takes several files
            try:
                files = imsave(given, path, partition=all_axes(given))
            except CannotWriteError:
                assert list(tmp_path.iterdir()) == [], "a refused write leaves something behind"
                continue
            assert files[0] == str(path)
            try:
                found = driver(path).dataset()
                (assert_same_pixels if extension in driver.format.pixels_only else assert_same)(found, given)
            except Exception as exc:
                exc.add_note(f"{what!r} saved as {extension}")
                raise
            found.close()
            for file in files:
                remove(Path(file))

    @pytest.mark.parametrize("what", list(standard_datasets()))
    def test_splits_what_one_file_cannot_hold(self, driver: type[FormatSource], what: str, tmp_path: Path) -> None:
        """Saved by default, in as few files as the format allows, an image comes back equal by the same name."""
        given = standard_dataset(what)
        for extension in writing_extensions(driver):
            path = tmp_path / f"image{extension}"
            try:
                files = imsave(given, path)
            except CannotWriteError:
                assert list(tmp_path.iterdir()) == [], "a refused write leaves something behind"
                continue
            assert sorted(files) == sorted(map(str, tmp_path.iterdir()))
            if extension not in driver.format.pixels_only:
                found = imload(path)
                try:
                    assert_same(found, given)
                except Exception as exc:
                    exc.add_note(f"{what!r} saved as {extension}, in {len(files)} files")
                    raise
                found.close()
            for file in files:
                remove(Path(file))

    def test_keeps_something(self, driver: type[FormatSource], tmp_path: Path) -> None:
        """A driver that writes keeps at least one standard Dataset."""
        kept = 0
        for (n, given), extension in itertools.product(enumerate(standard_datasets().values()), kinds(driver)):
            try:
                imsave(given, tmp_path / f"image{n}{extension}")
                kept += 1
            except CannotWriteError:
                continue
        assert kept or not driver.format.writes

    # lazy, closed, picklable

    def test_is_lazy(self, driver: type[FormatSource], subjects: list[Subject], monkeypatch: Any) -> None:
        """No pixel is read before it is requested."""
        regions = record_regions(driver, monkeypatch)
        for subject in subjects:
            with about(subject):
                source = driver(subject.path)
                source.discover()
                for ds in (source.to_dask(), source.dataset(chunks=None), imload(subject.path, metadata_only=True)):
                    assert ds.nbytes >= 0
                    assert repr(ds)
                    assert ds.img.axes
                    pickle.dumps(ds)
                    ds.isel({ds.img.axes[0]: 0})
                    ds.close()
                assert not regions, "pixels are read before they are asked for"

    def test_reads_only_the_part(self, driver: type[FormatSource], subjects: list[Subject], monkeypatch: Any) -> None:
        """Only the pixels of a requested region are read."""
        regions = record_regions(driver, monkeypatch)
        for subject in subjects:
            with about(subject):
                source = driver(subject.path)
                for ds in (source.to_dask(), source.dataset(chunks=None)):
                    part = next(iter(ds.isel(dict.fromkeys(ds.dims, slice(1, 3))).data_vars.values()))
                    regions.clear()
                    values_of(part)
                    assert 0 < sum(size_of(r) for r in regions) <= 3 * part.size
                    ds.close()

    def test_reads_only_the_last_step(
        self, driver: type[FormatSource], subjects: list[Subject], monkeypatch: Any
    ) -> None:
        """For a chain of selections, the driver reads only the remaining pixels, each once."""
        regions = record_regions(driver, monkeypatch)
        for subject in subjects:
            with about(subject):
                source = driver(subject.path)
                whole = source.read()
                for ds in (source.to_dask(), source.dataset(chunks=None), driver(subject.path, chunks=2).dataset()):
                    found, expected = chained(ds), chained(whole)
                    regions.clear()
                    values = values_of(found)
                    np.testing.assert_array_equal(values, values_of(expected))
                    assert sum(size_of(r) for r in regions) == values.size
                    ds.close()

    def test_closes(self, driver: type[FormatSource], subjects: list[Subject]) -> None:
        """After ``close`` no file is open; lazy data can still be computed, and close the file again."""
        for subject in subjects:
            folder = str(Path(subject.path).parent)
            for chunks in ("auto", None):
                with about(subject):
                    ds = driver(subject.path, chunks=chunks).dataset()
                    assert_image(ds.copy(), subject)
                    ds.close()
                    assert process.open_files(folder) == []
                    assert_image(ds.copy(), subject)
                    assert process.open_files(folder) == []
                    with driver(subject.path, chunks=chunks) as source:
                        source.discover()
                    assert process.open_files(folder) == []

    def test_closes_what_it_cannot_open(self, driver: type[FormatSource], subjects: list[Subject]) -> None:
        """A truncated file does not stay open, whatever the error."""
        for subject in subjects:
            path = Path(subject.path)
            if path.is_dir():
                continue
            cut = path.with_name(f"cut{path.suffix}")
            for size in (9, path.stat().st_size // 2):
                cut.write_bytes(path.read_bytes()[:size])
                with about(subject), warnings.catch_warnings(), contextlib.suppress(IntakeImgError):
                    warnings.simplefilter("ignore")
                    driver(str(cut)).read()
            gc.collect()
            assert process.open_files(str(path.parent)) == []
            cut.unlink()

    def test_forgets(self, driver: type[FormatSource], subjects: list[Subject]) -> None:
        """When the last Dataset is gone no file is open, with or without ``close``."""
        for subject in subjects:
            with about(subject):
                ds = driver(subject.path).dataset()
                assert_image(ds.copy(), subject)
                del ds
                gc.collect()
                assert process.open_files(str(Path(subject.path).parent)) == []
        assert len(POOL) == 0

    def test_pickles(self, driver: type[FormatSource], subjects: list[Subject], tmp_path: Path) -> None:
        """Pickled sources and Datasets are small and equal, and compute in another process."""
        given: list[Any] = []
        for subject in subjects:
            with about(subject):
                source = driver(subject.path)
                again = pickle.loads(pickle.dumps(source))
                assert again == source
                assert hash(again) == hash(source)
                assert again.yaml() == source.yaml()
                given += [source, source.to_dask(), source.dataset(chunks=None)]
                for ds in map(pickle.loads, map(pickle.dumps, given[-2:])):
                    assert_image(ds, subject)
        (tmp_path / "given").write_bytes(pickle.dumps(given))
        _, trouble = process.run_module("elsewhere", str(tmp_path / "given"), str(tmp_path / "result"))
        assert not trouble
        for n, values in enumerate(pickle.loads((tmp_path / "result").read_bytes())):
            for name, variable in expected_of(subjects[n // 3]).data_vars.items():
                np.testing.assert_array_equal(values[name_in(values, name)], variable.values)

    # parts

    def test_parts_equal_the_whole(self, driver: type[FormatSource], subjects: list[Subject]) -> None:
        """A region equals that region of the complete image, for any chunks, order of axes, or way of selection."""
        for subject in subjects:
            with about(subject):
                whole = driver(subject.path).read()
                for chunks, key in zip(chunkings(whole), random_parts(whole, 24), strict=False):
                    lazy = driver(subject.path, chunks=chunks).dataset()
                    xr.testing.assert_identical(lazy.isel(key).compute(scheduler="synchronous"), whole.isel(key))
                for key in random_parts(whole, 8):
                    part, expected = driver(subject.path).read_partition(key), whole.isel(key)
                    for coord in expected.coords.values():  # for xarray, colours of channels are no values of channels
                        coord.attrs = attributes_of(coord)
                    xr.testing.assert_identical(part, expected)
                swapped = "".join(reversed(whole.img.axes))
                turned = driver(subject.path, output_axis_order=swapped).read()
                assert_values(turned, whole)
                first = whole.img.axes[0]
                parts = list(driver(subject.path).read_chunked())
                assert [p.sizes.get(first) for p in parts] == [None] * whole.sizes[first]

    def test_threads_agree(self, driver: type[FormatSource], subjects: list[Subject]) -> None:
        """Many concurrent threads read the same pixels as one thread, into views of any layout."""
        for subject in subjects:
            with about(subject):
                whole = driver(subject.path).read()
                variable = next(iter(driver(subject.path).image().variables.values()))
                pixels: Pixels = variable.pixels
                expected = next(iter(whole.data_vars.values())).transpose(*variable.axes).values
                keys = [tuple(k.get(a, slice(None)) for a in variable.axes) for k in random_parts(whole, 40)]

                def read(key: tuple[Any, ...], pixels: Pixels = pixels) -> np.ndarray:
                    part = pixels.select(key)
                    out = np.zeros([2 * n for n in reversed(part.shape)], pixels.dtype).T[
                        (slice(None, None, 2),) * pixels.ndim
                    ]
                    part.read_into(tuple(slice(0, n) for n in part.shape), out)
                    return out

                with ThreadPoolExecutor(8) as pool:
                    for key, found in zip(keys, pool.map(read, keys), strict=True):
                        np.testing.assert_array_equal(found, outer_part(expected, key))

    # plain

    def test_attributes_are_plain(self, driver: type[FormatSource], subjects: list[Subject], tmp_path: Path) -> None:
        """Attributes are JSON, name the file and its axes, and survive YAML, Zarr and NetCDF."""
        for n, subject in enumerate(subjects):
            with about(subject):
                ds = driver(subject.path).read()
                assert json.loads(json.dumps(ds.attrs)) == ds.attrs
                assert isinstance(json.loads(ds.attrs["fileheader"]), dict)
                assert set(FILE_ATTRS) <= set(ds.attrs)
                assert (ds.attrs["uri"], ds.attrs["driver"]) == (subject.path, driver.name)
                assert ds.attrs["scene"] in ds.attrs["scenes"]
                assert sorted(ds.attrs["original_axes"]) == sorted(ds.img.axes)
                assert_yaml(driver, subject, tmp_path / f"{n}.yaml")
                assert_attributes_survive(ds, tmp_path / str(n))

    def test_scenes(self, driver: type[FormatSource], subjects: list[Subject]) -> None:
        """Each scene opens by its number and, if names are unique, by its name."""
        for subject in subjects:
            with about(subject):
                names = driver(subject.path).dataset().attrs["scenes"]
                if "scene" not in inspect.signature(driver).parameters:
                    assert len(names) == 1
                    continue
                for n, name in enumerate(names):
                    by_number = driver(subject.path, scene=n).dataset()
                    assert by_number.attrs["scene"] == name
                    if names.count(name) == 1 and name != "all":
                        assert_values(driver(subject.path, scene=name).read(), by_number)
                with pytest.raises(LookupError, match="no scene"):
                    driver(subject.path, scene="no such scene").dataset()

    def test_describing_changes_nothing(self, driver: type[FormatSource], subjects: list[Subject]) -> None:
        """`discover` changes neither the source nor the caller's arguments."""
        for subject in subjects[:1]:
            given = {"note": {"kept": [1, 2]}}
            source, twin = driver(subject.path, metadata=given), driver(subject.path, metadata=given)
            before = (source.yaml(), hash(source))
            info = source.discover()
            assert given == {"note": {"kept": [1, 2]}}
            assert source == twin
            assert (source.yaml(), hash(source)) == before
            assert info["metadata"]["note"] == {"kept": [1, 2]}
            assert tuple(info["shape"]) == next(iter(source.dataset().data_vars.values())).shape

    # fails well, streams

    def test_fails_well(self, driver: type[FormatSource], subjects: list[Subject]) -> None:
        """Damaged and foreign files are refused in time, or give their first planes with a warning, but no other
        image."""
        share = str(max(40, self.damages // len(subjects)))
        arguments = (process.spec_of(driver), share, "1", *[s.path for s in subjects])
        lines, ending = process.run_module("damage", *arguments, timeout=10 * SECONDS + self.damages)
        tried = [line["case"] for line in lines if "case" in line]
        results = [line["trouble"] for line in lines if "trouble" in line]
        if ending:
            tried, results = (
                [*tried, "before the first case"][: len(results) + 1],
                [*results, f"hang or crash: {ending}"],
            )
        assert len(tried) == len(results) >= min(self.damages, 40)
        troubles = [f"{case}: {trouble}" for case, trouble in zip(tried, results, strict=True) if trouble]
        assert not troubles, f"{len(troubles)} of the damaged files:\n" + "\n".join(troubles[:30])

    def test_streams(self, driver: type[FormatSource], subjects: list[Subject], tmp_path: Path) -> None:
        """An image larger than its memory limit is written, opened and read plane by plane; its graph is small."""
        if process.peak_memory() is None:
            pytest.skip("this platform does not report peaks of memory")
        written = [s for s in subjects if s.written]
        if not written:
            pytest.skip("it does not write")
        paths = [str(tmp_path / Path(s.path).name) for s in written]
        lines, trouble = process.run_module("streaming", process.spec_of(driver), *paths, timeout=600)
        assert not trouble, trouble
        for subject, cost in zip(written, lines, strict=True):
            with about(subject):
                assert cost.get("refused") or self._assert_cheap(cost)  # refused: a format of single planes

    def _assert_cheap(self, cost: dict[str, Any]) -> bool:
        assert cost["equal"]
        for step in ("write", "open", "read"):
            assert cost[step] < self.extra_memory, f"to {step} {cost['nbytes'] >> 20} MiB took {cost[step] >> 20} MiB"
        assert cost["open"] < 64 * _MIB
        assert cost["open_bytes"] < 4 * _MIB, "to open the image reads pixels"
        assert cost["crop_bytes"] < cost["nbytes"] / 2  # animations are read from their beginning
        assert cost["chunks"] <= cost["nbytes"] / _MIB
        assert cost["tasks"] <= 2 * cost["chunks"] + 4
        assert cost["task_bytes"] < 4096
        return True

    def test_shows_no_people(self, driver: type[FormatSource], subjects: list[Subject]) -> None:
        """The public part of a header names neither people nor local paths, whatever the file contains."""
        show = driver.format.public_header
        for subject in subjects:
            with about(subject):
                with driver(subject.path) as source:
                    header = json.loads(source.dataset(chunks=None).attrs["fileheader"])
                shown = show(header)
                assert show(shown) == shown
                assert str(Path(subject.path).parent) not in json.dumps(shown, allow_nan=False)
                text = json.dumps(show(with_people(header)))
                assert PERSON not in text, f"names of people are shown: {text[:2000]}"

    def test_graph_is_small(self, driver: type[FormatSource], subjects: list[Subject]) -> None:
        """A chunk has one or two tasks, which contain names instead of data."""
        for subject in subjects:
            with about(subject):
                for chunks in ("auto", 3):
                    ds = driver(subject.path, chunks=chunks).dataset()
                    first = next(iter(ds.data_vars.values()))
                    graph = dict(first.__dask_graph__())
                    assert len(graph) <= 2 * first.data.npartitions + 2
                    assert max(len(pickle.dumps(task)) for task in graph.values()) < 4096
