"""Known formats that no driver reads yet, by file extension."""

from __future__ import annotations

from collections.abc import Collection

__all__ = ["unsupported"]

_UNSUPPORTED = {
    ".oir": "Olympus OIR",
    ".poir": "Olympus POIR",
    ".ets": "pixels of an Olympus cellSens VSI",
    ".zvi": "Zeiss ZVI",
    ".sld": "SlideBook",
    ".sldyz": "SlideBook 7",
    ".nd": "MetaMorph ND",
    ".mat": "MATLAB",
    ".c01": "Cellomics C01",
    ".flex": "Opera Flex",
    ".liff": "Openlab LIFF",
    ".ipl": "IPLab",
    ".gel": "Amersham GEL",
}
_ENDINGS = tuple(_UNSUPPORTED)


def unsupported(name: str, known: Collection[str] = ()) -> str | None:
    """Return what format a file has by its name, if that is one that none of the drivers reads; else None.

    Parameters
    ----------
    name : str
    known : collection of str
        Extensions that the installed drivers read.

    Examples
    --------
    >>> unsupported("Series.SLD"), unsupported("a.tif")
    ('SlideBook', None)
    """
    lower = name.lower()
    if not lower.endswith(_ENDINGS) or lower.endswith(tuple(known)):
        return None
    return _UNSUPPORTED[max((e for e in _ENDINGS if lower.endswith(e)), key=len)]
