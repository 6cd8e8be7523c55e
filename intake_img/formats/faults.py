"""Errors of damaged files: exceptions of libraries become a `FormatError` that names the file."""

from __future__ import annotations

import errno
from typing import Any

from intake_img.errors import AxesError, FormatError, IntakeImgError, RemoteError
from intake_img.storage.files import File
from intake_img.storage.remote import noted_failures

__all__ = ["translated_errors"]

# what a mistake in code raises; of a library, which may meet it on damaged bytes, it is translated as the others are
_MISTAKES = (AttributeError, NameError, NotImplementedError, AssertionError, TypeError)


class translated_errors:
    """Turn what a library raises on damaged bytes into `FormatError`, and let each error of ours name the file.

    Bugs in the code of a format, such as an `AttributeError`, are not faults of the file and pass unchanged, as do
    warnings that the user turned into errors (``python -W error``). What a server failed with within the ``with`` is
    raised in place of what a library made of that.
    """

    __slots__ = ("_file", "_format", "_noted")

    def __init__(self, format: Any, file: File) -> None:
        self._format, self._file, self._noted = format, file, noted_failures()

    def __enter__(self) -> None:
        self._noted.__enter__()

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, trace: object) -> None:
        self._noted.__exit__()
        met = self._noted.met
        if met and not isinstance(exc, RemoteError) and (exc is None or isinstance(exc, Exception)):
            raise RemoteError(met[0]) from None
        if isinstance(exc, Exception) and (better := _translated(self._format, self._file, exc)) is not None:
            raise better from exc


_AS_THEY_ARE = (
    IntakeImgError,
    FileNotFoundError,
    PermissionError,
    IsADirectoryError,
    NotADirectoryError,
    ConnectionError,
    TimeoutError,
    ImportError,
    Warning,
)


def _translated(format: Any, file: File, exc: Exception) -> Exception | None:
    """Return the error to raise instead of `exc`; None to leave it."""
    if isinstance(exc, (FormatError, AxesError)):
        _check_empty(format, file)
        return None if file.name in str(exc) else type(exc)(f"{file}: {exc}")
    if isinstance(exc, _AS_THEY_ARE):
        return None
    if isinstance(exc, MemoryError):
        return FormatError(f"{file}: its header asks for more memory than there is; it is damaged or too large")
    if isinstance(exc, _MISTAKES) and _own_code(format, exc):
        return None
    # the disk or the network, not the bytes; but damaged bytes give offsets and names that are no valid arguments
    if isinstance(exc, OSError) and exc.errno not in (None, errno.EINVAL, errno.ENAMETOOLONG):
        return None
    _check_empty(format, file)
    return FormatError(
        f"{file}: cannot be read as {format.title}: {type(exc).__name__}: {str(exc)[:300] or 'no details'}; "
        "the file is truncated, damaged, or of another format"
    )


def _check_empty(format: Any, file: File) -> None:
    """Raise an error that says so if a file that could not be read is empty."""
    try:
        about = {} if file.local else file.remote_info()
        empty = not file.head(1) if file.local else about.get("size") == 0 and about.get("type") == "file"
    except (OSError, IntakeImgError):
        return
    if empty:
        raise FormatError(f"{file} is empty (0 bytes): expected a {format.title} file; copy or save it again")


def _own_code(format: Any, exc: Exception) -> bool:
    """Whether an error was raised by this package or that of the format, not by a library that parses the bytes."""
    trace = exc.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    raised_in = str(trace.tb_frame.f_globals.get("__name__", "")) if trace is not None else ""
    return raised_in.partition(".")[0] in ("intake_img", format.__module__.partition(".")[0])
