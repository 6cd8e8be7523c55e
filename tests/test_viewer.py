"""The viewer in a real browser: what is drawn and said is what the arrays hold.

Needs ``playwright`` and Debian's chromium (or another one, by ``CHROMIUM``); skipped where there is none.
"""

from __future__ import annotations

import base64
import io
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import xarray as xr
from browsers import CHROMIUM, launched, watched
from PIL import Image
from viewer_site import site

from intake_img import imsave

sync_api = pytest.importorskip("playwright.sync_api")
pytestmark = [pytest.mark.thorough, pytest.mark.skipif(CHROMIUM is None, reason="no chromium")]

HOSTILE = "<script>alert(1)</script>"
SHAPE = {"t": 3, "c": 2, "z": 4, "y": 90, "x": 130}


def _image() -> xr.Dataset:
    """Return noise with labels, spacing and a channel whose name is markup."""
    rng = np.random.default_rng(5)
    pixels = rng.integers(0, 4000, tuple(SHAPE.values())).astype("u2")
    nuclei = np.zeros((4, 90, 130), "u2")
    nuclei[:, 20:60, 30:70], nuclei[:, 60:80, 90:120] = 7, 40001
    space = {a: (a, np.arange(SHAPE[a]) * s, {"units": "µm"}) for a, s in (("z", 1.5), ("y", 0.25), ("x", 0.25))}
    variables = {"image": (list(SHAPE), pixels), "nuclei": (list("zyx"), nuclei, {"kind": "labels"})}
    return xr.Dataset(variables, coords={"c": ["DAPI", HOSTILE], **space})


@pytest.fixture(scope="module")
def image() -> xr.Dataset:
    return _image()


@pytest.fixture(scope="module")
def web(tmp_path_factory: pytest.TempPathFactory, image: xr.Dataset) -> Iterator[tuple[str, Any]]:
    """Yield the address of a site with stores, and its handler."""
    root = tmp_path_factory.mktemp("stores")
    imsave(image, root / "cells.zarr", pyramid=1, chunks=64)
    imsave(image, root / "planes.zarr", chunks={"t": 1, "c": 1, "z": 1, "y": 64, "x": 64})
    imsave(image, root / "plain.zarr", compress="gzip", chunks=64)
    rng = np.random.default_rng(6)
    many = xr.DataArray(rng.integers(0, 99, (100, 20, 30)).astype("u1"), dims=list("cyx"))
    imsave(many.assign_coords(c=[f"marker {k}" for k in range(100)]), root / "many.zarr")
    picture = xr.DataArray(rng.integers(0, 256, (3, 40, 50)).astype("u1"), dims=list("cyx"), coords={"c": list("RGB")})
    imsave(picture, root / "picture.zarr")
    for dtype in DTYPES:
        imsave(_numbers(dtype), root / f"{dtype}.zarr", compress=False)
    with site(root) as (url, handler):
        yield url, handler


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with launched() as browser:
        yield browser


