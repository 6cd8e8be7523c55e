"""Options of sources, each written once: the fields of a dataclass give signature, docstring, checks and tables."""

from __future__ import annotations

import inspect
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
        Its type as numpydoc writes it, e.g. ``"int, optional"``.
    doc : str
        What it means, in one or two sentences.
    """
    return field(default=default, kw_only=True, metadata={"kind": kind, "doc": doc})


@dataclass(frozen=True)
class ReadOptions:
    """The options that every source has."""

    chunks: int | str | Mapping[str, int | str] | None = option(
        "auto",
        '"auto", None, int or mapping',
        'Chunks of the dask arrays, ``"auto"`` for whole native tiles grouped to some MiB; None for xarray\'s own lazy '
        "indexing.",
    )
    output_axis_order: str | None = option(
        CANONICAL, "str or None", "Order of the axes; None keeps the order of the file."
    )
    metadata: Mapping[str, Any] | None = option(
        None,
        "mapping, optional",
        "Free metadata of the catalog entry. ``axes``, ``spacing``, ``spacing_units``, ``origin`` and ``coords`` in it "
        "add to or overrule what the file says.",
    )
    storage_options: Mapping[str, Any] | None = option(None, "mapping, optional", "Options of the fsspec file system.")


@dataclass(frozen=True)
class _SceneOption:
    scene: int | str | None = option(
        None,
        "int, str or None",
        'Number or name of the image, where the file holds several; None for the first, ``"all"`` to stack equal '
        "ones on ``i``.",
    )


@dataclass(frozen=True)
class _LevelOption:
    level: int = option(0, "int", "Level of the pyramid; 0 is full resolution.")


@dataclass(frozen=True)
class ScaledOption:
    """The option of formats whose stored numbers stand for values; see `intake_img.model.pixels.Pixels.scaled`."""

    scaled: bool = option(
        True,
        "bool",
        "Whether to turn the stored numbers into values, by the slope and offset that the file states; False gives the "
        "numbers as they are stored.",
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
        Whether the format has several images in a file, and pyramids.
    docs : mapping of str to str
        What to say of a common option in place of the usual text.
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
        Name of the parameter that takes further options, if there is one.
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
    """Return a docstring with the section Parameters made from the options, after the text and before other sections.

    Parameters
    ----------
    doc : str or None
        The text, and sections such as Raises.
    options : type
        A dataclass.
    uri : (str, str)
        Type and meaning of the URI.
    more : (str, str), optional
        Name and meaning of the parameter that takes further options.
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
    """Return the section Parameters of a docstring, as numpydoc writes it."""
    entries = [("uri", *uri), *((f.name, f.metadata["kind"], f.metadata["doc"]) for f in every)]
    lines = ["Parameters", "----------"]
    for name, kind, doc in entries:
        lines += [f"{name} : {kind}", *_indented(doc)]
    if more is not None:
        lines += [f"**{more[0]}", *_indented(more[1])]
    return "\n".join(lines)


def _indented(doc: str) -> list[str]:
    return textwrap.wrap(doc, 112, initial_indent="    ", subsequent_indent="    ", break_on_hyphens=False)
