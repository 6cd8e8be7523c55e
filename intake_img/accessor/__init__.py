"""``ds.img``: names and units in, plain arrays to the kernels. `ImgAccessor`, in `img`, is imported when it is used."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from intake_img.accessor.img import ImgAccessor

__all__ = ["ImgAccessor"]


def __getattr__(name: str) -> object:
    if name != "ImgAccessor":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from intake_img.accessor.img import ImgAccessor

    return ImgAccessor
