"""Dialects of vendors: what the file says is on the axes, as tifffile's own parsers read it."""

from __future__ import annotations

import itertools
import json
import struct
import warnings

import numpy as np
import pytest
import tifffile
from test_tif_counts import run as micromanager_run

from intake_img import imload

PLANES = np.random.default_rng(4).integers(0, 4000, (12, 20, 32)).astype("u2")
DPI = {"resolution": (72, 72), "resolutionunit": 2}


def written(path, planes, texts=(), tags=(), **options):
    """Write pages, each with its own description, and with tags: (code, values of the pages) of ASCII."""
    with tifffile.TiffWriter(path, bigtiff=options.pop("bigtiff", False)) as tif:
        for k, plane in enumerate(planes):
            extra = [(code, "s", 0, values[k], True) for code, values in tags]
            text = texts[k] if len(texts) > 1 else texts[0] if texts and not k else None
            tif.write(
                plane,
                photometric="minisblack",
                metadata=None,
                description=text,
                contiguous=False,
                extratags=extra,
                **options,
            )
    return path


def header(ds):
    return json.loads(ds.attrs["fileheader"])


def spacing(ds):
    return {a: (round(v, 9), ds.img.units.get(a)) for a, v in ds.img.spacing.items()}


# electron microscopes


def zeiss(path, named, exact=True, width=1024):
    lines = ["0", "0", "0", "4.6512e-009" if exact else "0", *named, "AP_MAG", "Mag = 60.00 K X", ""]
    tags = [(34118, ["\r\n".join(lines)])]
    return written(path, [np.zeros((3, width), "u1")], tags=tags, **DPI)


def test_zeiss_sem(tmp_path):
    made = [
        (["AP_IMAGE_PIXEL_SIZE", "Image Pixel Size = 4.651 nm"], True, 1024, 4.6512),
        (["AP_IMAGE_PIXEL_SIZE", "Image Pixel Size = 2.326 nm"], True, 2048, 2.3256),
        (["AP_IMAGE_PIXEL_SIZE", "Image Pixel Size = 4.651 nm"], True, 600, 4.651),  # cropped
        (["AP_PIXEL_SIZE", "Pixel Size = 0.0093 um"], False, 512, 18.6),  # of a screen of 1024 columns
        (["AP_PIXEL_SIZE", "Pixel Size = 4.651 nm"], True, 512, 9.3024),
        (
            ["AP_PIXEL_SIZE", "Pixel Size = 4.651 nm", "DP_IMAGE_STORE", "Store resolution = 2048 * 1536"],
            True,
            600,
            2.3256,
        ),
        ([], True, 512, 9.3024),
        ([], False, 512, None),
    ]
    for n, (named, exact, width, size) in enumerate(made):
        path = zeiss(tmp_path / f"{n}.tif", named, exact, width)
        with tifffile.TiffFile(path) as tif:
            theirs = tif.sem_metadata
        ds = imload(path)
        assert spacing(ds) == ({} if size is None else {a: (pytest.approx(size), "nm") for a in "yx"})
        assert header(ds)["sem"]["ap_mag"] == list(theirs["ap_mag"])


FEI = {
    "scan": "[Scan]\r\nPixelWidth=3.37273e-009\r\nPixelHeight=3.4e-009\r\n",
    "column": "[Beam]\nBeam=IBeam\nScan=IScan\n[EScan]\nPixelWidth=1e-9\nPixelHeight=1e-9\n"
    "[IScan]\nPixelWidth=3.37273e-009\nPixelHeight=3.4e-009\n",
    "field": "[Beam]\nBeam=EBeam\n[EBeam]\nHFW=1.07927e-7\nVFW=6.8e-8\n[Image]\nResolutionX=32\nResolutionY=20\n",
}


def test_fei(tmp_path):
    for code, make in itertools.product([34680, 34682], FEI):
        path = written(tmp_path / f"{make}{code}.tif", PLANES[:1], tags=[(code, [FEI[make]])], **DPI)
        ds = imload(path)
        assert spacing(ds) == {"y": (pytest.approx(3.4), "nm"), "x": (pytest.approx(3.37273, rel=1e-5), "nm")}
        with tifffile.TiffFile(path) as tif:
            assert header(ds)["fei"] == tif.fei_metadata


def test_fei_without_a_scan_is_unknown(tmp_path):
    ds = imload(written(tmp_path / "a.tif", PLANES[:1], tags=[(34682, ["[User]\nDate=1\n"])], **DPI))
    assert spacing(ds) == {}


