"""The viewer in notebooks: the answers of the kernel, what a front end draws, and the state that the view reports.

The front end is the widget's own module in a real browser, with a model that passes messages on as Jupyter does; a real
JupyterLab is in ``interop/test_jupyterlab.py``.
"""

from __future__ import annotations

import base64
import io
import json
import queue
import sys
import threading
from collections.abc import Iterator
from typing import Any

import dask.array as da
import numpy as np
import pytest
import xarray as xr
from browsers import CHROMIUM, launched, watched
from PIL import Image

from intake_img.errors import AxesError
from intake_img.portal.notebook import widget as widgets
from intake_img.portal.notebook.answers import Answers
from intake_img.portal.notebook.bundle import bundled
from intake_img.portal.picture import label_colors
from intake_img.portal.viewer import FOLDER

pytest.importorskip("anywidget")


def _image() -> xr.Dataset:
    """Return noise in small dask chunks, with labels, spacing and two channels."""
    rng = np.random.default_rng(3)
    pixels = rng.integers(0, 4000, (2, 2, 3, 70, 90)).astype("u2")
    labels = np.zeros((3, 70, 90), "u2")
    labels[:, 10:30, 20:60] = 5
    space = {a: (a, np.arange(n) * s, {"units": "µm"}) for a, n, s in (("y", 70, 0.5), ("x", 90, 0.5))}
    variables = {
        "image": (list("tczyx"), da.from_array(pixels, chunks=(1, 1, 1, 64, 64))),
        "cells": (list("zyx"), labels, {"kind": "labels"}),
    }
    return xr.Dataset(variables, coords={"c": ["DAPI", "GFP"], **space})


def _opened(data: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB")).astype(int)


# the kernel's side


def test_state_before_it_is_shown() -> None:
    ds = _image()
    view = ds.img.view()
    assert [c["name"] for c in view.channels] == ["DAPI", "GFP"]
    assert all(c["visible"] and c["gamma"] == 1 and c["color"].startswith("#") for c in view.channels)
    assert view.region == {"t": 0, "z": 1, "y": slice(0, 70), "x": slice(0, 90)}
    assert ds.isel(view.region)["image"].dims == ("c", "y", "x")
    bundle = view._repr_mimebundle_()
    assert _opened(bundle["image/png"]).shape == (498, 640, 3)
    assert bundle["application/vnd.jupyter.widget-view+json"]["model_id"]
    assert "DAPI, GFP" in bundle["text/plain"]
    view.close()


@pytest.mark.parametrize("axes", ["yx", "zyx", "cyx", "hcyx"])
def test_picture_is_what_numpy_draws(axes: str) -> None:
    """Any lazy array: the picture of the first view is the sum of the channels in their colours."""
    sizes = {"h": 2, "c": 2, "z": 3, "y": 40, "x": 50}
    rng = np.random.default_rng(1)
    values = rng.integers(0, 200, [sizes[a] for a in axes]).astype("i4")
    view = xr.DataArray(da.from_array(values, chunks=7), dims=list(axes)).img.view()
    plane = values[tuple({"h": 0, "z": 1}.get(a, slice(None)) for a in axes)].reshape(-1, 40, 50)
    wanted = np.zeros((40, 50, 3))
    for channel, one in zip(view.channels, plane, strict=True):
        low, high = channel["limits"]
        tint = [int(channel["color"][k : k + 2], 16) for k in (1, 3, 5)]
        wanted += np.clip((one - low) / (high - low), 0, 1)[..., np.newaxis] * tint
    picture = _opened(view.png())
    assert picture.shape == (512, 640, 3)  # 12.8 screen pixels a pixel
    rows, columns = (np.round((np.arange(n) + 0.5) * 12.8 - 0.5).astype(int) for n in (40, 50))
    assert np.abs(picture[np.ix_(rows, columns)] - wanted.clip(0, 255)).max() <= 1


def test_answers_are_documents_and_chunks() -> None:
    ds, sent = _image(), queue.Queue()
    computed: list[Any] = []

    def counted(block: np.ndarray, block_info: Any = None) -> np.ndarray:
        computed.append(block_info[0]["chunk-location"])
        return block

    lazy = ds.assign(image=(ds["image"].dims, ds["image"].data.map_blocks(counted, dtype="u2", meta=np.empty(0, "u2"))))
    answers = Answers(lazy.img.view().images, lambda message, buffers: sent.put((message, buffers)))
    answers.receive({"get": "0/c/1/1/2/0/0", "id": "a"})
    message, [data] = sent.get(timeout=10)
    assert message == {"id": "a", "ok": True}
    np.testing.assert_array_equal(np.frombuffer(data, "<u2").reshape(70, 90), ds["image"][1, 1, 2].values)
    assert {at[:3] for at in computed} == {(1, 1, 2)}  # nothing else is computed
    answers.receive({"get": "zarr.json", "id": "b"})
    document = json.loads(sent.get(timeout=10)[1][0])
    assert [a["name"] for a in document["attributes"]["ome"]["multiscales"][0]["axes"]] == list("tczyx")
    for key in ("0/c/9/0/0/0/0", "0/c/0", "nothing", "../zarr.json"):
        answers.receive({"get": key, "id": key})
        assert sent.get(timeout=10) == ({"id": key, "ok": False}, [])
    for junk in (None, [], "x", {"get": 1, "id": "c"}, {"get": "k" * 999, "id": "c"}, {"id": "c"}, {"drop": {}}):
        answers.receive(junk)
    assert sent.empty()
    answers.close()


def test_answers_are_bounded_and_told_apart() -> None:
    """What cannot be computed is said, what is too large refused, what is taken back not sent."""
    ds, sent, gate, begun = _image(), queue.Queue(), threading.Event(), threading.Event()

    def failing(block: np.ndarray) -> np.ndarray:
        begun.set()
        gate.wait(10)
        raise KeyError("no such sensor")

    broken = ds[["image"]].map(lambda v: v.copy(data=v.data.map_blocks(failing, dtype="u2", meta=np.empty(0, "u2"))))
    send = lambda message, buffers: sent.put(message)  # noqa: E731
    answers = Answers(broken.img.view().images, send, threads=1)
    answers.receive({"get": "0/c/0/0/0/0/0", "id": "gone"})
    assert begun.wait(10)
    answers.receive({"get": "0/c/0/0/0/0/0", "id": "stays"})
    answers.receive({"drop": "gone"})
    gate.set()
    assert sent.get(timeout=10) == {"id": "stays", "error": "KeyError: 'no such sensor'"}
    assert sent.empty()
    small = Answers(ds.img.view().images, send, most_bytes=100)
    small.receive({"get": "0/c/0/0/0/0/0", "id": "large"})
    error = sent.get(timeout=10)["error"]
    assert "a chunk of 12.6 kB is more than a message may contain (100 B)" in error
    for one in (answers, small):
        one.close()


def test_without_anywidget_there_is_a_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "anywidget", None)
    widgets._widget_class.cache_clear()
    try:
        bundle = _image().img.view()._repr_mimebundle_()
    finally:
        widgets._widget_class.cache_clear()
    assert set(bundle) == {"image/png", "text/plain"}
    assert "pip install 'intake_img[notebook]'" in bundle["text/plain"]


