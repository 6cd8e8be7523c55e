"""Elements that are read without pydicom: each value is the one of pydicom, which warns of none; odd ones are left."""

from __future__ import annotations

import logging
import math
import warnings
from functools import cache
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from intake_img.formats.dicom import elements, header
from intake_img.storage.files import File

pydicom = pytest.importorskip("pydicom")
RawDataElement = pydicom.dataelem.RawDataElement
TEXTS = ("AE", "AS", "CS", "DA", "DS", "DT", "IS", "LO", "LT", "PN", "SH", "ST", "TM", "UC", "UI", "UR", "UT")
NUMBERS = ("AT", "FD", "FL", "SL", "SS", "SV", "UL", "US", "UV")


@pytest.fixture(autouse=True)
def quiet(monkeypatch):
    monkeypatch.setattr(logging.getLogger("pydicom"), "disabled", True)


def plain(value):
    """Values of pydicom as this package holds them."""
    if isinstance(value, pydicom.Dataset):
        return {int(e.tag): plain(e.value) for e in value if not e.tag.is_private}
    if isinstance(value, (list, pydicom.multival.MultiValue, pydicom.sequence.Sequence)):
        return [plain(v) for v in value]
    return str(value) if isinstance(value, pydicom.valuerep.PersonName) else value


def ours(value):
    if isinstance(value, elements.Item):
        return {tag: ours(v) for tag, v in value.values.items()}
    return [ours(v) for v in value] if isinstance(value, list) else value


def equal(a, b):
    if isinstance(a, list):
        return isinstance(b, list) and len(a) == len(b) and all(map(equal, a, b))
    if isinstance(a, dict):
        return isinstance(b, dict) and a.keys() == b.keys() and all(equal(a[k], b[k]) for k in a)
    both_nan = isinstance(a, float) and isinstance(b, float) and math.isnan(a) and math.isnan(b)
    return both_nan or (a == b and isinstance(a, (str, bytes, type(None))) == isinstance(b, (str, bytes, type(None))))


def check(raw):
    """Compare an element with pydicom, which may neither fail nor warn where there is a value; return whether it is."""
    value = elements.value_of(raw)
    if value is elements.UNSURE:
        return False
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        expected = plain(pydicom.dataelem.convert_raw_data_element(raw).value)
    assert equal(ours(value), expected), raw
    return True


def test_values_of_real_files_are_those_of_pydicom(data):
    folder = Path(pydicom.__file__).parent / "data" / "test_files"
    found = []
    for path in [*folder.glob("*.dcm"), *(data / "dicom").glob("*.dcm")]:
        try:
            ds = pydicom.dcmread(path, stop_before_pixels=True, force=True)
        except Exception:  # broken on purpose
            continue
        names = ds.original_character_set
        if elements.spells_ascii(names if isinstance(names, str) else names[0]):
            found += [check(e) for t, e in list(ds.items()) if not t.is_private and isinstance(e, RawDataElement)]
    assert len(found) > 3000
    assert sum(found) > 0.95 * len(found)


@settings(max_examples=400, deadline=None)
@given(st.sampled_from(TEXTS), st.text(r"\\0123456789.+-eE ABMY^=~" + "\0\n\xe9", max_size=24), st.booleans())
def test_texts_are_those_of_pydicom(vr, text, padded):
    data = text.encode("latin-1") + (b" " if padded else b"")
    check(RawDataElement(pydicom.tag.Tag(0x00081111), vr, len(data), data, 0, False, True))


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(NUMBERS), st.binary(max_size=24), st.booleans())
def test_numbers_are_those_of_pydicom(vr, data, little):
    check(RawDataElement(pydicom.tag.Tag(0x00281101), vr, len(data), data, 0, False, little))