# Gatan and JEOL


def gatan(path, planes, units, scales, origins):
    spelled = [unit.encode("latin-1") + b"\0" for unit in units]
    texts = [(65003 + k, 2, len(unit), unit, True) for k, unit in enumerate(spelled)]
    numbers = [(65009 + k, 12, 1, scale, True) for k, scale in enumerate(scales)]
    numbers += [(65006 + k, 12, 1, origin, True) for k, origin in enumerate(origins)]
    more = [(65022, 2, 0, "e", True), (65024, 12, 1, 0.0, True), (65025, 12, 1, 2.5, True)]
    with tifffile.TiffWriter(path) as tif:
        for plane in planes:
            tif.write(
                plane,
                photometric="minisblack",
                metadata=None,
                contiguous=False,
                extratags=texts + numbers + more,
                **DPI,
            )
    return path


@pytest.mark.parametrize(("unit", "axis"), [("s", "t"), ("nm", "z")])
def test_stack_of_digital_micrograph(tmp_path, unit, axis):
    path = gatan(tmp_path / "a.tif", PLANES[:3], ("µm", "nm", unit), (0.2, 1.5, 2.0), (139.5, 0.0, 4.0))
    ds = imload(path)
    assert (ds.image.dims, spacing(ds)) == ((axis, "y", "x"), {axis: (2, unit), "y": (1.5, "nm"), "x": (0.2, "µm")})
    assert [float(ds[a][0]) for a in (axis, "y", "x")] == [4.0, 0.0, 139.5]
    assert header(ds)["gatan"]["intensity"] == {"unit": "e", "origin": 0.0, "scale": 2.5}
    np.testing.assert_array_equal(ds.image, PLANES[:3])


def test_axes_of_digital_micrograph_without_a_length(tmp_path):
    """Diffraction patterns have reciprocal units; resolution tags of 72 dpi say nothing."""
    ds = imload(gatan(tmp_path / "a.tif", PLANES[:1], ("1/nm", "1/nm"), (0.2, 0.2), (0.0, 0.0)))
    assert spacing(ds) == {}
    assert header(ds)["gatan"]["x"] == {"unit": "1/nm", "origin": 0.0, "scale": 0.2}


REPORT = """<?xml version="1.0"?><TemReporter><Manufacturer>JEOL Ltd.</Manufacturer><Eos><EosMode>{eos}</EosMode></Eos>
<ImageFormingSystem><ModeString>{mode}</ModeString><SelectorValue>{value}</SelectorValue></ImageFormingSystem></TemReporter>"""


@pytest.mark.parametrize(
    ("eos", "mode", "value", "nm"),
    [
        ("eosTEM", "MAG", 150000, 1.82079),
        ("eosTEM", "DIFF", 20, None),
        ("modeASID", "MAG", 150000, None),
        ("eosTEM", "MAG", 0, None),
    ],
)
def test_jeol_sightx(tmp_path, eos, mode, value, nm):
    text = REPORT.format(eos=eos, mode=mode, value=value)
    ds = imload(written(tmp_path / "a.tif", PLANES[:1], [text], resolution=(93, 93), resolutionunit=2))
    assert spacing(ds) == ({} if nm is None else {a: (pytest.approx(nm, rel=1e-5), "nm") for a in "yx"})


# MetaSeries


def plane_info(wave="DAPI", z=0.0, second=0, nm=447):
    rows = [
        ("spatial-calibration-state", "bool", "on"),
        ("spatial-calibration-x", "float", 0.325),
        ("spatial-calibration-y", "float", 0.325),
        ("spatial-calibration-units", "string", "um"),
        ("_IllumSetting_", "string", wave),
        ("wavelength", "float", nm),
        ("z-position", "float", z),
        ("stage-position-x", "float", 22985),
        ("stage-position-y", "float", 11),
        ("acquisition-time-local", "time", f"20160503 12:16:{second:02d}.500"),
    ]
    xml = "".join(f'<prop id="{key}" type="{kind}" value="{value}"/>' for key, kind, value in rows)
    return f"<MetaData><PlaneInfo>{xml}</PlaneInfo></MetaData>"


