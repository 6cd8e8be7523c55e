"""The bridge to bioio, with a plug-in made here on the classes of bioio-base."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import intake_img.formats.bioio as bridge
from intake_img import imload
from intake_img.errors import FormatError, SceneError, UnknownFormatError
from intake_img.formats.bioio import BioioSource
from intake_img.formats.registry import find_format
from intake_img.storage.files import File

PLUGIN = '''
import datetime

import dask.array as da
import numpy as np
import xarray as xr
from bioio_base import reader, reader_metadata, types


class Reader(reader.Reader):
    """Text files: a number a scene; level k is k + 1 times smaller."""

    def __init__(self, image, fs_kwargs={}, **kwargs):
        self.path = str(image)
        self.numbers = [int(n) for n in open(self.path).read().split()]

    @staticmethod
    def _is_supported_image(fs, path, **kwargs):
        return True

    @property
    def scenes(self):
        return tuple(f"number {n}" for n in self.numbers)

    @property
    def resolution_levels(self):
        return (0, 1)

    def _read_delayed(self):
        side = 12 // (self.current_resolution_level + 1)
        values = np.arange(2 * 3 * side * side, dtype="u2").reshape(1, 2, 3, side, side)
        values = values + np.uint16(self.numbers[self.current_scene_index])
        data = da.from_array(values, chunks=(1, 1, 1, 5, 5))
        return xr.DataArray(data, dims=list("TCZYX"), coords={"C": ["DAPI", "GFP"]})

    def _read_immediate(self):
        return self._read_delayed().compute()

    @property
    def physical_pixel_sizes(self):
        return types.PhysicalPixelSizes(2.0, 0.5, 0.5)

    @property
    def time_interval(self):
        return datetime.timedelta(seconds=3)

    @property
    def dimension_properties(self):
        known = types.DimensionProperty(type="space", unit=types.ureg.micrometer)
        none = types.DimensionProperty(type=None, unit=None)
        return types.DimensionProperties(T=none, C=none, Z=known, Y=known, X=known)


class ReaderMetadata(reader_metadata.ReaderMetadata):
    @staticmethod
    def get_supported_extensions():
        return ["numb", ".tif"]

    @staticmethod
    def get_reader():
        return Reader
'''


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with a file that the plug-in reads; the plug-in is installed, and another that does not import."""
    pytest.importorskip("bioio_base")
    site = tmp_path / "site"
    for name, code in (("bioio_numb", PLUGIN), ("bioio_broken", "raise ImportError('no such codec')")):
        info = site / f"{name}-1.0.dist-info"
        info.mkdir(parents=True)
        (site / f"{name}.py").write_text(textwrap.dedent(code))
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[bioio.readers]\n{name} = {name}\n")
    monkeypatch.syspath_prepend(str(site))
    bridge._plugins.cache_clear()
    (tmp_path / "a.numb").write_text("100 7")
    yield tmp_path
    bridge._plugins.cache_clear()


@pytest.mark.filterwarnings("ignore")  # of pint and others that the classes bring
def test_a_plug_in_reads_what_nobody_claims(plugin: Path) -> None:
    with pytest.warns(UserWarning, match="'bioio_broken' does not import: no such codec"):
        assert find_format(File.parse(plugin / "a.numb")).name == "bioio"
    found = imload(plugin / "a.numb", scene=1)
    assert found.attrs["driver"] == "bioio"
    assert found.attrs["scenes"] == ["number 100", "number 7"]
    assert found["image"].dims == ("t", "c", "z", "y", "x")
    expected = np.arange(2 * 3 * 144, dtype="u2").reshape(1, 2, 3, 12, 12) + 7
    np.testing.assert_array_equal(found["image"].values, expected)
    np.testing.assert_array_equal(found["image"][0, 1, :, 3:9, 2:11].values, expected[0, 1, :, 3:9, 2:11])
    assert found.img.spacing == {"t": 3.0, "z": 2.0, "y": 0.5, "x": 0.5}
    assert found.img.units == {"t": "s", "z": "µm", "y": "µm", "x": "µm"}
    assert found.img.channels == ["DAPI", "GFP"]
    lower = imload(plugin / "a.numb", level=1, chunks=None)  # beside the other scene, which stays what it is
    assert lower["image"].shape == (1, 2, 3, 6, 6)
    assert int(lower["image"].values.min()) == 100
    np.testing.assert_array_equal(found["image"].values, expected)
    with pytest.raises(SceneError, match="has 2 levels"):
        imload(plugin / "a.numb", level=2)
    everything = imload(plugin / "a.numb", scene="all")
    assert everything["image"].sizes["i"] == 2


@pytest.mark.filterwarnings("ignore")
def test_it_claims_nothing(plugin: Path) -> None:
    """A format of ours comes first, by bytes and by name; what plug-ins do not list is refused as before."""
    from intake_img import imsave

    imsave(np.zeros((4, 5), "u1"), plugin / "b.tif")
    assert imload(plugin / "b.tif").attrs["driver"] == "tif"
    (plugin / "c.tif").write_bytes(b"no TIFF")
    with pytest.raises(FormatError, match=r"c\.tif"):
        imload(plugin / "c.tif")
    (plugin / "d.other").write_bytes(b"?")
    with pytest.raises(UnknownFormatError, match=r"d\.other"):
        imload(plugin / "d.other")
    with pytest.raises(FormatError, match=r"plug-ins list \.numb, \.tif"):
        BioioSource(str(plugin / "d.other")).read()
    (plugin / "e.numb").write_text("not a number")
    with pytest.raises(FormatError, match=r"e\.numb"):
        imload(plugin / "e.numb")


def test_without_plug_ins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bridge.importlib.metadata, "entry_points", lambda **_: [])
    bridge._plugins.cache_clear()
    (tmp_path / "a.numb").write_text("1")
    with pytest.raises(FormatError, match="pip install"):
        BioioSource(str(tmp_path / "a.numb")).read()
    bridge._plugins.cache_clear()
