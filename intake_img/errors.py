"""The errors of this package; each is also a subclass of the matching built-in error.

::

    IntakeImgError
    ├── FormatError(ValueError)            a truncated or damaged file, or one of another format
    │   └── UnknownFormatError             no driver recognises the file
    ├── AxesError(ValueError)              letters of axes that are unknown, repeated or missing
    ├── UnitsError(ValueError)             an unknown unit, or units that do not convert
    ├── SceneError(LookupError)            no such scene, or level of a pyramid, in the file
    ├── CannotWriteError(ValueError)       the format cannot store this image
    ├── CatalogError(ValueError)           a catalog that cannot be read, or requests something not allowed
    ├── MissingExtraError(ImportError)     an optional package is not installed
    ├── SourceChangedError(OSError)        the file was replaced since it was opened
    ├── RemoteError(ConnectionError)       a server fails, drops connections or sends incomplete data
    ├── TargetExistsError(FileExistsError) the target exists and ``overwrite=True`` was not given
    └── TooLargeError(MemoryError)         the array does not fit into this machine's memory

Every message says what was given, what was expected and what to do.
"""

from __future__ import annotations

import sys
import warnings
from types import FrameType

__all__ = [
    "AxesError",
    "CannotWriteError",
    "CatalogError",
    "FormatError",
    "IntakeImgError",
    "MissingExtraError",
    "RemoteError",
    "SceneError",
    "SourceChangedError",
    "TargetExistsError",
    "TooLargeError",
    "UnitsError",
    "UnknownFormatError",
]


class IntakeImgError(Exception):
    """Base of all errors that this package raises."""


class FormatError(IntakeImgError, ValueError):
    """The file is truncated, damaged, or of another format."""


class UnknownFormatError(FormatError):
    """No installed driver recognises the bytes or the extension."""


class AxesError(IntakeImgError, ValueError):
    """Axes are unknown, repeated, missing, or do not fit the array."""


class UnitsError(IntakeImgError, ValueError):
    """A unit is unknown, or two units do not convert into each other."""


class SceneError(IntakeImgError, LookupError):
    """The file has no such scene, or no such level of a pyramid."""


class CannotWriteError(IntakeImgError, ValueError):
    """The format cannot store this image."""


class CatalogError(IntakeImgError, ValueError):
    """A catalog cannot be read, or requests something that untrusted catalogs may not use."""


class MissingExtraError(IntakeImgError, ImportError):
    """A required optional package is not installed.

    Parameters
    ----------
    package : str
        Name of the missing distribution.
    extra : str or None
        The extra of intake_img that installs it; None if there is no such extra.
    purpose : str
        The feature that needs it, e.g. ``"reading LZW compression"``.
    """

    def __init__(self, package: str, extra: str | None, purpose: str) -> None:
        install = f"'intake_img[{extra}]'" if extra else package
        super().__init__(f"{purpose} needs {package!r}, which is not installed: pip install {install}")
        self.package, self.extra, self.purpose = package, extra, purpose

    def __reduce__(self) -> tuple[type, tuple[str, str | None, str]]:
        return type(self), (self.package, self.extra, self.purpose)


class SourceChangedError(IntakeImgError, OSError):
    """A file was changed or replaced since it was opened, so its lazy pixels cannot be read any more."""


class RemoteError(IntakeImgError, ConnectionError):
    """A server fails, drops connections or sends incomplete data, several times in a row."""


class TargetExistsError(IntakeImgError, FileExistsError):
    """The target of a write exists and ``overwrite=True`` was not given."""


class TooLargeError(MemoryError, IntakeImgError):  # in this order, since MemoryError has its own constructor
    """An array does not fit into the memory of this machine."""


_BETWEEN = frozenset({"intake_img", "intake", "xarray", "dask"})  # packages that may call this one for the user


def warn(text: str) -> None:
    """Warn of `text`, as a UserWarning at the line of the user's code that called this package.

    Python shows that line with the warning.
    """
    packages: list[str] = []
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        packages.append(frame.f_globals.get("__name__", "").partition(".")[0])
        frame = frame.f_back
    outermost = max((i for i, p in enumerate(packages) if p == "intake_img"), default=0)
    user = next((i for i in range(outermost, len(packages)) if packages[i] not in _BETWEEN), outermost)
    warnings.warn(text, UserWarning, stacklevel=user + 2)
