"""Numbers in foreign byte order, as astropy and numpy.fromfile give them, lead to the same results as native ones."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from processing_laws import stack

RNG = np.random.default_rng(0)
VALUES = RNG.integers(0, 255, (3, 2, 9, 10))
LABELS = np.arange(90).reshape(9, 10) // 13
BLOBS = pd.DataFrame({"blob_id": [1, 2], "channel": [0, 1], "t": [0, 0], "y": [3.0, 4.0], "x": [3.0, 5.0]})

CALLS = {
    "gaussian_filter": lambda image, labels: image.img.gaussian_filter(1),
    "threshold": lambda image, labels: image.img.threshold("otsu"),
    "threshold_values": lambda image, labels: image.img.threshold_values("yen"),
    "hysteresis_threshold": lambda image, labels: image.img.hysteresis_threshold("mean", "otsu"),
    "max": lambda image, labels: image.img.max(),
    "max_projection": lambda image, labels: image.img.max_projection("y"),
    "std": lambda image, labels: image.img.std("c"),
    "pyramid": lambda image, labels: image.img.pyramid((2,))["scale1"]["image"],
    "rescale": lambda image, labels: image.img.rescale(0.7, order=3, output_dtype="f8"),
    "normalize": lambda image, labels: image.img.normalize(),
    "subtract an image": lambda image, labels: image.img.subtract(image.isel(t=0)),
    "subtract an array": lambda image, labels: image.img.subtract(image[0].values),
    "relabel": lambda image, labels: labels.img.relabel(),
    "expand_labels": lambda image, labels: labels.img.expand_labels(2),
    "regionprops": lambda image, labels: image.img.regionprops(labels),
    "measure_objects": lambda image, labels: xr.Dataset({"image": image, "labels": labels}).img.measure_objects(),
    "watershed": lambda image, labels: image[0, 0].img.watershed(
        labels.where(labels == 2, 0).astype(labels.dtype), labels
    ),
    "costes": lambda image, labels: image.img.coloc.measure(labels=labels, thresholds="costes").to_array(),
    "significance": lambda image, labels: image.img.coloc.significance(block=2, n=9, mask=labels).to_array(),
    "objects": lambda image, labels: image.img.coloc.objects(labels, labels.shift(x=1, fill_value=0)),
    "blobs": lambda image, labels: image.img.coloc.blobs(BLOBS),
    "patches": lambda image, labels: image.img.patches(4, sample="weighted", n=7, weights=labels).read(slice(None)),
    "stack": lambda image, labels: image.img.stack().extract_patch(1, [0], (-1, 3), (4, 4)),
}


@pytest.mark.parametrize("chunks", [None, {"t": 1, "y": 4}], ids=["memory", "chunks"])
@pytest.mark.parametrize("dtype", ["u2", "i8", "f4"])
@pytest.mark.parametrize("name", CALLS)
def test_results_do_not_depend_on_the_byte_order(name, dtype, chunks):
    found = [
        CALLS[name](
            stack(VALUES.astype(order + dtype), "tcyx", chunks),
            stack(LABELS.astype(order + "i4"), "yx", chunks).rename("labels").assign_attrs(kind="labels"),
        )
        for order in "<>"
    ]
    native, foreign = (one.values if hasattr(one, "values") else np.asarray(one) for one in found)
    np.testing.assert_array_equal(native, foreign)


def test_metadata_and_the_given_array_stay():
    values = VALUES.astype(">u2")
    image = stack(values, "tcyx", c=["A", "B"]).assign_attrs(units="counts")
    image.img.threshold("otsu")
    assert image.img.axes == "tcyx"
    assert image.img.channels == ["A", "B"]
    assert image.values is values
    assert values.dtype == ">u2"
    assert image.img.crop(y=(0, 3)).attrs == {"units": "counts"}
    ds = image.to_dataset().assign(labels=(("y", "x"), LABELS), note=((), "text"))
    assert list(ds.img.gaussian_filter(1)) == ["image", "labels", "note"]
