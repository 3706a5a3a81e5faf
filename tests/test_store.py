"""Store: what is written comes back, and what is damaged is named."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from gluonts.dataset.common import FileDataset
from hypothesis import given, settings
from hypothesis import strategies as st

from chronos_dysts.store import Trajectory, open_store, read_trajectories, write_atomically, write_trajectory


def trajectory(rng, system="Waves", sample=0, dim=3, length=50) -> Trajectory:
    return Trajectory(rng.normal(size=(dim, length)).astype(np.float32), f"{system}/{sample}", system,
                      {"a": float(rng.normal()), "w": [[1.0, 2.0], [3.0, float(rng.normal())]]}, rng.normal(size=dim + 1),
                      dt=0.01, period=1.5, seed=2**40, t0=30.0)


def same(a: Trajectory, b: Trajectory) -> bool:
    return np.array_equal(a.target, b.target) and np.array_equal(a.ic, b.ic) and all(
        getattr(a, name) == getattr(b, name) for name in ("item_id", "system", "params", "dt", "period", "seed", "t0", "start"))


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 1000), count=st.integers(1, 4), dim=st.integers(1, 10), length=st.integers(1, 300))
def test_samples_and_shards_come_back(tmp_path_factory, seed, count, dim, length):
    rng, folder = np.random.default_rng(seed), tmp_path_factory.mktemp("store")
    items = [trajectory(rng, sample=k, dim=dim, length=length) for k in range(count)]
    read = read_trajectories(write_trajectory(items, folder / "shard.arrow"))
    assert len(read) == count and all(same(a, b) for a, b in zip(items, read))
    entries = list(FileDataset(folder, freq="h", one_dim_target=False))
    assert all(np.array_equal(entry["target"], item.target) and entry["item_id"] == item.item_id for entry, item in zip(entries, items))


def test_order_is_by_number_and_a_subset_can_be_opened(tmp_path):
    rng = np.random.default_rng(0)
    for system in ("B", "A"):
        for sample in (10, 2, 0):
            write_trajectory(trajectory(rng, system, sample), tmp_path / "train" / system / f"{sample}_T-50.arrow")
    store = open_store(tmp_path / "train")
    assert [item.item_id for item in store] == ["A/0", "A/2", "A/10", "B/0", "B/2", "B/10"]
    assert [item.item_id for item in open_store(tmp_path / "train", systems=["B"])] == ["B/0", "B/2", "B/10"]
    assert store.systems == ["A"] * 3 + ["B"] * 3 and len(open_store(store.paths[0])) == 1
    with pytest.raises(ValueError, match="no trajectory of C"):
        open_store(tmp_path / "train", systems=["C"])
    with pytest.raises(FileNotFoundError, match="chronos-dysts generate"):
        open_store(tmp_path / "test")


def test_a_damaged_file_is_named_wherever_it_is_cut(tmp_path):
    path = write_trajectory(trajectory(np.random.default_rng(0)), tmp_path / "0_T-50.arrow")
    whole = path.read_bytes()
    for cut in (0, 1, 7, 100, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:cut])
        with pytest.raises(ValueError, match=f"{path.name}.* is damaged"):
            open_store(tmp_path)
    path.write_bytes(b"x" * len(whole))
    with pytest.raises(ValueError, match="is damaged"):
        open_store(tmp_path)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_values_that_are_not_finite_are_not_written(tmp_path, value):
    item = trajectory(np.random.default_rng(0))
    item.target[1, 3] = value
    with pytest.raises(ValueError, match="Waves/0"):
        write_trajectory(item, tmp_path / "0.arrow")
    assert not list(tmp_path.iterdir())


def test_a_write_that_fails_leaves_what_was_there(tmp_path):
    path = tmp_path / "file"
    path.write_text("before")

    def fail(temporary: Path):
        temporary.write_text("half")
        raise OSError("disk full")
    with pytest.raises(OSError, match="disk full"):
        write_atomically(path, fail)
    assert path.read_text() == "before" and [file.name for file in tmp_path.iterdir()] == ["file"]


def test_many_files_need_few_descriptors(tmp_path):
    rng = np.random.default_rng(0)
    for sample in range(200):
        write_trajectory(trajectory(rng, sample=sample, length=10), tmp_path / f"{sample}_T-10.arrow")
    code = ("import resource, sys; from chronos_dysts.store import open_store; "
            "resource.setrlimit(resource.RLIMIT_NOFILE, (60, 60)); store = open_store(sys.argv[1]); "
            "print(len(store), sum(float(item.target.sum()) for item in store))")
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    total = sum(float(item.target.sum()) for item in open_store(tmp_path))
    assert done.stdout.split() == ["200", str(total)]
