"""A tiny SDT for the conformance suite: one histogram of an image, with the headers of sdtfile."""

from __future__ import annotations

import os

import numpy as np
import xarray as xr

__all__ = ["write_sample"]


def write_sample(folder: str) -> tuple[str, xr.Dataset]:
    """Write photon delays of 5 x 6 pixels in 8 bins; see `Format.sample`."""
    from sdtfile import sdtfile

    values = np.arange(5 * 6 * 8, dtype="<u2").reshape(5, 6, 8)
    info = b"*IDENTIFICATION\r\n  ID : SPC Setup & Data File\r\n*END\r\n"
    measured = np.zeros(1, sdtfile.MEASURE_INFO)
    for name, value in {"tac_r": 8e-9, "tac_g": 1, "adc_re": 8, "scan_x": 6, "scan_y": 5}.items():
        measured[name] = value
    block, header = np.zeros(1, sdtfile.BLOCK_HEADER), np.zeros(1, sdtfile.FILE_HEADER)
    places = np.cumsum([header.nbytes, len(info), measured.nbytes, block.nbytes, values.nbytes]).tolist()
    facts = dict(zip(("info_offs", "meas_desc_block_offs", "data_block_offs"), places, strict=False))
    facts |= {"revision": 15, "info_length": len(info), "no_of_data_blocks": 1, "no_of_meas_desc_blocks": 1}
    facts |= {"meas_desc_block_length": measured.nbytes, "header_valid": 0x5555, "chksum": 0x55AA}
    for name, value in facts.items():
        header[name] = value
    block["data_offs"], block["next_block_offs"], block["block_length"] = places[3], places[4], values.nbytes
    path = os.path.join(folder, "sample.sdt")
    with open(path, "wb") as stream:
        stream.write(header.tobytes() + info + measured.tobytes() + block.tobytes() + values.tobytes())
    coords = {"h": ("h", 1.0 * np.arange(8), {"units": "ns", "spacing": 1.0})}
    return path, xr.Dataset({"image": (tuple("yxh"), values)}, coords)
