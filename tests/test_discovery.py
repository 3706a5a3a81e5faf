"""Discovery: the same archive from any number of workers and after any kill; nobody's ancestor is a test system; chaos that is there again."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from chronos_dysts import discovery
from chronos_dysts.discovery import ARCHIVE, UNITS, Attempt, Archive, DiscoveryConfig, Entry, describe, discover, distances, join_archives, read_archive, try_out
from chronos_dysts.generation import GenerationConfig, generate, read_systems
from chronos_dysts.integration import integrate_ensemble, sample_initial_conditions
from chronos_dysts.lyapunov import lyapunov_spectrum
from chronos_dysts.skew import extent
from chronos_dysts.store import open_store, read_manifest, verify
from chronos_dysts.systems import PANDA20, System, catalogue, get_system, split_systems

QUIET = Console(quiet=True)
ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "nbs" / "results"
FOUNDERS = ["Aizawa", "Halvorsen", "Thomas"]
SMALL = dict(n_systems=6, founders=FOUNDERS, test_fraction=0.0, validation_fraction=0.0, max_dim=6, lyapunov_periods=60, kinds=["state", "diffusive"])


@pytest.fixture(scope="module", autouse=True)
def small_rounds():
    """Rounds of four attempts: a search of some seconds has several."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(discovery, "ROUND", 4)
        yield


@pytest.fixture(scope="module")
def found(small_rounds, tmp_path_factory):
    folder = tmp_path_factory.mktemp("discovery") / "found"
    discover(DiscoveryConfig(str(folder), **SMALL), QUIET)
    return folder


def test_what_is_found_is_chaotic_again_from_another_state_at_another_tolerance(found):
    for entry in read_archive(found):
        assert 0 < entry.interval[0] < entry.exponents[0] < entry.interval[1] and list(entry.exponents[1:]) == sorted(entry.exponents[1:], reverse=True)
        start = integrate_ensemble(entry.system, ics=np.array([entry.system.ic]) * (1 + 1e-3), length=1, transient=50, tolerance=1e-9)
        again = lyapunov_spectrum(entry.system, ics=start.last_states, periods=60, directions=1, tolerance=1e-9)
        assert again.exponents[0, 0] > 2 * again.standard_errors[0, 0]
        assert abs(again.exponents[0, 0] - entry.exponents[0]) < 6 * np.hypot(again.standard_errors[0, 0], entry.standard_error)


def test_genealogies_lead_to_founders_and_families_are_theirs(found):
    entries = {entry.name: entry for entry in read_archive(found)}
    for entry in entries.values():
        names = set()
        for parent in entry.parents:
            names |= {parent} if parent in FOUNDERS else set(entries[parent].founders)
        assert set(entry.founders) == names <= set(FOUNDERS)
        assert set(entry.system.families) == {family for name in names for family in get_system(name).families}
        assert len(entry.parents) == (1 if entry.kind == "mutation" else 2) and entry.system.dim <= 6


def test_at_least_half_are_vector_fields_of_their_own_and_all_are_apart(found):
    entries = read_archive(found)
    fields = [entry.field for entry in entries]
    assert max(fields.count(item) for item in fields) <= 2
    apart = distances(np.array([e.descriptors for e in entries]), np.array([e.descriptors for e in entries]))
    assert (apart[np.triu_indices(len(entries), 1)] >= 0.15).all()


@pytest.mark.parametrize("workers", [1, 3])
def test_workers_and_a_longer_search_leave_no_trace(found, tmp_path, workers):
    config = DiscoveryConfig(str(tmp_path / "again"), **SMALL | {"n_systems": 2, "workers": workers})
    discover(config, QUIET)
    discover(replace(config, n_systems=6), QUIET)
    assert (tmp_path / "again" / ARCHIVE).read_bytes() == (found / ARCHIVE).read_bytes()


