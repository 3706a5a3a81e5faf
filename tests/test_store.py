"""Store: what is written comes back, and what is damaged is named."""

import errno
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from gluonts.dataset.common import FileDataset
from hypothesis import given, settings
from hypothesis import strategies as st

from chronos_dysts import store as store_room
from chronos_dysts.store import (Trajectory, checksum, locked, open_store, pack, read_trajectories, unpack, verify, write_atomically,
                                 write_record, write_trajectory)


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


# ---- data sets ----


@pytest.fixture
def data(tmp_path):
    """Two splits, two systems, 30 trajectories each, with their records."""
    rng, folder = np.random.default_rng(1), tmp_path / "data"
    for split, system in (("train", "A"), ("test", "B")):
        files = [write_trajectory(trajectory(rng, system, k), folder / split / system / f"{k}_T-50.arrow") for k in range(30)]
        write_record({"split": split, "files": {file.relative_to(folder).as_posix(): checksum(file) for file in files}}, folder / "systems" / f"{system}.json")
    write_record({"split": {"train": ["A"], "test": ["B"]}}, folder / "manifest.json")
    return folder


def contents(folder) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_packed_and_unpacked_again_to_the_byte(data):
    before, items = contents(data), list(open_store(data))
    assert pack(data, 0.02) == 2 * 3 and not verify(data) and len(list(data.rglob("*.arrow"))) == 6
    assert all(same(a, b) for a, b in zip(open_store(data), items, strict=True))
    assert [entry["item_id"] for entry in FileDataset(data / "train", freq="h", one_dim_target=False)].count("A/7") == 1
    packed = contents(data)
    assert pack(data, 0.02) == 6 and contents(data) == packed
    assert pack(data, 64) == 2 and not verify(data)
    assert unpack(data) == 60 and contents(data) == before


def test_one_split_is_packed(data):
    assert pack(data / "test") == 1 and len(list((data / "train").rglob("*.arrow"))) == 30 and not verify(data)
    with pytest.raises(FileNotFoundError, match="no split 'tset'"):
        (data / "tset").mkdir()
        pack(data / "tset")


@pytest.mark.parametrize("start, work", [("files", lambda data: pack(data, 0.02)), ("shards", unpack)])
def test_a_kill_while_packing_loses_nothing(data, monkeypatch, start, work):
    if start == "shards":
        pack(data, 0.02)
    items, replace = list(open_store(data)), store_room.os.replace

    class Killed(BaseException):
        pass
    for most in (0, 1, 4, 5, 6, 10, 40, 70):
        count = 0

        def counted(*names):
            nonlocal count
            count += 1
            if count > most:
                raise Killed
            replace(*names)
        monkeypatch.setattr(store_room.os, "replace", counted)
        try:
            work(data)
        except Killed:
            pass
        monkeypatch.setattr(store_room.os, "replace", replace)
        assert all(same(a, b) for a, b in zip(open_store(data), items, strict=True)), most
    work(data)
    assert not verify(data) and all(same(a, b) for a, b in zip(open_store(data), items, strict=True))


def test_damage_of_every_kind_is_found(data):
    files = sorted((data / "train" / "A").iterdir())
    whole = files[0].read_bytes()
    for damage, said in ((lambda: files[0].write_bytes(whole[:-1]), "0_T-50.arrow was altered"), (lambda: files[0].unlink(), "0_T-50.arrow is missing"),
                         (lambda: files[0].write_bytes(whole[:900] + bytes([whole[900] ^ 1]) + whole[901:]), "0_T-50.arrow was altered")):
        damage()
        assert [problem for problem in verify(data)] == [f"train/A/{said}{' or truncated' if 'altered' in said else ''}"]
        with pytest.raises(ValueError, match="not as it was written"):
            pack(data)
        files[0].write_bytes(whole)
    (data / "train" / "A" / "31_T-50.arrow").write_bytes(whole)
    (data / "notes").write_text("x")
    assert [problem.split()[0] for problem in verify(data)] == ["notes", "train/A/31_T-50.arrow"]
    record = data / "systems" / "B.json"
    record.write_text(json.dumps({**json.loads(record.read_text()), "split": "train"}))
    assert "systems/B.json was altered or truncated" in verify(data)
    record.unlink()
    assert any(problem.startswith("B has no record") for problem in verify(data))
    (data / "manifest.json").write_text("{")
    assert verify(data) == ["manifest.json was altered or truncated"]
    with pytest.raises(FileNotFoundError, match="no manifest.json"):
        verify(data / "train")


def test_more_files_than_maps(data, monkeypatch):
    items = list(open_store(data))
    monkeypatch.setattr(store_room, "MOST_MAPS", 10)
    late = open_store(data)
    assert all(same(a, b) and b.dim == 3 and b.length == 50 for a, b in zip(items, late, strict=True))


def test_double_precision_is_kept(tmp_path):
    item = trajectory(np.random.default_rng(0))
    exact = Trajectory(**{**item.__dict__, "target": np.random.default_rng(1).normal(size=(3, 50))})
    read = read_trajectories(write_trajectory(exact, tmp_path / "0_T-50.arrow"))[0]
    assert read.target.dtype == np.float64 and np.array_equal(read.target, exact.target)


def test_a_full_disk_is_told(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")
    monkeypatch.setattr(store_room.os, "replace", full)
    with pytest.raises(OSError, match="no space is left for .*MiB are free on the disk mounted at .* the same command carries on"):
        write_trajectory(trajectory(np.random.default_rng(0)), tmp_path / "0_T-50.arrow")
    assert not list(tmp_path.iterdir())


def test_the_second_job_on_a_data_set_is_told_who_has_it(data):
    code = "import sys, time; from chronos_dysts.store import locked\nwith locked(sys.argv[1]): print('mine', flush=True); time.sleep(60)"
    process = subprocess.Popen([sys.executable, "-c", code, str(data)], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "mine\n"
    with pytest.raises(BlockingIOError, match=f"process {process.pid} on .* works on"):
        pack(data)
    process.kill()
    process.wait()
    with locked(data):  # a lock does not outlive its holder
        pass
    assert not verify(data)


# ---- how far a job is ----


def test_progress_is_a_line_every_half_minute_where_there_is_no_terminal(monkeypatch):
    import io

    from rich.console import Console

    from chronos_dysts import store

    now = [0.0]
    monkeypatch.setattr(store.time, "monotonic", lambda: now[0])
    console = Console(file=io.StringIO(), force_terminal=False, width=100)
    with store.progress_of(console, "pack data", 100) as advance:
        for done, at in ((5, 10.0), (10, 31.0), (11, 32.0), (50, 90.0), (100, 180.0)):
            now[0] = at
            advance(done)
    assert console.file.getvalue().splitlines() == ["pack data: 10% after 0.5 minutes, about 4.7 more", "pack data: 50% after 1.5 minutes, about 1.5 more"]


def test_progress_is_a_bar_on_a_terminal_and_silent_without_a_console():
    import io

    from rich.console import Console

    from chronos_dysts.store import progress_of

    console = Console(file=io.StringIO(), force_terminal=True, width=100)
    with progress_of(console, "pack data", 4) as advance:
        advance(2)
    assert "pack data" in console.file.getvalue() and "2/4" in console.file.getvalue()
    quiet = Console(file=io.StringIO(), quiet=True)
    with progress_of(quiet, "x", 2) as advance:
        advance(1)
    with progress_of(None, "x", 2) as advance:
        advance(1)
    assert quiet.file.getvalue() == ""
