"""A tiny DICOM series for the conformance suite, written with pydicom."""

from __future__ import annotations

import os

import numpy as np
import xarray as xr

__all__ = ["write_sample"]


def write_sample(folder: str) -> tuple[str, xr.Dataset]:
    """Write the slices of a volume in another order than that of their positions; see `Format.sample`."""
    import pydicom

    values = np.arange(3 * 4 * 5, dtype="<u2").reshape(3, 4, 5)
    for k in (2, 0, 1):
        ds = pydicom.Dataset()
        ds.SOPClassUID, ds.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.4", f"1.2.3.{k}"
        ds.SeriesInstanceUID, ds.Rows, ds.Columns, ds.SamplesPerPixel = "1.2.3", 4, 5, 1
        ds.PhotometricInterpretation, ds.BitsAllocated, ds.BitsStored, ds.HighBit = "MONOCHROME2", 16, 16, 15
        ds.PixelRepresentation, ds.PixelSpacing = 0, [0.5, 0.25]
        ds.ImageOrientationPatient, ds.ImagePositionPatient = [1, 0, 0, 0, 1, 0], [1, 2, 3 + 2 * k]
        ds.PixelData = values[k].tobytes()
        ds.file_meta = pydicom.dataset.FileMetaDataset()
        ds.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
        os.makedirs(f"{folder}/series", exist_ok=True)
        ds.save_as(f"{folder}/series/IM{3 - k}", enforce_file_format=True)
    coords = {
        a: (a, s * np.arange(n), {"units": "mm", "spacing": s})
        for a, s, n in (("z", 2.0, 3), ("y", 0.5, 4), ("x", 0.25, 5))
    }
    return f"{folder}/series", xr.Dataset({"image": (tuple("zyx"), values)}, coords)
