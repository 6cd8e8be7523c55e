"""Options of sources: the fields of a dataclass define signature, docstring, checks and tables."""

from __future__ import annotations

import inspect
import os
import textwrap
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, Field, dataclass, field, fields, make_dataclass
from typing import Any

from intake_img.model.axes import CANONICAL

__all__ = ["ReadOptions", "ScaledOption", "documented", "joined", "option", "parameters_text", "signature_of"]

_URI = ("str or os.PathLike", "Path or URL.")


def option(default: Any, kind: str, doc: str) -> Any:
    """Return a dataclass field that is an option.

    Parameters
    ----------
    default : object
    kind : str
        Its type in numpydoc style, e.g. ``"int, optional"``.
    doc : str
        Its meaning, in one or two sentences.
    """
    return field(default=default, kw_only=True, metadata={"kind": kind, "doc": doc})


@dataclass(frozen=True)
class ReadOptions:
    """The options of every source."""

    chunks: int | str | Mapping[str, int | str] | None = option(
        "auto",
        '"auto", None, int or mapping',
        'Chunks of the dask arrays, ``"auto"`` for groups of native tiles of some MiB; None for xarray\'s own lazy '
        "indexing.",
    )
    output_axis_order: str | None = option(
        CANONICAL, "str or None", "Order of the axes; None keeps the order of the file."
    )
    metadata: Mapping[str, Any] | None = option(
        None,
        "mapping, optional",
        "Free metadata of the catalog entry. ``axes``, ``spacing``, ``spacing_units``, ``origin`` and ``coords`` in it "
        "add to or overrule the metadata of the file.",
    )
    storage_options: Mapping[str, Any] | None = option(None, "mapping, optional", "Options of the fsspec file system.")
    cache: str | os.PathLike[str] | None = option(
        None,
        "str or os.PathLike, optional",
        "Folder on this machine in which to keep the blocks that are read from a server, so that they are read only "
        "once; a changed file is read again. For files, not for Zarr stores. It grows without limit: delete it when "
        "you like.",
    )


@dataclass(frozen=True)
class _SceneOption:
    scene: int | str | None = option(
        None,
        "int, str or None",
        'Number or name of the image, if the file has several; None for the first, ``"all"`` to stack scenes of equal '
        "shape on ``i``.",
    )


@dataclass(frozen=True)
class _LevelOption:
    level: int = option(0, "int", "Level of the pyramid; 0 is full resolution.")


@dataclass(frozen=True)
class ScaledOption:
    """The option of formats with scaled values; see `intake_img.model.pixels.Pixels.scaled`."""

    scaled: bool = option(
        True,
        "bool",
        "Whether to scale the stored numbers to values, with the slope and offset in the file; False gives the "
        "stored numbers.",
    )


def joined(own: type, name: str, *, scene: bool, level: bool, docs: Mapping[str, str]) -> type:
    """Return a dataclass of a format's own options and the common ones.

    Parameters
    ----------
    own : type
        Dataclass of the format's own options.
    name : str
        Name of the new class.
    scene, level : bool
        Whether the format supports several images in a file, and pyramids.
    docs : mapping of str to str
        Documentation of common options that replaces the usual text.
    """
    common = [_SceneOption] * scene + [_LevelOption] * level + [ReadOptions]
    every = [f for cls in (own, *common) for f in fields(cls)]
    made = []
    for f in every:
        doc = docs.get(f.name, f.metadata["doc"])
        made.append((f.name, f.type, option(f.default, f.metadata["kind"], doc)))
    checks = {k: v for k, v in own.__dict__.items() if k == "__post_init__"}
    return make_dataclass(name, made, frozen=True, namespace=checks)


def signature_of(options: type, more: str = "") -> inspect.Signature:
    """Return the signature of a source: the URI, then each option by name.

    Parameters
    ----------
    options : type
        A dataclass.
    more : str
        Name of the parameter for further options, if there is one.
    """
    kinds = inspect.Parameter
    parameters = [kinds("uri", kinds.POSITIONAL_OR_KEYWORD)]
    for f in fields(options):
        assert f.default is not MISSING, f"the option {f.name!r} needs a default"
        parameters.append(kinds(f.name, kinds.KEYWORD_ONLY, default=f.default, annotation=f.type))
    if more:
        parameters.append(kinds(more, kinds.VAR_KEYWORD))
    return inspect.Signature(parameters)


def documented(doc: str | None, options: type, uri: tuple[str, str] = _URI, more: tuple[str, str] | None = None) -> str:
    """Return a docstring with a Parameters section made from the options, after the text and before other sections.

    Parameters
    ----------
    doc : str or None
        The text, and sections such as Raises.
    options : type
        A dataclass.
    uri : (str, str)
        Type and meaning of the URI.
    more : (str, str), optional
        Name and meaning of the parameter for further options.
    """
    text, underline, sections = _first_section(inspect.cleandoc(doc or ""))
    parts = [text.strip(), parameters_text(fields(options), uri, more)]
    return "\n\n".join(filter(None, [*parts, underline + sections])) + "\n"


def _first_section(doc: str) -> tuple[str, str, str]:
    lines = doc.split("\n")
    for k, line in enumerate(lines[1:], 1):
        if line and set(line) == {"-"} and len(line) == len(lines[k - 1]):
            return "\n".join(lines[: k - 1]), "\n".join(lines[k - 1 : k + 1]) + "\n", "\n".join(lines[k + 1 :])
    return doc, "", ""


def parameters_text(
    every: Iterable[Field[Any]], uri: tuple[str, str] = _URI, more: tuple[str, str] | None = None
) -> str:
    """Return the Parameters section of a docstring, in numpydoc style."""
    entries = [("uri", *uri), *((f.name, f.metadata["kind"], f.metadata["doc"]) for f in every)]
    lines = ["Parameters", "----------"]
    for name, kind, doc in entries:
        lines += [f"{name} : {kind}", *_indented(doc)]
    if more is not None:
        lines += [f"**{more[0]}", *_indented(more[1])]
    return "\n".join(lines)


def _indented(doc: str) -> list[str]:
    return textwrap.wrap(doc, 112, initial_indent="    ", subsequent_indent="    ", break_on_hyphens=False)
