"""Write DICOM: multi-frame secondary capture (PS3.3, A.8.2 to A.8.5), frames in C order."""

from __future__ import annotations

import datetime
import json
import math
import os
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from intake_img.errors import CannotWriteError
from intake_img.formats.compression import none_of
from intake_img.formats.dicom.describe import CREATOR, RECORD, sealed_facts
from intake_img.model.affine import Affine
from intake_img.model.axes import RGB
from intake_img.model.image import Image
from intake_img.model.packages import imported
from intake_img.model.pixels import Pixels
from intake_img.model.record import seal_of
from intake_img.model.units import convert
from intake_img.storage.streams import iter_planes

__all__ = ["write_dicom"]

_CLASSES = {1: "1.2.840.10008.5.1.4.1.1.7.1", 8: "1.2.840.10008.5.1.4.1.1.7.2", 16: "1.2.840.10008.5.1.4.1.1.7.3"}
_COLOUR = "1.2.840.10008.5.1.4.1.1.7.4"
_MOST = 2**32 - 2  # bytes of pixels
_SIDE = 2**16 - 1


def write_dicom(image: Image, path: str, compress: Any, progress: Callable[[int], None] | None) -> None:
    """Write an image; see `Dicom.write`."""
    pydicom = imported("pydicom", "dicom", "writing DICOM")
    none_of(compress, "DICOM files are written uncompressed")
    pixels, axes, colour = _arranged(image)
    signed = pixels.dtype == np.int16
    ds = _common(pydicom, pixels, colour, signed)
    ds.update(_geometry(pydicom, image, pixels, axes))
    block = ds.private_block(RECORD[0], CREATOR, create=True)
    block.add_new(RECORD[1], "UT", json.dumps({"seal": seal_of(*sealed_facts(ds)), **image.record(list(axes))}))
    _write(pydicom, ds, pixels, path, colour, signed, progress)


def _arranged(image: Image) -> tuple[Pixels, str, bool]:
    """Return the pixels with y and x, or y, x and colours, last; the axes; and whether there are colours."""
    v = image.only
    if "y" not in v.axes or "x" not in v.axes:
        raise CannotWriteError(f"DICOM stores planes of y and x, but the image has {''.join(v.axes)!r}")
    colour = image.channels in (list(RGB[:3]), ["R", "G", "B"]) and v.pixels.dtype == np.uint8 and "c" in v.axes
    last = ["y", "x", *(["c"] if colour else [])]
    order = [v.axes.index(a) for a in v.axes if a not in last] + [v.axes.index(a) for a in last]
    if v.pixels.dtype not in (np.dtype(t) for t in ("?", "u1", "u2", "i2")):
        raise CannotWriteError(
            f"DICOM secondary captures store bool, uint8, uint16 and int16, not {v.pixels.dtype}: convert it "
            "(astype, ds.img.normalize), or save as .nii.gz, .nrrd or .ome.zarr"
        )
    if 0 in v.pixels.shape:
        raise CannotWriteError(f"DICOM needs at least one pixel, but the image has the shape {v.pixels.shape}")
    pixels = v.pixels.transpose(order)
    if max(pixels.shape[order.index(v.axes.index(a))] for a in "yx") > _SIDE or pixels.nbytes > _MOST:
        raise CannotWriteError(
            f"{pixels.shape} {pixels.dtype} is too large for DICOM: at most {_SIDE} pixels a side and 4 GiB in all"
        )
    return pixels, "".join(v.axes[k] for k in order), colour


def _common(pydicom: Any, pixels: Pixels, colour: bool, signed: bool) -> Any:
    ds, now = pydicom.Dataset(), datetime.datetime.now()
    rows, columns = pixels.shape[-3:-1] if colour else pixels.shape[-2:]
    bits = 1 if pixels.dtype == bool else 8 * pixels.dtype.itemsize
    ds.SOPClassUID = _COLOUR if colour else _CLASSES[bits]
    for name in ("SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID"):
        setattr(ds, name, pydicom.uid.generate_uid())
    for name in (
        "PatientName",
        "PatientID",
        "PatientBirthDate",
        "PatientSex",
        "StudyID",
        "AccessionNumber",
        "ReferringPhysicianName",
        "Manufacturer",
        "PatientOrientation",
        "Laterality",
    ):
        setattr(ds, name, "" if name != "PatientOrientation" else None)
    ds.StudyDate = ds.ContentDate = now.strftime("%Y%m%d")
    ds.StudyTime = ds.ContentTime = now.strftime("%H%M%S")
    ds.Modality, ds.ConversionType, ds.SeriesNumber, ds.InstanceNumber = "OT", "WSD", 1, 1
    ds.ImageType = ["DERIVED", "PRIMARY"]
    ds.BurnedInAnnotation, ds.LossyImageCompression = "NO", "00"
    ds.Rows, ds.Columns, ds.SamplesPerPixel = rows, columns, 3 if colour else 1
    ds.NumberOfFrames = max(1, math.prod(pixels.shape[: -3 if colour else -2]))
    ds.PhotometricInterpretation = "RGB" if colour else "MONOCHROME2"
    ds.BitsAllocated = ds.BitsStored = bits
    ds.HighBit, ds.PixelRepresentation = bits - 1, 0
    if colour:
        ds.PlanarConfiguration = 0
    elif bits > 1:
        ds.PresentationLUTShape = "IDENTITY"
    if bits in (8, 16) and not colour:
        ds.RescaleIntercept, ds.RescaleSlope, ds.RescaleType = "-32768" if signed else "0", "1", "US"
    if ds.NumberOfFrames > 1:
        ds.FrameIncrementPointer = 0x00182001
        ds.PageNumberVector = list(range(1, ds.NumberOfFrames + 1))
    return ds


