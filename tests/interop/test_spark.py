"""The bridge to Spark, against a real local one: records are made where they are used, fetched when they are wanted.

Spark needs Java. Where either is missing these tests are skipped, or fail with ``INTAKE_IMG_INTEROP=1``.
"""

from __future__ import annotations

import gc
import os
import shutil
import sys
from pathlib import Path

import dask
import dask.array as da
import numpy as np
import pytest
import xarray as xr

from intake_img import create, from_rdd, imload, imsave
from intake_img.errors import AxesError, FormatError
from intake_img.testing.datasets import image_of

pytestmark = [  # pyspark leaves sockets and pipes to the garbage collector
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning:pyspark"),
]
PAGE = Path(__file__).resolve().parents[2] / "docs" / "how-to" / "spark.md"


@pytest.fixture(scope="module")
def _context():
    """A SparkContext that is made when it is first asked for."""
    made = []

    def get(pyspark):
        if not made:
            if "JAVA_HOME" not in os.environ and shutil.which("java") is None:
                if os.environ.get("INTAKE_IMG_INTEROP") == "1":
                    pytest.fail("INTAKE_IMG_INTEROP=1, but there is no Java: apt-get install openjdk-17-jre-headless")
                pytest.skip("there is no Java")
            os.environ["PYSPARK_PYTHON"] = sys.executable  # not what the PATH names
            conf = pyspark.SparkConf().setMaster("local[1]").setAppName("intake_img")
            settings = {
                "spark.ui.enabled": "false",
                "spark.driver.memory": "600m",
                "spark.driver.host": "127.0.0.1",
                "spark.driver.bindAddress": "127.0.0.1",
                "spark.ui.showConsoleProgress": "false",
                "spark.driver.maxResultSize": "8m",
            }
            for key, value in settings.items():
                conf.set(key, value)
            sc = pyspark.SparkContext(conf=conf)
            sc.setLogLevel("OFF")
            made.append(sc)
        return made[0]

    yield get
    for sc in made:
        sc.stop()
    gc.collect()


@pytest.fixture
def sc(needs, _context):
    return _context(needs("pyspark"))


@pytest.fixture
def file(tmp_path):
    """A file of six images, and what is in it."""
    ds = image_of("tczyx", (6, 2, 3, 20, 30), "uint16", c=["DAPI", "GFP"])
    imsave(ds, tmp_path / "a.ome.tif")
    return tmp_path / "a.ome.tif", ds.image.values


def test_there_and_back(sc, file):
    path, values = file
    with imload(path) as ds:
        rdd = ds.img.to_spark(sc, partitions=3)
        assert rdd.getNumPartitions() == 3
        assert rdd.keys().collect() == [(k,) for k in range(6)]
        back = from_rdd(rdd, axes="czyx")
    assert back.image.dims == tuple("tczyx")
    assert back.image.dtype == "uint16"
    assert "t" not in back.coords
    assert np.array_equal(back.image, values)
    assert np.array_equal(back.image[4, :, 1:, 3:7, ::2].compute(), values[4, :, 1:, 3:7, ::2])


def test_executors_open_the_file_by_its_name(sc, file):
    """What is sent to Spark is names, however large the image is; processes other than this one read the pixels."""
    import pickle

    from pyspark import cloudpickle

    path, values = file
    with imload(path) as ds:
        rdd = ds.img.to_spark(sc)
        opened = {p for p, _ in rdd.map(lambda record: (os.getpid(), record[1].sum())).collect()}
        assert os.getpid() not in opened
        assert len(cloudpickle.dumps(rdd.func)) < 10_000 < values.nbytes
        assert pickle.loads(cloudpickle.dumps(rdd.func)) is not None
    imsave(ds * 0, path, overwrite=True)
    with pytest.raises(Exception, match="changed or replaced"):
        rdd.count()


def test_two_batch_axes(sc, tmp_path):
    ds = image_of("itzyx", (2, 3, 2, 6, 5), "float32")
    imsave(ds, tmp_path / "a.zarr")
    with imload(tmp_path / "a.zarr") as lazy:
        rdd = lazy.img.to_spark(sc)
    found = dict(rdd.collect())
    assert set(found) == set(np.ndindex(2, 3))
    assert all(np.array_equal(found[i, t], ds.image[i, t]) for i, t in found)
    back = from_rdd(rdd)
    assert back.image.dims == tuple("itzyx")
    assert np.array_equal(back.image, ds.image)
    assert from_rdd(rdd, axis=("i", "c"), axes="zyx").image.dims == tuple("iczyx")
    with pytest.raises(AxesError, match="2 letters"):
        from_rdd(rdd, axis="t")


def test_lazy_results_and_arrays(sc, file):
    path, values = file
    with imload(path) as ds:
        lazy = ds.img.gaussian_filter(1)
        wanted = lazy.image.values
        found = dict(lazy.img.to_spark(sc).collect())
    assert all(np.array_equal(found[k,], wanted[k]) for k in range(6))
    memory = xr.Dataset({"image": (tuple("tczyx"), values)})
    found = dict(memory.img.to_spark(sc).collect())
    assert all(np.array_equal(found[k,], values[k]) for k in range(6))
    ((key, one),) = memory.isel(t=2).img.to_spark(sc).collect()
    assert key == (0,)
    assert np.array_equal(one, values[2])