class Viewer:
    """A page with a viewer; what the console complains of is collected."""

    def __init__(self, browser: Any, url: str, size: tuple[int, int] = (700, 420)) -> None:
        self.page = browser.new_page(viewport={"width": size[0], "height": size[1]})
        self.page.set_default_timeout(8_000)
        self.url, self.complaints = url, watched(self.page)

    def open(self, name: str, *, static: bool = False, link: str = "", more: str = "") -> Viewer:
        pixels = "" if static else f'pixels="/pixels/{name}"'
        self.page.goto(f'{self.url}/page?src="/data/{name}" {pixels} link="hash" {more}#{link}')
        return self.settle()

    def settle(self) -> Viewer:
        self.wait("v.view?.settled && !v.view.planned")
        return self

    def wait(self, condition: str) -> None:
        deadline = time.monotonic() + 10
        while not self.js(condition):
            assert time.monotonic() < deadline, f"never: {condition}; {self.complaints}"
            time.sleep(0.02)

    def js(self, expression: str) -> Any:
        return self.page.evaluate(
            f"(() => {{ const v = document.querySelector('intake-viewer'); return {expression} }})()"
        )

    def picture(self) -> np.ndarray:
        """Return the pixels of the canvas as RGB."""
        self.settle()
        data = self.js("(v.view.draw(), v.canvas.toDataURL())")
        return np.asarray(Image.open(io.BytesIO(base64.b64decode(data.partition(",")[2]))).convert("RGB")).astype(int)

    def point(self, x: float, y: float) -> str:
        """Move the mouse to a pixel of the image; return what is said of it once it is exact."""
        box = self.page.locator("intake-viewer canvas").bounding_box()
        (cx, cy, k), (w, h) = self.js("(({x, y, k}, {w, h}) => [[x, y, k], [w, h]])(v.view.camera, v.view.screen)")
        at = (x + 0.5 - cx) * k + w / 2, (y + 0.5 - cy) * k + h / 2
        self.page.mouse.move(box["x"] + at[0], box["y"] + at[1])
        self.wait("v.where.textContent && !/level|–/.test(v.where.textContent)")
        return self.js("v.where.textContent")

    def control(self, label: str) -> Any:
        return self.page.get_by_label(label, exact=True)


@pytest.fixture
def viewer(browser: Any, web: tuple[str, Any]) -> Iterator[Viewer]:
    viewer = Viewer(browser, web[0])
    yield viewer
    viewer.page.close()
    assert viewer.complaints == []


def _set(viewer: Viewer, label: str, value: float) -> None:
    """Move a slider as a hand does."""
    viewer.control(label).evaluate(
        f"(e) => {{ e.value = '{value}'; e.dispatchEvent(new Event('input', {{bubbles: true}})) }}"
    )
    viewer.settle()


# what is drawn


CLOSE = "at=65~45~4"  # 4 screen pixels a pixel, level 0


def _composed(
    viewer: Viewer, planes: list[np.ndarray], limits: list[tuple[float, float]], colors: list[str]
) -> np.ndarray:
    """Return the picture that the canvas should show at `CLOSE`, by numpy."""
    width, height = viewer.js("[v.canvas.width, v.canvas.height]")
    columns = np.floor((np.arange(width) + 0.5 - width / 2) / 4 + 65).astype(int)
    rows = np.floor((np.arange(height) + 0.5 - height / 2) / 4 + 45).astype(int)
    out = np.zeros((height, width, 3))
    for plane, (lo, hi), color in zip(planes, limits, colors, strict=True):
        light = np.clip((plane[rows.clip(0, 89)][:, columns.clip(0, 129)] - float(lo)) / (hi - lo), 0, 1)
        out += light[..., np.newaxis] * [int(color[k : k + 2], 16) for k in (0, 2, 4)]
    return out.clip(0, 255), (rows >= 0) & (rows < 90), (columns >= 0) & (columns < 130)


@pytest.mark.parametrize("more", ["", "software"])
def test_drawn_as_composed(viewer: Viewer, image: xr.Dataset, more: str) -> None:
    """Channels, limits, z and t, by WebGL2 and without it: the canvas shows what numpy computes."""
    viewer.open("cells.zarr", link=f"{CLOSE}&t=2&z=1&c=0~500~3000_1~100~2000~ff8000", more=more)
    assert viewer.js("v.view.drawer.constructor.name") == ("SoftDrawer" if more else "GlDrawer")
    planes = [image["image"].values[2, c, 1] for c in (0, 1)]
    first = viewer.js("v.view.state.channels[0].color")
    wanted, rows, columns = _composed(viewer, planes, [(500, 3000), (100, 2000)], [first, "ff8000"])
    inside = np.ix_(rows, columns)
    assert np.abs(viewer.picture()[inside] - wanted[inside]).max() <= 2
    viewer.control("Next Time").click()  # from the last back to the first
    viewer.control("Next Z").click()
    wanted, *_ = _composed(
        viewer, [image["image"].values[0, c, 2] for c in (0, 1)], [(500, 3000), (100, 2000)], [first, "ff8000"]
    )
    assert np.abs(viewer.picture()[inside] - wanted[inside]).max() <= 2
    viewer.page.get_by_role("button", name="Max").click()
    planes = [image["image"].values[0, c].max(axis=0) for c in (0, 1)]
    wanted, *_ = _composed(viewer, planes, [(500, 3000), (100, 2000)], [first, "ff8000"])
    assert np.abs(viewer.picture()[inside] - wanted[inside]).max() <= 2