def test_metaseries_stack_of_channels_depths_and_times(tmp_path):
    texts = [
        plane_info(wave, 100 + 1.5 * z, 10 * t + z, nm)
        for t in range(2)
        for z in range(3)
        for wave, nm in (("DAPI", 447), ("FITC", 536))
    ]
    ds = imload(written(tmp_path / "a.tif", PLANES, texts, software="MetaSeries", **DPI), output_axis_order=None)
    assert ds.image.dims == ("t", "z", "c", "y", "x")
    assert spacing(ds) == {"t": (10, "s"), "z": (1.5, "µm"), "y": (0.325, "µm"), "x": (0.325, "µm")}
    assert ds.img.channels == ["DAPI", "FITC"]
    assert ds.c.attrs["emission_wavelength"] == [447, 536]
    np.testing.assert_array_equal(ds.image.values.reshape(PLANES.shape), PLANES)
    assert header(ds)["metaseries"]["stage-position-x"] == 22985


def test_uneven_depths_and_times_of_metaseries(tmp_path):
    texts = [plane_info(z=z) for z in (0, 1, 4)]
    ds = imload(written(tmp_path / "z.tif", PLANES[:3], texts, software="MetaSeries"))
    assert (ds.z.values.tolist(), ds.z.attrs["units"]) == ([0, 1, 4], "µm")
    texts = [plane_info(second=s) for s in (0, 1, 4)]
    ds = imload(written(tmp_path / "t.tif", PLANES[:3], texts, software="MetaSeries"))
    assert (ds.t.values.tolist(), ds.t.attrs["units"]) == ([0, 1, 4], "s")
    texts = [plane_info(z=z, wave=w) for z, w in ((0, "a"), (1, "b"), (4, "a"))]  # no grid
    assert imload(written(tmp_path / "i.tif", PLANES[:3], texts, software="MetaSeries")).image.dims == ("i", "y", "x")


# Olympus


def sis_bytes(at):
    """Olympus' structure, which names its own place in the file."""
    head = struct.pack("<4s6xhhhhh6x32sH", b"SIS0", 30, 12, 1, 1, 110, b"cells", 1) + struct.pack("<hhI", 1, 1, at + 68)
    return head + struct.pack("<10xhdd8xd2x34s32s", -9, 161.25, 161.5, 60.0, b"ORCA", b"") + bytes(100)


def placed_sis(path, pages):
    """Put the structure into its tag once that has a place."""
    content = bytearray(path.read_bytes())
    with tifffile.TiffFile(path) as tif:
        for page in pages:
            at = tif.pages[page].tags[33560].valueoffset
            content[at : at + len(sis_bytes(at))] = sis_bytes(at)
    path.write_bytes(content)


BLANK = bytes(len(sis_bytes(0)))


def test_olympus_sis(tmp_path):
    path = tmp_path / "a.tif"
    ini = "[Dimension]\nZ=1\nTime=3\nBand=2\n[Time]\nTimePos1=100\nTimePos2=600\nTimePos3=2000\n[Z]\nx=1\n[Band]\n"
    ini += "BandName1=Fura340\nBandName2=Fura380\n"
    tags = [(33560, 1, len(BLANK), BLANK, True), (33471, 2, 0, ini, True)]
    with tifffile.TiffWriter(path) as tif:
        for plane in PLANES[:6]:
            tif.write(plane, photometric="minisblack", metadata=None, contiguous=False, extratags=tags, **DPI)
    placed_sis(path, [0])
    with tifffile.TiffFile(path) as tif:
        theirs = tif.sis_metadata
    ds = imload(path, output_axis_order=None)
    assert (ds.image.dims, ds.image.shape) == (("t", "c", "y", "x"), (3, 2, 20, 32))
    assert ds.img.spacing["x"] == pytest.approx(1e6 * theirs["pixelsizex"])
    assert ds.img.spacing["y"] == pytest.approx(1e6 * theirs["pixelsizey"])
    assert ds.img.units["x"] == "µm"
    assert ds.img.channels == [band["BandName"] for band in theirs["Band"]]
    np.testing.assert_array_equal(ds.t, theirs["Time"]["TimePos"] - 100)
    np.testing.assert_array_equal(ds.image.values.reshape(-1, 20, 32), PLANES[:6])


