"""Make the pictures of the portal in these pages: ``python docs/screenshots.py``; needs playwright and chromium."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from playwright.sync_api import sync_playwright

FOLDER = Path(__file__).parent / "how-to"
CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium")
FLAGS = ["--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--ignore-gpu-blocklist", "--no-sandbox"]


def main() -> None:
    """Start the portal on its samples, and take pictures of the list and of an image."""
    command = [sys.executable, "-m", "intake_img", "portal", "--demo", "--port", "0"]
    portal = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert portal.stdout is not None
        address = re.search(r"http://\S+", portal.stdout.readline())
        assert address is not None
        take(address[0])
    finally:
        portal.terminate()
        portal.wait(20)


def take(url: str) -> None:
    """Take the pictures of a portal."""
    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        page = browser.new_page(viewport={"width": 1180, "height": 740})
        page.goto(url)
        while page.locator(".note").count():  # images are still being read
            page.wait_for_timeout(500)
            page.reload()
        pictures = "[...document.querySelectorAll('.picture img')].every((i) => i.complete && i.naturalWidth)"
        while not page.evaluate(pictures):
            page.wait_for_timeout(200)
        page.screenshot(path=FOLDER / "portal-list.png")
        page.get_by_role("link", name="cells").first.click()
        page.wait_for_selector("intake-viewer")
        while not page.evaluate("Boolean(document.querySelector('intake-viewer').view?.settled)"):
            page.wait_for_timeout(100)
        page.screenshot(path=FOLDER / "portal-entry.png")
        browser.close()


if __name__ == "__main__":
    main()
