"""Makes small OIF and OIB files, after Microsoft's description of compound files and settings of FluoView."""

from __future__ import annotations

import io
import struct
from pathlib import Path

import numpy as np
import tifffile

SECTOR, SHORT, FREE, END, FAT = 512, 64, 0xFFFFFFFF, 0xFFFFFFFE, 0xFFFFFFFD


def settings(sections: dict[str, dict[str, object]]) -> bytes:
    lines = []
    for name, values in sections.items():
        lines += [f"[{name}]", *(f'{k}="{v}"' if isinstance(v, str) else f"{k}={v}" for k, v in values.items())]
    return "\r\n".join(lines).encode("utf-16")


def main_file(order: str, sizes: dict[str, int], axes: dict[str, tuple[float, float, str]], **channels: dict) -> bytes:
    """Settings of an acquisition; `axes` gives start, end and unit."""
    found: dict[str, dict[str, object]] = {"File Info": {"DataName": "a.oif", "UserName": "somebody"}}
    found["ProfileSaveInfo"] = {"Name": "a", "Version": "1.0"}
    found["Axis Parameter Common"] = {"AxisCount": len(order), "AxisOrder": order}
    for k, code in enumerate("XYCZTALP"):
        start, end, unit = axes.get(code, (0.0, 0.0, "um"))
        found[f"Axis {k} Parameters Common"] = {
            "AxisCode": code,
            "MaxSize": sizes.get(code, 0),
            "StartPosition": start,
            "EndPosition": end,
            "PixUnit": unit,
            "UnitName": unit,
        }
    for name, values in channels.items():
        found[f"Channel {name[2:]} Parameters"] = values
    found["Reference Image Parameter"] = {
        "WidthConvertValue": 0.25,
        "HeightConvertValue": 0.25,
        "WidthUnit": "um",
        "HeightUnit": "um",
        "ValidBitCounts": 12,
    }
    return settings(found)


def tiff(plane: np.ndarray, **options) -> bytes:
    stream = io.BytesIO()
    tifffile.imwrite(stream, plane, metadata=None, **options)
    return stream.getvalue()


def planes(values: np.ndarray, letters: str, **options) -> dict[str, bytes]:
    """A TIFF file for each plane of an array whose leading axes have these letters."""
    found = {}
    for place in np.ndindex(values.shape[: len(letters)]):
        name = "".join(f"{a}{k + 1:03}" for a, k in zip(letters, place, strict=True))
        found[f"s_{name}.tif"] = tiff(values[place], **options)
    return found


def oif(path: Path, main: bytes, files: dict[str, bytes]) -> Path:
    folder = path.with_name(f"{path.name}.files")
    folder.mkdir()
    path.write_bytes(main)
    for name, data in files.items():
        (folder / name).write_bytes(data)
    return path


def oib(path: Path, main: bytes, files: dict[str, bytes]) -> Path:
    info: dict[str, object] = {"MainFileName": "Stream00000", "Stream00000": "a.oif", "Storage00001": "a.oif.files"}
    info |= {f"Stream{k:05}": f"Storage00001/{name}" for k, name in enumerate(files, 1)}
    streams = {"OibInfo.txt": settings({"OibSaveInfo": info}), "Stream00000": main}
    inner = {f"Stream{k:05}": data for k, data in enumerate(files.values(), 1)}
    path.write_bytes(compound(streams, inner))
    return path


