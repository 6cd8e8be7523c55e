"""Files that a scan does not use as images, each with the reason."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from intake_img.catalog.spelling import one_line
from intake_img.collections.file_names import natural_key
from intake_img.model.text import escaped, printable

__all__ = ["SKIPPED", "Unused", "counted", "with_skipped"]

SKIPPED = "skipped"
"""The key of the metadata of a catalog for what the last scan skipped."""
_METADATA = re.compile(r"^metadata:\n(?P<indent> +)(?=version: 1$)", re.M)
_LINE = re.compile(r"^ +skipped: \{.*\}\n", re.M)

_NAMED = 1000  # number of files that a catalog names


@dataclass(frozen=True)
class Unused:
    """Files that are not used as images.

    Attributes
    ----------
    skipped : dict of str to str
        By path, why a file that looks like an image is left out.
    others : dict of str to str
        By path, why a file does not look like an image.
    """

    skipped: dict[str, str] = field(default_factory=dict)
    others: dict[str, str] = field(default_factory=dict)

    def other(self, path: str) -> None:
        """Note a file that is not an image by its name or, if that has no extension, by its bytes."""
        extension = os.path.splitext(path)[1]
        self.others[path] = f"no driver reads {extension} files" if extension else "no driver recognises it"

    def explained(self, images: Iterable[str], plates: Iterable[str]) -> Unused:
        """Return the same in natural order; for files that may belong to an image, the reason names it.

        Parameters
        ----------
        images : iterable of str
            Paths of the images that were found.
        plates : iterable of str
            Paths of the indices of plates.
        """
        indices = {os.path.dirname(path): path for path in plates}
        stems = {_stem(path): path for path in images}
        others = {}
        for path, why in _ordered(self.others):
            owner = stems.get(_stem(path)) or indices.get(os.path.dirname(path))
            if path not in indices.values():
                others[path] = f"{why} by themselves; it may belong to {os.path.basename(owner)}" if owner else why
        return Unused(dict(_ordered(self.skipped)), others)

    def rows(self) -> Iterator[str]:
        """Yield a line for each file."""
        for what, files in (("skipped", self.skipped), ("no image", self.others)):
            yield from (f"{what} {escaped(path)}: {printable(why)}" for path, why in files.items())

    def facts(self, folder: str) -> dict[str, Any]:
        """Return the record for a catalog in `folder`: the number of skipped files, and the names of the first
        thousand."""
        named = {os.path.relpath(path, folder): why for path, why in list(self.skipped.items())[:_NAMED]}
        files = {escaped(path.replace(os.sep, "/")): printable(why) for path, why in named.items()}
        return {"count": len(self.skipped), "files": files}


def counted(metadata: Mapping[str, Any]) -> str:
    """Return a text with the number of files that the scan of a catalog skipped, from its metadata; "" if none."""
    facts = metadata.get(SKIPPED)
    count = facts.get("count") if isinstance(facts, Mapping) else None
    return f"{count} skipped" if isinstance(count, int) and count > 0 else ""


def with_skipped(text: str, facts: Mapping[str, Any] | None) -> str:
    """Return the text of a catalog with the files that its last scan skipped, in one line of its metadata."""
    if facts is None:
        return text
    head, sources, rest = text.partition("\nsources:")
    head = _LINE.sub("", head)
    if facts["count"]:
        head = _METADATA.sub(lambda m: f"{m[0]}{SKIPPED}: {one_line(dict(facts))}\n{m['indent']}", head, count=1)
    return head + sources + rest


def _stem(path: str) -> str:
    folder, name = os.path.split(path)
    return os.path.join(folder, name.partition(".")[0].casefold())


def _ordered(files: Mapping[str, str]) -> list[tuple[str, str]]:
    return sorted(files.items(), key=lambda item: natural_key(item[0]))
