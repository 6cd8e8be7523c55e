"""Plates of several instruments, written by hand: an index as each of them has it, and a TIFF a plane."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import tifffile

WELLS = {"B03": (1, 2), "D11": (3, 10)}
STEP = 0.5  # µm
SECONDS = (0.0, 60.5)
CHANNELS = ("DAPI", "Alexa 488")


def values(times: int = 2, channels: int = 2, sections: int = 3) -> np.ndarray:
    """Pixels of shape (well, field, t, c, z, y, x), all different."""
    shape = (len(WELLS), 2, times, channels, sections, 4, 5)
    return np.arange(np.prod(shape), dtype="u2").reshape(shape)


def position(field: int) -> tuple[float, float]:
    """Position of a field in µm, y downwards."""
    return field * 2.5, -field * 1.0


def planes(pixels: np.ndarray) -> Iterator[tuple[str, tuple[int, int], int, int, int, int, np.ndarray]]:
    """Yield well, row and column, field, t, c, z from 0, and the plane."""
    for (w, well), f, t, c, z in product(enumerate(WELLS), *map(range, pixels.shape[1:5])):
        yield well, WELLS[well], f, t, c, z, pixels[w, f, t, c, z]


def _write(path: Path, plane: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    tifffile.imwrite(path, plane, compression="zlib")


def phenix(folder: Path, pixels: np.ndarray, *, maps: bool = True, above: bool = False) -> Path:
    """Harmony V6, which puts the facts of channels into maps; V7 puts the index above the images."""
    images = []
    for _, (row, column), f, t, c, z, plane in planes(pixels):
        name = f"r{row + 1:02d}c{column + 1:02d}f{f + 1:02d}p{z + 1:02d}-ch{c + 1}sk{t + 1}fk1fl1.tiff"
        _write(folder / "Images" / name, plane)
        x, y = position(f)
        told = "" if maps else _channel(c)
        images.append(
            f'<Image Version="1"><State>Ok</State><URL>{name}</URL><Row>{row + 1}</Row><Col>{column + 1}</Col>'
            f"<FieldID>{f + 1}</FieldID><PlaneID>{z + 1}</PlaneID><TimepointID>{t}</TimepointID>"
            f'<ChannelID>{c + 1}</ChannelID>{told}<PositionX Unit="m">{x * 1e-6}</PositionX>'
            f'<PositionY Unit="m">{-y * 1e-6}</PositionY><PositionZ Unit="m">{z * 2e-6}</PositionZ>'
            f'<MeasurementTimeOffset Unit="s">{SECONDS[t]}</MeasurementTimeOffset></Image>'
        )
    entries = "".join(f'<Entry ChannelID="{c + 1}">{_channel(c)}</Entry>' for c in range(len(CHANNELS)))
    index = folder / "Index.idx.xml" if above else folder / "Images" / "Index.idx.xml"
    index.write_text(
        '<?xml version="1.0" encoding="utf-8"?>\n<EvaluationInputData xmlns="http://www.perkinelmer.com/PEHH/HarmonyV6">'
        "<Plates><Plate><PlateID>7</PlateID><Name>P &amp; Q</Name><PlateRows>16</PlateRows>"
        f"<PlateColumns>24</PlateColumns></Plate></Plates><Maps><Map>{entries if maps else ''}</Map></Maps>"
        f"<Images>{''.join(images)}</Images></EvaluationInputData>"
    )
    return folder


def _channel(c: int) -> str:
    return (
        f"<ChannelName>{CHANNELS[c]}</ChannelName>"
        f'<ImageResolutionX Unit="m">{STEP * 1e-6}</ImageResolutionX>'
        f'<ImageResolutionY Unit="m">{STEP * 1e-6}</ImageResolutionY>'
        f'<MainExcitationWavelength Unit="nm">{405 + c}</MainExcitationWavelength>'
        f'<MainEmissionWavelength Unit="nm">{456 + c}</MainEmissionWavelength>'
    )


def cellvoyager(folder: Path, pixels: np.ndarray) -> Path:
    """CV7000: records of the types IMG and ERR, details with a byte order mark, a setting with channels."""
    folder.mkdir(parents=True, exist_ok=True)
    records = [
        '<bts:MeasurementRecord bts:Type="ERR" bts:Row="1" bts:Column="1" bts:FieldIndex="1">FAILED</bts:'
        "MeasurementRecord>"
    ]
    for well, (row, column), f, t, c, z, plane in planes(pixels):
        name = f"P_{well}_T{t + 1:04d}F{f + 1:03d}L01A01Z{z + 1:02d}C{c + 1:02d}.tif"
        _write(folder / name, plane)
        x, y = position(f)
        records.append(
            f'<bts:MeasurementRecord bts:Type="IMG" bts:Time="2024-01-01T10:0{int(SECONDS[t]) // 60}:'
            f'{SECONDS[t] % 60:04.1f}00000+01:00" bts:Column="{column + 1}" bts:Row="{row + 1}" '
            f'bts:TimePoint="{t + 1}" bts:FieldIndex="{f + 1}" bts:ZIndex="{z + 1}" bts:ActionIndex="1" '
            f'bts:X="{x}" bts:Y="{-y}" bts:Z="{z * 2.0}" bts:Ch="{c + 1}">{name}</bts:MeasurementRecord>'
        )
    space = 'xmlns:bts="http://www.yokogawa.co.jp/BTS/BTSSchema/1.0"'
    head = '<?xml version="1.0" encoding="utf-8"?>'
    (folder / "MeasurementData.mlf").write_text(
        f"{head}<bts:MeasurementData {space}>{''.join(records)}</bts:MeasurementData>"
    )
    sizes = f'bts:HorizontalPixelDimension="{STEP}" bts:VerticalPixelDimension="{STEP}"'
    detail = (
        f'{head}<bts:MeasurementDetail {space} bts:RowCount="16" bts:ColumnCount="24">'
        f'<bts:MeasurementSamplePlate bts:Name="P &amp; Q"/><bts:MeasurementChannel bts:Ch="1" {sizes}/>'
        "</bts:MeasurementDetail>"
    )
    (folder / "MeasurementDetail.mrf").write_bytes(b"\xef\xbb\xbf" + detail.encode())
    lights = "".join(f'<bts:LightSource bts:Name="l{c}" bts:WaveLength="{405 + c}"/>' for c in range(2))
    channels = "".join(
        f'<bts:Channel bts:Ch="{c + 1}" bts:Target="{name}" bts:Color="#FF00{c:02X}FF" '
        f'bts:Acquisition="BP{456 + c}/45">'
        f"<bts:LightSourceName>l{c}</bts:LightSourceName></bts:Channel>"
        for c, name in enumerate(CHANNELS)
    )
    (folder / "s.mes").write_text(
        f"{head}<bts:MeasurementSetting {space}><bts:LightSourceList>{lights}"
        f"</bts:LightSourceList><bts:ChannelList>{channels}</bts:ChannelList>"
        "</bts:MeasurementSetting>"
    )
    return folder


def imagexpress(folder: Path, pixels: np.ndarray) -> Path:
    """MetaXpress: folders of times and sections, projections in ZStep_0, thumbnails beside the images."""
    for well, _, f, t, c, z, plane in planes(pixels):
        below = folder / f"TimePoint_{t + 1}"
        name = f"p_w1_{well}_s{f + 1}_w{c + 1}"
        _write(below / f"ZStep_{z + 1}" / f"{name}1A2B3C4D-0000-1111-2222-33334444ABCD.tif", plane)
        if z == 0:
            _write(below / "ZStep_0" / f"{name}.tif", plane)
            _write(below / "ZStep_1" / f"{name}_thumb1A2B3C4D-0000-1111-2222-33334444ABCD.tif", plane[:2])
    times, channels, sections = pixels.shape[2:5]
    facts = f'"HTSInfoFile", Version 1.0\r\n"Description", "5 µm, \x81"\r\n"TimePoints", {times}\r\n'
    facts += f'"ZSteps", {sections}\r\n'
    facts += f'"XWells", 24\r\n"YWells", 16\r\n"NWavelengths", {channels}\r\n'
    facts += "".join(f'"WaveName{c + 1}", "{name}"\r\n' for c, name in enumerate(CHANNELS))
    (folder / "p.HTD").write_bytes(facts.encode("latin-1") + b'"EndFile"\r\n')
    return folder


def incell(folder: Path, pixels: np.ndarray) -> Path:
    """InCell: texts in Latin-1 that do not say so."""
    folder.mkdir(parents=True, exist_ok=True)
    images = []
    for _, (row, column), f, t, c, z, plane in planes(pixels):
        letter = chr(ord("A") + row)
        name = f"{letter} - {column + 1}(fld {f + 1} wv {CHANNELS[c]} z {z + 1} tm {t + 1}).tif"
        _write(folder / name, plane)
        x, y = position(f)
        images.append(
            f'<Image filename="{name}" acquisition_time_ms="{SECONDS[t] * 1000}"><Well label="{letter} - {column + 1}">'
            f'<Row number="{row + 1}"/><Column number="{column + 1}"/></Well><FocusPosition unit="µm" z="{z * 2.0}"/>'
            f'<PlatePosition_um x="{x}" y="{y}"/><ExcitationFilter name="{CHANNELS[c]}" wavelength="{405 + c}"/>'
            f'<EmissionFilter name="{CHANNELS[c]}" wavelength="{456 + c}"/><Identifier field_index="{f}" '
            f'time_index="{t}" wave_index="{c}" z_index="{z}"/></Image>'
        )
    text = (
        f'<?xml version="1.0"?><ImageStack><ObjectiveCalibration pixel_width="{STEP}" pixel_height="{STEP}" '
        f'unit="µm"/><Plate rows="16" columns="24" name="P &amp; Q"/><Images>{"".join(images)}</Images>'
        "</ImageStack>"
    )
    (folder / "scan.xdce").write_bytes(text.encode("latin-1"))
    return folder


def scanr(folder: Path, pixels: np.ndarray) -> Path:
    """scanR: OME-XML beside the images in the folder ``data``."""
    data, images = folder / "data", []
    for (w, well), f in product(enumerate(WELLS), range(pixels.shape[1])):
        planes_, (row, column) = [], WELLS[well]
        for t, c, z in product(*map(range, pixels.shape[2:5])):
            name = f"{well}--W{w:05d}--P{f + 1:05d}--Z{z:05d}--T{t:05d}--{CHANNELS[c]}.tif"
            _write(data / name, pixels[w, f, t, c, z])
            x, y = position(f)
            at = f'FirstC="{c}" FirstT="{t}" FirstZ="{z}"'
            planes_.append(
                f'<TiffData {at}><UUID FileName="{name}">urn:uuid:0</UUID></TiffData>'
                f'<Plane TheC="{c}" TheT="{t}" TheZ="{z}" DeltaT="{SECONDS[t]}" PositionX="{x}" '
                f'PositionY="{y}" PositionZ="{z * 2.0}"/>'
            )
        names = "".join(f'<Channel Name="{n}"/>' for n in CHANNELS)
        label = f"{chr(ord('A') + row)}{column + 1}"
        images.append(
            f'<Image ID="Image:W{w}P{f}" Name="Well {w}, Position {f + 1} ({label})"><Pixels PhysicalSizeX="{STEP}" '
            f'PhysicalSizeY="{STEP}" SizeC="2" Type="uint16">{names}{"".join(planes_)}</Pixels></Image>'
        )
    (data / "metadata.ome.xml").write_text(
        '<?xml version="1.0" encoding="UTF-8"?><OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2013-06">'
        f"{''.join(images)}</OME>"
    )
    return folder


MAKERS: dict[str, tuple[Callable[..., Path], dict[str, Any]]] = {
    "phenix-v5": (phenix, {"maps": False}),
    "phenix-v6": (phenix, {}),
    "phenix-v7": (phenix, {"above": True}),
    "cellvoyager": (cellvoyager, {}),
    "imagexpress": (imagexpress, {}),
    "incell": (incell, {}),
    "scanr": (scanr, {}),
}