def compound(streams: dict[str, bytes], inner: dict[str, bytes]) -> bytes:
    """A compound file of streams, and of streams within the storage ``Storage00001``."""
    fat: list[int] = []
    sectors: list[bytes] = []
    short_fat: list[int] = []
    short = b""

    def put(data: bytes) -> int:
        if not data:
            return END
        first = len(sectors)
        for at in range(0, len(data), SECTOR):
            sectors.append(data[at : at + SECTOR].ljust(SECTOR, b"\0"))
            fat.append(len(sectors))
        fat[-1] = END
        return first

    entries = []  # name, kind, start, size
    for data in [*streams.values(), *inner.values()]:
        if len(data) >= 4096:
            entries.append((2, put(data), len(data)))
            continue
        count = -(-len(data) // SHORT)
        first = len(short_fat) if count else END
        short_fat += [*range(first + 1, first + count), END] if count else []
        short += data.ljust(count * SHORT, b"\0")
        entries.append((2, first, len(data)))
    root = put(short)
    table = np.asarray(short_fat + [FREE] * (-len(short_fat) % 128), "<u4").tobytes()
    short_start = put(table)
    names = [*streams, *inner]
    n, m = len(streams), len(inner)
    listing = [_entry("Root Entry", 5, child=1, start=root, size=len(short))]
    listing += [  # siblings as a chain to the right, then the storage
        _entry(names[k], kind, right=k + 2, start=start, size=size) for k, (kind, start, size) in enumerate(entries[:n])
    ]
    listing.append(_entry("Storage00001", 1, child=n + 2 if m else FREE, start=0, size=0))
    listing += [
        _entry(names[n + k], kind, right=n + 3 + k if k + 1 < m else FREE, start=start, size=size)
        for k, (kind, start, size) in enumerate(entries[n:])
    ]
    directory = put(b"".join(listing))
    pages = 1
    while pages * 128 < len(fat) + pages:
        pages += 1
    first = len(sectors)
    full = [*fat, *[FAT] * pages]
    data = np.asarray(full + [FREE] * (pages * 128 - len(full)), "<u4").tobytes()
    head = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(16) + struct.pack("<5H6x", 0x3E, 3, 0xFFFE, 9, 6)
    head += struct.pack("<9I", 0, pages, directory, 0, 4096, short_start, len(table) // SECTOR, END, 0)
    return head + struct.pack("<109I", *range(first, first + pages), *[FREE] * (109 - pages)) + b"".join(sectors) + data


def shuffled(data: bytes, seed: int, moved_to_front: int = 0) -> bytes:
    """The same compound file with all sectors in another order, also those that hold tables and short streams.

    Or, if a number is given, so many of the last sectors are moved to the front.
    """
    rng = np.random.default_rng(seed)
    head = bytearray(data[:SECTOR])
    sectors = np.frombuffer(data[SECTOR:], "u1").reshape(-1, SECTOR)
    listed = np.frombuffer(head, "<u4", 109, 76).copy()
    pages = [int(k) for k in listed if k != FREE]
    fat = sectors[pages].view("<u4").ravel()[: len(sectors)]
    directory, _, _, short_start = struct.unpack_from("<4I", head, 48)
    new = rng.permutation(len(sectors)).astype("<u4")  # where each sector goes
    if moved_to_front:
        new = np.roll(np.arange(len(sectors)), -moved_to_front).astype("<u4")

    def moved(numbers: np.ndarray, places: np.ndarray) -> np.ndarray:
        return np.where(numbers < len(places), places[np.minimum(numbers, len(places) - 1)], numbers).astype("<u4")

    def chain(start: int) -> list[int]:
        found = []
        while start < len(fat):
            found.append(start)
            start = int(fat[start])
        return found

    content = sectors.copy()
    entries = content[chain(directory)].reshape(-1, 128)
    starts, kinds = entries[:, 116:120].view("<u4"), entries[:, 66]
    sizes = entries[:, 120:128].view("<u8")
    mini, root = chain(short_start), chain(int(starts[0, 0]))
    short_fat = content[mini].view("<u4").ravel()
    pieces = content[root].reshape(-1, SHORT)
    count = min(len(pieces), len(short_fat))
    short_new = rng.permutation(count).astype("<u4")
    placed, table = pieces.copy(), short_fat.copy()
    placed[short_new] = pieces[:count]
    table[short_new] = moved(short_fat[:count], short_new)
    content[root], content[mini] = placed.reshape(-1, SECTOR), table.view("u1").reshape(-1, SECTOR)
    for k in range(len(entries)):
        long = kinds[k] == 5 or (kinds[k] == 2 and sizes[k, 0] >= 4096)
        if long or kinds[k] == 2:
            starts[k] = moved(starts[k], new if long else short_new)
    sizes[0] = placed.size  # pieces may lie anywhere in it
    content[chain(directory)] = entries.reshape(-1, SECTOR)
    full = np.full(len(pages) * 128, FREE, "<u4")
    full[new] = moved(fat, new)
    content[pages] = full.view("u1").reshape(-1, SECTOR)
    out = np.empty_like(content)
    out[new] = content
    struct.pack_into("<I", head, 48, int(new[directory]))
    struct.pack_into("<I", head, 60, int(new[short_start]))
    head[76:512] = moved(listed, new).tobytes()
    return bytes(head) + out.tobytes()


def _entry(
    name: str, kind: int, *, left: int = FREE, right: int = FREE, child: int = FREE, start: int, size: int
) -> bytes:
    text = (name + "\0").encode("utf-16-le")
    head = text.ljust(64, b"\0") + struct.pack("<HBBIII", len(text), kind, 1, left, right, child)
    return head.ljust(116, b"\0") + struct.pack("<IQ", start, size)
