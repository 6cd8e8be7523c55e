"""The conformance suite itself: it notices each broken law, and a third-party driver joins with one entry point.

(The laws run over the installed drivers from ``intake_img/testing``, which pytest collects beside this folder.)
"""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import broken_drivers
import numpy as np
import pytest
import xarray as xr

import intake_img
from intake_img.errors import CannotWriteError
from intake_img.formats.npy.driver import Npy, NpySource
from intake_img.io import imsave
from intake_img.testing import DriverLaws, assert_same, standard_datasets
from intake_img.testing.datasets import image_of
from intake_img.testing.equality import assert_holds
from intake_img.testing.subjects import Subject, subjects_of

pytestmark = pytest.mark.thorough

LAWS = DriverLaws()
ALONE = {**os.environ, "PYTEST_ADDOPTS": "", "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
"""Environment of a pytest that starts no workers and loads no plug-ins of others."""


@pytest.fixture
def subjects(tmp_path):
    (tmp_path / "subject").mkdir()
    path = tmp_path / "subject" / "a.npy"
    values = np.arange(4 * 30 * 20, dtype="uint16").reshape(4, 30, 20)
    np.save(path, values)
    return [Subject(str(path), xr.Dataset({"image": (("z", "y", "x"), values)}), True)]


class Fewer(DriverLaws):
    damages = 20


@pytest.mark.parametrize(
    ("law", "broken", "words"),
    [
        ("is_lazy", "Eager", "before they are asked for"),
        ("closes", "Leaky", "a.npy"),
        ("forgets", "Leaky", "a.npy"),
        ("parts_equal_the_whole", "OffByOne", None),
        ("threads_agree", "OffByOne", None),
        ("reads_only_the_part", "Greedy", None),
        ("spells_out_its_options", "Vague", "does not spell out its options"),
        ("spells_out_its_options", "Terse", "no line on"),
        ("fails_well", "Credulous", "reads as another image"),
        ("fails_well", "Crashing", "hang or crash"),
        ("fails_well", "Foreign", "KeyError instead of"),
        ("reads_its_sample", "ReadOnly", "needs a sample"),
        ("graph_is_small", "Heavy", None),
    ],
)
def test_a_broken_law_is_noticed(law, broken, words, subjects, tmp_path, monkeypatch):
    test = getattr(Fewer(), f"test_{law}")
    known = {"subjects": subjects, "tmp_path": tmp_path, "monkeypatch": monkeypatch}
    driver = getattr(broken_drivers, broken)
    wanted = {k: known[k] for k in test.__code__.co_varnames[2 : test.__code__.co_argcount]}
    before = set(os.listdir("/proc/self/fd"))
    with pytest.raises(AssertionError, match=words):
        test(driver, **wanted)
    for leaked in set(os.listdir("/proc/self/fd")) - before:
        if broken == "Leaky" and os.path.exists(f"/proc/self/fd/{leaked}"):
            os.close(int(leaked))


def test_lost_coordinates_are_noticed(tmp_path, monkeypatch):
    written = Npy.write

    def forgetful(self, image, path, *, compress=None, progress=None, name=""):
        from dataclasses import replace

        written(self, replace(image, coords={}, spacing={}), path, compress=compress, progress=progress, name=name)

    monkeypatch.setattr(Npy, "write", forgetful)
    with pytest.raises(AssertionError, match="coordinate"):
        LAWS.test_keeps_or_refuses(NpySource, "channels", tmp_path)


def test_a_writer_that_keeps_nothing_is_noticed(tmp_path, monkeypatch):
    def refusing(self, image, path, *, compress=None, progress=None):
        raise CannotWriteError("no")

    monkeypatch.setattr(Npy, "write", refusing)
    with pytest.raises(AssertionError):
        LAWS.test_keeps_something(NpySource, tmp_path)


@pytest.mark.parametrize(
    ("fact", "value"),
    [
        ("equal", False),
        ("write", 10**9),
        ("open", 10**8),
        ("read", 10**9),
        ("open_bytes", 10**8),
        ("crop_bytes", 2 * 10**8),
        ("chunks", 10**5),
        ("tasks", 10**4),
        ("task_bytes", 10**5),
    ],
)
def test_costs_are_limited(fact, value):
    cheap = {
        "equal": True,
        "write": 0,
        "open": 0,
        "read": 0,
        "open_bytes": 0,
        "crop_bytes": 0,
        "chunks": 40,
        "tasks": 40,
        "task_bytes": 600,
        "nbytes": 320 * 2**20,
    }
    LAWS._assert_cheap(cheap)
    with pytest.raises(AssertionError):
        LAWS._assert_cheap({**cheap, fact: value})


def test_standard_datasets_are_small_and_many():
    found = standard_datasets()
    assert len(found) > 40
    assert all(ds.nbytes < 100_000 for ds in found.values())
    for name, again in standard_datasets().items():
        xr.testing.assert_identical(found[name], again)
        again["image" if "image" in again else "segmentation"].values[...] = 0
    assert all(any(v.values.any() for v in ds.data_vars.values()) for ds in found.values() if ds.nbytes > 100)
    assert standard_datasets()["hyperstack"]["image"].values.any(), "a caller changes what the next one gets"


@pytest.mark.parametrize(
    "change",
    [
        lambda ds: ds.assign(image=ds["image"] + 1),
        lambda ds: ds.assign(image=ds["image"].astype("uint32")),
        lambda ds: ds.rename(image="picture"),
        lambda ds: ds.rename(z="t"),
        lambda ds: ds.drop_vars("y"),
        lambda ds: ds.assign_coords(z=("z", [1, 2, 3])),
        lambda ds: ds.assign_coords(y=ds["y"] * 2),
        lambda ds: ds.assign_coords(y=ds["y"].assign_attrs(units="nm")),
        lambda ds: ds.assign_attrs(title="other"),
        lambda ds: ds.assign(image=ds["image"].assign_attrs(kind="labels")),
        lambda ds: ds.assign(image=ds["image"].astype(">u2")),
    ],
)
def test_what_differs_is_not_the_same(change):
    given = image_of("zyx", (3, 6, 5), "uint16", y=(0.1, "µm"), x=(0.1, "µm"))
    assert_same(given.copy(deep=True), given)
    with pytest.raises(AssertionError):
        assert_same(change(given), given)


def test_a_sample_may_know_less_than_is_found():
    found = image_of("zyx", (3, 6, 5), "uint16", y=(0.1, "µm"), x=(0.1, "µm"))
    assert_holds(found, found.drop_vars("y"))
    with pytest.raises(AssertionError):
        assert_holds(found.drop_vars("y"), found)


def test_each_make_of_file_is_a_subject(tmp_path):
    assert [Path(s.path).suffix for s in subjects_of(NpySource, tmp_path)] == [".npy", ".npz"]


# a driver in somebody else's package

DRIVER = '''
    """A format of somebody else: a line of text with the shape, then bytes."""
    import numpy as np, xarray as xr
    from intake_img.plugin import Format, FormatError, Handle, Image, RawArray, source_of

    class AcmeHandle(Handle):
        def __init__(self, file):
            self.bytes = file.open()
            head = self.bytes.ranges([0], [min(self.bytes.size, 40)])[0].partition(b"\\n")[0].split()
            if head[0] != b"ACME" or len(head) != 3:
                raise FormatError(f"{file}: no Acme file")
            self.shape = tuple(map(int, head[1:]))
            if self.bytes.size != 40 + self.shape[0] * self.shape[1] or min(self.shape) < 1:
                raise FormatError(f"{file}: the size is not that of its shape {self.shape}")

        def array(self, address):
            return RawArray(self.bytes, 40, "uint8", self.shape)

        def describe(self, scene, level):
            return Image.single(self.pixels(), "yx")

        def close(self):
            self.bytes.close()

    class Acme(Format):
        """Image in an Acme file."""

        name = "acme"
        title = "Acme text and bytes"
        extensions = (".acme",)
        magic = ((0, b"ACME "),)

        def open(self, file, options):
            return AcmeHandle(file)

        def sample(self, folder):
            values = np.arange(63, dtype="uint8").reshape(7, 9)
            with open(folder + "/a.acme", "wb") as f:
                f.write(b"ACME 7 9\\n".ljust(40) + values.tobytes())
            return folder + "/a.acme", xr.Dataset({"image": (("y", "x"), values)})

    AcmeSource = source_of(Acme())
'''


@pytest.fixture
def foreign(tmp_path):
    """Return a way to run Python where another distribution is installed that declares one driver."""
    dist = tmp_path / "site" / "acme_images-1.0.dist-info"
    dist.mkdir(parents=True)
    (tmp_path / "site" / "acme_images.py").write_text(textwrap.dedent(DRIVER))
    (dist / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: acme-images\nVersion: 1.0\nRequires-Dist: intake-img\n"
    )
    (dist / "entry_points.txt").write_text("[intake.drivers]\nacme = acme_images:AcmeSource\n")
    (dist / "RECORD").write_text("")

    def run(*arguments):
        path = os.pathsep.join([str(tmp_path / "site"), str(Path(intake_img.__file__).parents[1])])
        environment = {**ALONE, "PYTHONPATH": path}
        return subprocess.run(
            [sys.executable, *arguments], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300
        )

    run.module = tmp_path / "site" / "acme_images.py"
    return run


LAWS_OF_ACME = ("-m", "pytest", "--pyargs", "intake_img.testing", "-k", "acme", "-q", "-p", "no:cacheprovider")


def test_a_driver_elsewhere_joins_with_one_entry_point(foreign):
    done = foreign(*LAWS_OF_ACME, "-W", "error", "--strict-markers")
    assert done.returncode == 0, done.stdout + done.stderr
    assert " passed" in done.stdout
    use = """
    import sys, intake, numpy as np, intake_img, acme_images
    path, expected = acme_images.Acme().sample(".")
    for ds in (intake_img.imload(path), intake.open_img(path).read(), intake.open_acme(path).to_dask()):
        assert (ds.image.values == expected.image.values).all() and ds.attrs["driver"] == "acme"
    intake_img.imsave(ds, "b.npz")
    """
    done = foreign("-c", textwrap.dedent(use))
    assert done.returncode == 0, done.stderr


def test_a_driver_elsewhere_has_a_datatype_of_intake_2(foreign):
    use = """
    import sys, intake, intake_img
    from intake.readers import datatypes
    assert "intake_img.formats.registry" not in sys.modules
    import acme_images
    path, expected = acme_images.Acme().sample(".")
    kinds = [datatypes.recommend(p, head=h) for p, h in ((path, True), ("/nowhere/a.acme", False))]
    assert [[k.__name__ for k in found] for found in kinds] == [["acme_file"]] * 2, kinds
    for reader in (intake.auto_pipeline(path, "xarray"), kinds[0][0](path).to_reader("xarray")):
        assert type(reader).__name__ == "ImgReader" and reader.read().attrs["driver"] == "acme"
    catalog = intake.Catalog()
    catalog["img"] = reader
    catalog.to_yaml_file("v2.yml")
    """
    done = foreign("-c", textwrap.dedent(use))
    assert done.returncode == 0, done.stderr
    again = "import intake; print(intake.open_catalog('v2.yml')['img'].read().image.shape)"
    done = foreign("-c", again)  # without an import of ours
    assert done.stdout.strip() == "(7, 9)", done.stderr


def test_a_driver_elsewhere_without_a_sample_fails(foreign):
    code = foreign.module.read_text()
    foreign.module.write_text(code[: code.index("    def sample")] + code[code.index("AcmeSource = ") :])
    done = foreign(*LAWS_OF_ACME)
    assert done.returncode == 1
    assert "needs a sample" in done.stdout


def test_a_driver_that_does_not_import_is_left_out_with_a_warning(foreign):
    foreign.module.write_text("import no_such_library\n")
    done = foreign("-c", "import intake_img.formats.registry as d; print('npy' in d.formats(), 'acme' in d.formats())")
    assert done.stdout.split() == ["True", "False"], done.stderr
    assert "no_such_library" in done.stderr


def test_laws_run_from_ones_own_class(tmp_path):
    (tmp_path / "test_mine.py").write_text(
        textwrap.dedent("""
        from intake_img.formats.npy.driver import NpySource
        from intake_img.testing import DriverLaws
        class TestMine(DriverLaws):
            driver_class = NpySource
    """)
    )
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", "declares or names or lazy or yx", "."],
        cwd=tmp_path,
        env=ALONE,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout


def test_the_suite_writes_with_imsave(tmp_path):
    given = standard_datasets()["hyperstack"]
    imsave(given, tmp_path / "a.npz")
    assert_same(NpySource(str(tmp_path / "a.npz")).dataset(), given)