@pytest.mark.parametrize("mark", [b"", b"\x18\0IS"])
def test_the_preview_of_an_sis_file_has_no_sizes_but_its_second_image_has(tmp_path, mark):
    """A camera (Quemesa) puts a preview before the image, and a header like that of a VSI before both."""
    path = tmp_path / "a.tif"
    with tifffile.TiffWriter(path) as tif:
        tif.write(np.zeros((20, 32, 3), "u1"), metadata=None)
        tif.write(PLANES[0], photometric="minisblack", metadata=None, extratags=[(33560, 1, len(BLANK), BLANK, True)])
    placed_sis(path, [1])
    with tifffile.TiffFile(path) as tif:
        first = tif.pages.first.offset
    content = bytearray(path.read_bytes())
    if mark:  # the first directory moves to the end, for space behind the 8 bytes of TIFF
        tags = int.from_bytes(content[first : first + 2], "little")
        content += content[first : first + 6 + 12 * tags]
        content[4:8] = (len(content) - 6 - 12 * tags).to_bytes(4, "little")
        content[8:12] = mark
    path.write_bytes(content)
    assert "sis" not in header(imload(path))
    ds = imload(path, scene=1)
    assert ds.img.spacing == {"y": pytest.approx(0.1615), "x": pytest.approx(0.16125)}
    np.testing.assert_array_equal(ds.image, PLANES[0])


def fluoview(path, planes, dims):
    record = np.zeros((), np.dtype(tifffile.TIFF.MM_HEADER))
    for k, (name, size, step, unit) in enumerate(dims):
        record["Dimensions"][k] = (name, size, 0.0, step, unit)
    tags = [(34361, 7, record.nbytes, record.tobytes(), True), (34362, 12, 8, [0.0] * 8, True)]
    with tifffile.TiffWriter(path) as tif:
        for plane in planes:
            tif.write(plane, photometric="minisblack", metadata=None, contiguous=False, extratags=tags, **DPI)
    return path


FLUOVIEW = [
    (b"X", 32, 0.4, b"um"),
    (b"Y", 20, 0.5, b"um"),
    (b"Ch", 2, 1.0, b"ch"),
    (b"Z", 3, 1.25, b"um"),
    (b"Time", 2, 0.75, b"s"),
]


def test_fluoview(tmp_path):
    path = fluoview(tmp_path / "a.tif", PLANES, FLUOVIEW)
    ds = imload(path, output_axis_order=None)
    with tifffile.TiffFile(path) as tif:
        assert (tif.series[0].axes.lower(), tif.series[0].shape) == ("".join(ds.image.dims), ds.image.shape)
    assert spacing(ds) == {"t": (0.75, "s"), "z": (1.25, "µm"), "y": (0.5, "µm"), "x": (0.4, "µm")}
    np.testing.assert_array_equal(ds.image.values.reshape(PLANES.shape), PLANES)


@pytest.mark.parametrize(("held", "shape"), [(6, (1, 3, 2)), (8, (8,))])
def test_headers_that_count_other_planes_than_there_are(tmp_path, held, shape):
    fluoview(tmp_path / "f.tif", PLANES[:held], FLUOVIEW)
    ini = "[Dimension]\nTime=2\nZ=3\nBand=2\n[Time]\nx=1\n[Z]\nx=1\n[Band]\nBandName1=a\nBandName2=b\n"
    written(tmp_path / "s.tif", PLANES[:held], tags=[(33471, [ini] * held)])
    for name in "fs":
        with pytest.warns(UserWarning, match=rf"its header counts 12 planes, the file contains {held}: these are read"):
            ds = imload(tmp_path / f"{name}.tif", output_axis_order=None)
        assert tuple(n for n in ds.image.shape[:-2] if n > 1) == tuple(n for n in shape if n > 1)
        np.testing.assert_array_equal(ds.image.values.reshape(-1, 20, 32), PLANES[:held])


# ScanImage

SCANIMAGE = {
    "SI.hChannels.channelSave": "[1;3]",
    "SI.hChannels.channelName": "{'GCaMP' 'other' 'tdTomato' 'off'}",
    "SI.hStackManager.framesPerSlice": "1",
    "SI.hStackManager.enable": "true",
    "SI.hStackManager.actualNumSlices": "3",
    "SI.hStackManager.actualStackZStepSize": "-5",
    "SI.hRoiManager.imagingFovUm": "[-320 -100;320 -100;320 100;-320 100]",
    "SI.hRoiManager.scanFrameRate": "30",
    "SI.hRoiManager.scanVolumeRate": "8",
    "SI.hRoiManager.mroiEnable": "false",
}


def settings(**changes):
    values = SCANIMAGE | {f"SI.{k.replace('__', '.')}": v for k, v in changes.items()}
    return "\n".join(f"{key} = {value}" for key, value in values.items())


