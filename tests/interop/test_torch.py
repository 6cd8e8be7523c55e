"""Patches in torch: the same set whatever the workers, ranks and ways to start a process; models written back."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import textwrap

import numpy as np
import pytest
import xarray as xr

import intake_img

pytestmark = pytest.mark.filterwarnings(
    "ignore::DeprecationWarning", "ignore:.*pin_memory.*:UserWarning", "ignore:This DataLoader will create:UserWarning"
)


def image(shape=(3, 2, 40, 44)) -> xr.DataArray:
    values = np.arange(np.prod(shape)).reshape(shape).astype("u2")
    return xr.DataArray(values, dims=list("tcyx"), name="image")


def random_patches(n=37):
    return intake_img.patches(image(), {"y": 8, "x": 8}, sample="random", n=n, seed=3)


def found(loader) -> tuple[list[int], dict[int, bytes]]:
    numbers, content = [], {}
    for batch in loader:
        for k, number in enumerate(np.atleast_1d(batch["patch"].numpy()).tolist()):
            numbers.append(number)
            content[number] = batch["image"].numpy()[k].tobytes()
    return numbers, content


def test_samples_are_the_patches(needs):
    torch = needs("torch")
    p = random_patches()
    ds = p.to_torch()
    assert isinstance(ds, torch.utils.data.Dataset)
    assert len(ds) == 37
    assert ds[5]["image"].dtype == torch.uint16
    np.testing.assert_array_equal(ds[5]["image"].numpy(), p.read([5])[0])
    np.testing.assert_array_equal(ds[-1]["image"].numpy(), p.read([36])[0])
    assert int(ds[5]["patch"]) == 5
    with pytest.raises(IndexError, match="no patch 37"):
        ds[37]


@pytest.mark.parametrize("style", ["map", "iterable"])
@pytest.mark.parametrize("start", ["fork", "spawn"])
def test_the_set_is_the_same_for_any_number_of_workers(needs, style, start):
    needs("torch")
    p = random_patches()
    want = {k: p.read([k])[0].tobytes() for k in range(len(p))}
    for workers in (0, 1, 2, 4) if start == "fork" else (2 if style == "iterable" else 1,):
        options = {"num_workers": workers, **({"multiprocessing_context": start} if workers else {})}
        if style == "map":
            loader = p.to_torch().loader(5, **options)
        else:
            loader = p.to_torch("iterable", batch_size=5, shuffle=True).loader(**options)
        numbers, content = found(loader)
        assert sorted(numbers) == list(range(37))
        assert content == want


@pytest.mark.parametrize("workers", [0, 2])
def test_an_epoch_reaches_workers_that_stay_alive(needs, workers):
    needs("torch")
    p = random_patches()
    ds = p.to_torch("iterable", batch_size=4)
    loader = ds.loader(num_workers=workers, persistent_workers=bool(workers))
    seen = []
    for epoch in (0, 1):
        ds.set_epoch(epoch)
        seen.append(found(loader)[1])
    other = random_patches().set_epoch(1)
    assert seen[1] == {k: other.read([k])[0].tobytes() for k in range(37)}
    assert seen[0] != seen[1]


@pytest.mark.parametrize("world", [1, 2, 3])
@pytest.mark.parametrize("workers", [0, 2])
def test_ranks_share_the_patches(needs, world, workers):
    needs("torch")
    p = random_patches()
    datasets = [p.to_torch("iterable", batch_size=4, shuffle=True, rank=r, world=world) for r in range(world)]
    parts = [found(ds.loader(num_workers=workers))[0] for ds in datasets]
    assert sorted(n for part in parts for n in part) == list(range(37))
    even = [p.to_torch("iterable", rank=r, world=world, even=True).numbers() for r in range(world)]
    assert len({len(e) for e in even}) == 1
    assert set(np.concatenate(even).tolist()) == set(range(37))


def test_a_distributed_sampler_divides_a_map_style_dataset(needs):
    needs("torch")
    from torch.utils.data import DistributedSampler

    ds = random_patches().to_torch()
    seen = []
    for rank in range(2):
        sampler = DistributedSampler(ds, num_replicas=2, rank=rank, shuffle=True, drop_last=False)
        seen += found(ds.loader(4, sampler=sampler))[0]
    assert set(seen) == set(range(37))


def test_two_processes_of_torch_distributed_with_spawned_workers(needs, tmp_path):
    needs("torch")
    code = textwrap.dedent(f"""
        import sys, json, warnings, numpy as np, xarray as xr
        warnings.simplefilter("ignore")
        import torch.distributed as dist
        import intake_img
        if __name__ == "__main__":
            rank = int(sys.argv[1])
            dist.init_process_group("gloo", init_method="file://{tmp_path}/meet", rank=rank, world_size=2)
            image = xr.DataArray(np.zeros((3, 2, 40, 44), "u2"), dims=list("tcyx"), name="image")
            p = intake_img.patches(image, dict(y=8, x=8), sample="random", n=37, seed=3)
            loader = p.to_torch("iterable", batch_size=4).loader(num_workers=1, multiprocessing_context="spawn")
            print(json.dumps([n for batch in loader for n in batch["patch"].tolist()]))
            dist.destroy_process_group()
    """)
    script = tmp_path / "rank.py"
    script.write_text(code)
    started = [
        subprocess.Popen(
            [sys.executable, str(script), str(r)],
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        for r in range(2)
    ]
    import json

    parts = [json.loads(s.communicate(timeout=120)[0].splitlines()[-1]) for s in started]
    assert sorted(parts[0] + parts[1]) == list(range(37))
    assert len(parts[0]) in (18, 19)


def test_collating_copies_nothing(needs):
    torch = needs("torch")
    ds = random_patches().to_torch()
    samples = ds.__getitems__([3, 1, 4])
    batch = ds.collate(samples)
    assert batch["image"].data_ptr() == samples[0]["image"].data_ptr()
    assert batch["patch"].tolist() == [3, 1, 4]
    default = torch.utils.data.default_collate(list(samples))
    assert (default["image"] == batch["image"]).all()


def test_dtype_transform_and_variables(needs):
    torch = needs("torch")
    ds = image().to_dataset().assign(mask=image().isel(c=0, drop=True) % 2)
    p = ds.img.patches({"y": 8, "x": 8})
    by_torch = p.to_torch(dtype=torch.float32, variables="image")
    assert by_torch[0]["image"].dtype == torch.float32
    assert set(by_torch[0]) == {"image", "patch"}
    both = p.to_torch(transform=lambda s: (s["image"].float() / 2, s["mask"].sum()))
    batch = next(iter(both.loader(4)))
    assert batch[0].shape == (4, 2, 8, 8)
    it = next(iter(p.to_torch("iterable", batch_size=4, transform=lambda s: s["image"].float() / 2).loader()))
    np.testing.assert_array_equal(it.numpy(), batch[0].numpy())
    single = list(p.to_torch("iterable").loader())
    assert len(single) == len(p)
    assert single[0]["image"].shape == (2, 8, 8)


def test_datasets_pickle_and_keep_their_epoch(needs):
    needs("torch")
    for style in ("map", "iterable"):
        ds = random_patches().to_torch(style)
        ds.set_epoch(2)
        again = pickle.loads(pickle.dumps(ds))
        assert again.epoch == 2
        assert type(again) is type(ds)


def test_the_epoch_of_a_dataset_is_its_own(needs):
    needs("torch")
    p = random_patches()
    ds = p.to_torch()
    ds.set_epoch(3)
    assert p.epoch == 0
    p.set_epoch(5)
    assert ds.epoch == 3
    np.testing.assert_array_equal(ds[0]["image"].numpy(), random_patches().set_epoch(3).read([0])[0])


def test_filters_are_not_applied_once_more_for_a_part(needs):
    needs("torch")
    calls = []

    def bright(patch):
        calls.append(1)
        return patch.mean() > 500

    p = intake_img.patches(image(), {"y": 8, "x": 8}, where=[bright])
    n = len(p)
    before = len(calls)
    numbers = found(p.to_torch("iterable", batch_size=4).loader())[0]
    assert sorted(numbers) == list(range(n))
    assert len(calls) == before


def test_wrong_options_say_where_they_belong(needs):
    needs("torch")
    p = random_patches()
    with pytest.raises(ValueError, match=r"style='stream'.*'map', 'iterable'"):
        p.to_torch("stream")
    with pytest.raises(ValueError, match="batch_size=4 is for style='iterable'"):
        p.to_torch(batch_size=4)
    with pytest.raises(ValueError, match="there is no 'mask'"):
        p.to_torch(variables="mask")
    with pytest.raises(ValueError, match="rank=2: expected a number below world=2"):
        p.to_torch("iterable", rank=2, world=2)
    with pytest.raises(ValueError, match="shuffle= is for to_torch"):
        p.to_torch("iterable").loader(shuffle=True)


def test_a_module_is_mapped_in_evaluation_mode_and_gets_its_own_dtype(needs, tmp_path):
    torch = needs("torch")
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Conv2d(2, 3, 1), torch.nn.Dropout(0.9))
    model.train()
    p = image().img.patches({"y": 16, "x": 16}, overlap=4)
    out = p.map(model, blend="hann", channels=["a", "b", "d"], store=tmp_path / "p.zarr")
    assert model.training
    assert all(m.training for m in model.modules())
    assert out.image.dtype == np.float32
    assert out.img.channels == ["a", "b", "d"]
    with torch.inference_mode():
        want = model.eval()(torch.from_numpy(image().values.astype("f4"))).numpy()
    np.testing.assert_allclose(out.image.transpose("t", "c", "y", "x").values, want, rtol=1e-5, atol=1e-3)


def test_other_weights_are_another_model(needs):
    torch = needs("torch")
    from intake_img.accessor.patches.models import fingerprint

    torch.manual_seed(0)
    one = torch.nn.Linear(2, 2)
    mark = fingerprint(one)
    assert fingerprint(pickle.loads(pickle.dumps(one))) == mark
    with torch.no_grad():
        one.weight[0, 0] += 1
    assert fingerprint(one) != mark
    assert fingerprint(one, "mine") == "mine"


def test_predictions_in_batches_of_tensors_are_stitched(needs):
    needs("torch")
    p = image().img.patches({"y": 16, "x": 16}, overlap=4)
    loader = p.to_torch(dtype="float32").loader(7)
    out = p.stitch((batch["image"] * 2 for batch in loader), blend="gaussian")
    np.testing.assert_array_equal(out.image.transpose("t", "c", "y", "x").values, image().values * 2)


def test_the_guide_to_training_runs(needs, tmp_path, monkeypatch):
    """Its blocks that need torch, which the test of the documentation leaves out."""
    needs("torch")
    import re
    from pathlib import Path

    page = Path(__file__).parents[2] / "docs/how-to/train-with-torch.md"
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"^```python\n(.*?)^```$", page.read_text(encoding="utf-8"), re.M | re.S)
    assert any("import torch" in b for b in blocks)
    space: dict = {}
    for block in blocks:
        exec(block, space)