def test_dask_makes_the_same_archive(found, tmp_path):
    pytest.importorskip("distributed")
    discover(DiscoveryConfig(str(tmp_path / "again"), **SMALL, scheduler="local-dask"), QUIET)
    assert (tmp_path / "again" / ARCHIVE).read_bytes() == (found / ARCHIVE).read_bytes()


def test_after_a_kill_the_same_command_carries_on(found, tmp_path):
    folder = tmp_path / "again"
    words = [f"{key}={json.dumps(value).replace(' ', '').replace(chr(34), '')}" for key, value in SMALL.items()]
    command = [sys.executable, "-m", "chronos_dysts.cli", "discover", f"output_dir={folder}", *words]
    code = f"import sys; from chronos_dysts import discovery; from chronos_dysts.cli import main; discovery.ROUND = 4; sys.exit(main({command[3:]!r}))"
    for wait_for in ("rounds/00000.json", "rounds/00001.json"):
        process = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, start_new_session=True)
        while not (folder / wait_for).exists() and process.poll() is None:
            time.sleep(0.05)
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
    (folder / "rounds" / ".00001.json.x.tmp").write_text("{")  # what a kill in the middle of a write leaves
    (folder / "rounds" / "00000.json").write_bytes((folder / "rounds" / "00000.json").read_bytes()[:-20])  # and a damaged round
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (folder / ARCHIVE).read_bytes() == (found / ARCHIVE).read_bytes() and not list(folder.rglob("*.tmp"))


def test_what_is_spared_changes_nothing(found, tmp_path, monkeypatch):
    """Attempts in vain made all the same, and every extent integrated anew: the same archive."""
    made = discovery.try_out

    def bare(attempt, *arguments):
        entries, reasons = made(replace(attempt, extents=(None, None)), *arguments)
        return [replace(entry, extent=None) for entry in entries], reasons
    monkeypatch.setattr(discovery, "try_out", bare)
    monkeypatch.setattr(Archive, "is_in_vain", lambda *_: False)
    discover(DiscoveryConfig(str(tmp_path / "again"), **SMALL), QUIET)
    assert (tmp_path / "again" / ARCHIVE).read_bytes() == (found / ARCHIVE).read_bytes()
    rounds = [sorted((folder / "rounds").glob("*.json")) for folder in (found, tmp_path / "again")]
    records = [[discovery.read_record(path) for path in paths] for paths in rounds]
    assert [record["entries"] for record in records[0]] == [record["entries"] for record in records[1]]
    assert all(parts is None for record in records[1] for parts in record["extents"]) and all(parts for record in records[0] for parts in record["extents"])
    # what a round keeps is what its systems cover when they are integrated by themselves, and goes with who descends from them
    archive = Archive(DiscoveryConfig(**SMALL).chosen_founders(), DiscoveryConfig(**SMALL))
    for number, path in enumerate(rounds[0]):
        discovery._replay(path, number, archive, discovery.Counter())
    for entry in archive.entries:
        alone = extent(entry.system, tolerance=DiscoveryConfig().tolerance)
        for part in ("mean", "deviation", "flow"):
            np.testing.assert_array_equal(getattr(entry.extent, part), getattr(alone, part))
    bred = {entry.name: entry for entry in archive.entries}
    attempts = [archive.next_attempt(number, len(archive))[0] for number in range(1000, 1040)]
    assert any(name in bred and known is bred[name].extent for attempt in attempts for name, known in zip(attempt.parents, attempt.extents))


def test_an_attempt_is_in_vain_when_its_field_is_full_and_not_before(found):
    entries = read_archive(found)
    config = DiscoveryConfig(**SMALL | {"most_variants": 1})
    archive, seen = Archive(config.chosen_founders(), config), {}
    for entry in entries:
        archive.add(entry)
        seen.setdefault(entry.field, len(archive))
    systems = {system.name: system for system in (*archive.founders, *(entry.system for entry in entries))}
    for entry in entries:
        attempt, parents = Attempt(entry.number, entry.parents, "" if entry.kind == "mutation" else entry.kind), [systems[name] for name in entry.parents]
        assert [archive.is_in_vain(attempt, parents, count) for count in (seen[entry.field] - 1, seen[entry.field], len(entries))] == [False, True, True]
    assert not archive.is_in_vain(Attempt(0, ("Lorenz",)), [get_system("Lorenz")], len(entries))
    twins = archive.judge(replace(entries[0], novelty=0.0))
    assert twins[1] == "more variants"  # what is spared would have stayed out


