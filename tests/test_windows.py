"""Batches are a pure function of seed, step and rank: the same in another process, for any split of the work; and windows are what the store holds."""

import hashlib
import subprocess
import sys
import textwrap
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from chronos_dysts.attractors import EVALUATION_TESTS
from chronos_dysts.augmentations import Mixture, ObservationNoise, RandomAffineTransform, RandomConvexCombinationTransform, RandomProjectedSkewTransform, RandomTakensEmbedding, RandomTimeRescale, standardise
from chronos_dysts.fresh import UNIT
from chronos_dysts.store import Trajectory, open_store, write_trajectory
from chronos_dysts.windows import FARTHEST, UNITS, MixtureSource, OnlineSource, StoreSource

ROOT = Path(__file__).resolve().parent.parent
C, H = 48, 16
MIX = Mixture([RandomAffineTransform(), RandomConvexCombinationTransform(3), RandomProjectedSkewTransform(), RandomTakensEmbedding(2, 1, 4)], [0.15] * 4)
MIXES = {"plain": None, "augmented": MIX, "chained": MIX + RandomTimeRescale() + ObservationNoise(0.01)}


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
@pytest.mark.parametrize("augmentation", MIXES.values(), ids=MIXES)
@pytest.mark.parametrize("parts", [2, 3, 8])
def test_any_split_of_the_work_sees_the_same_windows(store, channels, augmentation, parts):
    def source(batch_size): return StoreSource(store, C, H, batch_size, seed=7, augmentation=augmentation, channels=channels)
    size = 2 * parts
    for step in (0, 3):
        whole = source(size).batch(step)
        ranks = [source(2).batch(step, rank, parts) for rank in range(parts)]
        accumulated = [source(2).batch(step * parts + i) for i in range(parts)]
        for name in ("context", "target", "trajectory", "start"):
            for split in (ranks, accumulated):
                assert torch.equal(whole[name].nan_to_num(9), torch.cat([b[name] for b in split]).nan_to_num(9))