def test_what_cannot_be_viewed_is_refused() -> None:
    with pytest.raises(AxesError, match="'image' has no 'y'"):
        xr.DataArray(np.zeros((3, 4)), dims=list("zx")).img.view()
    with pytest.raises(AxesError, match="nothing to see"):
        xr.DataArray(np.zeros((0, 4)), dims=list("yx")).img.view()
    with pytest.raises(ValueError, match="120 to 4000"):
        xr.DataArray(np.zeros((3, 4)), dims=list("yx")).img.view(height=3)


def test_one_module_of_all(tmp_path: Any) -> None:
    text = bundled()
    assert not [line for line in text.splitlines() if line.startswith(("import", "export ")) and "default" not in line]
    for path in FOLDER.glob("*.js"):
        assert text.count(f"const module_{path.stem.replace('-', '_')} = ") == 1
    (tmp_path / "bad.js").write_text('import * as all from "./x.js";\n')
    with pytest.raises(ValueError, match=r"bad.js: 'import \* as all"):
        bundled("bad", tmp_path)


# the front end's side

PAGE = """<!doctype html><meta charset="utf-8"><title>Notebook</title><style>body{margin:0}</style><div id="cell"></div>
<script type="module">
import widget from "/bundle.js";
const hear = {}, state = await start();
const decoded = (text) => new DataView(Uint8Array.from(atob(text), (c) => c.charCodeAt(0)).buffer);
const model = window.model = {
  get: (name) => state[name],
  set(name, value) { state[name] = value; sync(name, value); },
  save_changes() {},
  on(event, f) { (hear[event] ??= []).push(f); },
  off(event, f) { hear[event] = hear[event].filter((g) => g !== f); },
  send: (message) => sent(message),
  put(name, value) { state[name] = value; for (const f of hear[`change:${name}`] ?? []) f(); },
};
setInterval(async () => {
  for (const [message, buffers] of await pull()) hear["msg:custom"]?.forEach((f) => f(message, buffers.map(decoded)));
}, 50);
window.end = widget.render({ model, el: document.getElementById("cell") });
</script>"""


