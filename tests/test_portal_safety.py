"""Who the portal lets in, and what hostile requests, names and headers of files get from it."""

from __future__ import annotations

import contextlib
import html
import re
import threading
import time
from typing import Any

import numpy as np
import pytest
import tifffile
import yaml
from portal_server import serving

from intake_img.portal.tokens import add_token

pytestmark = pytest.mark.thorough

pytest.importorskip("uvicorn")
KEEPS_FILES_OPEN = True  # a portal does, by design

_HOSTILE = '<script>alert("x")</script>{{ 7*7 }}'


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("safety")
    values = (np.arange(64 * 80).reshape(64, 80) % 900).astype("u2")
    about = f"PatientName=Ada Secret\nUserName=ada\nnote={_HOSTILE}\nplace=/home/ada/secret.tif"
    tifffile.imwrite(folder / "a.tif", values, description=about)
    (folder / "secret.txt").write_text("not for you")
    entry = {"driver": "tif", "args": {"uri": "{{ CATALOG_DIR }}/a.tif"}, "description": _HOSTILE}
    sources = {"plain": entry, _HOSTILE: entry, "../up": entry}
    (folder / "lab.yml").write_text(yaml.safe_dump({"sources": sources}))
    (folder / "other.yml").write_text(yaml.safe_dump({"sources": {"b": entry}}))
    return folder


@pytest.fixture(scope="module")
def opened(folder):
    with serving([folder / "lab.yml"], folder, header_seconds=1.0) as portal:
        yield portal


def test_names_and_headers_of_files_are_text_and_private_ones_are_not_shown(opened, folder):
    pages = ["/", "/?view=table", *(f"/e/{name}" for name in opened.library.items)]
    seen = ""
    for page in (*pages, "/?q=<script>&channel=<script>", "/e/%3Cscript%3E", "/login?next=<script>"):
        reply = opened.get(page.replace("<", "%3C").replace(">", "%3E"))
        text = reply.body.decode()
        assert reply.status in (200, 404)
        assert "alert(" not in re.sub(r"&lt;script&gt;alert\(", "", text)
        assert set(re.findall(r"<script[^>]*>", text)) <= set(
            re.findall(r'<script type="module" src="/static[^>]*>', text)
        )
        assert " style=" not in text
        assert " on" + "click" not in text
        assert "script-src 'self'" in reply.headers["content-security-policy"]
        seen += text
    assert "{{ 7*7 }}" in seen
    everything = seen + "".join(opened.get(f"/api/entries/{n}").body.decode() for n in opened.library.items)
    everything += opened.get("/data/plain.zarr/zarr.json").body.decode()
    for secret in ("Ada Secret", "/home/ada", str(folder)):
        assert secret not in everything


_WAYS_UP = [
    "../secret.txt",
    "..%2fsecret.txt",
    "%2e%2e/secret.txt",
    "%252e%252e%252fsecret.txt",
    "..\\secret.txt",
    "..%5csecret.txt",
    "//etc/passwd",
    "%00/secret.txt",
    "....//secret.txt",
    "%c0%ae%c0%ae/secret.txt",
    "/etc/passwd",
    "file:%2f%2f/etc/passwd",
    "plain.zarr/../../secret.txt",
    "plain.zarr/..%2f..%2fsecret.txt",
    "plain.zarr//zarr.json",
    "plain.zarr/0/c/0/0/../../../../../secret.txt",
]


def test_nothing_outside_of_the_catalog_can_be_reached(opened):
    for route in ("data", "pixels", "thumb", "tile", "download", "static", "e", "api/entries"):
        for way in _WAYS_UP:
            reply = opened.get(f"/{route}/{way}")
            assert reply.status == 404, (route, way, reply.status)
            assert b"not for you" not in reply.body
            assert b"root:" not in reply.body


def test_odd_requests_are_refused(opened):
    assert opened.get("/?" + "q=a&" * 1000).status == 414
    assert opened.get("/data/" + "a" * 5000).status == 414
    assert opened.get("/", "PUT").status == opened.get("/data/plain.zarr/zarr.json", "DELETE").status == 405
    assert opened.get("/", body="x=1").status == 413
    assert opened.get("/tile/plain/99/0/0.webp").status == opened.get("/tile/plain/0/999/0.webp").status == 404
    assert opened.get("/tile/plain/0/0/0.webp?z=99999999&c=9999~-1~-2_x_0~1e9").status == 200
    connection = opened.connect()
    connection.sendall(b"GET / HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n")
    assert b" 421 " in connection.recv(100)
    connection.close()


