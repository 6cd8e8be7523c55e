"""Numbers, JSON and XML that other programs wrote: defaults for what cannot be used, or an error."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from thoroughness import examples

from intake_img.errors import FormatError
from intake_img.model.untrusted import finite, json_object, xml_root

PLAIN = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(), lambda s: st.lists(s) | st.dictionaries(st.text(), s)
)


@examples(100)
@given(PLAIN)
def test_a_number_is_finite_or_the_default(value):
    found = finite(value, 7.5)
    assert math.isfinite(found)
    if isinstance(value, (bool, float)) and math.isfinite(value):
        assert found == value


@pytest.mark.parametrize("value", [10**400, "nan", "-inf", "", "1 µm", b"\xff", [1.0, 2.0], {}, None, np.nan])
def test_what_is_not_a_number_is_the_default(value):
    assert finite(value) == 0.0
    assert math.isnan(finite(value, math.nan))


def test_numbers_are_read_from_texts_and_scalars():
    assert [finite(v) for v in (" 0.25\n", "1e-3", np.float32(0.5), np.int16(-3), b"4")] == [0.25, 1e-3, 0.5, -3, 4]


@examples(100)
@given(PLAIN)
def test_json_is_an_object_or_an_empty_one(value):
    found = json_object(json.dumps(value))
    assert isinstance(found, dict)
    assert list(found) == (list(value) if isinstance(value, dict) else [])


@pytest.mark.parametrize("text", ["", "{", b"\xff\xfe", "[" * 100_000, "null", "3"])
def test_other_texts_are_no_objects(text):
    assert json_object(text) == {}


@pytest.mark.parametrize("encode", [str, str.encode])
def test_xml_is_well_formed_and_declares_no_entities(encode):
    assert xml_root(encode('<a b="1"><c>µ</c></a>')).findtext("c") == "µ"
    with pytest.raises(FormatError, match=r"^its header is damaged: "):
        xml_root(encode("<a>"), "its header")
    with pytest.raises(FormatError, match=r"^the XML declares entities: refused"):
        xml_root(encode("<!DOCTYPE a [<!ENTITY b 'c'>]><a>&b;</a>"))


def test_xml_in_an_unknown_encoding_is_damaged():
    with pytest.raises(FormatError, match="damaged"):
        xml_root(b"<?xml version='1.0' encoding='none-such'?><a/>")