class FrontEnd:
    """A page that shows a view, as a notebook does."""

    def __init__(self, browser: Any, view: Any) -> None:
        self.view, self.answers = view, queue.Queue()
        view.widget._answers.send = lambda message, buffers: self.answers.put((message, buffers))
        self.page = browser.new_page(viewport={"width": 760, "height": 420})
        self.page.set_default_timeout(15_000)
        self.complaints = watched(self.page)
        bodies = {"/": ("text/html", PAGE), "/bundle.js": ("text/javascript", view.widget._esm)}
        icon = ("image/svg+xml", '<svg xmlns="http://www.w3.org/2000/svg"/>')

        def fulfil(route: Any) -> None:
            kind, body = bodies.get(route.request.url.removeprefix("http://notebook.test"), icon)
            route.fulfill(content_type=kind, body=body)

        self.page.route("http://notebook.test/**", fulfil)
        traits = ("name", "height", "link", "seen")
        self.page.expose_function("start", lambda: {name: getattr(view.widget, name) for name in traits})
        self.page.expose_function("sync", lambda name, value: setattr(view.widget, name, value))
        self.page.expose_function("sent", view.widget._answers.receive)
        self.page.expose_function("pull", self._pulled)
        self.page.goto("http://notebook.test/")

    def _pulled(self) -> list[Any]:
        found = []
        while not self.answers.empty():
            message, buffers = self.answers.get()
            found.append([message, [base64.b64encode(b).decode() for b in buffers]])
        return found

    def wait(self, condition: str) -> Any:
        """Wait until something is true of the element ``v``."""
        code = f"(() => {{ const v = document.querySelector('intake-viewer'); return v && ({condition}) }})()"
        return self.page.wait_for_function(code).json_value()

    def told(self) -> None:
        """Wait until the kernel knows the state that is seen."""
        self.wait("v.view?.settled && !v.view.planned && model.get('link') === v.view.text && model.get('seen').camera")
        self.wait("JSON.stringify(model.get('seen')) === JSON.stringify(v.view.told)")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    if CHROMIUM is None:
        pytest.skip("no chromium")
    pytest.importorskip("playwright.sync_api")
    with launched() as browser:
        yield browser


@pytest.mark.thorough
def test_front_end_and_kernel_agree(browser: Any) -> None:
    """Move in the front end: the view's state and picture follow; set its link: the front end follows."""
    ds = _image()
    view = ds.img.view(height=400)
    front = FrontEnd(browser, view)
    front.told()
    assert view.region["z"] == 1
    front.page.get_by_label("Z", exact=True).evaluate("(e) => { e.value = 2; e.dispatchEvent(new Event('input')) }")
    front.page.get_by_role("checkbox", name="GFP").uncheck()
    front.told()
    assert view.region["z"] == 2
    assert [c["visible"] for c in view.channels] == [True, False]
    view.link = "z=0&t=1&c=0~500~3000~ff8000_1~100~2000~fire~1.5&l=0~40&at=40~30~8"
    front.page.evaluate("(link) => model.put('link', link)", view.link)
    front.wait("v.view.state.index.t === 1")
    front.told()
    first = {"name": "DAPI", "visible": True, "limits": (500, 3000), "color": "#ff8000", "gamma": 1}
    assert view.channels[0] == first
    assert (view.channels[1]["color"], view.channels[1]["gamma"]) == ("fire", 1.5)
    width, height = front.wait("[v.canvas.width, v.canvas.height]")
    region = {"t": 1, "z": 0}
    for axis, centre, n in (("y", 30, height), ("x", 40, width)):  # 8 pixels of the screen a pixel
        low, high = centre - n / 16, centre + n / 16
        region[axis] = slice(max(int(np.floor(low)), 0), min(int(np.ceil(high)), ds.sizes[axis]))
    assert view.region == region
    drawn = _opened(base64.b64decode(front.wait("(v.view.draw(), v.canvas.toDataURL())").partition(",")[2]))
    mine = _opened(view.png())
    assert mine.shape == drawn.shape
    assert (np.abs(mine - drawn).max(axis=-1) <= 3).mean() > 0.999  # ramps of 256 steps there, exact ones here
    assert len(np.unique(drawn.reshape(-1, 3), axis=0)) > 100
    assert front.complaints == []
    front.page.evaluate("end()")
    assert front.page.locator("intake-viewer").count() == 0
    front.page.close()
    view.close()


@pytest.mark.thorough
def test_errors_are_shown_in_the_widget(browser: Any) -> None:
    def failing(block: np.ndarray) -> np.ndarray:
        if block.size:
            raise OSError("<b>the disk</b> is gone")
        return block

    values = da.zeros((40, 50), chunks=20, dtype="u2")
    view = xr.DataArray(values.map_blocks(failing, dtype="u2", meta=np.empty((0, 0), "u2")), dims=list("yx")).img.view()
    front = FrontEnd(browser, view)
    text = front.wait("[v.message, v.notice].filter((m) => !m.hidden).map((m) => m.textContent).join()")
    assert "OSError: <b>the disk</b> is gone" in text
    front.page.close()
    view.close()


def test_labels_have_the_viewers_colours(browser: Any) -> None:
    labels = [1, 2, 3, 7, 40001, 2**31, 2**32 - 1]
    page = browser.new_page()
    code = (FOLDER / "colors.js").read_text().replace("export ", "")
    found = page.evaluate(f"(() => {{ {code}\n return {labels}.map(labelColor) }})()")
    page.close()
    np.testing.assert_allclose(label_colors(np.array(labels)), found, atol=1e-6)