def test_slow_clients_are_cut(opened):
    silent, trickling = opened.connect(), opened.connect()
    trickling.sendall(b"GET / HTTP/1.1\r\nX: ")
    for one in (silent, trickling):
        one.settimeout(8)  # by default they would be cut after 10 s
        with contextlib.suppress(ConnectionResetError):
            assert one.recv(100) == b""
        one.close()
    assert opened.get("/health").status == 200


def test_tokens(folder):
    file = folder / "tokens.yml"
    everything, other = add_token(file, "Ada"), add_token(file, "Bob", ["other"])
    assert everything not in file.read_text()
    with serving([folder / "lab.yml", folder / "other.yml"], folder / "t", tokens=file) as portal:
        assert portal.get("/data/lab/plain.zarr/zarr.json").status == 401
        assert portal.get("/?q=a").headers["location"].startswith("/login")
        assert portal.get("/health").status == 200
        for wrong in ("", "x", everything + "x", everything[:-1], "é" * 40):
            value = f"Bearer {wrong}".encode().decode("latin-1")
            assert portal.get("/api/entries", Authorization=value).status == 401
            assert portal.get("/", Cookie=f"intake_img_portal={wrong[:9].encode().hex()}.9999999999.00").status == 303
        bob = {"Authorization": f"Bearer {other}"}
        assert {e["id"] for e in portal.get("/api/entries", **bob).json["entries"]} == {"other/b"}
        assert portal.get("/data/lab/plain.zarr/zarr.json", **bob).status == 404
        assert "lab" not in yaml.safe_load(portal.get("/catalog.yml", **bob).body)["sources"]
        assert portal.get("/login", "POST", body="token=wrong&next=/").status == 401
        reply = portal.get("/login", "POST", body=f"token={everything}&next=//evil.example")
        assert (reply.status, reply.headers["location"]) == (303, "/")
        cookie = reply.headers["set-cookie"]
        assert "HttpOnly" in cookie
        assert "SameSite=lax" in cookie
        assert everything not in cookie
        session = {"Cookie": cookie.partition(";")[0]}
        assert portal.get("/", **session).status == 200
        assert portal.get("/login", "POST", body=f"token={everything}", Origin="http://evil.example").status == 403
        file.write_text(yaml.safe_dump({"tokens": yaml.safe_load(file.read_text())["tokens"][1:]}))
        assert portal.get("/", **session).status == 303
        assert portal.get("/api/entries", **bob).status == 200


def test_pictures_and_downloads(opened, tmp_path):
    import io

    from PIL import Image

    from intake_img import imload

    small = Image.open(io.BytesIO(opened.get("/thumb/plain.webp").body))
    assert small.size == (80, 64)
    tile = np.asarray(Image.open(io.BytesIO(opened.get("/tile/plain/0/0/0.png?c=0~0~899~ffffff").body)))
    with imload(opened.library.items["plain"].entry()) as ds:
        values = ds["image"].values
    np.testing.assert_allclose(tile[..., 0], values * (255 / 899), atol=0.51)
    for kind in (".ome.tif", ".zarr.zip"):
        path = tmp_path / f"a{kind}"
        path.write_bytes(opened.get(f"/download/plain{kind}").body)
        with imload(path) as back:
            np.testing.assert_array_equal(back["image"].values, values)


