"""CAREamics' patch extractors, data sets and loaders run on our image stacks in place of theirs, with equal patches."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import tifffile
import zarr

from intake_img import CziStack, FileStack, MemoryStack, ZarrStack, imload
from intake_img.accessor.stacks.stack import ImageStack

RNG = np.random.default_rng(11)
IMAGES = RNG.integers(0, 60000, (2, 3, 2, 70, 53), "uint16")  # S T C Y X
VOLUMES = RNG.integers(0, 60000, (2, 2, 12, 33, 40), "uint16")  # T C Z Y X

pytestmark = pytest.mark.filterwarnings("ignore")  # those of torch, lightning and careamics


@pytest.fixture
def care(needs: Callable[[str], Any]) -> SimpleNamespace:
    """What of CAREamics is used here."""
    needs("torch")
    needs("careamics")
    from careamics.config.factories.n2v_factory import create_advanced_n2v_config
    from careamics.dataset import factory, image_stack, image_stack_loader, patch_extractor
    from careamics.dataset.image_stack.czi_image_stack import CziImageStack

    return SimpleNamespace(
        Czi=CziImageStack,
        stacks=image_stack,
        load=image_stack_loader,
        extractors=patch_extractor,
        factory=factory,
        config=create_advanced_n2v_config,
    )


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The images as TIFF, Zarr and CZI; the volumes as CZI with T and Z; two scenes, one with a negative origin."""
    from pylibCZIrw import czi

    folder = tmp_path_factory.mktemp("careamics")
    tifffile.imwrite(folder / "a.tif", IMAGES, photometric="minisblack")
    group = zarr.open_group(str(folder / "a.zarr"), mode="w")
    for name, shards in (("im", None), ("sharded", (2, 3, 2, 64, 64))):
        array = group.create_array(name, shape=IMAGES.shape, chunks=(1, 1, 1, 32, 32), shards=shards, dtype="uint16")
        array[...] = IMAGES
    with czi.create_czi(str(folder / "a.czi"), compression_options="zstd1:ExplicitLevel=1") as document:
        for t, c, z in np.ndindex(VOLUMES.shape[:3]):
            document.write(np.ascontiguousarray(VOLUMES[t, c, z]), plane={"T": t, "C": c, "Z": z})
    with czi.create_czi(str(folder / "scenes.czi")) as document:
        for k, place in enumerate(((-50, -60), (20, 10))):
            for c in range(2):
                document.write(np.ascontiguousarray(IMAGES[k, 0, c]), location=place, plane={"C": c}, scene=k)
    return folder


def _pairs(care: SimpleNamespace, files: Path) -> dict[str, tuple[Any, ImageStack]]:
    """CAREamics' stacks, and ours of the same data."""
    group = zarr.open_group(str(files / "a.zarr"), mode="r")
    volume = VOLUMES[0]
    pairs = {
        "array": (care.stacks.InMemoryImageStack.from_array(IMAGES, "STCYX"), MemoryStack.from_array(IMAGES, "STCYX")),
        "turned": (
            care.stacks.InMemoryImageStack.from_array(IMAGES.transpose(3, 4, 1, 0, 2), "YXTSC"),
            MemoryStack(IMAGES.transpose(3, 4, 1, 0, 2), "YXTSC"),
        ),
        "volume": (care.stacks.InMemoryImageStack.from_array(volume, "CZYX"), MemoryStack(volume, "CZYX")),
        "tiff in memory": (
            care.stacks.InMemoryImageStack.from_tiff(files / "a.tif", "STCYX"),
            MemoryStack.from_tiff(files / "a.tif", "STCYX"),
        ),
        "tiff": (
            care.stacks.FileImageStack.from_tiff(files / "a.tif", "STCYX"),
            FileStack.from_tiff(files / "a.tif", "STCYX"),
        ),
        "zarr": (care.stacks.ZarrImageStack(group, "im", "STCYX"), ZarrStack(group, "im", "STCYX")),
        "sharded": (
            care.stacks.ZarrImageStack(group, "sharded", "STCYX"),
            ZarrStack(files / "a.zarr", "sharded", "STCYX"),
        ),
    }
    for depth in ("none", "Z", "T"):
        theirs = care.Czi(files / "a.czi", depth_axis=depth)
        pairs[f"czi {depth}"] = theirs, CziStack(files / "a.czi", depth_axis=depth)
        ours = imload(files / "a.czi").img.stack(depth)
        if depth != "none":  # ours keeps the order in which the Dataset shows its axes
            pairs[f"dataset {depth}"] = theirs, ours
    for scene in (0, 1, None):
        pairs[f"scene {scene}"] = care.Czi(files / "scenes.czi", scene), CziStack(files / "scenes.czi", scene)
    return pairs


