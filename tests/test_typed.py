"""What editors and type checkers are told of public functions equals what the functions take, and says a type."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
from importlib.metadata import entry_points
from typing import get_type_hints

import numpy as np
import pytest
import xarray as xr

import intake_img
from intake_img.accessor.coloc import detect_blobs
from intake_img.formats import registry
from intake_img.kernels import conventions
from intake_img.model import typed

pytestmark = pytest.mark.thorough
IMAGE = xr.DataArray(np.zeros((2, 8, 8), "u1"), dims=["c", "y", "x"])


def names(options):
    return set(get_type_hints(options))


def sources():
    """The sources of this package, as their entry points name them."""
    found = [point for point in entry_points(group="intake.drivers") if point.value.startswith("intake_img.")]
    return [source for point in found if hasattr(source := point.load(), "Options")]


def test_the_options_of_drivers_are_those_of_imload():
    own = {f.name for source in sources() for f in dataclasses.fields(source.Options)}
    common = {f.name for f in dataclasses.fields(registry.ImgSource.Options)}
    assert names(typed.DriverOptions) == own - common | {"table"}  # of tables of images, which are no driver of files
    assert names(typed.SourceOptions) == own | common | {"table"}


def test_the_options_of_writers_are_those_of_imsave():
    found = set()
    for format in registry.formats().values():
        found |= set(inspect.signature(format.write).parameters)
    given_by_imsave = {"self", "image", "path", "compress", "progress", "name", "levels"}
    assert names(typed.WriterOptions) == found - given_by_imsave


def test_the_options_of_measures_are_those_of_measure():
    rules = {f.name for f in dataclasses.fields(conventions.Conventions)}
    parameters = set(inspect.signature(IMAGE.img.coloc.measure).parameters)
    assert names(typed.ConventionOptions) == rules
    assert names(typed.MeasureOptions) == rules | parameters - {"pairs", "measures", "conventions"}
    assert names(typed.OverlapOptions) < names(typed.MeasureOptions)


@pytest.mark.parametrize(
    ("method", "function"), [(IMAGE.img.patches, intake_img.patches), (IMAGE.img.detect_blobs, detect_blobs)]
)
def test_methods_show_the_options_of_their_functions(method, function):
    _, *wanted = inspect.signature(function).parameters.values()
    assert list(inspect.signature(method).parameters.values()) == wanted
    assert len(wanted) > 8


def public():
    """Yield the public functions and methods, each with its name."""
    rooms = ["intake_img", "intake_img.plugin", "intake_img.create", "intake_img.catalog", "intake_img.accessor"]
    for room in map(importlib.import_module, rooms):
        for name in room.__all__:
            thing = getattr(room, name)
            members = inspect.getmembers_static(thing) if inspect.isclass(thing) else [("", thing)]
            for member, found in members:
                function = getattr(found, "__func__", found)
                ours = inspect.isfunction(function) and function.__module__.startswith("intake_img")
                if ours and (not member.startswith("_") or member == "__init__"):
                    yield f"{name}.{member}".rstrip("."), function
    yield from (
        (f"coloc.{n}", f) for n, f in inspect.getmembers(type(IMAGE.img.coloc), inspect.isfunction) if n[0] != "_"
    )


ANYTHING = {
    "Entry.files(uri)": "what an untrusted catalog says, which is checked",
    "Entry.get(given)": "values of parameters, whose types the catalog declares",
    "Format.write(compress)": "each format has its own names and levels",
    "Handle.array(address)": "each format has its own",
    "Image.single(facts)": "fields of Image",
    "ImageTable.search(columns)": "values of free columns",
    "ImageTable.sel(columns)": "values of free columns",
    "option(default)": "each option has its own",
}
"""Parameters that take anything, and why."""
THEIRS = ("options", "read_kwargs", "rdd")
"""Arguments for a driver, a function of the user, or a library that need not be installed."""


def test_public_parameters_have_types():
    found = list(public())
    assert len(found) > 300
    untyped = {
        f"{name}({parameter.name})"
        for name, function in found
        for parameter in inspect.signature(function).parameters.values()
        if parameter.name not in ("self", "cls") and parameter.annotation in ("Any", parameter.empty)
    }
    theirs = {name for name in untyped if name.endswith(tuple(f"({n})" for n in THEIRS))}
    assert untyped - theirs - set(ANYTHING) == set()
    assert set(ANYTHING) <= untyped  # what has a type leaves the table
