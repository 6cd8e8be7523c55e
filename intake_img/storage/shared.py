"""A staging folder that several processes fill: tasks write members, and the writer that began it commits them."""

from __future__ import annotations

import contextlib
import os
import platform
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from dataclasses import dataclass

from intake_img.errors import CannotWriteError
from intake_img.storage.files import File
from intake_img.storage.renames import remove_tree
from intake_img.storage.replacing import replace
from intake_img.storage.uploads import put

__all__ = ["SharedFolder", "check_shared"]


def check_shared(folder: str) -> None:
    """Raise `CannotWriteError` if this process, such as the worker of a cluster, does not see an existing folder.

    Parameters
    ----------
    folder : str
        A local path.
    """
    if not os.path.isdir(folder):
        raise CannotWriteError(
            f"the worker on {platform.node() or 'another machine'} does not see {folder}: workers write by themselves, "
            "so the target must lie in a folder that all of them share, under one name, or on a server (s3://...); "
            "engine='threads' writes from this process"
        )


@dataclass(frozen=True)
class SharedFolder:
    """Writes members like a `Staging`, from any process.

    Parameters
    ----------
    folder : File
        The staging folder.
    """

    folder: File

    def put(self, name: str, content: bytes) -> None:
        """Write a small member."""
        with self.member(name) as path, open(path, "wb") as stream:
            stream.write(content)

    @contextlib.contextmanager
    def member(self, name: str, folder: bool = False) -> Iterator[str]:
        """Yield a local path to write a member to; it is renamed to the member on success."""
        if self.folder.local:
            check_shared(self.folder.path)
        parent = self.folder.path if self.folder.local else tempfile.mkdtemp(prefix="intake_img-")
        path = os.path.join(parent, f".~{uuid.uuid4().hex}")
        try:
            if folder:
                os.mkdir(path)
            yield path
            self._give_name(path, name)
        finally:
            if not self.folder.local:
                shutil.rmtree(parent)
            elif os.path.lexists(path):
                remove_tree(path)

    def _give_name(self, path: str, name: str) -> None:
        if not self.folder.local:
            put(path, self.folder / name)
            return
        target = os.path.join(self.folder.path, name)
        if os.path.isdir(target):
            remove_tree(target)
        replace(path, target)