@pytest.mark.parametrize(
    ("changes", "dims", "step"),
    [
        ({}, {"t": 2, "z": 3, "c": 2}, 1 / 8),
        ({"hStackManager__enable": "false", "hStackManager__framesPerSlice": "6"}, {"t": 6, "c": 2}, 1 / 30),
        ({"hStackManager__framesPerSlice": "2"}, {"z": 3, "t": 2, "c": 2}, 1 / 30),
        ({"hStackManager__framesPerSlice": "Inf", "hStackManager__actualNumSlices": "1"}, {"t": 6, "c": 2}, 1 / 30),
        ({"hStackManager__actualNumSlices": "5"}, {"t": 6, "c": 2}, 1 / 30),  # stopped early: no whole volumes
    ],
)
def test_scanimage(tmp_path, changes, dims, step):
    text = settings(**changes)
    written(tmp_path / "software.tif", PLANES, software=text)
    lines = ["\n".join("scanimage." + line for line in text.splitlines())]
    written(tmp_path / "description.tif", PLANES, lines)
    scanimage_bigtiff(tmp_path / "big.tif", PLANES, text)
    for name in ("software", "description", "big"):
        ds = imload(tmp_path / f"{name}.tif", output_axis_order=None)
        assert dict(list(ds.sizes.items())[:-2]) == dims
        assert ds.img.channels == ["GCaMP", "tdTomato"]
        sizes = {"t": (round(step, 9), "s"), "z": (5, "µm"), "y": (10, "µm"), "x": (20, "µm")}
        assert spacing(ds) == {k: v for k, v in sizes.items() if k in ds.dims}
        np.testing.assert_array_equal(ds.image.values.reshape(PLANES.shape), PLANES)


def scanimage_bigtiff(path, planes, text):
    """Write a BigTIFF with the settings before the pages, as ScanImage does."""
    block = text.encode() + b"\0"
    start = struct.pack("<2sHHHQ", b"II", 43, 8, 0, 0) + struct.pack("<IIII", 0x07030301, 4, len(block), 0) + block
    content, link = bytearray(start), 8
    for plane in planes:
        at = len(content)
        tags = [
            (256, 4, 32),
            (257, 4, 20),
            (258, 3, 16),
            (259, 3, 1),
            (262, 3, 1),
            (273, 16, at + 8 + 11 * 20 + 8),
            (277, 3, 1),
            (278, 4, 20),
            (279, 4, plane.nbytes),
        ]
        rows = b"".join(struct.pack("<HHQQ", code, kind, 1, value) for code, kind, value in tags)
        rows += struct.pack("<HHQ8s", 305, 2, 3, b"SI.") + struct.pack("<HHQQ", 339, 3, 1, 1)
        struct.pack_into("<Q", content, link, at)
        content += struct.pack("<Q", 11) + rows
        link = len(content)
        content += bytes(8) + plane.tobytes()
    path.write_bytes(content)


# Micro-Manager


def test_planes_of_micro_manager(tmp_path):
    path = tmp_path / "a_MMStack.tif"
    places = [(t, c, z) for t in range(3) for z in range(2) for c in range(2)]
    facts = {
        "Channels": 2,
        "Frames": 3,
        "Slices": 2,
        "ChNames": ["DAPI", "Cy5"],
        "ChColors": [-16776961, 0xFF0000],
        "PixelSize_um": 0.108,
        "z-step_um": 0.3,
        "MicroManagerVersion": "1.4",
        "Interval_ms": 0,
    }
    micromanager_run(
        path, places, "closed", index=True, summary=facts, more=lambda t, c, z: {"ElapsedTime-ms": 1000 * t * t + c}
    )
    ds = imload(path, output_axis_order=None)
    assert ds.image.dims == ("t", "z", "c", "y", "x")
    assert spacing(ds) == {"z": (0.3, "µm"), "y": (0.108, "µm"), "x": (0.108, "µm")}
    assert (ds.img.channels, ds.c.attrs["color"]) == (["DAPI", "Cy5"], ["#0000FF", "#FF0000"])
    assert (ds.t.values.tolist(), ds.t.attrs["units"]) == ([0, 1, 4], "s")
    with tifffile.TiffFile(path) as tif:
        np.testing.assert_array_equal(ds.image, tif.series[0].asarray())
        assert header(ds)["micromanager"] == tif.micromanager_metadata["Summary"]


