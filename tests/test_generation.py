"""Generation: the same bytes after a kill, with any number of workers; what is refused before anything is written."""

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import asdict, replace

import numpy as np
import pytest
from rich.console import Console

from chronos_dysts import attractors, generation, store
from chronos_dysts.generation import GIVE_UP_AFTER, GenerationConfig, certify, generate, reproduce
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
    ({"points_per_period": float("inf")}, "positive and finite"), ({"points_per_period": [10]}, "two of them"), ({"points_per_period": [10, 20, 30]}, "two of them"),
    ({"points_per_period": "fast"}, "two of them"), ({"points_per_period": [10, None]}, "two of them"), ({"points_per_period": [60, 10]}, r"not \[60, 10\]"),
    ({"points_per_period": [-1, 10]}, "at least 2"), ({"points_per_period": [1, 10]}, "at least 2"), ({"points_per_period": [10, float("nan")]}, "at least 2"),
    ({"points_per_period": [10, 129]}, "a length of 258 has them, or a largest rate of 128"), ({"catalogue_params": 2}, "beside an archive"), ({"catalogue_params": 0, "archive": "x"}, "catalogue_params"),
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


# ---- pieces ----


@pytest.mark.parametrize("block", [1, 3, 64])
def test_the_size_of_the_pieces_leaves_no_trace(data, tmp_path, monkeypatch, block):
    monkeypatch.setattr(generation, "_block", lambda system, config: block)
    monkeypatch.setattr(generation, "_lanes", lambda system, config: max(1, block // 2))
    few = SYSTEMS[:4]
    generate(config(tmp_path / "data", systems=few, split="train"), QUIET)
    whole = {name.partition("/")[2]: digest for name, digest in digests(data).items() if name.split("/")[1] in few}
    assert {name.partition("/")[2]: digest for name, digest in digests(tmp_path / "data").items()} == whole


def test_a_rough_transient_does_not_touch_what_is_stored():
    rossler = get_system("Rossler")
    ics = np.array([rossler.ic, [300.0, 300.0, 300.0]])  # the second escapes before anything is stored
    params = np.repeat(rossler.parameter_values[None], 2, 0)
    one = config("nowhere", transient=10)
    ensemble = generation._record(rossler, params, ics, 32, one)
    assert list(ensemble.ok) == [True, False] and np.isnan(ensemble.states[1]).all() and np.isclose(ensemble.times[0], 10 * rossler.period)
    whole = integrate_ensemble(rossler, ics=ensemble.first_states[:1], start=ensemble.times[0], length=256, points_per_period=32)
    np.testing.assert_allclose(ensemble.states[:1], whole.states, rtol=1e-9, atol=1e-9)
    accurate = integrate_ensemble(rossler, ics=ics[:1], length=256, points_per_period=32, transient=10)
    assert 0 < np.abs(ensemble.states[0, :, 0] - accurate.states[0, :, 0]).max() < 1e-3  # rough, and on the way to the same attractor


def test_no_more_draws_than_are_needed():
    def piece(numbers, accepted):
        return generation.Piece(list(numbers), ["" if k < accepted else "settled" for k in range(len(numbers))], [], [], "", "")
    one = config("nowhere", n_params=64, tries_per_params=20)

    def job():
        return generation._Job(get_system("Lorenz"), "train", one, 64)
    sure = job()
    assert sure.next_piece() == list(range(64)) and not sure.next_piece() and not sure.next_piece(ahead=True)  # all of them may pass
    sure.add(piece(range(64), 60))
    assert sure.next_piece() == list(range(64, 72)) and not sure.next_piece()  # what is missing, and the register full
    sure.add(piece(range(64, 72), 4))
    assert sure.status == "complete" and sure.tried == 68 and not sure.next_piece(ahead=True)
    poor = job()
    poor.next_piece()
    poor.add(piece(range(64), 7))
    assert poor.next_piece() == list(range(64, 128)) and not poor.next_piece()  # 57 are missing: this is needed even if all pass
    assert poor.next_piece(ahead=True) == list(range(128, 192))  # and at one in eight several more
    resumed = job()
    resumed.add(piece(range(8, 24), 16))
    assert resumed.next_piece() == list(range(8)) and resumed.next_piece() == list(range(24, 64))  # around what is there


def test_finished_pieces_are_not_made_again(tmp_path, monkeypatch):
    made, make_piece = [], generation.make_piece

    def counted(name, split, config, numbers):
        if len(made) == 3 and not any(path.exists() for path in [tmp_path / "go on"]):
            raise OSError(errno.ENOSPC, "no space is left for it")
        made.append(tuple(numbers))
        return make_piece(name, split, config, numbers)
    monkeypatch.setattr(generation, "make_piece", counted)
    one = config(tmp_path / "data", systems=["Lorenz"], split="train", n_params=20, workers=1)
    monkeypatch.setattr(generation, "_block", lambda system, config: 4)
    with pytest.raises(OSError, match="no space"):
        generate(one, QUIET)
    assert not list((tmp_path / "data").rglob(".*.tmp")) and "the job was not finished" in verify(tmp_path / "data")[0]
    (tmp_path / "go on").touch()
    generate(one, QUIET)
    assert len(made) == len(set(made)) and not verify(tmp_path / "data") and len(digests(tmp_path / "data")) == 40
    assert not (tmp_path / "data" / "pieces").exists()


@pytest.mark.parametrize("packed", [False, True])
def test_what_is_damaged_is_made_again_from_its_own_draws(data, tmp_path, monkeypatch, packed):
    monkeypatch.setattr(generation, "shard_rows", lambda size, most: 4)
    folder, make_piece, made = tmp_path / "data", generation.make_piece, []
    one = config(folder, systems=["Lorenz"], split="train", n_params=6, pack=packed)
    generate(one, QUIET)
    before = {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    files = sorted(path for path in before if path.suffix == ".arrow")
    assert len(files) == (3 if packed else 12)
    monkeypatch.setattr(generation, "make_piece", lambda *arguments: (made.extend(arguments[-1]), make_piece(*arguments))[1])
    (folder / files[0]).write_bytes(b"")
    (folder / files[-1]).unlink()
    (folder / "config.yaml").unlink()
    (folder / "train" / "Lorenz" / "99_T-256.arrow").write_bytes(b"x")
    generate(one, QUIET)
    assert 0 < len(made) <= 4 and not verify(folder)
    assert {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize("damaged", ["manifest.json", "systems/Lorenz.json"])
def test_a_damaged_record_is_written_again(tmp_path, damaged):
    one = config(tmp_path / "data", systems=["Lorenz"], split="train")
    generate(one, QUIET)
    before = (tmp_path / "data" / damaged).read_bytes()
    (tmp_path / "data" / damaged).write_bytes(before[:-30])
    assert any(damaged in problem for problem in verify(tmp_path / "data"))
    generate(one, QUIET)
    assert not verify(tmp_path / "data") and (tmp_path / "data" / damaged).read_bytes() == before


def test_shards_hold_the_same_trajectories(data, tmp_path):
    generate(config(tmp_path / "data", systems=["Lorenz"], split="train", pack=True), QUIET)
    packed, loose = open_store(tmp_path / "data"), open_store(data, ["Lorenz"])
    assert [path.name for path in sorted((tmp_path / "data" / "train" / "Lorenz").iterdir())] == ["0-5_T-256.arrow"]
    assert all(np.array_equal(a.target, b.target) and a.item_id == b.item_id for a, b in zip(packed, loose, strict=True))
    store.unpack(tmp_path / "data")
    whole = {name.partition("/")[2]: digest for name, digest in digests(data).items()}
    assert all(whole[name.partition("/")[2]] == digest for name, digest in digests(tmp_path / "data").items())


def test_a_hopeless_system_is_given_up_early(tmp_path):
    reports = generate(config(tmp_path / "data", systems=["Torus", "Lorenz"], split="train", n_params=50, n_ics=1), QUIET)
    tried = {report.name: report.tried for report in reports}
    assert tried["Torus"] == GIVE_UP_AFTER and tried["Lorenz"] < 80


def test_rejected_draws_are_kept_on_request(tmp_path):
    folder = tmp_path / "data"
    reports = generate(config(folder, systems=["SprottL", "Lorenz"], split="train", keep_rejected=True), QUIET)
    for report in reports:
        rows = [json.loads(line) for line in (folder / "rejected" / f"{report.name}.jsonl").read_text().splitlines()]
        assert len(rows) == sum(report.rejected.values()) and all(row["reason"] in report.rejected for row in rows)
        assert all(set(row["params"]) == set(get_system(report.name).params) for row in rows)
    assert not verify(folder) and sum(len(report.rejected) for report in reports)
    (folder / "rejected" / "SprottL.jsonl").unlink()
    assert "rejected/SprottL.jsonl is missing" in verify(folder)


def test_a_delay_system_is_made_again_from_what_is_stored(tmp_path, monkeypatch):
    monkeypatch.setattr(attractors, "DEFAULT_TESTS", {"diverged": attractors.is_whole})
    generate(config(tmp_path / "data", systems=["MackeyGlass"], split="train", n_params=2, dtype="float64"), QUIET)
    items = open_store(tmp_path / "data")
    assert len(items) == 4
    for item in items:
        system = get_system(item.system).with_params(item.params)
        again = integrate_ensemble(system, ics=item.ic.reshape(1, system.dim, -1), length=65, dt=item.dt, start=item.t0).observed()[0]
        assert np.abs(again - item.target[:, :65]).max() < 1e-5 * item.target.std() and item.target.dtype == np.float64


def test_a_listed_flow_stays_in_the_test_set_though_it_is_not_chaotic(tmp_path, monkeypatch):
    monkeypatch.setattr(attractors, "EVALUATION_TESTS", {"diverged": attractors.is_whole}, raising=False)
    one = dict(systems=["CircadianRhythm"], n_params=2, tries_per_params=5)
    reports = generate(config(tmp_path / "test", split="test", **one), QUIET)
    assert reports[0].status == "complete"
    for changes in ({"split": "train"}, {"split": "test", "keep_listed": False}):
        assert GenerationConfig(**{"systems": ["CircadianRhythm"], **changes}).tests_of("CircadianRhythm", changes["split"]) is attractors.DEFAULT_TESTS


def test_a_full_disk_leaves_nothing_half_written_and_the_job_goes_on(data, tmp_path, monkeypatch):
    replace, count = os.replace, 0

    def full(*names):
        nonlocal count
        count += 1
        if count > 40:
            raise OSError(errno.ENOSPC, "No space left on device")
        replace(*names)
    monkeypatch.setattr(store.os, "replace", full)
    with pytest.raises(OSError, match="MiB are free .* the same command carries on"):
        generate(config(tmp_path / "data"), QUIET)
    assert not list((tmp_path / "data").rglob(".*.tmp"))
    monkeypatch.setattr(store.os, "replace", replace)
    generate(config(tmp_path / "data"), QUIET)
    assert digests(tmp_path / "data") == digests(data) and not verify(tmp_path / "data")


def test_a_file_is_no_folder(tmp_path):
    (tmp_path / "data").write_text("x")
    with pytest.raises(FileExistsError, match="is a file"):
        generate(config(tmp_path / "data"), QUIET)


# ---- many sampling rates ----

RATES = dict(systems=["Lorenz", "Chua", "Duffing"], n_params=20, n_ics=1, points_per_period=[10, 60], tests=["diverged", "settled", "periodic"])


@pytest.fixture(scope="module")
def many_rates(tmp_path_factory):
    folder = tmp_path_factory.mktemp("rates") / "data"
    generate(config(folder, **RATES, keep_rejected=True), QUIET)
    return folder


def test_eight_draws_share_a_rate_and_systems_do_not(many_rates):
    manifest, firsts = read_manifest(many_rates), set()
    for name, record in manifest["systems"].items():
        items = open_store(many_rates, systems=[name])
        rates = [item.period / item.dt for item in items]
        by_block = {}
        for number, rate in zip(record["accepted"], rates):
            by_block.setdefault(number // 8, set()).add(rate)
        assert all(len(those) == 1 for those in by_block.values()) and len(set(rates)) == len(by_block) >= 3
        assert 10 <= min(rates) < max(rates) <= 60
        firsts.add(rates[0])
        for item in items[::9]:  # what is stored was sampled at that rate
            again = integrate_ensemble(get_system(name).with_params(item.params), ics=item.ic, length=20, dt=item.dt, start=item.t0).observed()[0]
            assert np.abs(again - item.target[:, :20]).max() < 1e-4 * np.abs(item.target).max()
    assert len(firsts) == 3 and manifest["config"]["points_per_period"] == [10, 60] and not verify(many_rates)


def test_rates_are_log_uniform():
    one, lorenz = config("nowhere", **RATES), get_system("Lorenz")
    logs = np.log(np.array([generation._rate(lorenz, one, 8 * k) for k in range(2000)]) / 10) / np.log(6)
    assert np.abs(np.sort(logs) - np.arange(2000) / 2000).max() < 0.04  # Kolmogorov–Smirnov at 0.3 %
    assert generation._rate(lorenz, replace(one, seed=6), 0) != generation._rate(lorenz, one, 0) == generation._rate(lorenz, one, 7)


@pytest.mark.parametrize("changes", [{"workers": 1, "block": 3}, {"workers": 3, "block": 64}, {"workers": 2, "n_params": 9}])
def test_with_many_rates_neither_workers_nor_pieces_leave_a_trace(many_rates, tmp_path, monkeypatch, changes):
    changes = dict(changes)
    if block := changes.pop("block", None):
        monkeypatch.setattr(generation, "_block", lambda system, config: block)
        monkeypatch.setattr(generation, "_lanes", lambda system, config: max(1, block // 2))
    generate(config(tmp_path / "data", **RATES | changes, keep_rejected=True), QUIET)
    there, whole = digests(tmp_path / "data"), digests(many_rates)
    assert len(there) == 3 * changes.get("n_params", 20) and all(whole[name] == digest for name, digest in there.items())


def test_with_many_rates_what_is_damaged_is_made_again(many_rates, tmp_path):
    folder = tmp_path / "data"
    shutil.copytree(many_rates, folder)
    bad = [path for name in ("Lorenz", "Chua") for path in sorted(folder.glob(f"*/{name}/1?_T-*"))[3:6]]
    for path in bad:
        path.write_bytes(b"x")
    generate(config(folder, **RATES, keep_rejected=True), QUIET)
    assert len(bad) == 6 and digests(folder) == digests(many_rates) and not verify(folder)


def test_a_flow_is_compiled_once_where_the_stored_tolerance_is_hardly_finer(tmp_path, monkeypatch):
    asked, integrate = set(), generation.integrate_ensemble
    for module in (generation, sys.modules["chronos_dysts.integration"]):
        monkeypatch.setattr(module, "integrate_ensemble", lambda *args, **kwargs: asked.add(kwargs["tolerance"]) or integrate(*args, **kwargs))
    generation._attractor.cache_clear()
    generate(config(tmp_path / "data", **RATES | {"systems": ["Lorenz"], "tolerance": 1e-9, "tests": ["diverged"], "n_params": 1}), QUIET)
    assert asked == {1e-9}


# ---- again, elsewhere ----


@pytest.mark.parametrize("packed", [False, True])
def test_what_is_certified_is_integrated_again_to_the_same_bytes(many_rates, tmp_path, packed):
    if packed:
        shutil.copytree(many_rates, tmp_path / "data")
        assert store.pack(tmp_path / "data", 0.05) > 3
    folder = tmp_path / "data" if packed else many_rates
    file = certify(folder, tmp_path / "c.parquet")
    reports = reproduce(file, tmp_path / "again", workers=1)
    assert digests(tmp_path / "again") == digests(folder) and not verify(tmp_path / "again")
    assert file.stat().st_size < 0.1 * sum(path.stat().st_size for path in folder.rglob("*.arrow"))
    there, first = read_manifest(tmp_path / "again"), read_manifest(folder)
    assert all(there[key] == first[key] for key in ("config", "split", "families", "counts")) and [r.status for r in reports] == ["complete"] * 3
    assert there["reproduced_from"]["processor"] == first["processor"]
    if not packed:  # the data set belongs to its configuration as the first one does
        generate(config(tmp_path / "again", **RATES, keep_rejected=True), QUIET)
        assert digests(tmp_path / "again") == digests(folder)


def test_reproduction_takes_processes_and_carries_on(many_rates, tmp_path, monkeypatch):
    file = certify(many_rates, tmp_path / "c.parquet")
    reproduce(file, tmp_path / "again", workers=2)
    assert digests(tmp_path / "again") == digests(many_rates)
    (tmp_path / "again" / "systems" / "Chua.json").unlink()
    next((tmp_path / "again").glob("*/Lorenz/3_T-*")).unlink()
    asked, integrate = [], generation.integrate_ensemble
    monkeypatch.setattr(generation, "integrate_ensemble", lambda system, *args, **kwargs: asked.append(system.name) or integrate(system, *args, **kwargs))
    reproduce(file, tmp_path / "again", workers=1)
    assert digests(tmp_path / "again") == digests(many_rates) and set(asked) == {"Chua", "Lorenz"} and not verify(tmp_path / "again")


def test_reproduction_is_that_of_the_same_states_to_the_tolerance(tmp_path, monkeypatch):
    """What another processor does to the last bits, another tolerance does to more of them: the trajectories part as chaos makes them, and not before."""
    generate(config(tmp_path / "data", systems=["Lorenz", "MackeyGlass"], split="train", n_params=3, n_ics=2, dtype="float64", tests=["diverged"]), QUIET)
    file = certify(tmp_path / "data", tmp_path / "c.parquet")
    integrate = generation.integrate_ensemble
    monkeypatch.setattr(generation, "integrate_ensemble", lambda *args, **kwargs: integrate(*args, **kwargs | {"tolerance": 1e-14}))
    reproduce(file, tmp_path / "again", workers=1)
    differing = 0
    for first, second in zip(open_store(tmp_path / "data"), open_store(tmp_path / "again"), strict=True):
        assert first.item_id == second.item_id and first.params == second.params and np.array_equal(first.ic, second.ic) and (first.dt, first.t0) == (second.dt, second.t0)
        error = np.abs(first.target - second.target).max(0) / first.target.std()
        accurate = 1e-9 if first.system == "Lorenz" else 1e-4  # of a delay system the past is a sample
        assert error[:32].max() < accurate, first.item_id
        differing += error.max() > 0
    assert differing


def test_a_trajectory_that_ends_early_elsewhere_is_left_out_and_said(many_rates, tmp_path, monkeypatch):
    file, integrate, done = certify(many_rates, tmp_path / "c.parquet"), generation.integrate_ensemble, []

    def one_lane_fails(*args, **kwargs):
        ensemble = integrate(*args, **kwargs)
        if not done:
            ensemble.outcome[1], ensemble.states[1] = 1, np.nan
            done.append(ensemble.system.name)
        return ensemble
    monkeypatch.setattr(generation, "integrate_ensemble", one_lane_fails)
    reports = {report.name: report for report in reproduce(file, tmp_path / "again", workers=1)}
    assert reports[done[0]].trajectories == 19 and "only 19 of 20" in reports[done[0]].status and sum(report.trajectories for report in reports.values()) == 59
    assert not verify(tmp_path / "again") and [item.item_id for item in open_store(tmp_path / "again", systems=done)] == [f"{done[0]}/{k}" for k in range(19)]


def test_certificates_of_something_else_are_refused(data, many_rates, tmp_path):
    with pytest.raises(FileNotFoundError, match="no data set"):
        certify(tmp_path, tmp_path / "c.parquet")
    shutil.copytree(many_rates, tmp_path / "unfinished")
    (tmp_path / "unfinished" / "systems" / "Chua.json").unlink()
    with pytest.raises(ValueError, match="Chua .* was not finished"):
        certify(tmp_path / "unfinished", tmp_path / "c.parquet")
    file = certify(many_rates, tmp_path / "c.parquet")
    with pytest.raises(FileExistsError, match="something else"):
        reproduce(file, data)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("x")
    with pytest.raises(FileExistsError, match="something else"):
        reproduce(file, tmp_path / "mine")
    (tmp_path / "not.parquet").write_text("x")
    with pytest.raises(ValueError, match="no certificates"):
        reproduce(tmp_path / "not.parquet", tmp_path / "again")
    assert not (tmp_path / "again").exists()
