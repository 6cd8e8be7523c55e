"""Matches are the optimum that their method names, globally, per time point; databases give back what went in."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import textwrap
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.optimize import linear_sum_assignment
from thoroughness import examples

import intake_img  # noqa: F401
from intake_img.kernels import matching, spatial

pytestmark = pytest.mark.thorough

FILES = ("match_n200_s1", "match_n200_s2", "match_n1000_s4", "match_n2000_s6")
METHODS = {
    "gated": "pairs_truncated",
    "max_pairs": "pairs_maxpairs",
    "greedy": "pairs_greedy",
    "assign_then_cut": "pairs_magmap",
}


def scene(shape=(10, 100, 100), spacing=None, channels=("A", "B"), t=None):
    """An image of zeros, as large as asked for, with names and spacing."""
    axes = "zyx"
    coords = {"c": list(channels)}
    for a, n in zip(axes, shape, strict=True):
        if spacing:
            coords[a] = (a, np.arange(n) * spacing[a], {"units": "µm", "spacing": spacing[a]})
    dims, sizes = ("c", *axes), (len(channels), *shape)
    if t is not None:
        dims, sizes = ("t", *dims), (t, *sizes)
    return xr.Dataset({"image": (dims, np.broadcast_to(np.uint8(0), sizes))}, coords=coords)


def blobs_of(**channels):
    frames = [pd.DataFrame(p, columns=["z", "y", "x"]).assign(channel=c) for c, p in channels.items()]
    return pd.concat(frames, ignore_index=True).rename_axis("blob_id").reset_index()


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("method", METHODS)
def test_every_known_matching(name, method, expected):
    known = np.load(expected / "coloc" / f"{name}.npz")
    blobs = blobs_of(A=known["A"], B=known["B"])
    found = scene().img.coloc.match(blobs, dict(zip("zyx", known["tol"], strict=True)), method=method)
    pairs = found[["blob1_id", "blob2_id"]].to_numpy() - [0, len(known["A"])]
    want = known[METHODS[method]]
    order = np.lexsort((want[:, 1], want[:, 0]))
    assert np.array_equal(pairs, want[order])
    scaled = found["distance_scaled"] * known["tol"].max()  # magmap's distance: in units of the largest tolerance
    if method == "assign_then_cut":
        np.testing.assert_allclose(scaled, known["dist_magmap"][order], rtol=1e-12)
    if method == "gated":
        unmatched = len(known["A"]) - len(pairs)
        # the file counts every blob of A, paired or not, at most at the tolerance
        assert found["distance_scaled"].sum() + unmatched <= len(known["A"])
    if method == "max_pairs":
        np.testing.assert_allclose(scaled.sum() / known["tol"].max(), known["cost_maxpairs"], rtol=1e-9)
    assert (found["distance_scaled"] < 1).all()


def brute(a, b, tolerance, unpaired):
    """Dense optimum: an unpaired point costs as much as `unpaired`."""
    d = np.sqrt((((a[:, None] - b[None]) / tolerance) ** 2).sum(-1))  # a distance equal to the tolerance is exactly 1
    cost = np.where(d < 1, d - unpaired, 0.0)
    i, j = linear_sum_assignment(cost)
    return cost[i, j].sum()


@given(
    hnp.arrays(np.int64, st.tuples(st.integers(0, 8), st.just(2)), elements=st.integers(0, 9)),
    hnp.arrays(np.int64, st.tuples(st.integers(0, 8), st.just(2)), elements=st.integers(0, 9)),
    st.tuples(st.integers(1, 5), st.integers(1, 5)),
    st.booleans(),
)
@examples(60)
def test_sparse_optimum_equals_dense(a, b, tolerance, small):
    """With the threshold of density at 0, every component takes the sparse way."""
    a, b, tolerance = a.astype(float), b.astype(float), np.array(tolerance, float)
    dense, matching._DENSE = matching._DENSE, matching._DENSE if small else 0
    try:
        for method, unpaired in (("gated", 1), ("max_pairs", 20)):
            i, j, d = matching.match(a, b, tolerance, method)
            assert len(set(i)) == len(i)
            assert len(set(j)) == len(j)
            assert (d < 1).all()
            assert (d - unpaired).sum() == pytest.approx(brute(a, b, tolerance, unpaired))
    finally:
        matching._DENSE = dense


@given(hnp.arrays(np.float64, (12, 3), elements=st.floats(0, 10)), st.integers(0, 11))
@examples(50)
def test_sides_are_symmetric(points, cut):
    a, b = points[:cut], points[cut:]
    tolerance = np.array([1.0, 2.0, 3.0])
    for method in ("gated", "max_pairs"):
        one, other = matching.match(a, b, tolerance, method), matching.match(b, a, tolerance, method)
        assert len(one[0]) == len(other[0])
        assert one[2].sum() == pytest.approx(other[2].sum())


def test_coincident_blobs_match_and_the_tolerance_itself_does_not():
    blobs = blobs_of(
        A=[[1, 1, 1], [5, 5, 5], [7, 50, 50], [7, 70, 70]], B=[[1, 1, 1], [5, 5, 10], [9, 50, 50], [7, 74.9, 70]]
    )
    for method in matching.METHODS:
        found = scene().img.coloc.match(blobs, {"z": 2, "y": 5, "x": 5}, method=method)
        assert found[["blob1_id", "blob2_id"]].values.tolist() == [[0, 4], [3, 7]], method
    # the same in physical units, where 1.3 is not a multiple of 0.65 in binary
    ds = scene(spacing={"z": 2.0, "y": 0.65, "x": 0.65})
    blobs = blobs_of(A=[[0, 7 * 0.65, 0], [0, 20 * 0.65, 0]], B=[[0, 5 * 0.65, 0], [0, 21 * 0.65, 0]])
    found = ds.img.coloc.match(blobs, 1.3)
    assert found["blob1_id"].tolist() == [1]
    in_pixels = ds.img.coloc.match(blobs, {"z": 1, "y": 2, "x": 2}, units="px")
    pd.testing.assert_frame_equal(
        pd.DataFrame(found)[["blob1_id", "blob2_id"]], pd.DataFrame(in_pixels)[["blob1_id", "blob2_id"]]
    )


def test_magmap_loses_close_pairs_and_we_do_not():
    """reference 1.3: assignment before the cut drops pairs half a pixel apart, and two coincident blobs."""
    ds = scene()
    close = blobs_of(A=[[0, 0, 0], [0, 0, 4]], B=[[0, 0, 3.5], [0, 0, 100]])
    dev = blobs_of(A=[[0, 0, 0], [1, 0, 0], [2, 0, 0]], B=[[1, 0, 0], [2, 0, 0], [3, 0, 0], [4, 2, 0]])
    assert len(ds.img.coloc.match(close, 1, method="assign_then_cut")) == 0
    assert len(ds.img.coloc.match(close, 1)) == 1
    assert len(ds.img.coloc.match(dev, 1)) == 2


def test_columns_channels_and_time():
    blobs = blobs_of(C=[[0, 0, 0], [0, 9, 9]], A=[[0, 0, 1], [0, 9, 9]], B=[[0, 1, 0], [0, 50, 50]])
    blobs["t"] = [0, 1, 0, 0, 0, 1]
    ds = scene(channels=("A", "B", "C"), t=2)
    found = ds.img.coloc.match(blobs, 3)
    assert found.columns.tolist() == [
        "match_id",
        "t",
        "channel1",
        "channel2",
        "blob1_id",
        "blob2_id",
        "z1",
        "y1",
        "x1",
        "z2",
        "y2",
        "x2",
        "z",
        "y",
        "x",
        "distance",
        "distance_scaled",
    ]
    assert found[["t", "channel1", "channel2", "blob1_id", "blob2_id"]].values.tolist() == [
        [0, "A", "B", 2, 4],
        [0, "A", "C", 2, 0],
        [0, "B", "C", 4, 0],
    ]
    np.testing.assert_allclose(found["distance"], [2**0.5, 1, 1])
    np.testing.assert_allclose(found.mean_coords(), [[0, 0.5, 0.5], [0, 0, 0.5], [0, 0.5, 0]])
    only = ds.img.coloc.match(blobs, 3, channels=["C", "A"])
    assert only[["channel1", "channel2"]].values.tolist() == [["A", "C"]]
    assert only.unmatched[["blob_id", "partner"]].values.tolist() == [[3, "C"], [1, "A"]]
    summary = found.summary().set_index(["channel1", "channel2"])
    assert summary.loc[("A", "B"), "matches"] == 1
    assert summary.loc[("A", "B"), "fraction1"] == 0.5
    moved = only.update_blobs(lambda p: p + np.array([0, 0, 2.0]))
    assert moved["x1"].tolist() == [3]
    assert moved["x"].tolist() == [2.5]
    assert only.blobs(1)["blob_id"].tolist() == [2]
    nobody = ds.img.coloc.match(blobs.iloc[:0], 3)
    assert len(nobody) == 0
    assert nobody.mean_coords().shape == (0, 3)
    assert len(nobody.unmatched) == 0
    one = ds.img.coloc.match(blobs[blobs["channel"] == "A"], 3)
    assert len(one) == 0
    with pytest.raises(ValueError, match="blobs lack the column 'x'"):
        ds.img.coloc.match(blobs.drop(columns="x"), 3)
    with pytest.raises(ValueError, match="expected a finite number above 0"):
        ds.img.coloc.match(blobs, {"z": 0, "y": 1, "x": 1})
    with pytest.raises(ValueError, match="tol lacks the axis 'z'"):
        ds.img.coloc.match(blobs, {"y": 1, "x": 1})
    with pytest.raises(ValueError, match="blob_id 0 occurs twice"):
        ds.img.coloc.match(blobs.assign(blob_id=0), 3)


def test_roi_is_half_open_and_padding_and_blocks_are_magmaps():
    rng = np.random.default_rng(0)
    a = rng.uniform(0, [40, 120, 160], (150, 3))
    b = np.concatenate([a[:80] + rng.normal(0, 0.5, (80, 3)), rng.uniform(0, [40, 120, 160], (70, 3))])
    ds = scene((40, 120, 160))
    blobs = blobs_of(A=a, B=b)
    tol = {"z": 2, "y": 5, "x": 5}
    roi = ds.img.coloc.match(blobs, tol, roi={"z": (0, a[3, 0]), "x": slice(10, None)})
    assert 3 not in roi.source["blob_id"].values
    assert (roi.source["x"] >= 10).all()
    assert (roi.source["z"] < a[3, 0]).all()
    whole = ds.img.coloc.match(blobs, tol)
    padded = ds.img.coloc.match(blobs, tol, inner_padding={"z": 2, "y": 5, "x": 5})
    lost = set(map(tuple, whole[["blob1_id", "blob2_id"]].values)) - set(
        map(tuple, padded[["blob1_id", "blob2_id"]].values)
    )
    assert lost  # both blobs in the outer ring
    none = ds.img.coloc.match(blobs, tol, inner_padding={"z": 0, "y": 0, "x": 0})
    assert len(none) == len(whole)
    blocks = ds.img.coloc.match(blobs, tol, blocks={"z": 20, "y": 40, "x": 40})
    assert blocks["blob1_id"].is_unique
    assert blocks["blob2_id"].is_unique
    assert abs(len(blocks) - len(whole)) < 5
    corner = blobs_of(A=[[2, 2, 2], [20, 60, 80]], B=[[2, 2, 2], [20, 60, 80]])
    assert len(ds.img.coloc.match(corner, tol, inner_padding={"z": 2, "y": 5, "x": 5})) == 1
    assert len(ds.img.coloc.match(corner, tol)) == 2


# statistics in space


def test_nearest():
    blobs = blobs_of(A=[[0, 0, 0], [0, 9, 9]], B=[[0, 0, 3], [0, 9, 10]])
    found = scene().img.coloc.nearest(blobs, "A", "B")
    assert found["nearest_id"].tolist() == [2, 3]
    assert found["distance"].tolist() == [3, 1]
    alone = scene().img.coloc.nearest(blobs.iloc[:2], "A", "B")
    assert np.isinf(alone["distance"]).all()
    assert alone["nearest_id"].isna().all()


def test_cross_k_of_random_points_is_the_volume_of_the_ball():
    rng = np.random.default_rng(0)
    box = np.array([50.0, 60.0, 70.0])
    radii = np.array([2.0, 5.0, 10.0])
    found = [spatial.cross_k(*(rng.uniform(0, box, (400, 3)) for _ in "ab"), radii, box) for _ in range(15)]
    np.testing.assert_allclose((np.mean(found, axis=0) / (4 / 3 * np.pi * radii**3))[1:], 1, rtol=0.03)
    biased = [spatial.cross_k(*(rng.uniform(0, box, (400, 3)) for _ in "ab"), radii, box, "none") for _ in range(5)]
    assert np.mean(biased, axis=0)[2] < 0.9 * 4 / 3 * np.pi * radii[2] ** 3


def test_random_labels_keep_the_number_of_points_of_each_kind():
    """Within a radius that holds all pairs, n * m pairs are counted for every permutation: K is the volume."""
    rng = np.random.default_rng(3)
    box = np.array([5.0, 6.0])
    a, b = rng.uniform(0, box, (7, 2)), rng.uniform(0, box, (11, 2))
    found = spatial.random_labels(a, b, np.array([20.0]), box, 30, 0, "none")
    np.testing.assert_allclose(found, 30.0, rtol=1e-12)
    few = spatial.random_labels(a, b, np.array([1.0]), box, 30, 0, "none")
    assert len(np.unique(few)) > 1


def test_no_points_have_no_statistics():
    box, radii, some, none = np.array([5.0, 6.0]), np.array([1.0, 2.0]), np.ones((3, 2)), np.empty((0, 2))
    for a, b in ((some, none), (none, some), (none, none)):
        assert np.isnan(spatial.cross_k(a, b, radii, box)).all()
        assert spatial.random_labels(a, b, radii, box, 4, 0).shape == (4, 2)
        assert np.isnan(spatial.random_labels(a, b, radii, box, 4, 0)).all()
        distance, row = spatial.nearest(a, b)
        assert (distance.tolist(), row.tolist()) == ([np.inf] * len(a), [-1] * len(a))


def test_cross_k_finds_coupled_points():
    rng = np.random.default_rng(0)
    a = rng.uniform(0, [10, 100, 100], (200, 3))
    free, coupled = rng.uniform(0, [10, 100, 100], (200, 3)), a + rng.normal(0, 0.3, a.shape)
    ds = scene()
    yes = ds.img.coloc.cross_k(blobs_of(A=a, B=coupled), "A", "B", radii=[1.0, 3.0], n=99, seed=1)
    no = ds.img.coloc.cross_k(blobs_of(A=a, B=free), "A", "B", radii=[1.0, 3.0], n=99, seed=1)
    assert (yes.p_value == 0.01).all()
    assert (no.p_value > 0.05).all()
    assert (yes.k > yes.high).all()
    again = ds.img.coloc.cross_k(blobs_of(A=a, B=free), "A", "B", radii=[1.0, 3.0], n=99, seed=1)
    xr.testing.assert_identical(no, again)


def test_cross_k_keeps_times_apart_and_names_them():
    rng = np.random.default_rng(1)
    ds = scene(t=3)
    frames = [blobs_of(A=rng.uniform(0, 10, (20, 3)), B=rng.uniform(0, 10, (30, 3))).assign(t=t) for t in (0, 2)]
    blobs = pd.concat(frames, ignore_index=True).assign(blob_id=np.arange(100))
    found = ds.img.coloc.cross_k(blobs, "A", "B", radii=[2.0, 4.0], n=9, seed=1)
    assert found["t"].values.tolist() == [0, 2]
    each = [ds.img.coloc.cross_k(f.drop(columns="t"), "A", "B", radii=[2.0, 4.0], n=9, seed=1) for f in frames]
    for k, alone in enumerate(each):
        xr.testing.assert_equal(found.isel(t=k).drop_vars("t"), alone)
    split = ds.expand_dims(v=2).transpose("v", "t", "c", "z", "y", "x")
    blobs["v"] = np.where(blobs["t"] == 0, 1, 0)
    two = split.img.coloc.cross_k(blobs, "A", "B", radii=[2.0, 4.0], n=9, seed=1)
    assert sorted(zip(two["v"].values.tolist(), two["t"].values.tolist(), strict=True)) == [(0, 2), (1, 0)]
    np.testing.assert_array_equal(two["k"].sortby("t").values, found["k"].values)
    none = ds.img.coloc.cross_k(blobs[:0], "A", "B", radii=[2.0, 4.0], n=9, seed=1)
    assert none["k"].shape == (0, 2)


# databases


@pytest.fixture
def matched():
    rng = np.random.default_rng(0)
    a = rng.uniform(0, [10, 100, 100], (30, 3))
    blobs = blobs_of(A=a, B=a + 0.3, C=a - 0.2)
    blobs["radius"] = 2.5
    ds = scene(channels=("A", "B", "C"))
    return ds.img.coloc, ds.img.coloc.match(blobs, 2)


def one_of_each(coloc):
    blobs = blobs_of(A=[[1, 1, 1]], B=[[1, 1, 2]], C=[[1, 2, 1]])
    return coloc.match(blobs, 3)


def test_three_channels_in_three_pairs_out_twice_inserted_still_three(matched, tmp_path):
    coloc = matched[0]
    found = one_of_each(coloc)
    for _ in range(2):
        coloc.insert_matches(tmp_path / "a.db", found)
        blobs, back = coloc.select_matches(tmp_path / "a.db")
        assert back[["channel1", "channel2"]].values.tolist() == [["A", "B"], ["A", "C"], ["B", "C"]]
        assert len(blobs) == 3


def check_store(target, coloc, found):
    coloc.insert_matches(target, found, experiment="first")
    coloc.insert_matches(target, one_of_each(coloc), experiment="second")
    blobs, back = coloc.select_matches(target, experiment="first")
    plain = pd.DataFrame(found).drop(columns="match_id")
    pd.testing.assert_frame_equal(pd.DataFrame(back).drop(columns="match_id"), plain, check_dtype=False)
    pd.testing.assert_frame_equal(blobs[found.source.columns], found.source, check_dtype=False)
    assert len(back.unmatched) == len(found.unmatched)
    _, some = coloc.select_matches(target, experiment="first", channels=["C", "A"])
    assert set(zip(some["channel1"], some["channel2"], strict=True)) == {("A", "C")}
    edge = float(found["x1"].iloc[3])
    _, inside = coloc.select_matches(target, experiment="first", roi={"x": (edge, 60), "y": slice(20, None)})
    want = found[(found[["x1", "x2"]].min(axis=1) >= edge) & (found[["x1", "x2"]].max(axis=1) < 60)]
    want = want[want[["y1", "y2"]].min(axis=1) >= 20]
    assert inside["blob1_id"].tolist() == want["blob1_id"].tolist()
    changed = found.source.assign(radius=9.0)
    coloc.insert_matches(target, found, changed, experiment="first")
    blobs, back = coloc.select_matches(target, experiment="first")
    assert (blobs["radius"] == 9).all()
    assert len(back) == len(found)
    _, other = coloc.select_matches(target, experiment="second")
    assert len(other) == 3
    with pytest.raises(KeyError, match="no experiment 'third' in the database; it has 'first', 'second'"):
        coloc.select_matches(target, experiment="third")


def test_sqlite(matched, tmp_path):
    check_store(tmp_path / "a.db", *matched)
    with sqlite3.connect(tmp_path / "a.db") as connection:
        plan = connection.execute("EXPLAIN QUERY PLAN SELECT * FROM blobs WHERE experiment_id = 1 AND x >= 1 AND x < 2")
        assert "INDEX" in plan.fetchone()[3]
    connection.close()


def test_postgresql(matched):
    """Against a real server, started for the test."""
    programs = {
        p: shutil.which(p) or shutil.which(p, path=os.pathsep.join(map(str, Path("/usr/lib/postgresql").glob("*/bin"))))
        for p in ("initdb", "postgres")
    }
    pytest.importorskip("psycopg")
    if None in programs.values():
        pytest.skip("no PostgreSQL server is installed")
    as_user = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []
    if as_user and shutil.which("runuser") is None:
        pytest.skip("a PostgreSQL server does not run as root")
    home = Path(tempfile.mkdtemp())  # pytest's folders are closed to other users
    if as_user:
        shutil.chown(home, "postgres")
    folder, sockets = home / "pg", home
    made = subprocess.run(
        [*as_user, programs["initdb"], "-D", str(folder), "-A", "trust", "-U", "me"], capture_output=True
    )
    if made.returncode:
        pytest.skip(f"initdb does not run here: {made.stderr.decode()[-200:]}")
    server = subprocess.Popen(
        [*as_user, programs["postgres"], "-D", str(folder), "-k", str(sockets), "-c", "listen_addresses=", "-F"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        import time

        for _ in range(100):
            if (sockets / ".s.PGSQL.5432").exists() or server.poll() is not None:
                break
            time.sleep(0.1)
        time.sleep(0.3)
        assert server.poll() is None, "the server ended"
        check_store(f"postgresql+psycopg://me@/postgres?host={sockets}", *matched)
    finally:
        server.terminate()
        server.wait(30)
        shutil.rmtree(home, ignore_errors=True)


def test_a_killed_import_leaves_the_database_as_it_was(matched, tmp_path):
    coloc = matched[0]
    target = tmp_path / "a.db"
    coloc.insert_matches(target, one_of_each(coloc))
    before = target.read_bytes()
    program = textwrap.dedent(f"""
        import os
        import numpy as np, pandas as pd
        from intake_img.accessor.coloc import database
        upsert = database._upsert
        calls = []
        def killed(connection, table, rows, keys):
            upsert(connection, table, rows, keys)
            calls.append(table)
            if len(calls) == 1:
                os._exit(9)
        database._upsert = killed
        blobs = pd.DataFrame({{"blob_id": range(50_000), "channel": "A", "z": 1.0, "y": 1.0, "x": 1.0}})
        database.insert({str(target)!r}, blobs)
    """)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True)
    assert done.returncode == 9, done.stderr
    blobs, back = coloc.select_matches(target)
    assert len(blobs) == 3
    assert len(back) == 3
    assert target.read_bytes() == before


def test_parquet(matched, tmp_path):
    from intake_img.accessor.coloc import database

    _, found = matched
    database.write_parquet(tmp_path / "m.parquet", found)
    pd.testing.assert_frame_equal(database.read_parquet(tmp_path / "m.parquet"), pd.DataFrame(found), check_dtype=False)


MAGMAP = """
CREATE TABLE about (version INTEGER PRIMARY KEY, date DATE);
CREATE TABLE experiments (id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT, date DATE);
CREATE TABLE rois (id INTEGER PRIMARY KEY AUTOINCREMENT, experiment_id INTEGER, series INTEGER, offset_x INTEGER,
    offset_y INTEGER, offset_z INTEGER, size_x INTEGER, size_y INTEGER, size_z INTEGER,
    UNIQUE (experiment_id, series, offset_x, offset_y, offset_z));
