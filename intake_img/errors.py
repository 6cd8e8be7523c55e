"""The family of errors that this package raises, each of which is also the built-in error one would expect.

::

    IntakeImgError
    ├── FormatError(ValueError)            the bytes are not what their format promises
    │   └── UnknownFormatError             no driver knows the bytes
    ├── AxesError(ValueError)              letters of axes that are unknown, repeated or missing
    ├── UnitsError(ValueError)             a unit nobody knows, or units that do not convert
    ├── SceneError(LookupError)            no such scene, or level of a pyramid, in the file
    ├── CannotWriteError(ValueError)       the format cannot hold this image
    ├── CatalogError(ValueError)           a catalog that cannot be read, or asks for what it may not have
    ├── MissingExtraError(ImportError)     an optional package is not installed
    ├── SourceChangedError(OSError)        the file was replaced since it was opened
    ├── RemoteError(ConnectionError)       a server fails, drops connections or sends less than it promised
    ├── TargetExistsError(FileExistsError) the target exists and ``overwrite`` was not asked for
    └── TooLargeError(MemoryError)         the array does not fit into this machine's memory

Every message says what was given, what was expected and what to do.
"""

from __future__ import annotations

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
    """Base of all errors raised by this package on purpose."""


class FormatError(IntakeImgError, ValueError):
    """The bytes are not what their format promises: truncated, damaged, or of another format."""


class UnknownFormatError(FormatError):
    """No installed driver knows the bytes or the extension."""


class AxesError(IntakeImgError, ValueError):
    """Axes are unknown, repeated, missing, or do not fit the array."""


class UnitsError(IntakeImgError, ValueError):
    """A unit is unknown, or two units do not convert into each other."""


class SceneError(IntakeImgError, LookupError):
    """The file has no such scene, or no such level of a pyramid."""


class CannotWriteError(IntakeImgError, ValueError):
    """The format cannot hold this image."""


class CatalogError(IntakeImgError, ValueError):
    """A catalog cannot be read, or asks for what catalogs of others do not get."""


class MissingExtraError(IntakeImgError, ImportError):
    """An optional package is needed and not installed.

    Parameters
    ----------
    package : str
        Name of the missing distribution.
    extra : str or None
        The extra of intake_img that brings it; None if no extra does.
    purpose : str
        What needs it, e.g. ``"reading LZW compression"``.
    """

    def __init__(self, package: str, extra: str | None, purpose: str) -> None:
        install = f"'intake_img[{extra}]'" if extra else package
        super().__init__(f"{purpose} needs {package!r}, which is not installed: pip install {install}")
        self.package, self.extra, self.purpose = package, extra, purpose

    def __reduce__(self) -> tuple[type, tuple[str, str | None, str]]:
        return type(self), (self.package, self.extra, self.purpose)


class SourceChangedError(IntakeImgError, OSError):
    """A file is no longer the one that was opened: its lazy pixels cannot be read any more."""


class RemoteError(IntakeImgError, ConnectionError):
    """A server fails, drops connections or sends less than it promised, several times in a row."""


class TargetExistsError(IntakeImgError, FileExistsError):
    """The target of a write exists and ``overwrite=True`` was not given."""


class TooLargeError(MemoryError, IntakeImgError):  # in this order: MemoryError has a constructor of its own
    """An array would not fit into the memory of this machine."""
