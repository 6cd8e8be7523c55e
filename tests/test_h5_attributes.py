"""Attributes of HDF5 as plain values, and names: those of h5py in its order, though they are read past its classes."""

from __future__ import annotations

import numpy as np
import pytest

from intake_img.formats.h5.tree import attribute, attribute_names, attributes_of, hard_links, names_in, text_of

h5py = pytest.importorskip("h5py")

KINDS = {
    "text": "µm",
    "empty": "",
    "bytes": np.bytes_(b"abc"),
    "texts": ["a", "bc"],
    "one_text": ["a"],
    "letters": np.frombuffer(b"Hello  \0", "S1"),
    "letters_twice": np.array([[b"a", b"b"], [b"c", b"d"]], "S1"),
    "letter": np.frombuffer(b"H", "S1"),
    "one_letter": np.array(b"x", "S1"),
    "blank": np.array(b" ", "S1"),
    "high": np.array(b"\xff", "S1"),
    "bool": True,
    "bools": [True, False],
    "int": 5,
    "ints": [1, 2],
    "big_endian": np.array([1, 2], ">i2"),
    "float": np.float32(1.5),
    "matrix": np.eye(2),
}
PLAIN = {
    **{"text": "µm", "empty": "", "bytes": "abc", "texts": ["a", "bc"], "one_text": ["a"], "letters": "Hello"},
    **{"letters_twice": "abcd", "letter": "H", "one_letter": "x", "blank": " ", "high": "base64:/w==", "bool": True},
    **{"bools": [True, False], "int": 5, "ints": [1, 2], "big_endian": [1, 2], "float": 1.5},
    "matrix": [[1.0, 0.0], [0.0, 1.0]],
}


@pytest.fixture
def file(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as f:
        yield f


def test_values_of_all_kinds(file):
    for name, value in KINDS.items():
        file.attrs[name] = value
    file.attrs.create("choice", 2, dtype=h5py.enum_dtype({"A": 1, "B": 2}, "u1"))
    assert attributes_of(file) == {**PLAIN, "choice": 2}
    for name in KINDS:
        found, expected = attribute(file, name), file.attrs[name]
        assert type(found) is type(expected)
        np.testing.assert_array_equal(found, expected)


def test_what_is_no_plain_value_is_left_out(file):
    file.attrs["reference"], file.attrs["record"] = file.ref, np.zeros(2, [("a", "i4")])
    assert attributes_of(file) == {}
    assert attribute(file, "reference") is attribute(file, "none") is None


@pytest.mark.parametrize("tracked", [False, True])
def test_names_come_in_the_order_of_h5py(file, tracked):
    group = file.create_group("g", track_order=tracked)
    for name in ("z", "a", "µ"):
        group.attrs[name] = 1
        group.create_group(name)
    group["soft"] = h5py.SoftLink("/g/a")
    assert attribute_names(group) == list(group.attrs)
    assert names_in(group) == list(group)
    assert list(hard_links(group)) == [name for name in group if name != "soft"]


def test_a_file_has_the_order_of_its_root(tmp_path):
    with h5py.File(tmp_path / "b.h5", "w", track_order=True) as f:
        for name in ("z", "a"):
            f.create_group(name)
    with h5py.File(tmp_path / "b.h5") as f:
        assert names_in(f) == list(f) == ["z", "a"]


@pytest.mark.parametrize("charset", ["CSET_ASCII", "CSET_UTF8"])
def test_a_text_ends_at_its_zero(tmp_path, charset):
    """Programs in C write buffers whose rest is whatever was in the memory."""
    kind = h5py.h5t.C_S1.copy()
    kind.set_size(16)
    kind.set_cset(getattr(h5py.h5t, charset))
    with h5py.File(tmp_path / "a.h5", "w") as f:
        for name, content in (("one", b"R_x\0\x7f\xffrest of it"), ("full", b"sixteen letters!")):
            h5py.h5a.create(f.id, name.encode(), kind, h5py.h5s.create(h5py.h5s.SCALAR)).write(
                np.array(content, "S16"), kind
            )
        assert (text_of(attribute(f, "one")), text_of(attribute(f, "full"))) == ("R_x", "sixteen letters!")
        assert attributes_of(f) == {"one": "R_x", "full": "sixteen letters!"}
