"""The portal in a real browser: search, look, measure, link, log in; no complaint of the console, none of axe-core.

``SCREENSHOTS=folder`` keeps the pictures of the pages.
"""

from __future__ import annotations

import base64
import io
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import make_plates
import numpy as np
import pytest
import yaml
from browsers import CHROMIUM, launched, watched
from PIL import Image
from portal_server import Portal, serving

from intake_img import imsave
from intake_img.create import from_example

pytest.importorskip("uvicorn")
pytest.importorskip("playwright.sync_api")
pytestmark = [pytest.mark.thorough, pytest.mark.skipif(CHROMIUM is None, reason="no chromium")]
KEEPS_FILES_OPEN = True  # a portal does, by design

HOSTILE = "<img src=x onerror=alert(1)>"
DESKTOP, PHONE = {"width": 1280, "height": 860}, {"width": 390, "height": 780}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("lab")
    cells = from_example("cells")
    imsave(cells, folder / "cells.zarr")
    imsave(cells["image"].isel(t=0, c=0).max("z"), folder / "nuclei.tif")
    make_plates.phenix(folder / "screen", make_plates.values())
    entries = {
        "cells": ("cells.zarr", "Simulated cells with labels"),
        "nuclei": ("nuclei.tif", HOSTILE),
        "screen": ("screen", "A plate of two wells"),
    }
    sources = {
        name: {"driver": "img", "description": text, "args": {"uri": "{{ CATALOG_DIR }}/" + uri}}
        for name, (uri, text) in entries.items()
    }
    (folder / "lab.yml").write_text(yaml.safe_dump({"sources": sources}))
    return folder


@pytest.fixture(scope="module")
def portal(folder: Path) -> Iterator[Portal]:
    with serving([folder / "lab.yml"], folder) as one:
        yield one


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with launched() as browser:
        yield browser


@pytest.fixture
def page(browser: Any) -> Iterator[Any]:
    page = browser.new_page(viewport=DESKTOP)
    page.set_default_timeout(15_000)
    complaints = watched(page)
    yield page
    page.close()
    assert complaints == []


def _until(page: Any, condition: str) -> None:
    """Wait until a condition is true; the page's policy forbids playwright's own way."""
    deadline = time.monotonic() + 15
    while not page.evaluate(condition):
        assert time.monotonic() < deadline, f"never: {condition}"
        page.wait_for_timeout(30)


def _settled(page: Any) -> None:
    _until(page, "(v => Boolean(v?.view?.settled && !v.view.planned))(document.querySelector('intake-viewer'))")


def _canvas(page: Any) -> np.ndarray:
    _settled(page)
    data = page.evaluate("(v => (v.view.draw(), v.canvas.toDataURL()))(document.querySelector('intake-viewer'))")
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(data.partition(",")[2]))).convert("RGB")).astype(int)


def _slide(page: Any, label: str, value: float) -> None:
    move = f"(e) => {{ e.value = '{value}'; e.dispatchEvent(new Event('input', {{bubbles: true}})) }}"
    page.get_by_label(label, exact=True).evaluate(move)
    _settled(page)


def _kept(page: Any, name: str) -> None:
    if os.environ.get("SCREENSHOTS"):
        page.screenshot(path=Path(os.environ["SCREENSHOTS"]) / f"{name}.png")


def test_search_by_text_and_facet(portal: Portal, page: Any) -> None:
    page.goto(portal.url)
    assert page.locator(".cards > li").count() == 3
    assert page.get_by_text(HOSTILE).is_visible()  # as text
    page.get_by_label("Search").fill("simulated")
    page.get_by_label("Search").press("Enter")
    assert page.locator(".cards b").all_text_contents() == ["cells"]
    page.goto(portal.url)
    _until(page, "document.querySelector('.note') === null || location.reload()")  # all entries were read
    page.locator("details", has_text="Format").get_by_role("link", name="tif").click()
    assert page.locator(".cards b").all_text_contents() == ["nuclei"]
    page.get_by_label("Remove Format tif").click()
    page.get_by_role("link", name="Table").click()
    assert page.get_by_role("row").count() == 4
    page.goto(portal.url)
    page.wait_for_load_state("networkidle")
    _kept(page, "list-desktop")


def test_a_projection_is_asked_from_the_server(portal: Portal, page: Any) -> None:
    values = from_example("cells")["image"].values
    page.goto(f"{portal.url}/e/cells")
    _settled(page)
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url) if "/pixels/" in request.url else None)
    page.get_by_role("button", name="Max").click()
    _settled(page)
    assert len(asked) == values.shape[1]  # a tile of each channel
    assert all("/max/" in url for url in asked)
    told = page.evaluate("document.querySelector('intake-viewer').view.exact(20.5, 10.5)")
    assert [one["value"] for one in told] == [int(values[0, c, :, 10, 20].max()) for c in range(values.shape[1])]


