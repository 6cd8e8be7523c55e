"""The README and the documentation are true: their code runs, their links lead somewhere, their tables are current.

Every Python block of a page is executed, in one namespace, in an empty folder that holds the output of
``intake-img demo``; console blocks that call ``intake-img`` are run too. A block after ``<!-- file: NAME -->`` is
written to that file, one after ``<!-- not run: REASON -->`` is left alone.
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from page_runner import extras_of
from pages import blocks_of, write_files

from intake_img.doors.cli import format_markdown, formats_markdown, main
from intake_img.formats.registry import formats as installed

pytestmark = pytest.mark.thorough

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
PAGES = [p for p in PAGES if "generated" not in p.parts and "_build" not in p.parts]
ADD_A_FORMAT = ROOT / "docs" / "how-to" / "add-a-format.md"

pytest.importorskip("matplotlib").use("Agg")


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """Folder in which ``intake-img demo`` was run."""
    folder = tmp_path_factory.mktemp("demo")
    assert main(["demo", "--output", str(folder / "demo-output")]) == 0
    return folder


@pytest.fixture
def place(demo, tmp_path, monkeypatch):
    """An empty folder with the demonstration's output, for the time of the test the current one."""
    (tmp_path / "demo-output").symlink_to(demo / "demo-output", target_is_directory=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


WITH_CODE = [p for p in PAGES if p != ADD_A_FORMAT and any(b.language in ("python", "console") for b in blocks_of(p))]


RUNNER = [sys.executable, str(ROOT / "tests" / "page_runner.py")]
ENVIRONMENT = {k: v for k, v in os.environ.items() if not k.startswith("PYTEST_")} | {"MPLBACKEND": "Agg"}


@pytest.fixture(scope="module")
def forks():
    """Run a page in a fork of an interpreter that has imported the package; return exit code and output."""
    with subprocess.Popen(RUNNER, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=ENVIRONMENT, text=True) as server:

        def in_fork(page: Path, folder: Path, log: Path) -> tuple[int, str]:
            assert server.stdin is not None
            assert server.stdout is not None
            print(json.dumps([str(page), str(folder), str(log)]), file=server.stdin, flush=True)
            return int(server.stdout.readline()), log.read_text()

        yield in_fork
        server.kill()


@pytest.mark.parametrize("page", WITH_CODE, ids=name_of)
def test_code_runs(page, place, forks, tmp_path_factory):
    """In an interpreter that can import only what the page says to install."""
    if hasattr(os, "fork") and not set(extras_of(page)) - {"plot"}:
        code, said = forks(page, place, tmp_path_factory.mktemp("log") / "log")
    else:  # libraries note at their import which others there are
        done = subprocess.run(
            [*RUNNER, str(page)], cwd=place, env=ENVIRONMENT, capture_output=True, text=True, timeout=300
        )
        code, said = done.returncode, done.stdout + done.stderr
    assert code == 0, said[-5000:]


def test_every_page_with_code_is_found():
    assert len(PAGES) > 10
    assert sum(b.language == "python" for p in PAGES for b in blocks_of(p)) > 20
    for page in PAGES:
        fences = len(re.findall(r"^```", page.read_text(encoding="utf-8"), re.M))
        assert fences == 2 * len(blocks_of(page)), f"{page}: a fence is not understood"


@pytest.fixture(scope="module")
def plain_stack(tmp_path_factory):
    """The package that add-a-format.md describes, as pip would install it, and an environment that finds it."""
    folder = tmp_path_factory.mktemp("plain-stack")
    here = os.getcwd()
    os.chdir(folder)
    try:
        write_files(blocks_of(ADD_A_FORMAT))
    finally:
        os.chdir(here)
    with open(folder / "test_plain_stack.py", "a") as stream:
        stream.write("    damages = 40  # of 200: the laws themselves are tested elsewhere\n")
    project = tomllib.loads((folder / "pyproject.toml").read_text())["project"]
    info = folder / "plain_stack-1.0.dist-info"
    info.mkdir()
    requires = "".join(f"Requires-Dist: {r}\n" for r in project["dependencies"])
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: 1.0\n{requires}")
    (points,) = project["entry-points"].items()
    lines = "".join(f"{k} = {v}\n" for k, v in points[1].items())
    (info / "entry_points.txt").write_text(f"[{points[0]}]\n{lines}")
    (folder / "pyproject.toml").unlink()  # pytest would take it for its configuration
    (folder / "pytest.ini").write_text("[pytest]\nfilterwarnings = error\nmarkers = slow: takes long\n")
    return folder


def run_python(folder: Path, *arguments: str) -> None:
    path = os.pathsep.join([str(folder), str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTEST_")} | {"PYTHONPATH": path}
    done = subprocess.run(
        [sys.executable, *arguments], cwd=folder, env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]


def test_the_new_format_is_known_everywhere(plain_stack):
    code = [b.text for b in blocks_of(ADD_A_FORMAT) if b.language == "python" and not b.mark]
    assert code
    run_python(plain_stack, "-W", "error", "-c", "\n".join(code))
    run_python(plain_stack, "-m", "intake_img.doors.cli", "info", "stack.pls")


def test_the_new_format_keeps_the_laws(plain_stack):
    arguments = ["-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "-m", "not slow", "test_plain_stack.py"]
    run_python(plain_stack, *arguments)


# links and tables


def anchors_of(page: Path) -> set[str]:
    titles = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.M)
    return {re.sub(r"[^\w\- ]", "", t.lower()).strip().replace(" ", "-") for t in titles}


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_somewhere(page):
    text = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.M | re.S)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"https?:", target):
            continue
        path, _, anchor = target.partition("#")
        linked = (page.parent / path).resolve() if path else page
        assert linked.exists(), f"{target} does not exist"
        assert not anchor or anchor in anchors_of(linked), f"{target}: no such heading"


def test_every_page_is_listed():
    assert "\nformats/*\n" in (ROOT / "docs" / "reference" / "formats.md").read_text(encoding="utf-8")
    for page in PAGES:
        if page.name != "index.md" and page.parent != ROOT and page.parent.name != "formats":
            index = (page.parent / "index.md").read_text(encoding="utf-8")
            assert f"\n{page.stem}\n" in index, f"{page} is in no table of contents"


def test_every_format_has_a_page():
    """Which includes what is made of the format: facts and options."""
    for name, fmt in installed().items():
        if type(fmt).__module__.startswith("intake_img."):
            page = ROOT / "docs" / "reference" / "formats" / f"{name}.md"
            assert f"```{{include}} ../generated/{name}.md\n```" in page.read_text(encoding="utf-8")
            source = fmt.source
            assert f".. autoclass:: {source.__module__}.{source.__qualname__}\n" in format_markdown(fmt)


def test_table_of_formats_names_every_driver():
    table = formats_markdown()
    for name, fmt in installed().items():
        assert f"| `{name}` |" in table
        assert all(f"`{extension}`" in table for extension in fmt.extensions)


def test_the_table_of_formats_lists_the_extras_that_drivers_ask_for():
    formats = ROOT / "intake_img" / "formats"
    for name, fmt in installed().items():
        modules = [*(formats / name).glob("*.py"), *formats.glob(f"{name}.py")]
        text = "".join(module.read_text(encoding="utf-8") for module in modules)
        wanted = set(re.findall(r'(?:MissingExtraError|imported)\(\s*[^,]+,\s*"(\w+)"', text))
        wanted |= {"hdf5", "hdf5plugin"} if "from intake_img.formats.h5.handle import" in text else set()
        assert wanted <= set(fmt.extras), name


# notebooks of the pages


@pytest.fixture(scope="module")
def notebooks():
    spec = importlib.util.spec_from_file_location("docs_notebooks", ROOT / "docs" / "notebooks.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("page", WITH_CODE, ids=name_of)
def test_a_notebook_has_the_code_that_the_page_runs(page, notebooks):
    made = notebooks.notebook_of(page.read_text(encoding="utf-8"))
    code = ["".join(cell["source"]) for cell in made["cells"] if cell["cell_type"] == "code"]
    run = [b for b in blocks_of(page) if not b.mark.startswith(("not run: ", "file: ")) and b.language == "python"]
    assert [c for c in code if not c.startswith(("!", "%%", "# sample images"))] == [b.text.rstrip() for b in run]
    files = [b for b in blocks_of(page) if b.mark.startswith("file: ")]
    assert [c.partition("\n")[2] for c in code if c.startswith("%%writefile ")] == [b.text.rstrip() for b in files]
    if any("demo-output" in c for c in code):
        assert "!intake-img demo" in code[next(n for n, c in enumerate(code) if "demo" in c)]


def test_a_notebook_is_one_for_jupyter(notebooks):
    page = (ROOT / "docs" / "tutorials" / "own-images.md").read_text(encoding="utf-8")
    made = json.loads(json.dumps(notebooks.notebook_of(page)))
    assert (made["nbformat"], made["nbformat_minor"]) == (4, 5)
    ids = [cell["id"] for cell in made["cells"]]
    assert len(set(ids)) == len(ids) > 10
    for cell in made["cells"]:
        code = cell["cell_type"] == "code"
        assert set(cell) == {"id", "cell_type", "metadata", "source"} | (
            {"execution_count", "outputs"} if code else set()
        )
        text = "".join(cell["source"])
        assert text.strip()
        assert code or not re.search(r"!\[|\]\((?!https?:)", text)  # no pictures or links that lead nowhere
    assert "tutorials/own-images.ipynb>`" in notebooks.linked("tutorials/own-images", page).split("\n")[2]
    assert notebooks.linked("how-to/index", "# How to\n\n```sh\nls\n```\n") == "# How to\n\n```sh\nls\n```\n"