def test_channels_contrast_and_links(viewer: Viewer, web: tuple[str, Any], browser: Any) -> None:
    viewer.open("cells.zarr", link=CLOSE)
    assert viewer.page.get_by_text(HOSTILE, exact=True).count() == 1  # a name is text, never markup
    before = viewer.picture()
    viewer.control("Show DAPI").click()
    assert (viewer.picture() != before).any()
    viewer.control("Show DAPI").click()
    assert (viewer.picture() == before).all()

    limits = "v.view.state.channels[0]"
    lo, hi = viewer.js(f"[{limits}.lo, {limits}.hi]")
    _set(viewer, "Lower limit of DAPI", 250)
    _set(viewer, "Upper limit of DAPI", 500)
    low, high = viewer.js(f"[{limits}.lo, {limits}.hi]")
    assert lo < low < high < hi
    box = viewer.page.locator("intake-viewer .histogram").first.bounding_box()
    viewer.page.mouse.move(box["x"] + box["width"] * 0.4, box["y"] + 10)  # between the limits: moves both
    viewer.page.mouse.down()
    viewer.page.mouse.move(box["x"] + box["width"] * 0.6, box["y"] + 10, steps=3)
    viewer.page.mouse.up()
    moved = viewer.js(f"[{limits}.lo, {limits}.hi]")
    assert moved[0] - low == pytest.approx(0.2 * (hi - lo), rel=0.05)
    assert moved[1] - moved[0] == pytest.approx(high - low, abs=1)

    viewer.control("Settings of DAPI").click()
    viewer.control("Named colour or palette of DAPI").select_option("magma")
    _set(viewer, "Gamma of DAPI", 0.5)
    _set(viewer, "Z", 3)
    after = viewer.picture()
    viewer.wait("location.hash.includes('magma')")
    other = Viewer(browser, web[0]).open("cells.zarr", link=viewer.js("location.hash.slice(1)"))
    assert (other.picture() == after).all()
    assert other.complaints == []
    other.page.close()
    viewer.page.get_by_role("button", name="Auto contrast").click()
    assert viewer.js(f"{limits}.lo") != moved[0]


def test_labels_lie_over_the_image(viewer: Viewer) -> None:
    viewer.open("cells.zarr", link=f"{CLOSE}&c=0~4000~5000")  # black, but for labels
    viewer.control("Show nuclei").click()
    _set(viewer, "Opacity of nuclei", 1)
    seven = viewer.page.evaluate("import('/viewer/colors.js').then(m => m.labelColor(7))")
    picture = viewer.picture()
    height, width = picture.shape[:2]
    spot = picture[int((40.5 - 45) * 4 + height / 2), int((50.5 - 65) * 4 + width / 2)]
    assert np.abs(spot - seven).max() <= 2
    assert (picture[int((10.5 - 45) * 4 + height / 2), int((50.5 - 65) * 4 + width / 2)] == 0).all()
    assert "nuclei 40001" in viewer.point(100, 70)
    viewer.control("Outline").check()
    picture = viewer.picture()
    assert (picture[int((40.5 - 45) * 4 + height / 2), int((50.5 - 65) * 4 + width / 2)] == 0).all()
    assert np.abs(picture[int((40.5 - 45) * 4 + height / 2), int((30 - 65) * 4 + width / 2)] - seven).max() <= 2