def test_positions_of_micro_manager_are_images(tmp_path):
    path = tmp_path / "a_MMStack.tif"
    places = [(0, c, 0, p) for p in range(2) for c in range(2)]
    summary = {"Channels": 2, "Frames": 1, "Positions": 2, "MicroManagerVersion": "2.0"}
    micromanager_run(
        path, places, "closed", index=True, summary=summary, more=lambda t, c, z, p: {"PositionName": f"Pos{p}"}
    )
    ds = imload(path)
    assert ds.image.dims == ("i", "c", "y", "x")
    assert ds.i.values.tolist() == ["Pos0", "Pos1"]


# names of pages


@pytest.mark.parametrize("compression", [None, "zlib"])
def test_page_names_are_channels(tmp_path, compression):
    names = ["Xe131_DNA", "CD3(Er170Di)", "μ-actin"]
    path = tmp_path / "a.tif"
    with tifffile.TiffWriter(path) as tif:
        for plane, name in zip(PLANES, names, strict=False):
            tags = [(285, 2, 0, name.encode(), True)]
            tif.write(
                plane,
                photometric="minisblack",
                metadata=None,
                contiguous=False,
                compression=compression,
                extratags=tags,
                resolution=(1e4, 1e4),
                resolutionunit=3,
            )
    ds = imload(path)
    assert (ds.image.dims, ds.img.channels) == (("c", "y", "x"), names)
    assert spacing(ds) == {"y": (1, "µm"), "x": (1, "µm")}
    np.testing.assert_array_equal(ds.image, PLANES[:3])


def test_other_page_names_are_no_channels(tmp_path):
    for n, names in enumerate([["Page 1", "Page 2"], ["1", "2"], ["a", "a"], ["a", ""], ["slice 1 of 2", "x1"]]):
        ds = imload(written(tmp_path / f"{n}.tif", PLANES[:2], tags=[(285, names)]))
        assert (ds.image.dims, ds.img.channels) == (("i", "y", "x"), None)


# detectors


def test_pilatus(tmp_path):
    text = "# Detector: PILATUS 100K, S/N 1\r\n# Pixel_size 172e-6 m x 171e-6 m\r\n# Exposure_time 1.5 s\r\n"
    path = written(tmp_path / "a.tif", PLANES[:1].astype("i4"), [text], software="TVX TIFF v 1.3", **DPI)
    ds = imload(path)
    assert spacing(ds) == {"y": (171, "µm"), "x": (172, "µm")}
    with tifffile.TiffFile(path) as tif:
        assert header(ds)["pilatus"]["Exposure_time"] == tif.pilatus_metadata["Exposure_time"] == 1.5


def test_andor(tmp_path):
    tags = [(4864, 4, 1, 7, True), (4876, 12, 1, 0.02, True), (4878, 12, 1, 0.05, True)]
    path = tmp_path / "a.tif"
    with tifffile.TiffWriter(path) as tif:
        for plane in PLANES:
            tif.write(plane, photometric="minisblack", metadata=None, contiguous=False, extratags=tags)
    ds = imload(path)
    with tifffile.TiffFile(path) as tif:
        assert tif.andor_metadata["KineticCycleTime"] == 0.05
    assert (ds.image.dims, spacing(ds)) == (("t", "y", "x"), {"t": (0.05, "s")})


def test_nih_image(tmp_path):
    units = [(160, 6, "µm"), (150, 1, "µm"), (160, 14, None), (90, 6, None)]
    for (version, unit, wanted), stack in itertools.product(units, [0, 2]):
        record = np.zeros((), np.dtype(tifffile.TIFF.NIH_IMAGE_HEADER).newbyteorder("<"))
        record["FileID"], record["Version"], record["XScale"], record["UnitsID"] = b"IPICIMAG", version, 4.0, unit
        record["FrameInterval"], record["StackType"] = 0.5, stack
        path = tmp_path / f"{version}-{unit}-{stack}.tif"
        with tifffile.TiffWriter(path) as tif:
            for plane in PLANES[:3].astype("u1"):
                tif.write(
                    plane,
                    photometric="minisblack",
                    metadata=None,
                    contiguous=False,
                    **DPI,
                    extratags=[(43314, 7, record.nbytes, record.tobytes(), True)],
                )
        with tifffile.TiffFile(path) as tif:
            assert (tif.nih_metadata["XScale"], tif.nih_metadata["Version"]) == (4.0, version)
        ds = imload(path)
        assert ds.image.dims == ("t" if stack else "i", "y", "x")
        sizes = dict.fromkeys("yx", (0.25, wanted)) if wanted else {}
        assert spacing(ds) == ({"t": (0.5, "s")} if stack else {}) | sizes


