"""One call, a table and a page of figures for a batch of images, in HTML or PDF."""

from __future__ import annotations

import base64
import html
import io
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from intake_img.accessor.coloc import figures, pixel_measures
from intake_img.accessor.coloc.inputs import ChannelImage
from intake_img.errors import CannotWriteError, MissingExtraError
from intake_img.storage.files import File
from intake_img.storage.staging import replacing

__all__ = ["report"]

_STYLE = (
    "body{font-family:sans-serif;margin:2em auto;max-width:75em;padding:0 1em;color:#222}"
    ".wide{overflow-x:auto}table{border-collapse:collapse;font-size:85%;font-variant-numeric:tabular-nums}"
    "td,th{border-bottom:1px solid #ddd;padding:.3em .7em;text-align:right;white-space:nowrap}"
    "th:first-child,td:first-child{text-align:left}thead th{background:#f4f4f4}"
    "img{max-width:100%}h2{margin-top:2em;font-size:115%}dt{font-weight:bold}.small{font-size:85%;color:#555}"
)


def report(
    images: Mapping[str, Any],
    path: Any,
    *,
    pairs: Any = None,
    thresholds: Any = "costes",
    mask: Any = None,
    overwrite: bool = False,
    storage_options: Mapping[str, Any] | None = None,
    **conventions: Any,
) -> pd.DataFrame:
    """Measure a batch of images and write a table and a page of figures.

    Parameters
    ----------
    images : mapping of str to Dataset or DataArray
        Images by name.
    path : path or URL
        ``.html`` or ``.pdf``.
    pairs, thresholds, mask, **conventions
        See `Coloc.measure`; `mask` names a variable that each image has.
    overwrite : bool
    storage_options : mapping, optional
        Options of the fsspec file system of a URL.

    Returns
    -------
    DataFrame
        One row for each image, pair and position.
    """
    for name, image in images.items():
        if not isinstance(image, (xr.Dataset, xr.DataArray)):
            raise TypeError(f"images[{name!r}] is {type(image).__name__}: expected a Dataset or DataArray")
    if not isinstance(path, (str, os.PathLike)):
        raise TypeError(f"path={path!r}: expected the name of a .html or .pdf file, not {type(path).__name__}")
    file = File.parse(path, storage_options)
    if file.local and not os.path.isdir(file.parent.path):
        raise FileNotFoundError(f"there is no folder {file.parent.path!r}")
    suffix = os.path.splitext(file.name)[1].lower()
    if suffix not in (".html", ".pdf"):
        raise CannotWriteError(f"{file.name}: a report is .html or .pdf")
    if file.exists() and not overwrite:
        from intake_img.errors import TargetExistsError

        raise TargetExistsError(f"{file} exists: give overwrite=True to replace it")
    _need_matplotlib()
    tables, pages = [], []
    attrs: dict[str, Any] = {}
    for name, obj in images.items():
        tables.append(table_of(name, obj, pairs, mask=mask, thresholds=thresholds, **conventions))
        attrs |= tables[-1].attrs
        pages.append((name, obj))
    table = pd.concat(tables, ignore_index=True)
    table.attrs = attrs
    figures = (
        _figure(name, obj, pair, thresholds, mask)
        for name, obj in pages
        for pair in ChannelImage(obj).pairs(pairs)
        if ChannelImage(obj).image.size
    )
    with replacing(file, overwrite=overwrite) as temporary:
        shown = table.drop(columns=["channel1", "channel2"])
        (_html if suffix == ".html" else _pdf)(Path(temporary), shown, figures)
    return table


def table_of(name: str, obj: Any, pairs: Any, **options: Any) -> pd.DataFrame:
    """Measure one image of a batch; errors name it."""
    try:
        found = pixel_measures.measure(obj, pairs, **options)
    except (ValueError, TypeError) as error:
        error.args = (f"{name}: {error}",)
        raise
    if empty := [a for a, n in found.sizes.items() if n == 0]:  # an image without positions or labels keeps a row
        found = found.drop_vars([n for n, c in found.coords.items() if {*c.dims} & {*empty}])
        found = found.pad(dict.fromkeys(empty, (0, 1)))
    table = found.to_dataframe().reset_index()
    table.insert(0, "image", name)
    table.attrs = found.attrs
    return table


