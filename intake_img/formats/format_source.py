"""The Intake source of image files: it contains a format, opens a file and finds the scene."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import fields, replace
from typing import Any, ClassVar

from intake_img.errors import FormatError
from intake_img.formats.arguments import scene_number
from intake_img.formats.base import Format, Handle
from intake_img.formats.faults import translated_errors
from intake_img.formats.options import joined
from intake_img.formats.reading import FileReader, Glance
from intake_img.formats.source import ImageSource
from intake_img.model.agreement import overruled_axes
from intake_img.model.image import Image
from intake_img.model.stacking import stacked
from intake_img.model.typed import Uri
from intake_img.model.wells import Place, attrs_of, coordinates_of, named, parse_field
from intake_img.storage.files import File
from intake_img.storage.handles import POOL

__all__ = ["FormatSource", "source_of"]


class FormatSource(ImageSource):
    """Image in a file of one format."""

    format: ClassVar[Format]
    """The format; each format has a subclass, made by `source_of`."""

    def __init__(self, uri: Uri | File, **options: Any) -> None:
        super().__init__(uri, **options)
        own = self.format.options
        self.open_options = own(**{f.name: getattr(self.options, f.name) for f in fields(own)})
        self._reader: FileReader | None = None

    @contextlib.contextmanager
    def opened(self) -> Iterator[Handle]:
        """Yield the open file; errors name it."""
        with translated_errors(self.format, self.file):
            first = self._reader is None
            reader = self._file_reader()
            POOL.use(reader.key, reader)
            with reader.first_lease() if first else reader.lease() as handle:
                yield handle

    def _file_reader(self) -> FileReader:
        if self._reader is None:
            self._reader = FileReader(self.format, self.file, self.stamp(), options=self.open_options)
        return self._reader

    @contextlib.contextmanager
    def glanced(self) -> Iterator[tuple[Handle, Image]]:
        """Yield the file, open for as long as this lasts, and its image; errors name it.

        For one look at each of many files: nothing is kept for the next one, neither in the pool nor here.
        """
        with translated_errors(self.format, self.file):
            handle = Glance(self.format, self.file, self.stamp(), options=self.open_options).opened_now()
            try:
                yield handle, self._described(handle).overruled(**self.overrides)
            finally:
                handle.close()

    def stamp(self) -> tuple[Any, ...]:
        return self.format.stamp(self.file)

    def beside(self, file: File) -> FormatSource:
        """Return a source of another file with the options of this one, without checking them again."""
        new = object.__new__(type(self))
        new.__dict__.update(self.__dict__, file=file, uri=file.path, _image=None, _reader=None, _schema=None)
        return new

    def _images(self) -> tuple[Image, Image]:
        if self._image is None:
            try:
                with self.opened() as handle:
                    handle.renew()
                    original = self._described(handle)
                    if (name := original.unfit()) is not None:
                        raise FormatError(f"the values along {name!r} are more or fewer than the pixels: it is damaged")
            except BaseException:  # the file does not stay open for as long as the error and its traceback
                if self._reader is not None:
                    POOL.shut(self._reader.key)
                raise
            self._image = original.overruled(**self.overrides), original
        return self._image

    def _described(self, handle: Handle) -> Image:
        names = tuple(map(str, handle.scene_names))

        def one(number: int | str) -> Image:
            image = handle.describe(number, self.level)
            return replace(image, scene=names[number] if isinstance(number, int) else number, scenes=names)

        places = handle.places

        def several(numbers: Sequence[int]) -> Image:
            images = [one(n) for n in numbers]
            overruled = overruled_axes(self.overrides, ("i", *next(iter(images[0].variables.values())).axes))
            image = replace(stacked(images, overruled), scene=str(self.scene), scenes=names)
            return _along(image, [places[n] for n in numbers]) if places else image

        if self.scene is None and (whole := handle.unasked(self.level)) is not None:
            return replace(whole, scenes=names)
        if self.scene == "all" and "all" not in names:
            return several(range(len(names)))
        if self.scene in self.format.special_scenes and self.scene not in names:
            return one(str(self.scene))
        if places and isinstance(self.scene, str) and self.scene not in names:
            if (place := parse_field(self.scene)) in places:
                return _at(one(places.index(place)), place)
            if (numbers := named(self.scene, places)) is not None:
                return several(numbers)
        number = scene_number(self.scene, names, self.file)
        return _at(one(number), places[number] if places else None)

    def _close(self) -> None:
        if self._reader is not None:
            POOL.close(self._reader.key)
        self._reader = None
        super()._close()


def _along(image: Image, places: Sequence[Place]) -> Image:
    """Return stacked images with the wells and fields along ``i``, and without the attributes of only the first one."""
    attrs = {k: v for k, v in image.attrs.items() if k not in ("well", "field", "position")}
    return replace(image, attrs=attrs, coords={**image.coords, **coordinates_of(places)})


def _at(image: Image, place: Place | None) -> Image:
    """Return an image with its well and field, if known."""
    return image if place is None else replace(image, attrs={**image.attrs, **attrs_of(place)})


def source_of(format: Format) -> type[FormatSource]:
    """Return the Intake source of a format, with its options in signature and docstring.

    Parameters
    ----------
    format : Format

    Returns
    -------
    type
        Assign it, in the format's module, to the name of the format's class plus ``Source``: ``TifSource =
        source_of(Tif())``. The entry point in the group ``intake.drivers`` refers to that name.
    """
    kind = type(format)
    options = joined(
        format.options,
        f"{kind.__name__}Options",
        scene=format.has_scenes,
        level=format.has_levels,
        docs=format.option_docs,
    )
    body = {
        "format": format,
        "name": format.name,
        "title": format.title,
        "Options": options,
        "__module__": kind.__module__,
        "__doc__": kind.__doc__,
    }
    kind.source = type(f"{kind.__name__}Source", (FormatSource,), body)
    return kind.source