def _geometry(pydicom: Any, image: Image, pixels: Pixels, axes: str) -> Any:
    """Return the shared functional groups and the groups of each frame, if the spacing is known."""
    ds = pydicom.Dataset()
    spacing = {a: _mm(image, a) for a in "yx"}
    if any(v is None for v in spacing.values()):
        return ds
    ds.PixelSpacing = [_decimal(spacing["y"]), _decimal(spacing["x"])]
    affine = image.affine
    if affine is not None and affine.unit == "mm":
        measures, shared = pydicom.Dataset(), pydicom.Dataset()
        measures.PixelSpacing = ds.PixelSpacing
        shared.PixelMeasuresSequence = [measures]
        ds.FrameOfReferenceUID, ds.PositionReferenceIndicator = pydicom.uid.generate_uid(), ""
        _place(pydicom, ds, shared, affine, pixels.shape, axes)
        ds.SharedFunctionalGroupsSequence = [shared]
    return ds


def _place(pydicom: Any, ds: Any, shared: Any, affine: Affine, shape: Sequence[int], axes: str) -> None:
    matrix = affine.to("LPS+")
    turned = pydicom.Dataset()
    columns = [matrix[:3, k] / np.linalg.norm(matrix[:3, k]) for k in (0, 1)]
    turned.ImageOrientationPatient = [_decimal(v) for v in (*columns[0], *columns[1])]
    shared.PlaneOrientationSequence = [turned]
    outer = dict(zip(axes, shape, strict=True))
    lead = [a for a in axes if a not in "yx" and a != ("c" if axes.endswith("c") else "")]
    frames = []
    for index in np.ndindex(*(outer[a] for a in lead)):
        z = dict(zip(lead, index, strict=True)).get("z", 0)
        position, frame = pydicom.Dataset(), pydicom.Dataset()
        position.ImagePositionPatient = [_decimal(v) for v in (matrix @ [0, 0, z, 1])[:3]]
        frame.PlanePositionSequence = [position]
        frames.append(frame)
    ds.PerFrameFunctionalGroupsSequence = frames


def _mm(image: Image, axis: str) -> float | None:
    spacing, unit = image.spacing.get(axis), image.units.get(axis)
    if not spacing or not unit:
        return None
    try:
        return float(convert(spacing, unit, "mm"))
    except ValueError:
        return None


def _decimal(value: Any) -> Any:
    from pydicom import valuerep

    return valuerep.DSfloat(str(valuerep.DSfloat(float(value), auto_format=True)))  # as it is read again


def _write(
    pydicom: Any, ds: Any, pixels: Pixels, path: str, colour: bool, signed: bool, progress: Callable[[int], None] | None
) -> None:
    """Write the header, then the pixels behind it plane by plane."""
    ds.file_meta = pydicom.dataset.FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    ds.save_as(path, enforce_file_format=True)
    if pixels.dtype == bool:
        _write_bits(path, pixels, progress)
        return
    with open(path, "r+b") as stream:
        stream.seek(0, os.SEEK_END)
        length = pixels.nbytes + pixels.nbytes % 2
        stream.write(b"\xe0\x7f\x10\x00" + b"OW\0\0" + length.to_bytes(4, "little"))
        for plane in iter_planes(pixels, 3 if colour else 2):
            stored = plane.astype("<u2") + np.uint16(32768) if signed else plane.astype(plane.dtype.newbyteorder("<"))
            stream.write(np.ascontiguousarray(stored).reshape(-1).view(np.uint8).data)
            if progress is not None:
                progress(plane.nbytes)
        stream.write(bytes(pixels.nbytes % 2))


def _write_bits(path: str, pixels: Pixels, progress: Callable[[int], None] | None) -> None:
    """Write masks, a bit a pixel, which run on from frame to frame."""
    nbytes = -(-pixels.size // 8)
    with open(path, "r+b") as stream:
        stream.seek(0, os.SEEK_END)
        stream.write(b"\xe0\x7f\x10\x00" + b"OW\0\0" + (nbytes + nbytes % 2).to_bytes(4, "little"))
        rest = np.empty(0, bool)
        for plane in iter_planes(pixels, 2):
            bits = np.concatenate([rest, plane.reshape(-1)])
            whole = bits.size // 8 * 8
            stream.write(np.packbits(bits[:whole], bitorder="little").data)
            rest = bits[whole:]
            if progress is not None:
                progress(plane.nbytes)
        stream.write(np.packbits(rest, bitorder="little").tobytes() + bytes(nbytes % 2))
