"""One call, a table and a page of figures for a batch of images, in HTML or PDF."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import xarray as xr

from intake_img.accessor.coloc import pictures, pixels
from intake_img.accessor.coloc.inputs import Scene
from intake_img.errors import CannotWriteError, MissingExtraError

__all__ = ["report"]

_STYLE = (
    "body{font-family:sans-serif;margin:2em}table{border-collapse:collapse;font-size:85%}td,th{border:1px solid #ccc;\
padding:.2em .5em;text-align:right}img{max-width:100%}"
)


def report(
    images: Mapping[str, Any], path: Any, *, pairs: Any = None, thresholds: Any = "costes", mask: Any = None,
    overwrite: bool = False, **conventions: Any,
) -> pd.DataFrame:  # fmt: skip
    """Measure a batch of images and write a table and a page of figures.

    Parameters
    ----------
    images : mapping of str to Dataset or DataArray
        Images by name.
    path : path
        ``.html`` or ``.pdf``.
    pairs, thresholds, mask, **conventions
        See `Coloc.measure`; `mask` names a variable that each image has.
    overwrite : bool

    Returns
    -------
    DataFrame
        One row for each image, pair and position.
    """
    for name, image in images.items():
        if not isinstance(image, (xr.Dataset, xr.DataArray)):
            raise TypeError(f"images[{name!r}] is {type(image).__name__}: expected a Dataset or DataArray")
    path = Path(path)
    if not path.parent.is_dir():
        raise FileNotFoundError(f"there is no folder {str(path.parent)!r}")
    if path.suffix.lower() not in (".html", ".pdf"):
        raise CannotWriteError(f"{path.name}: a report is .html or .pdf")
    if path.exists() and not overwrite:
        from intake_img.errors import TargetExistsError

        raise TargetExistsError(f"{path} exists: give overwrite=True to replace it")
    _need_matplotlib()
    tables, pages = [], []
    for name, obj in images.items():
        found = pixels.measure(obj, pairs, mask=mask, thresholds=thresholds, **conventions)
        table = found.to_dataframe().reset_index()
        table.insert(0, "image", name)
        tables.append(table)
        pages.append((name, obj))
    table = pd.concat(tables, ignore_index=True)
    figures = (_figure(name, obj, pair, thresholds, mask) for name, obj in pages for pair in Scene(obj).pairs(pairs))
    whole = path.with_name(f".{path.name}.part")
    try:
        (_html if path.suffix.lower() == ".html" else _pdf)(whole, table, figures)
        whole.replace(path)
    finally:
        whole.unlink(missing_ok=True)
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
    pictures.scatter(obj, a, b, mask=mask, thresholds=thresholds, fit="orthogonal", bins=256, ax=axes[0, 0], at={})
    scene = Scene(obj)
    if {"y", "x"} <= set(scene.spatial):
        limits = 0 if thresholds is None else thresholds
        pictures.overlay(obj, a, b, thresholds=limits, mask=mask, ax=axes[0, 1], at={})
    pictures.ica(obj, a, b, mask=mask, bins=128, ax=axes[1], at={})
    names = scene.channels
    figure.suptitle(f"{name}: {names[a]} and {names[b]}")
    return figure


def _html(path: Path, table: pd.DataFrame, figures: Any) -> None:
    with path.open("w", encoding="utf-8") as out:
        out.write(f"<!doctype html><meta charset='utf-8'><title>Colocalization</title><style>{_STYLE}</style>")
        out.write("<h1>Colocalization</h1>")
        out.write(table.to_html(index=False, float_format="{:.4g}".format, na_rep="undefined", border=0))
        for figure in figures:
            buffer = io.BytesIO()
            figure.savefig(buffer, format="png", dpi=110)
            title = html.escape(figure.get_suptitle())
            data = base64.b64encode(buffer.getvalue()).decode()
            out.write(f"<h2>{title}</h2><img alt='{title}' src='data:image/png;base64,{data}'>")


def _pdf(path: Path, table: pd.DataFrame, figures: Any) -> None:
    from matplotlib.backends.backend_pdf import PdfPages
    from matplotlib.figure import Figure

    with PdfPages(path) as pdf:
        rows = table.set_index("image").T
        for start in range(0, rows.shape[1], 4):
            page = Figure(figsize=(11, 8))
            ax = page.subplots()
            ax.axis("off")
            part = rows.iloc[:, start : start + 4]
            cells = [[f"{v:.4g}" if isinstance(v, float) else str(v) for v in row] for row in part.to_numpy().tolist()]
            ax.table(cells, rowLabels=list(part.index), colLabels=list(part.columns), loc="center")
            pdf.savefig(page)
        for figure in figures:
            pdf.savefig(figure)