@pytest.mark.parametrize(("driver", "uri"), [("directory", "many"), ("filepattern", "many/m_{t}.tif")])
def test_a_changed_file_of_many_is_seen(driver, uri, folder):
    chunk = "0/c/1/0/0"
    (folder / "many").mkdir(exist_ok=True)
    for k in range(3):
        tifffile.imwrite(folder / "many" / f"m_{k}.tif", np.full((8, 9), k, "u1"))
    entry = {"driver": driver, "args": {"uri": "{{ CATALOG_DIR }}/" + uri}}
    (folder / "many.yml").write_text(yaml.safe_dump({"sources": {"m": entry}}))
    with serving([folder / "many.yml"], folder / driver) as portal:
        before = portal.get(f"/data/m.zarr/{chunk}").headers["etag"]
        assert set(portal.get(f"/pixels/m.zarr/{chunk}").body) == {1}
        tifffile.imwrite(folder / "many" / "m_1.tif", np.full((8, 9), 77, "u1"))
        time.sleep(2.1)
        assert portal.get(f"/data/m.zarr/{chunk}").headers["etag"] != before
        assert set(portal.get(f"/pixels/m.zarr/{chunk}").body) == {77}


def test_a_changed_catalog_and_a_changed_file_are_seen(folder):
    catalog = folder / "changing.yml"
    entry = {"driver": "tif", "args": {"uri": "{{ CATALOG_DIR }}/c.tif"}}
    tifffile.imwrite(folder / "c.tif", np.zeros((8, 9), "u1"))
    catalog.write_text(yaml.safe_dump({"sources": {"one": entry}}))
    with serving([catalog], folder / "r") as portal:
        before = portal.get("/data/one.zarr/0/c/0/0")
        tifffile.imwrite(folder / "c.tif", np.full((8, 9), 7, "u1"))
        catalog.write_text(yaml.safe_dump({"sources": {"one": entry, "two": entry}}))
        time.sleep(2.1)
        after = portal.get("/data/one.zarr/0/c/0/0")
        assert after.headers["etag"] != before.headers["etag"]
        assert set(portal.get("/pixels/one.zarr/0/c/0/0").body) == {7}
        assert b'href="/e/two"' in portal.get("/").body


def test_a_line_has_a_page_without_a_viewer(folder):
    from intake_img import imload

    np.save(folder / "line.npy", np.arange(9.0))
    with serving([folder / "line.npy"], folder / "l") as portal:
        (name,) = portal.library.items
        page = portal.get(f"/e/{name}").body.decode()
        assert "intake-viewer" not in page
        assert "a line of values" in page
        with imload(f"{portal.url}/data/{name}.zarr") as served:
            np.testing.assert_array_equal(served["image"].values.ravel(), np.arange(9.0))


def test_the_texts_to_copy_run(folder):
    file = folder / "copied.yml"
    token = add_token(file, "Ada")
    for options in ({}, {"tokens": file}):
        with serving([folder / "other.yml"], folder / f"s{len(options)}", **options) as portal:
            page = portal.get("/e/b", Authorization=f"Bearer {token}").body.decode()
            texts = [html.unescape(one) for one in re.findall(r"<pre tabindex=\"0\">(.*?)</pre>", page, re.S)][:3]
            assert all(("TOKEN" in one) == bool(options) for one in texts)
            names: dict[str, Any] = {}
            for one in texts:
                exec(one.replace("TOKEN", token), names)
            assert list(names["catalog"]) == ["b"]
            with names["ds"] as ds, names["catalog"].b.to_dask() as same:
                np.testing.assert_array_equal(same["image"].values, ds["image"].values)
                np.testing.assert_array_equal(np.asarray(names["group"]["0"]), ds["image"].values)


def test_thumbnails_are_kept_before_they_are_requested(folder, monkeypatch):
    from intake_img.portal import render
    from intake_img.portal.caches import DiskCache

    entry = {"driver": "tif", "args": {"uri": "{{ CATALOG_DIR }}/a.tif"}}
    (folder / "kept.yml").write_text(yaml.safe_dump({"sources": {"b": entry}}))
    small, put, made, kept = render._small, DiskCache.put, [], threading.Event()

    def counted(opened, kind, scene):
        made.append(kind)
        return small(opened, kind, scene)

    def seen(cache, key, data):
        put(cache, key, data)
        if key.startswith("thumbnail/"):
            kept.set()

    monkeypatch.setattr(render, "_small", counted)
    monkeypatch.setattr(DiskCache, "put", seen)
    with serving([folder / "kept.yml"], folder / "k") as portal:
        assert kept.wait(60)
        assert portal.get("/thumb/b.webp").headers["content-type"] == "image/webp"
        assert made == ["webp"]