def test_default_founders_are_of_training_families_only():
    for changes in ({}, {"seed": 4}, {"scheme": "panda20"}, {"scheme": "7-90-30"}):
        config = DiscoveryConfig(**changes)
        split = split_systems(scheme=config.scheme, seed=config.seed)
        aside = {family for side in (split.test, split.validation) for name in side for family in get_system(name).families}
        founders = config.chosen_founders()
        assert len(founders) > 30 and not aside & {family for system in founders for family in system.families}
        archive = Archive(founders, config)
        for number in range(50):
            _, parents, names = archive.next_attempt(number, 0)
            assert not aside & {family for system in parents for family in system.families} and set(names) <= set(split.train)


def test_attempts_depend_on_their_number_alone():
    config = DiscoveryConfig(**SMALL)
    archive = Archive(config.chosen_founders(), config)
    attempts = [archive.next_attempt(number, 0)[0] for number in range(40)]
    assert attempts == [Archive(config.chosen_founders(), config).next_attempt(number, 0)[0] for number in range(40)]
    assert 20 < sum(len(attempt.parents) == 2 for attempt in attempts) < 40
    recombined = next(attempt for attempt in attempts if len(attempt.parents) == 2)
    parents = [get_system(name) for name in recombined.parents]
    systems = discovery.candidates(recombined, parents, config)
    assert len({discovery.field_of(system) for system in systems}) == 1 and len({system.parameters for system in systems}) == 8


def test_descriptors_do_not_depend_on_units_and_tell_flows_apart():
    def of(name, seed, factor=1.0):
        system = get_system(name)
        ics = sample_initial_conditions(system, np.random.default_rng(seed), 1)
        x = integrate_ensemble(system, ics=ics, length=discovery.LENGTH, points_per_period=discovery.POINTS_PER_PERIOD).observed()[0]
        return describe(system, factor * x + 3, np.array([0.5, 0.0, -3.0]) / system.period)
    lorenz = of("Lorenz", 0)
    assert len(lorenz) == len(UNITS) and np.isfinite(lorenz).all()
    np.testing.assert_allclose(of("Lorenz", 0, -7.0), lorenz, rtol=1e-6, atol=1e-9)
    same, others = distances(lorenz, of("Lorenz", 1))[0, 0], [distances(lorenz, of(name, 0))[0, 0] for name in ("Rossler", "Thomas", "HyperRossler", "Duffing")]
    assert same < 0.25 < min(others)


def test_an_archive_is_a_source_of_data(found, tmp_path):
    config = GenerationConfig(str(tmp_path / "data"), archive=str(found), split="train", n_params=1, n_ics=2, perturbation=0.0, length=128, points_per_period=32, tries_per_params=3)
    reports = generate(config, QUIET)
    entries = {entry.name: entry for entry in read_archive(found)}
    manifest = read_manifest(tmp_path / "data")
    assert not verify(tmp_path / "data") and {report.name for report in reports} == set(entries)
    assert sum(report.status == "complete" for report in reports) >= len(entries) - 1  # at most one loses its chaos on the way
    assert all(manifest["families"][name] == list(entry.system.families) for name, entry in entries.items())
    item = open_store(tmp_path / "data")[0]
    again = integrate_ensemble(entries[item.system].system.with_params(item.params), ics=item.ic, length=16, dt=item.dt, start=item.t0).observed()[0]
    assert np.abs(again - item.target[:, :16]).max() < 1e-4 * np.abs(item.target).max()
    with pytest.raises(FileExistsError, match="another configuration"):
        generate(replace(config, archive=None, systems=["Lorenz"]), QUIET)