def test_each_chunk_is_read_once_for_all_its_records(sc):
    reads = sc.accumulator(0)

    def note(block):
        reads.add(1)
        return block + np.uint8(1)

    data = da.map_blocks(note, da.zeros((6, 4, 5), "u1", chunks=(3, 4, 5)), dtype="u1", meta=np.empty((0,) * 3, "u1"))
    rdd = xr.Dataset({"image": (tuple("tyx"), data)}).img.to_spark(sc)
    assert rdd.getNumPartitions() == 2
    assert rdd.map(lambda record: int(record[1].sum())).collect() == [20] * 6
    assert reads.value == 2


def test_nothing_is_collected(sc):
    """Eight images of 2 MB each come through a driver that refuses results of more than 8 MB."""
    made = sc.accumulator(0)

    def make(k):
        made.add(1)
        return k, np.full((1024, 1024), k, "u2")

    rdd = sc.parallelize(range(8), 8).map(make)
    with pytest.raises(Exception, match="maxResultSize"):
        rdd.collect()
    before = made.value
    ds = from_rdd(rdd, shape=(1024, 1024), nrecords=8, dtype="u2")
    assert made.value == before  # nothing was evaluated
    sums = ds.image.sum(("y", "x")).compute()
    assert sums.values.tolist() == [k * 2**20 for k in range(8)]
    assert made.value == before + 16  # all once for their keys, and once for their pixels
    assert ds.image[5, :2, :2].values.tolist() == [[5, 5], [5, 5]]
    assert made.value == before + 17  # only the partition that holds it


def test_a_partition_is_a_chunk(sc):
    rdd = sc.parallelize([(k, np.full((4, 5), k)) for k in range(10)], 3)
    assert from_rdd(rdd).image.chunks == ((3, 3, 4), (4,), (5,))
    ds = from_rdd(rdd, shape=(4, 5), nrecords=10, dtype=int)
    assert ds.image.chunks == ((3, 3, 4), (4,), (5,))
    assert ds.image[:, 0, 0].values.tolist() == list(range(10))


def test_a_partition_is_run_no_farther_than_needed(sc):
    made = sc.accumulator(0)

    def make(k):
        made.add(1)
        return k, np.full((4, 5), k, "u1")

    ds = from_rdd(sc.parallelize(range(6), 1).map(make), shape=(4, 5), nrecords=6, dtype="u1")
    assert ds.image[0].values.max() == 0
    assert made.value == 6 + 1  # for the keys, and for the first image
    assert ds.image[1, 2:, 3:].values.tolist() == [[1, 1]] * 2
    assert made.value == 6 + 1 + 2


def test_keys_are_sorted_and_kept(sc):
    rdd = sc.parallelize([(k, np.full((4, 5), k, "i2")) for k in (30, 10, 20)], 2)
    ds = from_rdd(rdd, axis="z")
    assert ds.z.values.tolist() == [10, 20, 30]
    assert ds.image[:, 0, 0].values.tolist() == [10, 20, 30]
    named = from_rdd(rdd.map(lambda record: (f"cell {record[0]}", record[1])), axis="i", name="cells")
    assert named["cells"].sel(i="cell 20").values.max() == 20


@pytest.mark.parametrize(
    ("records", "arguments", "error", "said"),
    [
        ([], {}, ValueError, "no record"),
        ([(0, (4, 5)), (1, (4, 6))], {}, FormatError, "same shape"),
        ([(0, (4, 5)), (0, (4, 5))], {}, FormatError, "twice"),
        ([((0, 0), (4, 5)), ((1, 1), (4, 5))], {}, FormatError, "2 are missing"),
        ([((0, 0), (4, 5)), (1, (4, 5))], {}, FormatError, "different lengths"),
        ([(0, (4, 5))], {"nrecords": 2}, FormatError, "nrecords=2"),
        ([(0, (4, 5))], {"shape": (4, 4)}, FormatError, "shape="),
    ],
)
def test_records_that_make_no_image(sc, records, arguments, error, said):
    rdd = sc.parallelize([(k, np.zeros(shape)) for k, shape in records], 2)
    with pytest.raises(error, match=said):
        from_rdd(rdd, **arguments)


def test_what_was_announced_is_checked_when_it_is_read(sc):
    rdd = sc.parallelize([(k, np.zeros((4, 5))) for k in range(3)], 2)
    ds = from_rdd(rdd, shape=(4, 5), nrecords=4, dtype=float)
    with pytest.raises(FormatError, match="announced"):
        ds.image.values  # noqa: B018


def test_other_processes_cannot_compute_it(sc):
    ds = from_rdd(sc.parallelize([(0, np.zeros((4, 5)))]))
    with pytest.raises(TypeError, match="threads"), dask.config.set(scheduler="processes"):
        ds.image.values  # noqa: B018


def test_it_goes_on_in_spark(sc, file):
    path, values = file
    with imload(path) as ds:
        rdd = ds.img.to_spark(sc).mapValues(lambda image: image.max(axis=1))
        projected = from_rdd(rdd)
        files = projected.img.to_tif(path.parent / "out")
    assert len(files) == 6
    assert np.array_equal(create.from_tif(path.parent / "out").image, values.max(axis=2))


def test_the_page_is_true(sc, tmp_path, monkeypatch):
    import re

    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.M | re.S)
    assert len(blocks) >= 2
    exec("\n".join(blocks), {"sc": sc, "__name__": "__main__"})


# without Spark


def test_what_is_no_spark():
    with pytest.raises(TypeError, match="SparkContext"):
        image_of("tyx", (2, 4, 5), "u1").img.to_spark("local")
    with pytest.raises(TypeError, match="from_list"):
        from_rdd([(0, np.zeros((4, 5)))])