@cache
def sequence_bytes(implicit):
    item = pydicom.Dataset()
    item.PixelMeasuresSequence = [pydicom.Dataset()]
    item.PixelMeasuresSequence[0].PixelSpacing = [0.5, 0.25]
    item.PlanePositionSequence = [pydicom.Dataset()]
    item.PlanePositionSequence[0].ImagePositionPatient = ["1", "2", "3"]
    item.FrameLabel, item.PatientName, item.Rows, item.SOPInstanceUID = "a label", "Doe^Jane", 7, "1.2.3"
    fp = pydicom.filebase.DicomBytesIO()
    fp.is_implicit_VR, fp.is_little_endian = implicit, True
    pydicom.filewriter.write_sequence(fp, pydicom.DataElement(0x52009230, "SQ", [item, item]), ["iso8859"])
    return fp.getvalue()


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 499), st.sampled_from([0, 1, 10, 27, 32, 65, 92, 255]), st.booleans())
def test_a_damaged_sequence_is_left_to_pydicom_or_read_as_pydicom_reads_it(at, byte, implicit):
    data, tag = sequence_bytes(implicit), pydicom.tag.Tag(0x52009230)
    assert check(RawDataElement(tag, "SQ", len(data), data, 0, implicit, True))
    at %= len(data)
    data = data[:at] + bytes([byte]) + data[at + 1 :]
    check(RawDataElement(tag, "SQ", len(data), data, 0, implicit, True))


@pytest.mark.parametrize(
    ("vr", "data"), [("LO", b"\xe9"), ("SH", b"x" * 17), ("US", b"abc"), ("UN", b"1"), ("IS", b"1A")]
)
def test_odd_values_are_left_to_pydicom(vr, data):
    raw = RawDataElement(pydicom.tag.Tag(0x00081111), vr, len(data), data, 0, False, True)
    assert elements.value_of(raw) is elements.UNSURE


def nested(implicit, depth, **values):
    """The bytes of a sequence in a sequence ..., whose innermost item holds some values."""
    item = pydicom.Dataset()
    for name, value in values.items():
        setattr(item, name, value)
    for _ in range(depth):
        around = pydicom.Dataset()
        around.PlanePositionSequence = [item]
        item = around
    fp = pydicom.filebase.DicomBytesIO()
    fp.is_implicit_VR, fp.is_little_endian = implicit, True
    pydicom.filewriter.write_sequence(fp, pydicom.DataElement(0x52009230, "SQ", [item]), ["iso8859"])
    return fp.getvalue()


@pytest.mark.parametrize("implicit", [True, False])
def test_items_with_characters_palettes_or_depth_of_their_own_are_left_to_pydicom(implicit):
    assert elements.items_of(nested(implicit, 3, FrameLabel="a", Rows=7), implicit, True) is not elements.UNSURE
    for odd in ({"SpecificCharacterSet": "ISO_IR 192"}, {"RedPaletteColorLookupTableDescriptor": [0, 0, 16]}):
        for depth in (0, 2):
            assert elements.items_of(nested(implicit, depth, Rows=7, **odd), implicit, True) is elements.UNSURE
    assert elements.items_of(nested(implicit, 40, Rows=7), implicit, True) is elements.UNSURE


def test_texts_in_other_characters_are_left_to_pydicom():
    assert elements.spells_ascii("utf8")
    assert not elements.spells_ascii("utf-16")
    assert not elements.spells_ascii("no encoding")


def test_only_odd_values_are_converted_when_a_file_is_opened(data):
    """What pydicom has not converted waits in bytes; the header is complete nevertheless."""
    source = File.parse(data / "dicom" / "sm_image.dcm").open()
    found = header.parsed(source.file, source)
    source.close()
    waiting = {elements.keyword_of(int(t)) for t, e in found.ds.items() if isinstance(e, RawDataElement)}
    assert {"SpecimenDescriptionSequence", "OpticalPathSequence"} <= waiting
    assert header.public(found)["ImagedVolumeWidth"] == found.ds.ImagedVolumeWidth
