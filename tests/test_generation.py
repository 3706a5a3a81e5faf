"""Generation: the same bytes after a kill, with any number of workers; what is refused before anything is written."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import asdict

import numpy as np
import pytest
from rich.console import Console

from chronos_dysts.generation import GenerationConfig, generate
from chronos_dysts.integration import integrate_ensemble
from chronos_dysts.lyapunov import largest_lyapunov
from chronos_dysts.store import checksum, open_store, read_manifest, verify
from chronos_dysts.systems import get_system

QUIET = Console(quiet=True)
SYSTEMS = ["Lorenz", "Chua", "Duffing", "SprottL", "Aizawa", "Chen", "Thomas", "Rossler", "HenonHeiles", "DoublePendulum"]


def config(folder, **changes) -> GenerationConfig:
    return GenerationConfig(**{"data_dir": str(folder), "systems": SYSTEMS, "n_params": 3, "n_ics": 2, "length": 256,
                               "points_per_period": 32, "seed": 5, **changes})


def digests(folder) -> dict[str, str]:
    return {str(path.relative_to(folder)): checksum(path) for path in sorted(folder.rglob("*.arrow"))}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("generation") / "data"
    generate(config(folder), QUIET)
    return folder


def test_counts_layout_and_split(data):
    manifest = read_manifest(data)
    splits = {split: set(names) for split, names in manifest["split"].items()}
    assert list(splits) == ["test", "train", "validation"] and set.union(*splits.values()) == set(SYSTEMS) and len(splits["test"]) == 3
    families = {split: {family for name in names for family in manifest["families"][name]} for split, names in splits.items()}
    assert not families["train"] & families["test"] and not families["validation"] & (families["train"] | families["test"])
    for split, names in splits.items():
        for name in names:
            assert sorted(path.name for path in (data / split / name).iterdir()) == [f"{k}_T-256.arrow" for k in range(6)]
    store = open_store(data)
    assert not verify(data) and all(np.isfinite(item.target).all() and item.length == 256 for item in store)


def test_two_trajectories_of_a_parameter_set_then_another_set(data):
    for name in ("Lorenz", "Aizawa"):
        items = open_store(data, systems=[name])
        assert items[0].params == items[1].params != items[2].params
        assert not np.array_equal(items[0].target, items[1].target)
        reference = get_system(name).params
        assert all(0 < abs(items[0].params[key] / reference[key] - 1) < 0.5 for key in reference)


def test_what_is_stored_is_chaotic_and_can_be_made_again(data):
    for item in open_store(data)[::7]:
        system = get_system(item.system).with_params(item.params)
        again = integrate_ensemble(system, ics=item.ic, length=33, dt=item.dt, start=item.t0).observed()[0]
        scale = item.target.std(1, keepdims=True)
        assert (np.abs(again - item.target[:, :33]) / scale).max() < 1e-4, item.item_id
        assert largest_lyapunov(system, ics=item.ic, periods=100, start=item.t0)[0] * item.period > 0.05, item.item_id


def test_workers_leave_no_trace(data, tmp_path):
    generate(config(tmp_path / "one", workers=1), QUIET)
    generate(config(tmp_path / "four", workers=4), QUIET)
    assert digests(data) == digests(tmp_path / "one") == digests(tmp_path / "four")


def test_a_subset_of_systems_has_the_same_trajectories(data, tmp_path):
    generate(config(tmp_path / "two", systems=["Chua", "Chen"], split="train"), QUIET)
    whole = {name.partition("/")[2]: digest for name, digest in digests(data).items()}
    assert all(whole[name.partition("/")[2]] == digest for name, digest in digests(tmp_path / "two").items())


def test_fewer_parameter_sets_are_the_first_of_more(data, tmp_path):
    generate(config(tmp_path / "fewer", n_params=1), QUIET)  # blocks of another size: a draw is judged by itself
    whole = digests(data)
    fewer = digests(tmp_path / "fewer")
    assert len(fewer) == 2 * len(SYSTEMS) and all(whole[name] == digest for name, digest in fewer.items())


def test_a_killed_job_carries_on(data, tmp_path):
    folder = tmp_path / "killed"
    code = f"from chronos_dysts.generation import generate; generate({asdict(config(folder, workers=1))!r})"
    for wanted in (4, 20):
        process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 120
        while len(list(folder.rglob("*.arrow"))) < wanted and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.002)
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert 4 <= len(digests(folder)) < 60
    next(folder.rglob("*.arrow")).write_bytes(b"ARROW1")  # and a file is damaged
    assert subprocess.run([sys.executable, "-c", code], stdout=subprocess.DEVNULL).returncode == 0
    assert digests(folder) == digests(data) and not verify(folder)
    assert not [path for path in folder.rglob("*") if path.name.startswith(".") and path.name.endswith(".arrow")]


def test_another_configuration_is_refused_and_the_same_is_continued(data):
    before = digests(data)
    for changes, key in (({"seed": 6}, "seed=5, asked for seed=6"), ({"n_params": 4}, "n_params"), ({"systems": ["Lorenz"]}, "systems")):
        with pytest.raises(FileExistsError, match=key):
            generate(config(data, **changes), QUIET)
    generate(config(data), QUIET)
    assert digests(data) == before


def test_a_folder_of_something_else_is_left_alone(tmp_path):
    (tmp_path / "thesis.tex").write_text("x")
    with pytest.raises(FileExistsError, match="not empty"):
        generate(config(tmp_path), QUIET)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


@pytest.mark.parametrize("changes, message", [
    ({"systems": ["Lorentz"]}, "did you mean 'Lorenz'"), ({"systems": ["Logistic"]}, "a map"), ({"n_params": 0}, "n_params"),
    ({"length": 0}, "length"), ({"points_per_period": 0}, "points_per_period"), ({"perturbation": -1.0}, "perturbation"),
    ({"test_fraction": 1.5}, "test_fraction"), ({"validation_fraction": -1}, "validation_fraction"), ({"dtype": "float16"}, "dtype"),
    ({"scheme": "panda"}, "panda20"), ({"scheme": "panda20", "split": "train"}, "scheme"), ({"scheduler": "dask"}, "local-dask"),
    ({"perturbation": float("nan")}, "perturbation"), ({"transient": float("inf")}, "transient"), ({"tolerance": 1.0}, "tolerance"), ({"split": "a/b"}, "split"), ({"seed": -1}, "seed"), ({"systems": []}, "systems")])
def test_bad_values_are_refused_before_anything_is_written(tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        generate(asdict(config(tmp_path / "data")) | changes, QUIET)
    assert not (tmp_path / "data").exists()


def test_a_system_that_cannot_be_had_does_not_stop_the_job(tmp_path):
    reports = generate(config(tmp_path / "data", systems=["Torus", "Lorenz"], split="train", n_params=2, n_ics=1, tries_per_params=4), QUIET)
    status = {report.name: report.status for report in reports}
    assert status["Lorenz"] == "complete" and status["Torus"] == "only 0 of 2 parameter sets: of 8 draws 8 not chaotic"
    assert read_manifest(tmp_path / "data")["systems"]["Torus"]["rejected"] == {"not chaotic": 8}


def test_nothing_at_all_is_an_error(tmp_path):
    with pytest.raises(ValueError, match="not one trajectory"):
        generate(config(tmp_path / "data", systems=["Torus"], split="train", n_params=1, tries_per_params=2), QUIET)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(PermissionError, match=str(tmp_path)):
        generate(config(tmp_path / "data"), QUIET)


def test_the_manifest_says_how_it_was_made(data):
    manifest = json.loads((data / "manifest.json").read_text())
    assert manifest["config"]["seed"] == 5 and manifest["versions"]["dysts"] and manifest["processor"]
    assert set(manifest["families"]) == set(SYSTEMS) and "workers" not in manifest["config"]