# what is said


DTYPES = ("uint8", "int16", "uint32", "int32", "float32", "float64", "uint64", "int64", "bool", "float16")


def _numbers(dtype: str) -> xr.DataArray:
    """Return numbers; the first and the last are the extremes of integers."""
    kind = np.dtype(dtype).kind
    rng = np.random.default_rng(7)
    if kind not in "iu":
        values = rng.normal(0, 50, 600) > 0 if kind == "b" else rng.normal(0, 50, 600).astype(dtype)
    else:
        info = np.iinfo(dtype)
        values = rng.integers(info.min, info.max, 600, dtype=dtype, endpoint=True)
        values[[0, -1]] = info.min, info.max
    return xr.DataArray(values.reshape(20, 30), dims=["y", "x"])


@pytest.mark.parametrize("static", [True, False])
def test_values_are_exact(viewer: Viewer, static: bool) -> None:
    """The value under the pointer is that of the array, to the last bit of every dtype."""
    viewer.open("uint8.zarr", static=static)
    for dtype in DTYPES:
        viewer.js(f"v.setAttribute('src', '/data/{dtype}.zarr')")
        if not static:
            viewer.js(f"v.setAttribute('pixels', '/pixels/{dtype}.zarr')")
        viewer.wait(f"v.view?.layer?.dtype === '{dtype}'")
        viewer.settle()
        expected = _numbers(dtype).values
        for y, x in ((0, 0), (19, 29), (7, 11)):
            viewer.point(x, y)
            data = viewer.js(f"String(v.view.valuesAt({x}, {y})[0].value)")
            kind = float if np.dtype(dtype).kind == "f" else int
            assert kind(data) == expected[y, x], (dtype, y, x)


def test_position_scale_bar_and_profile(viewer: Viewer, image: xr.Dataset) -> None:
    viewer.open("plain.zarr", static=True, link="at=65~45~4&z=1")
    said = viewer.point(101, 33)
    values = image["image"].values[0, :, 1, 33, 101]
    assert said.startswith("x 101, y 33 · 25.25, 8.25 µm")
    assert f"DAPI {values[0]}" in said
    assert f"{HOSTILE} {values[1]}" in said
    width = viewer.page.locator("intake-viewer .bar").bounding_box()["width"]
    length, unit = viewer.js("v.barText.textContent").split()
    assert unit == "µm"
    assert float(length) == pytest.approx(width / 4 * 0.25, rel=0.01)

    viewer.page.get_by_role("button", name="Line profile").click()
    box = viewer.page.locator("intake-viewer canvas").bounding_box()
    middle = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    viewer.page.mouse.move(middle[0] + 2, middle[1] + 2)  # pixel x 65, y 45
    viewer.page.mouse.down()
    viewer.page.mouse.move(middle[0] + 82, middle[1] + 2, steps=2)
    viewer.page.mouse.up()
    viewer.wait(
        "!v.profile.element.hidden && /^5 µm, 21 samples/.test(v.profile.element.querySelector('.caption').textContent)"
    )
    found = viewer.js("v.view.profile({x: 65.5, y: 45.5}, {x: 85.5, y: 45.5})")
    assert found["lines"][1]["values"] == image["image"].values[0, 1, 1, 45, 65:86].tolist()


# many channels, pictures, faults


def test_link_of_many_channels_is_short(viewer: Viewer) -> None:
    viewer.open("many.zarr")
    assert viewer.js("v.view.active") == [0, 1, 2, 3]
    assert viewer.js("v.state") == ""  # nothing differs from the default
    _set(viewer, "Upper limit of marker 2", 400)
    viewer.page.get_by_label("Find a channel").fill("marker 77")
    viewer.control("Show marker 77").click()
    text = viewer.js("v.state")
    assert text.startswith("c=0-1_2~")
    assert len(text) < 60
    viewer.open("many.zarr", link="c=0-99")
    assert viewer.js("v.view.active.length") == 32  # at most so many are added up


