"""Arrays of a dask that plans its graphs as expressions, if this dask can: results equal ordinary arrays."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec

import pytest

SCRIPT = """
import numpy as np, xarray as xr, dask.array as da
from scipy import ndimage
import intake_img

values = np.random.default_rng(1).random((4, 12, 9))
planned = da.from_array(values, chunks=(1, 5, 4))
assert hasattr(planned, "expr")
image = xr.DataArray(planned, dims=list("tyx"), name="image")
whole = xr.DataArray(values, dims=list("tyx"), name="image")
calls = {
    "gaussian_filter": lambda i: i.gaussian_filter(1.5),
    "two": lambda i: i.gaussian_filter(1).img.median_filter(3),
    "map": lambda i: i.map(ndimage.laplace, depth=1),
    "reduce": lambda i: i.reduce(np.add),
    "localcorr": lambda i: i.localcorr(1),
    "map_as_series": lambda i: i.map_as_series(np.mean),
    "label": lambda i: i.gaussian_filter(1).img.label(),
    "pyramid": lambda i: i.pyramid([2])["scale1"]["image"],
    "rescale": lambda i: i.rescale(2),
    "subtract": lambda i: i.subtract(3),
    "subsample": lambda i: i.subsample(2),
    "to_local": lambda i: i.to_local(),
}
import tempfile
with tempfile.TemporaryDirectory() as folder:  # every chunk depends on the whole
    cut = xr.DataArray(da.from_array(values, chunks=(1, 3, 2)), dims=list("tyx"), name="image")
    intake_img.imsave(cut / cut.data.max(), folder + "/a.npy")
    np.testing.assert_allclose(np.load(folder + "/a.npy"), values / values.max())
for name, call in calls.items():
    np.testing.assert_allclose(call(image.img).compute().values, np.asarray(wanted[name]), rtol=1e-12, err_msg=name)
"""


@pytest.mark.skipif(find_spec("dask.array._array_expr") is None, reason="this dask does not plan the graphs of arrays")
def test_planned_arrays_are_processed(tmp_path):
    pytest.importorskip("skimage")
    head, calls = SCRIPT.split("for name")
    record = head.replace("assert hasattr(planned, 'expr')", "").replace('assert hasattr(planned, "expr")\n', "")
    record += f"np.savez({str(tmp_path / 'w.npz')!r}, **{{n: c(whole.img).values for n, c in calls.items()}})\n"
    compare = head + f"wanted = np.load({str(tmp_path / 'w.npz')!r})\nfor name" + calls
    for script, planning in ((record, "False"), (compare, "True")):
        environment = {**os.environ, "DASK_ARRAY__QUERY_PLANNING": planning}
        done = subprocess.run(
            [sys.executable, "-c", script], env=environment, capture_output=True, text=True, timeout=120
        )
        assert done.returncode == 0, done.stderr[-3000:]
