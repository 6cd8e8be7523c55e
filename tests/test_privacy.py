"""What a public header contains: all fields except names of people and paths on a disk."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from thoroughness import examples

from intake_img import imload
from intake_img.formats.registry import formats, public_header
from intake_img.model.privacy import public
from intake_img.testing.people import PERSON, with_people

# what real files say, and which part of it names somebody or leads to a patient
_TOLD = {
    "dicom": ({"attributes": {"StudyDate": PERSON, "StationName": PERSON, "Modality": "CT"}}, "CT"),
    "nifti": ({"db_name": PERSON, "descrip": "FSL5.0"}, "FSL5.0"),
    "slide": ({"openslide.comment": PERSON, "openslide.barcode": PERSON, "vendor": "aperio"}, "aperio"),
    "tif": ({"tags": {"Artist": PERSON, "HostComputer": PERSON, "Make": "Leica"}}, "Leica"),
    "lif": ({"xml": [f'<A UserSettingName="{PERSON}" ObjectiveName="HC 63x"/>']}, "HC 63x"),
    "czi": ({"xml": f"<I><UserDisplayName>{PERSON}</UserDisplayName><Dye>DAPI</Dye></I>"}, "DAPI"),
    "oif": ({"Acquisition": {"UserName": PERSON, "Path": PERSON, "ScanMode": "XY"}}, "XY"),
    "tia": ({"conditions": {"User": PERSON, "Mode": "TEM"}}, "TEM"),
    "ims": ({"Log": {"Entry0": PERSON}, "Image": {"Filename": PERSON, "Unit": "um"}}, "um"),
    "emd": ({"user": {"name": PERSON}, "metadata": {"Users": PERSON, "Optics": "Mh"}}, "Mh"),
    "nd2": ({"text": {"author": PERSON, "location": PERSON, "optics": "Plan Apo"}}, "Plan Apo"),
    "fits": ({"OBSERVER": PERSON, "PR_INV_L": PERSON, "OBJECT": "m51"}, "m51"),
    "imageio": ({"exif": {"GPSInfo": {"2": PERSON}, "XPAuthor": PERSON, "Model": "X-T3"}}, "X-T3"),
    "cameraraw": ({"MakerNote": PERSON, "make": "Nikon"}, "Nikon"),
    "sdt": ({"info": f"Author : {PERSON}\r\nCompany : {PERSON}\r\nTitle : cells"}, "cells"),
    "dm": ({"Items": [{"Label": "Operator", "Value": PERSON}, {"Label": "Specimen", "Value": "DWNC"}]}, "DWNC"),
    "spe": ({"xml": f'<SpeFormat><Origin><User>{PERSON}</User></Origin><Grating n="g1"/></SpeFormat>'}, "g1"),
    "ndtiff": ({"summary": {"UserName": PERSON, "ComputerName": PERSON, "Core-Camera": "DCam"}}, "DCam"),
    "mif": ({"command_history": f"mrconvert {PERSON}.nii a.mif", "dim": "64,79,67"}, "64,79"),
    "omezarr": ({"attributes": {"omero": {"creator": PERSON}, "rdefs": "greyscale"}}, "greyscale"),
}


@pytest.mark.parametrize("driver", list(_TOLD))
def test_a_header_names_nobody(driver):
    header, kept = _TOLD[driver]
    before = json.dumps(header)
    for shown in (public_header(header, driver), public_header({"file": header}, "plate")):
        assert PERSON not in json.dumps(shown), shown
        assert kept in json.dumps(shown)
    assert json.dumps(header) == before


def test_every_private_key_is_tried():
    assert {f.name for f in formats().values() if f.private} <= set(_TOLD)


@pytest.mark.parametrize(
    "text",
    [
        "Plan Apo λ 60x, 0.95",
        "2010-03-05T12:08:52 on D6308 XTwin",
        "c:1/3 - channel=3, 5-FAM/pH 9.0",
        '{"axes": [{"key": "t", "resolution": 0}]}',
        '<A><Channel Name="GFP" EmissionWavelength="509" /></A>',
    ],
)
def test_what_names_nobody_is_kept(text):
    assert public(text).replace(" ", "") == text.replace(" ", "")


@examples(200)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(),
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
        max_leaves=12,
    )
)
def test_any_plain_data_is_taken(value):
    shown = public(value)
    assert public(shown) == shown
    assert PERSON not in json.dumps(public(with_people(value)))


def test_a_document_of_entities_is_not_expanded():
    bomb = '<!DOCTYPE a [<!ENTITY b "x"><!ENTITY c "&b;&b;">]><a><UserName>Lovelace</UserName>&c;</a>'
    assert PERSON not in public(bomb)
    assert len(public(bomb)) <= len(bomb)
    deep = "[" * 100_000
    assert isinstance(public(deep), str)


@pytest.mark.parametrize("before", ["", "\ufeff", " \r\n\t"])
def test_documents_in_texts_are_parsed(before):
    told = '[{"Label": "Operator", "Value": "Ada"}, {"Label": "Lens", "Value": "63x"}]'
    assert public(before + told) == '[{"Label": "Lens", "Value": "63x"}]'
    assert public(f'{before}{{"kept": {told}}}') == '{"kept": [{"Label": "Lens", "Value": "63x"}]}'
    told = '<M><V K="Operator">Ada</V><V K="Lens">63x</V></M>'
    assert public(before + told) == '<M><V K="Lens">63x</V></M>'
    assert public(before + '<?xml version="1.0"?>' + told) == '<M><V K="Lens">63x</V></M>'


@pytest.mark.parametrize("text", ["1.50", "1e3", '"\\u00e9"', " 7 ", "-0.0", "NaN", "x", ""])
def test_numbers_stay_as_they_are_written(text):
    assert public(text) == text


def test_nested_data_are_shown_to_a_depth():
    value = []
    for _ in range(24):
        value = [value]
    assert public(value) == value
    assert "…" in json.dumps(public([value]), ensure_ascii=False)
    assert public("[" * 24 + "]" * 24) == "[" * 24 + "]" * 24  # the text is a level of its own
    assert public("[" * 25 + "]" * 25) == "[" * 24 + '"…"' + "]" * 24
    assert public({"a": ["[" * 22 + "]" * 22]}) == {"a": ["[" * 22 + "]" * 22]}
    assert public({"a": ["[" * 23 + "]" * 23]}) == {"a": ["[" * 22 + '"…"' + "]" * 22]}


def test_real_files_show_no_paths(data):
    paths = ("dm/3D_EELS_SI.dm4", "tia/new/128x128_TEM_acquire-sum1.emi", "dicom/ct_image.dcm", "nd2/cluster.nd2")
    for path in paths:
        if not (data / path).exists():
            pytest.skip(f"{path} is not there")
        attrs = imload(data / path, metadata_only=True).attrs
        shown = public_header(json.loads(attrs["fileheader"]), attrs["driver"])
        text = json.dumps(shown)
        assert len(text) > 300
        assert not any(word in text for word in ("Eric", "StudyDate", "InstanceUID", str(data)))


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ('<!DOCTYPE a [<!ENTITY x "y">]><a><OperatorName>Ada</OperatorName><Lens>63x</Lens></a>', "<Lens>63x</Lens>"),
        ("<a><OperatorName>Ada</OperatorName><Lens>63x</Lens><b></a>", "<Lens>63x</Lens>"),
        ('<a><n:Operator b="1">Ada<c/></n:Operator ><V K="Operator">Ada</V><V K="Lens" UserName="Ada">63x</V>', "63x"),
        ("<a Operator='Ada' z='1'/><b", "z='1'"),
        ("<Lens>63x</Lens><Operator>Ada", "<Lens>63x</Lens>"),
        ('<a><b><Owner K="Ada"/><Lens>63x</Lens>', "<Lens>63x</Lens>"),
        ("<Lens/><Operator>Ada</Operator>" + "<p/>" * 1_000_000, "<Lens/>"),  # too long to be parsed
    ],
)
def test_xml_that_cannot_be_parsed_shows_no_people(text: str, shown: str) -> None:
    found = public({"header": text})["header"]
    assert "Ada" not in found
    assert shown in found


@pytest.mark.timeout(120)
@pytest.mark.parametrize(
    "text",
    [
        " ",
        "a",
        "a.",
        ".",
        "a b ",
        "a\t",
        "a@",
        "/a",
        "A:\\",
        "a://",
        "</",
        "<User ",
        '<User a="',
        '<a b="c"',
        '"a ',
        "'",
    ],
)
def test_any_header_is_searched_in_bounded_time(text: str) -> None:
    """Work that grows with the square of the length would take minutes."""
    long = text * (20_000 // len(text))
    found = public({"one": long, "two": "<a" + long, "three": f"operator: {PERSON}\n{long}"})
    assert PERSON not in str(found)
