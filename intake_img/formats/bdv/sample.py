"""A tiny BigDataViewer image for the conformance suite: HDF5 and its XML."""

from __future__ import annotations

import os

import numpy as np
import xarray as xr

__all__ = ["write_sample"]

_SETUPS = "".join(
    f"<ViewSetup><id>{s}</id><size>20 12 3</size><voxelSize><unit>um</unit><size>0.25 0.5 2.0</size></voxelSize>"
    f"<attributes><angle>0</angle><channel>{s}</channel></attributes></ViewSetup>"
    for s in range(2)
)
_SAMPLE = f"""<?xml version="1.0" encoding="UTF-8"?>
<SpimData version="0.2"><BasePath type="relative">.</BasePath><SequenceDescription>
<ImageLoader format="bdv.hdf5"><hdf5 type="relative">sample.h5</hdf5></ImageLoader>
<ViewSetups>{_SETUPS}<Attributes name="channel"><Channel><id>0</id><name>GFP</name></Channel>
<Channel><id>1</id><name>RFP</name></Channel></Attributes></ViewSetups>
<Timepoints type="range"><first>0</first><last>1</last></Timepoints></SequenceDescription>
<ViewRegistrations><ViewRegistration timepoint="0" setup="0"><ViewTransform type="affine">
<affine>1 0 0 5 0 1 0 0 0 0 1 0</affine></ViewTransform><ViewTransform type="affine">
<affine>0.25 0 0 0 0 0.5 0 0 0 0 2 0</affine></ViewTransform></ViewRegistration></ViewRegistrations></SpimData>"""


def write_sample(folder: str) -> tuple[str, xr.Dataset]:
    """Write two time points of two channels on two levels; see `Format.sample`."""
    import h5py

    values = (np.arange(2 * 2 * 3 * 12 * 20, dtype="u2") * 40).reshape(2, 2, 3, 12, 20)
    with h5py.File(os.path.join(folder, "sample.h5"), "w") as f:
        for t, s in np.ndindex(2, 2):
            whole = values[t, s].view("i2")
            for level, data in enumerate((whole, whole[:, ::2, ::2])):
                path = f"t{t:05d}/s{s:02d}/{level}/cells"
                f.create_dataset(path, data=data, chunks=(2, 4, 8), compression="gzip")
        for s in range(2):
            f[f"s{s:02d}/resolutions"] = np.array([[1.0, 1.0, 1.0], [2.0, 2.0, 1.0]])
            f[f"s{s:02d}/subdivisions"] = np.array([[8, 8, 2]] * 2)
    path = os.path.join(folder, "sample.xml")
    with open(path, "w", encoding="utf-8") as stream:
        stream.write(_SAMPLE)
    coords = {
        a: xr.Variable(a, step * np.arange(n), {"units": "µm", "spacing": step})
        for a, n, step in (("z", 3, 2.0), ("y", 12, 0.5), ("x", 20, 0.25))
    }
    return path, xr.Dataset({"image": (tuple("tczyx"), values)}, {**coords, "c": ["GFP", "RFP"]})
