"""The front door: public names, what an import costs, and the direction in which the package imports itself."""

from __future__ import annotations

import importlib
import pkgutil
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import intake_img
from intake_img import errors

PACKAGE = Path(intake_img.__file__).parent
ROOT = PACKAGE.parent
COMMON = {
    "arguments",
    "base",
    "chunked",
    "faults",
    "fields",
    "foreign",
    "format_source",
    "h5",
    "options",
    "palettes",
    "probe",
    "reading",
    "registry",
    "samples",
    "source",
    "volumes",
}
HEAVY = {
    "PIL",
    "aiohttp",
    "czifile",
    "dask",
    "distributed",
    "imagecodecs",
    "imageio",
    "jinja2",
    "matplotlib",
    "netCDF4",
    "pylibCZIrw",
    "pytest",
    "s3fs",
    "scipy",
    "skimage",
    "tifffile",
    "tqdm",
    "zarr",
}


# public names


def test_the_front_door_is_narrow():
    assert len(set(intake_img.__all__)) == len(intake_img.__all__) <= 13
    assert set(intake_img.__all__) >= {"ImageSource", "__version__", "autodetect", "imload", "imsave"}
    for name in intake_img.__all__:
        assert getattr(intake_img, name) is not None
    public = {n for n, v in vars(intake_img).items() if not n.startswith("_") and not _is_module(v)}
    assert public == {n for n in intake_img.__all__ if not n.startswith("_")}


def _is_module(value):
    return type(value).__name__ == "module"


def _modules():
    for info in pkgutil.walk_packages([str(PACKAGE)], "intake_img."):
        if "__main__" not in info.name:
            yield info.name


@pytest.mark.parametrize("name", sorted(_modules()))
def test_every_module_has_a_docstring_and_keeps_its_promises(name):
    module = importlib.import_module(name)
    assert module.__doc__
    for public in getattr(module, "__all__", []):
        assert hasattr(module, public), f"{name}.__all__ names {public}, which it lacks"


def test_the_version_is_that_of_the_distribution():
    import importlib.metadata

    assert intake_img.__version__ == importlib.metadata.version("intake_img")


def test_the_package_says_that_it_is_typed():
    assert (PACKAGE / "py.typed").exists()


# errors


def test_errors_are_a_family_and_what_one_expects():
    builtin = {
        "FormatError": ValueError,
        "UnknownFormatError": ValueError,
        "AxesError": ValueError,
        "UnitsError": ValueError,
        "SceneError": LookupError,
        "CannotWriteError": ValueError,
        "CatalogError": ValueError,
        "MissingExtraError": ImportError,
        "SourceChangedError": OSError,
        "RemoteError": ConnectionError,
        "TargetExistsError": FileExistsError,
        "TooLargeError": MemoryError,
    }
    assert set(builtin) | {"IntakeImgError"} == set(errors.__all__)
    for name, kind in builtin.items():
        cls = getattr(errors, name)
        assert issubclass(cls, errors.IntakeImgError)
        assert issubclass(cls, kind)
        assert re.search(rf"{name}\b", errors.__doc__)


def test_errors_pickle():
    import pickle

    missing = errors.MissingExtraError("tifffile", "tif", "reading TIFF")
    assert str(pickle.loads(pickle.dumps(missing))) == str(missing)
    for name in set(errors.__all__) - {"MissingExtraError"}:
        cls = getattr(errors, name)
        assert str(pickle.loads(pickle.dumps(cls("what happened")))) == "what happened"
        assert str(cls.__new__(cls, "what happened")) == "what happened"  # as dask's workers rebuild it


# what an import costs


def _python(code):
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    return done.stdout.split()


def test_a_bare_import_loads_nothing_heavy():
    loaded = set(_python("import sys, intake_img; print(*sys.modules)"))
    assert not loaded & HEAVY
    rooms = {m.split(".")[2] for m in loaded if m.startswith("intake_img.formats.")}
    assert rooms <= COMMON
    assert not [m for m in loaded if m.startswith("intake_img.testing")]


def test_drivers_load_their_libraries_when_they_are_used():
    loaded = set(_python("import sys, intake_img.formats.registry as d; d.formats(); print(*sys.modules)"))
    assert {f"intake_img.formats.{n}" for n in ("npy", "tif.driver", "omezarr.driver", "czi.driver")} <= loaded
    assert "intake_img.formats.imageio.driver" in loaded
    assert not loaded & HEAVY


def test_intake_alone_knows_nothing_of_us():
    assert not [m for m in _python("import sys, intake; print(*sys.modules)") if m.startswith("intake_img")]


# the direction of imports


def _lint(folder):
    command = [sys.executable, "-c", "from importlinter.cli import lint_imports_command as c; c()", "--no-cache"]
    return subprocess.run(
        command,
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env={"PYTHONPATH": str(folder), "PATH": "/usr/bin:/bin"},
    )


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    if not (ROOT / "pyproject.toml").exists():
        pytest.skip("the package is installed without its pyproject.toml")
    pytest.importorskip("importlinter")
    folder = tmp_path_factory.mktemp("copy")
    shutil.copy(ROOT / "pyproject.toml", folder)
    shutil.copytree(PACKAGE, folder / "intake_img", ignore=shutil.ignore_patterns("__pycache__"))
    return folder


def test_imports_point_one_way(copy):
    done = _lint(copy)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 broken" in done.stdout


@pytest.mark.parametrize(
    ("module", "line"),
    [
        ("model/pixels.py", "from intake_img.formats.source import ImageSource"),
        ("formats/npy.py", "from intake_img.io import imsave"),
        ("formats/npy.py", "from intake_img.formats.tif.driver import TifSource"),
        ("errors.py", "import intake_img.model.axes"),
        ("model/image.py", "import intake_img"),
        ("kernels/__init__.py", "from intake_img.model.axes import CANONICAL"),
    ],
)
def test_an_import_in_the_wrong_direction_is_noticed(copy, module, line):
    path = copy / "intake_img" / module
    before = path.read_text() if path.exists() else None
    path.parent.mkdir(exist_ok=True)
    path.write_text((before or "") + f"\n\ndef late():\n    {line}\n")
    try:
        done = _lint(copy)
    finally:
        path.write_text(before) if before is not None else path.unlink()
    assert done.returncode == 1, done.stdout + done.stderr
    assert "BROKEN" in done.stdout


def test_every_driver_is_under_contract(copy):
    text = (copy / "pyproject.toml").read_text()
    modules = {p.stem for p in (PACKAGE / "formats").iterdir() if not p.stem.startswith("_")}
    formats = modules - COMMON
    assert formats == set(re.findall(r'"intake_img\.formats\.(\w+)",', text))
    assert formats == set(re.findall(r'= "intake_img\.formats\.(\w+)(?:\.driver)?:', text)) - {"registry"}


def test_every_module_has_its_layer(copy):
    import tomllib

    contracts = tomllib.loads((copy / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    layers = set(re.findall(r"\w+", " ".join(contracts[0]["layers"])))
    found = {p.stem for p in PACKAGE.iterdir() if p.suffix == ".py" or (p / "__init__.py").exists()} - {"__init__"}
    missing = found - layers
    assert not missing, "modules that no layer of the import contract names"
