"""Batches are a pure function of seed, step and rank: the same in another process, for any split of the work; and windows are what the store holds."""

import hashlib
import subprocess
import sys
import textwrap

import numpy as np
import pytest
import torch

from chronos_dysts.augmentations import RandomAffineTransform, RandomConvexCombinationTransform, RandomProjectedSkewTransform
from chronos_dysts.store import Trajectory, open_store, write_trajectory
from chronos_dysts.windows import BLOCK, StoreSource, standardise

C, H = 48, 16
THREE = [RandomAffineTransform(), RandomConvexCombinationTransform(3), RandomProjectedSkewTransform()]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    "Five systems of dims 1 to 4 with one to five trajectories each, 80 to 200 points, in files."
    folder, random = tmp_path_factory.mktemp("store"), np.random.default_rng(0)
    for s, (name, dim) in enumerate(zip("ABCDE", (3, 3, 1, 4, 2))):
        for sample in range(s + 1):
            target = random.standard_normal((dim, int(random.integers(80, 200)))).cumsum(1) * 10.0 ** random.integers(-4, 5) + random.standard_normal((dim, 1))
            write_trajectory(Trajectory(target.astype(np.float32), f"{name}/{sample}", name, {}, np.zeros(dim), 0.1, 1.0, 0), folder / name / f"{sample}_T-{target.shape[1]}.arrow")
    return folder


@pytest.fixture(scope="module")
def store(folder): return open_store(folder)


@pytest.mark.parametrize("channels", ["one", "joint"])
@pytest.mark.parametrize("augmentations", [[], THREE], ids=["plain", "augmented"])
@pytest.mark.parametrize("parts", [2, 3, 8, BLOCK])
def test_any_split_of_the_work_sees_the_same_windows(store, channels, augmentations, parts):
    def source(batch_size): return StoreSource(store, C, H, batch_size, seed=7, augmentations=augmentations, probability=0.6, channels=channels)
    size = 2 * parts
    for step in (0, 3):
        whole = source(size).batch(step)
        ranks = [source(2).batch(step, rank, parts) for rank in range(parts)]
        accumulated = [source(2).batch(step * parts + i) for i in range(parts)]
        for name in ("context", "target", "trajectory", "start"):
            for split in (ranks, accumulated):
                assert torch.equal(whole[name].nan_to_num(9), torch.cat([b[name] for b in split]).nan_to_num(9))


def test_the_same_batch_in_another_process_and_out_of_order(folder, store):
    source = StoreSource(store, C, H, 10, seed=5, augmentations=THREE)
    source.batch(0), source.batch(99)  # what was asked before leaves no trace
    here = hashlib.sha256(b"".join(x.numpy().tobytes() for x in source.batch(4, 1, 2).values())).hexdigest()
    code = textwrap.dedent(f"""
        import hashlib
        from chronos_dysts.augmentations import *
        from chronos_dysts.store import open_store
        from chronos_dysts.windows import StoreSource
        source = StoreSource(open_store({str(folder)!r}), {C}, {H}, 10, seed=5, augmentations=[RandomAffineTransform(), RandomConvexCombinationTransform(3), RandomProjectedSkewTransform()])
        print(hashlib.sha256(b"".join(x.numpy().tobytes() for x in source.batch(4, 1, 2).values())).hexdigest())""")
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == here


def test_another_seed_or_step_gives_other_windows(store):
    a, b, c = StoreSource(store, C, H, 16, seed=0).batch(0), StoreSource(store, C, H, 16, seed=1).batch(0), StoreSource(store, C, H, 16, seed=0).batch(2)
    assert not torch.equal(a["context"], b["context"]) and not torch.equal(a["context"], c["context"])


def test_windows_are_cut_from_the_store_and_standardised_by_their_context(store):
    batch = StoreSource(store, C, H, 200, channels="joint").batch(0)
    for group in range(200):
        rows = batch["group_ids"] == group
        i, start = int(batch["trajectory"][rows][0]), int(batch["start"][rows][0])
        raw = torch.from_numpy(store[i].target[:, start:start + C + H].astype(np.float64))
        expected = (raw - raw[:, :C].mean(1, keepdim=True)) / raw[:, :C].std(1, keepdim=True, correction=0)
        torch.testing.assert_close(torch.cat([batch["context"][rows], batch["target"][rows]], 1).double(), expected, rtol=1e-4, atol=1e-4)


