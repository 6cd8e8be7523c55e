"""The viewer in a real JupyterLab, driven by a browser: a cell is run, a picture appears, the kernel hears of it."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from browsers import CHROMIUM, launched

CELLS = [
    'from intake_img.create import from_example\nds = from_example("cells")\nview = ds.img.view(height=400)\nview',
    'print("seen", view.region["z"], len(view.png()) > 1000, ds.isel(view.region)["image"].dims)',
]


def _notebook() -> str:
    cell = {"cell_type": "code", "metadata": {}, "outputs": [], "execution_count": None}
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    cells = [{**cell, "source": source, "id": f"cell{k}"} for k, source in enumerate(CELLS)]
    return json.dumps({"cells": cells, "metadata": kernel, "nbformat": 4, "nbformat_minor": 5})


@contextlib.contextmanager
def _jupyterlab(folder: Path) -> Iterator[str]:
    """Yield the address of a JupyterLab that serves a folder and has settings of nobody."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port = one.getsockname()[1]
    own = {f"JUPYTER_{what}_DIR": str(folder / ".jupyter" / what) for what in ("CONFIG", "DATA", "RUNTIME")}
    options = ["--no-browser", "--allow-root", f"--ServerApp.port={port}", "--IdentityProvider.token="]
    process = subprocess.Popen(
        [sys.executable, "-m", "jupyterlab", *options, f"--ServerApp.root_dir={folder}"],
        env={**os.environ, **own, "HOME": str(folder), "IPYTHONDIR": str(folder / ".ipython")},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        until = time.monotonic() + 90
        while not _answers(f"http://127.0.0.1:{port}/api"):
            assert process.poll() is None, "JupyterLab ended"
            assert time.monotonic() < until, "JupyterLab does not answer"
            time.sleep(0.2)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(5)


def _answers(url: str) -> bool:
    try:
        urllib.request.urlopen(url, timeout=2).close()
    except OSError:
        return False
    return True


def test_viewer_in_jupyterlab(needs: Callable[[str], Any], tmp_path: Path) -> None:
    for package in ("jupyterlab", "anywidget", "playwright"):
        needs(package)
    if CHROMIUM is None:
        pytest.skip("no chromium")
    (tmp_path / "look.ipynb").write_text(_notebook())
    with _jupyterlab(tmp_path) as url, launched() as browser:
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        page.set_default_timeout(120_000)
        errors: list[str] = []
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto(f"{url}/lab/tree/look.ipynb")
        page.locator(".jp-CodeCell .cm-content").first.click()
        page.keyboard.press("Shift+Enter")
        page.wait_for_function("document.querySelector('intake-viewer')?.view?.settled")
        slider = page.get_by_label("Z", exact=True)
        slider.evaluate("(e) => { e.value = 6; e.dispatchEvent(new Event('input', {bubbles: true})) }")
        page.wait_for_function("document.querySelector('intake-viewer').view.settled")
        page.wait_for_timeout(1000)  # the state goes to the kernel 0.2 s after the last change
        page.locator(".jp-CodeCell .cm-content").nth(1).click()
        page.keyboard.press("Shift+Enter")
        page.get_by_text("seen 6 True ('c', 'y', 'x')").wait_for()
        if os.environ.get("SCREENSHOTS"):
            page.screenshot(path=Path(os.environ["SCREENSHOTS"]) / "jupyterlab.png")
    assert errors == []