def test_colour_pictures_keep_their_colours(viewer: Viewer, web: tuple[str, Any]) -> None:
    viewer.open("picture.zarr", link="at=25~20~8")
    from intake_img import imload

    pixels = imload(web[1].root / "picture.zarr")["image"].values
    picture = viewer.picture()
    height, width = picture.shape[:2]
    limits = [viewer.js(f"[v.view.state.channels[{c}].lo, v.view.state.channels[{c}].hi]") for c in range(3)]
    spot = picture[int((20.5 - 20) * 8 + height / 2), int((30.5 - 25) * 8 + width / 2)]
    wanted = [255 * np.clip((pixels[c, 20, 30] - limits[c][0]) / (limits[c][1] - limits[c][0]), 0, 1) for c in range(3)]
    assert np.abs(spot - wanted).max() <= 2
    assert viewer.page.locator("intake-viewer .channel").count() == 1


def test_keys_touch_and_phones(browser: Any, web: tuple[str, Any]) -> None:
    viewer = Viewer(browser, web[0], (390, 760)).open("cells.zarr")
    box = viewer.page.locator("intake-viewer canvas").bounding_box()
    assert box["width"] > 380
    assert viewer.js("document.documentElement.scrollWidth") <= 390
    viewer.page.locator("intake-viewer canvas").focus()
    z, k = viewer.js("v.view.state.index.z"), viewer.js("v.view.camera.k")
    for key in ("]", "2", "+", "ArrowLeft"):
        viewer.page.keyboard.press(key)
    assert viewer.js("v.view.state.index.z") == z + 1
    assert viewer.js("v.view.active") == [0]
    assert viewer.js("v.view.camera.k") == pytest.approx(1.4 * k)
    assert viewer.js("v.view.camera.x") < 65
    viewer.page.keyboard.press("0")
    assert viewer.js("v.view.state.camera") is None
    viewer.page.mouse.move(200, 200)
    viewer.page.mouse.wheel(0, -500)
    viewer.wait(f"v.view.camera.k > {2 * k}")
    viewer.page.close()
    assert viewer.complaints == []


def test_what_is_out_of_view_is_not_waited_for(viewer: Viewer, web: tuple[str, Any]) -> None:
    """Requests of planes that were scrolled past are aborted; the last one is there soon."""
    viewer.open("planes.zarr", link=CLOSE)
    web[1].delay = 1.5
    try:
        for t, z in ((1, 0), (1, 1), (1, 2), (2, 0), (2, 1), (2, 3)):
            viewer.js(f"v.view.setAxis('z', {z}), v.view.setAxis('t', {t})")
            viewer.wait("!v.view.planned")
        viewer.wait("[...v.view.tiles.underway.values()].some(e => !e.controller.signal.aborted)")
        assert viewer.js("v.view.tiles.underway.size") <= 8
        aborted = viewer.js(
            "performance.getEntriesByType('resource').filter(e => /pixels/.test(e.name) && !e.responseStatus).length"
        )
        assert aborted > 0
    finally:
        web[1].delay = 0.0
    viewer.settle()
    assert viewer.js("v.view.state.index.z") == 3


def test_faults_are_said(browser: Any, web: tuple[str, Any]) -> None:
    viewer = Viewer(browser, web[0])
    viewer.page.goto(f'{web[0]}/page?src="/data/nowhere.zarr"')
    viewer.wait("v.message && !v.message.hidden")
    assert "no Zarr group" in viewer.js("v.message.textContent")
    web[1].broken = "cells.zarr/0/c"
    try:
        viewer.open("cells.zarr", link=CLOSE)
        viewer.wait("!v.notice.hidden")
        assert "the server answered 500" in viewer.js("v.notice.textContent")
    finally:
        web[1].broken = ""
    viewer.page.get_by_role("button", name="Try again").click()
    viewer.wait("v.view.settled && v.view.readyTiles(0).length > 0")
    viewer.page.close()
