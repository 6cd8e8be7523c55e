"""The front door: public names, what an import costs, and the direction in which the package imports itself."""

from __future__ import annotations

import ast
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
    "candidates",
    "chunked",
    "compression",
    "cut_off",
    "faults",
    "fields",
    "foreign",
    "handover",
    "format_source",
    "h5",
    "inflating",
    "n5blocks",
    "options",
    "palettes",
    "photons",
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
    "cv2",
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


def test_type_checkers_see_the_names_that_are_imported_late():
    tree = ast.parse((PACKAGE / "__init__.py").read_text("utf-8"))
    (block,) = [node for node in tree.body if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)]
    seen = {alias.name: f"{node.module}.{alias.name}" for node in block.body for alias in node.names}
    assert set(seen) == set(dir(intake_img)) - {"__version__"}
    for name, place in seen.items():
        assert getattr(importlib.import_module(place.rpartition(".")[0]), name) is getattr(intake_img, name)


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


def _imported(command):
    """Return the modules that a command imports, by Python's own account."""
    done = subprocess.run([sys.executable, "-X", "importtime", *command], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr[-2000:]
    return {line.rpartition("|")[2].strip() for line in done.stderr.splitlines() if line.startswith("import time:")}


@pytest.mark.thorough
def test_importing_the_package_adds_a_handful_of_modules_to_xarray_and_intake():
    code = "import sys, xarray, intake; before = set(sys.modules); import intake_img; print(*set(sys.modules) - before)"
    doors = ("registration", "intake2", "notebooks")
    ours = {"intake_img", "intake_img.doors", *(f"intake_img.doors.{name}" for name in doors)}
    ours |= {"intake_img.storage", "intake_img.storage.locks"}  # the lock of what the readers of Intake 2 remember
    assert set(_python(code)) == ours


@pytest.fixture(params=["module", "script"])
def command(request, tmp_path):
    """Return how to start the command, as ``python -m`` and as pip's script."""
    if request.param == "module":
        return ["-m", "intake_img"]
    script = tmp_path / "intake-img"
    script.write_text("import sys\nfrom intake_img.doors.cli import main\nsys.exit(main())\n")
    return [str(script)]


@pytest.mark.parametrize(("words", "most"), [(["--version"], 130), (["--help"], 200), (["completion", "fish"], 220)])
def test_the_command_parses_its_arguments_before_it_imports_libraries(command, words, most):
    loaded = _imported([*command, *words])
    assert not {m.partition(".")[0] for m in loaded} & (HEAVY | {"numpy", "pandas", "xarray", "intake", "yaml"})
    assert "intake_img.doors.cli.main" in loaded
    assert len(loaded) < most
    if words == ["--version"]:
        assert not [
            m for m in loaded if m.startswith(("intake_img.formats", "intake_img.storage", "intake_img.portal"))
        ]


@pytest.mark.thorough
def test_info_needs_neither_dask_nor_the_accessor(tmp_path):
    import numpy as np
    from PIL import Image

    Image.fromarray(np.zeros((4, 5, 3), "u1")).save(tmp_path / "a.png", dpi=(254, 254))
    loaded = _imported(["-m", "intake_img", "info", str(tmp_path / "a.png")])
    assert not loaded & {"dask.array", "pint", "scipy", "tifffile", "zarr", "matplotlib", "intake_img.accessor.img"}
    assert not [m for m in loaded if m.startswith(("intake_img.accessor.patches", "intake_img.accessor.coloc"))]
    assert "intake_img.formats.tif.write" not in loaded


def test_the_command_collects_no_garbage_while_it_starts(tmp_path):
    script = tmp_path / "intake-img"
    script.write_text(
        "import gc, sys\nfrom intake_img.doors.cli import main\nwas = gc.get_freeze_count()\nmain()\n"
        "print(gc.isenabled(), was, gc.get_freeze_count() > 1000)\n"
    )
    words = [sys.executable, str(script), "list", str(tmp_path / "none.yml")]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60)
    assert done.stdout.split() == ["True", "0", "True"]


def test_the_first_use_of_the_accessor_needs_no_optimizer():
    code = (
        "import sys, numpy, xarray, intake_img; xarray.DataArray(numpy.zeros((2, 3)), dims=['y', 'x']).img\n"
        "print(*sys.modules)"
    )
    loaded = set(_python(code))
    assert "intake_img.accessor.img" in loaded
    assert not loaded & {"scipy.optimize", "scipy.spatial", "skimage", "matplotlib", "zarr"}


def test_the_accessor_is_registered_by_the_import_and_loaded_by_its_first_use(tmp_path):
    script = tmp_path / "of_a_user.py"
    script.write_text(
        "import sys, threading, warnings\n"
        "import xarray as xr, intake_img\n"
        "warnings.simplefilter('error')\n"
        "assert 'img' in dir(xr.Dataset) and 'img' in dir(xr.DataArray)\n"
        "assert 'intake_img.accessor.img' not in sys.modules\n"
        "found, start = [], threading.Barrier(4)\n"
        "def first():\n"
        "    start.wait(20)\n"
        "    found.append(xr.DataArray([[1]], dims=['y', 'x']).img.axes)\n"
        "threads = [threading.Thread(target=first) for _ in range(4)]\n"
        "for t in threads: t.start()\n"
        "for t in threads: t.join(40)\n"
        "assert found == ['yx'] * 4, found\n"
        "from intake_img.accessor import ImgAccessor\n"
        "assert xr.Dataset.img is xr.DataArray.img is ImgAccessor\n"
        "ds = xr.Dataset()\n"
        "assert isinstance(ds.img, ImgAccessor) and ds.img is ds.img\n"
        "import intake\n"
        "assert 'ImgReader' in [r.__name__ for r in intake.readers.readers.recommend("
        "intake.readers.datatypes.TIFF('a.tif'))['importable']]\n"
    )
    subprocess.run([sys.executable, script, "intake-img"], timeout=60, check=True)


def test_folders_are_found_whatever_was_imported_first(command, tmp_path):
    import numpy as np

    for n in range(2):
        np.save(tmp_path / f"t_{n}.npy", np.full((4, 5), n, "u1"))
    done = subprocess.run([sys.executable, *command, "info", tmp_path], capture_output=True, text=True, timeout=60)
    assert "yx 2 × 4 × 5" in done.stdout, done.stderr
    code = "import sys, intake, intake_img; print(*intake.open_img(sys.argv[1]).read().sizes.values())"
    opened = subprocess.run([sys.executable, "-c", code, tmp_path], capture_output=True, text=True, timeout=60)
    assert opened.stdout.split() == ["2", "4", "5"], opened.stderr


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
        ("formats/npy/driver.py", "from intake_img.io import imsave"),
        ("formats/npy/driver.py", "from intake_img.formats.tif.driver import TifSource"),
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