def test_a_split_keeps_an_archive_on_the_side_of_all_its_founders(found, tmp_path):
    entries = read_archive(found)
    for seed in range(20):
        config = GenerationConfig(str(tmp_path / "data"), archive=str(found), seed=seed, n_params=1)
        split = split_systems(seed=seed)
        try:
            sides = config.split_of_systems()
        except ValueError as error:
            assert "founders on one side" in str(error)
            continue
        for side, systems in sides.items():
            families = {get_system(name).families[0] for name in getattr(split, side)}
            assert all(set(system.families) <= families for system in systems)
            assert {s.name for s in systems} == {e.name for e in entries if set(e.system.families) <= families}


def with_families(line, name, families):
    """A line of an archive with another system of the same field."""
    value = json.loads(line)
    return json.dumps(value | {"system": value["system"] | {"name": name, "families": families}})


def test_flows_of_the_catalogue_beside_an_archive(found, tmp_path):
    lines, test = (found / ARCHIVE).read_text().splitlines(), {family for name in PANDA20 for family in get_system(name).families}
    mixed = [with_families(lines[0], "Mixed", ["Aizawa", "Lorenz"]), with_families(lines[0], "Validated", ["Chua"]), with_families(lines[0], "Across", ["Aizawa", "Chua"])]
    (tmp_path / ARCHIVE).write_text("\n".join([*lines, *mixed]) + "\n")
    names = [json.loads(line)["system"]["name"] for line in lines]
    config = GenerationConfig(str(tmp_path / "data"), archive=str(tmp_path), scheme="panda20", n_params=3, catalogue_params=5, length=128, points_per_period=[10, 60], tests=["diverged"], tolerance=1e-9, pack=True)
    split, sides = split_systems(scheme="panda20"), {side: {system.name for system in systems} for side, systems in config.split_of_systems().items()}
    assert sides == {"train": {*split.train, *names}, "validation": {*split.validation, "Validated"}, "test": set(split.test)}  # two founders on two sides: on none
    families = {side: {family for system in systems for family in system.families} for side, systems in config.split_of_systems().items()}
    assert not families["train"] & (families["validation"] | families["test"]) and not families["validation"] & families["test"] and test <= families["test"]

    few = replace(config, systems=[*names[:2], "Thomas", "Rucklidge", "MackeyGlass"])
    reports = {report.name: report for report in generate(few, QUIET)}
    assert {name: (report.split, report.trajectories) for name, report in reports.items()} == {
        names[0]: ("train", 3), names[1]: ("train", 3), "Thomas": ("train", 5), "Rucklidge": ("validation", 5), "MackeyGlass": ("test", 5)}
    assert not verify(tmp_path / "data") and len({item.dt / item.period for item in open_store(tmp_path / "data")}) == 5
    alone = GenerationConfig(str(tmp_path / "alone"), systems=["Thomas"], split="train", n_params=5, **{key: getattr(config, key) for key in ("length", "points_per_period", "tests", "tolerance", "pack")})
    generate(alone, QUIET)  # an archive beside it changes nothing of a flow
    assert [path.read_bytes() for path in open_store(tmp_path / "alone").paths[:1]] == [path.read_bytes() for path in open_store(tmp_path / "data", systems=["Thomas"]).paths[:1]]
    generate(replace(few, workers=1, data_dir=str(tmp_path / "one")), QUIET)
    assert {name: digest for record in read_manifest(tmp_path / "one")["systems"].values() for name, digest in record["files"].items()} == {
        name: digest for report in reports.values() for name, digest in report.files.items()}

    with pytest.raises(ValueError, match="Lorenz is on no side of this split"):
        replace(config, systems=["Lorenz"]).split_of_systems()
    with pytest.raises(ValueError, match="did you mean 'Thomas'"):
        replace(config, systems=["Tomas"]).split_of_systems()
    (tmp_path / ARCHIVE).write_text(with_families(lines[0], "Thomas", ["Thomas"]) + "\n")
    with pytest.raises(ValueError, match="Thomas is a system of the archive .* and one of the catalogue"):
        config.split_of_systems()


