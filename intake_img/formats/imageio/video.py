"""Videos: frames by number and their times, through PyAV.

The packets are listed once without decoding, which gives the number of frames and when each is shown; a frame is
reached from the key frame before it, or by going on from the last one that was read.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from intake_img.errors import CannotWriteError, FormatError
from intake_img.model.packages import imported
from intake_img.model.pixels import Pixels
from intake_img.storage.files import File
from intake_img.storage.streams import iter_planes

__all__ = ["Video", "write_video"]


def _av() -> Any:
    return imported("av", "video", "reading and writing videos")


@contextlib.contextmanager
def _damage_named(file: File) -> Iterator[None]:
    """Turn FFmpeg's errors into `FormatError`: their numbers look like disk errors, but concern the bytes."""
    try:
        yield
    except _av().FFmpegError as exc:
        raise FormatError(f"{file} cannot be decoded: {exc.strerror}; the file is truncated or damaged") from exc


class Video:
    """An open video, safe to share between threads.

    Attributes
    ----------
    shape : tuple of int
        Frames, height, width, and samples if it is in colour.
    dtype : numpy.dtype
        uint8; uint16 for videos of more than 8 bits.
    record : str
        The container's comment.
    durations : list of float
        Times between the frames, in milliseconds.
    header : dict
        Codec, pixel format and container.
    """

    def __init__(self, file: File) -> None:
        av = _av()
        self.lock = threading.RLock()
        self._source = file.open()
        self._stream = self._source.stream()
        self._file = file
        try:
            with _damage_named(file):
                self._open(av)
        except BaseException:
            self.close()
            raise

    def _open(self, av: Any) -> None:
        self._container = av.open(self._stream, mode="r")
        if not self._container.streams.video:
            raise FormatError(f"{self._file} contains no video")
        self._video = self._container.streams.video[0]
        # threads that decode further frames would report their errors to PyAV, which waits for the interpreter's lock,
        # while to free the decoder waits for them with the lock: damaged videos would hang
        self._video.thread_type = "SLICE"
        self._times = sorted({p.pts for p in self._container.demux(self._video) if p.pts is not None})
        if not self._times:
            raise FormatError(f"{self._file} contains no frames")
        self._converter = av.video.reformatter.VideoReformatter()
        self._at: Any = None  # the decoder, and the time of the frame it gave last
        self._last = -1
        self._describe(self._decode(0))

    def _describe(self, first: Any) -> None:
        self._gray = self._video.format.name.startswith("gray")
        deep = any(c.bits > 8 for c in self._video.format.components)
        self.dtype = np.dtype(np.uint16 if deep else np.uint8)
        self._format = ("gray16le" if deep else "gray") if self._gray else ("rgb48le" if deep else "rgb24")
        size = (first.height, first.width)
        self.shape = (len(self._times), *size) if self._gray else (len(self._times), *size, 3)
        step = float(self._video.time_base) * 1000
        self.durations = [(b - a) * step for a, b in zip(self._times, self._times[1:], strict=False)]
        self.record = _comment(self._container.metadata)
        self.header = {
            "container": self._container.format.name,
            "codec": self._video.codec_context.name,
            "pixel_format": self._video.format.name,
            "rate": str(self._video.average_rate),
        }

    def frame(self, number: int) -> np.ndarray:
        """Return frame `number`, of shape ``(height, width)`` or ``(height, width, 3)``."""
        with self.lock, _damage_named(self._file):
            # not frame.to_ndarray(format=...): its converter belongs to the thread, and a later fork would wait for it
            converted = self._converter.reformat(self._decode(number), format=self._format)
            return np.asarray(converted.to_ndarray())

    def _decode(self, number: int) -> Any:
        if self._at is None or not 0 < number - self._last <= 32:
            self._container.seek(self._times[number], stream=self._video, backward=True, any_frame=False)
            self._at = self._container.decode(self._video)
        for frame in self._at:
            if frame.pts is not None and frame.pts >= self._times[number]:
                self._last = number
                if frame.pts != self._times[number]:
                    break
                return frame
        self._at = None
        raise FormatError(f"frame {number} of the video cannot be decoded: the file is truncated or damaged")

    def close(self) -> None:
        if getattr(self, "_container", None) is not None:
            self._at = None
            self._container.close()
        self._stream.close()
        self._source.close()


def _comment(metadata: Mapping[str, str]) -> str:
    """Return the comment of a container; Matroska stores the names of its tags in capitals."""
    return next((text for key, text in metadata.items() if key.lower() == "comment"), "")


def write_video(
    pixels: Pixels,
    path: str,
    kind: str,
    rate: float,
    quality: int,
    comment: str,
    progress: Callable[[int], None] | None,
) -> None:
    """Write frames, of shape ``(t, y, x)`` or ``(t, y, x, 3)``, uint8, as H.264 video.

    Parameters
    ----------
    pixels : Pixels
    path, kind : str
        Target, and the container's name: ``"mp4"``, ``"mov"``, ``"avi"`` or ``"matroska"``.
    rate : float
        Frames per second.
    quality : int
        1 to 100.
    comment : str
        Text for the container's metadata.
    progress : callable, optional
    """
    from fractions import Fraction

    av = _av()
    height, width = pixels.shape[1:3]
    if height % 2 or width % 2:
        raise CannotWriteError(
            f"a video's frames have an even height and width, these have {height} and {width}: crop a row or column, "
            "or save as .tif or .zarr"
        )
    colour = pixels.ndim == 4
    with av.open(path, mode="w", format=kind) as container:
        container.metadata["comment"] = comment
        stream = container.add_stream("libx264", rate=Fraction(rate).limit_denominator(10**6))
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.options = {"crf": str(round((100 - quality) * 0.51))}
        for plane in iter_planes(pixels, pixels.ndim - 1):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(plane), format="rgb24" if colour else "gray")
            container.mux(stream.encode(frame))
            if progress is not None:
                progress(plane.nbytes)
        container.mux(stream.encode(None))