def test_the_protocol_says_the_same(care, files):
    for name, (theirs, ours) in _pairs(care, files).items():
        assert tuple(ours.data_shape) == tuple(theirs.data_shape), name
        assert Path(ours.source) == Path(theirs.source), name
        if not name.startswith("dataset"):
            assert ours.original_axes == theirs.original_axes, name
            assert tuple(ours.original_data_shape) == tuple(theirs.original_data_shape), name
        for attribute in ("axes", "scene", "data_path", "chunks", "shards"):
            if "zarr" not in type(theirs).__module__ and hasattr(theirs, attribute) and attribute != "axes":
                assert getattr(ours, attribute) == getattr(theirs, attribute), (name, attribute)
        if hasattr(theirs, "chunks"):
            assert (ours.chunks, ours.shards) == (theirs.chunks, theirs.shards), name
        if isinstance(theirs, care.Czi):
            assert ours.axes == theirs.axes, name
    assert CziStack.get_bounding_rectangles(files / "scenes.czi") == care.Czi.get_bounding_rectangles(
        files / "scenes.czi"
    )


def test_their_extractor_cuts_equal_patches(care, files):
    rng = np.random.default_rng(5)
    for name, (theirs, ours) in _pairs(care, files).items():
        extractors = [care.extractors.PatchExtractor([stack]) for stack in (theirs, ours)]
        assert extractors[1].shapes == [ours.data_shape]
        assert extractors[1].n_channels == 2
        if name == "tiff":
            theirs.load()
        samples, space = ours.data_shape[0], ours.data_shape[2:]
        negative = "zarr" not in name and name != "sharded"  # theirs wraps around below 0
        for _ in range(20):
            size = tuple(int(k) for k in rng.integers(1, 24, len(space)))
            coords = tuple(int(rng.integers(-8 if negative else 0, n)) for n in space)
            channels = [None, [0], [1], [1, 0], [0, 1]][rng.integers(5)]
            place = (0, int(rng.integers(samples)), channels, coords, size)
            expected, found = (e.extract_channel_patch(*place) for e in extractors)
            np.testing.assert_array_equal(found, expected, err_msg=f"{name} {place}")


def test_their_reader_of_one_file_at_a_time_loads_and_closes_ours(care, files):
    stacks = [FileStack.from_tiff(files / "a.tif", "STCYX") for _ in range(3)]
    extractor = care.extractors.LimitFilesPatchExtractor(stacks)
    for k in (0, 0, 2, 1):
        patch = extractor.extract_channel_patch(k, 4, None, (3, 5), (8, 8))
        np.testing.assert_array_equal(patch, IMAGES[1, 1, :, 3:11, 5:13])
        assert [s.is_loaded for s in stacks] == [n == k for n in range(3)]


def _config(care: SimpleNamespace, data_type: str, axes: str, **options: Any) -> Any:
    size = (8, 16, 16) if "Z" in axes else (32, 32)
    config = care.config("ours", data_type, axes, size, 2, num_workers=0, seed=42, n_channels=2, **options)
    return config.data_config


def _dataset(care: SimpleNamespace, config: Any, data: Any, loader: Any = None) -> Any:
    loading = None if loader is None else care.factory.ImageStackLoading(loader)
    train = care.factory.TrainValSplitData(train_data=data, n_val_patches=0)
    return care.factory.create_train_dataset(config, train, loading)


