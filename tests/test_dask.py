"""The job on Dask: the same bytes as with threads, and a lost worker loses nothing."""

import os
import signal
import sys
import threading
import time
from dataclasses import asdict

import pytest
from rich.console import Console

from chronos_dysts import generation
from chronos_dysts.generation import GenerationConfig, generate
from chronos_dysts.store import checksum, verify

QUIET = Console(quiet=True)


def config(folder, **changes) -> GenerationConfig:
    return GenerationConfig(**{"data_dir": str(folder), "systems": ["Lorenz", "Chua", "Rossler", "Thomas"], "split": "train", "n_params": 24,
                               "n_ics": 2, "length": 256, "points_per_period": 32, "seed": 5, **changes})


def digests(folder) -> dict[str, str]:
    return {str(path.relative_to(folder)): checksum(path) for path in sorted(folder.rglob("*.arrow"))}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("dask") / "threads"
    generate(config(folder), QUIET)
    return folder


def test_two_processes_of_which_one_is_lost(data, tmp_path):
    distributed = pytest.importorskip("distributed")
    folder, lost = tmp_path / "dask", []
    with distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None, silence_logs=50) as cluster:
        def kill_one():
            while len(list(folder.glob("pieces/*/*.json"))) < 2 and time.monotonic() < end:
                time.sleep(0.002)
            lost.append(next(iter(cluster.workers.values())).pid)
            os.kill(lost[0], signal.SIGKILL)
        end = time.monotonic() + 60
        killer = threading.Thread(target=kill_one)
        killer.start()
        generate(config(folder, scheduler=cluster.scheduler_address), QUIET)
        killer.join()
    assert lost and digests(folder) == digests(data) and not verify(folder)


def test_a_cluster_of_our_own(data, tmp_path):
    pytest.importorskip("distributed")
    generate(config(tmp_path / "local", scheduler="local-dask", n_params=10), QUIET)
    made = digests(tmp_path / "local")
    assert len(made) == 80 and made.items() <= digests(data).items()


def test_dask_that_is_not_there_is_told(tmp_path, monkeypatch):
    pytest.importorskip("distributed")
    monkeypatch.setattr(generation, "_ANSWER_SECONDS", 2)
    with pytest.raises(ConnectionError, match="no Dask scheduler answers at tcp://127.0.0.1:9"):
        generate(config(tmp_path / "data", scheduler="tcp://127.0.0.1:9"), QUIET)
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'chronos-dysts\[dask\]'"):
        generate(asdict(config(tmp_path / "data", scheduler="local-dask")), QUIET)
    assert not (tmp_path / "data").exists()
