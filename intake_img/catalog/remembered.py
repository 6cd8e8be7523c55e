"""The whole result of a scan, kept in its memory for as long as nothing in the folders changes."""

from __future__ import annotations

import hashlib
import importlib.metadata
import marshal
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from typing import Any

from intake_img.catalog.facts import sentence
from intake_img.catalog.inspector import Inspector
from intake_img.catalog.memory import Remembered, ScanMemory
from intake_img.catalog.places import FOLDERS, ScannedFolder, Stamp, stamps_in
from intake_img.catalog.scanned import Scan
from intake_img.collections.plates.source import PlateSource
from intake_img.collections.sequence import FilePatternSource
from intake_img.formats.registry import bridges, formats
from intake_img.formats.source import ImageSource
from intake_img.storage.files import File

__all__ = ["State", "context_of", "remember", "remembered", "state_of"]


_MARSHALLED = 2  # the last version in which equal things are equal bytes


@dataclass(frozen=True)
class State:
    """What a tree looked like.

    Attributes
    ----------
    tree : str
        Digest of all names, sizes and times in the folders.
    stores : mapping of str to str
        For each image that is a folder, what changes when it does.
    """

    tree: str
    stores: Mapping[str, str]


@cache
def _version() -> str:
    return importlib.metadata.version("intake_img")


def context_of(root: File, recursive: bool, exclude: Sequence[str]) -> dict[str, Any]:
    """Return what a memory is good for: the folder and the options of a scan, and the formats that it knows."""
    return {
        "version": _version(),
        "formats": [*formats(), *bridges()],
        "root": root.path,
        "recursive": recursive,
        "exclude": list(exclude),
    }


def state_of(inspector: Inspector, places: Sequence[ScannedFolder]) -> State | None:
    """Return what the folders looked like before their files were read; None where that is not known of all."""
    tree = {p.path: p.stamps for p in places}
    if not inspector.memory or any(() in stamps.values() for stamps in tree.values()):
        return None
    paths = [f"{p.path}/{n}" for p in places for n in p.names if p.stamps.get(n) in FOLDERS]
    stores = {path: inspector.stamp_of_store(path) for path in paths}
    if None in stores.values():
        return None
    return State(_digest(tree, inspector.memory), stores)  # type: ignore[arg-type]


def _digest(tree: Mapping[str, Mapping[str, Stamp]], memory: ScanMemory) -> str:
    """Return a digest of a tree without the memory itself."""
    folder, own = os.path.split(os.path.abspath(memory.path))
    mine = {own, f"{own}-journal"}

    sound = hashlib.blake2b(digest_size=16)
    for at in sorted(tree):
        here = tree[at]
        names = sorted(here)
        if at == folder:
            names = [name for name in names if name not in mine]
        content = at, names, [here[name] for name in names]
        sound.update(marshal.dumps(content, _MARSHALLED))
    return sound.hexdigest()


def remember(inspector: Inspector, found: Scan, state: State | None) -> Scan:
    """Keep the result of a scan for the next one, and return it."""
    memory: Any = inspector.memory
    before = memory.result("state")
    results: dict[str, Any] = {}
    if state is not None and inspector.lasting:
        results = {"state": vars(state), "skipped": found.skipped, "others": found.others, "notes": found.notes}
        results |= {"count": len(found)}
    memory.finish(results, (_row(found, name) for name in (found if results else ())), inspector.asked)
    return replace(found, unchanged=bool(results) and before == vars(state))


def _row(found: Scan, name: str) -> tuple[str, str, str, Any, Any]:
    source = found.sources[name]
    options = {k: v for k, v in source.arguments().items() if k not in ("uri", "storage_options")}
    return name, source.uri, type(source).name, options, dict(found.facts[name])


def remembered(memory: ScanMemory, root: File, recursive: bool, exclude: Sequence[str]) -> Scan | None:
    """Return the last result if nothing changed since, else None; of servers it is not known before they are asked."""
    state = memory.result("state")
    if state is None or not root.local:
        return None
    tree = stamps_in(root.path, frozenset(state["stores"]), recursive, exclude)
    if tree is None or _digest(tree, memory) != state["tree"]:
        return None
    inspector = Inspector.plain(root)
    if any(inspector.stamp_of_store(path) != stamp for path, stamp in state["stores"].items()):
        return None
    skipped, others, notes, count = (memory.result(what) for what in ("skipped", "others", "notes", "count"))
    sources = Remembered(memory.path, state["tree"], count, partial(_source, root))
    facts = Remembered(memory.path, state["tree"], count, _facts)
    return Scan(root.path, sources, skipped, facts, notes, others, True)


def _facts(name: str, path: str, driver: str, options: Any, facts: Any) -> dict[str, Any]:
    return dict(facts)


def _source(root: File, name: str, path: str, driver: str, options: Any, facts: Any) -> ImageSource:
    many: Mapping[str, type[ImageSource]] = {c.name: c for c in (FilePatternSource, PlateSource)}
    cls = many.get(driver) or (formats().get(driver) or bridges()[driver]).source
    source = cls(root.at(path), **options)
    source.name, source.description = name, sentence(facts)  # type: ignore[misc]
    return source
