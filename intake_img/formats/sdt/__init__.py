"""Becker & Hickl SDT."""

from intake_img.formats.sdt.driver import Sdt, SdtSource

__all__ = ["Sdt", "SdtSource"]
