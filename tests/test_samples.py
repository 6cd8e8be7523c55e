"""The catalog of samples: an entry for every driver, opened in every way, from the checkout and as it is installed."""

from __future__ import annotations

import shutil
import tomllib
from pathlib import Path

import intake
import make_samples
import numpy as np
import pytest

import intake_img
from intake_img.catalog import validate
from intake_img.create.examples import catalog_path
from intake_img.doors.cli import main
from intake_img.formats.registry import formats

pytestmark = pytest.mark.every_case

ROOT = Path(__file__).resolve().parent.parent
NAMES = make_samples.own_drivers()


@pytest.fixture(scope="module", params=["checkout", "installed"])
def path(request, tmp_path_factory):
    """The catalog in the checkout, and as the wheel holds it."""
    if request.param == "checkout":
        return ROOT / "catalogs" / "samples.yml"
    wheel = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]
    assert wheel["force-include"]["catalogs"] == "intake_img/catalogs"
    folder = tmp_path_factory.mktemp("site") / "intake_img" / "catalogs"
    shutil.copytree(ROOT / "catalogs", folder)
    return folder / "samples.yml"


def expected(name):
    if name in make_samples.CONTENT:
        return make_samples.CONTENT[name]()
    return None


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("opened", ["intake", "strict"])
def test_every_driver_has_a_sample(path, name, opened, tmp_path):
    catalog = intake.open_catalog(str(path)) if opened == "intake" else intake_img.open_catalog(path)
    assert name in list(catalog), (
        f"catalogs/samples.yml has no entry for the driver {name!r}: run 'python tests/make_samples.py', and add one"
    )
    ds = catalog[name].to_dask()
    wanted = expected(name)
    if wanted is None:
        _, wanted = formats()[name].sample(str(tmp_path))
    assert catalog[name].description or opened == "strict"
    for variable in wanted.data_vars:
        known = wanted[variable].transpose(*ds[variable].dims)
        assert ds[variable].dtype == known.dtype.newbyteorder("=")
        assert np.array_equal(ds[variable], known)
    assert set(ds.data_vars) == set(wanted.data_vars)
    assert ds.img.channels is None or [str(c) for c in wanted["c"].values.ravel()] == ds.img.channels
    if name in make_samples.CONTENT:
        assert {a: ds.img.spacing[a] for a in "yx"} == {"y": 0.25, "x": 0.25}
        assert {ds.img.units[a] for a in "yx"} == {"µm"}
    ds.close()


def test_the_catalog_holds_nothing_else():
    assert set(intake_img.open_catalog(ROOT / "catalogs" / "samples.yml")) == set(NAMES)
    used = (ROOT / "catalogs" / "samples.yml").read_text()
    for file in (ROOT / "catalogs" / "samples").iterdir():
        assert f"samples/{file.name}" in used


def test_samples_are_small():
    files = [f for f in (ROOT / "catalogs" / "samples").rglob("*") if f.is_file()]
    assert sum(f.stat().st_size for f in files) < 400_000


def test_it_is_found_where_it_is():
    assert catalog_path() == ROOT / "catalogs" / "samples.yml"
    with pytest.raises(FileNotFoundError, match=r"nothing\.yml"):
        catalog_path("nothing.yml")


def test_on_the_command_line(path, capsys):
    assert main(["validate", str(path)]) == 0
    assert main(["list", str(path)]) == 0
    shown = capsys.readouterr().out
    assert all(name in shown for name in NAMES)
    assert not validate(path)


@pytest.mark.parametrize("name", ["tif", "npy", "binary", "imageio", "directory", "filepattern"])
def test_making_them_anew_gives_the_same(tmp_path, name):
    make_samples.make(name, tmp_path)
    made = [f.relative_to(tmp_path) for f in tmp_path.rglob("*") if f.is_file()]
    assert made
    for file in made:
        shipped = ROOT / "catalogs" / "samples" / file
        if name in ("npy", "binary"):
            assert (tmp_path / file).read_bytes() == shipped.read_bytes()
        else:
            with intake_img.imload(tmp_path / file) as ours, intake_img.imload(shipped) as theirs:
                assert ours.drop_attrs().equals(theirs.drop_attrs())