def _need_matplotlib() -> None:
    import importlib.util

    if importlib.util.find_spec("matplotlib") is None:
        raise MissingExtraError("matplotlib", "plot", "a report with figures")


def _figure(name: str, obj: Any, pair: Sequence[int], thresholds: Any, mask: Any) -> Any:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 8), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(2, 2)
    a, b = pair
    figures.scatter(obj, a, b, mask=mask, thresholds=thresholds, fit="orthogonal", bins=256, ax=axes[0, 0], at={})
    scene = ChannelImage(obj)
    if {"y", "x"} <= set(scene.spatial):
        limits = 0 if thresholds is None else thresholds
        figures.overlay(obj, a, b, thresholds=limits, mask=mask, ax=axes[0, 1], at={})
    figures.ica(obj, a, b, mask=mask, bins=128, ax=axes[1], at={})
    names = scene.channels
    several = [f"{axis} = {_place(scene, axis)}" for axis in scene.lead if scene.image.sizes[axis] > 1]
    figure.suptitle(", ".join([f"{name}: {names[a]} and {names[b]}", *several]))
    return figure


def _place(scene: ChannelImage, axis: str) -> str:
    """Coordinate of the drawn position, which is the first."""
    if axis not in scene.image.coords:
        return f"0 of {scene.image.sizes[axis]}"
    unit = scene.image[axis].attrs.get("units", "")
    return f"{scene.image[axis].values[0]} {unit}".strip()


def _html(path: Path, table: pd.DataFrame, figures: Any) -> None:
    columns = table.columns if len(table) > 3 else None
    shown = table if columns is not None else table.set_index("image").T.rename_axis(None, axis=1).reset_index(names="")
    with path.open("w", encoding="utf-8") as out:
        out.write("<!doctype html><html lang='en'><meta charset='utf-8'><title>Colocalization</title>")
        out.write("<meta name='viewport' content='width=device-width, initial-scale=1'>")
        out.write(f"<style>{_STYLE}</style><h1>Colocalization</h1><div class='wide'>")
        out.write(shown.map(_text).to_html(index=False, border=0, justify="unset"))
        out.write("</div><p class='small'>" + html.escape(_conventions(table.attrs)) + "</p>")
        for figure in figures:
            buffer = io.BytesIO()
            figure.savefig(buffer, format="png", dpi=110)
            title = html.escape(figure.get_suptitle(), quote=True)
            data = base64.b64encode(buffer.getvalue()).decode()
            panels = ". ".join(ax.get_title() for ax in figure.axes if ax.get_title())
            alt = html.escape(
                f"{figure.get_suptitle()}. Joint histogram, overlay, correlation plots. {panels}", quote=True
            )
            out.write(f"<h2>{title}</h2><img alt='{alt}' src='data:image/png;base64,{data}'>")


def _text(value: Any) -> str:
    """A number with four digits; integers have their digits in groups of three."""
    if isinstance(value, (int, np.integer)) and not isinstance(value, bool):
        return f"{value:,}".replace(",", "\u202f")
    if not isinstance(value, (float, np.floating)):
        return str(value)
    return "undefined" if np.isnan(value) else f"{value:.4g}"


def _conventions(attrs: Mapping[str, Any]) -> str:
    return "; ".join(f"{name}: {value}" for name, value in attrs.items())


def _pdf(path: Path, table: pd.DataFrame, figures: Any) -> None:
    from matplotlib.backends.backend_pdf import PdfPages
    from matplotlib.figure import Figure

    with PdfPages(path) as pdf:
        rows = table.set_index("image").T
        for start in range(0, rows.shape[1], 4):
            page = Figure(figsize=(11, 8), layout="constrained")
            ax = page.subplots()
            ax.axis("off")
            ax.set_title("Colocalization")
            part = rows.iloc[:, start : start + 4]
            cells = [[_text(v) for v in row] for row in part.to_numpy().tolist()]
            drawn = ax.table(cells, rowLabels=list(part.index), colLabels=list(part.columns), loc="upper center")
            drawn.auto_set_font_size(False)
            drawn.set_fontsize(9)
            drawn.scale(1, 1.25)
            page.text(0.01, 0.01, _conventions(table.attrs), fontsize=6, wrap=True)
            pdf.savefig(page)
        for figure in figures:
            pdf.savefig(figure, dpi=150)