# damage


def test_damaged_metadata_of_vendors_leave_the_pixels(tmp_path):
    """Whatever these tags hold, the planes are read: with a warning, or without the facts."""
    texts = {
        34118: "AP_IMAGE_PIXEL_SIZE\nImage Pixel Size = x nm\n",
        34682: "[Scan]\nPixelWidth=\nPixelHeight=nan\n",
        33471: "[Dimension]\nBand=many\n[Band]\nBandName9=x\n",
        285: "\xff",
        37706: "short",
    }
    for code, text in texts.items():
        path = written(tmp_path / f"{code}.tif", PLANES[:1], tags=[(code, [text.encode("latin1")])])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            ds = imload(path)
        np.testing.assert_array_equal(np.squeeze(ds.image), PLANES[0])
        assert spacing(ds) == {}


SIGNED = {"cf": 0, "c0": -32768.0, "c1": 1.0, "vunit": "Gray Value"}


def calibrated(path, stored, facts, axes="ZYX"):
    tifffile.imwrite(path, stored, imagej=True, metadata={"axes": axes, **facts})
    return path


@pytest.mark.parametrize("compression", [None, "zlib"])
def test_signed_numbers_of_imagej_are_signed(tmp_path, compression):
    """ImageJ stores them plus 32768, with a calibration that takes it off."""
    values = np.linspace(-32768, 32767, 60).astype("i2").reshape(3, 4, 5)
    stored = (values.astype("i4") + 32768).astype("u2")
    for k in (1, 2):
        path = tmp_path / f"a_{k}.tif"
        tifffile.imwrite(path, stored, imagej=True, compression=compression, metadata={"axes": "ZYX", **SIGNED})
    found = imload(tmp_path / "a_1.tif")["image"]
    assert found.dtype == "int16"
    np.testing.assert_array_equal(found, values)
    np.testing.assert_array_equal(found[1, 1:3, ::2], values[1, 1:3, ::2])
    np.testing.assert_array_equal(imload(tmp_path / "a_1.tif", scaled=False)["image"], stored)
    np.testing.assert_array_equal(imload(tmp_path / "a_{t}.tif")["image"], [values, values])


def test_values_calibrated_by_a_line_are_those_that_imagej_shows(tmp_path):
    stored = np.arange(60, dtype="u1").reshape(3, 4, 5)
    path = calibrated(tmp_path / "a.tif", stored, {"cf": 0, "c0": 10, "c1": 0.25, "vunit": "OD"})
    found = imload(path)["image"]
    assert found.dtype == "float64"
    np.testing.assert_array_equal(found, 10 + 0.25 * stored)
    assert imload(path, scaled=False)["image"].dtype == "uint8"
    np.testing.assert_array_equal(imload(path, scaled=False)["image"], stored)


@pytest.mark.parametrize(
    "facts",
    [
        {"cf": 3, "c0": 1.0, "c1": 2.0, "c2": 3.0, "c3": 4.0},
        {"cf": 21, "vunit": "Uncalibrated OD"},
        {"cf": 0, "c0": 1.0},
        {"cf": 0, "c0": 1.0, "c1": 0.0},
        {"cf": "x"},
    ],
)
def test_other_calibrations_are_told(tmp_path, facts):
    stored = np.arange(60, dtype="u1").reshape(3, 4, 5)
    path = calibrated(tmp_path / "a.tif", stored, facts)
    with pytest.warns(UserWarning, match="ImageJ shows other values"):
        found = imload(path)
    np.testing.assert_array_equal(found["image"], stored)
    np.testing.assert_array_equal(imload(path, scaled=False)["image"], stored)


@pytest.mark.parametrize(("dtype", "facts"), [("u1", {"cf": 20}), ("u2", {}), ("f4", SIGNED)])
def test_numbers_without_a_calibration_stay(tmp_path, dtype, facts):
    stored = np.arange(60, dtype=dtype).reshape(3, 4, 5)
    found = imload(calibrated(tmp_path / "a.tif", stored, facts))["image"]
    assert found.dtype == dtype
    np.testing.assert_array_equal(found, stored)