def test_incompatible_and_damaged_archives_are_named(found, tmp_path):
    lines = (found / ARCHIVE).read_text().splitlines()
    with pytest.raises(FileNotFoundError, match="chronos-dysts discover"):
        read_systems(tmp_path)
    (tmp_path / ARCHIVE).write_text("")
    with pytest.raises(ValueError, match="is empty"):
        read_systems(tmp_path)
    (tmp_path / ARCHIVE).write_text(lines[0] + "\n" + lines[1][:200] + "\n")
    for read in (read_systems, read_archive):
        with pytest.raises(ValueError, match="line 2"):
            read(tmp_path)
    other = json.loads(lines[0])
    other["descriptors"]["more"] = 1.0
    (tmp_path / ARCHIVE).write_text(json.dumps(other) + "\n")
    with pytest.raises(ValueError, match="made by another version"):
        read_archive(tmp_path)
    other = json.loads(lines[0])
    other["system"]["period"] *= 2
    (tmp_path / ARCHIVE).write_text(json.dumps(other) + "\n")
    with pytest.raises(ValueError, match="another prefix"):
        join_archives([found, tmp_path])
    (tmp_path / ARCHIVE).write_text(json.dumps(other | {"system": other["system"] | {"name": "E1"}}) + "\n" + lines[1] + "\n")
    assert len(join_archives([found, tmp_path])) == 7 and len(join_archives([found, tmp_path], novelty=1e3)) == 1
    (tmp_path / ARCHIVE).write_text(json.dumps(other) + "\n" + lines[0] + "\n")
    with pytest.raises(ValueError, match="two different systems"):
        read_systems(tmp_path)


def test_a_search_that_finds_nothing_says_why(tmp_path, monkeypatch):
    monkeypatch.setattr(discovery, "GIVE_UP_AFTER", 16)
    config = DiscoveryConfig(str(tmp_path / "found"), **SMALL | {"kinds": ["flow"], "strengths": [1e5, 1e6], "recombination": 1.0, "founders": ["Aizawa", "Rossler"]})
    with pytest.raises(ValueError, match="not one system was found in .* attempts: .* diverged"):
        discover(config, QUIET)


@pytest.mark.parametrize("changes,message", [
    ({"n_systems": 0}, "n_systems"), ({"kinds": ["flw"]}, "did you mean 'flow'"), ({"strengths": [1]}, "least and the largest"), ({"recombination": 2}, "recombination"),
    ({"prefix": "a/b"}, "prefix"), ({"founders": []}, "empty"), ({"founders": ["MackeyGlass"]}, "delay"), ({"founders": ["Lorentz"]}, "did you mean"), ({"most_steps": 10}, "most_steps has to be at least 64"), ({"n_system": 3}, "no key")])