CREATE TABLE blobs (id INTEGER PRIMARY KEY AUTOINCREMENT, roi_id INTEGER, x INTEGER, y INTEGER, z INTEGER, radius REAL,
    confirmed INTEGER, truth INTEGER, channel INTEGER, UNIQUE (roi_id, x, y, z, truth, channel));
CREATE TABLE blob_matches (id INTEGER PRIMARY KEY AUTOINCREMENT, roi_id INTEGER, blob1 INTEGER, blob2 INTEGER, dist
REAL);
INSERT INTO about VALUES (4, '2024-01-01');
INSERT INTO experiments (name, date) VALUES ('mouse', '2024-01-02');
INSERT INTO rois (experiment_id, series, offset_x, offset_y, offset_z, size_x, size_y, size_z)
    VALUES (1, 0, 0, 0, 0, 0, 0, 0);
INSERT INTO blobs (roi_id, x, y, z, radius, confirmed, truth, channel) VALUES (1, 10, 20, 5, 2.5, -1, -1, 0),
    (1, 11, 20, 5, 2.5, 1, -1, 1), (1, 40, 20, 5, 2.0, -1, -1, 1);
INSERT INTO blob_matches (roi_id, blob1, blob2, dist) VALUES (1, 1, 2, 1.0);
"""


def test_importer_of_magellanmapper(matched, tmp_path):
    coloc = matched[0]
    with sqlite3.connect(tmp_path / "magmap.db") as connection:
        connection.executescript(MAGMAP)
        # numpy integers bind as bytes
        connection.execute("UPDATE blobs SET x = ? WHERE id = 3", (np.int64(40).tobytes(),))
        connection.commit()
    connection.close()
    found = coloc.from_magmap(tmp_path / "magmap.db", tmp_path / "ours.db")
    blobs, matches = found["mouse"]
    assert blobs[["channel", "z", "y", "x"]].values.tolist() == [[0, 5, 20, 10], [1, 5, 20, 11], [1, 5, 20, 40]]
    assert matches[["channel1", "channel2", "blob1_id", "blob2_id", "distance"]].values.tolist() == [[0, 1, 1, 2, 1]]
    assert len(matches.unmatched) == 1
    again, ours = coloc.select_matches(tmp_path / "ours.db", experiment="mouse")
    assert again["channel"].tolist() == [0, 1, 1]
    assert len(ours) == 1
    (tmp_path / "no.db").write_bytes(b"not a database" * 100)
    with pytest.raises(ValueError, match="cannot be read as a database of MagellanMapper"):
        coloc.from_magmap(tmp_path / "no.db")
    with pytest.raises(FileNotFoundError):
        coloc.from_magmap(tmp_path / "absent.db")