@pytest.mark.parametrize(
    ("data_type", "axes", "source", "ours"),
    [
        ("array", "STCYX", lambda f: [IMAGES], lambda f: [MemoryStack(IMAGES, "STCYX", dtype="float32")]),
        ("array", "CZYX", lambda f: [VOLUMES[0]], lambda f: [MemoryStack(VOLUMES[0], "CZYX", dtype="float32")]),
        ("tiff", "STCYX", lambda f: [f / "a.tif"], lambda f: [FileStack(f / "a.tif", "STCYX", dtype="float32")]),
        (
            "zarr",
            "STCYX",
            lambda f: [f"file://{f}/a.zarr/im"],
            lambda f: [ZarrStack(f / "a.zarr", "im", "STCYX", dtype="float32")],
        ),
        (
            "czi",
            "SCYX",
            lambda f: [f / "scenes.czi"],
            lambda f: [imload(f / "scenes.czi", scene=k).img.stack(dtype="float32") for k in range(2)],
        ),
        ("czi", "SCZYX", lambda f: [f / "a.czi"], lambda f: [CziStack(f / "a.czi", 0, "Z", dtype="float32")]),
    ],
    ids=["array", "volume", "tiff", "zarr", "czi scenes", "czi volume"],
)
def test_their_data_set_with_its_default_configuration(care, files, data_type, axes, source, ours):
    theirs = _dataset(care, _config(care, data_type, axes), source(files))
    stacks = ours(files)
    dataset = _dataset(care, _config(care, "custom", axes), None, lambda source, axes: stacks)
    assert len(dataset) == len(theirs) > 0
    for n in range(len(theirs)):
        (expected,), (found,) = theirs[n], dataset[n]
        np.testing.assert_array_equal(found.data, expected.data)
        assert found.region_spec == expected.region_spec
        assert tuple(found.data_shape) == tuple(expected.data_shape)
        assert found.source == str(stacks[found.region_spec["data_idx"]].source)


def test_native_dtypes_train_alike(care):
    theirs = _dataset(care, _config(care, "array", "STCYX"), [IMAGES])
    native = _dataset(care, _config(care, "custom", "STCYX"), None, lambda s, a: [MemoryStack(IMAGES, "STCYX")])
    for n in range(len(theirs)):
        np.testing.assert_allclose(native[n][0].data, theirs[n][0].data, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("workers", [0, 2])
def test_their_loader_with_workers(care, files, workers):
    import torch
    from torch.utils.data import DataLoader

    torch.set_num_threads(1)
    stacks = [CziStack(files / "scenes.czi", scene=k, dtype="float32") for k in range(2)]
    dataset = _dataset(care, _config(care, "custom", "SCYX"), None, lambda source, axes: stacks)
    dataset.transforms = None  # augmentations draw anew in each worker
    specs = {}
    for (batch,) in DataLoader(dataset, batch_size=None, num_workers=workers):
        spec = batch.region_spec
        y, x = spec["coords"]
        raw = IMAGES[spec["data_idx"], 0, :, y : y + 32, x : x + 32].astype("float32")
        np.testing.assert_array_equal(batch.data, dataset.normalization(raw, None)[0])
        specs[spec["data_idx"], y, x] = spec
    assert len(specs) > 4


def test_what_theirs_refuses(care, files, tmp_path):
    from pylibCZIrw import czi

    colours = np.random.default_rng(0).integers(0, 255, (40, 50, 3), "uint8")
    with czi.create_czi(str(tmp_path / "rgb.czi")) as document:
        document.write(np.ascontiguousarray(colours[..., ::-1]), plane={"C": 0})
    with pytest.raises(ValueError, match="RGB"):
        care.Czi(tmp_path / "rgb.czi").extract_patch(0, None, (0, 0), (4, 4))
    extractor = care.extractors.PatchExtractor([CziStack(tmp_path / "rgb.czi")])
    np.testing.assert_array_equal(extractor.extract_patch(0, 0, (3, 4), (8, 8)), colours[3:11, 4:12].transpose(2, 0, 1))
    with czi.create_czi(str(tmp_path / "late.czi")) as document:
        for t in (5, 6, 7):
            document.write(np.full((32, 32), t, "uint16"), plane={"T": t})
    with pytest.raises(RuntimeError, match="out-of-range"):
        care.Czi(tmp_path / "late.czi").extract_patch(0, None, (0, 0), (4, 4))
    late = care.extractors.PatchExtractor([CziStack(tmp_path / "late.czi")])
    assert [int(late.extract_patch(0, k, (0, 0), (4, 4)).max()) for k in range(3)] == [5, 6, 7]
    with pytest.raises(ValueError, match="Remote"):
        care.load.load_zarrs(["s3://bucket/a.zarr/im"], "YX")


def test_the_how_to_trains(care, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    page = Path(__file__).parents[2] / "docs" / "how-to" / "careamics-stacks.md"
    blocks = re.findall(r"^```python\n(.*?)^```$", page.read_text("utf-8"), re.M | re.S)
    made, training = blocks[0], next(b for b in blocks if "create_train_dataset" in b)
    scope: dict[str, Any] = {}
    exec(compile(made, str(page), "exec"), scope)
    exec(compile(training, str(page), "exec"), scope)
    dataset = scope["dataset"]
    assert len(dataset) > 0
    assert dataset[0][0].data.shape == (2, 64, 64)
    assert Path(dataset[0][0].source) == tmp_path / "movie.czi"