def test_windows_as_they_are_stored(store):
    batch = StoreSource(store, C, H, 50, standard=False).batch(0)
    for context, i, start in zip(batch["context"], batch["trajectory"], batch["start"]):
        assert (store[int(i)].target[:, int(start):int(start) + C] == context.numpy()).all(1).any()


def test_uniform_over_systems_then_trajectories_then_starts(store):
    batch = StoreSource(store, C, H, 20_000, seed=2).batch(0)
    systems = np.array(store.systems)[batch["trajectory"]]
    for name in "ABCDE": assert abs((systems == name).mean() - 0.2) < 5 * np.sqrt(0.16 / 20_000)
    of_e = batch["trajectory"][torch.from_numpy(systems == "E")].bincount(minlength=len(store))[-5:]
    assert (of_e / of_e.sum() - 0.2).abs().max() < 5 * np.sqrt(0.16 / 4000)
    longest = max(range(len(store)), key=lambda i: store[i].target.shape[1])
    starts = batch["start"][batch["trajectory"] == longest]
    assert starts.min() <= 3 and starts.max() >= store[longest].target.shape[1] - C - H - 3


def test_a_coordinate_that_does_not_move_in_the_context_is_not_learnt(store):
    flat = Trajectory(np.stack([np.r_[np.full(C, 2.5), np.arange(H)], np.arange(C + H)]).astype(np.float32), "F/0", "F", {}, np.zeros(2), 0.1, 1.0, 0)
    batch = StoreSource([flat], C, H, 4, channels="joint").batch(0)
    still = torch.tensor([True, False] * 4)
    assert batch["target"][still].isnan().all() and batch["target"][~still].isfinite().all()
    assert (batch["context"][still] == 0).all()


def test_standardising_in_double_precision():
    x = torch.randn(5, 3, 100) + 1e5
    values, constant = standardise(x, 80)
    assert not constant.any() and values.dtype == torch.float32
    expected = (x.double() - x[..., :80].double().mean(-1, keepdim=True)) / x[..., :80].double().std(-1, keepdim=True, correction=0)
    torch.testing.assert_close(values, expected.float())


def test_the_share_that_is_augmented(store):
    plain, half = (StoreSource(store, C, H, 4096, augmentations=[RandomAffineTransform()], probability=p) for p in (0.0, 0.5))
    a, b = plain.batch(0), half.batch(0)
    assert torch.equal(a["trajectory"], b["trajectory"]) and torch.equal(a["start"], b["start"])
    # a one-dimensional flow is its own affine image, once it is standardised, but for the sign
    several = torch.tensor([store[int(i)].target.shape[0] > 1 for i in a["trajectory"]])
    share = (a["context"] != b["context"]).any(1)[several].float().mean()
    assert abs(share - 0.5) < 0.05


@pytest.mark.parametrize("changes, message", [
    (dict(context_length=150), "shorter than context_length"), (dict(context_length=0), "context_length"), (dict(batch_size=2.5), "batch_size"),
    (dict(probability=1.5), "probability"), (dict(channels="both"), "channels"), (dict(seed=-1), "seed"), (dict(store=[]), "empty")])
def test_what_makes_no_sense_is_refused(store, changes, message):
    with pytest.raises(ValueError, match=message): StoreSource(**(dict(store=store, context_length=C, prediction_length=H, batch_size=4) | changes))


def test_too_short_trajectories_are_named(store):
    with pytest.raises(ValueError, match=r"\d+ of 15 trajectories are shorter .* = 150 \+ 16 = 166 points: \w \(\d+\)"): StoreSource(store, 150, H, 4)


@pytest.mark.parametrize("step, rank, world", [(-1, 0, 1), (0, 1, 1), (0, -1, 2)])
def test_a_batch_that_is_not_there(store, step, rank, world):
    with pytest.raises(ValueError, match="micro-batch"): StoreSource(store, C, H, 4).batch(step, rank, world)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_values_that_are_not_finite_are_found_where_they_are(value):
    target = np.random.default_rng(0).standard_normal((2, C + H)).astype(np.float32)
    target[1, 20] = value
    source = StoreSource([Trajectory(target, "G/7", "G", {}, np.zeros(2), 0.1, 1.0, 0)], C, H, 4)
    with pytest.raises(ValueError, match=f"G/7 holds {value} in coordinate 1 at point 20"): source.batch(0)
