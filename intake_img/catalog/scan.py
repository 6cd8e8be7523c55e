"""Scan of a folder for images: single files and stores, or several files that form one image by their names.

Names suggest which files belong together, headers confirm it: files that do not fit stay single images.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from intake_img.catalog.entry_names import unique_names
from intake_img.catalog.facts import sentence
from intake_img.catalog.grouping import AcrossFolders, InFolder
from intake_img.catalog.places import places_in
from intake_img.catalog.plates import plates_in, without
from intake_img.catalog.unused import Unused
from intake_img.collections.file_names import natural_key
from intake_img.formats.source import ImageSource
from intake_img.model.text import escaped, printable
from intake_img.model.typed import Uri
from intake_img.storage.files import File
from intake_img.storage.jail import Jail

__all__ = ["Scan", "scan"]


@dataclass(frozen=True)
class Scan(Mapping[str, ImageSource]):
    """Result of `scan`: sources by name, and files that could not be read.

    Attributes
    ----------
    folder : str
    sources : dict of str to ImageSource
        In natural order of their paths.
    skipped : dict of str to str
        For each path that looks like an image and is left out, the reason: damaged, special and unreachable files, and
        formats that no driver reads.
    others : dict of str to str
        For each other file, why it is not an image: by its name, or by its bytes if the name has no extension. Files
        whose name begins with a dot are not counted, nor are files inside of an image that is a folder.
    notes : dict of str to str
        Further notes by path, such as the index of a plate that cannot be read.
    """

    folder: str
    sources: dict[str, ImageSource]
    skipped: dict[str, str]
    facts: dict[str, dict[str, Any]] = field(default_factory=dict, repr=False)
    notes: dict[str, str] = field(default_factory=dict)
    others: dict[str, str] = field(default_factory=dict)

    def __getitem__(self, name: str) -> ImageSource:
        return self.sources[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.sources)

    def __len__(self) -> int:
        return len(self.sources)

    def __repr__(self) -> str:
        rows = [f"  {n}: {printable(s.description)}" for n, s in self.sources.items()]
        rows += [f"  {row}" for row in self.unused.rows()]
        rows += [f"  note {escaped(p)}: {printable(what)}" for p, what in self.notes.items()]
        more = [f"  … and {len(rows) - 40} more"] if len(rows) > 40 else []
        unused = f"{len(self.skipped)} skipped, {len(self.others)} other files"
        head = f"<scan of {escaped(self.folder)}: {len(self.sources)} images, {unused}>"
        return "\n".join([head, *rows[:40], *more])

    @property
    def unused(self) -> Unused:
        """`skipped` and `others` together."""
        return Unused(self.skipped, self.others)


def scan(
    folder: Uri, *, recursive: bool = True, exclude: Iterable[str] = (), progress: Callable[[str], None] | None = None
) -> Scan:
    """Find the images in a folder.

    Files of ``imsave(..., partition=)`` and numbered series (``a_t001.tif``, ``a_t002.tif``, also in numbered folders:
    ``pos_1/t_01.tif``, ``pos_2/t_01.tif``) become one image each, if their grid is complete and their headers agree.
    The header of each image is read, and some headers of a series; no pixels. A plate with an index is one image.

    Parameters
    ----------
    folder : str or os.PathLike
        A local folder.
    recursive : bool
        Search the subfolders. Hidden ones, and symbolic links to folders, are left out.
    exclude : sequence of str
        Paths relative to `folder` to leave out; ``*`` matches anything, as in ``"old/*"``.
    progress : callable, optional
        Called with each path.

    Returns
    -------
    Scan
        A mapping of names to sources; `write_catalog` writes it as a catalog.

    Raises
    ------
    NotADirectoryError
        If there is no such folder.

    Examples
    --------
    >>> import numpy as np, tempfile, os
    >>> folder = tempfile.mkdtemp()
    >>> for t in range(3):
    ...     np.save(os.path.join(folder, f"cells_t{t}.npy"), np.zeros((4, 5), "uint8"))
    >>> scan(folder)["cells"].description
    '3 files: t 3, y 4, x 5, uint8'
    """
    root = File.parse(folder)
    if not root.local or not os.path.isdir(root.path):
        raise NotADirectoryError(f"{folder} is no local folder: expected one that holds images")
    unused = Unused()
    found: list[tuple[str, ImageSource, dict[str, Any]]] = []
    places = list(places_in(root.path, recursive, list(exclude), unused))
    jail = Jail((os.path.realpath(root.path),))  # as when the catalog is opened
    plates = plates_in(places, root.path, jail)
    found += plates.images
    places = [replace(p, names=without(p.names, p.path, plates.taken)) for p in places]
    across = AcrossFolders(places, root.path, unused, progress, jail)
    found += across.images()
    for place in across.rest():
        found += InFolder(place, unused, progress, jail).images()
    found.sort(key=lambda f: natural_key(os.path.relpath(f[0], root.path)))
    names = unique_names([os.path.relpath(path, root.path) for path, _, _ in found])
    sources: dict[str, ImageSource] = {}
    for name, (_, source, facts) in zip(names, found, strict=True):
        source.name, source.description = name, sentence(facts)  # type: ignore[misc]
        sources[name] = source
    told = unused.told([path for path, _, _ in found], [source.uri for _, source, _ in plates.images])
    facts_by_name = {n: f[2] for n, f in zip(names, found, strict=True)}
    return Scan(root.path, sources, told.skipped, facts_by_name, plates.notes, told.others)