def test_bad_settings_are_named(changes, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        discover({"output_dir": str(tmp_path / "found"), "test_fraction": 0.0, "validation_fraction": 0.0, **changes}, QUIET)
    assert not (tmp_path / "found").exists()


def test_a_founder_of_a_test_family_is_refused(tmp_path):
    test = split_systems(seed=0).test
    with pytest.raises(ValueError, match="sets aside for test"):
        discover({"output_dir": str(tmp_path / "found"), "founders": [next(name for name in test if name != "Torus")]}, QUIET)


def test_a_folder_of_something_else_is_left_alone(found, tmp_path):
    with pytest.raises(FileExistsError, match="another search"):
        discover(DiscoveryConfig(str(found), **SMALL | {"seed": 1}), QUIET)
    (tmp_path / "mine.txt").write_text("x")
    with pytest.raises(FileExistsError, match="is not empty"):
        discover(DiscoveryConfig(str(tmp_path), **SMALL), QUIET)


def test_what_needs_too_many_steps_is_left_alone():
    """The budget holds in the record, in the look ahead and beside; what stays within it is found to the last bit as without."""
    def found(budget, names=("ExcitableCell",), kind="", number=3):
        systems = tuple(get_system(name) for name in names)
        config = DiscoveryConfig(founders=list(names), test_fraction=0.0, validation_fraction=0.0, most_steps=budget)
        return try_out(Attempt(number, names, kind), systems, names, config)

    _, reasons = found(64)
    assert reasons["too many steps"] > 0 and "too many steps" not in found(None)[1] and sum(reasons.values()) == 8
    ordinary = ("Rossler", "Thomas"), "state", 7
    free, bounded = found(None, *ordinary), found(1000, *ordinary)
    assert free == bounded and len(free[0]) > 0


def test_a_budget_belongs_to_an_archive(found, tmp_path):
    """The default is not that of an archive from before there was one: it is not carried on under another."""
    from chronos_dysts.store import read_record, write_record

    folder = tmp_path / "found"
    shutil.copytree(found, folder)
    manifest = read_record(folder / discovery.MANIFEST)
    manifest["config"].pop("most_steps")
    write_record({key: value for key, value in manifest.items() if key != "sha256"}, folder / discovery.MANIFEST)
    with pytest.raises(FileExistsError, match="most_steps=None, asked for most_steps=1000"):
        discover(DiscoveryConfig(str(folder), **SMALL), QUIET)
    assert [entry.name for entry in discover(DiscoveryConfig(str(folder), **SMALL, most_steps=None), QUIET)] == [entry.name for entry in read_archive(found)]


def test_an_archive_of_before_there_was_a_tolerance_goes_on_at_the_one_it_was_bred_with(found, tmp_path):
    from chronos_dysts.store import read_record, write_record

    folder, fine = tmp_path / "found", SMALL | {"n_systems": 2, "tolerance": 1e-12}
    bred = discover(DiscoveryConfig(str(folder), **fine), QUIET)
    manifest = read_record(folder / discovery.MANIFEST)
    manifest["config"].pop("tolerance")
    write_record({key: value for key, value in manifest.items() if key != "sha256"}, folder / discovery.MANIFEST)
    with pytest.raises(FileExistsError, match="tolerance=1e-12, asked for tolerance=1e-07"):
        discover(DiscoveryConfig(str(folder), **fine | {"tolerance": 1e-7}), QUIET)
    assert discover(DiscoveryConfig(str(folder), **fine), QUIET) == bred


@pytest.mark.parametrize(("driver", "response", "kind", "number"), [("Aizawa", "Thomas", "state", 7), ("Rossler", "Halvorsen", "diffusive", 11), ("Thomas", "Lorenz", "network", 3)])
def test_a_rough_tolerance_measures_the_same_exponents(driver, response, kind, number):
    """Where a trajectory is at a time depends on the tolerance, what is measured along it does not: the same children, and exponents within their errors."""
    def bred(tolerance):
        parents = get_system(driver), get_system(response)
        config = DiscoveryConfig(founders=[driver, response], test_fraction=0.0, validation_fraction=0.0, tolerance=tolerance)
        return {entry.name: entry for entry in try_out(Attempt(number, (driver, response), kind), parents, (driver, response), config)[0]}

    rough, fine = bred(1e-7), bred(1e-12)
    both = set(rough) & set(fine)
    assert both
    for name in both:
        assert abs(rough[name].exponents[0] - fine[name].exponents[0]) < 5 * np.hypot(rough[name].standard_error, fine[name].standard_error)
        assert sum(rough[name].exponents) == pytest.approx(sum(fine[name].exponents), rel=0.1)


def test_the_committed_archive_gives_the_same_trajectories_on_this_machine():
    """The states of nbs/results/reproduced_otherwise.json were made on one machine; here they come again, before chaos has grown what processors round otherwise."""
    kept, entries = json.loads((RESULTS / "reproduced_otherwise.json").read_text()), {entry.name: entry for entry in read_archive(RESULTS / ARCHIVE)}
    chosen = {row["kind"]: row for row in kept["systems"]}
    assert len(chosen) >= 5
    for row in chosen.values():
        system = System.from_json(entries[row["name"]].system.to_json())
        again = integrate_ensemble(system, times=np.array(row["times"]), tolerance=kept["tolerance"]).states[0]
        errors = np.abs((again - np.array(row["states"])) / np.array(system.scale)[:, None]).max(0)
        assert (errors < 1e-8).all(), (row["name"], errors)
    assert all(error < 1e-8 for errors in kept["largest"].values() for error in errors.values())


@pytest.mark.parametrize("name", ["seed", "panda-like", "nano"])
def test_recipes_are_configurations_of_their_commands(name):
    from omegaconf import OmegaConf

    from chronos_dysts.cli import compose

    config = GenerationConfig.from_mapping(OmegaConf.to_container(compose("generate", (), name)))
    assert config.data_dir == f"corpora/{name}"
    if name == "panda-like":
        assert config.length / config.points_per_period == 40 and config.scheme == "panda20"
        sides = {split: [system.name for system in systems] for split, systems in replace(config, skew=replace(config.skew, n_pairs=40)).split_of_systems().items()}
        assert sum("_drives_" in name for names in sides.values() for name in names) == 40
    if name == "nano":
        bred = DiscoveryConfig.from_mapping(OmegaConf.to_container(compose("discover", (), name)))
        assert bred.most_steps is None and bred.tolerance == 1e-12  # as the archive was bred that the shipped model has learnt from
        assert bred.output_dir == config.archive and compose("train", (), name).data_dir == config.data_dir
        assert bred.scheme == config.scheme == "panda20" and not {family for founder in bred.chosen_founders() for family in founder.families} & {
            family for flow in (*PANDA20, *split_systems(scheme="panda20").validation) for family in get_system(flow).families}


def test_the_recipe_nano_in_small(found, tmp_path, monkeypatch):
    """discover, generate and train of the recipe, one after the other, as anybody would type them."""
    from chronos_dysts.cli import main

    monkeypatch.chdir(tmp_path)
    few = "founders=[Aizawa,Halvorsen,Thomas]", "kinds=[state,diffusive]", "max_dim=6", "lyapunov_periods=60", "n_systems=2"
    assert main(["--quiet", "discover", "experiment=nano", *few]) == 0
    bred = [system.name for system in read_systems("corpora/nano-archive")]
    assert len(bred) == 2
    assert main(["--quiet", "generate", "experiment=nano", f"systems=[{','.join(bred)},Aizawa,Chua,SprottD,Lorenz96]", "n_params=2", "catalogue_params=3"]) == 0
    manifest = read_manifest("corpora/nano")
    aside = {family for name in (*PANDA20, *split_systems(scheme="panda20").validation) for family in get_system(name).families}
    assert set(manifest["split"]["train"]) == {*bred, "Aizawa", "Lorenz96"} and set(manifest["split"]["validation"]) == {"Chua", "SprottD"}
    assert not aside & {family for name in manifest["split"]["train"] for family in manifest["families"][name]}
    stored = open_store("corpora/nano/train")
    assert len(stored) == 10 and all(item.length == manifest["config"]["length"] and 10 <= item.period / item.dt <= 120 for item in stored)
    assert main(["--quiet", "train", "experiment=nano", "train.max_steps=1", "train.per_device_train_batch_size=2", "context_length=64", "prediction_length=32", "validation.every=1", "validation.windows=2"]) == 0
    made = json.loads(Path("runs/nano/final/config.json").read_text())["chronos_dysts"]
    assert made["systems"] == sorted([*bred, "Aizawa", "Lorenz96"]) and made["families"] == sorted({family for name in made["systems"] for family in manifest["families"][name]})