def test_look_at_an_image(portal: Portal, browser: Any, page: Any) -> None:
    values = from_example("cells")["image"].values
    page.goto(portal.url)
    page.get_by_role("link", name="cells").first.click()
    first = _canvas(page)
    page.get_by_role("checkbox", name="GFP").uncheck()
    without = _canvas(page)
    assert not np.array_equal(first, without)
    page.get_by_role("checkbox", name="GFP").check()
    np.testing.assert_array_equal(_canvas(page), first)
    _slide(page, "Z", 6)
    _slide(page, "Time", 2)
    assert not np.array_equal(_canvas(page), first)
    assert _pixel(page, 40, 70) == [values[2, c, 6, 70, 40] for c in (0, 1)]
    before = _canvas(page)
    page.evaluate("document.querySelector('intake-viewer').view.state.channels[0].hi /= 3")
    page.evaluate("document.querySelector('intake-viewer').view.change()")
    assert _canvas(page).sum() > before.sum()  # less is full colour
    page.get_by_role("checkbox", name="labels").check()
    shown = _canvas(page)
    bar = "(v => [v.barText.textContent, parseFloat(v.bar.style.width) / v.view.camera.k])"
    text, pixels = page.evaluate(f"{bar}(document.querySelector('intake-viewer'))")
    assert text == f"{round(pixels * 0.25)} µm"  # a pixel is 0.25 µm wide
    _until(page, "location.hash.includes('z=6') && location.hash.includes('l=0')")
    other = browser.new_page(viewport=DESKTOP)
    other.goto(page.url)
    np.testing.assert_array_equal(_canvas(other), shown)
    other.close()
    _kept(page, "entry-desktop")


def _pixel(page: Any, x: int, y: int) -> list[float]:
    """Point at a pixel with the mouse and return the values that are told."""
    page.evaluate("scrollTo(0, 0)")
    box = page.locator("intake-viewer canvas").bounding_box()
    place = "(v => [v.view.camera.x, v.view.camera.y, v.view.camera.k, v.view.screen.w, v.view.screen.h])"
    cx, cy, k, w, h = page.evaluate(f"{place}(document.querySelector('intake-viewer'))")
    page.mouse.move(box["x"] + (x + 0.5 - cx) * k + w / 2, box["y"] + (y + 0.5 - cy) * k + h / 2)
    where = "document.querySelector('intake-viewer').where.textContent"
    _until(page, f"{where}.startsWith('x {x}, y {y}') && !/level|–/.test({where})")
    told = page.evaluate(where).rpartition(" · ")[2].split()
    return [float(n.replace("\N{NARROW NO-BREAK SPACE}", "").replace(",", "")) for n in told[1::2]]


def test_wells_of_a_plate(portal: Portal, page: Any) -> None:
    page.goto(f"{portal.url}/e/screen")
    _settled(page)
    page.get_by_role("link", name="D11").click()
    _until(page, "document.querySelector('intake-viewer').view.state?.scene === 2")
    assert _pixel(page, 2, 1)[0] == make_plates.values()[1, 0, 0, 0, 1, 1, 2]
    page.get_by_role("img", name="D11").scroll_into_view_if_needed()
    _until(page, "[...document.querySelectorAll('.wells img')].every((i) => i.complete && i.naturalWidth)")
    _kept(page, "plate-desktop")


def test_login(folder: Path, browser: Any) -> None:
    with serving([folder / "lab.yml"], folder, token="right") as guarded:
        page = browser.new_context().new_page()
        page.set_default_timeout(15_000)
        page.goto(guarded.url)
        assert page.locator(".cards").count() == 0
        page.locator("input[type=password]").fill("wrong")
        page.keyboard.press("Enter")
        page.get_by_role("alert").wait_for()
        page.locator("input[type=password]").fill("right")
        page.keyboard.press("Enter")
        page.locator(".cards").wait_for()
        _kept(page, "list-logged-in")
        page.context.close()


@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_nothing_serious_for_axe_core(portal: Portal, page: Any, size: dict[str, int]) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    page.set_viewport_size(size)
    for path in ("/", "/?view=table", "/e/cells", "/e/screen", "/login"):
        page.goto(portal.url + path)
        if path.startswith("/e/"):
            _settled(page)
        wide = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        assert wide <= 0, f"{path} scrolls sideways"
        found = axe.run(page).response["violations"]
        serious = [
            (v["id"], n["html"][:200]) for v in found if v["impact"] in ("serious", "critical") for n in v["nodes"]
        ]
        assert serious == [], path
        _kept(page, f"axe-{size['width']}-{path.strip('/').replace('/', '-').replace('?', '-') or 'list'}")