def test_the_same_batch_in_another_process_and_out_of_order(folder, store):
    source = StoreSource(store, C, H, 10, seed=5, augmentation=MIX)
    source.batch(0), source.batch(99)  # what was asked before leaves no trace
    here = hashlib.sha256(b"".join(x.numpy().tobytes() for x in source.batch(4, 1, 2).values())).hexdigest()
    code = textwrap.dedent(f"""
        import hashlib
        from chronos_dysts.augmentations import *
        from chronos_dysts.store import open_store
        from chronos_dysts.windows import StoreSource
        mix = Mixture([RandomAffineTransform(), RandomConvexCombinationTransform(3), RandomProjectedSkewTransform(), RandomTakensEmbedding(2, 1, 4)], [0.15] * 4)
        source = StoreSource(open_store({str(folder)!r}), {C}, {H}, 10, seed=5, augmentation=mix)
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
    plain, half = (StoreSource(store, C, H, 4096, augmentation=Mixture([RandomAffineTransform()], [p])) for p in (0.0, 0.5))
    a, b = plain.batch(0), half.batch(0)
    assert torch.equal(a["trajectory"], b["trajectory"]) and torch.equal(a["start"], b["start"])
    # a one-dimensional flow is its own affine image, once it is standardised, but for the sign
    several = torch.tensor([store[int(i)].target.shape[0] > 1 for i in a["trajectory"]])
    share = (a["context"] != b["context"]).any(1)[several].float().mean()
    assert abs(share - 0.5) < 0.05


@pytest.mark.parametrize("changes, message", [
    (dict(context_length=150), "shorter than context_length"), (dict(context_length=0), "context_length"), (dict(batch_size=2.5), "batch_size"),
    (dict(augmentation=[RandomAffineTransform()]), "a Mixture or a chain"), (dict(uniform="flows"), "uniform"), (dict(min_past=0), "min_past"), (dict(min_past=C + 1), "min_past=49 is more"), (dict(channels="both"), "channels"), (dict(seed=-1), "seed"), (dict(augmentation=RandomTakensEmbedding(3, 1, 60)), "what the augmentation takes = 48 \\+ 16 \\+ 120 = 184 points"), (dict(store=[]), "empty")])
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
    source = StoreSource([Trajectory(target, "G/7", "G", {}, np.zeros(2), 0.1, 1.0, 0)], C, H, 4, missing=True, channels="joint", augmentation=RandomAffineTransform())
    if np.isinf(value):
        with pytest.raises(ValueError, match="G/7 holds inf"): source.batch(0)
    else:  # left to the model, which masks it, and not mixed with other coordinates
        batch = source.batch(0)
        assert batch["context"].isnan().sum(1).tolist() == [0, 1] * 4 and batch["context"][1::2, 20].isnan().all() and batch["target"].isfinite().all()


def test_a_coordinate_that_never_moves_is_found():
    target = np.random.default_rng(0).standard_normal((3, 500)).astype(np.float32)
    target[2] = 0.5
    with pytest.raises(ValueError, match="G/7 is constant at 0.5 in coordinate 2, over all its 500 points"):
        StoreSource([Trajectory(target, "G/7", "G", {}, np.zeros(2), 0.1, 1.0, 0)], C, H, 4).batch(0)
    target[2, 400:] = 0.7  # it does move: windows in which it does not are used, and not augmented
    batch = StoreSource([Trajectory(target, "G/7", "G", {}, np.zeros(2), 0.1, 1.0, 0)], C, H, 200, augmentation=RandomAffineTransform(), channels="joint").batch(0)
    still = batch["start"] + C + H <= 400
    assert (batch["target"][still].isnan().all(1).view(-1, 3) == torch.tensor([False, False, True])).all()


# ---- padded contexts, families, memory ----

@pytest.mark.parametrize("augmentation", [None, MIX], ids=["plain", "augmented"])
def test_short_contexts_are_padded_on_the_left(store, augmentation):
    batch = StoreSource(store, 300, H, 400, min_past=20, channels="joint", augmentation=augmentation).batch(0)
    missing = batch["context"].isnan()
    assert (missing[:, :-1] | ~missing[:, 1:]).all()  # once there are values, there are no more gaps
    past = (~missing).sum(1)
    # the delays of an embedding cost its first steps
    assert past.min() >= 20 and (past <= 200 - H).all() and batch["target"].isfinite().all()
    plain = past == batch["start"] + 300
    assert plain.all() if augmentation is None else plain.float().mean() > 0.5
    for i in np.flatnonzero(plain.numpy())[:50] if augmentation is None else []:
        raw = store[int(batch["trajectory"][i])].target[:, :past[i] + H].astype(float)
        units = (raw - raw[:, :past[i]].mean(1, keepdims=True)) / raw[:, :past[i]].std(1, keepdims=True)
        assert np.abs(units - torch.cat([batch["context"][i, 300 - past[i]:], batch["target"][i]]).numpy()).max(1).min() < 1e-3


def test_uniform_over_families_and_trajectories(store):
    families = {"A": ("F",), "B": ("F",), "C": ("F", "G")}
    names = np.array(store.systems)
    for uniform, expected in (("families", dict(A=1/8, B=1/8, C=1/4, D=1/4, E=1/4)), ("trajectories", dict(A=1/15, B=2/15, C=3/15, D=4/15, E=5/15))):
        drawn = names[StoreSource(store, C, H, 20_000, uniform=uniform, families=families).batch(0)["trajectory"]]
        for name, share in expected.items(): assert abs((drawn == name).mean() - share) < 5 * np.sqrt(0.25 / 20_000)


@pytest.mark.parametrize("min_past", [None, 20])
@pytest.mark.parametrize("augmentation", [None, MIX], ids=["plain", "augmented"])
@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def test_all_in_the_memory_of_a_device_is_the_same(store, augmentation, min_past, device):
    files, resident = (StoreSource(store, C, H, 50, seed=3, augmentation=augmentation, min_past=min_past, channels="joint", device=d).batch(2) for d in (None, device))
    for name in files:
        assert resident[name].device.type == device
        torch.testing.assert_close(resident[name].cpu(), files[name], rtol=0 if device == "cpu" else 1e-4, atol=0 if device == "cpu" else 1e-4, equal_nan=True)


def test_packed_or_not_is_the_same(store, folder, tmp_path):
    write_trajectory([store[i] for i in range(len(store))], tmp_path / "shard.arrow")
    packed = open_store(tmp_path / "shard.arrow")
    a, b = (StoreSource(s, C, H, 32, seed=1, augmentation=MIX).batch(3) for s in (store, packed))
    assert len(packed) == len(store) and all(torch.equal(a[name], b[name]) for name in a)


# ---- online ----

FLOWS = ["Lorenz", "Halvorsen", "SprottB"]  # the last has no parameters


def online(batch_size=8, seed=2, **options): return OnlineSource(FLOWS, C, H, batch_size, seed, **({"augmentation": MIX, "tests": EVALUATION_TESTS} | options))  # quick ones


def digest(batch): return hashlib.sha256(b"".join(batch[name].cpu().numpy().tobytes() for name in sorted(batch))).hexdigest()


KEYS = [(0, 0, 1), (3, 1, 2)]


@pytest.fixture(scope="module")
def reference(): return {(step, rank, world): digest(online().batch(step, rank, world)) for step, rank, world in KEYS}


def test_online_batches_in_any_order_in_another_process_and_with_workers(reference):
    source = online()  # a restart: the last batch is the first that is asked for
    for key in reversed(KEYS): assert digest(source.batch(*key)) == reference[key]
    code = textwrap.dedent(f"""
        import sys; sys.path.insert(0, {str(ROOT / "tests")!r})
        import test_windows as t
        if __name__ == "__main__":
            source = t.online(workers=1)
            for key in t.KEYS: print(key, t.digest(source.batch(*key)))
            source.close()""")
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
    assert said.stdout.splitlines() == [f"{key} {reference[key]}" for key in KEYS], said.stderr[-2000:]


def test_online_accumulation_is_a_larger_batch():
    whole, parts = online(24).batch(2), [online(8).batch(6 + i) for i in range(3)]
    for name in ("context", "target", "trajectory"): assert torch.equal(whole[name], torch.cat([p[name] for p in parts]))


def test_no_trajectory_is_seen_twice_by_any_rank_and_a_batch_has_many_systems():
    source = online(32, augmentation=None)
    seen = [source.batch(step, rank, 3)["trajectory"].tolist() for step in range(4) for rank in range(3)]
    flat = sum(seen, [])
    assert len(set(flat)) == len(flat)
    units = {i // UNIT for i in seen[0]}
    assert len(units) == UNITS
    targets = {source._target(i).tobytes() for i in flat}
    assert len(targets) == len(flat)  # and none is a copy of another


def test_an_online_window_is_a_trajectory_of_its_flow():
    batch = online(16, augmentation=None, channels="joint").batch(0)
    source = online(16, augmentation=None, channels="joint")
    for group in range(16):
        rows = batch["group_ids"] == group
        raw = torch.from_numpy(source._target(int(batch["trajectory"][rows][0])).astype(float))
        expected = (raw - raw[:, :C].mean(1, keepdim=True)) / raw[:, :C].std(1, keepdim=True, correction=0)
        torch.testing.assert_close(torch.cat([batch["context"][rows], batch["target"][rows]], 1).double(), expected, rtol=1e-3, atol=1e-3)
    assert source.describe(batch)[0].split("/")[0] in FLOWS


def test_online_contexts_of_several_lengths():
    past = (~online(200, min_past=10, augmentation=None).batch(0)["context"].isnan()).sum(1)
    assert past.min() < 16 and past.max() > C - 6


# ---- mixtures ----

def test_a_mixture_has_its_shares_and_each_source_goes_on_in_order(store):
    sources = [StoreSource(store, C, H, 8, seed=i) for i in range(3)]
    mixed = MixtureSource(sources, [0.6, 0.3, 0.1])
    batches = [mixed.batch(step) for step in range(125)]
    of = torch.cat([b["source"] for b in batches])
    for k, share in enumerate([0.6, 0.3, 0.1]):
        assert ((of == k).cumsum(0) - share * torch.arange(1, 1001)).abs().max() < 2
        mine, own = torch.cat([b["context"] for b in batches])[of == k], torch.cat([sources[k].batch(step)["context"] for step in range(75)])
        assert torch.equal(mine, own[:len(mine)])


def test_a_mixture_of_any_split(store):
    def make(batch_size): return MixtureSource([StoreSource(store, C, H, batch_size, seed=1, augmentation=MIX, channels="joint"), StoreSource(store, C, H, batch_size, seed=2, channels="joint")], [0.7, 0.3])
    whole, ranks = make(20).batch(9), [make(5).batch(9, rank, 4) for rank in range(4)]
    for name in ("context", "target", "trajectory", "start", "source"): assert torch.equal(whole[name], torch.cat([b[name] for b in ranks]))
    assert torch.equal(whole["group_ids"].unique(), torch.arange(20))
    assert len(make(20).describe(whole)) == len(set(zip(whole["source"].tolist(), whole["trajectory"].tolist(), whole["start"].tolist())))


def test_a_mixture_with_online_windows_gives_each_rank_its_own(store):
    mixed = MixtureSource([online(16), StoreSource(store, C, H, 16, seed=1)], [0.75, 0.25])
    one, two = mixed.batch(1, 0, 2), mixed.batch(1, 1, 2)
    assert one["source"].sum() == 4
    fresh = one["trajectory"][one["source"] == 0].tolist(), two["trajectory"][two["source"] == 0].tolist()
    assert not set(fresh[0]) & set(fresh[1])
    assert not torch.equal(one["context"][one["source"] == 1], two["context"][two["source"] == 1])


@pytest.mark.parametrize("sources, shares, message", [
    ([dict()], [0.5], "sum to 1"), ([dict(), dict()], [1.2, -0.2], "positive"), ([dict(), dict()], [1.0], "as many shares"), ([dict(), dict(channels="joint")], [0.5, 0.5], "one channels"), ([dict(), dict(batch_size=5)], [0.5, 0.5], "one batch_size")])
def test_mixtures_that_make_no_sense(store, sources, shares, message):
    with pytest.raises(ValueError, match=message): MixtureSource([StoreSource(store, C, H, **({"batch_size": 4} | s)) for s in sources], shares)


def test_a_burst_after_stillness_is_no_target():
    """The context has a unit, but one so small that the horizon would be millions of it."""
    t = np.arange(400)
    still = np.where(t < 300, 1e-9 * np.sin(t), np.sin(0.1 * t))
    item = SimpleNamespace(target=np.stack([still, np.sin(0.2 * t)]).astype(np.float32), system="Burst")
    source = StoreSource([item], 64, 16, 32, channels="joint")
    masked = {}
    for step in range(12):
        batch = source.batch(step)
        for row, (start, target) in enumerate(zip(batch["start"].tolist(), batch["target"])):
            masked.setdefault((row % 2, start), bool(target.isnan().all()))
            assert target.isnan().all() or (target.abs() <= FARTHEST).all()
    assert any(masked[coordinate, start] for coordinate, start in masked if not coordinate and 230 < start < 236)
    assert not any(masked[coordinate, start] for coordinate, start in masked if coordinate or start + 80 <= 300)
